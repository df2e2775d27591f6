"""The head's geometry: MakeHuman's hm08 head, its shape targets, its face units, one Catmull-Clark step.

Units are decimetres, y up, z forward, x+ the person's left. A face is ``base + sum(weight * target)``; the order does
not matter. Only adults: the macro targets for children are not in the stored data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from calibration.people.head.mesh import Points, turn_about
from engines.errors import RenderError

HEAD_PIVOT = np.array([0.0, 6.30, 0.15])
"""Where the head turns, on every person."""
HEM_DM = 9.0
"""How far the stored bust is drawn out downwards, so that a distant camera does not see where it ends."""
_SHOULDER = np.array([1.62, 4.95, -0.05])
_ARM_ANGLE = np.radians(32.0)
RACES = ("caucasian", "asian", "african")


@dataclass(frozen=True)
class Patch:
    """One subdivided surface. Rows of ``corner_*`` are unique (vertex, uv) pairs, ready for a vertex buffer."""

    ids: NDArray[np.int64]
    """(n,) vertices of the stored head that the surface uses."""
    subdivide: sp.csr_matrix
    """(m, n): subdivided positions = subdivide @ positions; the first n rows belong to ``ids``."""
    corner_vertex: NDArray[np.int64]
    corner_uv: NDArray[np.float32]
    corner_triangles: NDArray[np.uint32]
    triangles: NDArray[np.int64]
    """(t, 3) over the m subdivided vertices."""

    @property
    def vertex_uv(self) -> Points:
        """(m, 2): a texture coordinate of each subdivided vertex; one of several where the texture has a seam."""
        uv = np.zeros((self.subdivide.shape[0], 2))
        uv[self.corner_vertex] = self.corner_uv
        return uv


def catmull_clark(
    count: int, quads: NDArray[np.int64], uv: NDArray[np.float32]
) -> tuple[sp.csr_matrix, NDArray[np.int64], NDArray[np.float32]]:
    """One step over ``quads`` (n, 4) as a sparse matrix (Catmull and Clark 1978), and the new quads with their uv."""
    n = len(quads)
    corners = quads.ravel()
    edges = np.sort(np.stack([quads, np.roll(quads, -1, 1)], 2).reshape(-1, 2), axis=1)
    unique, inverse, uses = np.unique(edges, axis=0, return_inverse=True, return_counts=True)
    inverse = inverse.ravel()
    e = len(unique)
    rows = np.repeat(np.arange(n), 4)
    face_points = sp.csr_matrix((np.full(4 * n, 0.25), (rows, corners)), (n, count))
    midpoints = sp.csr_matrix((np.full(2 * e, 0.5), (np.repeat(np.arange(e), 2), unique.ravel())), (e, count))
    edge_faces = sp.csr_matrix((1 / uses[inverse], (inverse, rows)), (e, n))
    border = uses == 1
    edge_points = sp.diags(np.where(border, 1.0, 0.5)) @ midpoints + sp.diags(np.where(border, 0.0, 0.5)) @ (
        edge_faces @ face_points
    )
    faces_at = np.bincount(corners, minlength=count).astype(float)
    edges_at = np.maximum(np.bincount(unique.ravel(), minlength=count), 1).astype(float)
    on_border = np.zeros(count, bool)
    on_border[unique[border].ravel()] = True
    inside = (faces_at > 0) & ~on_border
    k = np.maximum(faces_at, 1)
    vertex_faces = sp.csr_matrix((np.ones(4 * n), (corners, rows)), (count, n))
    vertex_edges = sp.csr_matrix((np.ones(2 * e), (unique.ravel(), np.repeat(np.arange(e), 2))), (count, e))
    # Border vertices: 3/4 of the vertex and 1/8 of its two border neighbours.
    rim = unique[border]
    neighbours = sp.csr_matrix((np.ones(2 * len(rim)), (rim.ravel(), rim[:, ::-1].ravel())), (count, count))
    proper = on_border & (np.asarray(neighbours.sum(1)).ravel() == 2)
    own = np.where(inside, (k - 3) / k, np.where(proper, 0.75, 1.0))
    vertex_points = (
        sp.diags(np.where(inside, 1 / k**2, 0.0)) @ (vertex_faces @ face_points)
        + sp.diags(np.where(inside, 2 / k / edges_at, 0.0)) @ (vertex_edges @ midpoints)
        + sp.diags(np.where(proper, 0.125, 0.0)) @ neighbours
        + sp.diags(own)
    )
    matrix = sp.vstack([vertex_points, edge_points, face_points]).tocsr()
    edge_id = count + inverse.reshape(n, 4)
    face_id = np.repeat((count + e + np.arange(n))[:, None], 4, 1)
    new_quads = np.stack([quads, edge_id, face_id, np.roll(edge_id, 1, 1)], 2).reshape(-1, 4)
    uv_edge, uv_face = (uv + np.roll(uv, -1, 1)) / 2, np.repeat(uv.mean(1, keepdims=True), 4, 1)
    new_uv = np.stack([uv, uv_edge, uv_face, np.roll(uv_edge, 1, 1)], 2).reshape(-1, 4, 2)
    return matrix, new_quads, new_uv


def _patch(quads: NDArray[np.int64], uv: NDArray[np.float32]) -> Patch:
    ids = np.unique(quads)
    matrix, fine, fine_uv = catmull_clark(len(ids), np.searchsorted(ids, quads), uv)
    keys = np.concatenate([fine.reshape(-1, 1), np.round(fine_uv.reshape(-1, 2), 6)], axis=1)
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    corner = inverse.reshape(-1, 4)
    split = ([0, 1, 2], [0, 2, 3])
    return Patch(
        ids=ids,
        subdivide=matrix,
        corner_vertex=unique[:, 0].astype(np.int64),
        corner_uv=unique[:, 1:].astype(np.float32),
        corner_triangles=np.concatenate([corner[:, s] for s in split]).astype(np.uint32),
        triangles=np.concatenate([fine[:, s] for s in split]).astype(np.int64),
    )


def draw_out(
    quads: NDArray[np.int64], uv: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Hang a strip of new quads on every open border of ``quads`` (n, 4).

    Returns the border's vertices (b,), whose copies are the new vertices count, count + 1, …, and all quads with their
    uv (the strip repeats the border's).
    """
    starts, ends = quads.ravel(), np.roll(quads, -1, 1).ravel()
    edges = np.sort(np.stack([starts, ends], 1), axis=1)
    _, inverse, uses = np.unique(edges, axis=0, return_inverse=True, return_counts=True)
    open_edge = uses[inverse.ravel()] == 1
    start, end = starts[open_edge], ends[open_edge]
    border = np.unique(start)
    new_start, new_end = (count + np.searchsorted(border, v) for v in (start, end))
    strip = np.stack([end, start, new_start, new_end], 1)
    at_start, at_end = uv.reshape(-1, 2)[open_edge], np.roll(uv, -1, 1).reshape(-1, 2)[open_edge]
    strip_uv = np.stack([at_end, at_start, at_start, at_end], 1)
    return border, np.concatenate([quads, strip]), np.concatenate([uv, strip_uv])


def _lower_arms(vertices: Points) -> None:
    """Let the arms of (V, 3) ``vertices`` hang: the stored bust holds them away from the body."""
    for side in (1.0, -1.0):
        x = vertices[:, 0] * side
        share = np.clip((x - 1.35) / 0.95, 0, 1)
        angle = -_ARM_ANGLE * share * share * (3 - 2 * share)
        dx, dy = x - _SHOULDER[0], vertices[:, 1] - _SHOULDER[1]
        moved = x > 1.35
        vertices[moved, 0] = side * (_SHOULDER[0] + dx * np.cos(angle) - dy * np.sin(angle))[moved]
        vertices[moved, 1] = (_SHOULDER[1] + dx * np.sin(angle) + dy * np.cos(angle))[moved]


def macro_weights(gender: float, age: float, weight: float, race: Mapping[str, float]) -> dict[str, float]:
    """Weights of the whole-head targets. ``gender`` 0 female..1 male, ``age`` 0 (18)..1 (80), ``weight`` 0..1."""
    total = sum(race.values())
    fat = {"min": max(0.0, 1 - 2 * weight), "average": 1 - abs(2 * weight - 1), "max": max(0.0, 2 * weight - 1)}
    out = {}
    for gender_name, g in (("female", 1 - gender), ("male", gender)):
        for age_name, a in (("young", 1 - age), ("old", age)):
            for race_name in RACES:
                out[f"macro/{race_name}-{gender_name}-{age_name}"] = g * a * race.get(race_name, 0.0) / total
            for fat_name, f in fat.items():
                out[f"macro/universal-{gender_name}-{age_name}-averagemuscle-{fat_name}weight"] = g * a * f
    return out


class HeadModel:
    """The stored head. One shared instance through ``head_model()``; nothing in it changes."""

    def __init__(self) -> None:
        with resources.files("calibration.people").joinpath("data/head.npz").open("rb") as file:
            data = dict(np.load(file))
        bust: Points = data["base"].astype(np.float64)
        quads = data["skin_quads"].astype(np.int64)
        self._border, quads, uv = draw_out(quads, data["skin_uv"], len(bust))
        self.base: Points = np.concatenate([bust, bust[self._border] - [0, HEM_DM, 0]])
        self._starts = data["target_starts"]
        self._indices = data["target_indices"].astype(np.int64)
        self._deltas = data["target_deltas"].astype(np.float64)
        self._names = {str(name): i for i, name in enumerate(data["target_names"])}
        self.expressions = sorted(n.removeprefix("faceunits/") for n in self._names if n.startswith("faceunits/"))
        self._expression_index = {name: i for i, name in enumerate(self.expressions)}
        self.expression_deltas = np.zeros((len(self.expressions), *self.base.shape), np.float32)
        for i, name in enumerate(self.expressions):
            index, delta = self._target(f"faceunits/{name}")
            self.expression_deltas[i, index] = delta
        self.skin = _patch(quads, uv)
        tongue = data["tongue_quads"].astype(np.int64)
        self.tongue = _patch(tongue, np.zeros((len(tongue), 4, 2), np.float32))
        self.uv_window = tuple(float(x) for x in data["uv_window"])
        self.masks = {k.removeprefix("mask_"): v for k, v in data.items() if k.startswith("mask_")}
        self.index = {
            k: v.astype(np.int64) for k, v in data.items() if k.endswith(("_lid", "_eye", "_teeth")) or k == "landmarks"
        }
        self.average = self._add_targets(macro_weights(0.5, 0.15, 0.5, dict.fromkeys(RACES, 1.0)))
        self.fine_average: Points = self.skin.subdivide @ self.average[self.skin.ids]
        head_weight = np.concatenate([data["head_weight"], np.zeros(len(self._border))])
        self.fine_head_weight = np.clip(self.skin.subdivide @ head_weight[self.skin.ids], 0.0, 1.0)
        # Landmarks and lid chains as rows of the subdivided skin.
        local = np.full(len(self.base), -1)
        local[self.skin.ids] = np.arange(len(self.skin.ids))
        self.fine_index = {k: local[v] for k, v in self.index.items() if k.endswith("_lid") or k == "landmarks"}
        if any((v < 0).any() for v in self.fine_index.values()):
            raise RenderError(
                "the stored head lost a landmark", hint="rebuild it: python -m calibration.people.prepare.head"
            )

    def _target(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        if name not in self._names:
            return np.zeros(0, np.int64), np.zeros((0, 3))
        i = self._names[name]
        rows = slice(self._starts[i], self._starts[i + 1])
        return self._indices[rows], self._deltas[rows]

    def reach(self, name: str) -> float:
        """How far, in decimetres, a target at weight 1 moves the vertex that it moves most."""
        _, delta = self._target(name)
        return float(np.linalg.norm(delta, axis=1).max(initial=1e-6))

    def sliders(self) -> list[tuple[str, str]]:
        """(down, up) pairs of local shape targets; left and right ones are named by the left only."""
        opposites = (
            ("-decr", "-incr"),
            ("-in", "-out"),
            ("-down", "-up"),
            ("-backward", "-forward"),
            ("-convex", "-concave"),
        )
        pairs = []
        for name in self._names:
            if name.startswith(("macro/", "faceunits/")) or "/r-" in name:
                continue
            for down, up in opposites:
                if name.endswith(down) and name.removesuffix(down) + up in self._names:
                    pairs.append((name, name.removesuffix(down) + up))
        shapes = [n for n in self._names if n.startswith("head/head-") and n.rsplit("-", 1)[1] in _HEAD_SHAPES]
        return sorted(pairs) + [("", n) for n in sorted(shapes)]

    def identity_vertices(self, weights: Mapping[str, float]) -> Points:
        """(V, 3) neutral vertices for target weights. A left slider moves the right side as well.

        The macro targets make people of different height, by more than a decimetre either way. All are moved up or
        down and back or forth until the face is where the average one is: one pivot, one camera, one neckline fit all.
        """
        vertices = self._add_targets(weights)
        landmarks = self.index["landmarks"]
        vertices[:, 1:] += (self.average[landmarks].mean(0) - vertices[landmarks].mean(0))[1:]
        return vertices

    def _add_targets(self, weights: Mapping[str, float]) -> Points:
        vertices = self.base.copy()
        for name, weight in weights.items():
            sides = (name, name.replace("/l-", "/r-")) if "/l-" in name else (name,)
            for side in sides:
                index, delta = self._target(side)
                vertices[index] += weight * delta
        _lower_arms(vertices)
        vertices[-len(self._border) :] = vertices[self._border] - [0, HEM_DM, 0]
        return vertices

    def express(
        self, neutral: Points, expression: Mapping[str, float], scale: NDArray[np.float64] | None = None
    ) -> Points:
        """Add face units (names as in ARKit, weights 0..1), times ``scale`` (V, 3), to neutral vertices (V, 3).

        Raises RenderError on a wrong name.
        """
        unknown = [name for name in expression if name not in self._expression_index]
        if unknown:
            raise RenderError(f"unknown face unit {unknown[0]!r}", hint=f"one of {', '.join(self.expressions)}")
        rows = [self._expression_index[n] for n, w in expression.items() if abs(w) > 1e-4]
        weights = np.array([w for w in expression.values() if abs(w) > 1e-4])
        if not rows:
            return neutral
        offset = np.tensordot(weights, self.expression_deltas[rows], 1)
        return neutral + (offset if scale is None else offset * scale)


_HEAD_SHAPES = {"oval", "round", "rectangular", "square", "triangular", "diamond", "invertedtriangular"}


@lru_cache(maxsize=1)
def head_model() -> HeadModel:
    """The one head model of this process (0.5 s the first time)."""
    return HeadModel()


def turn_head(points: Points, weight: NDArray[np.float64], rotation: Points, shift: Points) -> Points:
    """Rotate (n, 3) points about the pivot by ``weight`` (n,) times the rotation vector, then shift likewise."""
    return turn_about(points, weight, rotation, shift, HEAD_PIVOT)
