"""One invented person, ready to be drawn: vertex buffers, textures, and the posing of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from calibration.people.brows import BrowStrands, Lashes
from calibration.people.camera import orthographic
from calibration.people.features import Mouth, eye_mesh, gaze_rotation
from calibration.people.gl import GL, SHADOW_SIDE
from calibration.people.identity import Identity
from calibration.people.prop_rig import PropRig
from calibration.people.shape import HEAD_PIVOT, HeadModel, Points, head_model, turn_head, vertex_normals
from calibration.people.skin import TEXTURE_SIZE, SkinMaps, paint
from calibration.people.state import State
from calibration.people.strands import Ribbons, grow_hair, ribbons

_DETAIL_POINTS = 4
_STRAND_FORMAT = ("3f 3f 4f 3f 1f", "position", "tangent", "shape", "colour", "head_weight")


@dataclass(frozen=True)
class Posed:
    """Where everything is in one state."""

    skin: Points
    """(m, 3) subdivided skin in world decimetres."""
    normals: Points
    rotation: Points
    """(3, 3) of the head."""
    rotation_vector: Points
    shift: Points
    jaw_open: float
    lids: tuple[tuple[float, float], tuple[float, float]]
    """Per eye: height of the lower and the upper lid, in eyeball radii above its centre."""


@dataclass(frozen=True)
class SharedMaps:
    """What all people share: positions on the average head per texel, and the painted areas."""

    positions: NDArray[np.float32]
    masks: Mapping[str, NDArray[np.float32]]
    free: NDArray[np.bool_]
    """(m,) skin vertices where hair may root or rest: not ears, not the inside of the mouth."""
    inside_mouth: NDArray[np.bool_]


def _sample(mask: NDArray[np.uint8], window: tuple[float, ...], uv: NDArray[np.floating]) -> NDArray[np.float64]:
    """Values of a mask picture at (n, 2) texture coordinates; 0 outside its window. The picture's row 0 is v0."""
    u0, u1, v0, v1 = window
    height, width = mask.shape
    x = np.round((uv[:, 0] - u0) / (u1 - u0) * (width - 1)).astype(int)
    y = np.round((uv[:, 1] - v0) / (v1 - v0) * (height - 1)).astype(int)
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    out = np.zeros(len(uv))
    out[inside] = mask[y[inside], x[inside]] / 255.0
    return out


def shared_maps(gl: GL, head: HeadModel) -> SharedMaps:
    """Unwrap the average head into the texture once per context."""
    width, height = TEXTURE_SIZE
    u0, u1, v0, v1 = head.uv_window
    skin = head.skin
    rest = head.fine_average[skin.corner_vertex]
    xy = (skin.corner_uv - [u0, v0]) / [u1 - u0, v1 - v0] * 2 - 1
    buffer = gl.context.buffer(np.concatenate([xy, rest], 1).astype(np.float32).tobytes())
    index = gl.context.buffer(skin.corner_triangles.tobytes())
    array = gl.context.vertex_array(gl.programs["unwrap"], [(buffer, "2f 3f", "uv", "rest")], index)
    texture = gl.context.texture((width, height), 4, dtype="f4")
    target = gl.context.framebuffer([texture])
    target.use()
    target.clear()
    gl.context.disable(gl.moderngl.CULL_FACE | gl.moderngl.DEPTH_TEST)
    array.render()
    pixels = np.frombuffer(texture.read(), np.float32).reshape(height, width, 4)
    for thing in (array, buffer, index, target, texture):
        thing.release()
    covered = (pixels[..., 3] > 0.5).astype(np.uint8)
    # Texels off the island take the nearest covered one's position, so that mip-maps do not bleed.
    _, labels = cv2.distanceTransformWithLabels(1 - covered, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    lookup = np.zeros(int(labels.max()) + 1, np.int64)
    rows, columns = np.nonzero(covered)
    lookup[labels[rows, columns]] = rows * width + columns
    positions = np.ascontiguousarray(pixels[..., :3].reshape(-1, 3)[lookup[labels]])
    masks = {
        name: cv2.resize(mask, TEXTURE_SIZE, interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
        for name, mask in head.masks.items()
        if not name.startswith("full_")
    }
    uv = np.zeros((len(head.fine_average), 2))
    uv[skin.corner_vertex] = skin.corner_uv
    full = head.masks["full_inside-mouth"]
    inside = _sample(full[::-1], (0.0, 1.0, 0.0, 1.0), uv) > 0.5
    ears = _sample(head.masks["ears"], head.uv_window, uv) > 0.3
    return SharedMaps(positions, masks, ~(inside | ears), inside)


class Actor:
    """The GPU side of one identity. ``close`` frees it."""

    def __init__(self, gl: GL, who: Identity, shared: SharedMaps) -> None:
        self.who, self._gl = who, gl
        self._head = head = head_model()
        rng = np.random.default_rng([who.seed, 7])
        self._neutral = head.identity_vertices(who.shape_weights())
        skin = head.skin.subdivide @ self._neutral[head.skin.ids]
        normals = vertex_normals(skin, head.skin.triangles)
        self.maps: SkinMaps = paint(who, shared.positions, shared.masks)
        self._resources: list[Any] = [gl.texture(self.maps.colour), gl.texture(self.maps.relief)]
        self.colour_texture, self.relief_texture = self._resources
        self._make_skin_buffers()
        self._occlusion = np.ones(len(skin))
        self._occlusion = self._bake_occlusion(skin, normals, shared.inside_mouth)
        self._make_eyes_and_mouth()
        self._brows = BrowStrands(who.brow, head, normals, rng)
        self._lashes = Lashes(who.lash_length, who.lashes, rng)
        hair = grow_hair(who.hair, head, skin, normals, shared.free, rng)
        self.hair: dict[str, Any] | None = None if hair is None else self._strand_arrays(hair)
        self._make_detail()
        self.props = PropRig(gl, head, skin, who)

    # ---- buffers

    def _array(self, program: str, content: list[tuple[Any, ...]], index: Any) -> Any:
        array = self._gl.context.vertex_array(self._gl.programs[program], content, index, skip_errors=True)
        self._resources.append(array)
        return array

    def _buffer(self, data: bytes | None = None, reserve: int = 0) -> Any:
        context = self._gl.context
        buffer = context.buffer(data) if data is not None else context.buffer(reserve=reserve, dynamic=True)
        self._resources.append(buffer)
        return buffer

    def _make_skin_buffers(self) -> None:
        skin = self._head.skin
        n = len(skin.corner_vertex)
        self._skin_data = np.empty((n, 12), np.float32)
        self._skin_data[:, 6:8] = skin.corner_uv
        self._skin_data[:, 8:11] = self._head.fine_average[skin.corner_vertex]
        self._skin_buffer = self._buffer(reserve=self._skin_data.nbytes)
        index = self._buffer(skin.corner_triangles.tobytes())
        layout: list[tuple[Any, ...]] = [
            (self._skin_buffer, "3f 3f 2f 3f 1f", "position", "normal", "uv", "rest", "occlusion")
        ]
        self.skin = {name: self._array(name, layout, index) for name in ("skin", "skin_depth")}

    def _make_eyes_and_mouth(self) -> None:
        self._eye_mesh = eye_mesh()
        index = self._buffer(self._eye_mesh.triangles.astype(np.uint32).tobytes())
        self._eye_buffers, self.eyes = [], []
        for _ in range(2):
            buffer = self._buffer(reserve=len(self._eye_mesh.positions) * 48)
            layout: list[tuple[Any, ...]] = [(buffer, "3f 3f 3f 3f", "position", "normal", "direction", "turned")]
            self._eye_buffers.append(buffer)
            self.eyes.append(self._array("eye", layout, index))
        balls = [self._neutral[self._head.index[f"{side}_eye"]] for side in ("left", "right")]
        self._eye_centres = [(b.min(0) + b.max(0)) / 2 for b in balls]
        self._eye_radii = [float(np.ptp(b[:, 1])) / 2 for b in balls]
        self._mouth = Mouth(self._head, self._neutral)
        self._mouth_buffer = self._buffer(reserve=len(self._mouth.colour) * 40)
        index = self._buffer(self._mouth.triangles.astype(np.uint32).tobytes())
        mouth_layout: list[tuple[Any, ...]] = [(self._mouth_buffer, "3f 3f 4f", "position", "normal", "colour")]
        self.mouth = self._array("mouth", mouth_layout, index)

    def _strand_arrays(self, strands: Ribbons) -> dict[str, Any]:
        buffer = self._buffer(strands.vertices.tobytes())
        index = self._buffer(strands.indices.tobytes())
        names = ("strand", "strand_depth")
        return {name: self._array(name, [(buffer, *_STRAND_FORMAT)], index) for name in names}

    def _make_detail(self) -> None:
        """Brows and lashes share one buffer that is rewritten in every state."""
        brows, lashes = len(self._brows.random), self._lashes.count
        count = brows + lashes
        self._detail_along = np.linspace(0, 1, _DETAIL_POINTS)
        width = np.r_[self._brows.width, np.full(lashes, 0.0038)][:, None] * (1 - 0.7 * self._detail_along**2)
        self._detail_width = width
        self._detail_random = np.r_[self._brows.random, np.full(lashes, 0.4)]
        self._detail_colour = np.concatenate([self._brows.colour, np.tile([0.012, 0.009, 0.008], (lashes, 1))])
        blank = self._detail(np.zeros((count, _DETAIL_POINTS, 3)))
        self._detail_buffer = self._buffer(reserve=blank.vertices.nbytes)
        index = self._buffer(blank.indices.tobytes())
        self.detail = self._array("strand", [(self._detail_buffer, *_STRAND_FORMAT)], index)

    def _detail(self, points: Points) -> Ribbons:
        n, k = points.shape[:2]
        return ribbons(
            points, self._detail_width, np.full((n, k), 0.6), self._detail_random, self._detail_colour, np.zeros((n, k))
        )

    # ---- ambient occlusion, baked once

    def _bake_occlusion(self, skin: Points, normals: Points, inside_mouth: NDArray[np.bool_]) -> Points:
        """(m,) 0..1: share of the sky that each vertex sees, from depth maps of directions on a Fibonacci sphere."""
        gl = self._gl
        self._upload_skin(skin, normals)
        seen, total = np.zeros(len(skin)), np.zeros(len(skin))
        centre = np.array([0, 7.0, 0.3])
        directions = 64
        gl.context.enable_only(gl.moderngl.DEPTH_TEST)
        for k in range(directions):
            y = 1 - 2 * (k + 0.5) / directions
            angle = np.pi * (3 - 5**0.5) * k
            direction = np.array([np.cos(angle) * np.sqrt(1 - y * y), y, np.sin(angle) * np.sqrt(1 - y * y)])
            if direction[2] < -0.75:
                continue
            matrix = orthographic(direction, centre, 2.6)
            gl.shadow_target.use()
            gl.shadow_target.clear(depth=1.0)
            gl.set("skin_depth", {"view_projection": matrix})
            self.skin["skin_depth"].render()
            depth = np.frombuffer(gl.shadow_texture.read(), np.float32).reshape(SHADOW_SIDE, SHADOW_SIDE)
            q = np.c_[skin + normals * 0.012, np.ones(len(skin))] @ matrix.T
            at = ((q[:, :2] * 0.5 + 0.5) * SHADOW_SIDE).astype(int).clip(0, SHADOW_SIDE - 1)
            weight = np.maximum(normals @ direction, 0) * max(0.6 + 0.4 * y, 0)
            seen += weight * (q[:, 2] * 0.5 + 0.5 - 0.0015 <= depth[at[:, 1], at[:, 0]])
            total += weight
        open_sky = np.clip(np.where(total > 1e-6, seen / np.maximum(total, 1e-6), 0.5), 0.03, 1)
        triangles = self._head.skin.triangles
        links = sp.coo_matrix(
            (np.ones(triangles.size), (triangles.ravel(), np.roll(triangles, 1, 1).ravel())), (len(skin), len(skin))
        ).tocsr()
        links = links + links.T
        degree = np.maximum(np.asarray(links.sum(1)).ravel(), 1)
        for _ in range(2):
            open_sky = 0.5 * open_sky + 0.5 * (links @ open_sky) / degree
        return np.asarray(np.where(inside_mouth, open_sky * 0.25, open_sky))

    def _upload_skin(self, skin: Points, normals: Points) -> None:
        pick = self._head.skin.corner_vertex
        self._skin_data[:, 0:3] = skin[pick]
        self._skin_data[:, 3:6] = normals[pick]
        self._skin_data[:, 11] = self._occlusion[pick]
        self._skin_buffer.write(self._skin_data.tobytes())

    # ---- per state

    def pose(self, state: State) -> Posed:
        """Move everything into a state and upload it."""
        head = self._head
        vertices = head.express(self._neutral, state.expression)
        rotation = state.rotation()
        vector, shift = rotation.as_rotvec(), np.asarray(state.shift)
        skin = turn_head(head.skin.subdivide @ vertices[head.skin.ids], head.fine_head_weight, vector, shift)
        normals = vertex_normals(skin, head.skin.triangles)
        self._upload_skin(skin, normals)
        matrix = rotation.as_matrix()
        self._pose_eyes(state, matrix, shift)
        mouth = (self._mouth.positions(vertices) - HEAD_PIVOT) @ matrix.T + HEAD_PIVOT + shift
        mouth_normals = vertex_normals(mouth, self._mouth.triangles)
        self._mouth_buffer.write(
            np.concatenate([mouth, mouth_normals, self._mouth.colour], 1).astype(np.float32).tobytes()
        )
        lids = self._pose_detail(skin, normals, matrix, shift)
        jaw = float(np.clip(state.expression.get("jawOpen", 0.0) * 2, 0, 1))
        return Posed(skin, normals, matrix, vector, shift, jaw, lids)

    def _pose_eyes(self, state: State, head_rotation: Points, shift: Points) -> None:
        mesh, look = self._eye_mesh, gaze_rotation(state.gaze)
        for centre, radius, buffer in zip(self._eye_centres, self._eye_radii, self._eye_buffers, strict=True):
            ball = centre + radius * 0.985 * (mesh.positions @ look.T)
            data = np.empty((len(ball), 12), np.float32)
            data[:, 0:3] = (ball - HEAD_PIVOT) @ head_rotation.T + HEAD_PIVOT + shift
            data[:, 3:6] = mesh.normals @ look.T @ head_rotation.T
            data[:, 6:9] = mesh.directions
            data[:, 9:12] = mesh.directions @ look.T
            buffer.write(data.tobytes())

    def _pose_detail(
        self, skin: Points, normals: Points, rotation: Points, shift: Points
    ) -> tuple[tuple[float, float], tuple[float, float]]:
        index, along = self._head.fine_index, self._detail_along
        parts, lids = [self._brows.strands(skin, normals, rotation, along)], []
        for eye, side in enumerate(("left", "right")):
            centre = (self._eye_centres[eye] - HEAD_PIVOT) @ rotation.T + HEAD_PIVOT + shift
            upper, lower = skin[index[f"{side}_upper_lid"]], skin[index[f"{side}_lower_lid"]]
            parts.append(self._lashes.strands(eye, centre, upper, lower, rotation, along))
            heights = [((lid - centre) @ rotation)[:, 1] / self._eye_radii[eye] for lid in (lower[1:5], upper[2:6])]
            lids.append((float(heights[0].mean()), float(heights[1].mean())))
        self._detail_buffer.write(self._detail(np.concatenate(parts)).vertices.tobytes())
        return lids[0], lids[1]

    def brow_landmarks(self, posed: Posed) -> Points:
        """(10, 3) iBUG points 17..26 in world decimetres."""
        return self._brows.landmarks(posed.skin)

    def close(self) -> None:
        """Free buffers and textures."""
        self.props.close()
        for thing in self._resources:
            thing.release()
        self._resources.clear()
