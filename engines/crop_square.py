"""The square of a persona that was not trained on ours: where it lies on the head, and what of the face is in it.

The live path aligns every face to the square of ``engines.geometry``. An imported model was trained on another one, for
example the whole face with forehead and chin; both are upright squares on the same head, so one affine takes the one
to the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engines.geometry import CORE, CROP_CENTRE_DM, CROP_SIDE_DM, MOUTH_TOP
from engines.types import F64

MEAN_FACE_DM = 1.24
"""Side of the unit square of the mean 68-point face (outer end of one brow to that of the other) on our template, in
decimetres: outer eye corners are 0.737 of it apart and 0.922 dm on the template, eye line and nose tip 0.299 and
0.369 dm."""
_MEAN_EYE_LINE, _EYE_LINE_DM = 0.216, -0.204
"""The same height, of the outer eye corners, in either system."""
WHOLE_FACE_COVERAGE = 2.2
"""Sides of the unit square that a whole-face crop covers in DeepFaceLive."""
_WHOLE_FACE_MIDDLE = 0.5 - 0.08
"""Its centre is a little above the middle of the unit square: the forehead is in it."""


@dataclass(frozen=True, slots=True)
class CropSquare:
    """An upright square on the average head, in decimetres; ``persona.Crop`` without the file format."""

    side_dm: float = CROP_SIDE_DM
    centre_dm: tuple[float, float] = CROP_CENTRE_DM

    @property
    def standard(self) -> bool:
        """Whether it is the live path's own."""
        return (self.side_dm, self.centre_dm) == (CROP_SIDE_DM, CROP_CENTRE_DM)

    def to_standard(self, size: int) -> F64:
        """(2, 3) affine from pixels of this square to pixels of the standard one, both ``size`` x ``size``."""
        scale = self.side_dm / CROP_SIDE_DM
        middle = (size - 1) / 2
        shift = (np.array(self.centre_dm) - CROP_CENTRE_DM) * (size / CROP_SIDE_DM) + middle * (1.0 - scale)
        return np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])

    def fractions(self, points: F64) -> F64:
        """(N, 2) fractions of the standard square's side as fractions of this one's."""
        decimetres = (points - 0.5) * CROP_SIDE_DM + CROP_CENTRE_DM
        return np.asarray((decimetres - self.centre_dm) / self.side_dm + 0.5, np.float64)

    @property
    def core(self) -> F64:
        """``geometry.CORE`` in this square."""
        return self.fractions(CORE)

    @property
    def mouth_top(self) -> float:
        """``geometry.MOUTH_TOP`` in this square."""
        return float(self.fractions(np.array([[0.5, MOUTH_TOP]]))[0, 1])


STANDARD = CropSquare()


def whole_face(coverage: float = WHOLE_FACE_COVERAGE) -> CropSquare:
    """The square of DeepFaceLive's models: ``coverage`` sides of the mean face's unit square."""
    height = _EYE_LINE_DM + (_WHOLE_FACE_MIDDLE - _MEAN_EYE_LINE) * MEAN_FACE_DM
    return CropSquare(round(coverage * MEAN_FACE_DM, 4), (0.0, round(height, 4)))
