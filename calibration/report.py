"""How good shipped personas are: every measure of the table, on wearers and states that nobody trained on.

The persona runs as in live use; what runs it is handed in (``Wears``), because the live path lies above this package.
Pictures are compared in the crop: swap against the persona's true render of the wearer's state, in the true mask.

- Landmarks and pose: Face Mesh on the swap against Face Mesh on the true render, the swap laid over the true render by
  its mask so that a whole head is seen. Face Mesh itself is some 4.5 % of the inter-ocular distance off the truth;
  with the same detector on both sides only the swap's own error is left. Frames within 45 degrees of yaw.
- Identity: dlib's embedding of the swap laid over the wearer's picture, which is what others see. Beside it stand the
  same figures of the true renders laid over the same wearers: what a perfect swap would reach.
- Flicker: the whole live path on a still wearer whose sensor is noisy; a true render would not change at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import cv2
import numpy as np

from calibration.embedding import Embedder
from calibration.gallery import GalleryPersona
from calibration.people.render import Renderer
from calibration.report_people import (
    ReportPlan,
    Said,
    TrueFrame,
    WornFrame,
    landmarks_68,
    middle,
    shoot_stills,
    shoot_truths,
    shoot_wearers,
)
from engines import metrics
from engines.errors import DetectorError, SettingsError
from engines.face_pose import pose_error_degrees, read_face
from engines.facemesh import FaceMesh, look
from engines.metrics_face import identity_score, mean_or_none, nme_pct
from engines.types import F32, F64, U8

MOST_YAW = 45.0
"""Beyond, Face Mesh and dlib are guessing."""
_SEAM_PX = 9
"""Of a still's mask this much is left out along its edge, where the wearer's own noise shines through."""
MEANS = (
    "psnr_masked_db", "mask_iou", "mask_iou_occluded", "nme_pct", "pose_deg", "retrieval_pct", "leakage_pct",
    "flicker", "sharpness_ratio",
)  # fmt: skip
"""The report's keys, in the table's order."""


@dataclass(frozen=True)
class Worn:
    """A picture with the persona in it. The arrays are the caller's."""

    pixels: U8
    """(H, W, 3) BGR: the picture that goes out."""
    mask: U8
    """(H, W) 0..255: where the persona's face is."""


class Wears(Protocol):
    """A persona on the live path."""

    crop_size: int
    """S"""
    swap_size: int
    """T"""

    def swap(self, crop: U8, points: F32 | None) -> tuple[U8, U8]:
        """(T, T, 3) pixels and (T, T) mask for a (S, S, 3) crop and its (127, 2) mesh points; copies."""
        ...

    def live(self, pictures: Sequence[U8]) -> list[Worn | None]:
        """Detect, align, swap and blend consecutive pictures at 30 a second; None where the policy covered one."""
        ...


OpenPersona = Callable[[str], AbstractContextManager[Wears]]


@dataclass(frozen=True)
class Example:
    """One frame to look at."""

    wearer: U8
    truth: U8
    result: U8
    """(T, T, 3), laid over the wearer by its mask."""
    error: U8
    """|result - truth| x 4 in the true mask."""
    yaw: float
    psnr_masked_db: float


@dataclass
class Measured:
    """What one persona scored."""

    figures: dict[str, Any] = field(default_factory=dict)
    frames: list[dict[str, float | bool | None]] = field(default_factory=list)
    """One row a frame, for plots."""
    examples: list[Example] = field(default_factory=list)


@dataclass
class Embeddings:
    """Rows of frames that show identity, per persona."""

    results: list[F64] = field(default_factory=list)
    ideals: list[F64] = field(default_factory=list)
    """The truth on the wearer."""
    truths: list[F64] = field(default_factory=list)
    wearers: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """What all personas are measured with."""

    renderer: Renderer
    facemesh: FaceMesh
    embedder: Embedder
    plan: ReportPlan
    said: Said


def measure(
    bench: Bench, personas: Sequence[GalleryPersona], open_persona: OpenPersona, *, examples: int = 6
) -> tuple[dict[str, Any], dict[str, Measured]]:
    """The report's figures without photographs, and what each persona scored.

    Raises SettingsError for personas whose networks differ in size, and what rendering and running them raise.
    """
    with open_persona(personas[0].name) as first:
        crop_size, swap_size = first.crop_size, first.swap_size
    frames = shoot_wearers(bench.renderer, bench.facemesh, bench.plan, crop_size, bench.said)
    stills = shoot_stills(bench.renderer, bench.plan, bench.said)
    own = _wearer_embeddings(bench, frames)
    measured: dict[str, Measured] = {}
    vectors: dict[str, Embeddings] = {}
    for persona in personas:
        truths = shoot_truths(bench.renderer, persona, [f.state for f in frames], swap_size, bench.said)
        with open_persona(persona.name) as live:
            if (live.crop_size, live.swap_size) != (crop_size, swap_size):
                raise SettingsError(f"{persona.name} is of another size", hint="report personas of one tier")
            measured[persona.name], vectors[persona.name] = _persona(bench, persona, live, frames, truths, examples)
            measured[persona.name].figures["flicker"] = flicker(live, stills)
    left_out = _identities(measured, vectors, own)
    filmed = [p.name for p in personas if p.style == "photo"]
    counted = filmed or [p.name for p in personas]
    drawn = [p.name for p in personas if p.name not in counted]
    report = {
        **_means(measured, counted),
        "near_wearer_pct": _mean(measured, counted, "near_wearer_pct"),
        "ideal": _ideal(measured, counted),
        "measured_over": counted,
        "drawn": {**_means(measured, drawn), "measured_over": drawn} if drawn else None,
        "not_in_retrieval": left_out,
        "per_persona": {name: m.figures for name, m in measured.items()},
        "counts": {
            "personas": len(personas),
            "wearers": bench.plan.wearers,
            "frames": len(frames),
            "frames_with_props": sum(f.props for f in frames),
            "frames_within_45_degrees": sum(abs(f.state.yaw) <= MOST_YAW for f in frames),
            "wearer_unseen_by_face_mesh": sum(f.points is None for f in frames),
            "still_frames": sum(map(len, stills)),
        },
        "crop_size": crop_size,
        "output_size": swap_size,
    }
    return report, measured


def _persona(
    bench: Bench, persona: GalleryPersona, live: Wears, frames: list[WornFrame], truths: list[TrueFrame], examples: int
) -> tuple[Measured, Embeddings]:
    out, vectors = Measured(), Embeddings()
    keep = {round(i) for i in np.linspace(0, len(frames) - 1, examples)}
    for i, (frame, truth) in enumerate(zip(frames, truths, strict=True)):
        pixels, mask = live.swap(frame.crop, frame.points)
        row = compare(pixels, mask, truth)
        row |= {"yaw": frame.state.yaw, "props": frame.props, "nme_pct": None, "pose_deg": None}
        if abs(frame.state.yaw) <= MOST_YAW:
            row |= _face_errors(bench.facemesh, pixels, mask, truth)
            _embed(bench.embedder, vectors, frame, truth, pixels, mask)
        out.frames.append(row)
        if i in keep and row["psnr_masked_db"] is not None:
            out.examples.append(_example(frame, truth, pixels, mask, float(row["psnr_masked_db"])))
        bench.said(f"{persona.name}, swaps", i + 1, len(frames))
    out.figures = _summary(out.frames)
    return out, vectors


def compare(pixels: U8, mask: U8, truth: TrueFrame) -> dict[str, float | bool | None]:
    """One frame's PSNR, sharpness and mask agreement; None where the true mask is empty (a face turned away)."""
    wanted = truth.mask > 127
    row: dict[str, float | bool | None] = {"mask_iou": metrics.mask_iou(mask > 127, wanted)}
    try:
        row["psnr_masked_db"] = metrics.psnr_masked_db(pixels, truth.crop, wanted)
        row["sharpness_ratio"] = metrics.sharpness_ratio(pixels, truth.crop, wanted)
    except SettingsError:
        row |= {"psnr_masked_db": None, "sharpness_ratio": None}
    return row


def laid_over(background: U8, pixels: U8, mask: U8) -> U8:
    """A copy of a square ``background`` with (T, T, 3) ``pixels`` in its middle where (T, T) ``mask`` says so."""
    size = mask.shape[0]
    out = background.copy()
    start = (out.shape[0] - size) // 2
    part = out[start : start + size, start : start + size]
    weight = mask[..., None].astype(np.float32) / 255
    part[:] = np.rint(part * (1 - weight) + pixels * weight).astype(np.uint8)
    return out


def _face_errors(facemesh: FaceMesh, pixels: U8, mask: U8, truth: TrueFrame) -> dict[str, float]:
    """Landmark and pose error, where Face Mesh sees both faces."""
    wanted = look(facemesh, truth.head, truth.landmarks)
    found = look(facemesh, laid_over(truth.head, pixels, mask), truth.landmarks)
    if wanted is None or found is None:
        return {}
    return {
        "nme_pct": nme_pct(landmarks_68(found), landmarks_68(wanted)),
        "pose_deg": pose_error_degrees(read_face(found), read_face(wanted)),
    }


def _embed(embedder: Embedder, to: Embeddings, frame: WornFrame, truth: TrueFrame, pixels: U8, mask: U8) -> None:
    """Embed the swap, the perfect swap, and the persona alone. The points are the persona's true ones: all crops are
    aligned, so that is where the features of all three are.
    """
    head, size = truth.head.shape[0], truth.mask.shape[0]
    scale = size / frame.crop.shape[0]
    side = round(frame.picture.shape[0] * scale)
    wearer = middle(np.asarray(cv2.resize(frame.picture, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8), head)
    try:
        three = [
            embedder.embed(picture, truth.landmarks)
            for picture in (laid_over(wearer, pixels, mask), laid_over(wearer, truth.crop, truth.mask), truth.head)
        ]
    except DetectorError:
        return
    for rows, vector in zip((to.results, to.ideals, to.truths), three, strict=True):
        rows.append(vector)
    to.wearers.append(frame.wearer)


def _wearer_embeddings(bench: Bench, frames: list[WornFrame]) -> F64:
    """(wearers, 128) mean of each wearer's frames within 45 degrees; far from everybody for one without any."""
    out = np.full((bench.plan.wearers, 128), 1e3)
    for wearer in range(bench.plan.wearers):
        own = [f for f in frames if f.wearer == wearer and abs(f.state.yaw) <= MOST_YAW]
        if own:
            out[wearer] = np.mean([bench.embedder.embed(f.picture, f.landmarks) for f in own], axis=0)
    return out


def _identities(measured: dict[str, Measured], vectors: dict[str, Embeddings], wearers: F64) -> list[str]:
    """Fill in identity figures; returns the personas that had no frame to be recognised in."""
    known = [name for name, v in vectors.items() if v.truths]
    gallery = np.array([np.mean(vectors[name].truths, axis=0) for name in known])
    for row, name in enumerate(known):
        of, figures = vectors[name], measured[name].figures
        who, worn_by = np.full(len(of.wearers), row), wearers[of.wearers]
        found = identity_score(np.array(of.results), who, worn_by, gallery)
        ideal = identity_score(np.array(of.ideals), who, worn_by, gallery)
        bare = identity_score(np.array(of.truths), who, worn_by, gallery)
        figures |= asdict(found)
        figures["ideal"] = {**asdict(ideal), "bare_near_wearer_pct": bare.near_wearer_pct}
    return [name for name in vectors if name not in known]


def flicker(live: Wears, stills: Sequence[Sequence[U8]]) -> float | None:
    """Excess flicker on the /255 scale over still clips, each put on by the live path from its first frame on.

    The mean change of the picture that goes out inside the persona's face, seam left out; the truth is still, so all
    of it is excess. None where the live path covered the clips.
    """
    found = []
    kernel = np.ones((_SEAM_PX, _SEAM_PX), np.uint8)
    for clip in stills:
        worn = [w for w in live.live(clip) if w is not None]
        if len(worn) < 2:
            continue
        pictures = np.stack([w.pixels for w in worn])
        masks = np.stack([cv2.erode(w.mask, kernel) > 127 for w in worn])
        try:
            found.append(metrics.flicker_excess(pictures, np.zeros_like(pictures), masks))
        except SettingsError:  # no mask is left of a face that is nearly all covered
            continue
    return mean_or_none(found)


def _example(frame: WornFrame, truth: TrueFrame, pixels: U8, mask: U8, psnr: float) -> Example:
    size = truth.mask.shape[0]
    wearer = np.asarray(cv2.resize(frame.crop, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
    off = np.abs(pixels.astype(np.int16) - truth.crop) * 4
    error = np.clip(off, 0, 255).astype(np.uint8) * (truth.mask > 127)[..., None].astype(np.uint8)
    return Example(
        wearer, laid_over(wearer, truth.crop, truth.mask), laid_over(wearer, pixels, mask), error, frame.state.yaw, psnr
    )


def _summary(rows: list[dict[str, float | bool | None]]) -> dict[str, Any]:
    def mean(name: str, *, props: bool | None = None) -> float | None:
        some = [r[name] for r in rows if props is None or r["props"] == props]
        return mean_or_none([float(v) for v in some if v is not None])

    return {
        "psnr_masked_db": mean("psnr_masked_db"),
        "mask_iou": mean("mask_iou", props=False),
        "mask_iou_occluded": mean("mask_iou", props=True),
        "nme_pct": mean("nme_pct"),
        "pose_deg": mean("pose_deg"),
        "retrieval_pct": None,
        "leakage_pct": None,
        "sharpness_ratio": mean("sharpness_ratio"),
        "faces_compared": sum(r["nme_pct"] is not None for r in rows),
    }


def _mean(measured: dict[str, Measured], names: Sequence[str], key: str) -> float | None:
    values = [measured[name].figures.get(key) for name in names]
    return mean_or_none([float(v) for v in values if v is not None])


def _means(measured: dict[str, Measured], names: Sequence[str]) -> dict[str, float | None]:
    return {key: _mean(measured, names, key) for key in MEANS}


def _ideal(measured: dict[str, Measured], names: Sequence[str]) -> dict[str, float | None]:
    """Means of what perfect swaps reach."""
    found = [measured[name].figures["ideal"] for name in names if "ideal" in measured[name].figures]
    keys = ("retrieval_pct", "leakage_pct", "near_wearer_pct", "bare_near_wearer_pct")
    return {key: mean_or_none([f[key] for f in found]) for key in keys}
