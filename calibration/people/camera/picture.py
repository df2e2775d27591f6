"""From the shaders' layers to a photograph: light scatters under the skin, a room lies behind, a sensor looks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.people.camera.sensor import Sensor, photograph

F32 = NDArray[np.float32]
_SCATTER_DM = (0.026, 0.013, 0.008)
"""Blur radius (sigma) of red, green and blue light under the skin."""
_HALF_FROM_PX = 2.2
"""A wider blur than this is done at half size: it leaves nothing that half size cannot hold."""
_BRIGHTEST = 6.0


@dataclass(frozen=True)
class Layers:
    """What the shaders wrote, (H, W, 4) linear RGB: albedo + coverage, irradiance + scattering, gloss + class."""

    albedo: F32
    irradiance: F32
    gloss: F32
    glare: F32
    """(H, W) 0..1: how much of what is behind a lens its reflection hides."""


def _blur(values: F32, sigma: float) -> F32:
    if sigma < _HALF_FROM_PX:
        return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma), np.float32)
    height, width = values.shape[:2]
    half = cv2.resize(values, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
    half = cv2.GaussianBlur(half, (0, 0), sigma / 2)
    return np.asarray(cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _scattered(layers: Layers, px_per_dm: float) -> F32:
    """(H, W, 4) irradiance, blurred where the surface scatters, per colour; nothing bleeds over the outline."""
    coverage = layers.albedo[..., 3]
    light = np.asarray(layers.irradiance / np.maximum(coverage, np.float32(1e-3))[..., None], np.float32)
    amount = light[..., 3]
    amount[coverage <= 0.02] = 0
    box = _bounds(amount > 0.2, int(0.08 * px_per_dm) + 2)
    if box is None:
        return light
    weight = np.ascontiguousarray(amount[box])
    for channel, radius in enumerate(_SCATTER_DM):
        sigma = radius * px_per_dm
        if sigma < 0.3:
            continue
        inside = np.ascontiguousarray(light[box][..., channel])
        product: F32 = inside * weight
        blurred = _blur(product, sigma) / np.maximum(_blur(weight, sigma), np.float32(1e-3))
        light[box][..., channel] = inside + (blurred - inside) * weight
    return light


def _bounds(where: NDArray[np.bool_], pad: int) -> tuple[slice, slice] | None:
    """The rectangle around True, ``pad`` larger on all sides."""
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    if not len(rows):
        return None
    return (
        slice(max(int(rows[0]) - pad, 0), int(rows[-1]) + pad),
        slice(max(int(columns[0]) - pad, 0), int(columns[-1]) + pad),
    )


def composite(layers: Layers, size: tuple[int, int], room: F32, px_per_dm: float) -> F32:
    """(H, W, 3) linear RGB of ``size`` (width, height) from supersampled layers before a linear ``room`` (H, W, 3)."""
    lit = layers.albedo * _scattered(layers, px_per_dm) + layers.gloss
    np.minimum(lit, np.float32(_BRIGHTEST), out=lit)
    lit[..., 3] = layers.albedo[..., 3]
    both = cv2.resize(lit, size, interpolation=cv2.INTER_AREA)
    return np.asarray(both[..., :3] + room * (1 - both[..., 3:]), np.float32)


def develop(
    layers: Layers,
    size: tuple[int, int],
    room: F32,
    px_per_dm: float,
    sensor: Sensor,
    noise_seed: int,
    scale: float = 1.0,
) -> NDArray[np.uint8]:
    """(H, W, 3) BGR uint8 of ``size`` (width, height). ``scale``: pixels of this picture per pixel of the frame."""
    return photograph(composite(layers, size, room, px_per_dm), sensor, noise_seed, scale)
