"""What hides parts of a streamer's face: glasses, headphones, microphones, caps, hands, loose hair.

Props belong to the state, not to the person: the same state on another identity wears the same things, fitted to that
head, so that the exact swap is known behind and beside them. Colours are linear RGB, lengths decimetres.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

Colour = tuple[float, float, float]
Vector = tuple[float, float, float]
GlassesShape = Literal["round", "rectangular", "square", "cat-eye", "aviator", "half-rim"]
FrameMaterial = Literal["acetate", "tortoise", "metal", "clear"]
HeadphonesLook = Literal["gaming", "studio"]
MicrophoneKind = Literal["condenser", "broadcast"]
CapKind = Literal["forward", "backward", "beanie"]
HandPose = Literal["open", "flat", "relaxed", "point", "fist", "pinch", "think"]
HandPlace = Literal["chin", "mouth", "glasses", "cheek", "brow", "air"]

GLASSES_SHAPES: tuple[GlassesShape, ...] = ("round", "rectangular", "square", "cat-eye", "aviator", "half-rim")
_ACETATES: tuple[Colour, ...] = (
    (0.008, 0.008, 0.009), (0.012, 0.011, 0.012), (0.020, 0.028, 0.065), (0.10, 0.012, 0.016), (0.05, 0.028, 0.015),
    (0.16, 0.16, 0.17),
)  # fmt: skip
_METALS: tuple[Colour, ...] = ((0.80, 0.56, 0.28), (0.62, 0.62, 0.64), (0.05, 0.05, 0.055), (0.78, 0.50, 0.42))
_CLEARS: tuple[Colour, ...] = ((0.95, 0.93, 0.90), (0.95, 0.74, 0.66), (0.72, 0.80, 0.86))
_PLASTICS: tuple[Colour, ...] = ((0.012, 0.012, 0.013), (0.05, 0.05, 0.055), (0.62, 0.62, 0.62), (0.55, 0.12, 0.28))
_ACCENTS: tuple[Colour, ...] = ((0.6, 0.02, 0.03), (0.02, 0.35, 0.6), (0.1, 0.5, 0.08), (0.25, 0.25, 0.27))
_FABRICS: tuple[Colour, ...] = (
    (0.015, 0.015, 0.017), (0.02, 0.03, 0.09), (0.35, 0.03, 0.03), (0.45, 0.43, 0.38), (0.05, 0.10, 0.05),
    (0.25, 0.15, 0.07), (0.14, 0.14, 0.15),
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Something bright that lenses reflect: a rectangle at infinity, fixed in the room."""

    direction: Vector
    """Towards it, in world axes."""
    half_size: tuple[float, float]
    """Tangents of half its width and height, seen from the head."""
    colour: Colour
    bars: bool = False
    """A window with a cross bar."""


@dataclass(frozen=True)
class Glasses:
    """A frame with lenses."""

    shape: GlassesShape = "rectangular"
    material: FrameMaterial = "acetate"
    colour: Colour = _ACETATES[0]
    size: float = 1.0
    tint: Colour = (0.97, 0.98, 0.97)
    """What the lenses let through."""
    coating: Colour = (1.0, 1.0, 1.0)
    """Colour of what they reflect, times its strength."""
    sources: tuple[Source, ...] = ()
    """At most three."""


@dataclass(frozen=True)
class Headphones:
    """Over the ears, with a band over the hair."""

    look: HeadphonesLook = "studio"
    colour: Colour = _PLASTICS[0]
    accent: Colour = _ACCENTS[3]
    boom: bool = False
    """A microphone arm beside the mouth."""
    boom_left: bool = True


@dataclass(frozen=True)
class Microphone:
    """On a stand in the room: it does not turn with the head."""

    kind: MicrophoneKind = "broadcast"
    place: Vector = (0.25, -0.15, 0.75)
    """Of its head, from the resting chin of whoever speaks."""
    from_left: bool = True
    """The side from which the arm comes."""
    colour: Colour = (0.02, 0.02, 0.022)
    pop_filter: bool = False


@dataclass(frozen=True)
class Cap:
    """A baseball cap or a beanie."""

    kind: CapKind = "forward"
    colour: Colour = _FABRICS[0]
    second: Colour = _FABRICS[0]
    """Brim, or the beanie's cuff."""
    height: float = 0.0
    """How much higher than usual its edge sits on the forehead."""


@dataclass(frozen=True)
class Hand:
    """A hand of the person, with the forearm and its sleeve."""

    pose: HandPose = "relaxed"
    place: HandPlace = "air"
    """What it touches; "air" is a point before the face."""
    left: bool = False
    offset: Vector = (0.0, 0.0, 0.0)
    """From the place, in decimetres; x points to the hand's own side."""
    tilt: Vector = (0.0, 0.0, 0.0)
    """Degrees added to the usual orientation of the place: pitch, yaw, roll."""
    sleeve_from: float = 0.75
    """Distance of the cuff from the wrist; from 2.5 the forearm is bare. The sleeve is the shirt's."""
    size: float = 1.0


@dataclass(frozen=True)
class Props:
    """What is worn or in front of the face in one state."""

    glasses: Glasses | None = None
    headphones: Headphones | None = None
    microphone: Microphone | None = None
    cap: Cap | None = None
    hands: tuple[Hand, ...] = ()
    loose_hair: float = 0.0
    """0..1: how many strands hang over the face."""

    def occludes(self) -> bool:
        """True if anything may hide a part of the face; headphones without a microphone arm do not."""
        boom = self.headphones is not None and self.headphones.boom
        worn = (self.glasses, self.microphone, self.cap)
        return boom or any(w is not None for w in worn) or bool(self.hands) or self.loose_hair > 0


PROP_KEYS: tuple[str, ...] = tuple(f.name for f in fields(Props))
"""Names of everything that can be worn or held, for reports."""

_RATES = {"glasses": 0.25, "headphones": 0.18, "microphone": 0.10, "cap": 0.07, "hands": 0.08, "loose_hair": 0.10}


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    base = np.array(colours[int(rng.integers(len(colours)))])
    base = np.clip(base * np.exp(rng.normal(0, 0.18)) * np.exp(rng.normal(0, 0.05, 3)), 0, 0.95)
    return float(base[0]), float(base[1]), float(base[2])


def _random_sources(rng: np.random.Generator) -> tuple[Source, ...]:
    """A monitor below the camera, a lamp or soft box above it, a window beside it: each only sometimes."""
    out = []
    if rng.random() < 0.6:
        glow = rng.uniform(0.8, 3.0) * np.array([0.8, 1.0, 1.25]) * np.exp(rng.normal(0, 0.25, 3))
        out.append(Source(
            (float(rng.uniform(-0.3, 0.3)), float(rng.uniform(-0.5, -0.15)), 1.0),
            (float(rng.uniform(0.22, 0.4)), float(rng.uniform(0.13, 0.22))),
            (float(glow[0]), float(glow[1]), float(glow[2])),
        ))  # fmt: skip
    if rng.random() < 0.5:
        warm = float(rng.normal(0, 0.1))
        power = float(rng.uniform(4, 14))
        out.append(Source(
            (float(rng.uniform(-0.7, 0.7)), float(rng.uniform(0.0, 0.5)), 1.0),
            (float(rng.uniform(0.08, 0.2)), float(rng.uniform(0.08, 0.25))),
            (power * (1 + warm), power, power * (1 - warm)),
        ))  # fmt: skip
    if rng.random() < 0.35:
        power = float(rng.uniform(3, 9))
        out.append(Source(
            (float(rng.choice([-1, 1]) * rng.uniform(0.5, 1.3)), float(rng.uniform(-0.1, 0.3)), 0.8),
            (float(rng.uniform(0.2, 0.35)), float(rng.uniform(0.25, 0.4))),
            (power * 0.9, power, power * 1.15), bars=True,
        ))  # fmt: skip
    return tuple(out)


def random_glasses(rng: np.random.Generator) -> Glasses:
    """Any shape and material; a third of the lenses are coated and reflect little, one in seven is lightly tinted."""
    shape = GLASSES_SHAPES[int(rng.integers(len(GLASSES_SHAPES)))]
    thin = shape in ("aviator", "half-rim")
    share = {"acetate": 0.2, "tortoise": 0.05, "metal": 0.75} if thin else {
        "acetate": 0.5, "tortoise": 0.2, "metal": 0.15, "clear": 0.15}  # fmt: skip
    if shape == "square":
        share = {"acetate": 0.6, "tortoise": 0.25, "clear": 0.15}
    names: tuple[FrameMaterial, ...] = ("acetate", "tortoise", "metal", "clear")
    material = names[int(rng.choice(4, p=[share.get(n, 0.0) for n in names]))]
    colours = {"acetate": _ACETATES, "tortoise": ((0.20, 0.085, 0.022),), "metal": _METALS, "clear": _CLEARS}[material]
    coated = rng.random() < 0.35
    strength = float(rng.uniform(0.15, 0.4) if coated else rng.uniform(0.7, 1.3))
    hue = ((0.35, 1.0, 0.6), (0.7, 0.6, 1.0))[int(rng.integers(2))] if coated else (1.0, 1.0, 1.0)
    tinted = rng.random() < 0.15
    depth = rng.uniform(0.5, 0.85)
    tones: tuple[Colour, ...] = ((1.0, 0.93, 0.80), (0.90, 0.95, 1.0), (0.97, 0.97, 0.97), (1.0, 0.85, 0.86))
    tone = tones[int(rng.integers(len(tones)))]
    return Glasses(
        shape=shape, material=material, colour=_pick(rng, colours), size=float(rng.uniform(0.93, 1.08)),
        tint=(tone[0] * depth, tone[1] * depth, tone[2] * depth) if tinted else (0.97, 0.98, 0.97),
        coating=(hue[0] * strength, hue[1] * strength, hue[2] * strength), sources=_random_sources(rng),
    )  # fmt: skip


def random_headphones(rng: np.random.Generator) -> Headphones:
    """Gaming or studio; half of them have a microphone arm."""
    return Headphones(
        look="gaming" if rng.random() < 0.5 else "studio",
        colour=_pick(rng, _PLASTICS),
        accent=_pick(rng, _ACCENTS),
        boom=bool(rng.random() < 0.5),
        boom_left=bool(rng.random() < 0.7),
    )


def random_microphone(rng: np.random.Generator) -> Microphone:
    """A condenser or a broadcast microphone low in front of the chin, to one side of it or in the middle."""
    return Microphone(
        kind="condenser" if rng.random() < 0.45 else "broadcast",
        place=(float(rng.normal(0, 0.45)), float(rng.uniform(-0.6, 0.25)), float(rng.uniform(0.9, 1.7))),
        from_left=bool(rng.random() < 0.5),
        colour=_pick(rng, ((0.015, 0.015, 0.016), (0.05, 0.05, 0.055), (0.4, 0.4, 0.41))),
        pop_filter=bool(rng.random() < 0.5),
    )


def random_cap(rng: np.random.Generator) -> Cap:
    """Half of them have the brim in front."""
    kinds: tuple[CapKind, ...] = ("forward", "backward", "beanie")
    colour = _pick(rng, _FABRICS)
    return Cap(
        kind=kinds[int(rng.choice(3, p=[0.5, 0.22, 0.28]))],
        colour=colour,
        second=_pick(rng, _FABRICS) if rng.random() < 0.4 else colour,
        height=float(rng.uniform(-0.05, 0.12)),
    )


def random_hand(rng: np.random.Generator, place: HandPlace | None = None) -> Hand:
    """A hand where streamers put theirs. ``place`` fixes where."""
    places: tuple[HandPlace, ...] = ("chin", "mouth", "glasses", "cheek", "brow", "air")
    chosen = place or places[int(rng.choice(6, p=[0.24, 0.16, 0.14, 0.18, 0.08, 0.2]))]
    poses: dict[HandPlace, tuple[HandPose, ...]] = {
        "chin": ("fist", "think", "relaxed"), "mouth": ("flat", "relaxed", "fist"), "glasses": ("pinch", "point"),
        "cheek": ("relaxed", "point", "flat", "think"), "brow": ("flat", "relaxed"),
        "air": ("open", "flat", "relaxed", "point"),
    }  # fmt: skip
    options = poses[chosen]
    spread = 0.5 if chosen == "air" else 0.08
    wild = 18.0 if chosen == "air" else 7.0
    offset, tilt = rng.normal(0, spread, 3), rng.normal(0, wild, 3)
    return Hand(
        pose=options[int(rng.integers(len(options)))], place=chosen, left=bool(rng.random() < 0.5),
        offset=(float(offset[0]), float(offset[1]), float(abs(offset[2]) * 0.6) if chosen == "air" else 0.0),
        tilt=(float(tilt[0]), float(tilt[1]), float(tilt[2])),
        sleeve_from=float(rng.choice([rng.uniform(0.35, 1.0), 3.0], p=[0.65, 0.35])),
        size=float(rng.uniform(0.94, 1.06)),
    )  # fmt: skip


def random_props(rng: np.random.Generator) -> Props:
    """Often nothing; glasses 25 %, headphones 18 %, stand microphone 10 %, cap 7 %, hand 8 %, loose hair 10 %.

    A cap takes the place of loose hair, never of anything else. Every kind is drawn from a stream of its own.
    """
    draws = dict(zip(PROP_KEYS, rng.spawn(len(PROP_KEYS)), strict=True))
    worn = {name: bool(draw.random() < _RATES[name]) for name, draw in draws.items()}
    return Props(
        glasses=random_glasses(draws["glasses"]) if worn["glasses"] else None,
        headphones=random_headphones(draws["headphones"]) if worn["headphones"] else None,
        microphone=random_microphone(draws["microphone"]) if worn["microphone"] else None,
        cap=random_cap(draws["cap"]) if worn["cap"] else None,
        hands=(random_hand(draws["hands"]),) if worn["hands"] else (),
        loose_hair=float(draws["loose_hair"].uniform(0.2, 1.0)) if worn["loose_hair"] else 0.0,
    )
