"""The light of a webcam's room: a key light, a fill, a rim behind, and what comes from the sky and the floor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
Vector = tuple[float, float, float]
F64 = NDArray[np.float64]
LightKind = Literal["room", "studio", "window", "dim", "backlit", "coloured", "screen", "lamp", "overcast"]
LIGHT_KINDS: tuple[LightKind, ...] = get_args(LightKind)
_SHARES = (0.26, 0.14, 0.12, 0.09, 0.09, 0.12, 0.07, 0.06, 0.05)
"""How often each kind is drawn: streamers sit in ordinary rooms, before a soft light, and among coloured lamps."""


@dataclass(frozen=True)
class Light:
    """A key light, a fill, a rim and two ambient colours. Directions point towards the light; colours are linear."""

    key_direction: Vector = (0.3, 0.5, 0.8)
    key: Colour = (1.75, 1.65, 1.52)
    sky: Colour = (0.20, 0.22, 0.26)
    ground: Colour = (0.09, 0.075, 0.065)
    fill_direction: Vector = (-0.4, 0.1, 0.9)
    fill: Colour = (0.16, 0.18, 0.24)
    rim_direction: Vector = (-0.65, 0.5, -0.6)
    rim: Colour = (0.7, 0.66, 0.62)


def towards_camera(light: Light) -> F64:
    """(3,) linear RGB that reaches skin which faces the camera, as in shaders/light.glsl."""
    key = np.asarray(light.key_direction) / np.linalg.norm(light.key_direction)
    fill = np.asarray(light.fill_direction) / np.linalg.norm(light.fill_direction)
    lambert = max((key[2] + 0.2) / 1.2, 0.0)
    ambient = (np.asarray(light.sky) + np.asarray(light.ground)) / 2
    return np.asarray(lambert * np.asarray(light.key) + ambient + ((fill[2] + 1) / 2) ** 2 * np.asarray(light.fill))


def triple(values: NDArray[np.floating]) -> Vector:
    """Three plain floats."""
    return float(values[0]), float(values[1]), float(values[2])


def direction(azimuth: float, elevation: float) -> F64:
    """(3,) unit vector from degrees: azimuth 0 in front, to the person's left; elevation up."""
    a, e = np.radians(azimuth), np.radians(elevation)
    return np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])


def white(kelvin_shift: float) -> F64:
    """(3,) about white: above 0 warm as a lamp (0.5 is candle light), below 0 cold as the sky."""
    return np.array([1 + 0.55 * kelvin_shift, 1.0, np.exp(-1.25 * kelvin_shift)])


def _saturated(rng: np.random.Generator) -> F64:
    """(3,) an LED lamp's colour: magenta, cyan, blue, violet, orange, red or green, of brightness about 1."""
    names = ((1.0, 0.10, 0.75), (0.05, 0.8, 1.0), (0.10, 0.20, 1.6), (0.55, 0.10, 1.4), (1.5, 0.50, 0.05),
             (1.6, 0.06, 0.08), (0.10, 1.2, 0.25))  # fmt: skip
    weights = np.array([0.25, 0.2, 0.2, 0.15, 0.1, 0.06, 0.04])
    colour = np.array(names[int(rng.choice(len(names), p=weights))]) * np.exp(rng.normal(0, 0.12, 3))
    return np.asarray(colour + rng.uniform(0.0, 0.12))


def _lit(key: F64, key_from: F64, sky: F64, fill: F64, fill_from: F64, rim: F64, rim_from: F64,
         floor: float = 0.42) -> Light:  # fmt: skip
    return Light(
        key_direction=triple(key_from), key=triple(key), sky=triple(sky),
        ground=triple(sky * floor * np.array([1.1, 0.95, 0.8])), fill_direction=triple(fill_from), fill=triple(fill),
        rim_direction=triple(rim_from), rim=triple(rim),
    )  # fmt: skip


def random_light(rng: np.random.Generator) -> tuple[LightKind, Light]:
    """Any room's light and what kind it is."""
    kind = LIGHT_KINDS[int(rng.choice(len(LIGHT_KINDS), p=_SHARES))]
    return kind, light_of(kind, rng)


def light_of(kind: LightKind, rng: np.random.Generator) -> Light:
    """A light of one kind."""
    if kind in ("coloured", "screen", "backlit"):
        return {"coloured": _coloured, "screen": _screen, "backlit": _backlit}[kind](rng)
    # azimuth, elevation, power, warmth, ambient, fill, rim: (low, high) of what is drawn
    ranges: dict[LightKind, tuple[tuple[float, float], ...]] = {
        "room": ((-65, 65), (5, 60), (0.6, 1.5), (-0.15, 0.25), (0.12, 0.34), (0.08, 0.3), (0.0, 0.8)),
        "studio": ((-35, 35), (0, 35), (1.3, 2.1), (-0.12, 0.12), (0.15, 0.3), (0.25, 0.6), (0.0, 0.9)),
        "window": ((50, 95), (0, 35), (1.4, 2.6), (-0.25, 0.02), (0.05, 0.16), (0.02, 0.12), (0.0, 0.3)),
        "dim": ((-60, 60), (5, 65), (0.12, 0.4), (0.0, 0.4), (0.03, 0.10), (0.01, 0.06), (0.0, 0.2)),
        "lamp": ((-75, 75), (10, 70), (0.7, 1.6), (0.3, 0.55), (0.04, 0.14), (0.03, 0.12), (0.0, 0.4)),
        "overcast": ((-40, 40), (40, 80), (0.15, 0.45), (-0.25, 0.0), (0.55, 0.95), (0.3, 0.7), (0.0, 0.3)),
    }
    azimuth, elevation, power, warmth, ambient, fill, rim = (float(rng.uniform(*r)) for r in ranges[kind])
    if kind == "window" and rng.random() < 0.5:
        azimuth = -azimuth
    tint, side = white(warmth), -np.sign(azimuth + 1e-6)
    around = white(0.3 * warmth - 0.1) * np.exp(rng.normal(0, 0.06, 3))
    return _lit(
        power * tint, direction(azimuth, elevation), ambient * around,
        fill * around * np.exp(rng.normal(0, 0.1, 3)), np.array([side * 0.6, 0.1, 0.6]),
        rim * white(float(rng.normal(0, 0.2))), np.array([0.7 * side, 0.5, -0.6]),
    )  # fmt: skip


def _coloured(rng: np.random.Generator) -> Light:
    """LED lamps from two sides and behind; half the time over some ordinary light."""
    first, second, third = (_saturated(rng) for _ in range(3))
    side = float(rng.choice([-1, 1]))
    plain = rng.uniform(0.3, 1.0) if rng.random() < 0.55 else 0.0
    strength = rng.uniform(0.35, 0.9)
    key = strength * first if plain == 0 else plain * white(float(rng.normal(0, 0.15))) + 0.3 * strength * first
    azimuth = side * rng.uniform(10 if plain else 25, 50 if plain else 80)
    return _lit(
        key, direction(azimuth, rng.uniform(0, 40)), rng.uniform(0.02, 0.10) * (0.4 + 0.6 * first + 0.4 * second),
        rng.uniform(0.3, 1.0) * second, direction(-side * rng.uniform(40, 80), rng.uniform(-10, 20)),
        rng.uniform(0.4, 1.8) * third, direction(-side * rng.uniform(110, 150), rng.uniform(0, 40)), 0.7,
    )  # fmt: skip


def _screen(rng: np.random.Generator) -> Light:
    """A monitor from below and in front in a dark room, bluish, with little else."""
    tint = white(float(rng.uniform(-0.45, -0.05))) * np.exp(rng.normal(0, 0.12, 3))
    rim = _saturated(rng) * rng.uniform(0, 0.6) if rng.random() < 0.4 else np.zeros(3)
    return _lit(
        rng.uniform(0.25, 0.9) * tint, direction(rng.uniform(-30, 30), rng.uniform(-35, 2)),
        rng.uniform(0.015, 0.06) * white(float(rng.normal(0, 0.2))), rng.uniform(0.05, 0.25) * tint,
        direction(rng.uniform(-40, 40), -10), rim, direction(float(rng.choice([-1, 1])) * 130, 20), 1.2,
    )  # fmt: skip


def _backlit(rng: np.random.Generator) -> Light:
    """A bright window behind: a hard rim, and only what the room throws back from the front."""
    side = float(rng.choice([-1, 1]))
    daylight = white(float(rng.uniform(-0.2, 0.1)))
    return _lit(
        rng.uniform(0.1, 0.45) * white(float(rng.normal(0.05, 0.15))), direction(rng.uniform(-50, 50), 25),
        rng.uniform(0.12, 0.3) * daylight, rng.uniform(0.05, 0.2) * daylight, direction(rng.uniform(-40, 40), 5),
        rng.uniform(1.2, 3.0) * daylight, direction(side * rng.uniform(120, 165), rng.uniform(5, 40)),
    )  # fmt: skip
