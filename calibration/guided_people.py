"""Invented people who follow the guide of ``calibrate_wearer``, with a face at rest that may be biased.

For the reference of an encoder and for measuring: ``python -m calibration.guided_reference``,
``benchmarks/bench_calibrate.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from calibration.people.face.expression import Expression, both, look
from calibration.people.footage import CropOptions, shoot_crops
from calibration.people.identity import Identity
from calibration.people.render import Renderer
from calibration.people.state import State, random_state
from calibration.report_people import middle
from engines.facemesh import FaceMesh
from engines.facemesh import look as look_at
from engines.mesh_subset import crop_points
from engines.types import F32, F64, U8

MARGIN = 2.0


def _full() -> dict[str, Expression]:
    smile: Expression = {}
    for name, value in (("mouthSmile", 0.95), ("cheekSquint", 0.6), ("mouthUpperUp", 0.3), ("eyeSquint", 0.2)):
        both(smile, name, value)
    return {"neutral": {}, "smile": smile, "open": {"jawOpen": 0.75}}


def moments(prompt: str, session: State, count: int, rng: np.random.Generator) -> list[State]:
    """``count`` frames of somebody who does what a prompt asks, about fully, with small turns of the head."""
    out = []
    for _ in range(count):
        yaw, pitch, roll = (float(v) for v in rng.normal(0, (5, 4, 2)))
        effort = float(np.clip(rng.normal(0.9, 0.08), 0.6, 1.0))
        expression = {name: min(1.0, value * effort) for name, value in _full()[prompt].items()}
        both(expression, "eyeBlink", float(rng.uniform(0, 0.08)))
        gaze = float(rng.normal(-0.01 * yaw, 0.05)), float(rng.normal(0, 0.04))
        look(expression, gaze)
        out.append(replace(
            session, yaw=yaw, pitch=pitch, roll=roll, expression=expression, gaze=gaze,
            noise_seed=int(rng.integers(1 << 30)),
        ))  # fmt: skip
    return out


def everyday(session: State, seeds: range, *, turn: float = 0.5) -> list[State]:
    """States of ``seeds`` in a session's light, room and camera."""
    found = [random_state(seed, turn=turn, props=False) for seed in seeds]
    return [
        replace(session, yaw=s.yaw, pitch=s.pitch, roll=s.roll, expression=s.expression, gaze=s.gaze,
                noise_seed=s.noise_seed)
        for s in found
    ]  # fmt: skip


def biased(state: State, rest: Mapping[str, float]) -> State:
    """The same moment of somebody whose face at rest already shows ``rest``; no unit goes beyond 1."""
    expression = dict(state.expression)
    for name, value in rest.items():
        expression[name] = min(1.0, expression.get(name, 0.0) + value)
    return replace(state, expression=expression)


def random_rest(rng: np.random.Generator) -> dict[str, float]:
    """A face at rest that is not neutral: weights of ARKit's units, mouth, jaw, brows and lids each by chance."""
    rest: dict[str, float] = {}

    def some(low: float = 0.2, high: float = 0.95) -> float:
        return float(rng.uniform(low, high))

    def sides(name: str, value: float) -> None:
        right = float(np.clip(rng.normal(1, 0.12), 0.7, 1.3))
        rest[f"{name}Left"], rest[f"{name}Right"] = min(1.0, value), min(1.0, value * right)

    _rest_of_mouth(int(rng.integers(6)), rest, some, sides, rng)
    if rng.random() < 0.25:
        sides("mouthLowerDown", some(0.2, 0.8))
    if rng.random() < 0.4:
        rest["jawOpen"] = some(0.1, 0.55)
    brows = rng.integers(4)
    if brows in (0, 2):
        rest["browInnerUp"] = some()
    if brows == 0:
        sides("browOuterUp", some())
    elif brows == 1:
        sides("browDown", some())
    lids = rng.integers(4)
    if lids == 0:
        sides("eyeBlink", some(0.1, 0.45))
    elif lids == 1:
        sides("eyeSquint", some(0.2, 0.8))
    elif lids == 2 and rng.random() < 0.5:
        sides("eyeWide", some(0.2, 0.8))
    return rest


def _rest_of_mouth(
    kind: int,
    rest: dict[str, float],
    some: Callable[..., float],
    sides: Callable[[str, float], None],
    rng: np.random.Generator,
) -> None:
    if kind in (0, 1):
        value = some()
        sides("mouthSmile", value)
        sides("cheekSquint", value * some(0.3, 0.7))
    elif kind in (2, 3):
        sides("mouthFrown" if kind == 2 else "mouthPress", some())
    elif kind == 4:
        which = rng.integers(3)
        if which == 0:
            rest["mouthPucker"] = some()
        elif which == 1:
            sides("mouthStretch", some())
        else:
            sides("mouthUpperUp", some(0.2, 0.7))


@dataclass(frozen=True)
class SeenFace:
    """A crop as the live path cuts it."""

    crop: U8
    """(S, S, 3) BGR."""
    points: F32 | None
    """(127, 2) what Face Mesh sees; None where it sees no face."""


def shoot(renderer: Renderer, facemesh: FaceMesh, who: Identity, states: list[State], size: int) -> list[SeenFace]:
    """Each state as ``who``'s webcam shows it, for a network that takes ``size``."""
    side = round(size * MARGIN)
    found = []
    for shot in shoot_crops(renderer, who, states, as_persona=False, options=CropOptions(side, MARGIN)):
        mesh = look_at(facemesh, shot.pixels, shot.landmarks)
        found.append(SeenFace(middle(shot.pixels, size), None if mesh is None else _points(mesh, side, size)))
    return found


def _points(mesh: F64, side: int, size: int) -> F32:
    shift = (side - size) // 2
    return crop_points(mesh[:, :2], np.array([[1.0, 0, shift], [0, 1.0, shift]]), size)
