"""Where things sit on one head: eyes, ears, and how far its surface and its hair reach."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from calibration.people.head.mesh import Points, vertex_normals
from calibration.people.head.shape import HeadModel
from calibration.people.head.unwrap import charted, sample

_EAR = 80 / 255
"""In the ears' mask, 0..1."""
_MOST_HAIR = 0.45
"""Bands and cups press hair down to at most this height, decimetres."""


def ear_vertices(head: HeadModel) -> NDArray[np.bool_]:
    """(m,) which vertices of the subdivided skin belong to the ears."""
    uv = np.full((len(head.fine_average), 2), -1.0)
    uv[head.skin.corner_vertex] = head.skin.corner_uv
    return np.asarray(sample(head.masks["ears"], charted(head, uv)) > _EAR)


class HeadFit:
    """Measures of one neutral head, in its unposed space."""

    def __init__(self, head: HeadModel, skin: Points, eyes: Points, hair: Points | None) -> None:
        """``skin`` (m, 3) is the neutral subdivided skin, ``eyes`` (2, 3), ``hair`` (h, 3) points on strands."""
        self.eyes = eyes
        """(2, 3) centres of the left and the right eyeball."""
        self.middle: Points = self.eyes.mean(0)
        self.eye_distance = float(np.linalg.norm(self.eyes[0] - self.eyes[1]))
        self.landmarks: Points = skin[head.fine_index["landmarks"]]
        ear = ear_vertices(head)
        normals = vertex_normals(skin, head.skin.triangles)
        self.ears = [skin[ear & ((skin[:, 0] - self.middle[0]) * sign > 0)] for sign in (1, -1)]
        """Points of the left and the right ear."""
        # The head alone: above the jaw, without ears.
        chin = self.landmarks[8, 1]
        self._skull = skin[~ear & (skin[:, 1] > chin + 0.2) & (np.abs(skin[:, 0] - self.middle[0]) < 1.2)]
        front = ~ear & (normals[:, 2] > 0.05) & (skin[:, 1] > chin - 0.4) & (skin[:, 2] > 0.7)
        self._front, self._front_tree = skin[front], cKDTree(skin[front][:, :2])
        self._sides = []
        for sign in (1, -1):
            side = ~ear & (normals[:, 0] * sign > 0.15) & (skin[:, 1] > chin - 0.2)
            self._sides.append((skin[side], cKDTree(skin[side][:, 1:])))
        self._hair = hair

    def front(self, x: Points, y: Points) -> Points:
        """(n,) z of the face's surface at (n,) x and y."""
        _, near = self._front_tree.query(np.stack([x, y], 1), k=4)
        return np.asarray(self._front[near][..., 2].max(1))

    def side(self, sign: int, y: Points, z: Points) -> Points:
        """(n,) x of the head's side (without the ear) at (n,) y and z; ``sign`` 1 is the left side."""
        points, tree = self._sides[0 if sign > 0 else 1]
        _, near = tree.query(np.stack([y, z], 1), k=3)
        return np.asarray(sign * (points[near][..., 0] * sign).max(1))

    def ear(self, sign: int) -> Points:
        """(n, 3) points of the ear on a side."""
        points: Points = self.ears[0 if sign > 0 else 1]
        return points

    def radii(self, centre: Points, directions: Points, smooth: float = 1.2) -> Points:
        """(r, c) distance from ``centre`` to the skull along (r, c, 3) unit directions that wrap along c."""
        offset = self._skull - centre
        length = np.linalg.norm(offset, axis=1)
        tree = cKDTree(offset / length[:, None])
        _, near = tree.query(directions.reshape(-1, 3), k=6)
        radius = length[near].max(1).reshape(directions.shape[:2])
        return np.asarray(gaussian_filter(radius, smooth, mode=("nearest", "wrap")))

    def hair_height(self, points: Points, reach: float = 0.25) -> float:
        """How far hair stands off the skull near (n, 3) points, decimetres: its 85th percentile, pressed a little."""
        if self._hair is None or not len(self._hair):
            return 0.0
        close = cKDTree(points).query(self._hair, distance_upper_bound=reach + 0.3)[0] < reach + 0.3
        if close.sum() < 20:
            return 0.0
        some = self._hair[close][:: max(1, int(close.sum() // 3000))]
        distance, _ = cKDTree(self._skull).query(some)
        return float(min(np.percentile(distance, 85) * 0.85, _MOST_HAIR))
