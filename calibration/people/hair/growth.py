"""Grow a head of hair: roots on the scalp, tufts that follow their comb, rest on the head and keep off the face."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from calibration.people.face.noise import noise, smoothstep
from calibration.people.hair.combs import TIES, Comb, comb_hair
from calibration.people.hair.hairline import hair_density, hairline_height, part_line
from calibration.people.hair.style import Hair
from calibration.people.hair.tufts import TuftPlan
from calibration.people.head.mesh import Points
from calibration.people.head.shape import HeadModel

_HUG = {"long": 0.35, "ringlets": 0.25, "back": 0.8, "side": 0.35}
"""How strongly hair is pulled towards the head."""
_FACE_Z = 0.82
"""Sideburns lie behind this, cheeks before it."""
_STRAY_WIDTH = 0.008
"""Single hairs, about a pixel wide in a webcam's picture."""


@dataclass(frozen=True)
class Roots:
    """n places on the scalp."""

    position: Points
    normal: Points
    base: Points
    """(n, 3) on the average head."""


class Skull:
    """What hair rests on and what it leaves free: one neutral head without its ears."""

    def __init__(self, head: HeadModel, skin: Points, normals: Points, free: NDArray[np.bool_]) -> None:
        keep = np.flatnonzero(free & (skin[:, 1] > 4.0))
        self.skin, self._normals = skin[keep], normals[keep]
        self._tree = cKDTree(self.skin)
        scalp = hairline_height(head.fine_average) > 0.05
        self.moved: Points = (skin - head.fine_average)[scalp].mean(0)
        """(3,) how far this scalp lies from the average one."""
        landmarks = skin[head.fine_index["landmarks"]]
        jaw = (np.abs(landmarks[8::-1, 0]) + np.abs(landmarks[8:17, 0])) / 2
        height = (landmarks[8::-1, 1] + landmarks[8:17, 1]) / 2
        self.brow_top = float(landmarks[17:27, 1].max()) + 0.075
        order = np.argsort(height)
        above = [height.max() + 0.3, height.max() + 0.55, height.max() + 0.75]
        self._heights = np.r_[height[order], above]
        self._widths = np.r_[jaw[order], jaw.max() * np.array([0.99, 0.93, 0.80])]
        ears = skin[~free & (np.abs(skin[:, 0]) > 0.6) & (skin[:, 1] > 6.7) & (skin[:, 1] < 7.7)]
        self._ear = np.r_[np.abs(ears[:, 0]).max(), ears[:, 1:].mean(0)] if len(ears) else np.array([0.8, 7.2, 0.3])

    def rest(self, p: Points, direction: Points, offset: Points, hug: float = 0.0) -> tuple[Points, Points]:
        """Push points that sank below the skin back to ``offset`` above it and turn their tufts along it.

        ``hug`` pulls those that stand off the head back towards it.
        """
        _, near = self._tree.query(p)
        normal = self._normals[near]
        depth = ((p - self.skin[near]) * normal).sum(1)
        sunk = (depth < offset)[:, None]
        p = np.where(sunk, p + (offset - depth)[:, None] * normal, p)
        along = unit(direction - normal * np.minimum((direction * normal).sum(1, keepdims=True), 0))
        off = np.clip((depth - offset) * 6, 0, 1)[:, None] * smoothstep(6.3, 7.2, p[:, 1:2])
        return p, np.where(sunk, along, direction - normal * (hug * off))

    def outside(self, points: Points) -> Points:
        """(n, K, 3) points, those below the skin moved just above it."""
        flat = points.reshape(-1, 3)
        return self.rest(flat, np.zeros_like(flat), np.full(len(flat), 0.006))[0].reshape(points.shape)

    def over_ears(self, p: Points, offset: Points) -> Points:
        """Let hair lie on the ears."""
        x, y, z = self._ear
        near = np.exp(-((np.abs(p[:, 1] - y) / 0.36) ** 4) - (np.abs(p[:, 2] - z - 0.05) / 0.30) ** 4)
        least = (x - 0.03 + 0.5 * offset) * near
        out = p.copy()
        out[:, 0] = np.where(np.abs(p[:, 0]) < least, np.sign(p[:, 0]) * least, p[:, 0])
        return out

    def beside_face(self, p: Points, offset: Points) -> Points:
        """Move points before the face to its outline."""
        width = self.face_half_width(p) + 0.01 + 0.4 * offset
        front = (p[:, 2] > 0.45) & (p[:, 1] < self.brow_top + 0.25) & (np.abs(p[:, 0]) < width)
        out = p.copy()
        out[:, 0] = np.where(front, np.where(p[:, 0] < 0, -1.0, 1.0) * width, p[:, 0])
        return out

    def face_half_width(self, p: Points) -> Points:
        """(n,) half width of the face at the height of (n, 3) points; 0 below the chin."""
        return np.asarray(np.interp(p[:, 1], self._heights, self._widths, left=0.0))

    def before_face(self, p: Points, above: Points) -> NDArray[np.bool_]:
        """(n,) whether points lie before the brows (or ``above`` them), eyes, cheeks or mouth."""
        return np.asarray(
            (p[:, 2] > _FACE_Z) & (p[:, 1] < self.brow_top + above) & (np.abs(p[:, 0]) < self.face_half_width(p))
        )


def unit(v: Points) -> Points:
    """Rows scaled to length 1."""
    return np.asarray(v / (np.linalg.norm(v, axis=-1, keepdims=True) + 1e-9))


def scatter_roots(
    hair: Hair, head: HeadModel, skin: Points, normals: Points, free: NDArray[np.bool_], count: int, seed: int,
    rng: np.random.Generator,
) -> Roots:  # fmt: skip
    """About ``count`` roots, as dense as the hair is; more beside a parting, which must not look bare."""
    average, triangles = head.fine_average, head.skin.triangles
    near_scalp = (hairline_height(average, hair) > -0.06) & free & (average[:, 1] > 6.4) & (average[:, 2] < 1.5)
    chosen = triangles[near_scalp[triangles].all(1)]
    a, b, c = (skin[chosen[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    middle = average[chosen].mean(1)
    area = area * (1 + 0.9 * smoothstep(0.3, 0.0, hairline_height(middle, hair)) * (middle[:, 2] > 0.4))
    if hair.parted:
        area = area * (1 + 2.0 * np.exp(-(((middle[:, 0] - hair.part) / 0.2) ** 2)) * (middle[:, 1] > 7.7))
    tries = int(count * 1.35)
    pick = chosen[rng.choice(len(chosen), tries, p=area / area.sum())]
    share = rng.dirichlet([1, 1, 1], tries)[..., None]
    root, normal, base = ((x[pick] * share).sum(1) for x in (skin, normals, average))
    density = hair_density(base, hair, seed) * (1 - part_line(base, hair, seed))
    keep = np.flatnonzero(rng.random(tries) < density * 1.1)[:count]
    return Roots(root[keep], unit(normal[keep]), base[keep])


def _first_direction(hair: Hair, roots: Roots, comb: Comb, rng: np.random.Generator) -> Points:
    normal, n = roots.normal, len(roots.base)
    along = comb.direction - normal * (comb.direction * normal).sum(1, keepdims=True)
    x = unit(np.cross(np.where(np.abs(normal[:, 1:2]) < 0.9, [[0.0, 1, 0]], [[1.0, 0, 0]]), normal))
    y = np.cross(normal, x)
    # Neighbours lie together in locks; each lock goes a little its own way.
    lock = [noise(roots.base, f, s)[:, None] for f, s in ((5, 3), (5, 9))]
    own = rng.normal(0, 0.10 + 0.15 * hair.messy, (n, 3))
    return unit(unit(along) + normal * comb.lift[:, None] + (x * lock[0] + y * lock[1]) * (0.9 * hair.messy) + own)


def grow_tufts(
    hair: Hair,
    skull: Skull,
    roots: Roots,
    comb: Comb,
    layer: Points,
    stray: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Points:
    """(n, K, 3) points of tufts that lie ``layer`` (n,) decimetres above the skin; ``stray`` single hairs wander."""
    n, k = len(roots.base), hair.points
    sweeps_down = hair.style in ("long", "ringlets")
    direction = _first_direction(hair, roots, comb, rng)
    wander = np.where(stray, 0.06 if sweeps_down else 0.13, 0.03 + 0.05 * hair.messy)[:, None]
    tie = TIES[hair.style] + skull.moved if hair.style in TIES else None
    p = roots.position + roots.normal * 0.004
    # Shorter pieces where straight hair bends over head and temples, longer ones where it hangs.
    pace = np.linspace(0.6, 1.4, k - 1) if hair.style == "long" and hair.wave < 0.03 else np.ones(k - 1)
    chain, step = [p], (comb.length / (k - 1))[:, None]
    for i in range(1, k):
        if tie is not None:
            to = tie - p
            distance = np.linalg.norm(to, axis=1, keepdims=True)
            held = ~comb.fringe[:, None]
            direction = np.where(held, 0.35 * direction + to / (distance + 1e-6), direction)
        direction = direction + rng.normal(0, 1, (n, 3)) * wander
        direction = direction + comb.pull * (0.35 + 0.65 * i / k)
        direction = unit(direction)
        moved = p + direction * (step * pace[i - 1])
        if tie is not None:
            moved = np.where(held & (distance < 0.16), tie + 0.35 * (p - tie), moved)
        p = moved
        offset = layer * min(1.0, i / 2.5) + 0.004
        if sweeps_down:
            # What grows below the ears stays under what comes from above.
            p = np.where(roots.base[:, 1:2] > 7.35, skull.over_ears(p, offset), p)
            p = np.where(comb.fringe[:, None], p, skull.beside_face(p, offset))
        p, direction = skull.rest(p, direction, offset, hug=_HUG.get(hair.style, 0.12))
        chain.append(p)
    points = np.stack(chain, 1)
    if sweeps_down:  # the ears and the face's outline bend hair, never break it
        for _ in range(3):
            points[:, 2:-1] = 0.25 * points[:, 1:-2] + 0.5 * points[:, 2:-1] + 0.25 * points[:, 3:]
    return points


def cut_at_face(points: Points, skull: Skull, rng: np.random.Generator) -> tuple[Points, NDArray[np.bool_]]:
    """Shorten (n, K, 3) tufts that reach before the face so that they end above it, and say which have any left."""
    early = np.abs(rng.normal(0, 0.05, len(points)))
    n, k, _ = points.shape
    before = skull.before_face(points.reshape(-1, 3), np.repeat(early, k)).reshape(n, k)
    first = np.where(before.any(1), before.argmax(1), k)
    last = np.clip(first - 1.0, 0, k - 1)
    at = np.linspace(0, 1, k)[None] * last[:, None]
    low = np.minimum(at.astype(int), k - 2)
    rows = np.arange(n)[:, None]
    share = (at - low)[..., None]
    return points[rows, low] * (1 - share) + points[rows, low + 1] * share, first > 1


def waved(hair: Hair, points: Points, roots: Roots, rng: np.random.Generator) -> Points:
    """Swing (n, K, 3) tufts sideways into waves or, with a large ``wave``, ringlets; neighbours swing together."""
    n = len(points)
    travelled = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=1), axis=2).mean(0))]
    tight = hair.style == "ringlets"
    turns = travelled * (2 * np.pi / (0.62 if tight else 1.1))
    phase = 5 * noise(roots.base, 2.5, 31) + rng.normal(0, 0.9 if tight else 0.25, n)
    swing = hair.wave * np.clip(travelled / 0.5, 0, 1) * rng.uniform(0.6, 1.3, (n, 1))
    angle = turns[None] + phase[:, None]
    out = points.copy()
    out[..., 0] += np.sin(angle) * swing
    out[..., 2] += np.cos(angle) * swing * (1.0 if tight else 0.5)
    return out


def head_weight(points: Points) -> Points:
    """How much hair turns with the head: ends on the shoulders stay behind."""
    return np.clip((points[..., 1] - 5.1) / 1.0, 0.25, 1)


def _ribbon(hair: Hair, height: Points, stray: NDArray[np.bool_], rng: np.random.Generator) -> tuple[Points, Points]:
    """Width and cover (n, K) of tufts that root ``height`` (n,) above the hairline; ends thin out strand by strand."""
    n, k = len(height), hair.points
    along, height = np.linspace(0, 1, k)[None], height[:, None]
    tied = hair.style in TIES
    # At the hairline hair starts as points, not as a row of blocks; combed back, every root there shows.
    width = hair.width * rng.uniform(0.3, 1.5, (n, 1)) * (1 - 0.5 * along**2)
    width = width * np.clip((0.14 if tied else 0.3) + 4 * height, 0, 1)
    width = width * np.where(along < 1e-6, 1 - 0.7 * np.exp(-height / 0.10), 1.0)
    late = 3.4 if hair.style == "long" else 2.5 if k > 6 else 1.9
    lost = rng.uniform(1.12, 1.3, (n, 1)) * (0.4 if tied else 1.0)
    cover = 1.25 - lost * along**late - (0.75 if tied else 0.5) * (along < 1e-6) * np.exp(-height / 0.07)
    cover = cover * np.clip(0.65 + 4 * height, 0, 1)
    single = stray[:, None]
    return np.where(single, _STRAY_WIDTH * (1 - 0.4 * along), width), np.where(single, 1.6, cover)


def combed_plan(hair: Hair, skull: Skull, roots: Roots, rng: np.random.Generator) -> TuftPlan:
    """All tufts of the styles whose hair lies in a direction, outermost first."""
    n, k = len(roots.base), hair.points
    stray = np.arange(n) >= int(n * 0.88)
    height = np.clip(hairline_height(roots.base, hair), 0, 1)
    comb = comb_hair(hair, roots.base, rng)
    depth = rng.random(n) ** 0.8
    grown = np.clip(0.15 + height * 2.6, 0, 1)
    high = smoothstep(7.5, 8.1, roots.base[:, 1]) if hair.side < 0.4 else 1.0
    layer = 0.012 + hair.volume * depth * grown * np.where(stray, 1.2, 1.0) * (0.3 + 0.7 * high)
    points = grow_tufts(hair, skull, roots, comb, layer, stray, rng)
    if hair.wave > 0:
        points = skull.outside(waved(hair, points, roots, rng))
    points, left = cut_at_face(points, skull, rng)
    along = np.linspace(0, 1, k)[None]
    width, cover = _ribbon(hair, height, stray, rng)
    # Long tufts cross each other: differences in light would show where.
    inside = 0.62 if hair.style == "long" else 0.38
    lit = (inside + (1 - inside) * depth)[:, None] * (
        0.62 + 0.38 * np.clip(along * 4 + 3 * (0.12 - height[:, None]), 0, 1)
    )
    lit = np.where(comb.fringe[:, None], np.maximum(lit, 0.7), lit)
    centre = np.array([0, 7.3, 0.2])
    normals = unit(
        points - np.where(points[..., 1:2] < 7.0, np.array([0, 1.0, 0]) * points[..., 1:2] + [0, 0, 0.1], centre)
    )
    plan = TuftPlan(
        points=points, normals=normals, length=comb.length, width=width, cover=cover, light=np.clip(lit, 0, 1),
        colour=tuft_colours(hair, roots.base, k, rng), head_weight=head_weight(points),
    )  # fmt: skip
    order = np.argsort(-depth[left], kind="stable")
    return plan.take(np.flatnonzero(left)[order])


def baby_hairs(hair: Hair, skull: Skull, roots: Roots, seed: int, rng: np.random.Generator) -> TuftPlan:
    """Short single hairs along the hairline, which make its edge soft."""
    bare = roots.base[:, 2] > 0.25 if hair.style in TIES else np.ones(len(roots.base), bool)
    edge = np.flatnonzero(bare & (hair_density(roots.base, hair, seed) < 0.8))[:320]
    roots = Roots(roots.position[edge], roots.normal[edge], roots.base[edge])
    n, k = len(edge), 4
    combed = comb_hair(replace(hair, fringe=0.0), roots.base, rng)
    length = rng.uniform(0.03, 0.2 if hair.style in TIES else 0.11, n)
    comb = replace(combed, length=length, lift=rng.uniform(0.05, 0.4, n), pull=np.zeros((n, 3)))
    short = replace(hair, style="buzz", points=k, messy=0.45)
    points = grow_tufts(short, skull, roots, comb, np.full(n, 0.008), rng.random(n) < 0.4, rng)
    points, left = cut_at_face(points, skull, rng)
    along = np.linspace(0, 1, k)[None]
    colour = tuft_colours(hair, roots.base, k, rng)
    return TuftPlan(
        points=points, normals=np.repeat(roots.normal[:, None], k, 1), length=comb.length,
        width=0.0042 * (1 - 0.6 * along) * np.ones((n, 1)), cover=np.full((n, k), 1.6), light=np.full((n, k), 0.9),
        colour=colour * 1.35 + 0.035, head_weight=head_weight(points),
    ).take(np.flatnonzero(left))  # fmt: skip


def tuft_colours(hair: Hair, base: Points, k: int, rng: np.random.Generator) -> Points:
    """(n, K, 3): the head's colour, varied by lock, a few lighter strands, ends in the tips' colour."""
    n = len(base)
    lock = 0.5 * noise(base, 4, 51)
    bright = np.exp(hair.streaks * (rng.normal(0, 1, n) + lock))
    colour = np.array(hair.colour) * (bright[:, None] * np.exp(rng.normal(0, 0.035, (n, 1)) * [1.0, 0.2, -1.0]))
    if hair.grey > 0:
        share = (rng.random(n) < 0.35 * hair.grey)[:, None] * rng.uniform(0.2, 0.55, (n, 1))
        colour = colour * (1 - share) + np.array([0.34, 0.33, 0.32]) * share
    out = np.repeat(colour[:, None], k, 1)
    if hair.tips is not None:
        at = smoothstep(0.30, 0.8, np.linspace(0, 1, k)[None] + 0.12 * rng.normal(0, 1, (n, 1)))[..., None]
        out = out * (1 - at) + np.array(hair.tips) * bright[:, None, None] * at
    return out
