"""Which way hair is combed, how long it is and how far it stands off, for every style."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.people.face.noise import smoothstep
from calibration.people.hair.hairline import hairline_height
from calibration.people.hair.style import Hair
from calibration.people.head.mesh import Points

CROWN = np.array([0.05, 8.33, -0.15])
TIES = {"tied": np.array([0.0, 8.02, -0.55]), "bun": np.array([0.0, 8.38, -0.30])}
"""Where tied hair comes together, on the average head."""


@dataclass(frozen=True)
class Comb:
    """Per tuft, n of them."""

    direction: Points
    """(n, 3) along the head, any length."""
    length: Points
    """(n,) decimetres."""
    lift: Points
    """(n,) share of the outward direction at the root."""
    pull: Points
    """(n, 3) how hair bends per step: the ground's pull, or a comb's and a dryer's."""
    fringe: NDArray[np.bool_]
    """(n,) whether the tuft falls over the forehead."""


def _away(base: Points) -> Points:
    """From the whorl outwards: forward on the forehead, down at the sides and at the back."""
    return np.asarray(base - CROWN)


def _short(hair: Hair, base: Points, top: Points, front: Points) -> tuple[Points, Points, Points]:
    """Direction, length and lift of the cuts that end above the ears."""
    n, x = len(base), base[:, 0]
    comb, lift = _away(base), np.full(n, hair.lift)
    sides = (1 - top)[:, None] * np.array([0.0, -0.7, -0.35])
    length = hair.side + (hair.top - hair.side) * top
    length = length * (1 - front) + np.minimum(length, hair.front) * front
    if hair.style == "side":
        far = smoothstep(-0.03, 0.03, (x - hair.part) * -np.sign(hair.part))
        backward = -0.10 - 0.75 * smoothstep(0.9, 0.2, base[:, 2])
        toward = np.stack([-np.sign(hair.part) * (2 * far - 1), 0.2 - 0.6 * (1 - far), backward], 1)
        comb = comb * 0.1 + toward * top[:, None]
        lift = lift * (0.15 + 0.85 * far) * (0.15 + 0.85 * top) * (1 + 0.6 * front)
        length = length * np.where(far > 0.5, 1.0, 0.75)
    elif hair.style == "quiff":
        up = np.stack([hair.sweep * 0.5 + 0 * x, 0.5 + 0.6 * front, -0.9 + 0.5 * front], 1)
        comb, lift = up * top[:, None] + comb * 0.15, lift * (0.15 + 0.35 * top + 0.5 * front)
    elif hair.style == "back":
        comb = np.stack([0.2 * x, 0.1 - 0.6 * (1 - top), np.full(n, -1.0)], 1)
    else:
        comb = comb + np.stack([hair.sweep * 0.6 * top, 0 * x, 0.45 * top], 1)
        lift = lift * (0.2 + 0.8 * top)
    return comb + sides, length, lift


def _long(hair: Hair, base: Points, top: Points) -> tuple[Points, Points, Points]:
    """From the parting down both sides."""
    off = base[:, 0] - hair.part
    away = np.clip(np.abs(off) / 0.35, 0, 1)
    behind = smoothstep(0.1, -0.3, base[:, 2])[:, None]
    comb = np.stack([np.sign(off) * (0.75 + 0.25 * away), -0.25 + 0.3 * (1 - away), -0.42 + 0.12 * away], 1)
    comb = comb * (1 - behind) + _away(base) * behind
    length = hair.side + (hair.top - hair.side) * top
    # What grows at the back starts lower: the ends meet at one height.
    length = length - np.clip(8.3 - base[:, 1], 0, 1.5) * 0.75
    return comb, np.maximum(length, 0.5), hair.lift * (0.35 + 0.65 * top)


def comb_hair(hair: Hair, base: Points, rng: np.random.Generator) -> Comb:
    """Comb tufts that root at (n, 3) ``base`` on the average head."""
    n = len(base)
    height = hairline_height(base, hair)
    top = np.asarray(smoothstep(7.62, 8.12, base[:, 1]))
    front = np.asarray(smoothstep(0.38, 0.05, height) * smoothstep(0.45, 0.85, base[:, 2]))
    pull = np.tile([0.0, -hair.gravity, 0.0], (n, 1))
    if hair.style == "quiff":  # blown upwards and back
        pull = pull + top[:, None] * np.array([0.10 * hair.sweep, 0.0, -0.34])
    if hair.style in ("long", "ringlets"):
        direction, length, lift = _long(hair, base, top)
    elif hair.style in TIES:
        direction = TIES[hair.style] - base
        length, lift = np.linalg.norm(direction, axis=1) * 1.2, np.full(n, hair.lift)
    else:
        direction, length, lift = _short(hair, base, top, front)
    reach = 0.36 if hair.style in ("long", "ringlets") else 0.30
    fringe = (
        (height < reach)
        & (base[:, 2] > 0.6)
        & (rng.random(n) < hair.fringe * smoothstep(0.66, 0.50, np.abs(base[:, 0])))
    )
    falls = np.stack([base[:, 0] * 0.35 + hair.sweep * 0.55, np.full(n, -0.25), np.full(n, 1.0)], 1)
    direction = np.where(fringe[:, None], falls, direction / (np.linalg.norm(direction, axis=1, keepdims=True) + 1e-9))
    down = np.clip(base[:, 1] - 7.52, 0.1, 0.8) * (1.1 + 0.25 * abs(hair.sweep)) + 0.06
    if hair.style not in ("long", "ringlets", *TIES):
        down = np.minimum(down, hair.front * 1.15)
    length = np.where(fringe, down, length) * np.clip(rng.normal(1, 0.12, n), 0.6, 1.4)
    return Comb(
        direction, length, np.where(fringe, 0.35, lift), np.where(fringe[:, None], [0.0, -0.5, 0.0], pull), fringe
    )
