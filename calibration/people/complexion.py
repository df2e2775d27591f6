"""Skin, brows and eyes of somebody: pigments, marks, colours, and the draw of them.

Melanin and haemoglobin are densities of the two-pigment skin model (0.1 very light .. 2.2 very dark; 0.35 .. 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.people.traits import Colour, Traits

_IRIDES: tuple[tuple[Colour, Colour], ...] = (
    ((0.055, 0.028, 0.012), (0.09, 0.045, 0.018)),
    ((0.16, 0.24, 0.32), (0.10, 0.13, 0.15)),
    ((0.10, 0.19, 0.10), (0.20, 0.14, 0.05)),
    ((0.12, 0.10, 0.05), (0.16, 0.09, 0.03)),
)


@dataclass(frozen=True)
class Skin:
    """Pigments and marks."""

    melanin: float
    haemoglobin: float = 0.42
    blush: float = 0.5
    freckles: float = 0.0
    moles: int = 2
    stubble: float = 0.0
    lip_blood: float = 0.8
    lip_melanin: float = 0.0
    under_eye: float = 0.25
    oil: float = 1.0


@dataclass(frozen=True)
class Brow:
    """Eyebrows, as strands over a soft painted band."""

    colour: Colour
    thickness: float = 0.024
    arch: float = 0.01
    length: float = 0.055
    strands: int = 520


def random_skin(rng: np.random.Generator, t: Traits) -> Skin:
    """Pigments and marks that fit the traits."""
    return Skin(
        melanin=t.melanin,
        haemoglobin=float(rng.uniform(0.36, 0.5)),
        blush=float(rng.uniform(0.2, 0.8) / (1 + t.melanin)),
        freckles=float(max(0.0, rng.normal(-0.2, 0.5))) if t.melanin < 0.3 else 0.0,
        moles=int(rng.integers(0, 5)),
        stubble=float(np.clip(rng.normal(0.22, 0.25), 0, 0.8)) if t.male else 0.0,
        lip_blood=float(rng.uniform(0.4, 0.8) if t.male else rng.uniform(0.5, 1.2)) * (0.5 if t.dark else 1.0),
        lip_melanin=-0.3 if t.dark else 0.0,
        under_eye=float(rng.uniform(0.1, 0.4)),
        oil=float(rng.uniform(0.7, 1.3)),
    )


def random_brow(rng: np.random.Generator, t: Traits, pigment: Colour, hair: Colour) -> Brow:
    """Brows between the hair's ``pigment`` and its greyed colour: they grey later."""
    return Brow(
        colour=(pigment[0] * 0.7 + hair[0] * 0.3, pigment[1] * 0.7 + hair[1] * 0.3, pigment[2] * 0.7 + hair[2] * 0.3),
        thickness=float(rng.uniform(0.024, 0.031) if t.male else rng.uniform(0.018, 0.024)),
        arch=float(rng.uniform(-0.005, 0.024)),
    )


def random_iris(rng: np.random.Generator, t: Traits) -> tuple[Colour, Colour]:
    """Outer and inner colour of the iris."""
    return _IRIDES[0] if t.brown_only else _IRIDES[int(rng.integers(len(_IRIDES)))]


BROWN_IRIS = _IRIDES[0]
