"""From a DeepFaceLive model (.dfm), the user's own and of a person who consented, to a persona file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engines.crop_square import whole_face
from engines.dfm import CODE_SIZE, IMPORTED_NETWORK, ImportedNetwork, MaskChoice, import_dfm
from engines.errors import (
    ConsentMissingError,
    PersonaFormatError,
    PersonaNotFoundError,
    SettingsError,
    WeightsTamperedError,
)
from engines.files import read_limited
from engines.onnx_guard import IMPORTED_LIMITS
from engines.persona import SUFFIX, Crop, Manifest, write_persona
from engines.persona_zip import MEMBER_LIMITS

if TYPE_CHECKING:
    from calibration.consent import SignedRecord
    from calibration.consent_gates import Gatekeeper

TIER = "imported"
COVERAGES = (1.5, 3.5)


@dataclass(frozen=True, slots=True)
class DfmWishes:
    """What the importer may say about a model."""

    morph: float = 0.75
    """AMP models only: how much of the persona, 0..1, until somebody says otherwise."""
    coverage: float = 2.2
    """How much of the head the model's crops show; see ``crop_square.whole_face``."""
    mask: MaskChoice = "both"

    def __post_init__(self) -> None:
        """Raises SettingsError."""
        if not 0.0 <= self.morph <= 1.0:
            raise SettingsError(f"a morph of {self.morph:g}", hint="choose one from 0 to 1")
        if not COVERAGES[0] <= self.coverage <= COVERAGES[1]:
            raise SettingsError(
                f"a coverage of {self.coverage:g}", hint="2.2 is the whole face; DeepFaceLive shows what yours has"
            )
        if self.mask not in ("both", "persona", "wearer"):
            raise SettingsError(f"there is no mask {self.mask!r}", hint="choose both, persona or wearer")


def bring_in_dfm(
    gate: Gatekeeper, file: Path, consent: Path | None, wishes: DfmWishes
) -> tuple[Path, ImportedNetwork, Manifest]:
    """Convert ``file`` into the persona that the consent record names. Returns where it lies, and what was done.

    ``consent``: the signed record; None: one that this machine has for this very file. Raises PersonaError and its
    kinds, ConsentError and its kinds.
    """
    data = _read(file)
    digest = hashlib.sha256(data).hexdigest()
    signed = _record(gate, file, digest, consent)
    name = signed.record.persona
    target = gate.store.home / "personas" / f"{name}{SUFFIX}"
    permit = gate.adopt(name, file, target, signed)
    if permit.chain.footage != (digest,):
        raise WeightsTamperedError(f"{file} changed while it was read", hint="try again")
    made = import_dfm(data, mask=wishes.mask)
    most = MEMBER_LIMITS["swap.onnx"]
    if len(made.swap_onnx) > most:
        raise PersonaFormatError(
            f"the DFM file is refused: {len(made.swap_onnx) >> 20} MiB after the conversion ({most >> 20} are allowed)",
            hint="export a smaller model, or one in FP16",
        )
    square = whole_face(wishes.coverage)
    manifest = Manifest(
        name=name, title=signed.record.subject.name, kind="person", tier=TIER, network=IMPORTED_NETWORK,
        encoder_sha256=digest, crop=Crop(side_dm=square.side_dm, centre_dm=square.centre_dm), crop_size=made.side,
        output_size=made.side, code_size=CODE_SIZE, morph=wishes.morph if made.morph else None, chain=permit.chain,
        created_by="personacam personas import",
    )  # fmt: skip
    report = {"imported": {"from": "dfm", "bytes": len(data), "mask": wishes.mask, "repaired": list(made.repaired)}}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        manifest = write_persona(
            target, manifest, swap_onnx=made.swap_onnx, report=report, key=permit.key, consent=permit.consent
        )
    except OSError as error:
        raise SettingsError(f"cannot write {target}: {error.strerror}", hint="free some space") from error
    return target, made, manifest


def _read(file: Path) -> bytes:
    try:
        return read_limited(file, IMPORTED_LIMITS.file_bytes)
    except FileNotFoundError:
        raise PersonaNotFoundError(f"there is no file {file}", hint="check the path") from None
    except OSError as error:
        raise PersonaFormatError(f"{file} cannot be read: {error.strerror}", hint="check the path") from error
    except ValueError as error:
        raise PersonaFormatError(
            f"{file.name} is larger than {IMPORTED_LIMITS.file_bytes >> 20} MiB", hint="is it a DFM file?"
        ) from error


def _record(gate: Gatekeeper, file: Path, digest: str, consent: Path | None) -> SignedRecord:
    """The record to import with; whether it holds is the gate's to decide."""
    from calibration.consent import SignedRecord as Signed

    if consent is not None:
        try:
            return gate.store.add(read_limited(consent, MEMBER_LIMITS["consent.json"]))
        except (OSError, ValueError) as error:
            raise SettingsError(f"{consent} cannot be read: {error}", hint="check the path") from error
    found = [signed for _, signed in gate.store.records() if isinstance(signed, Signed)]
    for signed in reversed(found):
        if any(media.sha256 == digest for media in signed.record.footage):
            return signed
    raise ConsentMissingError(
        f"{file.name} shows a real person, and there is no consent record that names this file",
        hint=f"personacam consent request NAME --footage {file.name} …, have it signed, then import --consent FILE",
    )
