"""An alignment that knows what comes: each picture's square is smoothed by those before and after it.

The live path's filter can only lag. Here a local parabola is fitted to the square's centre, size and angle in time,
weighted by nearness (Savitzky and Golay 1964, by time stamps instead of numbers): it follows acceleration without lag.
A face that holds still is averaged over a longer time. Only AHEAD_S seconds to either side count, so a worker that
begins anywhere has the same squares from there on.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from engines.types import F64, Detection, Frame
from realtime.track import Tracker

AHEAD_S = 0.25
NARROW_S = 0.05
"""Standard deviation of the weights of the parabola."""
WIDE_S = 0.12
"""That of the mean for a still face."""
STILL = 0.0035
"""Sides of the square by which mean and parabola may differ for the mean to count half: landmarks tremble by less."""
MOST_SHIFT = 0.04
"""Sides, logarithm of size, radians: smoothing moves a square by so much at the most."""
JUMP = 0.5
"""Sides of the square from one picture to the next: a cut, nobody moves so fast."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What was found in one picture."""

    frame: Frame
    detection: Detection | None
    error: Exception | None
    square: F64 | None
    """(4,): centre x and y in crop sides of this square, logarithm of the step, angle; None: no face."""
    side: float
    track: int
    """Number of the unbroken stretch with one face."""

    @property
    def t_s(self) -> float:
        return self.frame.timestamp_ns / 1e9


class LookAhead:
    """A ``pipeline.Tracks`` over a ``Tracker`` that is some pictures ahead.

    ``feed`` frames in order; ``ready`` gives them back when enough is known of what comes after. Only then may the
    pipeline work on them.
    """

    def __init__(self, tracker: Tracker, size: int, *, smooth: bool = True) -> None:
        """``tracker`` does not smooth by itself. ``size``: side of the crops in pixels."""
        self._tracker, self._size, self._smooth = tracker, size, smooth
        self._looks: OrderedDict[int, _Look] = OrderedDict()
        self._given = 0
        self._track = 0
        self._last: _Look | None = None

    def feed(self, frame: Frame) -> None:
        """Look for the face. What goes wrong is kept for ``update``."""
        detection: Detection | None = None
        error: Exception | None = None
        square: F64 | None = None
        side = 0.0
        try:
            detection = self._tracker.update(frame)
            self._tracker.settle(frame)
            if detection is not None:
                to_frame = self._tracker.align(detection, self._size, frame.timestamp_ns / 1e9)
                square, side = _numbers(to_frame, self._size)
        except Exception as failure:  # noqa: BLE001 - the pipeline covers the picture, whatever it was
            detection, error = None, failure
            self._tracker.reset()
        look = _Look(frame, detection, error, square, side, self._track_of(square, side))
        self._looks[frame.index] = self._last = look

    def _track_of(self, square: F64 | None, side: float) -> int:
        last = self._last
        if square is None or last is None or last.square is None:
            self._track += 1
        else:
            moved = np.hypot(*(square[:2] * side - last.square[:2] * last.side)) / side
            self._track += bool(moved > JUMP or abs(square[2] - last.square[2]) > JUMP)
        return self._track

    def ready(self, *, ended: bool = False) -> list[Frame]:
        """Frames that were fed, in order, and may be worked on now; ``ended``: no more will be fed."""
        looks = list(self._looks.values())
        waiting = [look for look in looks if look.frame.index >= self._given]
        newest = looks[-1].t_s if looks else 0.0
        frames = [look.frame for look in waiting if ended or newest - look.t_s >= AHEAD_S]
        if frames:
            self._given = frames[-1].index + 1
        return frames

    # ---- for the pipeline --------------------------------------------------------------------------------------------

    def update(self, frame: Frame) -> Detection | None:
        """What was found when it was fed. Raises what was raised then."""
        self._forget(frame)
        look = self._looks[frame.index]
        if look.error is not None:
            raise look.error
        return look.detection

    def settle(self, frame: Frame) -> None:
        """Done when it was fed."""

    def align(self, detection: Detection, size: int, t_s: float) -> F64:  # noqa: ARG002 - the frame's own time is known
        """(2, 3) affine from crop to frame pixels; ``size`` is that of the beginning."""
        look = self._looks[detection.frame_index]
        if look.square is None:
            raise ValueError("a face without a square")
        square = self._smoothed(look) if self._smooth else look.square
        return _affine(square, look.side, size)

    def reset(self) -> None:
        """Nothing: what comes next has been looked at already, and squares are of this stretch only."""

    def _forget(self, frame: Frame) -> None:
        """Pictures that no window reaches any more."""
        while self._looks:
            first = next(iter(self._looks.values()))
            if frame.timestamp_ns / 1e9 - first.t_s <= 2.0 * AHEAD_S:
                return
            self._looks.popitem(last=False)

    def _smoothed(self, look: _Look) -> F64:
        near = [
            other
            for other in self._looks.values()
            if other.square is not None and other.track == look.track and abs(other.t_s - look.t_s) <= AHEAD_S
        ]
        times = np.array([other.t_s - look.t_s for other in near])
        values = np.array([_relative(other, look) for other in near])
        if len(near) < 4 or look.square is None:
            return look.square if look.square is not None else np.zeros(4)
        parabola = _local(times, values, NARROW_S, 2)
        mean = _local(times, values, WIDE_S, 1)
        far = (mean - parabola) / STILL
        moving = far**2 / (1.0 + far**2)
        # Centre, size and angle each by its own movement; whatever comes out, the square stays on the face.
        shift = np.clip(mean + (parabola - mean) * moving, -MOST_SHIFT, MOST_SHIFT)
        return np.asarray(look.square + shift, np.float64)


def _relative(other: _Look, look: _Look) -> F64:
    """The square of another picture as a difference to this one's, in its sides."""
    if other.square is None or look.square is None:
        return np.zeros(4)
    moved = other.square - look.square
    moved[:2] = other.square[:2] * (other.side / look.side) - look.square[:2]
    moved[3] = math.remainder(moved[3], 2.0 * math.pi)
    return np.asarray(moved, np.float64)


def _local(times: F64, values: F64, sigma_s: float, degree: int) -> F64:
    """Value at time 0 of the polynomial that fits ``values`` (N, 4) best, near times counting most."""
    weights = np.exp(-0.5 * (times / sigma_s) ** 2)
    powers = np.stack([times**k for k in range(degree + 1)], axis=1)
    weighted = powers * weights[:, None]
    # A little of nothing: a stretch of two pictures has no parabola of its own.
    normal = weighted.T @ powers + 1e-9 * np.eye(degree + 1)
    return np.asarray(np.linalg.solve(normal, weighted.T @ values)[0], np.float64)


def _numbers(to_frame: F64, size: int) -> tuple[F64, float]:
    """((4,) numbers, side in frame pixels) of a square."""
    middle = (size - 1) / 2
    centre = to_frame[:, :2] @ np.array([middle, middle]) + to_frame[:, 2]
    step = math.hypot(to_frame[0, 0], to_frame[1, 0])
    side = step * size
    angle = math.atan2(to_frame[1, 0], to_frame[0, 0])
    return np.array([centre[0] / side, centre[1] / side, math.log(step), angle]), side


def _affine(square: F64, side: float, size: int) -> F64:
    """The inverse of ``_numbers``; ``side`` is the unit of the centre."""
    middle, step = (size - 1) / 2, math.exp(square[2])
    cos, sin = math.cos(square[3]) * step, math.sin(square[3]) * step
    x, y = square[0] * side, square[1] * side
    return np.array([[cos, -sin, x - (cos - sin) * middle], [sin, cos, y - (sin + cos) * middle]])
