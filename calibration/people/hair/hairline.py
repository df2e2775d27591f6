"""Where hair grows on the head: the hairline of a person, how dense it is, and the shade painted under it.

Everything is computed from positions on the average head, so that it sits at the same place on every head shape.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.people.face.noise import fractal, noise, smoothstep
from calibration.people.hair.style import Hair

_ANGLES = (0, 25, 38, 45, 52, 57, 62, 67, 75, 86, 98, 115, 140, 180)
"""Degrees around the head from straight ahead."""
_HEIGHTS = (7.885, 7.89, 7.84, 7.72, 7.54, 7.41, 7.21, 7.09, 7.04, 7.00, 7.12, 6.92, 6.68, 6.55)
"""Of the hairline there, in decimetres: forehead, temple, sideburn before the ear, behind the ear, neck."""
_CROWN = (0.0, 8.33, -0.12)
_PART_WIDTH = 0.011


def hairline_height(points: NDArray[np.floating], hair: Hair | None = None) -> NDArray[np.floating]:
    """Height above the hairline in decimetres at (..., 3) points of the average head; negative on the face.

    Without ``hair`` an even, average hairline. With it this person's: its height, receding temples, widow's peak.
    """
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    around = np.degrees(np.arctan2(np.abs(x), z - 0.35))
    height = y - np.interp(around, _ANGLES, _HEIGHTS)
    if hair is None:
        return np.asarray(height)
    front = smoothstep(0.45, 0.75, z)
    temples = np.exp(-(((np.abs(x) - 0.36) / 0.17) ** 2))
    height = height - front * (hair.hairline + hair.recede * (0.9 * temples + 0.25))
    height = height + front * hair.peak * np.exp(-((x / 0.10) ** 2))
    if hair.parted and hair.style == "long":  # a parting opens behind the hairline, not as a notch in it
        height = height + 0.035 * front * np.exp(-(((x - hair.part) / 0.06) ** 2))
    if hair.temple:
        around = np.degrees(np.arctan2(np.abs(x), z - 0.35))
        height = height + hair.temple * np.exp(-(((around - 54) / 16) ** 2))
    # Women's sideburns are short and wispy, men's reach the middle of the ear.
    height = height - hair.sideburn * smoothstep(0.55, 0.66, np.abs(x)) * smoothstep(0.2, 0.4, z)
    return np.asarray(height)


def uneven_height(points: NDArray[np.floating], hair: Hair, seed: int) -> NDArray[np.floating]:
    """``hairline_height`` with this head's irregular edge, so that no line is drawn."""
    wobble = 0.022 * noise(points, 7, seed + 70) + 0.022 * fractal(points, 26, 2, seed + 71)
    # Beside the face the edge wanders more: sideburns and temples are never straight.
    side = 1 + 0.8 * smoothstep(0.40, 0.55, np.abs(points[..., 0]))
    return np.asarray(hairline_height(points, hair) + wobble * side)


def hair_density(points: NDArray[np.floating], hair: Hair, seed: int) -> NDArray[np.floating]:
    """0..1 at (..., 3) points of the average head: share of the scalp that hair covers, soft at the hairline."""
    density = smoothstep(-0.03, 0.15, uneven_height(points, hair, seed))
    if hair.thin > 0:
        d = (points - np.array(_CROWN)) / np.array([0.52, 0.6, 0.62])
        bare = np.exp(-((d * d).sum(-1) ** 1.5))
        density = density * (1 - np.clip(hair.thin * 1.25 * bare, 0, 1))
    if hair.style == "bald":
        density = density * 0.0
    return np.asarray(density)


def part_line(points: NDArray[np.floating], hair: Hair, seed: int) -> NDArray[np.floating]:
    """0..1 at (..., 3) points of the average head: the thin line of scalp that a parting shows."""
    if not hair.parted:
        return np.zeros(points.shape[:-1])
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    wobble = 0.012 * noise(points, 8, seed + 74)
    across = np.exp(-(((x - hair.part + wobble) / _PART_WIDTH) ** 2))
    behind = (
        smoothstep(-0.05, 0.25, z) * smoothstep(7.7, 7.85, y) * smoothstep(0.04, 0.16, hairline_height(points, hair))
    )
    return np.asarray(across * behind * 0.6)


def scalp_shade(points: NDArray[np.floating], hair: Hair, seed: int) -> NDArray[np.floating]:
    """0..1 at (..., 3) points of the average head: how much of the hair's colour is painted on the skin."""
    if hair.style == "bald":
        shaved = hair.thin * smoothstep(7.5, 8.2, points[..., 1])
        density = smoothstep(-0.03, 0.14, uneven_height(points, hair, seed)) * (1 - shaved)
        grain = 0.25
    elif hair.temple:  # tied hair leaves the hairline bare: it begins as single hairs
        density = smoothstep(-0.075, 0.16, uneven_height(points, hair, seed)) ** 1.4
        density, grain = np.minimum(density, hair_density(points, hair, seed) + 0.5), 1.0
    else:
        density, grain = hair_density(points, hair, seed) * (1 - part_line(points, hair, seed)), 0.25
    grain = 1 + grain * (noise(points, 90, seed + 75) - 0.5) * (1 - density)
    return np.asarray(np.clip(density * grain, 0, 1) * hair.scalp)
