"""What the persona's network sees, without the sensor's noise: a still wearer's persona must not shimmer.

The network is one graph, so its code cannot be smoothed; its inputs are. Nothing here touches what is shown of the
camera's own picture. The crop: each pixel is averaged over time where its surroundings differ from the filtered crop by
no more than the noise does, and taken as it is where they differ by more; noise is what the stillest quarter of the
crop changes by. The mesh's points: ``engines.smoothing``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.jit import kernel
from engines.smoothing import StillOrMoving, low_pass_weight
from engines.types import F32, U8

I32 = NDArray[np.int32]
BITS = 7
"""Behind the point of the filtered crop: in whole levels an average would stop short of its goal."""
RADIUS = 2
"""A pixel's surroundings are (2 RADIUS + 1) squared: of 75 numbers the mean hardly trembles."""
BLOCK = 8
"""Side of the squares by which the noise is judged."""
SMALLEST = 2 * BLOCK
"""Sides of crops below this are passed on as they are."""


@kernel
def block_differences(crop: U8, kept: I32, dst: F32) -> None:
    """Mean |crop - kept| in levels over each BLOCK x BLOCK square -> ``dst`` (n, n); n * BLOCK <= S."""
    for b in range(dst.shape[0]):
        for a in range(dst.shape[1]):
            total = np.int32(0)
            for j in range(BLOCK * b, BLOCK * b + BLOCK):
                row, old = crop[j].reshape(-1), kept[j].reshape(-1)
                for i in range(3 * BLOCK * a, 3 * BLOCK * (a + 1)):
                    total += abs((np.int32(row[i]) << np.int32(BITS)) - old[i])
            dst[b, a] = np.float32(total) * np.float32(1.0 / (3 * BLOCK * BLOCK << BITS))


@kernel
def _differences(crop: U8, kept: I32, dst: I32) -> None:
    """|crop - kept| summed over the channels, BITS behind the point."""
    side = crop.shape[0]
    for j in range(side):
        row, old = crop[j].reshape(-1), kept[j].reshape(-1)
        for i in range(side):
            k = 3 * i
            dst[j, i] = (
                abs((np.int32(row[k]) << np.int32(BITS)) - old[k])
                + abs((np.int32(row[k + 1]) << np.int32(BITS)) - old[k + 1])
                + abs((np.int32(row[k + 2]) << np.int32(BITS)) - old[k + 2])
            )


@kernel
def calm_crop(crop: U8, kept: I32, sums: I32, column: I32, weights: I32) -> None:
    """Move ``kept`` (S, S, 3; BITS behind the point) towards ``crop`` (S, S, 3), and write it back
    into ``crop``; S > RADIUS.

    ``weights`` (n,): 0..256 by the mean difference around the pixel in quarters of a level, the last for all above.
    ``sums`` (S, S) and ``column`` (S,) are scratch. Beyond the border nothing differs: there it is a little calmer.
    """
    side = crop.shape[0]
    _differences(crop, kept, sums)
    column[:] = 0
    last = np.int32(weights.shape[0] - 1)
    scale = np.float32(4.0 / ((3 * (2 * RADIUS + 1) ** 2) << BITS))
    for j in range(RADIUS):
        for i in range(side):
            column[i] += sums[j, i]
    for j in range(side):
        if j + RADIUS < side:
            for i in range(side):
                column[i] += sums[j + RADIUS, i]
        if j > RADIUS:
            for i in range(side):
                column[i] -= sums[j - RADIUS - 1, i]
        total = np.int32(0)
        for i in range(RADIUS):
            total += column[i]
        row, old = crop[j].reshape(-1), kept[j].reshape(-1)
        for i in range(side):
            if i + RADIUS < side:
                total += column[i + RADIUS]
            if i > RADIUS:
                total -= column[i - RADIUS - 1]
            weight = weights[min(np.int32(np.float32(total) * scale), last)]
            for k in range(3 * i, 3 * i + 3):
                old[k] += (((np.int32(row[k]) << np.int32(BITS)) - old[k]) * weight + np.int32(128)) >> np.int32(8)
                row[k] = np.uint8((old[k] + np.int32(1 << (BITS - 1))) >> np.int32(BITS))


def warm_up_calm() -> None:
    """Compile (or load from the cache) for the types of the live path."""
    calm, crop = CropCalm(CalmConfig()), np.zeros((SMALLEST, SMALLEST, 3), np.uint8)
    for t_s in (0.0, 0.1):
        calm(crop, t_s)


@dataclass(frozen=True)
class CalmConfig:
    """How calm. Levels are of 255, lengths are sides of the crop."""

    on: bool = True
    crop_hz: float = 1.6
    """Low-pass of pixels that are still: at 30 frames a second a quarter of a new one."""
    points_hz: float = 1.6
    """The same of the mesh's points."""
    points_noise: float = 0.006
    """Points of a still face tremble by half of this from frame to frame."""
    points_moved: float = 0.015
    """A point that is so far from its average moves. An open mouth is ten times as high."""


STILL, MOVED = 1.6, 3.0
"""Times the noise: surroundings that differ by no more are still, by more they moved."""
QUIET_SHARE = 0.25
"""Of the crop's squares so many are taken to be still; what they change by is noise."""
LEAST_NOISE, FIRST_NOISE, MOST_NOISE = 0.3, 2.5, 4.0
"""Levels. At first a moving face must not pass for noise, and none is believed to be above the last."""
NOISE_GROWS = 0.3
"""Noise is believed to grow by so much of itself a second at the most; it falls within a few frames."""
LONGEST_S = 0.5
"""After a longer gap what was is forgotten."""


class CropCalm:
    """Averages a crop's still parts over time, in place. One thread; restarts by itself when the size changes."""

    def __init__(self, config: CalmConfig) -> None:
        self.config = config
        self._allocate(0)
        self.reset()

    def _allocate(self, side: int) -> None:
        self._kept: I32 = np.zeros((side, side, 3), np.int32)
        self._sums: I32 = np.zeros((side, side), np.int32)
        self._column: I32 = np.zeros(side, np.int32)
        self._blocks: F32 = np.zeros((side // BLOCK, side // BLOCK), np.float32)
        self._weights: I32 = np.zeros(math.ceil(4 * MOVED * MOST_NOISE) + 2, np.int32)
        self._levels = (np.arange(len(self._weights)) + 0.5) / 4.0

    def reset(self) -> None:
        """Forget the crop and the noise; the next one passes unchanged."""
        self.noise: float | None = None
        """Levels by which still surroundings differ from their average; None: not known yet."""
        self._t_s: float | None = None

    def __call__(self, crop: U8, t_s: float) -> None:
        """``crop`` (S, S, 3) of the frame taken at ``t_s`` seconds, any origin; contiguous. It is overwritten."""
        side = len(crop)
        if side < SMALLEST:
            return
        if side != len(self._kept):
            self._allocate(side)
            self.reset()
        last, self._t_s = self._t_s, t_s
        dt_s = 0.0 if last is None else t_s - last
        if not 0.0 < dt_s <= LONGEST_S:
            # The first one, or a clock that stands still, ran back or left a gap.
            np.left_shift(crop, BITS, out=self._kept, dtype=np.int32, casting="unsafe")
            return
        block_differences(crop, self._kept, self._blocks)
        noise = self._heard(dt_s)
        moved = np.clip((self._levels / noise - STILL) / (MOVED - STILL), 0.0, 1.0)
        still = low_pass_weight(self.config.crop_hz, dt_s)
        np.rint(256.0 * (still + (1.0 - still) * moved), out=self._weights, casting="unsafe")
        calm_crop(crop, self._kept, self._sums, self._column, self._weights)

    def _heard(self, dt_s: float) -> float:
        """Noise by the stillest squares: as the least of the last second or so, for a moving face is no noise."""
        squares = self._blocks.ravel()
        at = int(QUIET_SHARE * len(squares))
        now = float(np.partition(squares, at)[at])
        if self.noise is None:
            self.noise = min(now, FIRST_NOISE)
        elif now < self.noise:
            self.noise = max(now, 0.8 * self.noise)
        else:
            self.noise = min(now, self.noise * math.exp(NOISE_GROWS * dt_s), MOST_NOISE)
        self.noise = max(self.noise, LEAST_NOISE)
        return self.noise


class Calm:
    """Both inputs of the network over one track. One thread; ``config`` is asked for each frame."""

    def __init__(self, config: Callable[[], CalmConfig] = CalmConfig) -> None:
        self._of = config
        self._config = config()
        self._crop = CropCalm(self._config)
        c = self._config
        self._points = StillOrMoving(c.points_hz, c.points_noise, c.points_moved, rows=True)

    def __call__(self, crop: U8, points: F32 | None, t_s: float) -> None:
        """Calm ``crop`` (S, S, 3) and ``points`` (N, 2), fractions of its side, of the frame at ``t_s``, in place."""
        config = self._of()
        if config != self._config:
            if not config.on:
                self.reset()
            self._config = self._crop.config = config
            self._points.tune(config.points_hz, config.points_noise, config.points_moved)
        if not config.on:
            return
        self._crop(crop, t_s)
        if points is not None:
            points[:] = self._points(points, t_s)

    def reset(self) -> None:
        """Forget the face: what comes next passes unchanged."""
        self._crop.reset()
        self._points.reset()
