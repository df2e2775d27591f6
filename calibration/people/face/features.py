"""Eyes, teeth and tongue: small meshes of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from calibration.people.face.noise import smoothstep
from calibration.people.head.mesh import Points, vertex_normals
from calibration.people.head.shape import HeadModel

_UPPER_WIDTHS = np.array([0.088, 0.070, 0.078, 0.070, 0.07, 0.1])
_UPPER_HEIGHTS = np.array([0.104, 0.092, 0.100, 0.082, 0.076, 0.07])
_LOWER_WIDTHS = np.array([0.056, 0.06, 0.068, 0.07, 0.07, 0.105])
_LOWER_HEIGHTS = np.array([0.082, 0.082, 0.088, 0.078, 0.074, 0.07])
_GRID = 9
_UPPER_SHOWS, _LOWER_SHOWS = 0.040, -0.015
"""How far below the closed lips' line the upper row reaches, and above it the lower one, decimetres."""


@dataclass(frozen=True)
class EyeMesh:
    """A unit eyeball looking along +z, with a bulging cornea."""

    positions: Points
    normals: Points
    directions: Points
    triangles: NDArray[np.int64]


def eye_mesh(rings: int = 28, spokes: int = 40) -> EyeMesh:
    """Rings are dense around the iris, where the picture needs them."""
    theta = np.r_[np.linspace(0, 0.60, 14), np.linspace(0.68, np.pi, rings - 14)]
    t, p = np.meshgrid(theta, np.linspace(0, 2 * np.pi, spokes, endpoint=False), indexing="ij")
    direction = np.stack([np.sin(t) * np.cos(p), np.sin(t) * np.sin(p), np.cos(t)], -1)
    position = (direction * (1 + 0.045 * np.exp(-((t / 0.40) ** 2)))[..., None]).reshape(-1, 3)
    direction = direction.reshape(-1, 3)
    i = np.arange(rings - 1)[:, None] * spokes + np.arange(spokes)[None]
    j = np.arange(rings - 1)[:, None] * spokes + (np.arange(spokes)[None] + 1) % spokes
    triangles = np.stack([i, i + spokes, j, j, i + spokes, j + spokes], -1).reshape(-1, 3)
    normals = vertex_normals(position, triangles)
    normals *= np.sign((normals * direction).sum(1, keepdims=True))
    return EyeMesh(position, normals, direction, triangles)


def resting_pitch(centre: Points, radius: float, upper: Points, lower: Points) -> float:
    """Radians by which an eye looks up (+) or down when it looks straight ahead between its lids.

    ``upper`` and ``lower`` (k, 3) are the relaxed lids' edges. Lids sit differently on every face; the iris of somebody
    relaxed sits between them, a little nearer to the upper one.
    """
    top, bottom = (float(lid[2:-2, 1].mean()) for lid in (upper, lower))
    middle = bottom + 0.54 * (top - bottom)
    return float(np.arcsin(np.clip((middle - float(centre[1])) / radius, -0.4, 0.4)))


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


def _rise(u: Points) -> Points:
    """How much higher the rows lie ``u`` -1..1 of the way back: they follow the curve of a smile."""
    return np.asarray(0.055 * np.abs(u) ** 2)


def _arch(teeth: Points, edge: float, *, upper: bool) -> list[_Part]:
    """One row of teeth and its gum along the curve that the helper geometry outlines; ``edge`` is where they bite."""
    widths, heights = (_UPPER_WIDTHS, _UPPER_HEIGHTS) if upper else (_LOWER_WIDTHS, _LOWER_HEIGHTS)
    front, reach = teeth[:, 2].max() - (0.018 if upper else 0.055), np.abs(teeth[:, 0]).max() - 0.02
    curve = (front - teeth[:, 2].min() - 0.1) / reach**2.4
    x = np.linspace(-reach, reach, 400)
    z = front - curve * np.abs(x) ** 2.4
    arc = np.r_[0, np.cumsum(np.hypot(np.diff(x), np.diff(z)))]
    share = np.r_[widths[::-1], widths]
    edges = np.r_[0, np.cumsum(share / share.sum() * arc[-1] * 0.98)] + arc[-1] * 0.01
    base = edge
    u, v = np.meshgrid(np.linspace(-1, 1, _GRID), np.linspace(-1, 1, _GRID))
    gumward = (v + 1) / 2 if upper else (1 - v) / 2
    # Flat in the middle, rounded at the corners; the biting edge is sharper than the neck.
    bulge = 0.024 * (np.clip(1 - np.abs(u) ** 4, 0, 1) * np.clip(1 - np.abs(v) ** 6, 0, 1)) ** 0.4
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
        biting = np.clip(1 - gumward * 6, 0, 1)
        across = u * (end - start) / 2 * (1.0 - 0.05 * gumward**2 - 0.04 * biting**2)
        points = centre + across[..., None] * tangent + bulge[..., None] * outward
        points[..., 1] += v * height / 2 + _rise(points[..., 0] / reach)
        # Warmer towards the gum, glassy and a little bluer at the edge; canines are yellower.
        warm = np.clip(gumward, 0, 1)[..., None] ** 1.5 + (0.35 if 0.2 < abs(middle / arc[-1] - 0.5) < 0.29 else 0.0)
        colour = np.array([0.70, 0.615, 0.52]) * (1 - warm * np.array([0.08, 0.14, 0.26]))
        colour = colour * (1 - biting[..., None] * np.array([0.07, 0.04, 0.0]))
        depth = np.clip((at[1] - front + 0.42) / 0.42, 0.2, 1) * (1 - 0.20 * np.abs(u) ** 6)
        rgba = np.concatenate([colour, depth[..., None]], -1)
        parts.append(_Part(points.reshape(-1, 3), quads, rgba.reshape(-1, 4)))
    parts.append(_backing(x, z, base, upper=upper))
    parts.append(_gum(x, z, base, upper=upper))
    return parts


def _strip(x: Points, z: Points, rows: list[tuple[float, float]], base: float, sign: float, colour: Points) -> _Part:
    """A band along the arch through (height from ``base``, distance outward) ``rows``; ``colour`` (4,)."""
    # The strip ends before the last molars, where cheeks are near.
    pick = np.linspace(0.09 * len(x), 0.91 * len(x) - 1, 40).astype(int)
    height = base + _rise(x[pick] / x[-1])
    points = np.stack([np.stack([x[pick], height + sign * dy, z[pick] + dz], 1) for dy, dz in rows])
    i = np.arange(len(rows) - 1)[:, None] * 40 + np.arange(39)[None]
    triangles = np.stack([i, i + 1, i + 40, i + 40, i + 1, i + 41], -1).reshape(-1, 3)
    return _Part(points.reshape(-1, 3), triangles, np.tile(colour, (40 * len(rows), 1)))


def _backing(x: Points, z: Points, base: float, *, upper: bool) -> _Part:
    """Enamel behind the teeth, so that no black shows between them."""
    colour = np.array([0.52, 0.45, 0.36, 0.7])
    return _strip(x, z, [(0.012, 0.002), (0.05, 0.008), (0.10, 0.006)], base, 1.0 if upper else -1.0, colour)


def _gum(x: Points, z: Points, base: float, *, upper: bool) -> _Part:
    """A rounded strip above (or below) the teeth's necks."""
    rows = [(0.082, 0.004), (0.105, 0.020), (0.15, 0.014), (0.22, -0.03)]
    return _strip(x, z, rows, base, 1.0 if upper else -1.0, np.array([0.42, 0.15, 0.14, 0.6]))


def narrow_mouth(skin: Points, average: Points, inside: NDArray[np.bool_]) -> Points:
    """(m, 3) offsets that draw the mouth's lining in behind the lips, so that no smile pushes it through a cheek.

    ``skin`` (m, 3) is neutral, ``average`` (m, 3) the same vertices on the average head, ``inside`` (m,) the lining.
    """
    deep = smoothstep(1.40, 1.26, average[:, 2]) * inside
    middle = np.array([0.0, float(skin[inside, 1].mean()), 0.0])
    towards = (middle - skin) * [0.30, 0.12, 0.0] - [0.0, 0.0, 0.04]
    return np.asarray(towards * deep[:, None])


def _tongue_colour(points: Points) -> Points:
    """(n, 4) for (n, 3) points: pink at the tip, dark towards the throat, which little light reaches."""
    depth = np.clip((points[:, 2].max() - points[:, 2]) / 0.45, 0, 1)
    colour = np.array([0.42, 0.15, 0.14]) * (1 - 0.55 * depth[:, None])
    return np.concatenate([colour, (0.52 - 0.46 * depth**0.7)[:, None]], 1)


def _biting_edges(head: HeadModel, neutral: Points) -> tuple[float, float]:
    """Heights at which the upper and the lower row end, from where the closed lips meet.

    Upper incisors reach some millimetres below a relaxed upper lip, so that talking and smiling bare them first. Lower
    ones end behind the lower lip and overlap the upper ones from behind. The teeth's helper geometry is no guide: it
    does not follow the lips on every face.
    """
    line = float(neutral[head.index["landmarks"][[61, 62, 63, 65, 66, 67]], 1].mean())
    return line - _UPPER_SHOWS, line + _LOWER_SHOWS


class Mouth:
    """Teeth, gums and tongue. Lower teeth follow the jaw rigidly; the tongue is the head's own surface."""

    def __init__(self, head: HeadModel, neutral: Points) -> None:
        self._head = head
        upper, lower = (
            _arch(neutral[head.index[f"{row}_teeth"]], edge, upper=row == "upper")
            for row, edge in zip(("upper", "lower"), _biting_edges(head, neutral), strict=True)
        )
        self._lower_rest = neutral[head.index["lower_teeth"]]
        parts = upper + lower
        offsets = np.cumsum([0] + [len(p.points) for p in parts])
        self._points = np.concatenate([p.points for p in parts])
        self._is_lower = np.arange(len(self._points)) >= sum(len(p.points) for p in upper)
        solid = [p.triangles + o for p, o in zip(parts, offsets, strict=False)]
        self.triangles = np.concatenate([*solid, head.tongue.triangles + len(self._points)])
        self.colour = np.concatenate(
            [*(p.colour for p in parts), _tongue_colour(head.tongue.subdivide @ neutral[head.tongue.ids])]
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
