"""Ambient occlusion of a neutral head, baked once per person."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from calibration.people.camera.pinhole import orthographic
from calibration.people.gl import GL
from calibration.people.head.mesh import Points
from calibration.people.head.shape import head_model

_SIDE = 256
_DIRECTIONS = 48
_CENTRE = np.array([0, 7.0, 0.3])
_HALF_SIDE = 2.6


@lru_cache(maxsize=1)
def _smoothing() -> sp.csr_matrix:
    """(m, m): half of each skin vertex and half of its neighbours' mean."""
    skin = head_model().skin
    count = skin.subdivide.shape[0]
    pairs = skin.triangles.ravel(), np.roll(skin.triangles, 1, 1).ravel()
    links = sp.coo_matrix((np.ones(skin.triangles.size), pairs), (count, count)).tocsr()
    links = links + links.T
    degree = np.maximum(np.asarray(links.sum(1)).ravel(), 1)
    return (sp.identity(count) * 0.5 + sp.diags(0.5 / degree) @ links).tocsr()


def directions() -> Points:
    """(k, 3) directions on a Fibonacci sphere, without those behind the back."""
    k = np.arange(_DIRECTIONS)
    y = 1 - 2 * (k + 0.5) / _DIRECTIONS
    angle = np.pi * (3 - 5**0.5) * k
    ring = np.sqrt(1 - y * y)
    every = np.stack([np.cos(angle) * ring, y, np.sin(angle) * ring], 1)
    return np.asarray(every[every[:, 2] > -0.7])


def bake(gl: GL, array: Any, skin: Points, normals: Points, inside_mouth: NDArray[np.bool_]) -> Points:
    """(m,) 0..1: share of the sky that each vertex sees, from depth maps of many directions.

    ``array`` draws the neutral ``skin`` (m, 3) with the program "skin_depth".
    """
    texture = gl.context.depth_texture((_SIDE, _SIDE))
    target = gl.context.framebuffer([], texture)
    gl.context.enable_only(gl.moderngl.DEPTH_TEST | gl.moderngl.CULL_FACE)
    target.use()
    lifted = np.c_[skin + normals * 0.018, np.ones(len(skin))]
    seen, total = np.zeros(len(skin)), np.zeros(len(skin))
    for direction in directions():
        matrix = orthographic(direction, _CENTRE, _HALF_SIDE)
        target.clear(depth=1.0)
        gl.set("skin_depth", {"view_projection": matrix})
        array.render()
        depth = np.frombuffer(texture.read(), np.float32).reshape(_SIDE, _SIDE)
        q = lifted @ matrix[:3].T
        at = ((q[:, :2] * 0.5 + 0.5) * _SIDE).astype(np.int32).clip(0, _SIDE - 1)
        weight = np.maximum(normals @ direction, 0) * max(0.6 + 0.4 * direction[1], 0)
        # A texel covers 0.02 dm: surfaces that lean away from the direction need a margin of its size.
        seen += weight * (q[:, 2] * 0.5 + 0.5 - 0.0025 <= depth[at[:, 1], at[:, 0]])
        total += weight
    target.release()
    texture.release()
    open_sky = np.clip(np.where(total > 1e-6, seen / np.maximum(total, 1e-6), 0.5), 0.03, 1)
    for _ in range(2):
        open_sky = _smoothing() @ open_sky
    return np.asarray(np.where(inside_mouth, open_sky * 0.25, open_sky))
