"""Tufts: ribbons that the shader breaks into single hairs, so that few of them look like many strands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from calibration.people.head.mesh import Points

TUFT_FLOATS = 19
TUFT_FORMAT = ("3f 3f 3f 4f 2f 3f 1f", "position", "tangent", "normal", "shape", "uv", "colour", "head_weight")
"""``shape`` is side -1..1, width in decimetres, cover 0..1.3, light 0..1 that reaches that depth."""
_ROWS, _COLUMNS = 256, 512
"""Of the strand texture, along and across the strands."""
_COILS = 12
"""Waves of a curly strand along the texture."""
_REPEAT_DM = (1.2, 3.2)
"""How far the strand texture reaches across and along before it repeats."""


@dataclass(frozen=True)
class Tufts:
    """n ribbons of K points each, outermost first."""

    vertices: NDArray[np.float32]
    """(n, K, 2, TUFT_FLOATS)."""
    indices: NDArray[np.uint32]
    """(n, (K - 1) * 6) triangles of each."""

    @property
    def points(self) -> NDArray[np.float32]:
        """(n, K, 3) middle line."""
        return self.vertices[:, :, 0, :3]


@dataclass(frozen=True)
class TuftPlan:
    """What is known about n tufts of K points before they are meshed."""

    points: Points
    """(n, K, 3)."""
    normals: Points
    """(n, K, 3) outward of the hair's surface."""
    length: Points
    """(n,) decimetres."""
    width: Points
    """(n, K) decimetres."""
    cover: Points
    """(n, K): 1 dense, 0 nothing left."""
    light: Points
    """(n, K): 0..1 share of light that reaches there."""
    colour: Points
    """(n, K, 3) linear RGB."""
    head_weight: Points
    """(n, K): how much they turn with the head."""

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> TuftPlan:
        """Some of the tufts."""
        return TuftPlan(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def tangents(points: Points) -> Points:
    """(n, K, 3) unit directions along (n, K, 3) points."""
    step = np.gradient(points, axis=1)
    return np.asarray(step / (np.linalg.norm(step, axis=2, keepdims=True) + 1e-9))


def mesh(
    plan: TuftPlan, rng: np.random.Generator, across_dm: float = _REPEAT_DM[0], along_dm: float = _REPEAT_DM[1]
) -> Tufts:
    """Vertices and triangles of tufts; each gets a random place in the strand texture, which repeats as given."""
    n, k, _ = plan.points.shape
    v = np.zeros((n, k, 2, TUFT_FLOATS), np.float32)
    v[..., 0:3] = plan.points[:, :, None]
    v[..., 3:6] = tangents(plan.points)[:, :, None]
    v[..., 6:9] = plan.normals[:, :, None]
    v[:, :, 0, 9], v[:, :, 1, 9] = -1.0, 1.0
    v[..., 10] = plan.width[:, :, None]
    v[..., 11] = plan.cover[:, :, None]
    v[..., 12] = plan.light[:, :, None]
    # One width for the whole tuft: its strands run together as it narrows.
    half = plan.width.max(1)[:, None, None] / across_dm / 2
    v[..., 13] = rng.random((n, 1, 1)) + half * np.array([-1.0, 1.0])
    along = np.linspace(0, 1, k) * plan.length[:, None] / along_dm
    v[..., 14] = rng.random((n, 1, 1)) + along[:, :, None]
    v[..., 15:18] = plan.colour[:, :, None]
    v[..., 18] = plan.head_weight[:, :, None]
    return Tufts(v, tuft_indices(n, k))


def tuft_indices(n: int, k: int) -> NDArray[np.uint32]:
    """(n, (k - 1) * 6): two triangles for each of the k - 1 pieces of n ribbons."""
    start = (np.arange(n)[:, None] * k + np.arange(k - 1)[None]) * 2
    corners = np.stack([start, start + 1, start + 2, start + 2, start + 1, start + 3], -1)
    return corners.reshape(n, -1).astype(np.uint32)


def _even(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """The same order with values spread evenly over 0..1."""
    rank = np.empty(x.size)
    rank[np.argsort(x, axis=None, kind="stable")] = np.linspace(0, 1, x.size)
    return rank.reshape(x.shape)


@lru_cache(maxsize=2)
def strand_texture(*, curly: bool) -> NDArray[np.uint8]:
    """(256, 512, 4) tileable: rank for the alpha test, brightness, shift of the highlight, slow brightness.

    Columns are across the strands, rows along them. Each channel is spread evenly over its range, so that a cover of
    0.3 leaves three strands of ten.
    """
    rng = np.random.default_rng(19)
    side = (_ROWS, _COLUMNS)

    def streaks(along: float, across: float) -> NDArray[np.float64]:
        x = gaussian_filter(rng.standard_normal(side), (along, across), mode="wrap")
        return np.asarray(x / x.std())

    if curly:
        # Coils: strands that swing from side to side, neighbours nearly in step.
        y, x = np.mgrid[0 : side[0], 0 : side[1]]
        swing = 2 * np.pi * y * (_COILS / _ROWS) + 2.2 * streaks(12, 18)
        rows = (y + 5.0 * streaks(9, 14)).round().astype(int) % _ROWS
        columns = (x + 15.0 * np.sin(swing) + 9.0 * streaks(10, 16)).round().astype(int) % _COLUMNS
        layers = [streaks(14, 1.5)[rows, columns] + 0.3 * streaks(4, 5)[rows, columns] for _ in range(3)]
        slow = streaks(8, 10)
    else:
        layers = [streaks(26, 0.75) + 0.5 * streaks(30, 1.8) + 0.45 * streaks(34, 5) for _ in range(3)]
        slow = streaks(40, 12)
    layers[0] += 0.5 * layers[1]  # what lies in front is lit
    rank, bright, shift = (_even(x) for x in layers)
    return (np.stack([rank, 1 - bright, shift, _even(slow)], -1) * 255).astype(np.uint8)
