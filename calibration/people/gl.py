"""The OpenGL side: one context, the shader programs, the drawing targets. No display is needed (EGL, Mesa or a GPU)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import MissingDependencyError, RenderError

SHADOW_SIDE = 1024

_PROGRAMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "skin": ("skin.vert", ("skin_common.glsl", "light.glsl", "skin.frag")),
    "skin_cloth": ("skin.vert", ("skin_common.glsl", "noise.glsl", "cloth.glsl", "light.glsl", "skin.frag")),
    "skin_cloth_cel": ("skin.vert", ("skin_common.glsl", "light.glsl", "skin_cel.frag")),
    "skin_depth": ("skin.vert", ("depth.frag",)),
    "skin_cel": ("skin.vert", ("skin_common.glsl", "light.glsl", "skin_cel.frag")),
    "eye": ("eye.vert", ("light.glsl", "eye.frag")),
    "eye_cel": ("eye.vert", ("light.glsl", "eye_cel.frag")),
    "mouth": ("mouth.vert", ("light.glsl", "mouth.frag")),
    "mouth_cel": ("mouth.vert", ("light.glsl", "mouth_cel.frag")),
    "strand": ("strand.vert", ("light.glsl", "strand.frag")),
    "strand_cel": ("strand.vert", ("light.glsl", "strand_cel.frag")),
    "tuft_cel": ("light.glsl tuft.vert", ("tuft_cel.frag",)),
    "tuft": ("light.glsl tuft.vert", ("tuft.frag",)),
    "tuft_depth": ("tuft_depth.vert", ("tuft_depth.frag",)),
    "prop": ("prop.vert", ("light.glsl", "prop.frag")),
    "prop_depth": ("prop.vert", ("depth.frag",)),
    "lens": ("prop.vert", ("light.glsl", "lens.frag")),
    "unwrap": ("unwrap.vert", ("unwrap.frag",)),
    "paint": ("sheet.vert", ("noise.glsl", "paint.frag")),
    "relief": ("sheet.vert", ("relief.frag",)),
    "stroke": ("stroke.vert", ("stroke.frag",)),
}


def _source(*names: str) -> str:
    folder = resources.files("calibration.people").joinpath("shaders")
    return "#version 330\n" + "\n".join(folder.joinpath(name).read_text() for name in names)


@dataclass
class Targets:
    """Where one picture size is drawn."""

    width: int
    height: int
    layers: Any
    textures: list[Any]
    depth: Any


class GL:
    """Owns the context. One per process and thread; ``close`` frees the context."""

    def __init__(self) -> None:
        try:
            import moderngl
        except ImportError as error:
            raise MissingDependencyError(
                "rendering invented people needs moderngl", hint="in the folder of personacam: pip install '.[train]'"
            ) from error
        self.moderngl = moderngl
        try:
            self.context: Any = moderngl.create_context(standalone=True, backend="egl")  # type: ignore[arg-type]
        except Exception as error:  # glcontext raises bare Exception when the library or a driver is missing
            raise RenderError(
                f"no OpenGL context: {error}",
                hint="install Mesa's EGL: sudo apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri",
            ) from error
        self.programs = {
            name: self.context.program(vertex_shader=_source(*vertex.split()), fragment_shader=_source(*fragment))
            for name, (vertex, fragment) in _PROGRAMS.items()
        }
        self.shadow_texture = self.context.depth_texture((SHADOW_SIDE, SHADOW_SIDE))
        self.shadow_texture.compare_func = ""
        self.shadow_texture.filter = (moderngl.NEAREST, moderngl.NEAREST)
        self.shadow_texture.repeat_x = self.shadow_texture.repeat_y = False
        self.shadow_target = self.context.framebuffer([], self.shadow_texture)
        self._targets: dict[tuple[int, int], Targets] = {}

    def targets(self, width: int, height: int) -> Targets:
        """Drawing targets of a size, made once."""
        key = (width, height)
        if key not in self._targets:
            textures = [self.context.texture(key, 4, dtype="f2") for _ in range(3)]
            depth = self.context.depth_texture(key)
            self._targets[key] = Targets(
                width,
                height,
                self.context.framebuffer(textures, depth),
                textures,
                depth,
            )
        return self._targets[key]

    def set(self, program: str, uniforms: Mapping[str, Any]) -> None:
        """Set those of ``uniforms`` that the program really uses (the compiler drops the others)."""
        p: Any = self.programs[program]
        for name, value in uniforms.items():
            if name not in p:
                continue
            if isinstance(value, np.ndarray) and value.shape == (4, 4):
                p[name].write(value.T.astype(np.float32).tobytes())
            elif np.ndim(value) == 0:
                p[name].value = value
            else:
                p[name].value = tuple(float(x) for x in value)

    def fill(self, program: str, textures: list[Any]) -> None:
        """Run a program whose vertex shader is ``sheet.vert`` over every texel of ``textures`` (of one size)."""
        corners = self.context.buffer(np.array([-1, -1, 3, -1, -1, 3], np.float32).tobytes())
        array = self.context.vertex_array(self.programs[program], [(corners, "2f", "corner")])
        target = self.context.framebuffer(textures)
        target.use()
        array.render(self.moderngl.TRIANGLES)
        for thing in (array, target, corners):
            thing.release()

    def texture(self, pixels: NDArray[np.uint8]) -> Any:
        """A mip-mapped texture of (H, W, C) bytes, bottom row first."""
        height, width, channels = pixels.shape
        texture = self.context.texture((width, height), channels, pixels.tobytes(), alignment=1)
        texture.build_mipmaps()
        texture.filter = (self.moderngl.LINEAR_MIPMAP_LINEAR, self.moderngl.LINEAR)
        texture.repeat_x = texture.repeat_y = False
        return texture

    def use(self) -> None:
        """Make this context the thread's current one; another studio may have made its own current meanwhile."""
        self.context.__enter__()

    def close(self) -> None:
        """Free the context and all that belongs to it."""
        self.use()
        self.context.release()
