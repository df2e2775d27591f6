"""Draw an invented person in a state: pixels, and the exact truth beside them.

with Renderer() as renderer:
actor = renderer.actor(random_identity(7))
shot = renderer.shoot(actor, random_state(1), Camera())
shot.pixels, shot.mask, shot.landmarks
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.people.actor import Actor, Posed, SharedMaps, shared_maps
from calibration.people.camera import Camera, Matrix, crop_clip, orthographic
from calibration.people.gl import GL, Targets
from calibration.people.identity import Identity
from calibration.people.picture import Layers, Sensor, background, develop
from calibration.people.shape import HEAD_PIVOT, head_model
from calibration.people.state import Light, State
from engines import geometry

FACE_TOP_DM = 7.80
"""The swapped area ends here on the forehead of the average head: above every brow, below every hairline."""
CLASSES = {
    "face": 1, "skin": 2, "eyes": 3, "mouth": 4, "hair": 5, "beard": 6, "cloth": 7, "glasses": 8, "headphones": 9,
    "microphone": 10, "hand": 11, "cap": 12,
}  # fmt: skip
FACE_CLASSES = tuple(CLASSES[name] for name in ("face", "eyes", "mouth", "beard"))
"""What a swap replaces."""
_BUMP = 0.10


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
    frame_to_picture: NDArray[np.float64]
    """(2, 3) affine from the camera's frame to this picture; the identity for whole frames."""


class Renderer:
    """The studio: one OpenGL context and what all people share."""

    def __init__(self) -> None:
        self._gl = GL()
        self._shared: SharedMaps = shared_maps(self._gl, head_model())

    def __enter__(self) -> Renderer:  # noqa: PYI034 - Self needs Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the context."""
        self._gl.close()

    def actor(self, who: Identity) -> Actor:
        """Build a person (about 2 s). Close it when done."""
        return Actor(self._gl, who, self._shared)

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
        px_per_dm = camera.focal_px / (camera.position[2] - 1.2) * scale * supersample
        room = background(state.background, (width, height), affine)
        pixels = develop(layers, (width, height), room, px_per_dm, sensor, state.noise_seed)
        in_face = np.isin(classes, FACE_CLASSES) * (1 - layers.glare) * 255
        landmarks = geometry.transform(affine, in_frame).astype(np.float32)
        return Shot(
            pixels=pixels,
            classes=np.asarray(cv2.resize(classes, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8),
            mask=np.asarray(cv2.resize(in_face.astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA)),
            landmarks=landmarks,
            landmarks_3d=world.astype(np.float32),
            landmarks_visible=_visible(world, matrix, depth),
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
            "mean_skin": actor.maps.mean_albedo, "cloth": actor.who.cloth, "neckline": actor.who.neckline,
            "uv_window": head_model().uv_window, "bump": _BUMP, "face_top": FACE_TOP_DM,
            "head_rotation": posed.rotation_vector, "head_pivot": HEAD_PIVOT, "head_shift": posed.shift,
            "head_centre": posed.rotation @ (np.array([0, 7.35, 0.25]) - HEAD_PIVOT) + HEAD_PIVOT + posed.shift,
            "iris_outer": actor.who.iris[0], "iris_inner": actor.who.iris[1], "pupil": 0.36, "open": posed.jaw_open,
        }  # fmt: skip

    def _draw(
        self, actor: Actor, posed: Posed, state: State, camera: Camera, matrix: Matrix, targets: Targets, *, hair: bool
    ) -> tuple[Layers, NDArray[np.uint8], NDArray[np.float32]]:
        gl = self._gl
        strands = actor.hair if hair else None
        common = self._uniforms(actor, posed, state.light, camera, matrix)
        common["hair_clip"] = actor.props.hair_clip(state.props)
        gl.context.enable_only(gl.moderngl.DEPTH_TEST)
        self._draw_shadow(actor, posed, state, common, strands)
        actor.colour_texture.use(0)
        actor.relief_texture.use(1)
        gl.shadow_texture.use(2)
        targets.layers.use()
        targets.layers.clear(0, 0, 0, 0, depth=1.0)
        if strands:  # depth first, so that the expensive strand shader runs once per pixel
            targets.layers.color_mask = ((False,) * 4,) * 3
            gl.set("strand_depth", common)
            strands["strand_depth"].render()
            targets.layers.color_mask = ((True,) * 4,) * 3
        gl.set("skin", common)
        actor.skin["skin"].render()
        for eye, lids in zip(actor.eyes, posed.lids, strict=True):
            gl.set("eye", common | {"lids": lids, "surface_class": CLASSES["eyes"]})
            eye.render()
        gl.set("mouth", common | {"surface_class": CLASSES["mouth"]})
        actor.mouth.render()
        # Brows and lashes are posed on the CPU already.
        still = {"head_rotation": (0, 0, 0), "head_shift": (0, 0, 0), "hair_clip": (0, 0, 0, 1)}
        gl.set("strand", common | still | {"shine": 0.15, "root_light": 0.9, "surface_class": CLASSES["face"]})
        actor.detail.render()
        actor.props.draw(state.props, posed, common)
        if strands:
            gl.set("strand", common | {"shine": actor.who.hair.shine, "root_light": 0.35,
                                       "surface_class": CLASSES["hair"]})  # fmt: skip
            gl.context.depth_func = "<="
            strands["strand"].render()
            gl.context.depth_func = "<"
        gl.context.enable(gl.moderngl.BLEND)
        gl.context.blend_func = gl.moderngl.ONE, gl.moderngl.ONE
        targets.layers.depth_mask = False
        actor.props.draw_lenses(state.props, posed, common)
        targets.layers.depth_mask = True
        gl.context.disable(gl.moderngl.BLEND)
        return _read(targets)

    def _draw_shadow(
        self, actor: Actor, posed: Posed, state: State, common: dict[str, Any], strands: dict[str, Any] | None
    ) -> None:
        gl = self._gl
        gl.shadow_target.use()
        gl.shadow_target.clear(depth=1.0)
        from_light = common | {
            "view_projection": common["shadow_matrix"],
            "camera": np.array([0, 7.1, 0.4]) + np.asarray(common["key_direction"]) * 20,
        }
        gl.set("skin_depth", from_light)
        actor.skin["skin_depth"].render()
        if strands:
            gl.set("strand_depth", from_light)
            strands["strand_depth"].render()
        actor.props.draw_shadow(state.props, posed, from_light)


def _read(targets: Targets) -> tuple[Layers, NDArray[np.uint8], NDArray[np.float32]]:
    """Layers, classes (H, W) and depth (H, W) 0..1, top row first."""
    shape = (targets.height, targets.width, 4)
    albedo, irradiance, gloss = (
        np.nan_to_num(
            np.frombuffer(t.read(), np.float16).reshape(shape)[::-1].astype(np.float32), nan=0, posinf=8, neginf=0
        )
        for t in targets.textures
    )
    classes = np.ascontiguousarray(gloss[..., 3].round().astype(np.uint8))
    # What lenses reflect was added on top of full coverage.
    glare = np.clip(albedo[..., 3] - 1, 0, 1)
    albedo[..., 3] = np.minimum(albedo[..., 3], 1)
    depth = np.frombuffer(targets.depth.read(), np.float32).reshape(shape[:2])[::-1]
    return Layers(albedo, irradiance, gloss, glare), classes, depth


def _visible(points: Matrix, matrix: Matrix, depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(n,) whether nothing drawn lies more than a little before each of (n, 3) world points, and it is in the picture.

    A little is 0.06 dm: brows and lashes do not hide the skin that they grow on.
    """
    height, width = depth.shape
    clip = np.c_[points, np.ones(len(points))] @ matrix.T
    nearer = clip + matrix[:, 2] * 0.06
    x = ((clip[:, 0] / clip[:, 3] + 1) / 2 * width).astype(int)
    y = ((1 - clip[:, 1] / clip[:, 3]) / 2 * height).astype(int)
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    z = nearer[:, 2] / nearer[:, 3] * 0.5 + 0.5
    return np.asarray(inside & (z <= depth[y.clip(0, height - 1), x.clip(0, width - 1)] + 1e-6))
