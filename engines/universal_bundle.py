"""What ships of a universal run: enough to make a persona of a vector, without the data that it learned from.

    encoder, trunk, people    as a run has them (see ``universal_networks``), stored as float16
    wearers                   some unseen wearers' crops, their points, and what the training wearers' codes are like

``run_folder.load_universal`` reads the first three. The wearers are what a new persona is looked at with, and what its
graph is compared with torch on.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from engines import checkpoint
from engines.augment import to_pictures, to_tensor
from engines.errors import DataError
from engines.network import NetworkConfig, UniversalEncoder
from engines.picture import decode
from engines.polish_data import WearerFaces
from engines.run_folder import Universal, load_universal
from engines.types import F32, U8
from engines.universal_data import Examples
from engines.universal_networks import save_trunk
from engines.wearer import reference_codes

SAMPLES = 24
_REFERENCE, _PER_WEARER = 64, 40
"""At most so many training wearers and faces of each say what codes are like."""
_NEUTRAL = 3
"""So many of a wearer's faces count as neutral."""
_JPEG_QUALITY = 96
_AT_ONCE = 32


@dataclass(frozen=True, slots=True, eq=False)
class WearerSamples:
    """Crops of wearers that no training saw, the most neutral one first, and the reference of the codes."""

    crops: U8
    """(N, S, S, 3) BGR."""
    points: F32 | None
    """(N, P, 2) fractions of the crop's side, where the encoder takes points."""
    code_mean: F32
    """(C,) of neutral training wearers."""
    code_spread: F32
    """(C,) of training wearers around their own neutral code, positive."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A universal run that can make personas on its own."""

    universal: Universal
    samples: WearerSamples


def shipped_universal(tier: str = "tiny") -> Path:
    """Where the package keeps the universal networks of a tier; the folder need not be there."""
    return Path(str(resources.files("engines").joinpath("models", f"universal-{tier}")))


def sample_wearers(folder: Path, encoder: UniversalEncoder, *, seed: int, held_out: float) -> WearerSamples:
    """Samples and reference from the set that the run learned from, with its ``seed`` and ``held_out``.

    Raises DataError as ``UniversalPairs`` does.
    """
    unseen = WearerFaces(folder, "unseen", encoder.sizes, seed=seed, held_out=held_out)
    people = unseen.faces.wearers
    each = -(-SAMPLES // len(people))
    faces = [unseen.of(wearer, 4 * each) for wearer in people]
    distances = np.concatenate([unseen.distance_from_neutral(some) for some in faces])
    points = None
    seen = np.arange(len(distances))
    if encoder.sizes.mesh_points:
        points = torch.cat([_points(some) for some in faces]).numpy().astype(np.float32)
        seen = np.flatnonzero(np.isfinite(points).all(axis=(1, 2)))
        if not len(seen):
            raise DataError(f"Face Mesh saw no validation wearer of {folder}", hint="render the set again")
    neutral = int(seen[distances[seen].argmin()])
    spread = seen[np.linspace(0, len(seen) - 1, SAMPLES).astype(int)]
    chosen = [neutral, *spread.tolist()][:SAMPLES]
    crops = to_pictures(torch.cat([some.inputs for some in faces]))[chosen]
    points = None if points is None else points[chosen]

    training = WearerFaces(folder, "train", encoder.sizes, seed=seed, held_out=held_out)
    wearers = []
    trained = np.array(training.faces.wearers)
    for wearer in trained[np.linspace(0, len(trained) - 1, min(_REFERENCE, len(trained))).astype(int)].tolist():
        some = training.of(wearer, _PER_WEARER)
        found = codes_of(encoder, some.inputs, some.points).numpy()
        order = training.distance_from_neutral(some).argsort(kind="stable")
        wearers.append((found[order[:_NEUTRAL]], found))
    mean, spread_of_codes = reference_codes(wearers)
    return WearerSamples(crops, points, mean, np.maximum(spread_of_codes, np.float32(1e-6)))


@torch.no_grad()
def codes_of(encoder: UniversalEncoder, inputs: Tensor, points: Tensor | None) -> Tensor:
    """(N, C) codes of (N, 3, S, S) RGB 0..1 and (N, P, 2), on the processor."""
    parts = range(0, len(inputs), _AT_ONCE)
    cut = [(slice(a, a + _AT_ONCE)) for a in parts]
    return torch.cat([encoder(inputs[c], None if points is None else points[c]) for c in cut])


def sample_codes(bundle: Bundle) -> Tensor:
    """(N, C) codes of the bundle's samples."""
    samples = bundle.samples
    points = None if samples.points is None else torch.from_numpy(samples.points)
    return codes_of(bundle.universal.encoder, to_tensor(samples.crops), points)


def save_bundle(folder: Path, universal: Universal, samples: WearerSamples, about: Mapping[str, Any]) -> None:
    """Write the four pairs of files; each later one names the sha256 of what it belongs to."""
    encoder = copy.deepcopy(universal.encoder).half()
    facts: dict[str, Any] = {**about, "stored": "float16"}
    checkpoint.save_encoder(folder / "encoder", encoder, facts)
    facts["encoder_sha256"] = checkpoint.load(folder / "encoder", "encoder").meta["sha256"]
    save_trunk(folder / "trunk", copy.deepcopy(universal.trunk).half(), facts)
    facts["trunk_sha256"] = checkpoint.load(folder / "trunk", "trunk").meta["sha256"]
    people = universal.people
    half = {"vectors": people.vectors.half()}
    checkpoint.save(folder / "people", "people", half, {**facts, "names": list(people.names)})
    strip = np.ascontiguousarray(samples.crops.reshape(-1, *samples.crops.shape[2:]))
    options = (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY)
    sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    jpeg = cv2.imencode(".jpg", strip, [*options, *sampling])[1]
    tensors = {
        "jpeg": torch.from_numpy(np.frombuffer(jpeg.tobytes(), np.uint8).copy()),
        "code_mean": torch.from_numpy(samples.code_mean),
        "code_spread": torch.from_numpy(samples.code_spread),
    }
    if samples.points is not None:
        tensors["points"] = torch.from_numpy(samples.points)
    checkpoint.save(folder / "wearers", "wearers", tensors, facts)


def load_bundle(folder: Path) -> Bundle:
    """Read what ``save_bundle`` wrote. Raises DataError when a part is missing, damaged or of another run."""
    if not (folder / "trunk.json").exists():
        raise DataError(
            f"there are no universal networks in {folder}",
            hint="reinstall personacam, or name what personacam train gallery wrote: OUT/TIER/universal-TIER",
        )
    if not (folder / "wearers.json").exists():
        raise DataError(
            f"{folder} is a universal run without sample wearers",
            hint="personacam train gallery --package-only writes a folder universal-TIER that has them",
        )
    universal = load_universal(folder)
    stored = checkpoint.load(folder / "wearers", "wearers")
    if stored.meta.get("encoder_sha256") != universal.people.meta.get("encoder_sha256"):
        raise DataError(f"{folder / 'wearers'} belongs to another encoder", hint="restore the folder as it was written")
    return Bundle(universal, _samples(stored.tensors, universal.encoder.sizes, folder))


def _samples(tensors: Mapping[str, Tensor], sizes: NetworkConfig, folder: Path) -> WearerSamples:
    try:
        jpeg, mean, spread = (tensors[name].numpy() for name in ("jpeg", "code_mean", "code_spread"))
        points = tensors["points"].numpy().astype(np.float32) if sizes.mesh_points else None
        strip = decode(jpeg)
        crops = strip.reshape(-1, sizes.input_size, sizes.input_size, 3).astype(np.uint8)
        fits = mean.shape == spread.shape == (sizes.code_size,) and bool((spread > 0).all())
        if not fits or (points is not None and points.shape != (len(crops), sizes.mesh_points, 2)):
            raise ValueError("shapes do not fit the encoder")
    except (KeyError, ValueError, cv2.error) as error:
        raise DataError(f"{folder / 'wearers'} is damaged: {error}", hint="restore the folder") from error
    return WearerSamples(crops, points, mean.astype(np.float32), spread.astype(np.float32))


def _points(faces: Examples) -> Tensor:
    if faces.points is None:
        raise RuntimeError("this encoder takes points")
    return faces.points
