"""Hair that stands off in curls: a cloud of small bent tufts around the head; also the bun and the pony tail."""

from __future__ import annotations

import numpy as np

from calibration.people.face.noise import noise, smoothstep
from calibration.people.hair.combs import TIES
from calibration.people.hair.growth import Roots, Skull, cut_at_face, head_weight, tuft_colours, unit
from calibration.people.hair.hairline import hairline_height
from calibration.people.hair.style import Hair
from calibration.people.hair.tufts import TuftPlan
from calibration.people.head.mesh import Points

CORE = {"afro": 0.78, "curly": 0.72}
"""Share of the hair's thickness that the opaque core fills."""


def thickness(hair: Hair, base: Points) -> Points:
    """(n,) decimetres that the hair stands off the head at (n, 3) points of the average head."""
    top = smoothstep(7.5, 8.15, base[:, 1])
    height = np.clip(hairline_height(base, hair), 0, 1)
    thick = (hair.side + (hair.top - hair.side) * top) * (1 + 0.10 * noise(base, 3, 41) + 0.06 * noise(base, 8, 42))
    front = smoothstep(0.3, 0.0, height) * smoothstep(0.5, 0.9, base[:, 2])
    thick = thick * (1 - front) + np.minimum(thick, hair.front) * front
    return np.asarray(thick * np.clip(0.22 + 2.6 * height, 0, 1))


def cloud_plan(hair: Hair, skull: Skull, roots: Roots, rng: np.random.Generator) -> TuftPlan:
    """Afro and short curls: arcs near the surface of the hair, over the dense core that the undercoat is."""
    n, k, base = len(roots.base), hair.points, roots.base
    height = np.clip(hairline_height(base, hair), 0, 1)
    thick = thickness(hair, base)
    depth = CORE[hair.style] - 0.12 + (1.12 - CORE[hair.style]) * rng.random(n)
    out = unit(roots.normal + np.array([0, 0.12, 0.05]))
    curly = hair.style == "curly"
    centre = roots.position + out * (depth * thick * (0.85 if curly else 1.0))[:, None]
    radius = (rng.uniform(0.045, 0.085, n) if curly else rng.uniform(0.05, 0.08, n)) * np.clip(
        0.35 + 2.5 * height, 0, 1
    )
    turn = rng.uniform(0, 2 * np.pi, n)
    x = unit(np.cross(np.where(np.abs(out[:, 1:2]) < 0.9, [[0.0, 1, 0]], [[1.0, 0, 0]]), out))
    y = np.cross(out, x)
    e1 = x * np.cos(turn)[:, None] + y * np.sin(turn)[:, None]
    e2 = unit(np.cross(out, e1) * 0.8 + out * rng.normal(0, 0.6, (n, 1)))
    span = rng.uniform(2.4, 4.4, n) if curly else rng.uniform(1.2, 2.2, n)
    angle = np.linspace(-0.5, 0.5, k)[None] * span[:, None]
    ring = e1[:, None] * np.sin(angle)[..., None] + e2[:, None] * (1 - np.cos(angle))[..., None]
    points = centre[:, None] + ring * radius[:, None, None]
    points = skull.outside(points)
    points, left = cut_at_face(points, skull, rng)
    edge = np.abs(np.linspace(-1, 1, k))[None]
    width = hair.width * rng.uniform(0.6, 1.3, (n, 1)) * (1 - 0.35 * edge**2) * np.clip(0.4 + 3 * height, 0, 1)[:, None]
    # Single strands show at the outline, the core behind them is closed.
    cover = (
        (0.72 if curly else 0.58)
        - 0.42 * edge**2
        - 0.22 * np.clip((depth - 0.6) / 0.4, 0, 1)[:, None]
        + np.zeros((n, k))
    )
    # Half of them are one hair that is seen as a fine curl.
    share = (0.65 if curly else 0.5) * smoothstep(0.02, 0.2, height)
    single = (rng.random(n) < share)[:, None]
    width = np.where(single, rng.uniform(0.006, 0.013, (n, 1)) * (1 - 0.5 * edge**2), width)
    cover = np.where(single, 1.5, cover)
    hidden = np.exp(-2.4 * (1 - depth) * np.clip(thick / 0.2, 0.3, 1.2))
    light = np.broadcast_to((0.22 + 0.78 * hidden)[:, None], (n, k)) * (0.9 + 0.1 * edge)
    normals = np.broadcast_to(unit(out + 0.35 * e2)[:, None], points.shape)
    plan = TuftPlan(
        points, normals, radius * span, width, cover, light, tuft_colours(hair, base, k, rng), head_weight(points)
    )
    order = np.argsort(-depth[left], kind="stable")
    return plan.take(np.flatnonzero(left)[order])


def tail_plan(hair: Hair, skull: Skull, rng: np.random.Generator) -> TuftPlan:
    """What hangs from the tie or is wound into the bun."""
    n, k, tie = 260, hair.points, TIES[hair.style] + skull.moved
    depth = rng.random(n) ** 0.6
    along = np.linspace(0, 1, k)[None]
    if hair.style == "bun":
        centre = tie + np.array([0.0, 0.12, -0.02])
        axis = unit(np.array([0.0, 1.0, -0.3]) + rng.normal(0, 0.30, (n, 3)))
        e1 = unit(np.cross(axis, rng.normal(0, 1, (n, 3))))
        e2 = np.cross(axis, e1)
        angle = (along - 0.5) * rng.uniform(1.8, 3.0, (n, 1))
        ring = e1[:, None] * np.cos(angle)[..., None] + e2[:, None] * np.sin(angle)[..., None]
        level = rng.uniform(-1, 1, n)
        size = (0.22 + 0.07 * depth)[:, None, None]
        points = centre + size * (ring * np.sqrt(1 - level**2)[:, None, None] + (axis * level[:, None] * 0.8)[:, None])
        normals = unit(points - centre)
        length = np.full(n, 0.5)
    else:
        length = rng.uniform(1.5, 2.1, n)
        direction = unit(np.array([0.0, 0.35, -1.0]) + rng.normal(0, 0.09, (n, 3)))
        p = tie + rng.normal(0, 0.03, (n, 3))
        chain = [p]
        for _ in range(1, k):
            direction = unit(direction + np.array([0.0, -0.42, 0.0]) + rng.normal(0, 0.04, (n, 3)))
            p = p + direction * (length / (k - 1))[:, None]
            p, direction = skull.rest(p, direction, 0.04 + 0.1 * depth)
            chain.append(p)
        points = np.stack(chain, 1)
        normals = unit(points - points.mean(0, keepdims=True) + [0.0, 0.02, -0.05])
    width = hair.width * rng.uniform(0.7, 1.3, (n, 1)) * (1 - 0.4 * along**3)
    cover = np.broadcast_to(1.25 - (1.0 if hair.style == "tied" else 0.6) * along**4, (n, k))
    light = np.broadcast_to((0.4 + 0.6 * depth)[:, None], (n, k))
    colour = tuft_colours(hair, np.repeat(tie[None], n, 0), k, rng)
    plan = TuftPlan(points, normals, length, width, cover, light, colour, head_weight(points))
    return plan.take(np.argsort(-depth, kind="stable"))
