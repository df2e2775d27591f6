"""Draw an invented person in a state: pixels, and the exact truth beside them.

    with Renderer() as renderer:
        shot = renderer.render(random_identity(7), random_state(1))
        shot.pixels, shot.mask, shot.landmarks

Who renders many people and states takes care of the actors: ``Renderer.actor`` and ``Renderer.shoot``.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.people.actor import Actor, Posed
from calibration.people.anime import Style, ink
from calibration.people.camera.lighting import Light
from calibration.people.camera.picture import Layers, develop
from calibration.people.camera.pinhole import Camera, Matrix, crop_clip, orthographic
from calibration.people.camera.room import background
from calibration.people.camera.sensor import Sensor
from calibration.people.classes import CLASSES, FACE_CLASSES
from calibration.people.gl import GL, Targets
from calibration.people.head.correspond import mesh_points
from calibration.people.head.shape import HEAD_PIVOT, head_model
from calibration.people.head.unwrap import SharedMaps, shared_maps
from calibration.people.identity import Identity
from calibration.people.state import State
from engines import geometry

FACE_TOP_DM = 7.80
"""The swapped area ends here on the forehead of the average head: above every brow, below every hairline."""
_BUMP = 0.065
INNER_ALBEDO = (0.22, 0.055, 0.05)
"""Of the mouth's lining."""
_RECENT = 2
"""People that ``render`` keeps built."""


@dataclass(frozen=True)
class Shot:
    """One rendered picture with its truth."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) BGR."""
    classes: NDArray[np.uint8]
    """(H, W) values of CLASSES, 0 background."""
    mask: NDArray[np.uint8]
    """(H, W) 0..255: the visible face inside the swapped area, edges anti-aliased."""
    landmarks: NDArray[np.float32]
    """(68, 2) iBUG points in pixels of this picture, centres at integers."""
    landmarks_3d: NDArray[np.float32]
    """(68, 3) in world decimetres."""
    landmarks_visible: NDArray[np.bool_]
    """(68,) in the picture and not hidden behind the head, hair or a prop."""
    mesh: NDArray[np.float32]
    """(468, 2) MediaPipe's face mesh points in pixels of this picture, as ``correspond`` places them."""
    mesh_visible: NDArray[np.bool_]
    """(468,) as ``landmarks_visible``."""
    frame_to_picture: NDArray[np.float64]
    """(2, 3) affine from the camera's frame to this picture; the identity for whole frames."""


class Renderer:
    """The studio: one OpenGL context and what all people share.

    Several may live in one thread: each makes its own context current before it draws.
    """

    def __init__(self) -> None:
        self._gl = GL()
        self._shared: SharedMaps = shared_maps(self._gl, head_model())
        self._recent: list[tuple[Identity, Style, Actor]] = []

    def __enter__(self) -> Renderer:  # noqa: PYI034 - Self needs Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def device(self) -> str:
        """What draws, in the driver's words: a graphics card, or llvmpipe for the processor."""
        return str(self._gl.context.info["GL_RENDERER"])

    def close(self) -> None:
        """Free the context."""
        while self._recent:
            self._recent.pop()[2].close()
        self._gl.close()

    def actor(self, who: Identity, style: Style = "photo") -> Actor:
        """Build a person (about 2 s). Close it when done."""
        self._gl.use()
        return Actor(self._gl, who, self._shared, style)

    def render(self, who: Identity, state: State, *, style: Style = "photo", **options: Any) -> Shot:
        """``who`` in ``state``; ``options`` as in ``shoot``. The two people last seen stay built."""
        found = [entry for entry in self._recent if entry[:2] == (who, style)]
        entry = found[0] if found else (who, style, self.actor(who, style))
        self._recent = [entry, *(other for other in self._recent if other is not entry)]
        while len(self._recent) > _RECENT:
            self._recent.pop()[2].close()
        return self.shoot(entry[2], state, **options)

    def shoot(
        self,
        actor: Actor,
        state: State,
        camera: Camera | None = None,
        *,
        crop_size: int | None = None,
        margin: float = 1.0,
        supersample: float = 1.5,
        hair: bool = True,
        sensor: Sensor | None = None,
    ) -> Shot:
        """Render one state.

        Without ``crop_size`` the camera's whole picture; with it the aligned crop of that many pixels, ``margin`` times
        as wide as the family's crop, drawn directly. ``hair=False`` leaves the strands out, which is how a persona is
        trained: the wearer keeps their own hair. ``camera`` and ``sensor`` take the place of the state's own.
        """
        camera, sensor = camera or state.camera, sensor or state.sensor
        self._gl.use()
        posed = actor.pose(state)
        world = posed.skin[head_model().fine_index["landmarks"]].copy()
        world[17:27] = actor.brow_landmarks(posed)
        in_frame = camera.project(world)
        width, height = camera.width, camera.height
        matrix = camera.view_projection()
        affine = np.array([[1.0, 0, 0], [0, 1, 0]])
        scale = 1.0
        if crop_size is not None:
            affine = self._crop_affine(in_frame, crop_size, margin)
            matrix = crop_clip((width, height), affine, crop_size) @ matrix
            width = height = crop_size
            scale = float(np.hypot(affine[0, 0], affine[1, 0]))
        targets = self._gl.targets(round(width * supersample), round(height * supersample))
        layers, classes, depth = self._draw(actor, posed, state, camera, matrix, targets, hair=hair)
        if actor.style == "anime":
            layers = ink(layers, classes, depth, line_px=width * supersample / 190)
        px_per_dm = camera.focal_px / (camera.position[2] - 1.2) * scale * supersample
        room = background(state.room, camera.height, (width, height), affine)
        pixels = develop(layers, (width, height), room, px_per_dm, sensor, state.noise_seed, scale)
        in_face = np.isin(classes, FACE_CLASSES) * (1 - layers.glare) * 255
        landmarks = geometry.transform(affine, in_frame).astype(np.float32)
        mesh = mesh_points(posed.skin)
        return Shot(
            pixels=pixels,
            classes=np.asarray(cv2.resize(classes, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8),
            mask=np.asarray(cv2.resize(in_face.astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA)),
            landmarks=landmarks,
            landmarks_3d=world.astype(np.float32),
            landmarks_visible=_visible(world, matrix, depth),
            mesh=geometry.transform(affine, camera.project(mesh)).astype(np.float32),
            mesh_visible=_visible(mesh, matrix, depth),
            frame_to_picture=affine,
        )

    @staticmethod
    def _crop_affine(landmarks: Matrix, crop_size: int, margin: float) -> Matrix:
        """Frame -> crop with ``margin``: the family's crop stays centred in it."""
        inner = geometry.frame_to_crop(landmarks, "points68", crop_size)
        shrink = 1.0 / margin
        shift = (crop_size - 1) / 2 * (1 - shrink)
        return geometry.compose(np.array([[shrink, 0, shift], [0, shrink, shift]]), inner)

    def _uniforms(self, actor: Actor, posed: Posed, light: Light, camera: Camera, matrix: Matrix) -> dict[str, Any]:
        key = np.asarray(light.key_direction) / np.linalg.norm(light.key_direction)
        fill = np.asarray(light.fill_direction) / np.linalg.norm(light.fill_direction)
        rim = np.asarray(light.rim_direction) / np.linalg.norm(light.rim_direction)
        return {
            "view_projection": matrix, "camera": camera.position, "key_direction": key, "key_colour": light.key,
            "sky_colour": light.sky, "ground_colour": light.ground, "fill_direction": fill, "fill_colour": light.fill,
            "rim_direction": rim, "rim_colour": light.rim, "skin_colour": 0, "skin_relief": 1, "shadow_map": 2,
            "shadow_matrix": orthographic(key, np.array([0, 7.1, 0.4]) + posed.shift, 2.3),
            "mean_skin": actor.maps.mean_albedo, "skin_folds": 5,
            "eye_x": posed.eye_axes[:, 0], "eye_y": posed.eye_axes[:, 1], "eye_z": posed.eye_axes[:, 2],
            "inner_colour": INNER_ALBEDO, "wrinkles": posed.wrinkles,
            "bump": _BUMP, "face_top": FACE_TOP_DM,
            "head_rotation": posed.rotation_vector, "head_pivot": HEAD_PIVOT, "head_shift": posed.shift,
            "head_centre": posed.rotation @ (np.array([0, 7.35, 0.25]) - HEAD_PIVOT) + HEAD_PIVOT + posed.shift,
            "iris_outer": actor.who.iris[0], "iris_inner": actor.who.iris[1], "pupil": 0.36, "open": posed.jaw_open,
        }  # fmt: skip

    def _draw(
        self, actor: Actor, posed: Posed, state: State, camera: Camera, matrix: Matrix, targets: Targets, *, hair: bool
    ) -> tuple[Layers, NDArray[np.uint8], NDArray[np.float32]]:
        gl = self._gl
        common = self._uniforms(actor, posed, state.light, camera, matrix)
        common["hair_clip"], common["sample_height"] = actor.props.hair_clip(state.props), 2 / targets.height
        gl.context.enable_only(gl.moderngl.DEPTH_TEST)
        self._draw_shadow(actor, posed, state, common, hair=hair)
        for unit, texture in ((0, actor.maps.colour), (1, actor.maps.relief), (5, actor.maps.folds)):
            texture.use(unit)
        gl.shadow_texture.use(2)
        targets.layers.use()
        targets.layers.clear(0, 0, 0, 0, depth=1.0)
        if hair:  # first, so that no skin is shaded that hair covers
            actor.hair.draw(common | {"surface_class": CLASSES["hair"]}, state.props.loose_hair)
        actor.hair.draw_beard(common | {"surface_class": CLASSES["beard"]})
        gl.context.enable(gl.moderngl.CULL_FACE)
        for part in ("skin", "skin_cloth"):
            gl.set(actor.program(part), common | actor.who.wardrobe.uniforms())
            actor.skin[part].render()
        gl.context.disable(gl.moderngl.CULL_FACE)
        for eye, lids, nasal in zip(actor.eyes, posed.lids, (-1.0, 1.0), strict=True):
            gl.set(actor.program("eye"), common | {"lids": lids, "nasal": nasal, "surface_class": CLASSES["eyes"]})
            eye.render()
        gl.set(actor.program("mouth"), common | {"surface_class": CLASSES["mouth"]})
        actor.mouth.render()
        gl.set(actor.program("strand"), common | {"shine": 0.15, "root_light": 0.9, "surface_class": CLASSES["face"]})
        actor.detail.render()
        actor.props.draw(state.props, posed, common)
        gl.context.enable(gl.moderngl.BLEND)
        gl.context.blend_func = gl.moderngl.ONE, gl.moderngl.ONE
        targets.layers.depth_mask = False
        actor.props.draw_lenses(state.props, posed, common)
        targets.layers.depth_mask = True
        gl.context.disable(gl.moderngl.BLEND)
        return _read(targets)

    def _draw_shadow(self, actor: Actor, posed: Posed, state: State, common: dict[str, Any], *, hair: bool) -> None:
        gl = self._gl
        gl.shadow_target.use()
        gl.shadow_target.clear(depth=1.0)
        from_light = common | {
            "view_projection": common["shadow_matrix"],
            "camera": np.array([0, 7.1, 0.4]) + np.asarray(common["key_direction"]) * 20,
        }
        gl.set("skin_depth", from_light)
        gl.context.enable(gl.moderngl.CULL_FACE)
        actor.skin["skin_depth"].render()
        gl.context.disable(gl.moderngl.CULL_FACE)
        if hair:
            actor.hair.draw_shadow(from_light, state.props.loose_hair)
        actor.props.draw_shadow(state.props, posed, from_light)


def _read(targets: Targets) -> tuple[Layers, NDArray[np.uint8], NDArray[np.float32]]:
    """Layers, classes (H, W) and depth (H, W) 0..1, top row first."""
    shape = (targets.height, targets.width, 4)
    albedo, irradiance, gloss = (
        _finite(np.frombuffer(t.read(), np.float16).reshape(shape)[::-1].astype(np.float32)) for t in targets.textures
    )
    classes = np.ascontiguousarray(gloss[..., 3].round().astype(np.uint8))
    # What lenses reflect was added on top of full coverage.
    glare = np.clip(albedo[..., 3] - 1, 0, 1)
    albedo[..., 3] = np.minimum(albedo[..., 3], 1)
    depth = np.frombuffer(targets.depth.read(), np.float32).reshape(shape[:2])[::-1]
    return Layers(albedo, irradiance, gloss, glare), classes, depth


def _finite(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Highlights can overflow half precision; the sum tells, which is cheaper than looking at every value."""
    if not np.isfinite(values.sum()):
        np.nan_to_num(values, copy=False, nan=0, posinf=8, neginf=0)
    return values


def _visible(points: Matrix, matrix: Matrix, depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(n,) whether nothing drawn lies more than a little before each of (n, 3) world points, and it is in the picture.

    A little is 0.06 dm: brows and lashes do not hide the skin that they grow on.
    """
    height, width = depth.shape
    clip = np.c_[points, np.ones(len(points))] @ matrix.T
    nearer = clip + matrix[:, 2] * 0.06
    x = np.floor((clip[:, 0] / clip[:, 3] + 1) / 2 * width).astype(int)
    y = np.floor((1 - clip[:, 1] / clip[:, 3]) / 2 * height).astype(int)
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    z = nearer[:, 2] / nearer[:, 3] * 0.5 + 0.5
    return np.asarray(inside & (z <= depth[y.clip(0, height - 1), x.clip(0, width - 1)] + 1e-6))
