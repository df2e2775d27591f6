"""Where MediaPipe's 468 face mesh points lie on the invented heads, so that every render has its true face mesh.

The points are stored as positions on the average head and put onto its triangles when they are first used, so that
they outlive another subdivision. ``prepare_mesh`` measured them.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from calibration.people.head.mesh import Points
from calibration.people.head.shape import head_model
from engines.errors import RenderError

DATA = "data/mesh468.npz"
_CANDIDATES = 24
"""Triangles with the nearest centres that are tried when a point is put onto the surface."""


@lru_cache(maxsize=1)
def _attachment() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(468, 3) skin vertices and (468, 3) weights. Raises RenderError when the stored table is missing."""
    file = resources.files("calibration.people").joinpath(DATA)
    if not file.is_file():
        raise RenderError(
            "the face mesh table is missing", hint="rebuild it: python -m calibration.people.prepare.mesh468"
        )
    with file.open("rb") as stream:
        rest = np.load(stream)["rest"].astype(np.float64)
    triangles, weights, _ = attach(rest, head_model().fine_average, face_triangles())
    return triangles, weights


def mesh_points(skin: Points) -> Points:
    """(468, 3) where MediaPipe's points lie on a posed ``skin`` (m, 3) of any person, in its units."""
    triangles, weights = _attachment()
    return np.asarray(np.einsum("nk,nkd->nd", weights, skin[triangles]))


def face_triangles() -> NDArray[np.int64]:
    """(t, 3) triangles of the front of the head, without the inside of the mouth and the back of the eyelids."""
    head = head_model()
    average, triangles = head.fine_average, head.skin.triangles
    a, b, c = (average[triangles[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    centre = (a + b + c) / 3
    return triangles[(centre[:, 1] > 5.9) & (centre[:, 2] > -0.2) & (normal[:, 2] > -0.35)]


def attach(
    points: Points, surface: Points, triangles: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Points, NDArray[np.float64]]:
    """The nearest point of a mesh to each of (n, 3) points.

    Returns its triangle's vertices (n, 3), its weights there (n, 3), and its distance (n,).
    """
    centres = surface[triangles].mean(1)
    _, near = cKDTree(centres).query(points, k=min(_CANDIDATES, len(triangles)))
    tried = triangles[near]
    weights = _closest_weights(points[:, None], surface[tried])
    found = np.einsum("nkc,nkcd->nkd", weights, surface[tried])
    distance = np.linalg.norm(found - points[:, None], axis=2)
    best = distance.argmin(1)
    row = np.arange(len(points))
    return tried[row, best], weights[row, best], distance[row, best]


def _closest_weights(point: Points, corners: Points) -> Points:
    """(..., 3) weights of the point of a triangle (..., 3, 3) that lies nearest to a point (..., 3)."""
    a, b, c = corners[..., 0, :], corners[..., 1, :], corners[..., 2, :]
    u, v, w = b - a, c - a, point - a
    uu, uv, vv = (u * u).sum(-1), (u * v).sum(-1), (v * v).sum(-1)
    wu, wv = (w * u).sum(-1), (w * v).sum(-1)
    scale = np.maximum(uu * vv - uv * uv, 1e-18)
    second, third = (vv * wu - uv * wv) / scale, (uu * wv - uv * wu) / scale
    inside = np.stack([1 - second - third, second, third], -1)
    best, distance = inside, np.where((inside >= 0).all(-1), 0.0, np.inf)
    # Outside of the triangle the nearest point lies on one of its edges.
    for first, last in ((0, 1), (1, 2), (2, 0)):
        edge = corners[..., last, :] - corners[..., first, :]
        along = ((point - corners[..., first, :]) * edge).sum(-1) / np.maximum((edge * edge).sum(-1), 1e-18)
        share = np.clip(along, 0, 1)
        weights = np.zeros_like(inside)
        weights[..., first], weights[..., last] = 1 - share, share
        gap = ((corners * weights[..., None]).sum(-2) - point) ** 2
        nearer = gap.sum(-1) < distance
        best = np.where(nearer[..., None], weights, best)
        distance = np.where(nearer, gap.sum(-1), distance)
    return best
