"""The five gates: extract, train, export, import and run let a real person's face pass only with valid consent.

Each gathers what is on the table (record, footage, face set, weights, manifest), holds it against the step before,
asks whether the consent was taken back, and calls :func:`calibration.consent.require`; then it writes a line to the
audit log, and only then lets pass. Invented people pass with ``invented:SEED``, or a persona of kind "invented".

    footage -> face set        the record lists the footage; the face set names record and footage
    face set -> weights        the run's JSON names the record and the face set's digest
    weights -> manifest        the manifest names all of them, and the enroller's key signs it
    persona of that name       that is there already, and would be replaced: unchanged, and of the same person

A later record of the same person for the same persona and footage *follows* the earlier (``consent_store.follows``):
what was made under the earlier goes on under the later, and a file that names the earlier needs both of them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from calibration.audit import Event
from calibration.consent import ConsentRecord, Media, Purpose, SignedRecord, Wanted, read_record, require, when
from calibration.consent_keys import public_hex
from calibration.consent_revocation import Fetch, ask, check_policy, revoked_digests
from calibration.consent_store import ConsentStore, follows
from engines.errors import (
    ConsentError,
    ConsentKeyError,
    ConsentMissingError,
    ConsentScopeError,
    DataError,
    ManifestTamperedError,
    PersonaFormatError,
    RecordTamperedError,
    SourceNotFoundError,
    WeightsTamperedError,
)
from engines.faceset import FaceSetIndex, read_index
from engines.files import read_limited, write_atomic
from engines.persona import SUFFIX, Admit, Chain, Claim, Persona, read_persona
from engines.strict_json import strict_object

_log = logging.getLogger("personacam")
INVENTED = "invented:"
TIER_FOLDERS = ("", "small", "base")
"""Under the folder of personas; the smallest tier has none of its own."""
_MAX_META_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Permit:
    """What an exported persona of a real person carries; for ``engines.persona.write_persona``."""

    chain: Chain
    consent: bytes
    key: Ed25519PrivateKey


def utc_now() -> datetime:
    """The wall clock: consent is given in days and hours, not in monotonic time."""
    return datetime.now(timezone.utc)


def digest_file(path: Path) -> Media:
    """Name, sha256 and size of footage, however long. Raises SourceNotFoundError."""
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
                size += len(part)
    except OSError as error:
        raise SourceNotFoundError(f"{path} cannot be read: {error.strerror}", hint="check the path") from error
    name = "".join(c for c in path.name if c.isprintable())[:200]
    return Media(name=name or "-", sha256=digest.hexdigest(), bytes=size)


def shown_only(_claim: Claim) -> None:
    """An ``Admit`` for what only lists and describes a persona and never shows its face on anybody."""


class Gatekeeper:
    """The gates of this machine. ``now``, ``fetch`` and ``warn`` are arguments so that tests bring their own."""

    def __init__(
        self,
        home: Path,
        *,
        now: Callable[[], datetime] = utc_now,
        fetch: Fetch | None = None,
        warn: Callable[[str], None] = _log.warning,
    ) -> None:
        self.store = ConsentStore(home)
        self._now, self._fetch, self._warn = now, fetch, warn

    # ---- the gates ---------------------------------------------------------------------------------------------------

    def extract(self, name: str, footage: Sequence[Path], out: Path | None = None) -> tuple[str, tuple[str, ...]]:
        """Before faces are taken from footage, into the folder ``out``, which the log names from the beginning: what an
        interruption leaves there can be forgotten too. Returns what the face set must carry: ``consent``, ``footage``;
        a set of the same footage that was begun under an earlier record of the line goes on under its name.

        Raises ConsentError, and PersonaFormatError for a changed persona that stands under the name.
        """
        media = tuple(digest_file(path).sha256 for path in footage)
        signed = self.store.record_of(name)
        wanted = Wanted(footage=media, subject_key=self._standing_key(name))
        before = None if out is None or signed is None else self._renewed_set(out, signed, media)
        record = self.decide(name, signed, wanted, earlier=() if before is None else (before,))
        place = {} if out is None else {"folder": str(out.resolve())}
        self._note("extract", name, record, {"footage": list(media), **place})
        return before or record.digest(), media

    def extracted(self, name: str, folder: Path) -> None:
        """After the last face: remember the finished set, so that a change of it shows. Invented people: nothing."""
        index = read_index(folder)
        if not is_invented(index.info.consent):
            details = {"consent": index.info.consent, "faceset": index.digest, "folder": str(folder.resolve())}
            self.store.log.append("extract", name, details, self._now())

    def train(self, name: str | None, folder: Path, out: Path) -> str | None:
        """Before networks learn from the face set in ``folder``, into ``out``. Returns the digest of the record that
        allows it now; None: invented people, who need nothing.

        ``name`` None: whoever the record is about.

        Raises ConsentError, ManifestTamperedError for a face set that is not the one that was extracted, and
        PersonaFormatError as ``extract``.
        """
        index = read_index(folder)
        if is_invented(index.info.consent):
            return None
        record, _ = self._decide_faceset(name, index, folder)
        self._note("train", record.persona, record, {"faceset": index.digest, "out": str(out.resolve())})
        return record.digest()

    def export(self, name: str, folder: Path, weights: Path, out: Path) -> Permit | None:
        """Before a persona file ``out`` is written from a run's decoder ``weights`` (STEM of STEM.json and
        STEM.safetensors). None: an invented person, who needs nothing.

        Raises as ``train``, and WeightsTamperedError for a decoder that is not what its JSON says, of another face set
        or another record.
        """
        index = read_index(folder)
        if is_invented(index.info.consent):
            return None
        digest = _check_weights(weights, index)
        record, earlier = self._decide_faceset(name, index, folder)
        chain = Chain(
            consent=record.digest(), footage=index.info.footage, faceset=index.digest, weights=digest, earlier=earlier
        )
        return self._permit(name, record, chain, out)

    def adopt(self, name: str, model: Path, out: Path, signed: SignedRecord | None = None) -> Permit:
        """Before a model that somebody else trained becomes a persona file ``out``: the record lists the model itself.

        ``signed`` is judged, or the latest record of the name. Raises as ``extract``.
        """
        digest = digest_file(model).sha256
        wanted = Wanted(footage=(digest,), subject_key=self._standing_key(name))
        record = self.decide(name, signed or self.store.record_of(name), wanted)
        chain = Chain(consent=record.digest(), footage=(digest,), faceset=None, weights=digest)
        return self._permit(name, record, chain, out)

    def bring_in(self, path: Path) -> Path:
        """Import a persona file into this user's folder. Returns where it lies. Raises as ``read_persona``."""
        persona = read_persona(path, admit=self._admit("import", Wanted(), {"file": str(path.resolve())}))
        name = persona.manifest.name
        folder = self._personas() / (persona.manifest.tier if persona.manifest.tier in TIER_FOLDERS else "")
        target = folder / f"{name}{SUFFIX}"
        data = read_limited(path, path.stat().st_size)
        if hashlib.sha256(data).hexdigest() != persona.sha256:
            raise PersonaFormatError(f"{path} changed while it was read", hint="try again")
        if persona.consent is not None:
            self.store.add(persona.consent)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(target, data)
        except OSError as error:
            raise DataError(f"cannot write {target}: {error.strerror}", hint="check the folder") from error
        return target

    def run(
        self,
        path: Path,
        purposes: Sequence[tuple[Purpose, ...]] = (),
        place: str | None = None,
        *,
        checked: str | None = None,
    ) -> Persona:
        """The persona of a file, to be worn: ``purposes`` as in ``Wanted``, ``checked`` and errors as in
        ``read_persona``.

        ``valid_until`` of the result says when a run must end; asking the person's addresses takes seconds.
        """
        wanted = Wanted(purposes=tuple(purposes), place=place)
        details = {"purposes": [list(group) for group in purposes]}
        persona = read_persona(path, admit=self._admit("run", wanted, details), checked=checked)
        if persona.consent is None:
            return persona
        return replace(persona, valid_until=when(read_record(persona.consent).record.valid_until).timestamp())

    def ended(self, persona: Persona, frames: Mapping[str, int]) -> None:
        """After a run: until when it was, and how many frames of which kind. Invented people: nothing."""
        chain = persona.manifest.chain
        if chain is not None:
            details = {"consent": chain.consent, "ended": True, "frames": dict(frames)}
            self.store.log.append("run", persona.manifest.name, details, self._now())

    def renewed(self, name: str, record: ConsentRecord, earlier: Sequence[str], path: Path) -> None:
        """Log that the file ``path`` stands under ``record`` from now on; see calibration.consent_renew."""
        self._note("renew", name, record, {"earlier": list(earlier), "file": str(path.resolve())})

    # ---- what they share ---------------------------------------------------------------------------------------------

    def decide(
        self, name: str, signed: SignedRecord | None, wanted: Wanted, *, earlier: Collection[str] = ()
    ) -> ConsentRecord:
        """Let pass or raise: first with what is known here, then with what the person's addresses say.

        ``earlier``: digests of records that ``signed`` follows; taking back one of them takes back this one.
        """
        now, latest = self._now(), self.store.log.latest()
        known = self.store.revocations()
        revoked = revoked_digests(signed.record, known, earlier=earlier) if signed else set()
        record = require(signed, wanted, now=now, latest=latest, revoked=revoked)
        if record.persona != name:
            raise ConsentScopeError(
                f"{record.subject.name} agreed to a persona called {record.persona}, not {name}",
                hint="use that name, or ask for another record: personacam consent request",
            )
        answer = ask(record, self._fetch, earlier=earlier)
        if answer.revocations:
            self.store.keep_revocations(answer.revocations)
            revoked = revoked_digests(record, answer.revocations, earlier=earlier)
            require(signed, wanted, now=now, latest=latest, revoked=revoked)
        warning = check_policy(record, answer, self.store.last_check(record.digest()), now)
        if answer.reached:
            self.store.checked(record.digest(), now)
        if warning:
            self._warn(warning)
        return record

    def _decide_faceset(
        self, name: str | None, index: FaceSetIndex, folder: Path
    ) -> tuple[ConsentRecord, tuple[str, ...]]:
        """The record that allows it: the set's own, or the latest that followed it, with the digests it followed."""
        info = index.info
        signed = self.store.record(info.consent)
        name = name or (signed.record.persona if signed else "")
        wanted = Wanted(consent=info.consent, footage=info.footage, subject_key=self._standing_key(name))
        if signed is not None and not info.footage:
            raise ManifestTamperedError(
                f"the face set {folder} does not say of which footage it is", hint="extract the faces again"
            )
        line = () if signed is None else self.store.after(signed, info.footage, self._now())
        earlier: tuple[str, ...] = ()
        if line:
            earlier = tuple(one.digest for one in (signed, *line[:-1]) if one is not None)
            signed, wanted = line[-1], replace(wanted, consent=None)
        record = self.decide(name, signed, wanted, earlier=earlier)
        logged = {
            entry.details["faceset"]
            for entry in self.store.log.entries()
            if entry.event == "extract" and entry.details.get("consent") == info.consent and "faceset" in entry.details
        }
        if logged and index.digest not in logged:
            raise ManifestTamperedError(
                f"the face set {folder} is not the one that was extracted", hint="extract the faces again"
            )
        return record, earlier

    def _renewed_set(self, folder: Path, signed: SignedRecord, media: tuple[str, ...]) -> str | None:
        """Digest of the record that the face set in ``folder`` names, if it is of just this footage and ``signed``
        followed that record.
        """
        try:
            info = read_index(folder).info
        except DataError:  # none yet, or damaged: the extraction says so
            return None
        before = None if info.footage != media else self.store.record(info.consent)
        return before.digest if before is not None and follows(signed.record, before.record, media) else None

    def _permit(self, name: str, record: ConsentRecord, chain: Chain, out: Path) -> Permit:
        key = self.store.key()
        if public_hex(key) != record.enroller.key:
            raise ConsentKeyError(
                f"{record.subject.name} allowed {record.enroller.name} to make the persona, with another key than this"
                " machine's",
                hint="export where the request was made, or ask for a record from here: personacam consent request",
            )
        self._note("export", name, record, {"out": str(out.resolve()), "weights": chain.weights})
        data = self.store.record(record.digest())
        if data is None:
            raise ConsentMissingError("the record is gone", hint="personacam consent import brings it in again")
        return Permit(chain, data.data, key)

    def _admit(self, event: Event, wanted: Wanted, details: dict[str, Any]) -> Admit:
        def admit(claim: Claim) -> None:
            name = claim.manifest.name
            full = replace(
                wanted, consent=claim.chain.consent, footage=claim.chain.footage, signed_by=claim.signed_by,
                subject_key=self._standing_key(name) if event == "import" else None,
            )  # fmt: skip
            signed = read_record(claim.consent)
            record = self.decide(name, signed, full, earlier=claim.chain.earlier)
            # What the person allows less since counts at once, also for files that nobody renewed.
            if line := self.store.after(signed, claim.chain.footage, self._now()):
                self.decide(name, line[-1], replace(full, consent=None), earlier=[one.digest for one in line[:-1]])
            self._note(event, name, record, details | {"tier": claim.manifest.tier})

        return admit

    def _note(self, event: Event, name: str, record: ConsentRecord, details: dict[str, Any]) -> None:
        self.store.log.append(event, name, {"consent": record.digest(), **details}, self._now())

    def _personas(self) -> Path:
        return self.store.home / "personas"

    def _standing_key(self, name: str) -> str | None:
        """Key of the person whose persona stands under ``name`` already. Raises when that file was changed."""
        keys: list[str] = []
        for folder in TIER_FOLDERS:
            path = self._personas() / folder / f"{name}{SUFFIX}"
            if not path.is_file():
                continue
            try:
                read_persona(path, admit=lambda claim: keys.append(_key_of(claim)))
            except (PersonaFormatError, RecordTamperedError) as error:
                reason = f"the persona {path}, which this would replace, is not intact: {error.message}"
                raise type(error)(reason, hint=f"remove it: personacam forget {name}") from error
        return keys[0] if keys else None


def _key_of(claim: Claim) -> str:
    return read_record(claim.consent).record.subject.key


def is_invented(consent: str) -> bool:
    """Whether a face set's ``consent`` says that nobody real is shown."""
    return consent.startswith(INVENTED) and consent.removeprefix(INVENTED).isdecimal()


def _check_weights(stem: Path, index: FaceSetIndex) -> str:
    """Sha256 of a run's decoder; its JSON must name it, the record and the face set. Raises WeightsTamperedError."""
    hint = "restore both files as the run wrote them, or train again"
    try:
        meta = strict_object(read_limited(stem.with_name(stem.name + ".json"), _MAX_META_BYTES))
        digest = digest_file(stem.with_name(stem.name + ".safetensors")).sha256
    except (OSError, ValueError, SourceNotFoundError) as error:
        raise WeightsTamperedError(f"cannot read the weights {stem}: {error}", hint=hint) from error
    if meta.get("sha256") != digest:
        raise WeightsTamperedError(f"{stem}.safetensors is not the file that its JSON describes", hint=hint)
    # Not every stage writes the record's digest; the face set that it names has it.
    if meta.get("data") != index.digest or meta.get("consent", index.info.consent) != index.info.consent:
        raise WeightsTamperedError(f"{stem} was not trained from this face set", hint=hint)
    return digest


__all__ = ["ConsentError", "Gatekeeper", "Permit", "digest_file", "is_invented", "shown_only", "utc_now"]
