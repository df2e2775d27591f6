"""The mask of a face in real footage, where nothing was rendered: the hull of Face Mesh's points.

Against the true masks of 200 rendered faces within 60 degrees, nothing worn, its overlap (IoU) is 0.85, of the bare
hull 0.84; hair over the forehead and long beards are what it does not know.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.types import U8

GROW = 0.04
"""The mesh ends a little inside of the face's outline."""
_SHIFT = 4
"""Bits behind the point of the outline that OpenCV fills."""


def mesh_mask(mesh: NDArray[np.floating], size: int) -> U8:
    """(S, S) 0 or 255 of a (468, 2 or more) ``mesh`` in pixels of a ``size`` x ``size`` crop; smooth edges."""
    points = np.asarray(mesh, np.float32)[:, :2]
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    grown = centre + (points - centre) * (1 + GROW)
    outline = cv2.convexHull(grown)[:, 0]
    mask = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(mask, np.round(outline * (1 << _SHIFT)).astype(np.int32), 255, cv2.LINE_AA, _SHIFT)
    return mask
