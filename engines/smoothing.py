"""The one-euro filter: calm when still, prompt when moving.

Casiez, Roussel, Vogel: "1 EUR filter: a simple speed-based low-pass filter for noisy input in interactive systems",
CHI 2012. Time is an argument, so files and cameras at any rate are filtered alike.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from engines.types import F64


def _alpha(cutoff_hz: F64, dt_s: float) -> F64:
    """Weight of the new value in a first-order low-pass of that cutoff."""
    tau = 1.0 / (2.0 * math.pi * cutoff_hz)
    return 1.0 / (1.0 + tau / dt_s)


class OneEuro:
    """Filters arrays of one fixed shape, each element by itself."""

    def __init__(self, min_cutoff: float, beta: float, d_cutoff: float = 1.0) -> None:
        """``min_cutoff`` (Hz) is the low-pass of a still value, ``d_cutoff`` (Hz) that of the speed estimate.

        The cutoff grows by ``beta`` Hz for each unit per second of speed.
        """
        self._min_cutoff, self._beta, self._d_cutoff = min_cutoff, beta, np.float64(d_cutoff)
        self.reset()

    def tune(self, min_cutoff: float, beta: float) -> None:
        """Other constants from the next value on; what was filtered so far stays."""
        self._min_cutoff, self._beta = min_cutoff, beta

    def reset(self) -> None:
        """Forget everything; the next value passes unchanged."""
        self._value: F64 | None = None
        self._speed: F64 | None = None
        self._t_s = 0.0

    def __call__(self, value: ArrayLike, t_s: float, *, unit: ArrayLike = 1.0) -> F64:
        """Filter ``value`` measured at ``t_s`` (seconds, any origin).

        Speeds are counted in multiples of ``unit`` (the size of the thing that moves; a number or one per element), so
        that one set of parameters suits near and far faces. A time that does not advance returns the last result. The
        result is the caller's.
        """
        x = np.array(value, np.float64)
        if self._value is None or self._speed is None:
            self._value, self._speed, self._t_s = x, np.zeros_like(x), t_s
            return x.copy()
        dt_s = t_s - self._t_s
        if dt_s <= 0.0:
            return self._value.copy()
        speed = (x - self._value) / (dt_s * np.asarray(unit, np.float64))
        self._speed = self._speed + _alpha(np.asarray(self._d_cutoff), dt_s) * (speed - self._speed)
        cutoff = self._min_cutoff + self._beta * np.abs(self._speed)
        self._value = self._value + _alpha(cutoff, dt_s) * (x - self._value)
        self._t_s = t_s
        return self._value.copy()
