"""What somebody wears: cut of the neck, colours, pattern, and how far the cloth stands off the body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibration.people.face.noise import smoothstep
from calibration.people.traits import Colour

Garment = Literal["tee", "v_neck", "shirt", "hoodie", "turtleneck"]
Pattern = Literal["plain", "stripes", "checks", "ribs"]
GARMENTS: tuple[Garment, ...] = ("tee", "v_neck", "shirt", "hoodie", "turtleneck")
PATTERNS: tuple[Pattern, ...] = ("plain", "stripes", "checks", "ribs")
_HIGHEST = 5.97
"""Necklines end below the chin, decimetres on the average body."""


@dataclass(frozen=True)
class Wardrobe:
    """The clothes of one person."""

    garment: Garment = "tee"
    colour: Colour = (0.2, 0.2, 0.2)
    second: Colour = (0.5, 0.5, 0.5)
    """Of stripes, checks, seams and the lining of a hood."""
    pattern: Pattern = "plain"
    neckline: float = 5.62
    """Height of the neckline in decimetres on the average body."""

    @property
    def v_depth(self) -> float:
        """How much deeper the neckline is in front."""
        return {"v_neck": 0.42, "shirt": 0.38, "hoodie": 0.1}.get(self.garment, 0.0)

    def uniforms(self) -> dict[str, float | Colour | tuple[float, float]]:
        """For the shaders of skin and cloth."""
        return {
            "cloth": self.colour,
            "cloth_second": self.second,
            "neckline": self.neckline,
            "v_depth": self.v_depth,
            "cloth_kind": (float(PATTERNS.index(self.pattern)), float(GARMENTS.index(self.garment))),
        }

    def below_neckline(self, average: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n,) decimetres below the neckline at (n, 3) points of the average body, as ``skin_common.glsl`` has it."""
        x, y, z = average.T
        r = np.hypot(x, (z - 0.15) * 0.9)
        v = self.v_depth * np.clip(1 - np.abs(x) / 0.40, 0, 1) * smoothstep(0.3, 0.8, z)
        return np.asarray(
            self.neckline - v - 0.10 * smoothstep(0.2, 1.2, z) + 0.35 * smoothstep(0.35, 0.9, r) - y, np.float64
        )

    def thickness(self, average: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n,) decimetres by which the cloth stands off the body at (n, 3) points of the average body."""
        depth = self.below_neckline(average)
        cover = smoothstep(-0.02, 0.10, depth)
        collar = np.exp(-(((depth - 0.14) / 0.11) ** 2))
        behind = 0.6 + 0.7 * smoothstep(0.4, -0.4, average[:, 2])
        roll = {"hoodie": 0.20, "turtleneck": 0.05, "shirt": 0.07}.get(self.garment, 0.0)
        return np.asarray(0.02 * cover + roll * collar * cover * (behind if self.garment == "hoodie" else 1.0))


def _colour(rng: np.random.Generator) -> Colour:
    """Clothes are mostly dark, grey, white or navy, now and then bright."""
    kind = rng.random()
    if kind < 0.55:
        value = np.full(3, rng.choice([0.015, 0.03, 0.08, 0.2, 0.45, 0.62])) * np.exp(rng.normal(0, 0.12, 3))
    elif kind < 0.8:
        value = np.array([0.04, 0.06, 0.13])[rng.permutation(3)] * rng.uniform(0.6, 2.5)
    else:
        value = rng.uniform(0.03, 0.5, 3)
    r, g, b = (float(v) for v in np.clip(value, 0.008, 0.68))
    return r, g, b


def random_wardrobe(rng: np.random.Generator) -> Wardrobe:
    """Something to wear, from the rng's draws only."""
    garment: Garment = GARMENTS[int(rng.choice(len(GARMENTS), p=[0.42, 0.14, 0.16, 0.18, 0.10]))]
    pattern: Pattern = PATTERNS[int(rng.choice(len(PATTERNS), p=[0.62, 0.16, 0.12, 0.10]))]
    if garment == "hoodie":
        pattern = "plain"
    neckline = float(rng.uniform(5.5, 5.72))
    if garment in ("hoodie", "shirt"):
        neckline = float(rng.uniform(5.72, 5.8))
    if garment == "turtleneck":
        neckline = float(rng.uniform(5.9, _HIGHEST))
    return Wardrobe(garment, _colour(rng), _colour(rng), pattern, neckline)
