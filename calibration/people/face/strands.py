"""Single hairs (brows and lashes) as flat ribbons that turn towards the camera in the vertex shader."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.people.head.mesh import Points

VERTEX_FLOATS = 13
"""position 3, tangent 3, (side, width, along, random) 4, colour 3."""


@dataclass(frozen=True)
class Ribbons:
    """A vertex array (N, 13) float32 and its triangle indices."""

    vertices: NDArray[np.float32]
    indices: NDArray[np.uint32]


def ribbons(points: Points, width: Points, along: Points, random: Points, colour: Points) -> Ribbons:
    """``points`` (n, K, 3), ``width`` and ``along`` (n, K), ``random`` (n,), ``colour`` (n, 3)."""
    n, k, _ = points.shape
    tangent = np.gradient(points, axis=1)
    tangent /= np.linalg.norm(tangent, axis=2, keepdims=True) + 1e-9
    v = np.zeros((n, k, 2, VERTEX_FLOATS), np.float32)
    v[..., 0:3] = points[:, :, None]
    v[..., 3:6] = tangent[:, :, None]
    v[:, :, 0, 6], v[:, :, 1, 6] = -0.5, 0.5
    v[..., 7] = width[:, :, None]
    v[..., 8] = along[:, :, None]
    v[..., 9] = random[:, None, None]
    v[..., 10:13] = colour[:, None, None]
    return Ribbons(v.reshape(-1, VERTEX_FLOATS), ribbon_indices(n, k))


def ribbon_indices(n: int, k: int) -> NDArray[np.uint32]:
    """Two triangles for each of the k - 1 pieces of n ribbons."""
    start = (np.arange(n)[:, None] * k + np.arange(k - 1)[None]) * 2
    return np.stack([start, start + 1, start + 2, start + 2, start + 1, start + 3], -1).reshape(-1).astype(np.uint32)
