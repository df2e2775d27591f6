"""What props are made of, as the columns that shaders/prop.frag reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from calibration.people.classes import CLASSES
from calibration.people.head.mesh import Points
from calibration.people.props.worn import Cap, Colour, Glasses, Headphones, Microphone


class Pattern(IntEnum):
    """The numbers are those of shaders/prop.frag."""

    PLAIN = 0
    TORTOISE = 1
    CLOTH = 2
    FOAM = 3
    SKIN = 4
    MESH = 5
    CLEAR = 6
    GLOW = 7
    KNIT = 8


@dataclass(frozen=True)
class Material:
    """One surface. ``reflectance`` is that of a dielectric at 0 degrees; metals reflect their colour."""

    colour: Colour
    surface_class: int
    roughness: float = 0.4
    pattern: Pattern = Pattern.PLAIN
    metal: float = 0.0
    reflectance: float = 0.04


def packed(materials: Sequence[Material]) -> tuple[Points, Points]:
    """Palette and finish, (4, 4) each with one material per column; the last one fills what is left."""
    four = (list(materials) + [materials[-1]] * 4)[:4]
    palette = np.array([[*m.colour, m.roughness] for m in four]).T
    finish = np.array([[m.reflectance, m.metal, float(m.pattern), m.surface_class] for m in four]).T
    return palette, finish


def glasses_materials(glasses: Glasses) -> list[Material]:
    """Frame, nose pads, hinges."""
    kinds = {
        "acetate": Material(glasses.colour, CLASSES["glasses"], 0.16),
        "tortoise": Material(glasses.colour, CLASSES["glasses"], 0.16, Pattern.TORTOISE),
        "metal": Material(glasses.colour, CLASSES["glasses"], 0.24, metal=1.0),
        "clear": Material(glasses.colour, CLASSES["glasses"], 0.10, Pattern.CLEAR, reflectance=0.06),
    }
    pads = Material((0.85, 0.82, 0.8), CLASSES["glasses"], 0.2, Pattern.CLEAR)
    return [kinds[glasses.material], pads, Material((0.6, 0.58, 0.55), CLASSES["glasses"], 0.25, metal=1.0)]


def headphones_materials(worn: Headphones) -> list[Material]:
    """Shell, cushions, accent, microphone."""
    glowing = worn.look == "gaming"
    accent = Material(worn.accent, CLASSES["headphones"], 0.35, Pattern.GLOW if glowing else Pattern.PLAIN,
                      metal=0.0 if glowing else 0.8)  # fmt: skip
    dark = (0.016, 0.016, 0.017)
    return [
        Material(worn.colour, CLASSES["headphones"], 0.42),
        Material(dark, CLASSES["headphones"], 0.55),
        accent,
        Material(dark, CLASSES["microphone"], 0.8, Pattern.FOAM),
    ]


def microphone_materials(held: Microphone) -> list[Material]:
    """Body, grille or foam, arm, ring."""
    foam = held.kind == "broadcast"
    return [
        Material(held.colour, CLASSES["microphone"], 0.35),
        Material((0.014, 0.014, 0.015), CLASSES["microphone"], 0.9, Pattern.FOAM)
        if foam
        else Material((0.33, 0.33, 0.34), CLASSES["microphone"], 0.35, Pattern.MESH, metal=0.6),
        Material((0.02, 0.02, 0.021), CLASSES["microphone"], 0.45),
        Material((0.35, 0.35, 0.36), CLASSES["microphone"], 0.3, metal=1.0),
    ]


def cap_materials(worn: Cap) -> list[Material]:
    """Crown, brim or cuff."""
    pattern = Pattern.KNIT if worn.kind == "beanie" else Pattern.CLOTH
    return [Material(c, CLASSES["cap"], 0.85, pattern, reflectance=0.02) for c in (worn.colour, worn.second)]


def hand_materials(skin: Colour, cloth: Colour) -> list[Material]:
    """Skin of the person's own colour, and a sleeve of the shirt's."""
    return [
        Material((skin[0], skin[1], skin[2]), CLASSES["hand"], 0.5, Pattern.SKIN, reflectance=0.028),
        Material((cloth[0], cloth[1], cloth[2]), CLASSES["cloth"], 0.85, Pattern.CLOTH, reflectance=0.02),
    ]
