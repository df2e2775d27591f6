"""The .persona file: one persona in one zip, read as if a stranger had sent it.

    manifest.json        what it is, and the sha256 of every other member
    swap.onnx            encoder and decoder merged: input "face" (1, 3, S, S) RGB 0..1,
                         with mesh points also "points" (1, P, 2) and "present" (1, 1),
                         with calibration also "code_gain" and "code_shift" (1, C), with a morph "morph" (1, 1);
                         outputs "swap" (1, 3, T, T), "mask" (1, 1, T, T), "code" (1, C)
    decoder.safetensors  for further training (optional)
    preview.webp         a portrait (optional)
    report.json          metrics and training facts
    consent.json         only for a real person: the signed consent record (see calibration.consent)
    signature            Ed25519 over manifest.json, with the public key (optional for invented people)

What a real person's file proves: the record names the enroller's key, the enroller's signature covers the manifest, and
the manifest covers every member and the digests of footage, face set and weights that came before them. Whether the
record itself is valid is not decided here: who reads such a file brings an ``Admit`` that decides, or is refused.

Members are stored uncompressed, so what a file takes on disk is what it takes in memory. A name stands for one value in
ONNX, so the output picture is called "swap" and not "face".
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engines.errors import (
    ConsentError,
    ConsentMissingError,
    ManifestTamperedError,
    PersonaFormatError,
    PersonaNotFoundError,
    RecordTamperedError,
    WeightsTamperedError,
)
from engines.files import read_limited, write_atomic
from engines.mesh_subset import MESH_SUBSET
from engines.onnx_guard import check_onnx, limits_of
from engines.persona_chain import Chain, Sha256
from engines.persona_zip import MAX_FILE_BYTES, MEMBER_LIMITS, check_contents, pack, unpack
from engines.signature import sign, verify
from engines.strict_json import finite, strict_object

SUFFIX = ".persona"
_LIST = "personacam personas list shows what there is"
_NOT_OURS = "get the file again from its author; it was damaged or changed"

Line = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""Text that may be printed: a manifest must not steer a terminal."""


class Crop(BaseModel):
    """Which square around the face the network was trained on (see engines.geometry)."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    side_dm: float = Field(gt=0.5, lt=10.0)
    """Side on the average head, decimetres."""
    centre_dm: tuple[float, float]
    """Centre relative to the template's origin, decimetres."""


class CodeReference(BaseModel):
    """Codes of the wearers that the encoder was trained on; a wearer is calibrated to them (see engines.wearer)."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    mean: tuple[float, ...]
    """(C,) of neutral faces."""
    spread: tuple[float, ...]
    """(C,) of all faces around their own wearer's neutral code; positive."""

    @model_validator(mode="after")
    def _fits(self) -> CodeReference:
        if len(self.mean) != len(self.spread) or not all(value > 0 for value in self.spread):
            raise ValueError("mean and spread are of one length, and every spread is positive")
        return self


class Manifest(BaseModel):
    """What a persona is. ``members`` is filled in by :func:`write_persona`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    schema_version: int = Field(default=1, ge=1, le=1)
    name: str = Field(pattern=r"^[a-z0-9-]{1,40}$")
    title: Line
    kind: Literal["invented", "person"]
    tier: Line
    network: Line
    """The network family."""
    encoder_sha256: Sha256
    crop: Crop
    crop_size: int = Field(ge=16, le=1024)
    """S: side of the network's input in pixels."""
    output_size: int = Field(ge=16, le=2048)
    """T: side of its output in pixels."""
    code_size: int = Field(ge=1, le=8192)
    """C: numbers in the code."""
    mesh_points: int = 0
    """P: face mesh points that the network takes beside the picture: 0, or all of ``mesh_subset``."""
    code_calibration: bool = False
    """Whether the network takes the wearer's calibration."""
    morph: float | None = Field(default=None, ge=0.0, le=1.0)
    """Of an imported AMP model: how much of the persona, 0..1, unless the user says otherwise. None: takes none."""
    code_reference: CodeReference | None = None
    """What a wearer's codes are calibrated to; None: not known."""
    seed: int | None = Field(default=None, ge=0)
    """Of the invented person; it takes the place of a consent record."""
    chain: Chain | None = None
    """Only of a real person, and always of one."""
    created_by: Line
    members: dict[str, Sha256] = Field(default_factory=dict)
    """Name of every other member except the signature -> sha256."""

    @model_validator(mode="after")
    def _seed_fits_kind(self) -> Manifest:
        if (self.kind == "invented") != (self.seed is not None):
            raise ValueError("an invented person has a seed, a real person has none")
        if self.kind == "invented" and self.chain is not None:
            raise ValueError("an invented person has no chain of consent")
        return self

    @model_validator(mode="after")
    def _inputs_are_known(self) -> Manifest:
        if self.mesh_points not in (0, len(MESH_SUBSET)):
            raise ValueError(f"mesh_points is 0 or {len(MESH_SUBSET)}")
        if self.code_reference is not None and len(self.code_reference.mean) != self.code_size:
            raise ValueError("code_reference has code_size numbers")
        return self

    def network_inputs(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of what ``swap.onnx`` takes."""
        shapes: dict[str, tuple[int, ...]] = {"face": (1, 3, self.crop_size, self.crop_size)}
        if self.mesh_points:
            shapes |= {"points": (1, self.mesh_points, 2), "present": (1, 1)}
        if self.code_calibration:
            shapes |= {"code_gain": (1, self.code_size), "code_shift": (1, self.code_size)}
        if self.morph is not None:
            shapes["morph"] = (1, 1)
        return shapes

    def network_outputs(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of what ``swap.onnx`` gives."""
        side = self.output_size
        return {"swap": (1, 3, side, side), "mask": (1, 1, side, side), "code": (1, self.code_size)}


@dataclass(frozen=True, slots=True)
class Persona:
    """One persona, read and verified."""

    manifest: Manifest
    swap_onnx: bytes
    preview: bytes | None
    """WebP."""
    report: dict[str, Any]
    sha256: str
    """Of the whole file."""
    path: Path
    signed_by: str | None
    """Public key (hex) of the valid signature, if there is one. It says who, not that they may be trusted."""
    consent: bytes | None = None
    """A real person's ``consent.json``."""
    valid_until: float | None = None
    """When a real person's consent ends, seconds since 1970: set by the gate that let a run begin."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a real person's file says about its consent, before anybody decided whether that is enough."""

    manifest: Manifest
    chain: Chain
    consent: bytes
    """``consent.json``; the manifest names its sha256."""
    signed_by: str
    """Public key (hex) that signed the manifest."""


Admit = Callable[[Claim], None]
"""Raises ConsentError for a person who must not be shown. ``calibration.consent_gates`` has those that decide."""


def _admit_real_person(manifest: Manifest, consent: bytes | None, signed_by: str | None, admit: Admit | None) -> None:
    """Raises ConsentError unless there is a record, and somebody who decides about it and lets it pass."""
    if manifest.kind == "invented":
        if consent is not None:
            raise PersonaFormatError("an invented person carries a consent record", hint=_NOT_OURS)
        return
    if consent is None or manifest.chain is None:
        raise ConsentMissingError(
            f"{manifest.name} is a real person, and the file holds no consent record",
            hint="get a file with the person's record from its author, or use an invented person: personas list",
        )
    if signed_by is None:
        raise ManifestTamperedError(f"the manifest of {manifest.name}, a real person, is not signed", hint=_NOT_OURS)
    if admit is None:
        raise ConsentError(
            f"{manifest.name} is a real person, and nothing here decides about consent",
            hint="use a persona of an invented person here: personacam personas list",
        )
    admit(Claim(manifest, manifest.chain, consent, signed_by))


def read_persona(path: Path, *, admit: Admit | None = None, checked: str | None = None) -> Persona:
    """Read and verify a file, in memory. ``admit`` decides about a real person; another process has checked the network
    of a file with the sha256 ``checked``. Raises PersonaNotFoundError; PersonaFormatError (damaged, tampered with,
    too large); for a real person whatever ``admit`` raises, and ConsentError without it.
    """
    data = _read_bytes(path)
    members = unpack(data)
    _check_members(members)
    # First, so that a changed manifest is not taken for changed members.
    signed_by = verify(members["manifest.json"], members["signature"]) if "signature" in members else None
    manifest = _manifest(members)
    _check_hashes(manifest, members)
    consent = members.get("consent.json")
    _admit_real_person(manifest, consent, signed_by, admit)
    digest = hashlib.sha256(data).hexdigest()
    if digest != checked:
        _check_network(manifest, members["swap.onnx"])
    report = _json_object(members["report.json"], "report.json")
    preview = members.get("preview.webp")
    check_contents(preview, members.get("decoder.safetensors"))
    return Persona(manifest, members["swap.onnx"], preview, report, digest, path, signed_by, consent)


def write_persona(
    path: Path,
    manifest: Manifest,
    *,
    swap_onnx: bytes,
    decoder: bytes | None = None,
    preview: bytes | None = None,
    report: Mapping[str, Any],
    key: Ed25519PrivateKey | None = None,
    consent: bytes | None = None,
) -> Manifest:
    """Write a file that :func:`read_persona` accepts; the same input gives the same bytes. Returns the final manifest.

    Numbers in ``report`` that JSON does not know (NaN, infinity) become null. The file appears complete or not at all.
    A real person needs ``consent`` and the enroller's ``key``, both from the export gate of calibration.consent_gates.
    Raises PersonaFormatError when a member is not what it should be, ConsentError for a real person without them.
    """
    signer = None if key is None else key.public_key().public_bytes_raw().hex()
    _admit_real_person(manifest, consent, signer, admit=lambda _claim: None)  # it was the gate's to decide
    _check_network(manifest, swap_onnx)
    check_contents(preview, decoder)
    text = json.dumps(finite(report), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False, default=str)
    members = {"swap.onnx": swap_onnx, "report.json": text.encode()}
    if decoder is not None:
        members["decoder.safetensors"] = decoder
    if preview is not None:
        members["preview.webp"] = preview
    if consent is not None:
        members["consent.json"] = consent
    hashes = {name: hashlib.sha256(members[name]).hexdigest() for name in MEMBER_LIMITS if name in members}
    final = manifest.model_copy(update={"members": hashes})
    head = final.model_dump_json(indent=1).encode()
    members["manifest.json"] = head
    if key is not None:
        members["signature"] = sign(head, key)
    write_atomic(path, pack(members))
    return final


def _read_bytes(path: Path) -> bytes:
    """The whole file at once: what is verified is what is used, even if the file changes meanwhile."""
    try:
        return read_limited(path, MAX_FILE_BYTES)
    except FileNotFoundError:
        raise PersonaNotFoundError(f"there is no file {path}", hint=_LIST) from None
    except OSError as error:
        raise PersonaFormatError(f"{path} cannot be read: {error.strerror}", hint="check the path") from error
    except ValueError as error:
        raise PersonaFormatError(f"{path.name} is larger than {MAX_FILE_BYTES >> 20} MiB", hint=_NOT_OURS) from error


def _check_members(members: Mapping[str, bytes]) -> None:
    for name in ("manifest.json", "swap.onnx", "report.json"):
        if name not in members:
            raise PersonaFormatError(f"the persona has no {name}", hint=_NOT_OURS)


def _manifest(members: Mapping[str, bytes]) -> Manifest:
    raw = _json_object(members["manifest.json"], "manifest.json")  # depth and duplicate keys are checked there
    version = raw.get("schema_version")
    if isinstance(version, int) and version > 1:
        raise PersonaFormatError(f"the persona has format {version}, this version reads 1", hint="update personacam")
    try:
        return Manifest.model_validate_json(members["manifest.json"])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "manifest"
        raise PersonaFormatError(f"the manifest is wrong at {where[:80]!r}: {first['msg']}", hint=_NOT_OURS) from error


def _check_hashes(manifest: Manifest, members: Mapping[str, bytes]) -> None:
    present = members.keys() - {"manifest.json", "signature"}
    if manifest.members.keys() != present:
        odd = sorted(manifest.members.keys() ^ present)
        raise PersonaFormatError(f"manifest and members disagree about {', '.join(odd)[:80]!r}", hint=_NOT_OURS)
    for name, expected in manifest.members.items():
        if hashlib.sha256(members[name]).hexdigest() != expected:
            reason = f"{name} was changed after the persona was made"
            if name == "consent.json":
                raise RecordTamperedError(reason, hint=_NOT_OURS)
            weights = name in {"swap.onnx", "decoder.safetensors"}
            raise (WeightsTamperedError if weights else PersonaFormatError)(reason, hint=_NOT_OURS)


def _check_network(manifest: Manifest, swap_onnx: bytes) -> None:
    interface = check_onnx(swap_onnx, limits_of(manifest.network))
    wanted_inputs, wanted_outputs = manifest.network_inputs(), manifest.network_outputs()
    if dict(interface.inputs) != wanted_inputs or dict(interface.outputs) != wanted_outputs:
        raise PersonaFormatError(
            f"the network maps {dict(interface.inputs)} to {dict(interface.outputs)}, "
            f"but the manifest says {wanted_inputs} to {wanted_outputs}",
            hint=_NOT_OURS,
        )


def _json_object(data: bytes, name: str) -> dict[str, Any]:
    try:
        return strict_object(data)
    except ValueError as error:
        raise PersonaFormatError(f"{name} is damaged: {error}", hint=_NOT_OURS) from error


class PersonaStore:
    """Folders with .persona files; of two with the same name the one in the earlier folder counts."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._folders = tuple(paths)

    def list(self) -> list[Path]:
        """All files, by name. Folders that do not exist hold none."""
        found: dict[str, Path] = {}
        for folder in self._folders:
            for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else ():
                found.setdefault(path.stem, path)
        return [found[name] for name in sorted(found)]

    def find(self, name_or_path: str | Path) -> Path:
        """The file of a persona by name, or a path to one. Raises PersonaNotFoundError with the nearest name."""
        given = Path(name_or_path)
        if given.suffix == SUFFIX or len(given.parts) > 1:
            if given.is_file():
                return given
            raise PersonaNotFoundError(f"there is no file {given}", hint=_LIST)
        names = {path.stem: path for path in self.list()}
        if str(name_or_path) in names:
            return names[str(name_or_path)]
        near = difflib.get_close_matches(str(name_or_path), names, n=1, cutoff=0.5)
        known = (
            f"there are: {', '.join(names)}" if names else "there are none; reinstall personacam, eight come with it"
        )
        raise PersonaNotFoundError(
            f"there is no persona {str(name_or_path)!r}", hint=f"did you mean {near[0]!r}?" if near else known
        )


__all__ = [
    "MAX_FILE_BYTES",
    "MEMBER_LIMITS",
    "Admit",
    "Chain",
    "Claim",
    "CodeReference",
    "Crop",
    "Manifest",
    "Persona",
    "PersonaStore",
    "Sha256",
    "read_persona",
    "write_persona",
]
