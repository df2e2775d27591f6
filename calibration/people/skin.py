"""Skin as two textures, computed from positions on the average head, so that every detail sits at the same place.

Colour follows a two-pigment model (melanin and haemoglobin absorb per channel); blush, freckles, moles, stubble, lips
and wrinkles change the pigments or the height, never the colour directly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from calibration.people.identity import Identity
from calibration.people.noise import blob, fractal, noise, smoothstep

F32 = NDArray[np.float32]
TEXTURE_SIZE = (560, 1050)
"""Width, height of the head's island: two texels or more per pixel of a 720p picture."""
_BASE_ALBEDO = np.array([0.79, 0.675, 0.575], np.float32)
_MELANIN_ABSORBS = np.array([0.55, 0.95, 1.45], np.float32)
_BLOOD_ABSORBS = np.array([0.07, 0.53, 0.50], np.float32)
BROW_U = (0.0, 0.35, 0.68, 1.0)
BROW_Y = (7.462, 7.497, 7.508, 7.44)
BROW_X = (0.085, 0.54)


@dataclass(frozen=True)
class SkinMaps:
    """Textures of one person, bottom row first as OpenGL wants them."""

    colour: NDArray[np.uint8]
    """(H, W, 4): sRGB albedo, roughness."""
    relief: NDArray[np.uint8]
    """(H, W, 4): height, lips, scalp, face."""
    mean_albedo: F32
    """(3,) linear, for the neck and shoulders outside the island."""


def hairline_height(points: NDArray[np.floating]) -> NDArray[np.floating]:
    """Height above the hairline in decimetres at (..., 3) points of the average head; negative on the face."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    around = np.degrees(np.arctan2(np.abs(x), z - 0.35))
    angles = [0, 25, 38, 45, 52, 62, 75, 86, 98, 115, 140, 180]
    heights = [7.97, 7.97, 7.93, 7.85, 7.74, 7.55, 7.36, 7.12, 7.2, 6.98, 6.7, 6.55]
    return np.asarray(y - np.interp(around, angles, heights))


def brow_line(u: NDArray[np.floating], arch: float) -> NDArray[np.floating]:
    """Height of the brow's middle, from its inner end (u 0) to its outer end (u 1)."""
    return np.asarray(np.interp(u, BROW_U, BROW_Y) + arch * np.interp(u, BROW_U, (0, 0.6, 1.2, 0.2)))


@dataclass(frozen=True)
class _Regions:
    """Soft parts of the face, shared by colour and relief."""

    cheek: F32
    nose: F32
    chin: F32
    eyes: F32
    under: F32
    forehead: F32
    lips: F32


def _regions(mirrored: F32, lips: F32) -> _Regions:
    def part(centre: tuple[float, float, float], radius: tuple[float, float, float]) -> F32:
        return blob(mirrored, centre, radius).astype(np.float32)

    return _Regions(
        cheek=part((0.42, 6.95, 1.2), (0.22, 0.2, 0.5)),
        nose=part((0.03, 6.98, 1.6), (0.15, 0.16, 0.28)),
        chin=part((0, 6.33, 1.4), (0.2, 0.15, 0.4)),
        eyes=part((0.29, 7.3, 1.3), (0.24, 0.17, 0.4)),
        under=part((0.27, 7.2, 1.35), (0.17, 0.06, 0.3)),
        forehead=part((0, 7.8, 1.3), (0.5, 0.3, 0.6)),
        lips=gaussian_filter(lips, 0.6).astype(np.float32),
    )


def _pigments(who: Identity, points: F32, r: _Regions, masks: Mapping[str, F32], grain: F32) -> tuple[F32, F32]:
    skin, seed = who.skin, who.seed
    coarse, middle = fractal(points, 3, 3, seed + 1), fractal(points, 14, 3, seed + 11)
    melanin = skin.melanin * (1 + 0.06 * coarse + 0.05 * middle + 0.03 * grain)
    blood = skin.haemoglobin * (1 + 0.06 * coarse + 0.06 * middle + 0.05 * grain)
    blood *= 1 + skin.blush * (0.55 * r.cheek + 0.75 * r.nose + 0.35 * r.chin) + 0.7 * masks["ears"] - 0.12 * r.forehead
    melanin *= 1 + 0.10 * r.eyes + skin.under_eye * r.under + 0.06 * r.forehead + 0.15 * masks["eyelids"]
    blood *= (1 + 0.3 * r.under + 0.25 * r.eyes) * (1 + 0.35 * masks["eyelids"])
    if skin.freckles > 0:
        spots = smoothstep(1.5, 2.3, noise(points, 38, seed + 40) + 0.6 * noise(points, 19, seed + 41))
        melanin += skin.freckles * spots * np.clip(r.cheek + r.nose * 1.1 + 0.35 * r.forehead, 0, 1)
    rng = np.random.default_rng(seed + 5)
    for _ in range(skin.moles):
        x, y, radius = rng.uniform(-0.5, 0.5), rng.uniform(6.4, 7.9), rng.uniform(0.006, 0.013)
        distance = np.hypot(points[..., 0] - x, points[..., 1] - y)
        clear = (points[..., 2] > 0.9) & (r.lips < 0.1) & (r.eyes < 0.4)
        melanin += 0.8 * np.exp(-((distance / radius) ** 4)) * clear
    blood = blood * (1 + skin.lip_blood * r.lips) + 0.35 * r.lips
    melanin = melanin * (1 - 0.12 * r.lips) + skin.lip_melanin * r.lips
    return melanin.astype(np.float32), blood.astype(np.float32)


def _stubble(who: Identity, points: F32, mirrored: F32, lips: F32, grain: F32) -> F32:
    """0..0.8: where shaved hair darkens chin, jaw and upper lip."""
    ax, y, z = mirrored[..., 0], points[..., 1], points[..., 2]
    jaw = (
        smoothstep(6.78, 6.5, y - 0.38 * np.clip(ax - 0.25, 0, 1)) * smoothstep(0.25, 0.6, z) * smoothstep(5.85, 6.2, y)
    )
    where = np.clip(jaw + blob(mirrored, (0.1, 6.78, 1.5), (0.17, 0.055, 0.3)), 0, 1) * (1 - lips)
    where = where * (1 - 0.5 * blob(mirrored, (0.2, 6.52, 1.45), (0.06, 0.05, 0.2))) * smoothstep(0.72, 0.45, ax)
    dots = 0.75 + 0.35 * grain + 0.35 * noise(points, 170, who.seed + 60)
    return np.asarray(np.clip(who.skin.stubble * where * dots, 0, 0.8), np.float32)


def _relief(who: Identity, points: F32, mirrored: F32, r: _Regions, scalp: F32) -> F32:
    """Height in arbitrary units: pores, lip ridges and, with age, wrinkles."""
    seed, age = who.seed, who.age
    height = (noise(points, 110, seed + 80) + 0.7 * noise(points, 200, seed + 81)) * (
        0.55 + 0.35 * smoothstep(0.2, 0.9, points[..., 2])
    )
    height = height * (1 - 0.6 * r.lips) * (1 - 0.8 * scalp)
    if age > 0.05:
        lines = noise(points, 1, seed + 90, (2, 26, 2)) + 0.6 * noise(points, 1, seed + 91, (3, 44, 3))
        wrinkles = 1.2 * r.forehead * lines * smoothstep(0.5, 0.2, mirrored[..., 0])
        wrinkles = wrinkles + 1.7 * blob(mirrored, (0.53, 7.3, 1.05), (0.1, 0.16, 0.3)) * noise(
            points, 1, seed + 92, (9, 30, 9)
        )
        wrinkles = wrinkles + blob(mirrored, (0.3, 7.13, 1.35), (0.18, 0.08, 0.3)) * noise(
            points, 1, seed + 93, (12, 36, 12)
        )
        height = height + 2.2 * age * wrinkles
    return np.asarray(height + 1.6 * r.lips * noise(points, 1, seed + 95, (70, 8, 8)), np.float32)


def paint(who: Identity, points: F32, masks: Mapping[str, F32]) -> SkinMaps:
    """Textures of one person.

    ``points`` (H, W, 3) are positions on the average head per texel, ``masks`` (H, W) 0..1 the painted areas
    ``lips``, ``eyelids``, ``ears``, ``face``.
    """
    mirrored = np.concatenate([np.abs(points[..., :1]), points[..., 1:]], axis=-1)
    r = _regions(mirrored, masks["lips"])
    grain = fractal(points, 60, 2, who.seed + 21)
    melanin, blood = _pigments(who, points, r, masks, grain)
    hair = np.array(who.hair.colour, np.float32)
    if who.skin.stubble > 0:
        stubble = _stubble(who, points, mirrored, r.lips, grain)[..., None]
        blood = blood * (1 - 0.3 * stubble[..., 0])
    else:
        stubble = np.zeros((1, 1, 1), np.float32)
    albedo = _BASE_ALBEDO * np.exp(-melanin[..., None] * _MELANIN_ABSORBS - blood[..., None] * _BLOOD_ABSORBS)
    albedo = albedo * (1 - stubble) + (hair * 0.6 + 0.03) * stubble
    # Under the brow's strands a soft band of its colour, under the hair the scalp's shade.
    u = (mirrored[..., 0] - BROW_X[0]) / (BROW_X[1] - BROW_X[0])
    width = who.brow.thickness * np.interp(u, (0, 0.12, 0.6, 1), (0.85, 1.05, 0.9, 0.35))
    band = np.exp(-(((points[..., 1] - brow_line(u, who.brow.arch)) / (width * 1.15)) ** 2))
    band = band * smoothstep(-0.05, 0.10, u) * smoothstep(1.05, 0.85, u) * (points[..., 2] > 1.0) * 0.34
    albedo = albedo * (1 - band[..., None]) + np.array(who.brow.colour, np.float32) * band[..., None]
    edge = hairline_height(points) + 0.022 * fractal(points, 22, 2, who.seed + 70)
    scalp = np.asarray(smoothstep(-0.02, 0.12, edge) * (1 - masks["ears"]) * who.hair.scalp, np.float32)
    albedo = albedo * (1 - scalp[..., None]) + hair * 0.55 * scalp[..., None]
    oil = (0.35 * r.nose + 0.25 * r.forehead + 0.12 * r.cheek + 0.15 * r.chin) * who.skin.oil
    rough = np.clip(0.54 - 0.20 * oil - 0.16 * r.lips + 0.25 * scalp, 0.22, 0.9)
    height = np.clip(_relief(who, points, mirrored, r, scalp) * 0.08 + 0.5, 0, 1)
    srgb = np.clip(albedo, 0, 1) ** (1 / 2.2)
    bare = (masks["face"] > 0.9) & (masks["lips"] < 0.1)
    return SkinMaps(
        colour=(np.concatenate([srgb, rough[..., None]], -1) * 255 + 0.5).astype(np.uint8),
        relief=(np.stack([height, r.lips, scalp, masks["face"]], -1) * 255 + 0.5).astype(np.uint8),
        mean_albedo=(albedo[bare].mean(0) * np.array([0.92, 0.9, 0.9])).astype(np.float32),
    )
