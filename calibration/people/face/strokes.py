"""Hairs and lines painted into a person's skin texture: they are soft at any distance and follow every expression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.people.gl import GL
from calibration.people.head.mesh import Points
from calibration.people.head.unwrap import TEXTURE_SIZE

F32 = NDArray[np.float32]
_FLOATS = 7


@dataclass(frozen=True)
class Strokes:
    """Ribbons in texture space, drawn in order."""

    vertices: F32
    """(n, 7): place 0..1 (2), linear RGB, opacity, side -1..1."""
    indices: NDArray[np.uint32]

    def __add__(self, later: Strokes) -> Strokes:
        shift = np.uint32(len(self.vertices))
        return Strokes(
            np.concatenate([self.vertices, later.vertices]), np.concatenate([self.indices, later.indices + shift])
        )

    def draw(self, gl: GL, texture: Any) -> None:
        """Blend all strokes over the colour of a texture; its fourth channel stays."""
        context = gl.context
        buffer, index = context.buffer(self.vertices.tobytes()), context.buffer(self.indices.tobytes())
        array = context.vertex_array(gl.programs["stroke"], [(buffer, "2f 4f 1f", "place", "tint", "side")], index)
        target = context.framebuffer([texture])
        target.use()
        context.enable_only(gl.moderngl.BLEND)
        m = gl.moderngl
        context.blend_func = m.SRC_ALPHA, m.ONE_MINUS_SRC_ALPHA, m.ZERO, m.ONE
        array.render()
        context.enable_only(context.NOTHING)
        for thing in (array, target, index, buffer):
            thing.release()


def strokes(places: Points, width: NDArray[np.floating], colour: Points, opacity: NDArray[np.floating]) -> Strokes:
    """Ribbons along (n, K, 2) places 0..1. ``width`` (n, K) in texels, ``colour`` (n, 3), ``opacity`` (n, K)."""
    n, k, _ = places.shape
    size = np.array(TEXTURE_SIZE, np.float64)
    texels = places * size
    along = np.gradient(texels, axis=1)
    along /= np.linalg.norm(along, axis=2, keepdims=True) + 1e-9
    # Half a texel more on both sides: that is where the shader fades the stroke out.
    across = np.stack([-along[..., 1], along[..., 0]], -1) * (width[..., None] / 2 + 0.5)
    v = np.empty((n, k, 2, _FLOATS), np.float32)
    for side, sign in enumerate((-1.0, 1.0)):
        v[:, :, side, 0:2] = (texels + sign * across) / size
        v[:, :, side, 2:5] = colour[:, None]
        v[:, :, side, 5] = opacity
        v[:, :, side, 6] = sign
    start = (np.arange(n)[:, None] * k + np.arange(k - 1)[None]) * 2
    indices = np.stack([start, start + 1, start + 2, start + 2, start + 1, start + 3], -1).reshape(-1)
    return Strokes(v.reshape(-1, _FLOATS), indices.astype(np.uint32))
