"""Real crops to judge an engine on: the shipped wearer's face, aligned as the pipeline aligns it."""

from __future__ import annotations

import numpy as np

from engines.errors import DetectorError
from engines.geometry import frame_to_crop, invert
from engines.mesh_subset import MESH_SUBSET, crop_points
from engines.types import F32, U8
from realtime import kernels
from realtime.detect import Detector
from realtime.source import Source

FRAMES_APART = 5
"""32 frames span five seconds of the clip, in which the wearer turns and speaks; decoding takes most of the time."""


def demo_crops(source: Source, detector: Detector, size: int, count: int = 32) -> tuple[U8, F32]:
    """(N, S, S, 3) uint8 BGR crops and (N, P, 2) mesh points of ``count`` frames of ``source``, FRAMES_APART.

    Raises DetectorError when there are not so many frames with a face.
    """
    crops: list[U8] = []
    points: list[F32] = []
    while len(crops) < count and (frame := source.read()) is not None:
        if frame.index % FRAMES_APART:
            continue
        face = detector.search(frame)
        if face is None:
            continue
        to_frame = invert(frame_to_crop(face.landmarks, face.layout, size))
        crop = np.zeros((size, size, 3), np.uint8)
        kernels.crop_face(frame.pixels, to_frame, crop)
        crops.append(crop)
        found = face.layout == "mesh468"
        points.append(crop_points(face.landmarks, to_frame, size) if found else _no_points())
    if len(crops) < count:
        raise DetectorError(f"{len(crops)} faces in {source.name}, {count} are needed", hint="reinstall personacam")
    return np.stack(crops), np.stack(points)


def _no_points() -> F32:
    return np.full((len(MESH_SUBSET), 2), 0.5, np.float32)
