"""Brows and lashes: ribbons bound to the skin, so that they follow every expression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from calibration.people.complexion import Brow
from calibration.people.shape import HeadModel, Points
from calibration.people.skin import BROW_X, brow_line


def _unit(v: Points) -> Points:
    return np.asarray(v / (np.linalg.norm(v, axis=1, keepdims=True) + 1e-9))


class BrowStrands:
    """Brow hairs bound to the skin, so that they follow the expression."""

    def __init__(self, brow: Brow, head: HeadModel, normals: Points, rng: np.random.Generator) -> None:
        average = head.fine_average
        near = (average[:, 2] > 1.0) & (average[:, 0] > 0.02) & (average[:, 1] > 7.38) & (average[:, 1] < 7.75)
        candidates = np.flatnonzero(near & (normals[:, 2] > 0))
        n = brow.strands
        u = rng.beta(1.05, 1.25, n)
        x = BROW_X[0] + u * (BROW_X[1] - BROW_X[0])
        thick = brow.thickness * np.interp(u, (0, 0.12, 0.6, 1), (0.75, 1, 0.85, 0.25))
        y = brow_line(u, brow.arch) + rng.normal(0, 0.6, n).clip(-1.6, 1.6) * thick
        self.vertices, self.weight = self._bind(average, candidates, np.c_[x, y])
        u_line = np.linspace(0.02, 0.96, 5)
        line = np.c_[BROW_X[0] + u_line * (BROW_X[1] - BROW_X[0]), brow_line(u_line, brow.arch)]
        self._line_vertices, self._line_weight = self._bind(average, candidates, line)
        angle = np.radians(np.interp(u, (0, 0.15, 0.5, 1), (72, 38, 12, -22)) + rng.normal(0, 12, n))
        length = brow.length * (0.7 + 0.5 * rng.random(n)) * np.interp(u, (0, 0.5, 1), (0.8, 1.1, 0.8))
        self.offset = np.stack([np.cos(angle) * length, np.sin(angle) * length, 0 * length], 1)
        self.random = rng.random(2 * n)
        self.colour = (np.array(brow.colour) * 1.25 + 0.012) * np.exp(rng.normal(0, 0.3, (2 * n, 1)))
        self.width = np.full(2 * n, 0.0036)

    @staticmethod
    def _bind(
        average: Points, candidates: NDArray[np.int64], xy: Points
    ) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], Points]:
        """Three nearest skin vertices of each (n, 2) point on the left brow, their mirror images, and weights."""
        distance, nearest = cKDTree(average[candidates, :2]).query(xy, k=3)
        weight = 1 / (distance + 1e-4)
        left = candidates[nearest]
        _, mirror = cKDTree(average).query(average[left.ravel()] * [-1, 1, 1])
        return (left, mirror.reshape(left.shape)), (weight / weight.sum(1, keepdims=True))[..., None]

    def landmarks(self, skin: Points) -> Points:
        """(10, 3): iBUG points 17..26, on the brows' middle lines, which is where annotators put them."""
        left, right = ((skin[side] * self._line_weight).sum(1) for side in self._line_vertices)
        return np.concatenate([right[::-1], left])

    def strands(self, skin: Points, normals: Points, rotation: Points, along: Points) -> Points:
        """(2n, K, 3) points of both brows on the posed skin."""
        sides = []
        for side, sign in zip(self.vertices, (1.0, -1.0), strict=True):
            root = (skin[side] * self.weight).sum(1)
            normal = normals[side[:, 0]]
            offset = (self.offset * [sign, 1, 1]) @ rotation.T
            offset -= normal * (offset * normal).sum(1, keepdims=True)
            length = np.linalg.norm(offset, axis=1, keepdims=True)
            offset += normal * 0.25 * length
            bend = normal[:, None] * (0.13 * length * along**2)[..., None]
            sides.append(root[:, None] - normal[:, None] * 0.003 + offset[:, None] * along[None, :, None] - bend)
        return np.concatenate(sides)


class Lashes:
    """Upper and lower lashes on the lids' edges."""

    def __init__(self, length: float, count: int, rng: np.random.Generator) -> None:
        lower = count // 2
        self.length = length
        self.u = (np.sort(rng.random(count)) * 0.94 + 0.05, np.sort(rng.random(lower)) * 0.85 + 0.1)
        self.vary = rng.random((2, count + lower))
        self.bend = rng.normal(0, 0.12, (2, count + lower, 3))
        self.count = 2 * (count + lower)

    def strands(
        self, eye: int, centre: Points, upper: Points, lower: Points, rotation: Points, along: Points
    ) -> Points:
        """(n, K, 3) points of one eye's lashes; ``upper`` and ``lower`` (k, 3) are the lids' edges."""
        up, right = rotation @ [0.0, 1, 0], rotation @ [1.0 if eye == 0 else -1.0, 0, 0]
        out, first = [], 0
        for lid, u, scale, curl, drop in ((upper, self.u[0], 1.0, 0.75, 0.18), (lower, self.u[1], 0.5, -0.35, 0.3)):
            at = np.linspace(0, 1, len(lid))
            root = np.stack([np.interp(u, at, lid[:, i]) for i in range(3)], 1)
            radial = _unit(root - centre)
            tangent_up = up - radial * (radial @ up)[:, None]
            rows = slice(first, first + len(u))
            first += len(u)
            length = self.length * scale * (0.55 + 0.6 * np.sin(np.pi * np.clip(u * 0.9 + 0.12, 0, 1)))
            length = length * (0.8 + 0.4 * self.vary[eye, rows])
            start = radial * 0.9 + right * ((u - 0.35) * 0.55)[:, None] + self.bend[eye, rows] - tangent_up * drop
            path = start[:, None] * along[None, :, None] + (tangent_up[:, None] * (curl * along**2)[None, :, None])
            out.append(root[:, None] + path * length[:, None, None])
        return np.concatenate(out)
