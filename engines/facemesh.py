"""Face Mesh: 468 points on one face, given roughly where it is. numpy and OpenCV around one network.

The network (MediaPipe, Apache-2.0; Kartynnik et al. 2019, arXiv 1907.06724) sees a 192 x 192 crop, 1.5 times the face's
box, turned so that the eyes are level.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.blazeface import Candidate
from engines.errors import DetectorError
from engines.runtimes import Runtime, open_runtime
from engines.types import F32, F64, U8

SIDE = 192
POINTS = 468
MARGIN = 1.5
"""Side of the crop relative to the longer side of the face's box."""
RIGHT_EYE = (33, 133, 159, 145)
LEFT_EYE = (263, 362, 386, 374)
"""Corners and lids of the subject's eyes; their mean is the eye's centre."""
MAX_CROP_SIDES = 4.0
"""A point so many crop sides away from the crop is no landmark."""
MIN_SIDE_PX = 12.0
"""A smaller region holds no face that could be followed."""
PRESENT = 0.5
"""Score above which the live detector believes in a face."""
_NO_FACE = "the frame is treated as one without a face"
_BROKEN = f"{_NO_FACE}; if it repeats: pip install --force-reinstall openvino, or --detector insightface"


@dataclass(frozen=True, slots=True)
class Roi:
    """The square that the network looks at."""

    centre: tuple[float, float]
    """xy in frame pixels."""
    size: float
    """Side in frame pixels."""
    angle: float
    """Radians by which the face is turned in the picture, clockwise as seen (y points down)."""

    def to_frame(self) -> F64:
        """(2, 3) affine from pixels of the 192 x 192 crop to frame pixels, centres at integers."""
        step = self.size / SIDE
        cos, sin = math.cos(self.angle) * step, math.sin(self.angle) * step
        middle = (SIDE - 1) / 2
        return np.array(
            [
                [cos, -sin, self.centre[0] - (cos - sin) * middle],
                [sin, cos, self.centre[1] - (sin + cos) * middle],
            ]
        )


def roi_from_candidate(candidate: Candidate) -> Roi:
    """The square around a face that BlazeFace found, turned by the line through its eyes."""
    x0, y0, x1, y1 = (float(v) for v in candidate.box)
    dx, dy = (float(v) for v in candidate.keypoints[1] - candidate.keypoints[0])
    return Roi(((x0 + x1) / 2, (y0 + y1) / 2), MARGIN * max(x1 - x0, y1 - y0), math.atan2(dy, dx))


def eye_centres(mesh: NDArray[np.floating]) -> F64:
    """(2, 2): subject's right and left eye of a (468, 2) mesh."""
    return np.stack([mesh[list(RIGHT_EYE)].mean(axis=0), mesh[list(LEFT_EYE)].mean(axis=0)]).astype(np.float64)


def roi_from_mesh(mesh: NDArray[np.floating]) -> Roi:
    """The square around a face of which the (468, 2) points are known: where to look in the next frame."""
    right, left = eye_centres(mesh)
    angle = math.atan2(left[1] - right[1], left[0] - right[0])
    cos, sin = math.cos(angle), math.sin(angle)
    upright = np.asarray(mesh, np.float64) @ np.array([[cos, -sin], [sin, cos]])
    low, high = upright.min(axis=0), upright.max(axis=0)
    x, y = (low + high) / 2
    return Roi((cos * x - sin * y, sin * x + cos * y), MARGIN * float((high - low).max()), angle)


Cutter = Callable[[U8, F64, U8], None]
"""(frame pixels (H, W, 3), crop->frame affine (2, 3), (S, S, 3) destination): cuts a square; border pixels repeat."""


class FaceMesh:
    """Finds landmarks. Owns its buffers and the runtime; one thread at a time."""

    def __init__(self, runtime: Runtime, cutter: Cutter | None = None) -> None:
        """``runtime`` runs face_landmark.onnx; ``cutter`` does what OpenCV does otherwise: the live path has a faster
        one. Raises DetectorError for another network.
        """
        sizes = {math.prod(shape): name for name, shape in runtime.outputs.items()}
        if list(runtime.inputs.values()) != [(1, SIDE, SIDE, 3)] or not {POINTS * 3, 1} <= sizes.keys():
            raise DetectorError("this is not the face mesh network", hint="reinstall personacam")
        self._runtime, self._cutter = runtime, cutter
        self._input_name = next(iter(runtime.inputs))
        self._points_name, self._score_name = sizes[POINTS * 3], sizes[1]
        self._crop = np.zeros((SIDE, SIDE, 3), np.uint8)
        self._rgb = np.zeros((SIDE, SIDE, 3), np.uint8)
        # A region is shrunk to less than twice SIDE, and turned by up to 45 degrees.
        side = math.ceil(2 * SIDE * math.sqrt(2.0)) + 8
        self._small = np.zeros((side, side, 3), np.uint8)
        self._input = np.zeros((1, SIDE, SIDE, 3), np.float32)

    def landmarks(self, pixels: U8, roi: Roi) -> tuple[F32, F32, float]:
        """Points of the face inside ``roi`` of ``pixels`` (H, W, 3) BGR uint8.

        Returns mesh (468, 2) float32 frame pixels, depth (468,) float32 (frame pixels, smaller is nearer to the camera)
        and the score 0..1 that there is a face at all; the arrays are the caller's. Raises DetectorError when the
        region or the network's numbers cannot be a face's.
        """
        self._cut(pixels, roi)
        # Turned round first: numpy takes five times as long over pictures that it has to read backwards.
        cv2.cvtColor(self._crop, cv2.COLOR_BGR2RGB, dst=self._rgb)
        np.multiply(self._rgb, np.float32(1 / 255), out=self._input[0], dtype=np.float32)
        outputs = self._runtime.run({self._input_name: self._input})
        points = outputs[self._points_name].reshape(POINTS, 3)
        logit = float(outputs[self._score_name].reshape(()))
        if not np.isfinite(points).all() or not math.isfinite(logit):
            raise DetectorError("the face mesh gave numbers that are not finite", hint=_BROKEN)
        if np.abs(points).max() > MAX_CROP_SIDES * SIDE:
            raise DetectorError("the face mesh lies far outside of its crop", hint=_NO_FACE)
        affine = roi.to_frame()
        # The network's pixels count from their edges, ours from their centres.
        mesh = (points[:, :2].astype(np.float64) - 0.5) @ affine[:, :2].T + affine[:, 2]
        depth = points[:, 2] * np.float32(roi.size / SIDE)
        score = 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, logit))))
        return mesh.astype(np.float32), depth, score

    def _cut(self, pixels: U8, roi: Roi) -> None:
        """The region as the network's crop; border pixels repeat beyond the frame."""
        if not all(map(math.isfinite, (*roi.centre, roi.size, roi.angle))) or roi.size < MIN_SIDE_PX:
            raise DetectorError("the face's region is empty or not finite", hint=_NO_FACE)
        affine = roi.to_frame()
        if self._cutter is not None:
            self._cutter(pixels, affine, self._crop)
            return
        shrink = int(roi.size / SIDE)
        if shrink >= 2:  # bilinear samples further apart than two pixels would alias
            pixels, affine = _reduced(pixels, affine, roi, shrink, self._small)
        cv2.warpAffine(
            pixels,
            affine,
            (SIDE, SIDE),
            dst=self._crop,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )

    def close(self) -> None:
        """Free the network."""
        self._runtime.close()


def _reduced(pixels: U8, affine: F64, roi: Roi, shrink: int, buffer: U8) -> tuple[U8, F64]:
    """The part of the frame under ``roi``, averaged over shrink x shrink pixels into ``buffer``, and the affine into
    that picture.
    """
    height, width = pixels.shape[:2]
    reach = roi.size * math.sqrt(0.5) + 2 * shrink
    x0, x1 = (int(np.clip(roi.centre[0] + d, 0, width)) // shrink * shrink for d in (-reach, reach))
    y0, y1 = (int(np.clip(roi.centre[1] + d, 0, height)) // shrink * shrink for d in (-reach, reach))
    if x1 <= x0 or y1 <= y0:  # outside of the frame: nothing to average
        return pixels, affine
    size = ((x1 - x0) // shrink, (y1 - y0) // shrink)
    small = buffer[: size[1], : size[0]]
    cv2.resize(pixels[y0:y1, x0:x1], size, dst=small, interpolation=cv2.INTER_AREA)
    into = affine / shrink
    # Frame pixel p lies at (p - x0 + 0.5) / shrink - 0.5 of the reduced picture.
    into[:, 2] += (0.5 - np.array([x0, y0])) / shrink - 0.5
    return small, into


def load_facemesh(*, threads: int = 1, cutter: Cutter | None = None) -> FaceMesh:
    """The shipped network, in float32, in the fastest runtime there is. Raises RuntimeFailure."""
    model = resources.files("engines").joinpath("models", "face_landmark.onnx").read_bytes()
    return FaceMesh(open_runtime(model, precision="f32", threads=threads), cutter)


def look(facemesh: FaceMesh, pixels: U8, near: F32) -> F64 | None:
    """(468, 3) what Face Mesh sees near (K, 2) points: first in a square around them, then around its own mesh.

    As in live use. x, y and depth in pixels; None where it sees no face.
    """
    centre = near.mean(axis=0)
    roi = Roi((float(centre[0]), float(centre[1])), float(np.ptp(near, axis=0).max()) * 1.6, 0.0)
    try:
        rough, _, _ = facemesh.landmarks(pixels, roi)
        mesh, depth, score = facemesh.landmarks(pixels, roi_from_mesh(rough))
    except DetectorError:
        return None
    return np.column_stack([mesh, depth]).astype(np.float64) if score >= PRESENT else None
