"""C2PA content credentials of recordings: written when a recording is closed, read by ``personacam verify``.

A signed manifest inside the file says: made by this program, from a camera and a trained network (digital source type
*compositeWithTrainedAlgorithmicMedia*), the face was replaced, by which persona, on whose consent, in which session.
A hash binds it to picture and sound: a changed byte is found. It does not say who the wearer is.

What it cannot do: anybody can strip it, so a file without credentials says nothing; and there is no time stamp from
outside (that needs a server), so the times are those of this computer's clock. A signature by a certificate that only
this computer knows is *untrusted* elsewhere: intact, by somebody unknown.

The format is C2PA 2 (spec.c2pa.org), the digital source types are IPTC's (cv.iptc.org/newscodes/digitalsourcetype).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from engines.errors import MissingDependencyError, PersonacamError, SinkError, SourceFormatError, SourceNotFoundError
from engines.files import read_limited
from realtime.credentials_identity import Identity, own_anchors
from realtime.session_record import SessionRecord, utc_text

CredentialState = Literal["valid", "untrusted", "invalid", "none"]
"""valid: intact, and signed by this computer or by somebody whom the given anchors vouch for. untrusted: intact, signed
by somebody whom nothing here vouches for. invalid: changed after it was signed, or broken. none: there are none."""

SIGNABLE_SUFFIXES = frozenset({".mp4", ".mov"})
"""Matroska has no place for C2PA."""
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
SESSION_LABEL = "local.personacam.session"
"""Of our own assertion. Labels begin with a domain name of whoever defines them; ``.local`` is nobody's."""
_ACTIONS = ("c2pa.actions", "c2pa.actions.v2")
_MAX_TEXT = 300
_MAX_ANCHORS = 1 << 20
_OFFLINE = {"remote_manifest_fetch": False, "ocsp_fetch": False}
"""Looking at a file tells nobody that it is looked at."""


@dataclass(frozen=True, slots=True)
class CredentialClaim:
    """What our credentials say about a recording."""

    session: str
    """16 hexadecimal digits; see ``session_record``."""
    software: str
    personas: tuple[Mapping[str, Any], ...]
    """Each {"name", "sha256", "kind", "consent", "since"}, as ``WornPersona``."""
    signed: str
    """When, by this computer's clock: UTC, to the second."""

    @property
    def session_id(self) -> int:
        """The session's 64-bit number."""
        return int(self.session, 16)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is in a file. Texts come from the file: printable, cut to 300 characters, and true only as far as
    ``state`` goes.
    """

    state: CredentialState
    problems: tuple[str, ...] = ()
    """Plain words and C2PA's status codes; empty when ``state`` is valid or none."""
    signer: str | None = None
    """Common name and organisation in the certificate."""
    software: str | None = None
    actions: tuple[str, ...] = ()
    """For example ("c2pa.created", "c2pa.edited: face replaced")."""
    ai: bool = False
    """Whether a digital source type says that a trained network made or changed it."""
    claim: CredentialClaim | None = None
    """What this program wrote; None in other programs' files."""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def missing_library() -> str | None:
    """Why no credentials can be written or read here; None when they can."""
    try:
        _c2pa()
    except MissingDependencyError as error:
        return f"{error.message} ({error.hint})"
    return None


def claim_of(record: SessionRecord) -> CredentialClaim:
    """What the credentials of a recording of this session say."""
    return CredentialClaim(
        record.session, record.software, tuple(asdict(persona) for persona in record.personas), utc_text()
    )


def sign_file(path: Path, out: Path, claim: CredentialClaim, identity: Identity) -> None:
    """Write ``path`` (.mp4 or .mov) with credentials to ``out``, another file; what was written is checked.

    Reads and writes the whole file (about 300 MB a second). Raises MissingDependencyError, SettingsError for a
    certificate that C2PA does not take, and SinkError; then there is no ``out``.
    """
    c2pa = _c2pa()
    if path.suffix.lower() not in SIGNABLE_SUFFIXES:
        raise SinkError(f"{path.suffix} files have no place for content credentials", hint="record an .mp4")
    try:
        info = c2pa.C2paSignerInfo(getattr(c2pa.C2paSigningAlg, identity.algorithm), identity.chain, identity.key, None)
        context = c2pa.Context.from_dict(
            {"builder": {"thumbnail": {"enabled": False}}, "verify": {**_OFFLINE, "verify_after_sign": False}}
        )
        with c2pa.Signer.from_info(info) as signer, c2pa.Builder(_manifest(claim), context) as builder:
            builder.sign_file(path, out, signer)
        written = read_credentials(out)
        if written.state not in {"valid", "untrusted"}:
            raise SinkError(
                f"the content credentials do not hold: {'; '.join(written.problems)}",
                hint="check --c2pa-cert and --c2pa-key: the certificate must be valid now and made for signing",
            )
    except (c2pa.C2paError, OSError, ValueError) as error:
        out.unlink(missing_ok=True)
        raise SinkError(
            f"no content credentials could be written: {_text(str(error))}",
            hint="check the free space, and --c2pa-cert and --c2pa-key: C2PA takes certificates for signing only",
        ) from error
    except PersonacamError:
        out.unlink(missing_ok=True)
        raise


def read_credentials(path: Path, home: Path | None = None, anchors: Sequence[Path] = ()) -> Credentials:
    """What the credentials of a file say and whether they hold; nothing is fetched from anywhere.

    ``home``: the user's data folder, whose own certificates are trusted. ``anchors``: PEM files with further
    certificates to trust. Raises MissingDependencyError, SourceNotFoundError, SourceFormatError (anchors that cannot
    be read).
    """
    c2pa = _c2pa()
    if not path.is_file():
        raise SourceNotFoundError(f"there is no file {path}", hint="check the path")
    trust = b"".join([*(_read_anchors(a) for a in anchors), *(own_anchors(home) if home is not None else ())])
    settings: dict[str, Any] = {"verify": {**_OFFLINE, "verify_trust": True}}
    if trust:
        settings["trust"] = {"user_anchors": trust.decode("ascii")}
    try:
        with c2pa.Context.from_dict(settings) as context, c2pa.Reader(path, context=context) as reader:
            state, value = reader.get_validation_state(), json.loads(reader.json())
    except (c2pa.C2paError, OSError, ValueError) as error:
        return _unreadable(error)
    return _credentials(str(state), value)


def _unreadable(error: Exception) -> Credentials:
    """A file without credentials, or with some that cannot even be taken apart."""
    text = _text(str(error))
    if text.startswith(("ManifestNotFound", "NotSupported")):
        return Credentials("none")
    return Credentials("invalid", (f"the credentials are damaged: {text}",))


def _manifest(claim: CredentialClaim) -> dict[str, Any]:
    """C2PA 2.2, 18.15: the first action says how the asset came to be, and names its digital source type."""
    name, _, version = claim.software.partition(" ")
    agent = {"name": name, "version": version}
    edited = {
        "action": "c2pa.edited",
        "when": claim.signed,
        "digitalSourceType": COMPOSITE,
        "softwareAgent": agent,
        "description": "face replaced",
        "parameters": {"local.personacam.personas": [persona["name"] for persona in claim.personas]},
    }
    created = {key: edited[key] for key in ("when", "digitalSourceType", "softwareAgent")} | {"action": "c2pa.created"}
    return {
        "claim_generator_info": [agent],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created, edited]}},
            {"label": SESSION_LABEL, "data": asdict(claim)},
        ],
    }


def _credentials(state: str, value: Mapping[str, Any]) -> Credentials:
    """Of the reader's report, every part of which but the state may be anything."""
    manifests, active = value.get("manifests"), value.get("active_manifest")
    manifest = manifests.get(active) if isinstance(manifests, dict) else None
    manifest = manifest if isinstance(manifest, dict) else {}
    actions = [action for data in _assertions(manifest, *_ACTIONS) for action in _list(data.get("actions"))]
    signature = manifest.get("signature_info")
    signature = signature if isinstance(signature, dict) else {}
    names = [_text(signature[key]) for key in ("common_name", "issuer") if signature.get(key)]
    generators = _list(manifest.get("claim_generator_info"))
    states: dict[str, CredentialState] = {"Trusted": "valid", "Valid": "untrusted"}
    return Credentials(
        states.get(state, "invalid"),
        _problems(value),
        ", ".join(names) or None,
        " ".join(_text(generators[0][key]) for key in ("name", "version") if key in generators[0])
        if generators
        else None,
        tuple(_action_text(action) for action in actions),
        any("algorithmicmedia" in str(action.get("digitalSourceType", "")).lower() for action in actions),
        next(filter(None, map(_claim, _assertions(manifest, SESSION_LABEL))), None),
    )


def _assertions(manifest: Mapping[str, Any], *labels: str) -> list[dict[str, Any]]:
    found = [a.get("data") for a in _list(manifest.get("assertions")) if a.get("label") in labels]
    return [data for data in found if isinstance(data, dict)]


def _list(value: object) -> list[dict[str, Any]]:
    """The objects in a list; of anything else none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _action_text(action: Mapping[str, Any]) -> str:
    description = action.get("description")
    name = _text(action.get("action"))
    return f"{name}: {_text(description)}" if description else name


def _problems(value: Mapping[str, Any]) -> tuple[str, ...]:
    plain = {
        "assertion.bmffHash.mismatch": "picture or sound were changed after signing",
        "assertion.dataHash.mismatch": "the file was changed after signing",
        "signingCredential.untrusted": "nothing here vouches for the signer",
        "signingCredential.expired": "the signer's certificate is over",
        "claimSignature.mismatch": "the signature is wrong",
        "assertion.hashedURI.mismatch": "what the credentials say was changed after signing",
    }
    found = []
    for status in _list(value.get("validation_status")):
        code = _text(status.get("code"))
        found.append(f"{plain[code]} ({code})" if code in plain else f"{_text(status.get('explanation'))} ({code})")
    return tuple(dict.fromkeys(found))


def _claim(data: Mapping[str, Any]) -> CredentialClaim | None:
    """Of our assertion; None when it is not what we write."""
    session, personas = data.get("session"), _list(data.get("personas"))
    if not isinstance(session, str) or not re.fullmatch(r"[0-9a-f]{16}", session):
        return None
    keys = ("name", "sha256", "kind", "consent", "since")
    kept = tuple({key: None if p.get(key) is None else _text(p[key]) for key in keys} for p in personas)
    return CredentialClaim(session, _text(data.get("software")), kept, _text(data.get("signed")))


def _text(value: object) -> str:
    """Fit for a terminal, whatever a file holds."""
    return "".join(c for c in str(value) if c.isprintable())[:_MAX_TEXT]


def _read_anchors(path: Path) -> bytes:
    try:
        data = read_limited(path, _MAX_ANCHORS)
        data.decode("ascii")
    except (OSError, ValueError) as error:
        raise SourceFormatError(f"{path} holds no certificates: {error}", hint="name a PEM file") from error
    return data.rstrip() + b"\n"


def _c2pa() -> Any:
    """The library, imported when it is needed: it loads 23 MB of machine code."""
    try:
        import c2pa
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingDependencyError(
            f"content credentials need the package c2pa-python: {error}", hint="pip install c2pa-python"
        ) from error
    return c2pa
