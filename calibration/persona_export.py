"""An enrolled run becomes a persona file, through the export gate.

    exported = export_enrolled(gate, "ada", faces, run, home / "personas" / "ada.persona")

Of a real person the file is of kind "person": the signed consent record lies in it, the manifest names the digests of
record, footage, face set and weights, and this machine's key signs it. Of an invented one (a face set of
``invented:SEED``) it is of kind "invented", and no gate is asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibration.consent_gates import INVENTED, TIER_FOLDERS, Gatekeeper, shown_only
from calibration.gallery_files import export_facts, machine_facts, manifest_of, webp
from calibration.gallery_invent import enlarged
from engines.augment import NEUTRAL, Tensors, augment, to_pictures
from engines.enroll_learner import Frames, usable_frames
from engines.errors import DataError, PersonacamError
from engines.export import MIN_CROPS, export_swap
from engines.faceset import FaceSetIndex, read_faceset, read_index
from engines.faceset_codec import I64
from engines.invent import shown
from engines.network import NetworkConfig, PersonaDecoder, UniversalEncoder
from engines.persona import SUFFIX, Manifest, read_persona, write_persona
from engines.run_folder import load_persona
from engines.types import F32, U8
from engines.universal_bundle import Bundle, load_bundle, shipped_universal

_CROPS = 24
"""So many of the person's own frames test the exported graph."""
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Exported:
    """A persona file that was written."""

    path: Path
    manifest: Manifest
    report: dict[str, Any]
    """As it stands in the file."""


def standing_place(home: Path, name: str, tier: str) -> Path:
    """Where a persona of a tier lies in the user's folder, so that ``run --persona NAME`` finds it."""
    return home / "personas" / (tier if tier in TIER_FOLDERS else "") / f"{name}{SUFFIX}"


def identity_of(index: FaceSetIndex, name: str, folder: Path) -> str:
    """Whose frames of a set become the persona ``name``: that identity, or the only one. Raises DataError."""
    known = sorted({shard.identity for shard in index.shards})
    if name in known or len(known) == 1:
        return name if name in known else known[0]
    raise DataError(f"{folder} shows nobody called {name!r}", hint=f"it shows {', '.join(known[:8]) or 'nobody'}")


def read_frames(folder: Path, identity: str, sizes: NetworkConfig, held_out: float) -> Frames:
    """The usable frames of a person, with mesh points where networks of these sizes and the set have them.

    Raises DataError as ``read_faceset`` and ``usable_frames``.
    """
    wanted = sizes.mesh_points and "mesh" in read_index(folder).info.extras
    faceset = read_faceset(folder, identities=[identity], extras=("mesh",) if wanted else ())
    return usable_frames(faceset, identity, held_out)


def cut(frames: Frames, rows: I64, sizes: NetworkConfig) -> Tensors:
    """Frames as networks of these sizes take and give them, undisturbed."""
    return augment(
        frames.batch(rows, with_points=sizes.mesh_points > 0), NEUTRAL, np.random.default_rng(0), margin=frames.margin,
        input_size=sizes.input_size, output_size=sizes.output_size,
    )  # fmt: skip


@torch.no_grad()
def codes_of(encoder: UniversalEncoder, faces: Tensors) -> Tensor:
    """(N, C) codes of faces, without points where Face Mesh saw none."""
    found = []
    for at in range(0, len(faces.inputs), _AT_ONCE):
        part = slice(at, at + _AT_ONCE)
        if faces.points is None:
            found.append(encoder(faces.inputs[part]))
            continue
        points = faces.points[part]
        present = torch.isfinite(points).flatten(1).all(dim=1, keepdim=True).to(points.dtype)
        found.append(encoder(faces.inputs[part], torch.nan_to_num(points), present))
    return torch.cat(found)


def export_enrolled(
    gate: Gatekeeper, name: str, faces: Path, run: Path, out: Path, *, universal: Path | None = None,
    title: str | None = None, report: Mapping[str, Any] | None = None,
) -> Exported:  # fmt: skip
    """Write ``out``, a persona of the run in the folder ``run`` that learned from the face set in ``faces``.

    ``universal`` is the bundle that the run began with, None the shipped one of its tier: it says what wearers are
    calibrated to. ``report`` is added to the file's. Raises what ``Gatekeeper.export`` does; DataError for a run or a
    set that is damaged or of somebody else; ExportError when the graph does not agree with the networks.
    """
    permit = gate.export(name, faces, run / "decoder", out)
    index = read_index(faces)
    persona = load_persona(run, identity_of(index, name, faces))
    sizes = persona.encoder.sizes
    bundle = _bundle_of(universal or shipped_universal(sizes.tier), persona.encoder)
    frames = read_frames(faces, persona.name, sizes, 0.125)
    some = cut(frames, _spread(frames), sizes)
    crops = to_pictures(some.inputs)
    points = _finite(some.points, len(crops), sizes)
    exported = export_swap(persona.encoder, persona.decoder, crops, points)
    seed = int(index.info.consent.removeprefix(INVENTED)) if permit is None else None
    manifest = manifest_of(
        name, title or _title(name, seed), seed, sizes, _encoder_sha256(bundle, run),
        None if bundle is None else bundle.samples, None if permit is None else permit.chain,
    )  # fmt: skip
    facts = {**_run_facts(run), **(report or {}), "export": export_facts(exported), "machine": machine_facts()}
    picture = webp(portrait_of(persona.decoder, persona.encoder, frames))
    key, consent = (None, None) if permit is None else (permit.key, permit.consent)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        final = write_persona(
            out, manifest, swap_onnx=exported.onnx, preview=picture, report=facts, key=key, consent=consent
        )
    except OSError as error:
        reason = f"cannot write {out}: {error.strerror}"
        raise DataError(reason, hint="choose another folder, or free some space") from error
    return Exported(out, final, facts)


def is_exported(out: Path, faces: Path, run: Path, consent: str | None) -> bool:
    """Whether ``out`` already is the persona of what the run has learned from this face set, under the record
    ``consent`` (its digest; None: an invented person).
    """
    try:
        manifest = read_persona(out, admit=shown_only).manifest
        meta = json.loads((run / "decoder.json").read_bytes())
        digest = read_index(faces).digest
    except (PersonacamError, OSError, ValueError):
        return False
    chain = manifest.chain
    if chain is None:  # an invented person's file does not name its weights
        return False
    return (chain.weights, chain.faceset, chain.consent) == (meta.get("sha256"), digest, consent)


def portrait_of(decoder: PersonaDecoder, encoder: UniversalEncoder, frames: Frames) -> U8:
    """(384, 384, 3) BGR: what the decoder makes of the frame that looks most straight into the camera."""
    straight = np.abs(frames.faces.pose).sum(axis=1).argsort(kind="stable")[:1]
    return enlarged(shown(decoder, codes_of(encoder, cut(frames, straight.astype(np.int64), encoder.sizes)))[0])


def _spread(frames: Frames) -> I64:
    """Rows of frames all over the recording; few frames more than once."""
    count = max(MIN_CROPS, min(_CROPS, frames.count))
    return np.linspace(0, frames.count - 1, count).astype(np.int64)


def _finite(points: Tensor | None, count: int, sizes: NetworkConfig) -> F32 | None:
    """What the comparison of graphs takes: any finite points will do."""
    if not sizes.mesh_points:
        return None
    if points is None:
        return np.full((count, sizes.mesh_points, 2), 0.5, np.float32)
    return np.nan_to_num(points.numpy().astype(np.float32), nan=0.5)


def _bundle_of(folder: Path, encoder: UniversalEncoder) -> Bundle | None:
    """The bundle whose encoder this is; None: the run began with another, or it has no sample wearers."""
    try:
        bundle = load_bundle(folder)
    except DataError:
        return None
    known, own = bundle.universal.encoder.state_dict(), encoder.state_dict()
    same = known.keys() == own.keys() and all(torch.equal(known[key], own[key]) for key in own)
    return bundle if same else None


def _encoder_sha256(bundle: Bundle | None, run: Path) -> str:
    """Of the bundle's file where it is that encoder, so that a wearer is calibrated once for all of its personas."""
    if bundle is not None:
        return str(bundle.universal.people.meta["encoder_sha256"])
    return str(json.loads((run / "encoder.json").read_bytes())["sha256"])


def _title(name: str, seed: int | None) -> str:
    if seed is not None:
        return f"{name}, an invented person"
    return f"{name}, a real person, with their consent"


def _run_facts(run: Path) -> dict[str, Any]:
    """How the run went, for the file's report."""
    try:
        result = json.loads((run / "report.json").read_bytes())
        settings = json.loads((run / "config.json").read_bytes())
        keys = ("mode", "frames", "held_out", "step", "best_step", "seconds", "stopped")
        return {
            "validation": result["score"],
            "validation_note": "the person's own held-out frames, reconstructed; not the swap on somebody else",
            "enrolled": {key: result[key] for key in keys},
            "training": settings,
        }
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"the run {run} is not finished: {error}", hint="train it to its end first") from error
