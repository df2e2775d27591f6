"""Eyes, teeth and tongue: small meshes of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from calibration.people.shape import HeadModel, Points, vertex_normals

_UPPER_WIDTHS = np.array([0.088, 0.070, 0.078, 0.070, 0.07, 0.1])
_UPPER_HEIGHTS = np.array([0.104, 0.092, 0.100, 0.082, 0.076, 0.07])
_LOWER_WIDTHS = np.array([0.056, 0.06, 0.068, 0.07, 0.07, 0.105])
_LOWER_HEIGHTS = np.array([0.082, 0.082, 0.088, 0.078, 0.074, 0.07])
_GRID = 9


@dataclass(frozen=True)
class EyeMesh:
    """A unit eyeball looking along +z, with a bulging cornea."""

    positions: Points
    normals: Points
    directions: Points
    triangles: NDArray[np.int64]


def eye_mesh(rings: int = 28, spokes: int = 40) -> EyeMesh:
    """Rings are dense around the iris, where the picture needs them."""
    theta = np.r_[np.linspace(0, 0.55, 14), np.linspace(0.62, np.pi, rings - 14)]
    t, p = np.meshgrid(theta, np.linspace(0, 2 * np.pi, spokes, endpoint=False), indexing="ij")
    direction = np.stack([np.sin(t) * np.cos(p), np.sin(t) * np.sin(p), np.cos(t)], -1)
    position = (direction * (1 + 0.045 * np.exp(-((t / 0.36) ** 2)))[..., None]).reshape(-1, 3)
    direction = direction.reshape(-1, 3)
    i = np.arange(rings - 1)[:, None] * spokes + np.arange(spokes)[None]
    j = np.arange(rings - 1)[:, None] * spokes + (np.arange(spokes)[None] + 1) % spokes
    triangles = np.stack([i, i + spokes, j, j, i + spokes, j + spokes], -1).reshape(-1, 3)
    normals = vertex_normals(position, triangles)
    normals *= np.sign((normals * direction).sum(1, keepdims=True))
    return EyeMesh(position, normals, direction, triangles)


def gaze_rotation(gaze: tuple[float, float]) -> Points:
    """(3, 3) rotation of the eyeballs in the head for (left, up) radians."""
    matrix: Points = Rotation.from_euler("yx", [gaze[0], -gaze[1]]).as_matrix()
    return matrix


@dataclass(frozen=True)
class _Part:
    points: Points
    triangles: NDArray[np.int64]
    colour: NDArray[np.float64]
    """(n, 4): linear RGB, ambient occlusion."""


def _arch(teeth: Points, *, upper: bool) -> list[_Part]:
    """One row of teeth and its gum along the parabola that the helper geometry outlines."""
    widths, heights = (_UPPER_WIDTHS, _UPPER_HEIGHTS) if upper else (_LOWER_WIDTHS, _LOWER_HEIGHTS)
    front, reach = teeth[:, 2].max() - 0.03, np.abs(teeth[:, 0]).max() - 0.02
    curve = (front - teeth[:, 2].min() - 0.1) / reach**2.4
    x = np.linspace(-reach, reach, 400)
    z = front - curve * np.abs(x) ** 2.4
    arc = np.r_[0, np.cumsum(np.hypot(np.diff(x), np.diff(z)))]
    share = np.r_[widths[::-1], widths]
    edges = np.r_[0, np.cumsum(share / share.sum() * arc[-1] * 0.98)] + arc[-1] * 0.01
    base = teeth[:, 1].min() + 0.01 if upper else teeth[:, 1].max() - 0.01
    u, v = np.meshgrid(np.linspace(-1, 1, _GRID), np.linspace(-1, 1, _GRID))
    gumward = (v + 1) / 2 if upper else (1 - v) / 2
    bulge = 0.032 * np.sqrt(np.clip(1 - np.abs(u) ** 3.5, 0, 1)) * np.sqrt(np.clip(1 - np.abs(v) ** 5, 0, 1))
    index = np.arange(_GRID * _GRID).reshape(_GRID, _GRID)
    quads = np.stack(
        [index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, :-1], index[:-1, 1:], index[1:, 1:]], -1
    ).reshape(-1, 3)
    parts = []
    for start, end, height in zip(edges[:-1], edges[1:], np.r_[heights[::-1], heights], strict=True):
        middle = (start + end) / 2
        at = np.array([np.interp(middle, arc, x), np.interp(middle, arc, z)])
        ahead = np.array([np.interp(middle + 0.01, arc, x), np.interp(middle + 0.01, arc, z)]) - at
        tangent = np.array([ahead[0], 0, ahead[1]]) / np.linalg.norm(ahead)
        outward = np.array([-tangent[2], 0, tangent[0]])
        outward *= np.sign(outward[2] + 1e-6)
        centre = np.array([at[0], base + height / 2 if upper else base - height / 2, at[1]])
        across = u * (end - start) / 2 * (0.96 - 0.13 * gumward)
        points = centre + across[..., None] * tangent + bulge[..., None] * outward
        points[..., 1] += v * height / 2
        shade = 1 - 0.18 * gumward[..., None]
        colour = np.array([0.66, 0.59, 0.475]) * shade
        depth = np.clip((at[1] - front + 0.5) / 0.5, 0.35, 1)
        rgba = np.concatenate([colour, np.full((*colour.shape[:2], 1), depth)], -1)
        parts.append(_Part(points.reshape(-1, 3), quads, rgba.reshape(-1, 4)))
    parts.append(_gum(x, z, base, upper=upper))
    return parts


def _gum(x: Points, z: Points, base: float, *, upper: bool) -> _Part:
    """A rounded strip above (or below) the teeth's necks."""
    pick = np.linspace(0, len(x) - 1, 40).astype(int)
    sign = 1.0 if upper else -1.0
    rows = [(0.070, 0.006), (0.10, 0.020), (0.15, 0.014), (0.22, -0.03)]
    points = np.stack([np.stack([x[pick], np.full(40, base + sign * dy), z[pick] + dz], 1) for dy, dz in rows])
    i = np.arange(len(rows) - 1)[:, None] * 40 + np.arange(39)[None]
    triangles = np.stack([i, i + 1, i + 40, i + 40, i + 1, i + 41], -1).reshape(-1, 3)
    colour = np.tile([0.42, 0.13, 0.12, 0.55], (40 * len(rows), 1))
    return _Part(points.reshape(-1, 3), triangles, colour)


class Mouth:
    """Teeth, gums and tongue. Lower teeth follow the jaw rigidly; the tongue is the head's own surface."""

    def __init__(self, head: HeadModel, neutral: Points) -> None:
        self._head = head
        upper, lower = (_arch(neutral[head.index[f"{row}_teeth"]], upper=row == "upper") for row in ("upper", "lower"))
        self._lower_rest = neutral[head.index["lower_teeth"]]
        parts = upper + lower
        offsets = np.cumsum([0] + [len(p.points) for p in parts])
        self._points = np.concatenate([p.points for p in parts])
        self._is_lower = np.arange(len(self._points)) >= sum(len(p.points) for p in upper)
        tongue = head.tongue.subdivide.shape[0]
        solid = [p.triangles + o for p, o in zip(parts, offsets, strict=False)]
        self.triangles = np.concatenate([*solid, head.tongue.triangles + len(self._points)])
        self.colour = np.concatenate(
            [*(p.colour for p in parts), np.tile([0.50, 0.17, 0.16, 0.55], (tongue, 1))]
        ).astype(np.float32)

    def positions(self, vertices: Points) -> Points:
        """(n, 3) in the head's own frame for expressed head ``vertices``."""
        now = vertices[self._head.index["lower_teeth"]]
        rest_centre, centre = self._lower_rest.mean(0), now.mean(0)
        # Rigid motion of the jaw: the rotation nearest to the helper's deformation (Kabsch 1976).
        u, _, vt = np.linalg.svd((self._lower_rest - rest_centre).T @ (now - centre))
        rotation = (u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt).T
        lower = (self._points - rest_centre) @ rotation.T + centre
        tongue = self._head.tongue.subdivide @ vertices[self._head.tongue.ids]
        return np.concatenate([np.where(self._is_lower[:, None], lower, self._points), tongue])
