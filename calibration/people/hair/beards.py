"""Beards: tufts bound to the skin, so that they follow the jaw and the lips, and the shade under them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.people.face.noise import noise, smoothstep
from calibration.people.hair.growth import unit
from calibration.people.hair.style import Beard
from calibration.people.hair.tufts import TUFT_FLOATS, TuftPlan, Tufts, mesh, tangents
from calibration.people.head.mesh import Points
from calibration.people.head.shape import HeadModel

Field = NDArray[np.floating]
"""A value per point."""
POSED_FLOATS = 9
"""position 3, tangent 3, normal 3: what a state changes; the rest of a tuft's vertex stays."""
_REPEAT_DM = 0.6
"""How far the strand texture reaches across: a beard's tufts are narrow."""
_DROOP = np.array([0.0, -0.22, 0.02])
"""How a beard bends per step."""


def _moustache(ax: Field, y: Field, z: Field) -> Points:
    line = 6.795 - 0.42 * np.maximum(ax - 0.05, 0)
    line = line - 0.5 * np.maximum(ax - 0.2, 0)
    band = smoothstep(0.062, 0.026, np.abs(y - line)) * smoothstep(0.315, 0.23, ax)
    return np.asarray(band * smoothstep(1.1, 1.25, z))


def _chin(ax: Field, y: Field, z: Field) -> Points:
    beside = smoothstep(0.075, 0.03, np.abs(ax - 0.265 + 0.25 * (6.64 - y))) * smoothstep(6.72, 6.66, y)
    beside = beside * smoothstep(6.26, 6.36, y)
    chin = smoothstep(0.27, 0.17, ax) * smoothstep(6.475, 6.42, y) * smoothstep(6.10, 6.2, y)
    patch = smoothstep(0.075, 0.01, ax) * smoothstep(6.53, 6.48, y) * smoothstep(6.36, 6.44, y)
    return np.asarray(np.maximum(np.maximum(beside, chin), patch) * smoothstep(0.95, 1.1, z))


def _jaw(ax: Field, y: Field, z: Field) -> Points:
    cheek = np.interp(
        ax, (0.22, 0.27, 0.40, 0.50, 0.56, 0.60, 0.63, 0.67), (6.60, 6.66, 6.72, 6.80, 6.92, 7.10, 7.36, 7.5)
    )
    below = smoothstep(0.02, -0.09, y - cheek) * smoothstep(0.20, 0.27, ax + 0.6 * np.maximum(6.5 - y, 0))
    sideburn = smoothstep(0.50, 0.62, z) + smoothstep(6.75, 6.6, y) * smoothstep(0.3, 0.5, z)
    # It narrows upwards into a thin sideburn before the ear.
    ahead = z - np.interp(y, (6.70, 6.85, 7.05, 7.25), (1.2, 0.92, 0.76, 0.66))
    narrow = np.maximum(smoothstep(0.05, -0.05, ahead), smoothstep(6.85, 6.7, y))
    fade = smoothstep(7.38, 6.85, y)
    return np.asarray(below * narrow * smoothstep(6.02, 6.18, y) * np.clip(sideburn, 0, 1) * fade)


def beard_density(points: NDArray[np.floating], beard: Beard, seed: int) -> NDArray[np.floating]:
    """0..1 at (..., 3) points of the average head: where the beard grows, soft and uneven at its border."""
    if beard.style == "none":
        return np.zeros(points.shape[:-1])
    ax, y, z = np.abs(points[..., 0]), points[..., 1], points[..., 2]
    y = y + 0.018 * noise(points, 11, seed + 85)
    density = _moustache(ax, y, z)
    if beard.style != "moustache":
        density = np.maximum(density, _chin(ax, y, z))
    if beard.style in ("short", "full"):
        density = np.maximum(density, _jaw(ax, y, z))
    # Nothing grows on the lips, whose place does not waver.
    lips = ((ax / 0.235) ** 2 + ((points[..., 1] - 6.635) / 0.115) ** 2) < 1
    return np.asarray(np.clip(density * (0.85 + 0.2 * noise(points, 9, seed + 86)), 0, 1) * ~(lips & (z > 1.15)))


def beard_shade(points: NDArray[np.floating], beard: Beard, seed: int) -> NDArray[np.floating]:
    """0..0.85 at (..., 3) points: how much of the beard's colour is painted on the skin under it."""
    return np.asarray(0.85 * beard.dense * smoothstep(0.05, 0.8, beard_density(points, beard, seed)))


@dataclass(frozen=True)
class BeardTufts:
    """n tufts of K points in the frames of their roots."""

    corners: NDArray[np.int64]
    """(n, 3) skin vertices."""
    share: Points
    """(n, 3) of them."""
    points: Points
    """(n, K, 3) along the root's edge, across it, outward."""
    tangents: Points
    normals: Points
    mesh: Tufts

    def posed(self, skin: Points, normals: Points) -> NDArray[np.float32]:
        """(n, K, 2, 9) position, tangent and normal on a posed skin (m, 3)."""
        frame, root = _frames(self.corners, self.share, skin, normals)
        out = np.empty((*self.points.shape[:2], 2, POSED_FLOATS), np.float32)
        out[..., 0:3] = (root[:, None] + self.points @ frame)[:, :, None]
        out[..., 3:6] = (self.tangents @ frame)[:, :, None]
        out[..., 6:9] = (self.normals @ frame)[:, :, None]
        return out

    @property
    def fixed(self) -> NDArray[np.float32]:
        """(n, K, 2, 10): what does not change: shape, uv, colour, head weight 0."""
        return np.ascontiguousarray(self.mesh.vertices[..., POSED_FLOATS:TUFT_FLOATS])


def _frames(corners: NDArray[np.int64], share: Points, skin: Points, normals: Points) -> tuple[Points, Points]:
    """(n, 3, 3) rows edge, across, outward; and (n, 3) roots."""
    a, b = skin[corners[:, 0]], skin[corners[:, 1]]
    root = (skin[corners] * share[..., None]).sum(1)
    normal = unit((normals[corners] * share[..., None]).sum(1))
    edge = b - a
    edge = unit(edge - normal * (edge * normal).sum(1, keepdims=True))
    return np.stack([edge, np.cross(normal, edge), normal], 1), root


_COUNT = {"moustache": 420, "goatee": 750, "short": 2500, "full": 1900}


def grow_beard(
    beard: Beard, head: HeadModel, skin: Points, normals: Points, free: NDArray[np.bool_], seed: int,
    rng: np.random.Generator,
) -> BeardTufts | None:  # fmt: skip
    """Grow a beard on the neutral skin (m, 3) where it is ``free`` of ears; None for a shaved face."""
    if beard.style == "none":
        return None
    average, triangles = head.fine_average, head.skin.triangles
    grows = (
        (beard_density(average, beard, seed) > 0.05)[triangles].any(1)
        & (average[triangles][..., 2].min(1) > 0.2)
        & free[triangles].all(1)
    )
    chosen = triangles[grows]
    edges = skin[chosen[:, 1:]] - skin[chosen[:, :1]]
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    tries = 3 * _COUNT[beard.style]
    corners = chosen[rng.choice(len(chosen), tries, p=area / area.sum())]
    share = rng.dirichlet([1, 1, 1], tries)
    density = beard_density((average[corners] * share[..., None]).sum(1), beard, seed)
    keep = np.flatnonzero(rng.random(tries) < density)[: _COUNT[beard.style]]
    corners, share, density = corners[keep], share[keep], density[keep]
    base = (average[corners] * share[..., None]).sum(1)
    frame, root = _frames(corners, share, skin, normals)
    n, k = len(keep), 6 if beard.style == "full" else 3
    length = _lengths(beard, base) * rng.uniform(0.6, 1.25, n) * (0.5 + 0.5 * density)
    points, depth = _grow(beard, base, frame, root, length, k, rng)
    along = np.linspace(0, 1, k)[None]
    stray = (rng.random(n) < 0.12)[:, None]
    wide = (0.014, 0.036) if beard.style == "full" else (0.006, 0.017)
    width = np.where(stray, 0.005, rng.uniform(*wide, (n, 1)) * (1 - 0.5 * along))
    cover = np.where(stray, 1.5, (0.5 + 0.6 * beard.dense * density)[:, None] * (1.2 - 0.75 * along**2))
    light = np.broadcast_to(np.clip(0.55 + 0.45 * depth, 0, 1)[:, None], (n, k)) * (0.75 + 0.25 * along)
    colour = np.array(beard.colour) * np.exp(rng.normal(0, 0.22, (n, 1)))
    plan = TuftPlan(
        points=points, normals=np.repeat(frame[:, None, 2], k, 1), length=length, width=width, cover=cover, light=light,
        colour=np.repeat(colour[:, None], k, 1), head_weight=np.zeros((n, k)),
    ).take(np.argsort(-depth, kind="stable"))  # fmt: skip
    order = np.argsort(-depth, kind="stable")
    corners, share, frame, root = corners[order], share[order], frame[order], root[order]
    inverse = frame.transpose(0, 2, 1)
    return BeardTufts(
        corners, share, (plan.points - root[:, None]) @ inverse, tangents(plan.points) @ inverse,
        plan.normals @ inverse, mesh(plan, rng, _REPEAT_DM),
    )  # fmt: skip


def _lengths(beard: Beard, base: Points) -> Points:
    """(n,): longest on the chin, short at the lips and the cheeks."""
    ax, y, z = np.abs(base[:, 0]), base[:, 1], base[:, 2]
    chin = smoothstep(0.42, 0.1, ax) * smoothstep(6.5, 6.3, y) * smoothstep(0.7, 1.1, z)
    short = min(beard.length, 0.13)
    moustache = smoothstep(6.55, 6.7, y) * smoothstep(0.3, 0.2, ax)
    jaw = np.clip(0.75 * smoothstep(6.95, 6.55, y), 0.25, 1) * beard.length
    length = np.maximum(jaw * (1 - chin) + beard.length * chin, 0.4 * short)
    return np.asarray(length * (1 - moustache) + np.minimum(short, 0.11) * moustache)


def _grow(
    beard: Beard, base: Points, frame: Points, root: Points, length: Points, k: int, rng: np.random.Generator
) -> tuple[Points, Points]:
    """(n, K, 3) points and (n,) 0..1 how far out each tuft lies."""
    n, normal = len(base), frame[:, 2]
    moustache = (smoothstep(6.62, 6.7, base[:, 1]) * smoothstep(0.3, 0.2, np.abs(base[:, 0])))[:, None]
    comb = np.array([0.0, -1.0, 0.12]) + moustache * np.sign(base[:, :1]) * np.array([0.75, 0.2, 0])
    comb = comb - normal * (comb * normal).sum(1, keepdims=True)
    depth = rng.random(n)
    lift = (0.15 + 0.35 * depth)[:, None]
    direction = unit(unit(comb) + normal * lift + rng.normal(0, 0.12 + 0.3 * beard.curl, (n, 3)))
    p = root + normal * 0.002
    chain, step = [p], (length / (k - 1))[:, None]
    least = (0.006 + 0.22 * length * depth)[:, None]
    for i in range(1, k):
        direction = unit(direction + _DROOP + rng.normal(0, 0.25 * beard.curl, (n, 3)))
        p = p + direction * step
        off = ((p - root) * normal).sum(1, keepdims=True)
        p = p + normal * np.maximum(least * min(1.0, i / 2) - off, 0)
        chain.append(p)
    return np.stack(chain, 1), depth
