"""From light to a webcam's picture: scattering under the skin, a room behind, lens, tone curve, sensor noise, codec."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
_SCATTER_DM = (0.026, 0.013, 0.008)
"""Blur radius (sigma) of red, green and blue light under the skin."""
_ROOM = (320, 180)
"""Rooms are out of focus, so they are painted small."""


@dataclass(frozen=True)
class Layers:
    """What the shaders wrote, (H, W, 4) linear RGB: albedo + coverage, irradiance + scattering, gloss + class."""

    albedo: F32
    irradiance: F32
    gloss: F32
    glare: F32
    """(H, W) 0..1: how much of what is behind a lens its reflection hides."""


@dataclass(frozen=True)
class Sensor:
    """The camera's own faults. ``noise`` is the standard deviation at mid grey, 0..1."""

    noise: float = 0.008
    softness_px: float = 0.45
    jpeg_quality: int | None = 90
    exposure: float = 1.0


def _scatter(layers: Layers, px_per_dm: float) -> F32:
    """Blur irradiance where the surface scatters, per colour, weighted so that nothing bleeds over the outline."""
    coverage = np.maximum(layers.albedo[..., 3], 1e-3)
    light: F32 = np.asarray(layers.irradiance[..., :3] / coverage[..., None], np.float32)
    amount = layers.irradiance[..., 3] / coverage * (layers.albedo[..., 3] > 0.02)
    rows, columns = np.nonzero(amount > 0.2)
    if not len(rows):
        return light
    pad = int(0.08 * px_per_dm) + 2
    box = (slice(max(rows.min() - pad, 0), rows.max() + pad), slice(max(columns.min() - pad, 0), columns.max() + pad))
    weight = np.ascontiguousarray(amount[box])
    for channel, radius in enumerate(_SCATTER_DM):
        sigma = radius * px_per_dm
        inside = np.ascontiguousarray(light[box][..., channel])
        blurred = cv2.GaussianBlur(inside * weight, (0, 0), sigma) / np.maximum(
            cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3
        )
        light[box][..., channel] = inside * (1 - weight) + blurred * weight
    return light


def tone_curve(linear: F32, exposure: float) -> F32:
    """A soft shoulder and the 2.2 power: linear light -> 0..1."""
    x = np.maximum(linear * exposure, 0)
    x = x * (1 + x * 0.06) / (1 + x * 0.38) * 1.22
    return np.asarray(np.clip(x, 0, 1) ** (1 / 2.2), np.float32)


def develop(
    layers: Layers, size: tuple[int, int], room: F32, px_per_dm: float, sensor: Sensor, noise_seed: int
) -> NDArray[np.uint8]:
    """(H, W, 3) BGR uint8 of ``size`` (width, height) from supersampled layers and a linear RGB ``room`` (H, W, 3)."""
    coverage = layers.albedo[..., 3:4]
    safe = np.maximum(coverage, 1e-3)
    lit = (layers.albedo[..., :3] / safe * _scatter(layers, px_per_dm) + layers.gloss[..., :3] / safe) * coverage
    both = np.concatenate([np.minimum(lit, 6), coverage], 2)
    both = cv2.resize(both, size, interpolation=cv2.INTER_AREA)
    linear = both[..., :3] + room * (1 - both[..., 3:])
    if sensor.softness_px > 0:
        linear = cv2.GaussianBlur(linear, (0, 0), sensor.softness_px)
    picture = tone_curve(np.asarray(linear, np.float32), sensor.exposure)
    if sensor.noise > 0:
        rng = np.random.default_rng(noise_seed)
        height, width = picture.shape[:2]
        fine = rng.standard_normal((height, width, 1), np.float32) * sensor.noise
        chroma = rng.standard_normal(((height + 1) // 2, (width + 1) // 2, 3), np.float32) * (sensor.noise * 0.5)
        coarse = chroma.repeat(2, 0).repeat(2, 1)[:height, :width]
        picture = picture + (fine + coarse) * (0.6 + 0.8 * (1 - picture))
    bgr = (np.clip(picture[..., ::-1], 0, 1) * 255 + 0.5).astype(np.uint8)
    if sensor.jpeg_quality is not None:
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, sensor.jpeg_quality])
        bgr = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(bgr)


def background(seed: int, size: tuple[int, int], frame_to_picture: NDArray[np.float64]) -> F32:
    """A defocused room (H, W, 3), linear RGB, as the camera sees it behind the crop or frame of ``size``."""
    room = _room(seed)
    scale = _ROOM[1] / 720.0
    to_picture = frame_to_picture @ np.array([[1 / scale, 0, 0], [0, 1 / scale, 0], [0, 0, 1.0]])
    return np.asarray(
        cv2.warpAffine(room, to_picture, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.float32
    )


@lru_cache(maxsize=8)
def _room(seed: int) -> F32:
    rng = np.random.default_rng([seed, 103])
    width, height = _ROOM
    wall = rng.uniform(0.03, 0.45) * np.exp(rng.normal(0, 0.15, 3))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / height
    picture = (wall * (1.1 - 0.4 * y + 0.2 * (x - 0.9) * rng.choice([-1, 1]))[..., None]).astype(np.float32)
    for _ in range(int(rng.integers(2, 9))):  # shelves, pictures, windows
        left, top = rng.uniform(0, width), rng.uniform(-20, height)
        w, h = rng.uniform(8, 110), rng.uniform(8, 80)
        colour = rng.uniform(0.02, 0.5) * np.exp(rng.normal(0, 0.35, 3)) * (4 if rng.random() < 0.15 else 1)
        corner = (int(left + w), int(top + h))
        cv2.rectangle(picture, (int(left), int(top)), corner, tuple(float(c) for c in colour), -1)
    for _ in range(int(rng.integers(0, 14))):  # lamps out of focus
        centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height * 0.8)))
        glow = rng.uniform(0.1, 1.2) * np.exp(rng.normal(0, 0.4, 3))
        cv2.circle(picture, centre, int(rng.uniform(3, 10)), tuple(float(c) for c in glow), -1, cv2.LINE_AA)
    sigma = float(rng.uniform(1.5, 5.0))
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.float32)
