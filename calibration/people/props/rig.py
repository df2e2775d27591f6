"""Props on one person: meshes fitted to the head when they are first worn, posed and drawn."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration.people.gl import GL
from calibration.people.head.mesh import Points
from calibration.people.head.shape import HEAD_PIVOT, HeadModel
from calibration.people.identity import Identity
from calibration.people.props.cap import CapMesh, build_cap
from calibration.people.props.fit import HeadFit
from calibration.people.props.glasses import GlassesMesh, build_glasses
from calibration.people.props.hand import HandMesh, build_hand, place_hand
from calibration.people.props.headset import build_headphones
from calibration.people.props.material import (
    Material,
    cap_materials,
    glasses_materials,
    hand_materials,
    headphones_materials,
    microphone_materials,
    packed,
)
from calibration.people.props.meshes import Mesh
from calibration.people.props.microphone import build_microphone, build_pop_fabric
from calibration.people.props.worn import Cap, Glasses, Hand, Microphone, Props, Source

if TYPE_CHECKING:
    from calibration.people.actor import Posed

_FORMAT = ("3f 3f 1f 1f 1f", "position", "normal", "slot", "shade", "detail")
_NO_SOURCE = np.zeros((4, 4))
_KEPT = 24
"""Meshes and drawables that stay built: states wear glasses of any size and sleeves of any length."""
_FACE_HEIGHT = 1.22
"""Chin to brows of the average head: hands grow with the face."""


@dataclass(frozen=True)
class _Item:
    """Something opaque to draw: where its mesh is kept, where it stands, what it is made of."""

    key: Hashable
    build: Callable[[], Mesh]
    model: Points
    materials: Sequence[Material]
    over_hair: float = 0.0
    """Decimetres by which hair may stand before it and still be hidden."""


@dataclass(frozen=True)
class _Pane:
    """Something to look through."""

    key: Hashable
    build: Callable[[], Mesh]
    model: Points
    uniforms: dict[str, Any]


@dataclass(frozen=True)
class _Drawable:
    """A mesh on the GPU."""

    arrays: dict[str, Any]
    """Vertex arrays by program."""
    buffers: tuple[Any, ...]

    def release(self) -> None:
        for thing in (*self.arrays.values(), *self.buffers):
            thing.release()


def head_matrix(rotation: Points, shift: Points) -> Points:
    """(4, 4) from the unposed head's space into the world."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = HEAD_PIVOT - rotation @ HEAD_PIVOT + shift
    return matrix


def _source_matrix(source: Source) -> Points:
    matrix = np.zeros((4, 4))
    matrix[:, 0] = *source.direction, source.half_size[0]
    matrix[:, 1] = *source.colour, source.half_size[1]
    matrix[0, 2] = float(source.bars)
    return matrix


class PropRig:
    """The GPU side of all props of one person. ``close`` frees it."""

    def __init__(
        self, gl: GL, head: HeadModel, skin: Points, who: Identity, eyes: Points, hair: Points | None = None
    ) -> None:
        """Nothing is built yet.

        ``skin`` (m, 3) is the neutral subdivided skin, ``eyes`` (2, 3) centres of the left and the right eyeball,
        ``hair`` (h, 3) points on the hair.
        """
        self._gl, self._cloth = gl, who.wardrobe.colour
        self._make_fit: Callable[[], HeadFit] = partial(HeadFit, head, skin, eyes, hair)
        self._fit: HeadFit | None = None
        self._landmark_rows = head.fine_index["landmarks"]
        # Hands are placed once per picture, for the shadow and for the layers.
        self._placed: tuple[Posed | None, tuple[Hand, ...], list[Points]] = (None, (), [])
        self._meshes: OrderedDict[Hashable, Any] = OrderedDict()
        self._drawables: OrderedDict[Hashable, _Drawable] = OrderedDict()

    @property
    def fit(self) -> HeadFit:
        """Measures of this head, taken when first needed."""
        if self._fit is None:
            self._fit = self._make_fit()
        return self._fit

    def draw_shadow(self, props: Props, posed: Posed, uniforms: dict[str, Any]) -> None:
        """Depth only, into the shadow map that is bound."""
        for item in self._items(props, posed, uniforms):
            self._gl.set("prop_depth", uniforms | {"model": item.model, "forward": 0.0})
            self._drawable(item.key, item.build)["prop_depth"].render()

    def draw(self, props: Props, posed: Posed, uniforms: dict[str, Any]) -> None:
        """Everything opaque, into the layers that are bound; its class goes into the gloss layer's alpha."""
        for item in self._items(props, posed, uniforms):
            palette, finish = packed(item.materials)
            self._gl.set(
                "prop",
                uniforms | {"model": item.model, "palette": palette, "finish": finish, "forward": item.over_hair},
            )
            self._drawable(item.key, item.build)["prop"].render()

    def draw_lenses(self, props: Props, posed: Posed, uniforms: dict[str, Any]) -> None:
        """Panes: what is behind them is multiplied by their tint, then what they reflect is added.

        Additive blending must be enabled, and is so afterwards.
        """
        moderngl, context = self._gl.moderngl, self._gl.context
        for pane in self._panes(props, posed):
            array = self._drawable(pane.key, pane.build)["lens"]
            self._gl.set("lens", uniforms | pane.uniforms | {"model": pane.model, "reflecting": 0.0, "forward": 0.0})
            context.blend_func = moderngl.ZERO, moderngl.SRC_COLOR
            array.render()
            self._gl.set("lens", {"reflecting": 1.0})
            context.blend_func = moderngl.ONE, moderngl.ONE
            array.render()

    def hair_clip(self, props: Props) -> tuple[float, float, float, float]:
        """Plane (a, b, c, d) in the unposed head's space: hair where a x + b y + c z > d is not drawn (caps)."""
        return (0.0, 0.0, 0.0, 1.0) if props.cap is None else self._cap(props.cap).plane

    def close(self) -> None:
        """Free buffers."""
        while self._drawables:
            self._drawables.popitem()[1].release()

    # ---- what there is to draw

    def _once(self, key: Hashable, build: Callable[[], Any]) -> Any:
        if key not in self._meshes:
            self._meshes[key] = build()
        self._meshes.move_to_end(key)
        while len(self._meshes) > _KEPT:
            self._meshes.popitem(last=False)
        return self._meshes[key]

    def _glasses(self, glasses: Glasses) -> GlassesMesh:
        size = round(glasses.size, 3)
        key = ("glasses", glasses.shape, glasses.material, size)
        built: GlassesMesh = self._once(key, lambda: build_glasses(self.fit, glasses.shape, glasses.material, size))
        return built

    def _cap(self, cap: Cap) -> CapMesh:
        height = round(cap.height, 3)
        built: CapMesh = self._once(("cap", cap.kind, height), lambda: build_cap(self.fit, cap.kind, height))
        return built

    def _hand(self, hand: Hand) -> HandMesh:
        sleeve = round(hand.sleeve_from, 2)
        built: HandMesh = self._once(("hand", hand.pose, sleeve), lambda: build_hand(hand.pose, sleeve))
        return built

    def _items(self, props: Props, posed: Posed, uniforms: dict[str, Any]) -> list[_Item]:
        worn = head_matrix(posed.rotation, posed.shift)
        out = []
        if (glasses := props.glasses) is not None:
            key: Hashable = ("frame", glasses.shape, glasses.material, round(glasses.size, 3))
            out.append(_Item(key, lambda: self._glasses(glasses).frame, worn, glasses_materials(glasses)))
        if (phones := props.headphones) is not None:
            capped = props.cap is not None
            key = ("headphones", phones.look, phones.boom, phones.boom_left, capped)
            phones_mesh = partial(build_headphones, self.fit, phones, capped=capped)
            out.append(_Item(key, phones_mesh, worn, headphones_materials(phones), 0.16))
        if (cap := props.cap) is not None:
            key = ("cap", cap.kind, round(cap.height, 3))
            out.append(_Item(key, lambda: self._cap(cap).mesh, worn, cap_materials(cap), 0.12))
        if (mic := props.microphone) is not None:
            key = ("microphone", mic.kind, mic.from_left, mic.pop_filter)
            build = partial(build_microphone, mic.kind, from_left=mic.from_left, pop_filter=mic.pop_filter)
            out.append(_Item(key, build, self._stand(mic), microphone_materials(mic)))
        for hand, model in zip(props.hands, self._hand_models(props.hands, posed), strict=True):
            key = ("hand", hand.pose, round(hand.sleeve_from, 2))
            materials = hand_materials(uniforms["mean_skin"], self._cloth)
            out.append(_Item(key, lambda hand=hand: self._hand(hand).mesh, model, materials))  # type: ignore[misc]
        return out

    def _panes(self, props: Props, posed: Posed) -> list[_Pane]:
        out = []
        if (mic := props.microphone) is not None and mic.pop_filter:
            fabric = {"tint": (0.42, 0.42, 0.42, 0.6), "coating": (0, 0, 0), "veil": (0.012, 0.012, 0.012),
                      "source0": _NO_SOURCE, "source1": _NO_SOURCE, "source2": _NO_SOURCE}  # fmt: skip
            out.append(_Pane("pop filter", build_pop_fabric, self._stand(mic), fabric))
        if (glasses := props.glasses) is not None:
            key = ("lens", glasses.shape, glasses.material, round(glasses.size, 3))
            sources = [_source_matrix(s) for s in glasses.sources] + [_NO_SOURCE] * 3
            glass = {"tint": (*glasses.tint, 0.0), "coating": glasses.coating, "veil": (0, 0, 0),
                     "source0": sources[0], "source1": sources[1], "source2": sources[2]}  # fmt: skip
            worn = head_matrix(posed.rotation, posed.shift)
            out.append(_Pane(key, lambda: self._glasses(glasses).lenses, worn, glass))
        return out

    def _stand(self, mic: Microphone) -> Points:
        """The room's axes, from the chin of the unmoved head: the stand does not follow anybody."""
        matrix = np.eye(4)
        matrix[:3, 3] = self.fit.landmarks[8] + np.asarray(mic.place)
        return matrix

    def _hand_models(self, hands: tuple[Hand, ...], posed: Posed) -> list[Points]:
        if not hands:
            return []
        known, of_hands, models = self._placed
        if known is not posed or of_hands is not hands:
            landmarks = posed.skin[self._landmark_rows]
            face = self.fit.landmarks
            scale = float((face[[19, 24], 1].mean() - face[8, 1]) / _FACE_HEIGHT)
            models = [place_hand(h, self._hand(h), posed.skin, landmarks, posed.rotation, scale) for h in hands]
            self._placed = posed, hands, models
        return models

    def _drawable(self, key: Hashable, build: Callable[[], Mesh]) -> dict[str, Any]:
        """Vertex arrays of a mesh by program, made on first use."""
        if key not in self._drawables:
            mesh, gl = build(), self._gl
            buffer = gl.context.buffer(mesh.packed().tobytes())
            index = gl.context.buffer(mesh.triangles.astype(np.uint32).tobytes())
            arrays = {
                name: gl.context.vertex_array(gl.programs[name], [(buffer, *_FORMAT)], index, skip_errors=True)
                for name in ("prop", "prop_depth", "lens")
            }
            self._drawables[key] = _Drawable(arrays, (buffer, index))
        self._drawables.move_to_end(key)
        while len(self._drawables) > _KEPT:
            self._drawables.popitem(last=False)[1].release()
        return self._drawables[key].arrays
