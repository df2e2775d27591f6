"""One frame of enrollment: the face is followed and cut as live, and read; what is costly comes only when asked."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from calibration.face_reading import Reading, read_moment
from calibration.mesh_mask import mesh_mask
from calibration.quality_gates import Fault, Quality, disagreement, exposure, outside, sharpness
from engines.blazeface import load_blazeface
from engines.errors import DetectorError
from engines.facemesh import load_facemesh, roi_from_mesh
from engines.faceset import DEFAULT_MARGIN
from engines.geometry import compose, frame_to_crop, invert, transform
from engines.types import F32, F64, U8, Frame
from realtime.crop import FaceCropper
from realtime.detect import MeshDetector
from realtime.track import Tracker, TrackerConfig

OTHER_FACE_SHARE = 0.15
"""A second face of less than so much of the first one's area is a poster or a passer-by far behind."""
_VIEWS = ((1.2, 0.15), (0.88, -0.15))
"""Size and angle of further looks at a face, relative to the first."""
_STILL_S = 0.2
"""Frames further apart in time say nothing of speed."""
_CUT = 28.0
"""Mean difference of two frames' thumbnails from which they are different takes, of 255."""
_THUMB = (32, 18)


@dataclass(frozen=True, slots=True)
class Look:
    """One face of one frame. The arrays are the caller's."""

    frame: Frame
    crop: U8
    """(S, S, 3) BGR with the face set's margin."""
    mesh: F32
    """(468, 2) pixels of the crop."""
    mesh_in_frame: F32
    """(468, 2)"""
    side_px: float
    """Side of the family's crop in frame pixels."""
    score: float
    reading: Reading
    same_track: bool
    """Whether this face was followed from the frame before, in the same take."""


class FrameLooker:
    """Detector, tracker and cutter of one enrollment. One thread; ``close`` frees the networks."""

    def __init__(self, size: int, *, threads: int = 1) -> None:
        """``size`` is the side of the stored crops. Raises RuntimeFailure."""
        self._size = size
        self._blazeface, self._facemesh = load_blazeface(threads=threads), load_facemesh(threads=threads)
        self._detector = MeshDetector(self._blazeface, self._facemesh)
        self._tracker = Tracker(self._detector, TrackerConfig(smooth=False))
        self._cropper = FaceCropper()
        self._last: tuple[int, Reading] | None = None
        self._thumb: F32 | None = None

    def look(self, frame: Frame) -> Look | None:
        """The face of the next frame, or None. Raises RuntimeFailure."""
        searched, cut = self._tracker.counts.searched, self._is_cut(frame)
        try:
            if cut:
                self._tracker.reset()
            found = self._tracker.update(frame)
            if found is None:
                self._last = None
                return None
            # A second look from the first one's points: steady, and with the depth that tells the pose.
            mesh, depth, score = self._facemesh.landmarks(frame.pixels, roi_from_mesh(found.landmarks))
            same_track = searched == self._tracker.counts.searched
            return self._cut_and_read(frame, mesh, depth, min(score, found.score), same_track=same_track)
        except DetectorError:
            self._tracker.reset()
            self._last = None
            return None

    def _cut_and_read(self, frame: Frame, mesh: F32, depth: F32, score: float, *, same_track: bool) -> Look:
        size = self._size
        to_frame = compose(invert(frame_to_crop(mesh, "mesh468", size)), _margin(size))
        crop = np.zeros((size, size, 3), np.uint8)
        self._cropper(frame.pixels, to_frame, crop)
        scale = float(np.hypot(to_frame[0, 0], to_frame[1, 0]))
        inside = transform(invert(to_frame), mesh).astype(np.float32)
        reading = read_moment(crop, np.column_stack([inside, depth / scale]), to_frame, frame.size[1])
        reading = replace(reading, speed=self._speed(frame, reading) if same_track else 0.0)
        self._last = frame.timestamp_ns, reading
        return Look(frame, crop, inside, mesh, scale * size / DEFAULT_MARGIN, score, reading, same_track)

    def _speed(self, frame: Frame, now: Reading) -> float:
        """Of the lips since the frame before, decimetres a second."""
        if self._last is None:
            return 0.0
        seconds = (frame.timestamp_ns - self._last[0]) / 1e9
        if not 0 < seconds < _STILL_S:
            return 0.0
        return float(np.hypot(now.open - self._last[1].open, (now.width - self._last[1].width) / 2)) / seconds

    def _is_cut(self, frame: Frame) -> bool:
        """Whether this frame begins another take: a face may then stand where another one was."""
        small = cv2.resize(frame.pixels, _THUMB, interpolation=cv2.INTER_AREA).astype(np.float32)
        last, self._thumb = self._thumb, small
        return last is not None and float(np.abs(small - last).mean()) > _CUT

    def quality(self, look: Look) -> Quality:
        """Everything the gates ask but what costs further looks."""
        mask = mesh_mask(look.mesh, self._size)
        luma, burnt = exposure(look.crop, mask)
        return Quality(
            side_px=look.side_px, outside=outside(look.mesh_in_frame, look.frame.size),
            sharpness=sharpness(look.crop, mask), clipped=burnt, luma=luma, present=look.score, disagreement=0.0,
        )  # fmt: skip

    def further(self, look: Look, quality: Quality) -> tuple[Quality, Fault | None]:
        """With other views of the face, and whether there is another one. Raises RuntimeFailure."""
        roi = roi_from_mesh(look.mesh_in_frame)
        meshes, scores = [look.mesh_in_frame], [look.score]
        try:
            for size, angle in _VIEWS:
                view = replace(roi, size=roi.size * size, angle=roi.angle + angle)
                mesh, _, score = self._facemesh.landmarks(look.frame.pixels, view)
                meshes.append(mesh)
                scores.append(score)
            others = self._others(look)
        except DetectorError:
            return quality, Fault.HIDDEN
        seen = replace(quality, present=min(scores), disagreement=disagreement(meshes))
        return seen, Fault.SEVERAL if others else None

    def _others(self, look: Look) -> int:
        """Faces beside this one that are not small."""
        low, high = look.mesh_in_frame.min(axis=0), look.mesh_in_frame.max(axis=0)
        area = float(np.prod(high - low))
        count = 0
        for candidate in self._blazeface.find(look.frame.pixels):
            centre = (candidate.box[:2] + candidate.box[2:]) / 2
            inside = bool(((centre >= low) & (centre <= high)).all())
            count += not inside and float(np.prod(candidate.box[2:] - candidate.box[:2])) > OTHER_FACE_SHARE * area
        return count

    def close(self) -> None:
        """Free the networks."""
        self._detector.close()


def _margin(size: int) -> F64:
    """(2, 3) from pixels of the stored crop to those of the family's crop in its middle, drawn on as many pixels."""
    shift = (size - 1) / 2 * (1 - DEFAULT_MARGIN)
    return np.array([[DEFAULT_MARGIN, 0.0, shift], [0.0, DEFAULT_MARGIN, shift]])
