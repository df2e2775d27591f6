"""Skin, brows and eyes of somebody: pigments, marks, colours, and the draw of them.

Melanin and haemoglobin are densities of the two-pigment skin model (0.1 very light .. 2.2 very dark; 0.35 .. 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from calibration.people.traits import Colour, Traits

_IRIDES: tuple[tuple[Colour, Colour], ...] = (
    ((0.055, 0.028, 0.012), (0.09, 0.045, 0.018)),
    ((0.16, 0.24, 0.32), (0.10, 0.13, 0.15)),
    ((0.10, 0.19, 0.10), (0.20, 0.14, 0.05)),
    ((0.12, 0.10, 0.05), (0.16, 0.09, 0.03)),
)

_LIPSTICKS: tuple[Colour, ...] = (
    (0.42, 0.035, 0.04), (0.25, 0.02, 0.04), (0.45, 0.10, 0.12), (0.36, 0.13, 0.10), (0.22, 0.06, 0.045),
    (0.48, 0.07, 0.16), (0.14, 0.015, 0.035),
)  # fmt: skip
"""Red, wine, rose, nude, brick, pink, plum."""
_SHADOWS: tuple[Colour, ...] = (
    (0.14, 0.075, 0.05), (0.07, 0.05, 0.05), (0.30, 0.17, 0.13), (0.12, 0.06, 0.09), (0.06, 0.08, 0.12),
    (0.20, 0.12, 0.06),
)  # fmt: skip


@dataclass(frozen=True)
class MakeUp:
    """What is painted on a face. Colours are linear RGB, amounts 0..1; nothing by default."""

    lipstick: Colour = (0.3, 0.05, 0.05)
    lips: float = 0.0
    shadow: Colour = (0.12, 0.07, 0.05)
    lids: float = 0.0
    liner: float = 0.0
    blusher: float = 0.0
    foundation: float = 0.0


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
    veins: float = 0.1
    """Fine red vessels on nose and cheeks."""
    crease: float = 0.8
    """How deep the fold above the eye is cut."""
    make_up: MakeUp = field(default_factory=MakeUp)


@dataclass(frozen=True)
class Brow:
    """Eyebrows, as strands over a soft painted band."""

    colour: Colour
    thickness: float = 0.024
    arch: float = 0.01
    length: float = 0.055
    strands: int = 520


def random_make_up(rng: np.random.Generator, t: Traits) -> MakeUp:
    """Lipstick, eye shadow, liner and powder for two women in three, from hardly any to a lot."""
    wears = (not t.male) and rng.random() < 0.65
    u, amount = rng.random(5), float(rng.beta(1.3, 1.6))
    lipstick = _LIPSTICKS[int(rng.integers(len(_LIPSTICKS)))]
    shadow = _SHADOWS[int(rng.integers(len(_SHADOWS)))]
    if not wears:
        return MakeUp()
    return MakeUp(
        lipstick=lipstick,
        lips=float(u[0] < 0.75) * (0.25 + 0.55 * amount),
        shadow=shadow,
        lids=float(u[1] < 0.55) * (0.12 + 0.4 * amount),
        liner=float(u[2] < 0.7) * (0.3 + 0.7 * amount),
        blusher=0.7 * float(u[3]) * amount,
        foundation=float(u[4] * amount),
    )


def random_skin(rng: np.random.Generator, t: Traits) -> Skin:
    """Pigments and marks that fit the traits."""
    return Skin(
        melanin=t.melanin,
        haemoglobin=float(rng.uniform(0.36, 0.5)),
        blush=float(rng.uniform(0.2, 0.8) / (1 + t.melanin)),
        freckles=float(max(0.0, rng.normal(-0.1, 0.45))) if t.melanin < 0.35 else 0.0,
        moles=int(rng.integers(0, 5)),
        stubble=float(np.clip(rng.normal(0.22, 0.25), 0, 0.8)) if t.male else 0.0,
        lip_blood=float(rng.uniform(0.4, 0.8) if t.male else rng.uniform(0.5, 1.2)) * (0.5 if t.dark else 1.0),
        lip_melanin=float(rng.uniform(-0.2, 0.1)) if t.dark else 0.0,
        under_eye=float(rng.uniform(0.0, 0.55)),
        oil=float(rng.uniform(0.6, 1.4)),
        veins=float(rng.uniform(0, 0.25) * (0.5 + 1.5 * t.age) / (1 + 2 * t.melanin)),
        crease=float(rng.uniform(0.1, 0.6) if t.race["asian"] > 0.6 else rng.uniform(0.5, 1.0)),
        make_up=random_make_up(rng, t),
    )


def random_brow(rng: np.random.Generator, t: Traits, pigment: Colour, hair: Colour) -> Brow:
    """Brows between the hair's ``pigment`` and its greyed colour: they grey later."""
    return Brow(
        colour=(pigment[0] * 0.7 + hair[0] * 0.3, pigment[1] * 0.7 + hair[1] * 0.3, pigment[2] * 0.7 + hair[2] * 0.3),
        thickness=float(rng.uniform(0.018, 0.040) if t.male else rng.uniform(0.012, 0.030)),
        arch=float(np.clip(rng.normal(0.010, 0.014), -0.015, 0.04)),
        length=float(rng.uniform(0.045, 0.062)),
        strands=int(rng.uniform(300, 720)),
    )


def random_iris(rng: np.random.Generator, t: Traits) -> tuple[Colour, Colour]:
    """Outer and inner colour of the iris."""
    outer, inner = _IRIDES[0] if t.brown_only else _IRIDES[int(rng.integers(len(_IRIDES)))]
    k = float(np.exp(rng.normal(0, 0.3)))
    return (outer[0] * k, outer[1] * k, outer[2] * k), (inner[0] * k, inner[1] * k, inner[2] * k)


BROWN_IRIS = _IRIDES[0]
