"""Who somebody invented is: every number that makes one person, drawn from one seed.

Colours are linear RGB 0..1. Lengths are decimetres. Melanin and haemoglobin are densities of the two-pigment skin model
(0.1 very light .. 2.2 very dark; 0.35 .. 0.5).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from calibration.people.shape import RACES, head_model, macro_weights

RENDERER_VERSION = 1
"""Part of every data set's description: raised when the same seeds would give another picture."""

HairStyle = Literal["bald", "short", "back", "long", "afro"]
Colour = tuple[float, float, float]

_HAIR_COLOURS: tuple[Colour, ...] = (
    (0.014, 0.010, 0.008), (0.030, 0.018, 0.010), (0.070, 0.035, 0.016), (0.16, 0.085, 0.035), (0.34, 0.22, 0.10),
    (0.17, 0.055, 0.020),
)  # fmt: skip
_GREY: Colour = (0.34, 0.33, 0.32)
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
class Hair:
    """Strands. ``grey`` is mixed into the colour strand by strand."""

    style: HairStyle
    colour: Colour
    strands: int = 9000
    points: int = 6
    top: float = 0.5
    side: float = 0.2
    front: float = 0.45
    sweep: float = 0.0
    part: float = 0.0
    gravity: float = 0.3
    volume: float = 0.03
    wave: float = 0.0
    clump: float = 0.25
    frizz: float = 0.07
    lift: float = 0.4
    width: float = 0.010
    shine: float = 1.0
    recede: float = 0.0
    scalp: float = 0.95
    """0..1: how much the hair's colour is painted on the scalp under the strands."""


@dataclass(frozen=True)
class Brow:
    """Eyebrows, as strands over a soft painted band."""

    colour: Colour
    thickness: float = 0.024
    arch: float = 0.01
    length: float = 0.055
    strands: int = 520


@dataclass(frozen=True)
class Identity:
    """One invented person."""

    seed: int
    gender: float
    """0 female .. 1 male."""
    age: float
    """0 is 18 years, 1 is 80."""
    weight: float
    race: dict[str, float]
    sliders: dict[str, float]
    """Local shape targets, 0..0.5."""
    skin: Skin
    hair: Hair
    brow: Brow
    iris: tuple[Colour, Colour]
    lash_length: float = 0.05
    lashes: int = 44
    cloth: Colour = (0.2, 0.2, 0.2)
    neckline: float = 5.62

    def shape_weights(self) -> dict[str, float]:
        """All shape targets of this person."""
        return macro_weights(self.gender, self.age, self.weight, self.race) | self.sliders

    def to_json(self) -> dict[str, Any]:
        """Plain values, for manifests and reports."""
        return asdict(self)


@dataclass(frozen=True)
class _Traits:
    """What the draws of one person have in common."""

    gender: float
    age: float
    race: dict[str, float]
    melanin: float
    dark: bool
    hair_colour: Colour = field(default=_HAIR_COLOURS[0])


def _random_hair(rng: np.random.Generator, t: _Traits) -> Hair:
    male = t.gender > 0.5
    if t.dark:
        styles: tuple[HairStyle, ...] = ("short", "back", "afro") if male else ("long", "long", "back", "afro")
    else:
        styles = ("short", "back", "short", "bald") if male else ("long", "long", "long", "back", "short")
    style = styles[int(rng.integers(len(styles)))]
    u = rng.random(4)
    if style == "short":
        return Hair(style, t.hair_colour, 9000, 5, top=0.2 + 0.35 * u[0], side=0.06 + 0.14 * u[1],
                    sweep=float(rng.normal(0, 0.9)), gravity=0.4, volume=0.025, front=0.3 + 0.2 * u[2])  # fmt: skip
    if style == "back":
        return Hair(style, t.hair_colour, 9000, 8, top=0.8, side=0.35, gravity=0.25, clump=0.2, frizz=0.06, lift=0.25,
                    recede=0.2 * float(male) * t.age)  # fmt: skip
    if style == "long":
        return Hair(style, t.hair_colour, 7000, 10, top=1.3 + 1.4 * u[0], part=0.4 * u[1] - 0.2, gravity=0.8,
                    volume=0.05, wave=0.05 * u[2], clump=0.16, frizz=0.05, lift=0.12, width=0.016)  # fmt: skip
    if style == "afro":
        return Hair(style, t.hair_colour, 11000, 6, top=0.15 + 0.5 * u[0], side=0.1 + 0.35 * u[1], gravity=0.0,
                    volume=0.02, clump=0.1, frizz=0.3, width=0.0095, shine=0.4)  # fmt: skip
    return Hair("bald", t.hair_colour, scalp=0.2 + 0.2 * u[0])


def _grey_mixed(colour: Colour, age: float, rng: np.random.Generator) -> Colour:
    """Grey goes into the colour of the whole head, so that strands differ a little and not black from white."""
    grey = float(np.clip((age - 0.35) * 1.5 + rng.normal(0, 0.15), 0, 1)) if age > 0.3 else 0.0
    mixed = [(1 - grey) * c + grey * g for c, g in zip(colour, _GREY, strict=True)]
    return mixed[0], mixed[1], mixed[2]


def random_identity(seed: int) -> Identity:
    """The invented person of a seed: any gender, 18 to 80 years, all skin tones. The same seed is the same person."""
    rng = np.random.default_rng([seed, RENDERER_VERSION])
    male = bool(rng.random() < 0.5)
    gender = float(rng.uniform(0.86, 1.0) if male else rng.uniform(0.0, 0.14))
    age = float(rng.beta(1.0, 1.6))
    share = rng.dirichlet([0.4] * 3)
    race = {name: float(s) for name, s in zip(RACES, share, strict=True)}
    tone = 0.16 * share[0] + 0.42 * share[1] + 1.6 * share[2]
    melanin = float(np.clip(tone * np.exp(rng.normal(0, 0.18)), 0.1, 2.2))
    dark = melanin > 0.7
    brown_only = dark or share[1] > 0.5
    pick = _HAIR_COLOURS[int(rng.integers(2 if brown_only else len(_HAIR_COLOURS)))]
    colour = _grey_mixed(pick, age, rng)
    traits = _Traits(gender, age, race, melanin, dark, colour)
    sliders: dict[str, float] = {}
    for down, up in head_model().sliders():
        value = float(np.clip(rng.normal(0, 0.20), -0.5, 0.5)) * (
            0.5 if "/ear" in up or up.startswith("neck/") else 1.0
        )
        name = up if value > 0 else down
        if abs(value) > 0.05 and name:
            sliders[name] = abs(value)
    skin = Skin(
        melanin=melanin,
        haemoglobin=float(rng.uniform(0.36, 0.5)),
        blush=float(rng.uniform(0.2, 0.8) / (1 + melanin)),
        freckles=float(max(0.0, rng.normal(-0.2, 0.5))) if melanin < 0.3 else 0.0,
        moles=int(rng.integers(0, 5)),
        stubble=float(np.clip(rng.normal(0.22, 0.25), 0, 0.8)) if male else 0.0,
        lip_blood=float(rng.uniform(0.4, 0.8) if male else rng.uniform(0.5, 1.2)) * (0.5 if dark else 1.0),
        lip_melanin=-0.3 if dark else 0.0,
        under_eye=float(rng.uniform(0.1, 0.4)),
        oil=float(rng.uniform(0.7, 1.3)),
    )
    brow = Brow(
        colour=(pick[0] * 0.7 + colour[0] * 0.3, pick[1] * 0.7 + colour[1] * 0.3, pick[2] * 0.7 + colour[2] * 0.3),
        thickness=float(rng.uniform(0.024, 0.031) if male else rng.uniform(0.018, 0.024)),
        arch=float(rng.uniform(-0.005, 0.024)),
    )
    return Identity(
        seed=seed,
        gender=gender,
        age=age,
        weight=float(rng.uniform(0.3, 0.75)),
        race=race,
        sliders=sliders,
        skin=skin,
        hair=_random_hair(rng, traits),
        brow=brow,
        iris=_IRIDES[0] if brown_only else _IRIDES[int(rng.integers(len(_IRIDES)))],
        lash_length=0.040 if male else 0.055,
        lashes=34 if male else 50,
        cloth=(float(rng.uniform(0.03, 0.5)), float(rng.uniform(0.03, 0.5)), float(rng.uniform(0.03, 0.5))),
        neckline=float(rng.uniform(5.5, 5.72)),
    )


def cast() -> dict[str, Identity]:
    """The people with names: the shipped personas and the demo's wearer, chosen by hand rather than drawn."""
    return {
        "vera": Identity(
            seed=11, gender=0.04, age=0.05, weight=0.42, race={"caucasian": 1.0, "african": 0.05, "asian": 0.15},
            sliders={"head/head-oval": 0.5, "nose/nose-scale-horiz-decr": 0.35, "nose/nose-point-up": 0.3,
                     "mouth/mouth-upperlip-volume-incr": 0.4, "mouth/mouth-lowerlip-volume-incr": 0.35,
                     "chin/chin-triangle": 0.3, "eyes/l-eye-scale-incr": 0.35, "cheek/l-cheek-bones-incr": 0.35,
                     "eyes/l-eye-corner2-up": 0.35},
            skin=Skin(0.19, 0.42, blush=0.7, freckles=0.5, moles=3, lip_blood=1.25, under_eye=0.15),
            hair=Hair("long", (0.115, 0.05, 0.022), 7500, 10, top=2.3, part=0.12, gravity=0.85, volume=0.05, wave=0.03,
                      clump=0.16, frizz=0.05, lift=0.10, width=0.017),
            brow=Brow((0.075, 0.038, 0.022), 0.020, 0.022, 0.052), iris=((0.10, 0.19, 0.10), (0.20, 0.14, 0.05)),
            lash_length=0.058, lashes=56, cloth=(0.06, 0.13, 0.17), neckline=5.55,
        ),
        "kofi": Identity(
            seed=53, gender=0.98, age=0.72, weight=0.55, race={"caucasian": 0.15, "african": 1.0, "asian": 0.05},
            sliders={"head/head-rectangular": 0.4, "nose/nose-width3-incr": 0.35, "chin/chin-prominent-incr": 0.35,
                     "chin/chin-width-incr": 0.3, "eyes/l-eye-bag-incr": 0.35, "forehead/forehead-scale-vert-incr": 0.2,
                     "mouth/mouth-scale-horiz-incr": 0.25},
            skin=Skin(1.15, 0.48, blush=0.2, moles=4, stubble=0.45, lip_blood=0.35, lip_melanin=-0.25, under_eye=0.3,
                      oil=1.25),
            hair=Hair("afro", (0.20, 0.195, 0.19), 12000, 6, top=0.22, side=0.14, gravity=0.0, volume=0.02, clump=0.1,
                      frizz=0.3, width=0.0095, shine=0.4),
            brow=Brow((0.10, 0.095, 0.09), 0.030, -0.002, 0.06), iris=((0.045, 0.022, 0.010), (0.07, 0.035, 0.014)),
            lash_length=0.042, lashes=34, cloth=(0.12, 0.05, 0.05), neckline=5.70,
        ),
        "tomo": Identity(
            seed=23, gender=0.97, age=0.30, weight=0.58, race={"caucasian": 0.25, "african": 0.0, "asian": 1.0},
            sliders={"head/head-square": 0.4, "nose/nose-scale-horiz-incr": 0.2, "chin/chin-width-incr": 0.35,
                     "forehead/forehead-scale-vert-incr": 0.25, "mouth/mouth-scale-horiz-incr": 0.2,
                     "cheek/l-cheek-volume-incr": 0.2},
            skin=Skin(0.45, 0.42, blush=0.4, moles=3, stubble=0.30, lip_blood=0.8, under_eye=0.3),
            hair=Hair("short", (0.020, 0.015, 0.012), 11000, 5, top=0.42, side=0.14, sweep=0.9, gravity=0.4,
                      volume=0.03, clump=0.3, frizz=0.08, lift=0.4, front=0.4),
            brow=Brow((0.022, 0.017, 0.014), 0.028, 0.0, 0.06), iris=_IRIDES[0], lash_length=0.045, lashes=36,
            cloth=(0.35, 0.34, 0.32), neckline=5.68,
        ),
    }  # fmt: skip
