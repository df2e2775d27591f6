"""The head's texture space: where every texel lies on the average head, with more texels for the face than the nape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.people.gl import GL
from calibration.people.hair.hairline import hairline_height
from calibration.people.head.mesh import Points
from calibration.people.head.shape import HeadModel

F32 = NDArray[np.float32]
TEXTURE_SIZE = (720, 1200)
"""Width, height. With the warp below the face has about 350 texels per decimetre, two per pixel of a 720p picture."""
_HAIR_MARGIN = 0.3
"""Decimetres by which a person's hairline may lie below the average one."""
_SCALP_STEP = 2
"""The hair's shade on the scalp is computed for every second texel."""
_FOCUS = ((0.71, 0.21), (0.5, 0.15))
"""Centre and half width of the face in the unwarped island, per axis."""
_MAGNIFY = 4.0


@dataclass(frozen=True)
class SharedMaps:
    """What all people share. The textures belong to the context."""

    places: Any
    """(H, W) float32 texture: xyz on the average head."""
    charts: Any
    """(H, W) float32 texture: where the texel lies in the painted areas' pictures."""
    areas: Any
    """Texture of lips, eyelids, ears, face, 0..1."""
    inner: Any
    """Texture of the inside of the mouth, 0..1."""
    scalp_points: F32
    """(h, w, 3) positions of the texels at which the shade of hair on the skin is computed."""
    hairy: NDArray[np.bool_]
    """(h, w) those of them where hair can grow."""
    bearded: NDArray[np.bool_]
    """(h, w) those where a beard can."""
    free: NDArray[np.bool_]
    """(m,) skin vertices where hair may root or rest: not ears, not the inside of the mouth."""
    inside_mouth: NDArray[np.bool_]
    thin: F32
    """(m,) 0..1: ears and nostrils, which light from behind shines through; -1 inside the mouth."""


def _warp(t: NDArray[np.floating], centre: float, half: float) -> NDArray[np.floating]:
    """0..1 -> 0..1, steeper near ``centre``: the integral of 1 + a bump (Gaussian of ``half`` width), to scale."""
    knots = np.linspace(0, 1, 513)
    density = 1 + (_MAGNIFY - 1) * np.exp(-(((knots - centre) / half) ** 4))
    table = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return np.asarray(np.interp(t, knots, table / table[-1]))


def charted(head: HeadModel, uv: NDArray[np.floating]) -> Points:
    """(n, 2) texture coordinates of the mesh -> place in the island's window, 0..1 inside."""
    u0, u1, v0, v1 = head.uv_window
    return np.asarray((uv - [u0, v0]) / [u1 - u0, v1 - v0], np.float64)


def placed(head: HeadModel, uv: NDArray[np.floating]) -> Points:
    """(n, 2) texture coordinates of the mesh -> warped place in the painted textures, 0..1; outside stays outside."""
    chart = charted(head, uv)
    out = np.stack([_warp(chart[:, axis], *_FOCUS[axis]) for axis in range(2)], 1)
    return np.asarray(np.where((chart < 0) | (chart > 1), chart, out))


def sample(mask: NDArray[np.uint8], chart: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n,) values 0..1 of a mask picture at (n, 2) places of its window; 0 outside. The picture's row 0 is v0."""
    height, width = mask.shape
    x, y = (np.round(chart[:, k] * (size - 1)).astype(int) for k, size in enumerate((width, height)))
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    out = np.zeros(len(chart))
    out[inside] = mask[y[inside], x[inside]] / 255.0
    return out


def _unwrapped(gl: GL, head: HeadModel) -> tuple[F32, F32]:
    """Positions (H, W, 3) and charts (H, W, 2) of all texels; those off the island repeat the nearest one on it."""
    width, height = TEXTURE_SIZE
    skin, context = head.skin, gl.context
    content = [placed(head, skin.corner_uv), charted(head, skin.corner_uv), head.fine_average[skin.corner_vertex]]
    buffer = context.buffer(np.concatenate(content, 1).astype(np.float32).tobytes())
    index = context.buffer(skin.corner_triangles.tobytes())
    array = context.vertex_array(gl.programs["unwrap"], [(buffer, "2f 2f 3f", "place", "chart", "rest")], index)
    textures = [context.texture((width, height), n, dtype="f4") for n in (4, 2)]
    target = context.framebuffer(textures)
    target.use()
    target.clear()
    context.disable(gl.moderngl.CULL_FACE | gl.moderngl.DEPTH_TEST)
    array.render()
    pixels, charts = (
        np.frombuffer(t.read(), np.float32).reshape(height, width, n) for t, n in zip(textures, (4, 2), strict=True)
    )
    for thing in (array, buffer, index, target, *textures):
        thing.release()
    covered = (pixels[..., 3] > 0.5).astype(np.uint8)
    # Texels off the island take the nearest covered one's position, so that mip-maps do not bleed.
    _, labels = cv2.distanceTransformWithLabels(1 - covered, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    lookup = np.zeros(int(labels.max()) + 1, np.int64)
    rows, columns = np.nonzero(covered)
    lookup[labels[rows, columns]] = rows * width + columns
    nearest = lookup[labels]
    return np.ascontiguousarray(pixels[..., :3].reshape(-1, 3)[nearest]), charts.reshape(-1, 2)[nearest]


def shared_maps(gl: GL, head: HeadModel) -> SharedMaps:
    """Unwrap the average head into the texture, once per context."""
    positions, charts = _unwrapped(gl, head)

    def table(values: F32) -> Any:
        texture = gl.context.texture(TEXTURE_SIZE, values.shape[2], np.ascontiguousarray(values).tobytes(), dtype="f4")
        texture.filter = (gl.moderngl.NEAREST, gl.moderngl.NEAREST)
        return texture

    areas = np.stack([head.masks[name] for name in ("lips", "eyelids", "ears", "face")], -1)
    inner = cv2.GaussianBlur(head.masks["inside-mouth"], (0, 0), 1.0)
    uv = head.skin.vertex_uv
    full = head.masks["full_inside-mouth"]
    inside = sample(full[::-1], uv) > 0.5
    ears = sample(head.masks["ears"], charted(head, uv))
    x, y, z = head.fine_average.T
    wings = np.exp(-(((np.abs(x) - 0.15) / 0.05) ** 2) - ((y - 6.9) / 0.05) ** 2 - ((z - 1.43) / 0.12) ** 2)
    coarse = np.ascontiguousarray(positions[::_SCALP_STEP, ::_SCALP_STEP])
    return SharedMaps(
        places=table(positions),
        charts=table(charts),
        areas=gl.texture(np.ascontiguousarray(areas)),
        inner=gl.texture(np.asarray(inner, np.uint8)[..., None]),
        scalp_points=coarse,
        hairy=hairline_height(coarse) > -_HAIR_MARGIN,
        bearded=(coarse[..., 1] < 7.5) & (coarse[..., 1] > 5.7) & (coarse[..., 2] > 0.2),
        free=~(inside | (ears > 0.3)),
        inside_mouth=inside,
        thin=np.where(inside, -1, np.clip(ears + 0.25 * wings, 0, 1)).astype(np.float32),
    )
