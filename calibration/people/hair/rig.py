"""Hair, loose strands and beard of one person on the GPU: built once, posed and drawn in every state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.people.face.noise import smoothstep
from calibration.people.gl import GL
from calibration.people.hair.beards import BeardTufts, grow_beard
from calibration.people.hair.cloud import CORE, cloud_plan, tail_plan, thickness
from calibration.people.hair.combs import CROWN, TIES
from calibration.people.hair.growth import Skull, baby_hairs, combed_plan, scatter_roots, unit
from calibration.people.hair.hairline import hair_density, part_line, uneven_height
from calibration.people.hair.loose_locks import LOCKS, loose_plan
from calibration.people.hair.style import Hair
from calibration.people.hair.tufts import TUFT_FLOATS, TUFT_FORMAT, Tufts, mesh, strand_texture
from calibration.people.head.mesh import Points
from calibration.people.head.shape import HeadModel, turn_head
from calibration.people.identity import Identity

_HIDES_DM = 0.55
"""Radius of the ball inside every head that certainly hides what lies behind it."""
_TEXTURE_UNIT = 3
_BEHIND_DM = 0.12
_CURL_REPEAT_DM = (0.75, 0.9)
_COAT_EDGE = {
    "tied": (0.02, 0.19, 1.35), "bun": (0.02, 0.19, 1.35), "curly": (-0.02, 0.09, 1.7), "afro": (-0.02, 0.09, 1.7),
    "long": (0.01, 0.13, 1.4), "ringlets": (0.01, 0.13, 1.4),
}  # fmt: skip
"""Heights above the hairline between which the undercoat closes, and its cover beyond."""
_MUCH = 400
_SHADOW_SHARE = 4
"""One tuft of this many casts shadows."""


def _undercoat(
    hair: Hair, head: HeadModel, skin: Points, normals: Points, free: NDArray[np.bool_], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """The scalp again, a little higher and covered with strands: (m, TUFT_FLOATS) vertices, (t, 3) triangles."""
    average, triangles = head.fine_average, head.skin.triangles
    density = hair_density(average, hair, seed) * (1 - part_line(average, hair, seed))
    chosen = triangles[((density > 0.02) & free)[triangles].any(1) & free[triangles].all(1)]
    used, index = np.unique(chosen, return_inverse=True)
    base, normal = average[used], normals[used]
    away = base - CROWN
    along = away - normal * (away * normal).sum(1, keepdims=True)
    v = np.zeros((len(used), TUFT_FLOATS), np.float32)
    lift = 0.004 + 0.022 * density[used]
    if hair.style in CORE:  # the dense inside of curls
        lift = np.maximum(lift, CORE[hair.style] * thickness(hair, base) * (0.25 + 0.75 * density[used]))
        out = unit(normal + np.array([0, 0.12, 0.05]))
    else:
        out = normal
    v[:, 0:3] = skin[used] + out * lift[:, None]
    v[:, 3:6] = along / (np.linalg.norm(along, axis=1, keepdims=True) + 1e-9)
    v[:, 6:9] = normal
    # It ends before the hairline, where single tufts and the painted shade make a softer edge.
    low, high, most = _COAT_EDGE.get(hair.style, (0.03, 0.17, 1.25))
    v[:, 11] = (most * density[used] - 0.05) * smoothstep(low, high, uneven_height(base, hair, seed))
    v[:, 12] = 0.7 if hair.style in CORE else 0.5
    far = np.linalg.norm(away, axis=1)
    if hair.style in CORE:  # curls have no direction: as even a map of the head as there is
        v[:, 13:15] = away[:, [0, 2]] / np.hypot(away[:, 0], away[:, 2])[:, None] * (far / 0.5)[:, None]
    else:
        v[:, 13] = np.arctan2(away[:, 0], away[:, 2]) * (4 / (2 * np.pi))
        v[:, 14] = far / 1.6
    v[:, 15:18] = np.array(hair.colour) * 0.8
    v[:, 18] = 1.0
    return v, index.reshape(-1, 3).astype(np.uint32)


def plan_hair(
    hair: Hair, head: HeadModel, skull: Skull, skin: Points, normals: Points, free: NDArray[np.bool_], seed: int
) -> list[Tufts]:
    """All tufts of a head of hair on the neutral ``skin`` (m, 3), outermost first; none for a bald head.

    ``free`` (m,) marks skin where hair may root or rest: not ears, not the inside of the mouth.
    """
    if hair.style == "bald":
        return []
    rng = np.random.default_rng([seed, 7, 1])
    roots = scatter_roots(hair, head, skin, normals, free, hair.tufts, seed, rng)
    if hair.style in CORE:
        return [mesh(cloud_plan(hair, skull, roots, rng), rng, *_CURL_REPEAT_DM)]
    out = [mesh(combed_plan(hair, skull, roots, rng), rng)]
    if hair.style in TIES:
        out.append(mesh(tail_plan(hair, skull, rng), rng))
    lower = replace(hair, hairline=hair.hairline - 0.03, thin=0.0, parted=False, tufts=1100)
    return [
        *out,
        mesh(baby_hairs(hair, skull, scatter_roots(lower, head, skin, normals, free, 1100, seed, rng), seed, rng), rng),
    ]


class HairRig:
    """The GPU side of all hair of one person but brows and lashes. ``close`` frees it."""

    def __init__(
        self, gl: GL, head: HeadModel, skin: Points, normals: Points, free: NDArray[np.bool_], who: Identity, *,
        cel: bool = False,
    ) -> None:  # fmt: skip
        """``skin`` and ``normals`` (m, 3) are the neutral subdivided skin, ``free`` (m,) where hair may root."""
        self._gl, self._hair, self._resources = gl, who.hair, list[Any]()
        self._program = "tuft_cel" if cel and "tuft_cel" in gl.programs else "tuft"
        skull = Skull(head, skin, normals, free)
        tufts = plan_hair(who.hair, head, skull, skin, normals, free, who.seed)
        self._texture = self._strands(curly=who.hair.style in CORE)
        self._beard_texture = self._strands(curly=False) if who.hair.style in CORE else self._texture
        self._make_hair(tufts, head, skin, normals, free, who)
        self._make_loose(skull, who)
        self._make_beard(
            grow_beard(who.beard, head, skin, normals, free, who.seed, np.random.default_rng([who.seed, 7, 3]))
        )

    def _strands(self, *, curly: bool) -> Any:
        texture = self._keep(self._gl.texture(strand_texture(curly=curly)))
        texture.repeat_x = texture.repeat_y = True
        texture.filter = (self._gl.moderngl.LINEAR_MIPMAP_NEAREST, self._gl.moderngl.LINEAR)
        return texture

    def _keep(self, thing: Any) -> Any:
        self._resources.append(thing)
        return thing

    def _array(self, program: str, content: list[tuple[Any, ...]], index: Any) -> Any:
        array = self._gl.context.vertex_array(self._gl.programs[program], content, index, skip_errors=True)
        return self._keep(array)

    def _make_hair(
        self, tufts: list[Tufts], head: HeadModel, skin: Points, normals: Points, free: NDArray[np.bool_], who: Identity
    ) -> None:
        self._groups: list[NDArray[np.uint32]] = []
        self._marks: list[Points] = []
        self._mark_weights: list[Points] = []
        self._hair_array: Any = None
        if not tufts:
            return
        parts, first = [], 0
        for t in tufts:
            n, k = t.vertices.shape[:2]
            parts.append(t.vertices.reshape(-1, TUFT_FLOATS))
            self._groups.append(t.indices + np.uint32(first))
            first += n * k * 2
            marks = t.vertices[:, [0, k // 2, k - 1], 0]
            self._marks.append(marks[..., :3].astype(np.float64))
            self._mark_weights.append(marks[..., 18].astype(np.float64))
        coat, triangles = _undercoat(who.hair, head, skin, normals, free, who.seed)
        parts.append(coat)
        self._coat = (triangles + np.uint32(first)).ravel()
        buffer = self._keep(self._gl.context.buffer(np.concatenate(parts).tobytes()))
        every = sum(g.size for g in self._groups) + self._coat.size
        self._index = self._keep(self._gl.context.buffer(reserve=every * 4, dynamic=True))
        shadow = np.concatenate([g[::_SHADOW_SHARE].ravel() for g in self._groups])
        shadow_index = self._keep(self._gl.context.buffer(shadow.tobytes()))
        self._hair_array = self._array(self._program, [(buffer, *TUFT_FORMAT)], self._index)
        self._shadow_array = self._array("tuft_depth", [(buffer, *TUFT_FORMAT)], shadow_index)

    def _make_loose(self, skull: Skull, who: Identity) -> None:
        self._loose_array: Any = None
        if who.hair.style == "bald":
            return
        rng = np.random.default_rng([who.seed, 7, 2])
        locks = mesh(loose_plan(who.hair, skull, rng), rng)
        buffer = self._keep(self._gl.context.buffer(locks.vertices.tobytes()))
        index = self._keep(self._gl.context.buffer(locks.indices.tobytes()))
        self._lock_indices = locks.indices.size // LOCKS
        self._loose_array = self._array(self._program, [(buffer, *TUFT_FORMAT)], index)
        self._loose_shadow = self._array("tuft_depth", [(buffer, *TUFT_FORMAT)], index)

    def _make_beard(self, beard: BeardTufts | None) -> None:
        self._beard, self._beard_array = beard, None
        if beard is None:
            return
        n, k = beard.points.shape[:2]
        self._beard_buffer = self._keep(self._gl.context.buffer(reserve=n * k * 2 * 36, dynamic=True))
        fixed = self._keep(self._gl.context.buffer(beard.fixed.tobytes()))
        index = self._keep(self._gl.context.buffer(beard.mesh.indices.tobytes()))
        content: list[tuple[Any, ...]] = [
            (self._beard_buffer, "3f 3f 3f", "position", "tangent", "normal"),
            (fixed, "4f 2f 3f 1f", "shape", "uv", "colour", "head_weight"),
        ]
        self._beard_array = self._array(self._program, content, index)

    @property
    def marks(self) -> Points:
        """(n, 3) roots, middles and ends of the tufts on the unposed head: how far the hair reaches."""
        return np.concatenate([m.reshape(-1, 3) for m in self._marks] or [np.zeros((0, 3))])

    def pose(self, skin: Points, normals: Points) -> None:
        """Move the beard to a posed skin; hair follows in the shader."""
        if self._beard is not None:
            self._beard_buffer.write(self._beard.posed(skin, normals).tobytes())

    def draw_shadow(self, uniforms: dict[str, Any], loose: float) -> None:
        """Depth only, into the shadow map that is bound."""
        if self._hair_array is None:
            return
        self._gl.set("tuft_depth", uniforms)
        self._shadow_array.render()
        count = self._loose_count(loose)
        if count:
            self._loose_shadow.render(vertices=count)

    def draw(self, uniforms: dict[str, Any], loose: float) -> None:
        """Hair and, for ``loose`` > 0, that share of the loose locks. ``uniforms`` are the picture's own."""
        if self._hair_array is None:
            return
        seen = self._visible(uniforms)
        self._index.write(seen.tobytes())
        self._gl.set(self._program, uniforms | {"shine": self._hair.shine, "strand_map": _TEXTURE_UNIT})
        self._texture.use(_TEXTURE_UNIT)
        self._hair_array.render(vertices=len(seen))
        count = self._loose_count(loose)
        if count:
            # Loose strands hang over a cap's edge.
            self._gl.set(self._program, {"hair_clip": (0, 0, 0, 1)})
            self._loose_array.render(vertices=count)

    def draw_beard(self, uniforms: dict[str, Any]) -> None:
        """The beard, which is posed already."""
        if self._beard_array is None:
            return
        still = {"head_rotation": (0, 0, 0), "head_shift": (0, 0, 0), "hair_clip": (0, 0, 0, 1)}
        self._gl.set(self._program, uniforms | still | {"shine": 0.5, "strand_map": _TEXTURE_UNIT})
        self._beard_texture.use(_TEXTURE_UNIT)
        self._beard_array.render()

    def _loose_count(self, share: float) -> int:
        if self._loose_array is None or share <= 0:
            return 0
        return self._lock_indices * max(1, min(LOCKS, round(share * LOCKS)))

    def _visible(self, uniforms: dict[str, Any]) -> NDArray[np.uint32]:
        """Indices of the tufts that may be seen: not outside the picture, not behind the head."""
        matrix, camera = uniforms["view_projection"], np.asarray(uniforms["camera"])
        turn, shift = np.asarray(uniforms["head_rotation"]), np.asarray(uniforms["head_shift"])
        ball = uniforms["head_centre"] - camera
        out = []
        for marks, weights, rows in zip(self._marks, self._mark_weights, self._groups, strict=True):
            p = turn_head(marks.reshape(-1, 3), weights.ravel(), turn, shift)
            clip = p @ matrix[[0, 1, 3], :3].T + matrix[[0, 1, 3], 3]
            x, y, w = (clip[:, i].reshape(-1, 3) for i in range(3))
            # Of much hair that hangs behind the head every second tuft is enough.
            spare = (w[:, 1] > np.linalg.norm(ball) + _BEHIND_DM) & (np.arange(len(w)) % 2 == 1) & (len(w) > _MUCH)
            w = w * 1.1
            outside = (x > w).all(1) | (x < -w).all(1) | (y > w).all(1) | (y < -w).all(1)
            ray = p - camera
            t = np.minimum(ray @ ball / (ray * ray).sum(1), 1)
            nearest = ((ray * t[:, None] - ball) ** 2).sum(1)
            hidden = ((nearest < _HIDES_DM**2) & (t < 1 - 0.02)).reshape(-1, 3).all(1)
            seen = np.flatnonzero(~(outside | hidden | spare))
            # Nearest first: what lies behind is then rejected by depth before it is shaded.
            seen = seen[np.argsort(w[seen].min(1), kind="stable")]
            out.append(rows[seen].ravel())
        if self._hair.style in CORE:  # closed and far out: it hides most of what follows
            return np.concatenate([self._coat, *out])
        return np.concatenate([*out, self._coat])

    def close(self) -> None:
        """Free buffers and textures."""
        for thing in self._resources:
            thing.release()
        self._resources.clear()
