"""What a face does, read from Face Mesh's points with their depth: pose, and how open mouth and eyes are. numpy only.

The network's depth has the scale of x and y, so its points are a solid body under weak perspective. Pose is the
least-squares rotation (Kabsch 1976, Acta Cryst. A32; with the determinant's sign of Umeyama 1991) from the average
invented head to seventeen points that hardly move with expression. Against rendered truth it is off by 3 degrees of
yaw and 4 of pitch (mean of 40 faces within 45 degrees), mostly the person's own shape: compare reading with reading.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from engines.errors import DetectorError
from engines.types import F64

_RIGID = np.array([10, 151, 9, 168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 33, 133, 362, 263])
# The average head's surface under those points, decimetres: x to the subject's left, y up, z towards the camera.
_HEAD = np.array(
    [
        (0.0, 7.801, 1.396), (0.0, 7.661, 1.439), (0.0, 7.514, 1.459), (0.0, 7.360, 1.435), (0.0, 7.271, 1.437),
        (0.0, 7.195, 1.469), (0.0, 7.133, 1.509), (0.0, 7.069, 1.553), (0.0, 6.997, 1.601), (0.0, 6.939, 1.612),
        (0.0, 6.881, 1.571), (-0.149, 6.886, 1.443), (0.149, 6.886, 1.443), (-0.431, 7.315, 1.293),
        (-0.162, 7.294, 1.343), (0.162, 7.294, 1.343), (0.431, 7.315, 1.293),
    ]
)  # fmt: skip
_FOREHEAD, _NOSE_BASE = 10, 2
_LIPS = (13, 14)
_LIDS = ((159, 145), (386, 374))
_BROWS = ((105, (33, 133)), (334, (263, 362)))
"""Middle of the brow, and the corners of the eye under it; right, then left."""


@dataclass(frozen=True, slots=True)
class FaceReading:
    """Angles in degrees as ``State`` counts them; lengths over the height from the nose's base to the hairline."""

    yaw: float
    """Towards the person's left."""
    pitch: float
    """Up."""
    roll: float
    """To the person's left shoulder."""
    mouth: float
    """Between the inner lips."""
    eyes: float
    """Between the lids, the mean of both eyes."""
    brows: float
    """From the middle of the eye to the brow, the mean of both sides."""


def pose_degrees(mesh: NDArray[np.floating]) -> tuple[float, float, float]:
    """Yaw, pitch, roll of (468, 3) points: x to the right, y down, smaller z nearer, all in pixels.

    The rotation is Ry(yaw) Rx(-pitch) Rz(roll). Raises DetectorError for points that span no face.
    """
    rotation, _, _ = _fit(mesh)
    pitch = math.asin(max(-1.0, min(1.0, rotation[1, 2])))
    yaw, roll = math.atan2(rotation[0, 2], rotation[2, 2]), math.atan2(rotation[1, 0], rotation[1, 1])
    return math.degrees(yaw), math.degrees(pitch), math.degrees(roll)


def head_frame(mesh: NDArray[np.floating]) -> F64:
    """(468, 3) the points turned to the front and scaled to the average head: decimetres, x to the subject's left, y
    up, z towards the camera, from the middle of the rigid points. ``mesh`` and errors as :func:`pose_degrees`.
    """
    rotation, scale, centre = _fit(mesh)
    turned: F64 = (np.asarray(mesh, np.float64) * (1, -1, -1) - centre) @ rotation / scale
    return turned


def _fit(mesh: NDArray[np.floating]) -> tuple[F64, float, F64]:
    """Rotation (3, 3), scale and centre (3,) that take the average head's rigid points to those of the mesh."""
    points = np.asarray(mesh, np.float64)[_RIGID] * (1, -1, -1)
    centre = points.mean(axis=0)
    head, seen = _HEAD - _HEAD.mean(axis=0), points - centre
    if not np.isfinite(seen).all() or float((seen * seen).sum()) < 1e-9:
        raise DetectorError("the face mesh spans no face", hint="the frame is treated as one without a face")
    left, _, right = np.linalg.svd(seen.T @ head)
    rotation: F64 = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
    scale = float((seen * (head @ rotation.T)).sum()) / float((head * head).sum())
    return rotation, max(scale, 1e-9), centre


def read_face(mesh: NDArray[np.floating]) -> FaceReading:
    """Pose and openings of (468, 3) points, as :func:`pose_degrees` takes them. Raises DetectorError."""
    points = np.asarray(mesh, np.float64)
    height = _length(points[_FOREHEAD] - points[_NOSE_BASE])
    if not height > 0:
        raise DetectorError("the face mesh has no height", hint="the frame is treated as one without a face")
    eyes = [_length(points[upper] - points[lower]) for upper, lower in _LIDS]
    brows = [_length(points[brow] - points[list(eye)].mean(axis=0)) for brow, eye in _BROWS]
    yaw, pitch, roll = pose_degrees(points)
    mouth = _length(points[_LIPS[0]] - points[_LIPS[1]])
    return FaceReading(yaw, pitch, roll, mouth / height, sum(eyes) / 2 / height, sum(brows) / 2 / height)


def pose_error_degrees(found: FaceReading, truth: FaceReading) -> float:
    """Mean of the absolute differences of yaw, pitch and roll, each the shorter way round."""
    pairs = zip(astuple(found)[:3], astuple(truth)[:3], strict=True)
    return sum(abs(math.remainder(a - b, 360)) for a, b in pairs) / 3


def _length(vector: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(vector))
