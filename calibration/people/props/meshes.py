"""Small meshes of props: tubes, swept profiles, turned profiles, sheets. Positions in decimetres, normals outward."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.people.head.mesh import Points, vertex_normals


@dataclass(frozen=True)
class Mesh:
    """Triangles with one material slot (0..3) per vertex."""

    positions: Points
    normals: Points
    triangles: NDArray[np.int64]
    slot: Points
    """(n,) column of the palette."""
    shade: Points
    """(n,) 0..1: share of the sky that the vertex sees."""
    detail: Points
    """(n,) what the pattern needs: seams of caps, nails of hands."""

    def packed(self) -> NDArray[np.float32]:
        """(n, 9) float32 rows for a vertex buffer: position, normal, slot, shade, detail."""
        extra = np.stack([self.slot, self.shade, self.detail], 1)
        return np.concatenate([self.positions, self.normals, extra], 1).astype(np.float32)

    def moved(self, rotation: Points, offset: Points) -> Mesh:
        """Rotated or mirrored by a (3, 3) orthogonal matrix, then shifted."""
        return replace(self, positions=self.positions @ rotation.T + offset, normals=self.normals @ rotation.T)


def mesh(
    positions: Points, triangles: NDArray[np.int64], slot: int = 0, normals: Points | None = None, shade: float = 1.0
) -> Mesh:
    """A mesh of one slot; smooth normals are computed from the triangles unless given."""
    n = len(positions)
    smooth = vertex_normals(positions, triangles) if normals is None else normals
    return Mesh(positions, smooth, triangles, np.full(n, float(slot)), np.full(n, shade), np.zeros(n))


def merged(*parts: Mesh) -> Mesh:
    """All parts as one mesh."""
    starts = np.cumsum([0] + [len(p.positions) for p in parts])
    return Mesh(
        positions=np.concatenate([p.positions for p in parts]),
        normals=np.concatenate([p.normals for p in parts]),
        triangles=np.concatenate([p.triangles + start for p, start in zip(parts, starts[:-1], strict=True)]),
        slot=np.concatenate([p.slot for p in parts]),
        shade=np.concatenate([p.shade for p in parts]),
        detail=np.concatenate([p.detail for p in parts]),
    )


def grid_triangles(
    rows: int, columns: int, *, wrap_rows: bool = False, wrap_columns: bool = False
) -> NDArray[np.int64]:
    """Triangles of a (rows, columns) grid of vertices; a wrapped side joins its end to its start."""
    i = np.arange(rows if wrap_rows else rows - 1)[:, None]
    j = np.arange(columns if wrap_columns else columns - 1)[None]
    a, b = i * columns + j, ((i + 1) % rows) * columns + j
    c, d = i * columns + (j + 1) % columns, ((i + 1) % rows) * columns + (j + 1) % columns
    return np.stack([a, c, b, b, c, d], -1).reshape(-1, 3)


def _outward(positions: Points, triangles: NDArray[np.int64], inside: Points) -> NDArray[np.int64]:
    """Turn all triangles round if their normals point to ``inside`` (n, 3), a point within for every vertex."""
    normals = vertex_normals(positions, triangles)
    return triangles if ((positions - inside) * normals).sum() >= 0 else triangles[:, ::-1]


def sweep(path: Points, across: Points, profile: Points, *, closed: bool = False, slot: int = 0) -> Mesh:
    """Move a closed ``profile`` (k, 2) along ``path`` (n, 3).

    ``across`` (n, 3) or (3,) is the profile's first axis; the second is perpendicular to it and to the path. A profile
    of shape (n, k, 2) changes on the way. Open paths get end caps.
    """
    n = len(path)
    tangent = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    tangent = tangent / (np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-12)
    first = np.broadcast_to(across, (n, 3))
    first = first - tangent * (first * tangent).sum(1, keepdims=True)
    first = first / (np.linalg.norm(first, axis=1, keepdims=True) + 1e-12)
    second = np.cross(tangent, first)
    shape = np.broadcast_to(profile, (n, *profile.shape[-2:]))
    rings = path[:, None] + shape[..., :1] * first[:, None] + shape[..., 1:] * second[:, None]
    k = rings.shape[1]
    positions, inside = rings.reshape(-1, 3), np.repeat(path, k, 0)
    triangles = grid_triangles(n, k, wrap_rows=closed, wrap_columns=True)
    if not closed:
        ends = np.stack([rings[0].mean(0), rings[-1].mean(0)])
        ring = np.arange(k)
        caps = [np.stack([np.full(k, n * k), (ring + 1) % k, ring], 1)]
        caps.append(np.stack([np.full(k, n * k + 1), (n - 1) * k + ring, (n - 1) * k + (ring + 1) % k], 1))
        positions = np.concatenate([positions, ends])
        inside = np.concatenate([inside, [path[min(1, n - 1)], path[max(n - 2, 0)]]])
        triangles = np.concatenate([triangles, *caps])
    return mesh(positions, _outward(positions, triangles, inside), slot)


def tube(path: Points, radius: float | Points, sides: int = 10, slot: int = 0) -> Mesh:
    """A round tube along ``path`` (n, 3); ``radius`` may be (n,)."""
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    profile = np.broadcast_to(np.asarray(radius, np.float64), (len(path),))[:, None, None] * circle
    direction = path[-1] - path[0]
    across = np.eye(3)[int(np.abs(direction).argmin())]
    return sweep(path, across, profile, slot=slot)


def rounded(width: float, height: float, power: float = 4.0, points: int = 16) -> Points:
    """(points, 2) a box profile with round corners, half sizes given (superellipse)."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False) + np.pi / points
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([width * np.sign(c) * np.abs(c) ** (2 / power), height * np.sign(s) * np.abs(s) ** (2 / power)], 1)


def lathe(profile: Points, sides: int = 40, slot: int = 0) -> Mesh:
    """Turn ``profile`` (k, 2) of (radius, height) about +y."""
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    r, h = profile[:, 0], profile[:, 1]
    x, z = r[:, None] * np.cos(angle), r[:, None] * np.sin(angle)
    positions = np.stack([x, np.broadcast_to(h[:, None], x.shape), z], -1).reshape(-1, 3)
    triangles = grid_triangles(len(profile), sides, wrap_columns=True)
    inside = np.zeros_like(positions)
    inside[:, 1] = np.repeat(np.clip(h, np.quantile(h, 0.25), np.quantile(h, 0.75)), sides)
    return mesh(positions, _outward(positions, triangles, inside), slot)


def ellipsoid(centre: Points, radii: Points, slot: int = 0, sides: int = 24) -> Mesh:
    """A smooth ball."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, sides // 2)
    ball = lathe(np.stack([np.cos(angle), np.sin(angle)], 1), sides, slot)
    normals = ball.positions / radii
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return replace(ball, positions=ball.positions * radii + centre, normals=normals)


def bezier(points: Points, count: int) -> Points:
    """(count, 3) along the cubic or quadratic curve of (4, 3) or (3, 3) control points (de Casteljau)."""
    t = np.linspace(0, 1, count)[:, None, None]
    level = np.broadcast_to(points, (count, *points.shape))
    while level.shape[1] > 1:
        level = level[:, :-1] * (1 - t) + level[:, 1:] * t
    return np.asarray(level[:, 0])


def facing(direction: Points, up: Points) -> Points:
    """(3, 3) rotation that takes +y to ``direction`` and +z as near to ``up`` as it can."""
    y = direction / np.linalg.norm(direction)
    z = up - y * (up @ y)
    z = z / np.linalg.norm(z)
    return np.stack([np.cross(y, z), y, z], 1)
