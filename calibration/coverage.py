"""What enrolled footage shows and what it lacks: bins over pose, mouth, eyes, brows, smile, speech, distance and light.

A bin wants so many frames. Some bins are *required*, which everybody can show; others are *wished for*, such as light
from both sides, and nobody waits for them. What counts as a smile or as raised brows is relative to the person: to the
median of the frames in which they look roughly ahead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.face_reading import COLUMNS
from engines.types import F32, F64

Bools = NDArray[np.bool_]
AHEAD_DEG = 20.0
"""Frames turned less than this say what is normal for the person."""
ENOUGH_AHEAD = 8
"""So many are needed for it; until then the average person stands in."""
TYPICAL = {
    "pitch": 0.0, "width": 0.481, "corners": 0.011, "depth": -0.126, "brows": 0.231, "eyes": 0.2, "gaze": 0.03,
    "size": 0.35, "light": 0.55, "side": 0.0,
}  # fmt: skip
"""Medians of 40 invented people; size and light of a webcam."""
UNITS: Mapping[str, float] = {
    "yaw": 12.0, "pitch": 8.0, "roll": 8.0, "open": 0.03, "width": 0.04, "corners": 0.015, "depth": 0.012,
    "brows": 0.015, "eyes": 0.06, "gaze": 0.2, "size": 0.3, "light": 0.12, "side": 0.3,
}  # fmt: skip
"""What counts as one step of difference between two frames; of sizes, of their logarithms."""


@dataclass(frozen=True, slots=True)
class Bin:
    """One thing to be seen."""

    name: str
    prompt: str
    """What to ask of the person."""
    share: float
    """Wanted frames over all wanted frames."""
    test: Callable[[Mapping[str, F64]], Bools]
    """Which of N frames show it, from the columns of :func:`relative`."""
    required: bool = True


@dataclass(frozen=True, slots=True)
class Axis:
    """Bins of one kind."""

    name: str
    bins: tuple[Bin, ...]


AXES: tuple[Axis, ...] = (
    Axis("turn", (
        Bin("far right", "turn your head far to the right", 0.03, lambda r: r["yaw"] < -35, required=False),
        Bin("right", "turn your head a little to the right", 0.08, lambda r: (r["yaw"] >= -35) & (r["yaw"] < -14)),
        Bin("ahead", "look straight ahead", 0.15, lambda r: np.abs(r["yaw"]) <= 14),
        Bin("left", "turn your head a little to the left", 0.08, lambda r: (r["yaw"] > 14) & (r["yaw"] <= 35)),
        Bin("far left", "turn your head far to the left", 0.03, lambda r: r["yaw"] > 35, required=False),
    )),
    Axis("nod", (
        Bin("down", "lower your chin", 0.05, lambda r: r["pitch"] < -8),
        Bin("level", "hold your head level", 0.15, lambda r: np.abs(r["pitch"]) <= 8),
        Bin("up", "raise your chin", 0.05, lambda r: r["pitch"] > 8),
    )),
    Axis("tilt", (
        Bin("right", "tilt your head to the right shoulder", 0.04, lambda r: r["roll"] < -6),
        Bin("upright", "hold your head upright", 0.15, lambda r: np.abs(r["roll"]) <= 6),
        Bin("left", "tilt your head to the left shoulder", 0.04, lambda r: r["roll"] > 6),
    )),
    Axis("mouth", (
        Bin("closed", "close your mouth", 0.1, lambda r: r["open"] < 0.025),
        Bin("a little open", "part your lips", 0.1, lambda r: (r["open"] >= 0.025) & (r["open"] < 0.08)),
        Bin("open", "open your mouth wide", 0.04, lambda r: r["open"] >= 0.08),
        Bin("wide", "say a long eee", 0.04, lambda r: r["width"] > 0.045),
        Bin("round", "say a long ooo", 0.04, lambda r: r["width"] < -0.04),
    )),
    Axis("speech", (Bin("talking", "read something aloud", 0.12, lambda r: r["speed"] > 0.2),)),
    Axis("smile", (
        Bin("none", "relax your face", 0.15, lambda r: r["smile"] < 0.12),
        Bin("smiling", "smile", 0.06, lambda r: r["smile"] >= 0.2),
    )),
    Axis("eyes", (
        Bin("open", "open your eyes", 0.2, lambda r: r["eyes"] > 0.8),
        Bin("closed", "close your eyes for a moment", 0.03, lambda r: r["eyes"] < 0.62),
    )),
    Axis("gaze", (
        Bin("right", "look to the right with your eyes only", 0.03, lambda r: _looking(r) & (r["gaze"] < -0.17)),
        Bin("ahead", "look at the camera", 0.15, lambda r: _looking(r) & (np.abs(r["gaze"]) <= 0.17)),
        Bin("left", "look to the left with your eyes only", 0.03, lambda r: _looking(r) & (r["gaze"] > 0.17)),
    )),
    Axis("brows", (
        Bin("lowered", "frown", 0.03, lambda r: r["brows"] < -0.014, required=False),
        Bin("at rest", "relax your brows", 0.15, lambda r: np.abs(r["brows"]) <= 0.014),
        Bin("raised", "raise your brows", 0.03, lambda r: r["brows"] > 0.014, required=False),
    )),
    Axis("distance", (
        Bin("nearer", "come a little nearer", 0.04, lambda r: r["size"] > 0.16, required=False),
        Bin("as usual", "sit as you usually do", 0.15, lambda r: np.abs(r["size"]) <= 0.16),
        Bin("further", "lean back", 0.04, lambda r: r["size"] < -0.16, required=False),
    )),
    Axis("light", (
        Bin("from the right", "let the light come from your right", 0.04, lambda r: r["side"] < -0.22, required=False),
        Bin("from the front", "face the light", 0.1, lambda r: np.abs(r["side"]) <= 0.22, required=False),
        Bin("from the left", "let the light come from your left", 0.04, lambda r: r["side"] > 0.22, required=False),
        Bin("darker", "make the light darker", 0.04, lambda r: r["light"] < 0.8, required=False),
        Bin("brighter", "make the light brighter", 0.04, lambda r: r["light"] > 1.2, required=False),
    )),
)  # fmt: skip
"""Left and right are the person's own."""
BINS: tuple[tuple[str, Bin], ...] = tuple((axis.name, b) for axis in AXES for b in axis.bins)
_REQUIRED = np.array([b.required for _, b in BINS])
_SHARES = np.array([b.share for _, b in BINS])
_WISH_WEIGHT = 0.4
"""Of a bin that is wished for, beside a required one."""
_FARTHEST = 4.0
"""A frame further than this from all others counts no more: it may be a fault of the detector."""
_NOVELTY_WEIGHT = 0.15
"""A step of difference beside an empty required bin."""
_USUAL_WEIGHT = 2.0
"""Of a frame that brings as much nearer to all frames as one of many should, beside an empty required bin."""
_REPRESENTED = 1000
"""At most so many frames, evenly taken, stand for all in that."""


def _looking(r: Mapping[str, F64]) -> Bools:
    """Whether the eyes are open and seen from the front: else where they look cannot be read."""
    return (r["eyes"] > 0.75) & (np.abs(r["yaw"]) < 30)


def neutral_of(rows: F64) -> dict[str, float]:
    """What is normal for the person of (N, 14) ``rows``."""
    ahead = rows[np.abs(rows[:, COLUMNS.index("yaw")]) < AHEAD_DEG]
    if len(ahead) < ENOUGH_AHEAD:
        return dict(TYPICAL)
    found = dict(zip(COLUMNS, np.median(ahead, axis=0).tolist(), strict=True))
    return {name: found[name] for name in TYPICAL}


def relative(rows: F64, neutral: Mapping[str, float]) -> dict[str, F64]:
    """Columns of (N, 14) ``rows`` as the person's own: eyes and light are shares of the normal, size a logarithm of
    it; of the others the difference; turn, tilt, opening and speed as they are. And ``smile``, about 0..1.
    """
    column = dict(zip(COLUMNS, rows.T, strict=True))
    out = {name: column[name] for name in ("yaw", "roll", "open", "speed")}
    for name in ("pitch", "width", "corners", "depth", "brows", "gaze", "side"):
        out[name] = column[name] - neutral[name]
    for name in ("eyes", "light"):
        out[name] = column[name] / max(neutral[name], 1e-6)
    out["size"] = np.log(np.maximum(column["size"], 1e-6) / max(neutral["size"], 1e-6))
    # Least squares on rendered faces with known smiles; correlation 0.72.
    out["smile"] = 4.7 * out["corners"] - 14.8 * out["depth"] - 1.1 * out["width"] - 0.7 * (out["open"] - 0.03)
    return out


def membership(rows: F64, neutral: Mapping[str, float]) -> Bools:
    """(N, B) which of ``BINS`` each of (N, 14) ``rows`` is in; of one axis it may be in several or none."""
    values = relative(rows, neutral)
    return np.stack([b.test(values) for _, b in BINS], axis=1)


def descriptors(rows: F64) -> F64:
    """(N, 13) such that the Euclidean distance of two frames says how different they look, in steps of ``UNITS``."""
    columns = dict(zip(COLUMNS, rows.T, strict=True)) | {
        "size": np.log(np.maximum(rows[:, COLUMNS.index("size")], 1e-3))
    }
    return np.stack([columns[name] / unit for name, unit in UNITS.items()], axis=1)


class Coverage:
    """Counts of a set of frames against what ``frames`` of them should show."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.wanted = np.maximum(1, np.round(_SHARES * frames)).astype(np.int64)
        """(B,) frames wanted of each bin."""
        self.neutral: Mapping[str, float] = TYPICAL
        self.counts = np.zeros(len(BINS), np.int64)
        """(B,)"""
        self.total = 0

    def count(self, rows: F64) -> None:
        """Take (N, 14) ``rows`` as the set: what is normal for the person is found again."""
        self.neutral = neutral_of(rows)
        self.counts = membership(rows, self.neutral).sum(axis=0)
        self.total = len(rows)

    def filled(self) -> F64:
        """(B,) 0..1 of each bin."""
        return np.minimum(1.0, self.counts / self.wanted)

    @property
    def share(self) -> float:
        """0..1 of what is required: the bins, and the number of frames."""
        filled = self.filled()[_REQUIRED]
        return float((filled.sum() + min(1.0, self.total / self.frames)) / (len(filled) + 1))

    @property
    def enough(self) -> bool:
        """Whether every required bin and the set are full."""
        return self.share >= 1.0

    def contribution(self, row: F64) -> float:
        """What one frame (14,) adds: 1 for an empty required bin, less for fuller ones and wishes."""
        inside = membership(row[None], self.neutral)[0]
        return float((self._weights() * inside).sum())

    def _weights(self) -> F64:
        return (1 - self.filled()) * np.where(_REQUIRED, 1.0, _WISH_WEIGHT)

    def missing(self, *, wishes: bool = False) -> list[tuple[str, Bin]]:
        """Bins that are not full, the emptiest first: the required ones, or the others."""
        filled = self.filled()
        order = [i for i in np.argsort(filled, kind="stable") if filled[i] < 1 and BINS[i][1].required != wishes]
        return [BINS[i] for i in order]

    def never_seen(self) -> list[str]:
        """Bins with less than a third of what they want, as "turn: far left"."""
        filled = self.filled()
        return [f"{axis}: {b.name}" for (axis, b), share in zip(BINS, filled, strict=True) if share < 1 / 3]

    def prompts(self) -> list[str]:
        """What is missing in plain words, most wanted first; wishes come last."""
        return [b.prompt for _, b in self.missing()] + [b.prompt for _, b in self.missing(wishes=True)]


def choose(rows: F64, frames: int) -> NDArray[np.int64]:
    """Which of (N, 14) ``rows`` to keep, rising: at most ``frames``, such that bins fill, no two are alike, and what is
    usual is represented as well as what is rare.

    Greedy: each next frame is the one that brings most of three things: empty bins; distance from all chosen (k
    centres); and the mean distance of all frames to the chosen ones (facility location, Nemhauser et al. 1978). Without
    the last, small sets were all exceptions: 24 frames of five invented people then left the mean held-out state
    further away than chance did.
    """
    count = len(rows)
    if count <= frames:
        return np.arange(count)
    goal = Coverage(frames)
    inside = membership(rows, neutral_of(rows)).astype(np.float64)
    weights = np.where(_REQUIRED, 1.0, _WISH_WEIGHT)
    points = descriptors(rows).astype(np.float32)
    usual = points[:: -(-count // _REPRESENTED)]
    to_usual = np.minimum(_distances(points, usual), _FARTHEST)
    far, nearest = np.full(len(usual), _FARTHEST, np.float32), np.full(count, _FARTHEST)
    counts, taken = np.zeros(len(BINS)), np.zeros(count, bool)
    for _ in range(frames):
        need = np.maximum(0.0, 1 - counts / goal.wanted) * weights
        nearer = np.maximum(far - to_usual, 0).mean(axis=1) * (frames / _FARTHEST)
        gain = inside @ need + _NOVELTY_WEIGHT * nearest + _USUAL_WEIGHT * nearer
        gain[taken] = -math.inf
        best = int(np.argmax(gain))
        taken[best] = True
        counts += inside[best]
        nearest = np.minimum(nearest, np.linalg.norm(points - points[best], axis=1))
        far = np.minimum(far, to_usual[best])
    return np.flatnonzero(taken)


def _distances(a: F32, b: F32) -> F32:
    """(N, M) Euclidean between rows."""
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T
    return np.asarray(np.sqrt(np.maximum(squares, 0)), np.float32)


class Gathering:
    """Candidates of a stream: no two alike, never more than ``most``; when it is full, it gets pickier and thins out.

    As the doubling algorithm for k centres does (Charikar, Chekuri, Feder and Motwani 1997).
    """

    FIRST_STEP = 0.8
    FINER = 0.5
    """Frames that fill a bin need differ only by this share of the step."""
    COARSER = 1.25

    def __init__(self, frames: int, most: int) -> None:
        self.coverage = Coverage(frames)
        self.most = most
        self.step = self.FIRST_STEP
        self._rows: list[F64] = []
        self._points: list[F64] = []

    @property
    def rows(self) -> F64:
        """(N, 14) of the candidates."""
        return np.stack(self._rows) if self._rows else np.zeros((0, len(COLUMNS)))

    def resume(self, rows: F64, step: float) -> None:
        """Go on with the candidates (N, 14) of an earlier call."""
        self._rows, self._points = list(rows), list(descriptors(rows))
        self.step = max(step, self.FIRST_STEP)
        self.coverage.count(rows)

    def wants(self, row: F64) -> bool:
        """Whether a frame (14,) differs enough from all candidates, for what it shows."""
        if not self._rows:
            return True
        nearest = float(np.linalg.norm(np.stack(self._points) - descriptors(row[None])[0], axis=1).min())
        if nearest >= self.step:
            return True
        return nearest >= self.FINER * self.step and self.coverage.contribution(row) >= 0.5

    def add(self, row: F64) -> list[int] | None:
        """Take a frame in. Returns which candidates stay, in their order, when it had to thin out; None: all."""
        self._rows.append(row)
        self._points.append(descriptors(row[None])[0])
        stay = self._thin() if len(self._rows) > self.most else None
        self.coverage.count(self.rows)
        return stay

    def _thin(self) -> list[int]:
        """Keep two thirds, chosen as the whole is, and be pickier from now on."""
        self.step *= self.COARSER
        stay = choose(self.rows, max(1, 2 * self.most // 3)).tolist()
        self._rows = [self._rows[i] for i in stay]
        self._points = [self._points[i] for i in stay]
        return list(stay)
