"""Hair as flat ribbons that turn towards the camera in the vertex shader."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from calibration.people.hair_style import Hair
from calibration.people.noise import noise, smoothstep
from calibration.people.shape import HeadModel, Points
from calibration.people.skin import hairline_height

VERTEX_FLOATS = 14
"""position 3, tangent 3, (side, width, along, random) 4, colour 3, head weight 1."""
_CROWN = np.array([0.05, 8.38, -0.25])


@dataclass(frozen=True)
class Ribbons:
    """A vertex array (N, 14) float32 and its triangle indices."""

    vertices: NDArray[np.float32]
    indices: NDArray[np.uint32]


def ribbons(
    points: Points, width: Points, along: Points, random: Points, colour: Points, head_weight: Points
) -> Ribbons:
    """``points`` (n, K, 3), ``width``, ``along`` and ``head_weight`` (n, K), ``random`` (n,), ``colour`` (n, 3)."""
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
    v[..., 13] = head_weight[:, :, None]
    return Ribbons(v.reshape(-1, VERTEX_FLOATS), ribbon_indices(n, k))


def ribbon_indices(n: int, k: int) -> NDArray[np.uint32]:
    """Two triangles for each of the k - 1 pieces of n ribbons."""
    start = (np.arange(n)[:, None] * k + np.arange(k - 1)[None]) * 2
    return np.stack([start, start + 1, start + 2, start + 2, start + 1, start + 3], -1).reshape(-1).astype(np.uint32)


def _unit(v: Points) -> Points:
    return np.asarray(v / (np.linalg.norm(v, axis=1, keepdims=True) + 1e-9))


def _roots(
    hair: Hair, head: HeadModel, skin: Points, normals: Points, free: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Points, Points, Points]:
    """Random roots on the scalp: positions, normals and positions on the average head, each (n, 3)."""
    average, triangles = head.fine_average, head.skin.triangles
    height = hairline_height(average)
    corner = average[triangles]
    on_scalp = (height[triangles].min(1) > -0.03) & free[triangles].all(1)
    on_scalp &= (corner[..., 1].min(1) > 6.4) & (corner[..., 2].max(1) < 1.5)
    chosen = triangles[on_scalp]
    a, b, c = (skin[chosen[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    if hair.style == "long":  # more strands where the parting would show the scalp
        near = np.exp(-(((average[chosen][..., 0].mean(1) - hair.part) / 0.22) ** 2))
        area = area * (1 + 3.5 * near * (average[chosen][..., 1].mean(1) > 7.7))
    pick = chosen[rng.choice(len(chosen), hair.strands, p=area / area.sum())]
    share = rng.dirichlet([1, 1, 1], hair.strands)[..., None]
    root, normal, base = ((x[pick] * share).sum(1) for x in (skin, normals, average))
    height = hairline_height(base)
    temples = np.exp(-(((np.abs(base[:, 0]) - 0.35) / 0.2) ** 2)) * (base[:, 2] > 0.6)
    keep = height > rng.normal(0.0, 0.03, hair.strands) + hair.recede * temples
    return root[keep], _unit(normal[keep]), base[keep]


def _style(hair: Hair, root: Points, base: Points) -> tuple[Points, Points, float]:
    """Combing direction (n, 3), length (n,) and how far hair stands off, for a hair style."""
    height, n = hairline_height(base), len(root)
    top = smoothstep(7.6, 8.2, base[:, 1])
    length = hair.side + (hair.top - hair.side) * top
    lift = hair.lift
    if hair.style == "short":
        comb = root - _CROWN
        comb[:, 2] += 0.4
        comb[:, 0] += hair.sweep * top
        length = np.minimum(length, 0.08 + hair.front * np.clip(height, 0, 2) * 2 + 0.12 * (base[:, 1] < 7.5))
    elif hair.style == "back":
        comb = np.tile([0.0, 0.05, -1.0], (n, 1))
        comb[:, 1] -= 0.5 * (1 - top)
    elif hair.style == "long":
        away = np.clip(np.abs(root[:, 0] - hair.part) / 0.35, 0, 1)
        side = np.sign(root[:, 0] - hair.part)
        comb = np.stack([side * (0.5 + 0.5 * away), -0.3 + 0.4 * (1 - away), -0.75 + 0.25 * away], 1)
        length = np.full(n, hair.top)
    else:
        comb, lift = np.zeros((n, 3)), 1.0
    return _unit(comb), np.asarray(length, np.float64), lift


def grow_hair(
    hair: Hair, head: HeadModel, skin: Points, normals: Points, free: NDArray[np.bool_], rng: np.random.Generator
) -> Ribbons | None:
    """Grow all strands over the neutral head ``skin`` (m, 3); ``free`` (m,) marks where hair may root or rest.

    Returns None for bald heads.
    """
    if hair.style == "bald":
        return None
    root, normal, base = _roots(hair, head, skin, normals, free, rng)
    comb, length, lift = _style(hair, root, base)
    n, k = len(root), hair.points
    comb -= normal * (comb * normal).sum(1, keepdims=True)
    length = length * np.clip(rng.normal(1, 0.15, n), 0.5, 1.5)
    clump = [noise(root, f, s)[:, None] for f, s in ((6, 3), (6, 9), (2.2, 5))]
    x = _unit(np.cross(np.where(np.abs(normal[:, 1:2]) < 0.9, [[0.0, 1, 0]], [[1.0, 0, 0]]), normal))
    y = np.cross(normal, x)
    direction = normal * lift + comb + (x * clump[0] + y * clump[1]) * hair.clump + rng.normal(0, hair.frizz, (n, 3))
    direction = _unit(direction)
    resting = np.flatnonzero(free)
    tree = cKDTree(skin[resting])
    layer = 0.012 + hair.volume * np.abs(rng.normal(0, 1, n)) * np.clip(0.2 + hairline_height(base) * 3, 0, 1)
    p = root - normal * 0.01
    chain = [p]
    step = (length / (k - 1))[:, None]
    for i in range(1, k):
        pull = np.array([0.0, -1.0, 0.0]) * hair.gravity * (0.35 + 0.65 * i / k)
        direction = direction + pull + rng.normal(0, hair.frizz * 0.4, (n, 3))
        if hair.style == "afro":
            curl = [np.sin(i * 1.7 + clump[0] * 9), np.cos(i * 1.9 + clump[1] * 9), np.sin(i * 2.1 + clump[2] * 9)]
            direction = normal * 0.9 + np.concatenate(curl, 1) * 0.75 + rng.normal(0, 0.25, (n, 3))
        direction = _unit(direction)
        p = p + direction * step
        p, direction = _rest_on_head(p, direction, layer * min(1.0, i / 3), tree, skin[resting], normals[resting])
        if hair.style == "long":  # strands stay off the face
            front = (p[:, 2] > 0.8) & (np.abs(p[:, 0]) < 0.66) & (p[:, 1] < 7.75) & (p[:, 1] > 6.0)
            p[front, 2] -= 0.35 * step[front, 0]
            p[front, 0] += np.sign(p[front, 0]) * 0.8 * step[front, 0]
        chain.append(p)
    return _as_ribbons(hair, np.stack(chain, 1), length, clump, rng)


def _rest_on_head(
    p: Points, direction: Points, offset: Points, tree: cKDTree, skin: Points, normals: Points
) -> tuple[Points, Points]:
    """Push points that sank below the skin back to ``offset`` above it and turn their strands along it."""
    _, near = tree.query(p)
    normal = normals[near]
    depth = ((p - skin[near]) * normal).sum(1)
    sunk = (depth < offset)[:, None]
    p = np.where(sunk, p + (offset - depth)[:, None] * normal, p)
    along = direction - normal * np.minimum((direction * normal).sum(1, keepdims=True), 0)
    return p, np.where(sunk, _unit(along), direction)


def _as_ribbons(
    hair: Hair, points: Points, length: Points, clump: list[NDArray[np.float32]], rng: np.random.Generator
) -> Ribbons:
    n, k, _ = points.shape
    along = np.linspace(0, 1, k)[None].repeat(n, 0)
    if hair.wave:
        phase = clump[2] * 4 + rng.normal(0, 0.5, (n, 1))
        swing = hair.wave * np.clip(along * 3, 0, 1)
        points[..., 0] += np.sin(along * length[:, None] * 6.5 + phase) * swing * 0.8
        points[..., 2] += np.cos(along * length[:, None] * 6.5 + phase) * swing * 0.6
    width = hair.width * (1 - 0.75 * along**2) * (0.7 + 0.6 * rng.random((n, 1)))
    random = np.clip(0.5 + 0.22 * rng.standard_normal(n) + 0.12 * clump[0][:, 0], 0, 1)
    colour = np.array(hair.colour) * np.exp(rng.normal(0, 0.18, (n, 1))) * np.exp(rng.normal(0, 0.05, (n, 3)))
    weight = np.clip((points[..., 1] - 5.1) / 1.0, 0.25, 1)
    return ribbons(points, width, along, random, colour, weight)
