"""Baseball caps and beanies fitted to a skull, and the plane above which they hide the hair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.people.head.mesh import Points
from calibration.people.props.fit import HeadFit
from calibration.people.props.meshes import Mesh, ellipsoid, grid_triangles, merged, mesh
from calibration.people.props.worn import CapKind

_CROWN, _SECOND = range(2)
_AROUND, _UPWARDS = 144, 26
_PANELS = 6
_BRIM_HALF_ANGLE = np.radians(60.0)
_BRIM_LENGTH = 0.70


@dataclass(frozen=True)
class CapMesh:
    """Slots: crown, brim or cuff. ``plane`` is (a, b, c, d): hair above it is under the cap."""

    mesh: Mesh
    plane: tuple[float, float, float, float]


class _Edge:
    """The plane of the lower edge: its middle, its upward normal, and its axes to the left and forward."""

    def __init__(self, fit: HeadFit, kind: CapKind, height: float) -> None:
        brow = max(fit.landmarks[19, 1], fit.landmarks[24, 1])
        ears = np.concatenate(fit.ears)
        ear_top, ear_z = ears[:, 1].max(), ears[:, 2].mean()
        front = brow + height + {"forward": 0.34, "backward": 0.40, "beanie": 0.28}[kind]
        over_ear = ear_top + {"forward": 0.07, "backward": 0.07, "beanie": -0.04}[kind]
        slope = np.clip((front - over_ear) / (fit.landmarks[27, 2] - 0.1 - ear_z), 0.05, 0.6)
        self.up = np.array([0.0, 1.0, -slope]) / np.hypot(1.0, slope)
        self.forward = np.array([0.0, slope, 1.0]) / np.hypot(1.0, slope)
        self.left = np.array([1.0, 0.0, 0.0])
        centre_z = ear_z + 0.05
        self.centre = np.array([fit.middle[0], over_ear + slope * (centre_z - ear_z), centre_z])

    def world(self, azimuth: Points, elevation: Points, radius: Points) -> Points:
        """Azimuth 0 is the front and grows to the left; (..., 3)."""
        flat = np.cos(elevation)
        ahead, aside = radius * flat * np.cos(azimuth), radius * flat * np.sin(azimuth)
        rise = radius * np.sin(elevation)
        out: Points = (
            self.centre + aside[..., None] * self.left + ahead[..., None] * self.forward + rise[..., None] * self.up
        )
        return out


def _crown(fit: HeadFit, edge: _Edge, kind: CapKind) -> tuple[Mesh, Points]:
    """The crown, and the radius of its lower edge per azimuth."""
    azimuth = np.linspace(-np.pi, np.pi, _AROUND, endpoint=False)
    elevation = np.linspace(0, np.pi / 2, _UPWARDS) ** 1.0
    e, a = np.meshgrid(elevation, azimuth, indexing="ij")
    directions = edge.world(a, e, np.ones_like(a)) - edge.centre
    skull = fit.radii(edge.centre, directions, smooth=2.0)
    skull[-1] = skull[-1].mean()
    rise = np.sin(e)
    if kind == "beanie":
        radius = skull + 0.09 + 0.16 * rise**3
        ribs = 0.5 + 0.5 * np.cos(a * 48)
        detail = np.where(e < 1.3, ribs, 0.5)
        radius = radius + 0.010 * ribs * (e < 1.3)
    else:
        front = np.exp(-((a / 0.9) ** 2))
        radius = skull + 0.075 + 0.20 * rise * (0.45 + 0.9 * front * np.cos(e)) + 0.10 * rise**2
        seam = np.abs(np.sin(a * _PANELS / 2))
        detail = np.where(e > np.pi / 2 - 0.1, 0.5, np.clip(0.035 + seam * 1.5, 0, 1))
        radius = radius - 0.008 * np.exp(-((seam / 0.07) ** 2)) * (e < 1.4)
    points = edge.world(a, e, radius).reshape(-1, 3)
    # A rim that turns inwards gives the edge its thickness.
    inner = edge.world(azimuth, np.full(_AROUND, -0.02), radius[0] - 0.07)
    points = np.concatenate([inner, points])
    shell = mesh(points, _outwards(points, edge.centre), _CROWN)
    shell.detail[:] = np.concatenate([np.ones(_AROUND) * 0.5, detail.ravel()])
    return shell, radius[0]


def _outwards(points: Points, centre: Points) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    triangles = grid_triangles(len(points) // _AROUND, _AROUND, wrap_columns=True)
    corner = points[triangles]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    return triangles if ((corner.mean(1) - centre) * normal).sum() > 0 else triangles[:, ::-1]


def _brim(edge: _Edge, rim: Points, *, backward: bool) -> Mesh:
    """A crescent from the front of the edge, bent down at its sides."""
    u, v = np.linspace(-1, 1, 41), np.linspace(0, 1, 12)
    uu, vv = np.meshgrid(u, v, indexing="ij")
    azimuth = np.linspace(-np.pi, np.pi, _AROUND, endpoint=False)
    angle = uu * _BRIM_HALF_ANGLE + (np.pi if backward else 0.0)
    wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
    radius = np.interp(wrapped.ravel(), azimuth, rim, period=2 * np.pi).reshape(uu.shape)
    start = edge.world(angle, np.zeros_like(angle), radius - 0.03)
    ahead = edge.forward * (-1.0 if backward else 1.0)
    length = _BRIM_LENGTH * np.clip(1 - uu**2, 0, 1) ** 0.8 * vv
    droop = 0.11 * uu**2 * vv + 0.10 * vv + 0.08 * vv**2
    top = start + length[..., None] * ahead - droop[..., None] * edge.up
    parts = []
    for offset, sign in ((0.0, 1), (-0.028, -1)):
        points = (top + edge.up * (offset * np.ones_like(vv))[..., None]).reshape(-1, 3)
        sheet = mesh(points, grid_triangles(*uu.shape), _SECOND)
        flip = sign * np.sign((sheet.normals @ edge.up).sum())
        normals = sheet.normals * flip
        part = Mesh(points, normals, sheet.triangles, sheet.slot, np.full(len(points), 1.0 if sign > 0 else 0.55),
                    np.clip((1 - vv.ravel()) * 1.5 + 0.02, 0, 1))  # fmt: skip
        parts.append(part)
    lips = np.stack([top[:, -1], top[:, -1] - edge.up * 0.028], 1).reshape(-1, 3)
    parts.append(mesh(lips, grid_triangles(len(u), 2), _SECOND))
    return merged(*parts)


def _cuff(edge: _Edge, rim: Points) -> Mesh:
    """The turned-up edge of a beanie."""
    azimuth = np.linspace(-np.pi, np.pi, _AROUND, endpoint=False)
    heights, bulge = (
        np.linspace(-0.02, 0.30, 10),
        np.array([-0.04, 0.02, 0.045, 0.055, 0.06, 0.06, 0.055, 0.045, 0.02, -0.04]),
    )
    ribs = 0.5 + 0.5 * np.cos(azimuth * 48)
    radius = rim[None] + bulge[:, None] + 0.010 * ribs[None] - 0.10 * np.clip(heights, 0, 1)[:, None] ** 2
    flat = edge.world(np.tile(azimuth, (10, 1)), np.zeros((10, _AROUND)), radius)
    points = (flat + heights[:, None, None] * edge.up).reshape(-1, 3)
    cuff = mesh(points, _outwards(points, edge.centre), _SECOND)
    cuff.detail[:] = np.tile(ribs, 10)
    return cuff


def build_cap(fit: HeadFit, kind: CapKind, height: float) -> CapMesh:
    """A cap on one skull."""
    edge = _Edge(fit, kind, height)
    crown, rim = _crown(fit, edge, kind)
    if kind == "beanie":
        parts = [crown, _cuff(edge, rim)]
    else:
        top = crown.positions[-1]
        parts = [crown, _brim(edge, rim, backward=kind == "backward")]
        parts.append(ellipsoid(top, np.array([0.07, 0.035, 0.07]), _CROWN, 14))
        parts[-1].detail[:] = 0.6
    normal = edge.up
    return CapMesh(merged(*parts), (*(float(x) for x in normal), float(normal @ edge.centre) - 0.01))  # type: ignore[arg-type]
