"""Which of Face Mesh's 468 points the encoder takes: contours that carry expression and pose.

Contours of eyes, brows, lips and nose, and the jaw: what the mesh network places well and what moves. Cheeks and
forehead follow from these; irises are not among the 468. The order is part of every trained weight: never change it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.geometry import invert
from engines.types import F32, F64

_RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
_LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
_RIGHT_BROW = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107)
_LEFT_BROW = (276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
_OUTER_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
_INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
_NOSE = (168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 129, 358, 64, 294)
_JAW = (234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454)

MESH_SUBSET = np.array(
    [*_RIGHT_EYE, *_LEFT_EYE, *_RIGHT_BROW, *_LEFT_BROW, *_OUTER_LIPS, *_INNER_LIPS, *_NOSE, *_JAW], np.int64
)
"""(127,) rows of the 468 points; right and left are the subject's."""


def crop_points(landmarks: NDArray[np.floating], to_frame: F64, size: int, out: F32 | None = None) -> F32:
    """The subset of a (468, 2) mesh in frame pixels, as (127, 2) fractions of the side of a crop.

    ``to_frame`` takes pixels of the ``size`` x ``size`` crop to frame pixels, pixel centres at integers. 0 and 1 are
    the crop's outer edges, so pixel x is at (x + 0.5) / size: as ``augment`` cuts them for training. The result is
    ``out`` if it is given, float32 of that shape.
    """
    to_crop = invert(to_frame)
    points = np.empty((len(MESH_SUBSET), 2), np.float32) if out is None else out
    # Seen from the crop's centre the numbers are small, and float32 loses nothing of large frames.
    centre = to_frame[:, :2] @ np.full(2, (size - 1) / 2) + to_frame[:, 2]
    # Mode "raise" would make a copy; the rows are known to be there.
    np.take(np.asarray(landmarks, np.float32), MESH_SUBSET, axis=0, out=points, mode="clip")
    points -= centre.astype(np.float32)
    np.matmul(points, (to_crop[:, :2].T / size).astype(np.float32), out=points)
    points += np.float32(0.5)
    return points
