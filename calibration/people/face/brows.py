"""Brows and lashes: hairs painted on the skin, and ribbons bound to it, so that both follow every expression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from calibration.people.face.complexion import Brow, MakeUp
from calibration.people.face.strokes import Strokes, strokes
from calibration.people.head.mesh import Points
from calibration.people.head.shape import HeadModel
from calibration.people.head.unwrap import placed

BROW_U = (0.0, 0.35, 0.68, 1.0)
BROW_Y = (7.462, 7.497, 7.508, 7.44)
BROW_X = (0.085, 0.54)
"""Of the brow on the average head's left half, decimetres."""
_TEXELS_PER_DM = 350.0
_RIBBONS = 0.22
"""Share of the hairs that stand off the skin; the others are painted on it, which is softer and costs nothing."""


def brow_line(u: NDArray[np.floating], arch: float) -> NDArray[np.floating]:
    """Height of the brow's middle, from its inner end (u 0) to its outer end (u 1)."""
    return np.asarray(np.interp(u, BROW_U, BROW_Y) + arch * np.interp(u, BROW_U, (0, 0.6, 1.2, 0.2)))


def _unit(v: Points) -> Points:
    return np.asarray(v / (np.linalg.norm(v, axis=1, keepdims=True) + 1e-9))


@dataclass(frozen=True)
class Bond:
    """Where points sit on the skin: three vertices each and their weights."""

    vertices: NDArray[np.int64]
    """(n, 3)."""
    weight: Points
    """(n, 3, 1)."""

    def of(self, values: Points) -> Points:
        """(n, d) interpolated from (m, d) values of the skin's vertices."""
        return np.asarray((values[self.vertices] * self.weight).sum(1))


class BrowGround:
    """The part of the average head on which brows grow."""

    def __init__(self, head: HeadModel) -> None:
        average = head.fine_average
        uv = head.skin.vertex_uv
        self.places = placed(head, uv)
        # The eyes' sockets lie on another island of the texture.
        near = (average[:, 2] > 1.0) & (np.abs(self.places - 0.5) < 0.5).all(1)
        near &= (np.abs(average[:, 0]) < 0.8) & (average[:, 1] > 7.3) & (average[:, 1] < 7.8)
        self._candidates = np.flatnonzero(near)
        self._tree = cKDTree(average[self._candidates, :2])

    def bind(self, xy: Points) -> Bond:
        """The skin at (n, 2) points of the average face."""
        distance, nearest = self._tree.query(xy, k=3)
        weight = 1 / (distance + 1e-4) ** 2
        return Bond(self._candidates[nearest], (weight / weight.sum(1, keepdims=True))[..., None])


class BrowStrands:
    """Brow hairs of one person."""

    def __init__(self, brow: Brow, head: HeadModel, rng: np.random.Generator) -> None:
        ground = BrowGround(head)
        n = 2 * brow.strands
        self.side = np.repeat([1.0, -1.0], brow.strands)
        u = np.tile(rng.beta(1.05, 1.2, brow.strands), 2) + rng.normal(0, 0.02, n)
        u = u.clip(0, 1)
        thick = brow.thickness * np.interp(u, (0, 0.12, 0.6, 1), (0.75, 1, 0.8, 0.22))
        # Denser along the lower edge, as brows are.
        y = brow_line(u, brow.arch) + rng.normal(-0.15, 0.62, n).clip(-1.35, 1.6) * thick
        x = BROW_X[0] + u * (BROW_X[1] - BROW_X[0])
        above = (y - brow_line(u, brow.arch)) / brow.thickness
        lean = np.interp(u, (0, 0.12, 0.35, 0.6, 1), (78, 52, 24, 2, -26)) - 16 * above * np.clip(2 * u, 0, 1)
        angle = np.radians(lean + rng.normal(0, 9, n))
        length = brow.length * (0.6 + 0.6 * rng.random(n)) * np.interp(u, (0, 0.3, 0.6, 1), (0.7, 1.0, 1.05, 0.7))
        step = np.stack([np.cos(angle) * length, np.sin(angle) * length], 1)
        curve = np.stack([np.sin(angle), -np.cos(angle)], 1) * (0.16 * length)[:, None]
        root = np.stack([x, y], 1)
        colour = np.array(brow.colour) * np.exp(rng.normal(0, 0.22, (n, 1)))
        ends = np.clip(np.minimum(u / 0.10, (1.02 - u) / 0.10), 0.15, 1)
        self.strokes = self._painted(ground, root, step, curve, colour, ends)
        stands = rng.random(n) < _RIBBONS * ends
        self._root = ground.bind(root[stands] * np.c_[self.side[stands], np.ones(stands.sum())])
        self.side = self.side[stands]
        self.offset = np.c_[step[stands], np.zeros(stands.sum())]
        self.curve = np.c_[curve[stands], np.zeros(stands.sum())]
        self.random = rng.random(stands.sum())
        self.colour = colour[stands] * 1.15 + 0.01
        self.width = np.full(stands.sum(), 0.0021)
        line = np.linspace(0.02, 0.96, 5)
        middle = np.c_[BROW_X[0] + line * (BROW_X[1] - BROW_X[0]), brow_line(line, brow.arch)]
        self._line = [ground.bind(middle * [sign, 1]) for sign in (1.0, -1.0)]

    def _painted(
        self, ground: BrowGround, root: Points, step: Points, curve: Points, colour: Points, ends: NDArray[np.floating]
    ) -> Strokes:
        along = np.linspace(0, 1, 4)[None, :, None]
        path = root[:, None] + step[:, None] * along + curve[:, None] * (along**2)
        path[..., 0] *= self.side[:, None]
        n, k, _ = path.shape
        places = ground.bind(path.reshape(-1, 2)).of(ground.places).reshape(n, k, 2)
        fade = np.array([0.55, 0.85, 0.7, 0.25])[None] * ends[:, None]
        strength = 0.30 + 0.50 * ((np.arange(n) * 0.618034) % 1.0)[:, None]
        width = np.full((n, 1), 0.0027 * _TEXELS_PER_DM) * np.array([[1.1, 1.0, 0.8, 0.4]])
        return strokes(places, width, colour * 0.8, fade * strength)

    def landmarks(self, skin: Points) -> Points:
        """(10, 3): iBUG points 17..26, on the brows' middle lines, which is where annotators put them."""
        left, right = (bond.of(skin) for bond in self._line)
        return np.concatenate([right[::-1], left])

    def strands(self, skin: Points, normals: Points, rotation: Points, along: Points) -> Points:
        """(n, K, 3) points of the hairs that stand off the posed skin."""
        root, normal = self._root.of(skin), _unit(self._root.of(normals))
        mirror = np.c_[self.side, np.ones((len(self.side), 2))]
        offset, curve = ((v * mirror) @ rotation.T for v in (self.offset, self.curve))
        offset -= normal * (offset * normal).sum(1, keepdims=True)
        length = np.linalg.norm(offset, axis=1, keepdims=True)
        offset += normal * 0.22 * length
        bend = curve[:, None] * (along**2)[None, :, None] - normal[:, None] * (0.16 * length * along**2)[..., None]
        return np.asarray(root[:, None] - normal[:, None] * 0.003 + offset[:, None] * along[None, :, None] + bend)


def lid_lines(head: HeadModel, make_up: MakeUp, dark: float) -> Strokes:
    """The roots of the lashes as a soft dark line on both lids, and eye liner. ``dark`` 0..1: how dense lashes are."""
    uv = head.skin.vertex_uv
    places = placed(head, uv)
    lines, widths, colours, fades = [], [], [], []
    for side in ("left", "right"):
        for lid, strong in (("upper", 1.0), ("lower", 0.42)):
            chain = places[head.fine_index[f"{side}_{lid}_lid"]]
            t = np.linspace(0, 1, 24)
            at = np.linspace(0, 1, len(chain))
            line = np.stack([np.interp(t, at, chain[:, k]) for k in range(2)], 1)
            taper = np.interp(t, (0, 0.2, 0.8, 1), (0.25, 0.9, 1.0, 0.6))
            for width, colour, amount in (
                (0.012, (0.05, 0.025, 0.02), 0.55 * dark),
                (0.006 + 0.016 * make_up.liner, (0.008, 0.007, 0.008), 0.9 * make_up.liner),
            ):
                lines.append(line)
                widths.append(width * _TEXELS_PER_DM * (0.45 + 0.55 * taper))
                colours.append(colour)
                fades.append(strong * amount * taper)
    return strokes(np.array(lines), np.array(widths), np.array(colours), np.array(fades))


class Lashes:
    """Upper and lower lashes on the lids' edges, in clumps."""

    def __init__(self, length: float, count: int, rng: np.random.Generator) -> None:
        lower = int(count * 0.55)
        self.length = length
        self.u = (self._spread(count, 0.05, 0.97, rng), self._spread(lower, 0.15, 0.92, rng))
        self.vary = rng.random((2, count + lower))
        self.bend = rng.normal(0, 0.07, (2, count + lower, 3))
        self.count = 2 * (count + lower)

    @staticmethod
    def _spread(count: int, first: float, last: float, rng: np.random.Generator) -> NDArray[np.float64]:
        even = (np.arange(count) + rng.random(count)) / count
        return np.asarray(first + (last - first) * even)

    def strands(
        self, eye: int, centre: Points, upper: Points, lower: Points, rotation: Points, along: Points
    ) -> Points:
        """(n, K, 3) points of one eye's lashes; ``upper`` and ``lower`` (k, 3) are the lids' edges."""
        up, right = rotation @ [0.0, 1, 0], rotation @ [1.0 if eye == 0 else -1.0, 0, 0]
        out, first = [], 0
        for lid, u, scale, curl, drop in ((upper, self.u[0], 1.0, 0.80, 0.22), (lower, self.u[1], 0.45, -0.30, 0.25)):
            at = np.linspace(0, 1, len(lid))
            root = np.stack([np.interp(u, at, lid[:, i]) for i in range(3)], 1)
            radial = _unit(root - centre)
            tangent_up = up - radial * (radial @ up)[:, None]
            rows = slice(first, first + len(u))
            first += len(u)
            length = self.length * scale * np.interp(u, (0, 0.25, 0.7, 1), (0.45, 0.8, 1.1, 0.85))
            length = length * (0.7 + 0.5 * self.vary[eye, rows])
            start = radial * 0.9 + right * ((u - 0.40) * 0.75)[:, None] + self.bend[eye, rows] - tangent_up * drop
            path = start[:, None] * along[None, :, None] + (tangent_up[:, None] * (curl * along**2)[None, :, None])
            out.append(root[:, None] + path * length[:, None, None])
        return np.concatenate(out)
