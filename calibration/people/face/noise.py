"""Seeded value noise in space, and the small shaping functions that the procedural parts share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

F32 = NDArray[np.float32]


@lru_cache(maxsize=1)
def _lattice() -> F32:
    return np.random.default_rng(7).standard_normal((64, 64, 64)).astype(np.float32)


def noise(points: NDArray[np.floating], frequency: float, seed: int = 0, stretch: Sequence[float] = (1, 1, 1)) -> F32:
    """Smooth noise of about unit variance at (..., 3) points; ``frequency`` in cells per decimetre."""
    offset = np.array([seed * 17.3, seed * 5.1, seed * 9.7]) % 64
    q = points * (np.array(stretch) * frequency) + offset
    values = map_coordinates(_lattice(), [q[..., k].ravel() for k in range(3)], order=1, mode="grid-wrap")
    return np.asarray(values, np.float32).reshape(points.shape[:-1])


def fractal(points: NDArray[np.floating], frequency: float, octaves: int, seed: int = 0, gain: float = 0.55) -> F32:
    """Octaves of noise, each twice as fine and ``gain`` times as strong."""
    total, amplitude, power = np.zeros(points.shape[:-1], np.float32), 1.0, 0.0
    for k in range(octaves):
        total += amplitude * noise(points, frequency * 2**k, seed + k)
        power += amplitude**2
        amplitude *= gain
    return total / np.float32(np.sqrt(power)) * np.float32(1.4)


def smoothstep(low: float, high: float, x: NDArray[np.floating]) -> NDArray[np.floating]:
    """0 below ``low``, 1 above ``high`` (or the other way round), smooth in between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def blob(points: NDArray[np.floating], centre: Sequence[float], radius: Sequence[float]) -> NDArray[np.floating]:
    """A soft ellipsoid: 1 at its centre."""
    d = (points - np.array(centre, np.float32)) / np.array(radius, np.float32)
    return np.asarray(np.exp(-(d * d).sum(-1)))
