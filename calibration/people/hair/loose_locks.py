"""A few locks that fall over forehead, eye and cheek: a state's prop in the colour of the wearer's hair."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from calibration.people.hair.growth import Skull, head_weight, tuft_colours, unit
from calibration.people.hair.style import Hair
from calibration.people.hair.tufts import TuftPlan
from calibration.people.head.mesh import Points

LOCKS = 8
_PER_LOCK = 7
_POINTS = 10
_STARTS = np.array([0.12, -0.22, 0.34, -0.40, 0.02, 0.46, -0.10, -0.48])
_ENDS = np.array(
    [
        [0.26, 7.22],
        [-0.44, 6.95],
        [0.52, 6.75],
        [-0.58, 6.60],
        [-0.12, 7.10],
        [0.60, 6.50],
        [-0.32, 7.00],
        [-0.36, 6.80],
    ]
)
"""x and height of the tips on the average head."""


def loose_plan(hair: Hair, skull: Skull, rng: np.random.Generator) -> TuftPlan:
    """LOCKS * 7 tufts, lock by lock, from the hairline down the face, a little before the skin."""
    n, k = LOCKS * _PER_LOCK, _POINTS
    at = np.linspace(0, 1, k)
    lock = np.repeat(np.arange(LOCKS), _PER_LOCK)
    starts = _STARTS + rng.normal(0, 0.03, LOCKS)
    ends = _ENDS + rng.normal(0, 0.06, (LOCKS, 2))
    bow = rng.normal(0, 0.09, LOCKS)
    x0 = starts[lock] + rng.normal(0, 0.025, n)
    x1, y1 = ends[lock, 0] + rng.normal(0, 0.035, n), ends[lock, 1] + rng.normal(0, 0.10, n)
    ease = at[None] ** rng.uniform(1.0, 1.5, n)[:, None]
    x = x0[:, None] + (x1 - x0)[:, None] * ease + (bow[lock] + rng.normal(0, 0.02, n))[:, None] * np.sin(np.pi * at)
    y = 8.06 + (y1 - 8.06)[:, None] * at
    x, y = x + skull.moved[0], y + skull.moved[1] * (1 - at)
    front = skull.skin[skull.skin[:, 2] > 0.5]
    tree = cKDTree(front[:, :2])
    distance, near = tree.query(np.stack([x, y], -1).reshape(-1, 2), k=6)
    weight = 1 / (distance + 0.02)
    z = ((front[near, 2] * weight).sum(1) / weight.sum(1)).reshape(n, k)
    # Hair bridges hollows such as the eye's.
    for _ in range(3):
        z[:, 1:-1] = np.maximum(z[:, 1:-1], (z[:, :-2] + z[:, 2:]) / 2)
    layer = (0.035 + 0.05 * rng.random((n, 1))) * np.minimum(at[None] * 5, 1)
    points: Points = np.stack([x, y, z + layer], -1)
    single = np.arange(n) % _PER_LOCK >= 3
    width = (
        np.where(single[:, None], 0.008, rng.uniform(0.02, 0.045, (n, 1)))
        * (1 - 0.5 * at[None] ** 2)
        * np.minimum(0.3 + 2.5 * at[None], 1)
    )
    cover = np.where(single[:, None], 1.5, 0.95 - 0.65 * at[None] ** 2)
    normals = unit(points - np.array([0, 7.2, 0.3]))
    return TuftPlan(
        points=points, normals=normals, length=np.full(n, 1.2), width=width, cover=cover, light=np.full((n, k), 0.85),
        colour=tuft_colours(hair, points[:, 0], k, rng), head_weight=head_weight(points),
    )  # fmt: skip
