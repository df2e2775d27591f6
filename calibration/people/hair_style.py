"""How somebody wears hair and beard: styles, colours, and the draw of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from calibration.people.traits import Colour, Traits

HairStyle = Literal["bald", "short", "back", "long", "afro"]

_HAIR_COLOURS: tuple[Colour, ...] = (
    (0.014, 0.010, 0.008), (0.030, 0.018, 0.010), (0.070, 0.035, 0.016), (0.16, 0.085, 0.035), (0.34, 0.22, 0.10),
    (0.17, 0.055, 0.020),
)  # fmt: skip
_GREY: Colour = (0.34, 0.33, 0.32)


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
class Beard:
    """Grown facial hair; shaved hair is the skin's ``stubble``."""

    style: Literal["none"] = "none"


def random_hair(rng: np.random.Generator, t: Traits, colour: Colour) -> Hair:
    male = t.male
    if t.dark:
        styles: tuple[HairStyle, ...] = ("short", "back", "afro") if male else ("long", "long", "back", "afro")
    else:
        styles = ("short", "back", "short", "bald") if male else ("long", "long", "long", "back", "short")
    style = styles[int(rng.integers(len(styles)))]
    u = rng.random(4)
    if style == "short":
        return Hair(style, colour, 9000, 5, top=0.2 + 0.35 * u[0], side=0.06 + 0.14 * u[1],
                    sweep=float(rng.normal(0, 0.9)), gravity=0.4, volume=0.025, front=0.3 + 0.2 * u[2])  # fmt: skip
    if style == "back":
        return Hair(style, colour, 9000, 8, top=0.8, side=0.35, gravity=0.25, clump=0.2, frizz=0.06, lift=0.25,
                    recede=0.2 * float(male) * t.age)  # fmt: skip
    if style == "long":
        return Hair(style, colour, 7000, 10, top=1.3 + 1.4 * u[0], part=0.4 * u[1] - 0.2, gravity=0.8,
                    volume=0.05, wave=0.05 * u[2], clump=0.16, frizz=0.05, lift=0.12, width=0.016)  # fmt: skip
    if style == "afro":
        return Hair(style, colour, 11000, 6, top=0.15 + 0.5 * u[0], side=0.1 + 0.35 * u[1], gravity=0.0,
                    volume=0.02, clump=0.1, frizz=0.3, width=0.0095, shine=0.4)  # fmt: skip
    return Hair("bald", colour, scalp=0.2 + 0.2 * u[0])


def grey_mixed(colour: Colour, age: float, rng: np.random.Generator) -> Colour:
    """Grey goes into the colour of the whole head, so that strands differ a little and not black from white."""
    grey = float(np.clip((age - 0.35) * 1.5 + rng.normal(0, 0.15), 0, 1)) if age > 0.3 else 0.0
    mixed = [(1 - grey) * c + grey * g for c, g in zip(colour, _GREY, strict=True)]
    return mixed[0], mixed[1], mixed[2]


def random_pigment(rng: np.random.Generator, t: Traits) -> Colour:
    """A hair colour before greying."""
    return _HAIR_COLOURS[int(rng.integers(2 if t.brown_only else len(_HAIR_COLOURS)))]


def random_beard(rng: np.random.Generator, t: Traits) -> Beard:
    """No beard yet."""
    return Beard()
