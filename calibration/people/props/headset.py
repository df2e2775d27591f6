"""Headphones fitted to a head: cups on the ears, a band over skull and hair, a microphone arm."""

from __future__ import annotations

import numpy as np

from calibration.people.head.mesh import Points
from calibration.people.props.fit import HeadFit
from calibration.people.props.meshes import Mesh, bezier, ellipsoid, facing, lathe, merged, rounded, sweep, tube
from calibration.people.props.worn import Headphones

_SHELL, _CUSHION, _ACCENT, _FOAM = range(4)
_CUP = {"gaming": (0.43, 0.52, 0.24), "studio": (0.40, 0.48, 0.20)}
"""Half width, half height and depth of the shell, decimetres."""
_CUSHION_DEPTH = 0.20
_CAP_HEIGHT = 0.27
"""A cap's crown over the skull."""
_UP = np.array([0.0, 1.0, 0.0])


def _oval(part: Mesh, width: float, height: float) -> Mesh:
    """A part turned about +y, stretched to ``width`` along z and ``height`` along x."""
    stretch = np.array([height, 1.0, width])
    normals = part.normals / stretch
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Mesh(part.positions * stretch, normals, part.triangles, part.slot, part.shade, part.detail)


class _Cup:
    """Where a cup sits: its middle on the head's surface and the direction away from the head."""

    def __init__(self, fit: HeadFit, look: str, sign: int) -> None:
        self.sign, self.look = sign, look
        self.width, self.height, self.depth = _CUP[look]
        ear = fit.ear(sign)
        middle = (ear.min(0) + ear.max(0)) / 2
        y = middle[1] + np.array([0.0, 0.8, -0.8, 0.0, 0.0]) * self.height
        z = middle[2] + np.array([0.0, 0.0, 0.0, 0.8, -0.8]) * self.width
        around = fit.side(sign, y, z) * sign
        above = np.array([sign * float(np.median(around)), middle[1], middle[2]])
        cover = min(0.5 * fit.hair_height(above[None] + [0, 0.25, 0], 0.1), 0.14)
        # Cushions give way: the head's widest point under them sinks in by a third of their depth.
        x = (
            max(float(np.percentile(around, 60)) - 0.03, float((ear[:, 0] * sign).max()) - _CUSHION_DEPTH - 0.12)
            + cover
        )
        self.middle = np.array([sign * x, middle[1] + 0.02, middle[2]])
        self.outward = np.array([sign * 1.0, -0.10, 0.10]) / np.linalg.norm([1.0, 0.10, 0.10])

    def mesh(self) -> Mesh:
        """Cushion, shell and an accent ring or badge."""
        d, c = self.depth, _CUSHION_DEPTH
        angle = np.linspace(-np.pi / 2, np.pi / 2, 9)
        pad = np.stack([0.80 + 0.20 * np.cos(angle), c / 2 + c / 2 * np.sin(angle)], 1)
        pad = np.concatenate([[[0.55, c * 0.25]], pad])
        cushion = _oval(lathe(pad, 44, _CUSHION), self.width, self.height)
        profile = np.array([[0.97, c * 0.9], [0.985, c + 0.25 * d], [0.95, c + 0.55 * d], [0.86, c + 0.8 * d],
                            [0.70, c + 0.95 * d], [0.5, c + d], [0.0, c + d]])  # fmt: skip
        if self.look == "gaming":
            profile = np.array([[0.96, c * 0.9], [0.99, c + 0.3 * d], [0.95, c + 0.62 * d], [0.72, c + 0.72 * d],
                                [0.66, c + 0.95 * d], [0.56, c + d], [0.0, c + d]])  # fmt: skip
        shell = _oval(lathe(profile, 44, _SHELL), self.width, self.height)
        at, r = (c + 0.72 * d, 0.775) if self.look == "gaming" else (c + 0.6 * d, 0.955)
        ring = np.stack([r + 0.03 * np.cos(angle * 2), at + 0.012 * np.sin(angle * 2)], 1)
        accent = _oval(lathe(ring, 44, _ACCENT), self.width, self.height)
        turn = facing(self.outward, np.array([0.0, 0.0, 1.0]))
        return merged(cushion, shell, accent).moved(turn, self.middle)

    @property
    def hinge(self) -> Points:
        """Where the band is fastened: at the upper edge of the shell."""
        return np.asarray(self.middle + self.outward * (_CUSHION_DEPTH + self.depth * 0.45) + _UP * self.height * 0.2)


def _band(fit: HeadFit, cups: list[_Cup], look: str, *, capped: bool) -> Mesh:
    """An arc from cup to cup that clears skull and pressed hair."""
    centre = (cups[0].middle + cups[1].middle) / 2
    angle = np.linspace(0, np.pi, 49)
    directions = np.stack([np.cos(angle), np.sin(angle), np.full(49, -0.06)], 1)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    skull = fit.radii(centre, directions[None], smooth=0.8)[0]
    top = centre + directions[24] * skull[24]
    hair = fit.hair_height(top[None] + np.array([[-0.4, -0.08, 0], [0, 0, 0], [0.4, -0.08, 0]]), 0.0)
    hair = max(hair, _CAP_HEIGHT) if capped else hair
    a = np.mean([abs(c.hinge[0] - centre[0]) for c in cups]) + 0.02
    b = skull[24] + hair + 0.05
    ellipse = 1 / ((np.abs(np.cos(angle)) / a) ** 2.3 + (np.abs(np.sin(angle)) / b) ** 2.3) ** (1 / 2.3)
    radius = np.maximum(ellipse, skull + np.minimum(hair, _CAP_HEIGHT if capped else 0.12) * np.sin(angle) + 0.04)
    radius = np.convolve(np.pad(radius, 4, mode="reflect"), np.hanning(11)[1:-1] / np.hanning(11).sum(), "valid")
    path = centre + directions * radius[:, None]
    path = path[(path[:, 1] > centre[1] + 0.25)]
    path = np.concatenate([cups[0].hinge[None], path, cups[1].hinge[None]])
    along = np.linspace(-1, 1, len(path))
    wide = 0.055 + 0.10 * np.clip(1.15 - np.abs(along) * 1.15, 0, 1) ** 0.5
    thick = np.full(len(path), 0.020 if look == "studio" else 0.028)
    profile = rounded(1.0, 1.0)[None] * np.stack([wide, thick], 1)[:, None]
    forward = np.array([0.0, 0.0, 1.0])
    arc = sweep(path, forward, profile, slot=_SHELL)
    middle = np.abs(along) < 0.62
    inward = (centre - path[middle]) / np.linalg.norm(centre - path[middle], axis=1, keepdims=True)
    pad = sweep(path[middle] + inward * 0.035, forward, profile[middle] * [0.92, 1.6], slot=_CUSHION)
    return merged(arc, pad)


def _fork(cup: _Cup) -> Mesh:
    """A yoke that holds the cup."""
    angle = np.radians(np.linspace(-75, 255, 31))
    x = cup.middle + cup.outward * (_CUSHION_DEPTH + cup.depth * 0.35)
    side = np.stack([np.zeros(31), np.sin(angle) * cup.height * 1.04, np.cos(angle) * cup.width * 1.06], 1)
    keep = side[:, 1] > -0.05
    return sweep(x + side[keep], np.array([1.0, 0.0, 0.0]), rounded(0.035, 0.014, points=10), slot=_SHELL)


def _boom(fit: HeadFit, cup: _Cup) -> Mesh:
    sign = cup.sign
    corner = fit.landmarks[54 if sign > 0 else 48]
    tip = corner + np.array([sign * 0.13, -0.10, 0.16])
    x = cup.middle + cup.outward * (_CUSHION_DEPTH + cup.depth * 0.6)
    start = x + np.array([0.0, -0.55 * cup.height, 0.35 * cup.width])
    leaving, coming = np.array([sign * 0.04, -0.35, 0.35]), np.array([sign * 0.42, -0.12, -0.10])
    path = bezier(np.stack([start, start + leaving, tip + coming, tip]), 26)
    foam = ellipsoid(np.zeros(3), np.array([0.075, 0.105, 0.075]), _FOAM, 20)
    pivot = lathe(np.array([[0.0, -0.05], [0.10, -0.05], [0.10, 0.05], [0.0, 0.05]]), 20, _SHELL)
    arm = tube(path, 0.019, 8, _FOAM)
    turn = facing(path[-1] - path[-4], _UP)
    return merged(arm, foam.moved(turn, path[-1]), pivot.moved(facing(cup.outward, _UP), start))


def build_headphones(fit: HeadFit, worn: Headphones, *, capped: bool = False) -> Mesh:
    """Cups, yokes, band (over a cap if ``capped``) and, if there is one, the microphone arm.

    Slots: shell, cushion, accent, microphone.
    """
    cups = [_Cup(fit, worn.look, sign) for sign in (1, -1)]
    parts = [c.mesh() for c in cups] + [_fork(c) for c in cups] + [_band(fit, cups, worn.look, capped=capped)]
    if worn.boom:
        parts.append(_boom(fit, cups[0 if worn.boom_left else 1]))
    return merged(*parts)
