"""One invented person, ready to be drawn: vertex buffers, textures, and the posing of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.people.anime import Style, redraw, redrawn, shrunk
from calibration.people.face.brows import BrowStrands, lid_lines
from calibration.people.face.detail import Detail, HairDetail, InkDetail
from calibration.people.face.features import Mouth, eye_mesh, gaze_rotation, narrow_mouth, resting_pitch
from calibration.people.face.skin import SkinMaps, paint
from calibration.people.gl import GL
from calibration.people.hair.rig import HairRig
from calibration.people.head.mesh import Points, vertex_normals
from calibration.people.head.occlusion import bake
from calibration.people.head.shape import HEAD_PIVOT, head_model, turn_head
from calibration.people.head.unwrap import SharedMaps, placed
from calibration.people.identity import Identity
from calibration.people.props.rig import PropRig
from calibration.people.state import State

_NEAR_CLOTH_DM = 0.13
"""Skin this near to the neckline is drawn with the clothes, which shade it."""
_OPEN_MOUTH_DM = 0.16
"""Lips this far apart let light reach the teeth freely."""
_STRAND_FORMAT = ("3f 3f 4f 3f", "position", "tangent", "shape", "colour")


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
    """0..1: how far the lips are apart."""
    lids: tuple[tuple[float, float], tuple[float, float]]
    """Per eye: height of the lower and the upper lid, in eyeball radii above its centre."""
    eye_axes: Points
    """(3, 3): columns are the eyes' left, up and forward in the world."""
    wrinkles: tuple[float, float]
    """0..1: how much a smile and raised brows fold the skin."""


def _wrinkles(state: State) -> tuple[float, float]:
    weight = state.expression.get
    smile = weight("mouthSmileLeft", 0.0) + weight("mouthSmileRight", 0.0)
    squint = weight("cheekSquintLeft", 0.0) + weight("cheekSquintRight", 0.0)
    brows = weight("browOuterUpLeft", 0.0) + weight("browOuterUpRight", 0.0) + weight("browInnerUp", 0.0)
    return min(1.0, 0.35 * smile + 0.25 * squint), min(1.0, 0.4 * brows)


class Actor:
    """The GPU side of one identity. ``close`` frees it."""

    def __init__(self, gl: GL, who: Identity, shared: SharedMaps, style: Style = "photo") -> None:
        self.who, self._gl, self.style = redrawn(who) if style == "anime" else who, gl, style
        who = self.who
        self._head = head = head_model()
        rng = np.random.default_rng([who.seed, 7])
        self._neutral = head.identity_vertices(who.shape_weights())
        self._unit_scale: NDArray[np.float64] | None = None
        if style == "anime":
            drawing = redraw(head, self._neutral)
            self._neutral, self._unit_scale = drawing.neutral, drawing.scale
        skin = head.skin.subdivide @ self._neutral[head.skin.ids]
        normals = vertex_normals(skin, head.skin.triangles)
        self._layer = normals * who.wardrobe.thickness(head.fine_average)[:, None]
        self._layer += narrow_mouth(skin, head.fine_average, shared.inside_mouth)
        self._brows = BrowStrands(who.brow, head, rng)
        lines = lid_lines(head, who.skin.make_up, dark=min(1.0, who.lashes / 60))
        self.maps: SkinMaps = paint(gl, who, shared, lines + self._brows.strokes)
        self._resources: list[Any] = [self.maps]
        self._make_skin_buffers(shared)
        self._occlusion = np.ones(len(skin))
        self._upload_skin(skin + self._layer, normals)
        self._occlusion = bake(gl, self.skin["skin_depth"], skin + self._layer, normals, shared.inside_mouth)
        self._make_eyes_and_mouth()
        self.hair = HairRig(gl, head, skin + self._layer, normals, shared.free, who, cel=style == "anime")
        self._make_detail(rng)
        self.props = PropRig(gl, head, skin, who, np.array(self._eye_centres), self.hair.marks)

    def program(self, name: str) -> str:
        """The shader program that draws ``name`` in this actor's style."""
        drawn = f"{name}_cel"
        return drawn if self.style == "anime" and drawn in self._gl.programs else name

    # ---- buffers

    def _array(self, program: str, content: list[tuple[Any, ...]], index: Any) -> Any:
        shader = self._gl.programs[self.program(program)]
        array = self._gl.context.vertex_array(shader, content, index, skip_errors=True)
        self._resources.append(array)
        return array

    def _buffer(self, data: bytes | None = None, reserve: int = 0) -> Any:
        context = self._gl.context
        buffer = context.buffer(data) if data is not None else context.buffer(reserve=reserve, dynamic=True)
        self._resources.append(buffer)
        return buffer

    def _make_skin_buffers(self, shared: SharedMaps) -> None:
        skin, average = self._head.skin, self._head.fine_average
        n = len(skin.corner_vertex)
        self._skin_data = np.empty((n, 13), np.float32)
        self._skin_data[:, 6:8] = placed(self._head, skin.corner_uv)
        self._skin_data[:, 8:11] = average[skin.corner_vertex]
        self._skin_data[:, 12] = shared.thin[skin.corner_vertex]
        self._skin_buffer = self._buffer(reserve=self._skin_data.nbytes)
        layout: list[tuple[Any, ...]] = [
            (self._skin_buffer, "3f 3f 2f 3f 2f", "position", "normal", "uv", "rest", "occlusion")
        ]
        # The body has a shader of its own, because software rendering runs both sides of every branch.
        near_cloth = self.who.wardrobe.below_neckline(average)[skin.corner_vertex] > -_NEAR_CLOTH_DM
        body = near_cloth[skin.corner_triangles].any(1)
        parts = {
            "skin": skin.corner_triangles[~body],
            "skin_cloth": skin.corner_triangles[body],
            "skin_depth": skin.corner_triangles,
        }
        self.skin = {name: self._array(name, layout, self._buffer(t.tobytes())) for name, t in parts.items()}

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
        # Drawn eyes are taller than wide.
        tall = self.style == "anime"
        self._eye_radii = [np.ptp(b, axis=0) / 2 if tall else np.full(3, np.ptp(b[:, 1]) / 2) for b in balls]
        fine = self._head.skin.subdivide @ self._neutral[self._head.skin.ids]
        rows = self._head.fine_index
        pitches = [
            resting_pitch(centre, radius[1], fine[rows[f"{side}_upper_lid"]], fine[rows[f"{side}_lower_lid"]])
            for side, centre, radius in zip(("left", "right"), self._eye_centres, self._eye_radii, strict=True)
        ]
        self._resting_pitch = float(np.mean(pitches))
        self._mouth = Mouth(self._head, self._neutral)
        self._mouth_buffer = self._buffer(reserve=len(self._mouth.colour) * 40)
        index = self._buffer(self._mouth.triangles.astype(np.uint32).tobytes())
        mouth_layout: list[tuple[Any, ...]] = [(self._mouth_buffer, "3f 3f 4f", "position", "normal", "colour")]
        self.mouth = self._array("mouth", mouth_layout, index)

    def _make_detail(self, rng: np.random.Generator) -> None:
        """One buffer that is rewritten in every state."""
        if self.style == "anime":
            self._detail: Detail = InkDetail(self.who, self._head)
        else:
            self._detail = HairDetail(self.who, self._head, self._brows, rng)
        blank = self._detail.ribbons(np.zeros((self._detail.count, len(self._detail.along), 3)))
        self._detail_buffer = self._buffer(reserve=blank.vertices.nbytes)
        index = self._buffer(blank.indices.tobytes())
        self.detail = self._array("strand", [(self._detail_buffer, *_STRAND_FORMAT)], index)

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
        vertices = head.express(self._neutral, state.expression, self._unit_scale)
        rotation = state.rotation()
        vector, shift = rotation.as_rotvec(), np.asarray(state.shift)
        skin = head.skin.subdivide @ vertices[head.skin.ids] + self._layer
        skin = turn_head(skin, head.fine_head_weight, vector, shift)
        normals = vertex_normals(skin, head.skin.triangles)
        self._upload_skin(skin, normals)
        matrix = rotation.as_matrix()
        eye_axes = self._pose_eyes(state, matrix, shift)
        inside = self._mouth.positions(vertices)
        if self.style == "anime":
            lips = vertices[head.index["landmarks"][48:]].mean(0)
            inside = shrunk(inside, lips)
        mouth = (inside - HEAD_PIVOT) @ matrix.T + HEAD_PIVOT + shift
        mouth_normals = vertex_normals(mouth, self._mouth.triangles)
        self._mouth_buffer.write(
            np.concatenate([mouth, mouth_normals, self._mouth.colour], 1).astype(np.float32).tobytes()
        )
        self.hair.pose(skin, normals)
        lids = self._pose_detail(skin, normals, matrix, shift)
        inner_lips = skin[head.fine_index["landmarks"][[62, 66]]]
        jaw = float(np.clip(np.linalg.norm(inner_lips[0] - inner_lips[1]) / _OPEN_MOUTH_DM, 0, 1))
        return Posed(skin, normals, matrix, vector, shift, jaw, lids, eye_axes, _wrinkles(state))

    def _pose_eyes(self, state: State, head_rotation: Points, shift: Points) -> Points:
        mesh, look = self._eye_mesh, gaze_rotation((state.gaze[0], state.gaze[1] + self._resting_pitch))
        for centre, radius, buffer in zip(self._eye_centres, self._eye_radii, self._eye_buffers, strict=True):
            ball = centre + radius * 0.985 * (mesh.positions @ look.T)
            data = np.empty((len(ball), 12), np.float32)
            data[:, 0:3] = (ball - HEAD_PIVOT) @ head_rotation.T + HEAD_PIVOT + shift
            data[:, 3:6] = mesh.normals @ look.T @ head_rotation.T
            data[:, 6:9] = mesh.directions
            data[:, 9:12] = mesh.directions @ look.T
            buffer.write(data.tobytes())
        return np.asarray(head_rotation @ look)

    def _pose_detail(
        self, skin: Points, normals: Points, rotation: Points, shift: Points
    ) -> tuple[tuple[float, float], tuple[float, float]]:
        index = self._head.fine_index
        eyes = [(centre - HEAD_PIVOT) @ rotation.T + HEAD_PIVOT + shift for centre in self._eye_centres]
        points = self._detail.points(skin, normals, rotation, eyes)
        self._detail_buffer.write(self._detail.ribbons(points).vertices.tobytes())
        lids = []
        for side, centre, radii in zip(("left", "right"), eyes, self._eye_radii, strict=True):
            upper, lower = skin[index[f"{side}_upper_lid"]], skin[index[f"{side}_lower_lid"]]
            heights = [((lid - centre) @ rotation)[:, 1] / radii[1] for lid in (lower[1:5], upper[2:6])]
            lids.append((float(heights[0].mean()), float(heights[1].mean())))
        return lids[0], lids[1]

    def brow_landmarks(self, posed: Posed) -> Points:
        """(10, 3) iBUG points 17..26 in world decimetres."""
        return self._brows.landmarks(posed.skin)

    def close(self) -> None:
        """Free buffers and textures."""
        self._gl.use()
        self.props.close()
        self.hair.close()
        for thing in self._resources:
            thing.release()
        self._resources.clear()
