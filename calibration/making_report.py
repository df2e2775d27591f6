"""How good an enrolled persona is, as far as real footage can tell: nobody has pictures of a person in others' states.

- On the person's own held-out frames, which no training saw: the frame against what the decoder makes of its code.
  Inside the set's mask: PSNR, sharpness; the masks' agreement; and Face Mesh on both: landmarks, pose, openings.
- On sample wearers of the universal bundle: whether the persona does what the wearer does, by Face Mesh, and whether it
  looks like the person and not like the wearer, by dlib's embedding where that is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from calibration.embedding import Embedder
from calibration.persona_export import codes_of, cut
from calibration.report import MOST_YAW, laid_over
from engines import geometry, metrics
from engines.augment import to_pictures, to_tensor
from engines.enroll_learner import Frames
from engines.errors import DetectorError
from engines.face_pose import FaceReading, pose_error_degrees, read_face
from engines.facemesh import FaceMesh, look
from engines.faceset_codec import I64
from engines.metrics_face import SAME_PERSON, correlation, mean_or_none, nme_pct
from engines.network import PersonaDecoder, UniversalEncoder
from engines.types import F32, F64, U8
from engines.universal_bundle import WearerSamples

MOST_FRAMES = 48
"""Held-out frames that are looked at."""
_EMBEDDED = 10
"""Faces of a kind that dlib looks at, 0.1 s each."""
_EXAMPLES = 8
_LEAST_SPREAD = 0.006
"""Standard deviation of an opening (as ``FaceReading`` counts it) below which it only shows Face Mesh's own noise."""


@dataclass(frozen=True)
class OwnExample:
    """A held-out frame of the person; all pictures (T, T, 3) BGR."""

    frame: U8
    result: U8
    """Laid over the frame by its mask."""
    error: U8
    """|result - frame| x 4 in the frame's mask."""
    yaw: float
    psnr_masked_db: float


@dataclass(frozen=True)
class WornExample:
    """The persona on somebody else; both (T, T, 3) BGR."""

    wearer: U8
    result: U8


@dataclass(frozen=True)
class Looked:
    """What was measured, and what there is to look at."""

    figures: dict[str, Any]
    """Under "own" and "worn"; "embedding" is the person's 128 numbers, or None."""
    own: tuple[OwnExample, ...]
    worn: tuple[WornExample, ...]


@dataclass(frozen=True)
class _Eyes:
    """What looks at pictures."""

    facemesh: FaceMesh
    embedder: Embedder | None


@dataclass(frozen=True)
class _Pair:
    """A face and what was made of it, in squares of one size, as detectors want them."""

    before: U8
    after: U8
    near: F32
    """(K, 2) points of the face in both."""
    yaw: float


def look_at(
    encoder: UniversalEncoder, decoder: PersonaDecoder, frames: Frames, samples: WearerSamples | None,
    facemesh: FaceMesh, embedder: Embedder | None,
) -> Looked:  # fmt: skip
    """Measure a persona on its own held-out frames and on sample wearers (without ``samples``: only the former)."""
    eyes = _Eyes(facemesh, embedder)
    rows = frames.held_out[np.linspace(0, len(frames.held_out) - 1, min(MOST_FRAMES, len(frames.held_out))).astype(int)]
    own, pairs, examples = _own(encoder, decoder, frames, rows)
    own |= _agreement(eyes, pairs, landmarks=True)
    person = None if embedder is None else _embedding(embedder, [(p.before, p.near) for p in pairs if _frontal(p)])
    made = None if embedder is None else _embedding(embedder, [(p.after, p.near) for p in pairs if _frontal(p)])
    own["distance_to_person"] = None if person is None or made is None else float(np.linalg.norm(person - made))
    worn, worn_examples = ({}, []) if samples is None else _worn(encoder, decoder, samples, eyes, person)
    figures = {
        "own": own, "worn": worn, "embedding": None if person is None else [round(float(v), 6) for v in person]
    }  # fmt: skip
    return Looked(figures, tuple(examples), tuple(worn_examples))


@torch.no_grad()
def _decoded(decoder: PersonaDecoder, codes: Tensor) -> tuple[U8, U8]:
    """(N, T, T, 3) BGR and (N, T, T) masks 0..255."""
    face, mask = decoder(codes)
    covers = torch.sigmoid(mask)[:, 0].mul(255).round().byte().numpy()
    return to_pictures(face.clamp(0, 1)), covers.astype(np.uint8)


def _own(
    encoder: UniversalEncoder, decoder: PersonaDecoder, frames: Frames, rows: I64
) -> tuple[dict[str, Any], list[_Pair], list[OwnExample]]:
    faces = cut(frames, rows, encoder.sizes)
    results, covers = _decoded(decoder, codes_of(encoder, faces))
    truths = to_pictures(faces.truths[0])
    masks = faces.masks[0, :, 0].mul(255).round().byte().numpy().astype(np.uint8)
    size = results.shape[1]
    side = round(frames.margin * size)
    side += (side - size) % 2  # the crop is its middle
    scale = side / frames.truths.shape[1]
    pairs, examples = [], []
    keep = {round(i) for i in np.linspace(0, len(rows) - 1, _EXAMPLES)}
    for i, row in enumerate(rows.tolist()):
        head = np.ascontiguousarray(frames.truths[row, ..., :3])
        head = np.asarray(cv2.resize(head, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)
        near = ((frames.faces.landmarks[row] + 0.5) * scale - 0.5).astype(np.float32)
        yaw = float(frames.faces.pose[row, 0])
        pairs.append(_Pair(head, laid_over(head, results[i], covers[i]), near, yaw))
        if i in keep:
            psnr = metrics.psnr_masked_db(results[i], truths[i], masks[i] / 255)
            error = np.clip(np.abs(results[i].astype(np.int16) - truths[i]) * 4, 0, 255).astype(np.uint8)
            error = error * (masks[i] > 127)[..., None].astype(np.uint8)
            examples.append(OwnExample(truths[i], laid_over(truths[i], results[i], covers[i]), error, yaw, psnr))
    figures = {
        "frames": len(rows),
        "psnr_masked_db": metrics.psnr_masked_db(results, truths, masks / 255),
        "mask_iou": float(np.mean([metrics.mask_iou(a / 255, b / 255) for a, b in zip(covers, masks, strict=True)])),
        "sharpness_ratio": metrics.sharpness_ratio(results, truths, masks / 255),
    }
    return figures, pairs, examples


def _worn(
    encoder: UniversalEncoder, decoder: PersonaDecoder, samples: WearerSamples, eyes: _Eyes, person: F64 | None
) -> tuple[dict[str, Any], list[WornExample]]:
    points = None if samples.points is None else torch.from_numpy(samples.points)
    with torch.no_grad():
        codes = encoder(to_tensor(samples.crops), points)
    results, covers = _decoded(decoder, codes)
    size = results.shape[1]
    pairs, examples = [], []
    for i, crop in enumerate(samples.crops):
        wearer = np.asarray(cv2.resize(crop, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)
        after = laid_over(wearer, results[i], covers[i])
        examples.append(WornExample(wearer, after))
        if samples.points is not None:
            pairs.append(_Pair(wearer, after, (samples.points[i] * size - 0.5).astype(np.float32), 0.0))
    figures = {"wearers": len(examples), **_agreement(eyes, pairs, landmarks=False)}
    if person is not None and eyes.embedder is not None:
        figures |= _likeness(eyes.embedder, eyes.facemesh, pairs, person)
    return figures, examples[:_EXAMPLES]


def _agreement(eyes: _Eyes, pairs: Sequence[_Pair], *, landmarks: bool) -> dict[str, Any]:
    """Face Mesh on what was made against Face Mesh on what was there; within 45 degrees of yaw."""
    read: list[tuple[FaceReading, FaceReading]] = []
    nmes: list[float] = []
    for pair in filter(_frontal, pairs):
        before, after = (look(eyes.facemesh, picture, pair.near) for picture in (pair.before, pair.after))
        if before is None or after is None:
            continue
        nmes.append(nme_pct(_points_68(after), _points_68(before)))
        read.append((read_face(before), read_face(after)))
    columns = np.array([[astuple(a), astuple(b)] for a, b in read]).reshape(-1, 2, 6)
    found: dict[str, Any] = {
        "faces_compared": len(read),
        "pose_deg": mean_or_none([pose_error_degrees(after, before) for before, after in read]),
    }
    if landmarks:
        found["nme_pct"] = mean_or_none(nmes)
    for column, name in ((3, "mouth"), (4, "eyes"), (5, "brows")):
        moved = len(columns) > 0 and columns[:, 0, column].std() >= _LEAST_SPREAD
        found[f"{name}_r"] = correlation(columns[:, 1, column], columns[:, 0, column]) if moved else None
    return found


def _likeness(embedder: Embedder, facemesh: FaceMesh, pairs: Sequence[_Pair], person: F64) -> dict[str, Any]:
    """Whose face it is when others wear it: mean distances, and the share within dlib's threshold of the person."""
    to_person, to_wearer = [], []
    for pair in pairs[:_EMBEDDED]:
        meshes = [look(facemesh, picture, pair.near) for picture in (pair.after, pair.before)]
        if meshes[0] is None or meshes[1] is None:
            continue
        try:
            worn = embedder.embed(pair.after, _points_68(meshes[0]))
            wearer = embedder.embed(pair.before, _points_68(meshes[1]))
        except DetectorError:
            continue
        to_person.append(float(np.linalg.norm(worn - person)))
        to_wearer.append(float(np.linalg.norm(worn - wearer)))
    alike = [d < SAME_PERSON for d in to_person]
    return {
        "distance_to_person": mean_or_none(to_person),
        "distance_to_wearer": mean_or_none(to_wearer),
        "taken_for_person_pct": 100 * float(np.mean(alike)) if alike else None,
    }


def _embedding(embedder: Embedder, faces: Sequence[tuple[U8, F32]]) -> F64 | None:
    """(128,) mean over some faces, evenly chosen; None where there is none."""
    some = [faces[i] for i in np.linspace(0, len(faces) - 1, min(_EMBEDDED, len(faces))).astype(int)] if faces else []
    found = []
    for pixels, points in some:
        try:
            found.append(embedder.embed(pixels, points))
        except DetectorError:
            continue
    return np.mean(found, axis=0) if found else None


def _frontal(pair: _Pair) -> bool:
    return abs(pair.yaw) <= MOST_YAW


def _points_68(mesh: F64) -> F64:
    return np.asarray(geometry.points_68(mesh[:, :2], "mesh468"), np.float64)
