"""What is computed for every vertex of every picture: normals, and turning the head on its neck."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.jit import kernel

Points = NDArray[np.float64]


def vertex_normals(vertices: Points, triangles: NDArray[np.int64]) -> Points:
    """(V, 3) unit normals of (V, 3) vertices, weighted by the area of their (T, 3) triangles."""
    out = np.zeros((len(vertices), 3))
    _add_normals(np.ascontiguousarray(vertices, np.float64), triangles, out)
    return out


@kernel
def _add_normals(vertices: Points, triangles: NDArray[np.int64], out: Points) -> None:
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = (vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2])
        vx, vy, vz = (vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2])
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in (a, b, c):
            out[k, 0] += nx
            out[k, 1] += ny
            out[k, 2] += nz
    for i in range(out.shape[0]):
        length = max(np.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2), 1e-12)
        out[i, 0] /= length
        out[i, 1] /= length
        out[i, 2] /= length


def turn_about(points: Points, weight: Points, rotation: Points, shift: Points, pivot: Points) -> Points:
    """Turn (n, 3) points about ``pivot`` by ``weight`` (n,) times the rotation vector, then shift them likewise.

    Rodrigues' formula, point by point, because every point of the neck turns by an angle of its own.
    """
    angle = float(np.linalg.norm(rotation))
    axis = rotation / angle if angle > 1e-9 else np.array([0.0, 1.0, 0.0])
    out = np.empty((len(points), 3))
    _turn(np.ascontiguousarray(points, np.float64), weight, axis, angle, shift, pivot, out)
    return out


@kernel
def _turn(
    points: Points, weight: Points, axis: Points, angle: float, shift: Points, pivot: Points, out: Points
) -> None:
    ax, ay, az = axis[0], axis[1], axis[2]
    for i in range(points.shape[0]):
        w = weight[i]
        c, s = np.cos(angle * w), np.sin(angle * w)
        x, y, z = points[i, 0] - pivot[0], points[i, 1] - pivot[1], points[i, 2] - pivot[2]
        along = (ax * x + ay * y + az * z) * (1.0 - c)
        out[i, 0] = x * c + (ay * z - az * y) * s + ax * along + pivot[0] + shift[0] * w
        out[i, 1] = y * c + (az * x - ax * z) * s + ay * along + pivot[1] + shift[1] * w
        out[i, 2] = z * c + (ax * y - ay * x) * s + az * along + pivot[2] + shift[2] * w
