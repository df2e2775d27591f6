"""Who a face is, in dlib's 128 numbers (dlib-bin and face_recognition_models; King 2009, JMLR 10; public domain).

Two pictures of one person lie nearer than 0.6. The network was made for photographs of faces turned to the camera.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines import geometry
from engines.errors import MissingDependencyError
from engines.types import F64, U8

_CHIP, _PADDING = 150, 0.25
_CHIP_POINTS = (45, 42, 36, 39, 33)
# dlib's mean five-point face (subject's left eye first: outer and inner corners of both eyes, nose base), from its
# image_transforms/interpolation.h, as fractions of the unpadded chip.
_MEAN_FACE = np.array(
    [
        (0.8595674595992, 0.2134981538014), (0.6460604764104, 0.2289674387677), (0.1205750620789, 0.2137274526848),
        (0.3340850613712, 0.2290642403242), (0.4901123135679, 0.6277975316475),
    ]
)  # fmt: skip


def chip(pixels: U8, landmarks: NDArray[np.floating]) -> U8:
    """(150, 150, 3) RGB: the face as dlib's network wants it, padded by a quarter on all sides.

    ``pixels`` (H, W, 3) BGR, ``landmarks`` (68, 2) iBUG points in it. Raises DetectorError when they span no face.
    """
    target = (_PADDING + _MEAN_FACE) / (2 * _PADDING + 1) * _CHIP - 0.5
    affine = geometry.fit_similarity(landmarks[list(_CHIP_POINTS)], target)
    cut = cv2.warpAffine(pixels, affine, (_CHIP, _CHIP), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(cut[..., ::-1], np.uint8)


class Embedder:
    """dlib's face recognition network; about 90 ms a face."""

    def __init__(self) -> None:
        """Raises MissingDependencyError when dlib or its weights are not installed."""
        # Found without an import: the package's own breaks on new setuptools.
        found = importlib.util.find_spec("face_recognition_models")
        if importlib.util.find_spec("dlib") is None or found is None or not found.submodule_search_locations:
            raise MissingDependencyError(
                "telling people apart needs dlib and its weights", hint="pip install dlib-bin face_recognition_models"
            )
        dlib: Any = importlib.import_module("dlib")  # has no annotations
        weights = Path(found.submodule_search_locations[0]) / "models" / "dlib_face_recognition_resnet_model_v1.dat"
        self._network = dlib.face_recognition_model_v1(str(weights))

    def embed(self, pixels: U8, landmarks: NDArray[np.floating]) -> F64:
        """(128,) of the face with (68, 2) ``landmarks`` in ``pixels`` (H, W, 3) BGR. Raises DetectorError."""
        return np.array(self._network.compute_face_descriptor(chip(pixels, landmarks)), np.float64)
