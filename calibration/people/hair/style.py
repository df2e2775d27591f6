"""How somebody wears hair and beard: styles, colours, and the draw of both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from calibration.people.traits import Colour, Traits

HairStyle = Literal["bald", "buzz", "crop", "side", "quiff", "back", "curly", "afro", "long", "ringlets", "tied", "bun"]
BeardStyle = Literal["none", "moustache", "goatee", "short", "full"]

_HAIR_COLOURS: tuple[Colour, ...] = (
    (0.012, 0.009, 0.008), (0.022, 0.014, 0.009), (0.042, 0.022, 0.012), (0.075, 0.038, 0.018), (0.13, 0.068, 0.030),
    (0.21, 0.125, 0.055), (0.34, 0.225, 0.105), (0.47, 0.35, 0.19), (0.16, 0.052, 0.018), (0.24, 0.085, 0.026),
)  # fmt: skip
"""Black, browns, blonds, auburn, ginger."""
_DYES: tuple[Colour, ...] = (
    (0.42, 0.05, 0.20), (0.05, 0.16, 0.42), (0.16, 0.06, 0.36), (0.03, 0.26, 0.20), (0.40, 0.03, 0.03), (0.50, 0.42,
    0.40),
)  # fmt: skip
_GREY: Colour = (0.36, 0.35, 0.34)
_STYLES: dict[tuple[bool, bool], dict[HairStyle, float]] = {
    (True, False): {"buzz": 1.0, "crop": 1.8, "side": 1.6, "quiff": 1.2, "back": 0.9, "curly": 0.9, "long": 0.5,
                    "bald": 0.5, "tied": 0.15},
    (True, True): {"buzz": 2.2, "crop": 0.4, "curly": 1.2, "afro": 1.6, "back": 0.3, "bald": 0.7, "tied": 0.2},
    (False, False): {"long": 4.2, "ringlets": 0.9, "tied": 1.3, "bun": 0.7, "crop": 0.5, "side": 0.4, "curly": 0.3,
                     "back": 0.2},
    (False, True): {"long": 1.6, "ringlets": 1.5, "afro": 1.4, "tied": 1.0, "bun": 0.8, "curly": 0.6, "buzz": 0.3},
}  # fmt: skip
"""Odds by (male, dark skin)."""


@dataclass(frozen=True)
class Hair:
    """Hair of one head. Lengths in decimetres on the average head."""

    style: HairStyle
    colour: Colour
    """Linear RGB with the grey mixed in."""
    tips: Colour | None = None
    """Dyed or sun-bleached ends; None is one colour."""
    streaks: float = 0.13
    """How much tufts differ in brightness (standard deviation of the logarithm)."""
    grey: float = 0.0
    """0..1: share of lighter strands."""
    tufts: int = 1500
    points: int = 6
    width: float = 0.07
    top: float = 0.5
    side: float = 0.2
    front: float = 0.4
    """Length at the hairline of the forehead."""
    fringe: float = 0.0
    """0 none .. 1: share of the front hair that falls over the forehead."""
    sweep: float = 0.0
    """-1..1: to which side front hair falls."""
    part: float = 0.0
    """x of the parting, decimetres to the person's left."""
    parted: bool = False
    """Whether a thin line of scalp shows at the parting."""
    volume: float = 0.06
    lift: float = 0.3
    gravity: float = 0.3
    messy: float = 0.3
    """0 combed .. 1 every lock its own way."""
    wave: float = 0.0
    """Sideways swing of long strands."""
    shine: float = 1.0
    hairline: float = 0.0
    """Higher (+) or lower forehead."""
    peak: float = 0.0
    """How far a widow's peak reaches down."""
    temple: float = 0.0
    """How much further forward hair grows at the temples."""
    sideburn: float = 0.0
    """How much shorter sideburns are."""
    recede: float = 0.0
    """How far the temples' corners went back."""
    thin: float = 0.0
    """0..1: how bare the crown is."""
    scalp: float = 0.9
    """0..1: how much the hair's colour is painted on the scalp under the strands."""


@dataclass(frozen=True)
class Beard:
    """Grown facial hair; shaved hair is the skin's ``stubble``. ``length`` in decimetres, at most 0.6."""

    style: BeardStyle = "none"
    length: float = 0.1
    colour: Colour = (0.05, 0.03, 0.02)
    dense: float = 1.0
    curl: float = 0.3


PRESETS: dict[str, Hair] = {
    "bald": Hair("bald", (0.03, 0.02, 0.015), scalp=0.30),
    "buzz": Hair("buzz", (0.03, 0.02, 0.015), tufts=1900, points=3, width=0.065, top=0.10, side=0.06, volume=0.012,
                 lift=0.5, messy=0.25, shine=0.5),
    "crop": Hair("crop", (0.03, 0.02, 0.015), tufts=1700, points=5, width=0.06, top=0.5, side=0.14, front=0.36,
                 fringe=0.6, volume=0.13, lift=0.4, gravity=0.42, messy=0.42),
    "side": Hair("side", (0.075, 0.038, 0.018), tufts=1600, points=6, width=0.065, top=0.62, side=0.17, front=0.55,
                 part=0.26, parted=True, sweep=-1.0, volume=0.15, lift=0.5, gravity=0.13, messy=0.12),
    "quiff": Hair("quiff", (0.042, 0.022, 0.012), tufts=1700, points=6, width=0.06, top=0.55, side=0.13, front=0.55,
                  volume=0.16, lift=0.7, gravity=0.10, messy=0.2),
    "back": Hair("back", (0.03, 0.02, 0.015), tufts=1500, points=7, width=0.065, top=0.9, side=0.5, front=0.8,
                 volume=0.07, lift=0.30, gravity=0.12, messy=0.12, shine=1.2),
    "curly": Hair("curly", (0.042, 0.022, 0.012), tufts=1700, points=6, width=0.038, top=0.42, side=0.17, front=0.34,
                  volume=0.1, messy=0.6, shine=0.9, fringe=0.5),
    "afro": Hair("afro", (0.014, 0.010, 0.008), tufts=2600, points=4, width=0.095, top=0.35, side=0.28, front=0.26,
                 volume=0.1, messy=0.6, shine=0.35, streaks=0.2),
    "long": Hair("long", (0.075, 0.038, 0.018), tufts=640, points=14, width=0.115, top=3.0, side=2.75, front=2.6,
                 parted=True, volume=0.12, lift=0.28, gravity=1.0, messy=0.14, wave=0.012, streaks=0.08,
                 sideburn=0.12),
    "ringlets": Hair("ringlets", (0.03, 0.02, 0.015), tufts=740, points=17, width=0.075, top=2.5, side=2.3, front=2.2,
                     volume=0.20, lift=0.22, gravity=0.9, messy=0.45, wave=0.075, shine=0.55, parted=False,
                     sideburn=0.10),
    "tied": Hair("tied", (0.075, 0.038, 0.018), tufts=1000, points=8, width=0.06, top=1.6, side=1.0, front=1.4,
                 volume=0.075, lift=0.2, gravity=0.0, messy=0.06, shine=1.2, hairline=-0.01, temple=0.04,
                 sideburn=0.08),
    "bun": Hair("bun", (0.042, 0.022, 0.012), tufts=1000, points=8, width=0.06, top=1.6, side=1.0, front=1.4,
                volume=0.075, lift=0.2, gravity=0.0, messy=0.10, shine=1.1, hairline=-0.01, temple=0.04, sideburn=0.08),
}  # fmt: skip
"""One plain head of hair per style; everybody's is one of these with other numbers."""


def _long(rng: np.random.Generator, hair: Hair, *, straight: bool) -> Hair:
    """Bob to waist, centre or side parting, with or without a fringe, straight to wavy."""
    length = float(rng.choice([rng.uniform(1.7, 2.1), rng.uniform(2.4, 3.4)], p=[0.35, 0.65]))
    wave = float(rng.choice([0.010, rng.uniform(0.03, 0.06)], p=[0.6, 0.4] if straight else [0.3, 0.7]))
    fringe = float(rng.choice([0.0, 0.45, 1.0], p=[0.62, 0.18, 0.20]))
    part = float(rng.choice([rng.normal(0, 0.03), rng.uniform(0.12, 0.3) * rng.choice([-1, 1])], p=[0.5, 0.5]))
    return replace(hair, top=length, side=length * 0.92, front=length * 0.86, wave=wave, fringe=fringe, part=part,
                   sweep=float(rng.normal(0, 0.4)), volume=float(rng.uniform(0.09, 0.17)))  # fmt: skip


def _vary(rng: np.random.Generator, hair: Hair, t: Traits) -> Hair:
    """One person's cut of a style."""
    longer, u = float(rng.uniform(0.78, 1.25)), rng.random(4)
    side = float(rng.choice([-1.0, 1.0]))
    if hair.style == "long":
        return _long(rng, hair, straight=t.race["asian"] > 0.4)
    if hair.style == "ringlets":
        return replace(hair, top=hair.top * (0.55 + 0.6 * u[0]), side=hair.side * (0.5 + 0.6 * u[0]),
                       fringe=0.4 * float(u[1] > 0.7), volume=0.16 + 0.16 * u[2], wave=0.05 + 0.045 * u[3])  # fmt: skip
    if hair.style in ("tied", "bun"):
        return replace(hair, fringe=float(u[0] > 0.75) * 0.8, sweep=side * float(u[1]))
    if hair.style == "afro":
        size = 0.35 + 1.2 * float(u[0]) ** 1.5
        return replace(hair, top=hair.top * size, side=hair.side * size, front=hair.front * size)
    cut = replace(hair, top=hair.top * longer, side=hair.side * float(rng.uniform(0.6, 1.4)), front=hair.front * longer,
                  messy=hair.messy * float(0.6 + 0.8 * u[1]))  # fmt: skip
    if hair.style == "crop":
        return replace(cut, fringe=float(u[0]), sweep=side * float(u[2]))
    if hair.style == "side":
        return replace(cut, part=side * (0.2 + 0.12 * float(u[0])), sweep=-side)
    return replace(cut, fringe=cut.fringe * float(u[0] > 0.5), sweep=side * 0.6 * float(u[2]))


def random_hair(rng: np.random.Generator, t: Traits, colour: Colour) -> Hair:
    """Hair that fits the traits; men's recedes and thins with age, one head in twenty is dyed."""
    odds = _STYLES[t.male, t.dark]
    names = list(odds)
    weight = np.array([odds[name] for name in names])
    style = names[int(rng.choice(len(names), p=weight / weight.sum()))]
    hair = _vary(rng, PRESETS[style], t)
    hair = replace(hair, colour=colour, hairline=float(np.clip(rng.normal(0.0, 0.03), -0.04, 0.07)),
                   peak=float(rng.uniform(0, 0.09)) if rng.random() < 0.35 else 0.0,
                   grey=float(np.clip((t.age - 0.25) * 1.2, 0, 0.5)))  # fmt: skip
    loss, chance, dye = (float(u) for u in rng.random(3))
    if t.male:
        recede = float(np.clip(loss * (0.06 + 0.30 * t.age), 0, 0.3))
        balding = t.age > 0.3 and chance < 0.45 and style in ("buzz", "crop", "side", "back", "curly", "afro")
        hair = replace(hair, recede=recede, thin=float(0.35 + 0.6 * loss) if balding else 0.0,
                       top=hair.top * (0.6 if balding else 1.0), fringe=0.0 if balding else hair.fringe)  # fmt: skip
        if style == "bald":
            hair = replace(hair, scalp=float(0.12 + 0.3 * loss), thin=chance, recede=recede)
    if dye < 0.05 and t.age < 0.5:
        dyed = _DYES[int(rng.integers(len(_DYES)))]
        return replace(hair, colour=dyed, grey=0.0) if dye < 0.03 else replace(hair, tips=dyed)
    if dye > 0.8 and not t.brown_only and hair.top > 0.9:  # ends bleached by the sun
        hair = replace(hair, tips=(min(colour[0] * 1.9, 0.6), min(colour[1] * 1.8, 0.5), min(colour[2] * 1.6, 0.4)))
    return hair


def grey_mixed(colour: Colour, age: float, rng: np.random.Generator) -> Colour:
    """Grey goes into the colour of the whole head, so that strands differ a little and not black from white."""
    grey = float(np.clip((age - 0.35) * 1.5 + rng.normal(0, 0.15), 0, 1)) if age > 0.3 else 0.0
    mixed = [(1 - grey) * c + grey * g for c, g in zip(colour, _GREY, strict=True)]
    return mixed[0], mixed[1], mixed[2]


def random_pigment(rng: np.random.Generator, t: Traits) -> Colour:
    """A hair colour before greying."""
    return _HAIR_COLOURS[int(rng.integers(3 if t.brown_only else len(_HAIR_COLOURS)))]


def random_beard(rng: np.random.Generator, t: Traits, colour: Colour) -> Beard:
    """One man in three has a beard; it is a little redder than the hair."""
    styles: tuple[BeardStyle, ...] = ("moustache", "goatee", "short", "short", "full")
    style, wears = styles[int(rng.integers(len(styles)))], rng.random() < 0.35
    u = rng.random(3)
    if not (t.male and wears):
        return Beard()
    length = {"moustache": 0.09, "goatee": 0.10 + 0.12 * u[0], "short": 0.05 + 0.09 * u[0], "full": 0.20 + 0.35 * u[0]}
    warmer = (colour[0] * (1.0 + 0.25 * u[1]), colour[1], colour[2] * 0.9)
    return Beard(style, float(length[style]), warmer, dense=float(0.75 + 0.25 * u[2]),
                 curl=0.7 if t.dark else 0.3)  # fmt: skip
