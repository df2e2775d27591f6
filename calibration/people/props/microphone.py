"""Microphones on a stand: a condenser with a pop filter, a broadcast microphone with foam, and the arm that holds it.

Their space has its origin in the microphone's head and the speaker ahead on -z: the world's axes, shifted only.
"""

from __future__ import annotations

import numpy as np

from calibration.people.head.mesh import Points
from calibration.people.props.meshes import Mesh, ellipsoid, facing, lathe, merged, tube
from calibration.people.props.worn import MicrophoneKind

_BODY, _GRILLE, _ARM, _RING = range(4)
_UP = np.array([0.0, 1.0, 0.0])
POP_RADIUS = 0.62


def _turned(rows: list[tuple[float, float]], slot: int) -> Mesh:
    return lathe(np.array(rows), 40, slot)


def _dome(radius: float, low: float, high: float) -> list[tuple[float, float]]:
    """A cylinder from ``low`` that ends in a flat dome at ``high``."""
    return [
        (radius, low),
        (radius, high - 0.10),
        (radius * 0.93, high - 0.045),
        (radius * 0.72, high - 0.012),
        (0.0, high),
    ]


def _broadcast() -> Mesh:
    """Foam ahead, a body behind; along +y from the body's end to the foam."""
    foam = _turned([(0.0, -0.16), (0.20, -0.16), *_dome(0.235, -0.13, 0.24)], _GRILLE)
    body = _turned([(0.0, -1.0), (0.17, -1.0), (0.21, -0.95), (0.21, -0.17), (0.0, -0.17)], _BODY)
    ring = _turned([(0.20, -0.245), (0.222, -0.235), (0.222, -0.185), (0.20, -0.175)], _RING)
    return merged(foam, body, ring)


def _condenser() -> Mesh:
    grille = _turned([(0.25, -0.25), *_dome(0.25, -0.24, 0.33)], _GRILLE)
    body = _turned([(0.0, -1.15), (0.2, -1.15), (0.245, -1.08), (0.245, -0.26), (0.0, -0.26)], _BODY)
    ring = _turned([(0.245, -0.275), (0.266, -0.27), (0.266, -0.225), (0.245, -0.22)], _RING)
    return merged(grille, body, ring)


def _cradle(at: Points) -> list[Mesh]:
    """Two rings of a shock mount and their struts."""
    turn = np.linspace(0, 2 * np.pi, 33)
    parts = []
    for height in (-0.22, 0.22):
        circle = np.stack([np.cos(turn) * 0.40, np.full(33, height), np.sin(turn) * 0.40], 1)
        parts.append(tube(circle + at, 0.018, 8, _ARM))
    for k in range(4):
        a = np.pi / 4 + k * np.pi / 2
        x, z = np.cos(a) * 0.40, np.sin(a) * 0.40
        parts.append(tube(np.array([[x, -0.22, z], [x * 1.03, 0.0, z * 1.03], [x, 0.22, z]]) + at, 0.013, 6, _ARM))
    return parts


def build_microphone(kind: MicrophoneKind, *, from_left: bool, pop_filter: bool) -> Mesh:
    """Slots: body, foam or grille, arm, ring."""
    side = 1.0 if from_left else -1.0
    if kind == "broadcast":
        # It points at the mouth from below and from its arm's side.
        aim = np.array([-side * 0.55, 0.35, -0.75])
        head = _broadcast().moved(facing(aim, _UP), np.zeros(3))
        joint = -aim / np.linalg.norm(aim) * 0.75
        yoke = ellipsoid(joint, np.array([0.13, 0.13, 0.13]), _ARM, 18)
    else:
        head = merged(_condenser(), *_cradle(np.array([0.0, -0.68, 0.0])))
        joint = np.array([side * 0.42, -0.85, 0.10])
        yoke = ellipsoid(joint, np.array([0.08, 0.10, 0.08]), _ARM, 16)
    elbow = joint + np.array([side * 3.2, -0.5, 0.5])
    foot = elbow + np.array([side * 0.8, -4.5, 0.0])
    arm = [tube(np.stack([joint, (joint + elbow) / 2, elbow]), 0.075, 12, _ARM),
           tube(np.stack([elbow, (elbow + foot) / 2, foot]), 0.09, 12, _ARM)]  # fmt: skip
    cable = joint + np.linspace(0, 1, 14)[:, None] * (elbow - joint)
    cable = cable + np.array([0.0, -1.0, 0.0]) * (0.10 + 0.10 * np.sin(np.linspace(0, np.pi, 14)))[:, None]
    parts = [head, yoke, *arm, tube(cable, 0.022, 6, _ARM)]
    if pop_filter:
        parts += _pop_rim(joint)
    return merged(*parts)


def _pop_centre() -> Points:
    return np.array([0.0, 0.05, -0.62])


def _pop_rim(joint: Points) -> list[Mesh]:
    turn = np.linspace(0, 2 * np.pi, 61)
    circle = np.stack([np.cos(turn), np.sin(turn), np.zeros(61)], 1) * POP_RADIUS + _pop_centre()
    neck = np.stack([_pop_centre() - [0, POP_RADIUS, 0], _pop_centre() - [0.0, POP_RADIUS + 0.25, -0.1], joint])
    return [tube(circle, 0.022, 8, _ARM), tube(neck, 0.016, 6, _ARM)]


def build_pop_fabric() -> Mesh:
    """The nylon within the pop filter's rim, which one sees through."""
    disc = lathe(np.stack([np.linspace(0, POP_RADIUS, 6), np.linspace(0.01, 0, 6)], 1), 48)
    return disc.moved(facing(np.array([0.0, 0.0, 1.0]), _UP), _pop_centre())
