"""Covers what a narrower persona would leave bare of the wearer: the outer corner of a far eye, the end of a brow.

The persona's mask is the persona's face. Where the wearer's own brows, eyes and mouth reach beyond it, the swap is
extended by the colours at its edge, so that no feature of the wearer stays sharp beside it. It is extended by a few
pixels at most: on a turned head the tracked points lie outside of the face, and colour must not spill over its outline.
"""

from __future__ import annotations

import cv2
import numpy as np

from engines.types import F32, F64, U8

MARGIN = 2 / 128
"""Fraction of the square's side by which the covered area is larger than the features: lashes, and tracking's error."""
FARTHEST = 4 / 128
"""So far beyond the persona's face, as a fraction of the side."""
REACH = 21 / 128
"""Side of the window that edge colours are averaged over, as a fraction of the square's side."""
_SOLID = 200
"""Mask values from here on are the persona's face; below, its picture is mixed with whatever was behind it."""


class Cover:
    """For swaps of one size: first ``area``, then ``extend``, whose result belongs to this object until the next."""

    def __init__(self, swap_size: int) -> None:
        self._margin = max(1, round(MARGIN * swap_size))
        self._farthest = max(1, round(FARTHEST * swap_size))
        self._solid: U8 = np.zeros((swap_size, swap_size), np.uint8)
        reach = max(3, round(REACH * swap_size)) | 1
        self._window = (reach, reach)
        self._area: U8 = np.zeros((swap_size, swap_size), np.uint8)
        self._pixels: U8 = np.zeros((swap_size, swap_size, 3), np.uint8)

    def area(self, features: F64, scale: float, mask: U8) -> U8:
        """(T, T) soft mask of the wearer's features, near the persona's ``mask`` (T, T).

        ``features`` (N, 2) in pixels of the aligned face, which is ``scale`` times smaller than the swap.
        """
        points = (features + 0.5) * scale - 0.5
        hull = cv2.convexHull(np.rint(points).astype(np.int32))
        self._area.fill(0)
        cv2.fillConvexPoly(self._area, hull, (255,))
        grown = cv2.dilate(self._area, _square(self._margin))
        near = cv2.dilate(self._filled(mask), _square(self._farthest))
        soft: U8 = np.asarray(cv2.blur(cv2.min(grown, near), (2 * self._margin + 1,) * 2), np.uint8)
        return soft

    def _filled(self, mask: U8) -> U8:
        """The persona's face as 0 or 255, without holes (an open mouth may be one)."""
        outlines, _ = cv2.findContours((mask >= _SOLID).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        self._solid.fill(0)
        cv2.drawContours(self._solid, outlines, -1, (255,), cv2.FILLED)
        return self._solid

    def extend(self, pixels: U8) -> U8:
        """``pixels`` (T, T, 3) with everything outside of the persona's face replaced by colours near its edge.

        The face is that of the last ``area``. Normalised convolution (Knutsson and Westin 1993): the mean of the face's
        pixels in a window. What is farther away stays as it is.
        """
        # A pixel inside the edge the persona's picture is clean; at the edge it has some background in it.
        solid: F32 = np.asarray(cv2.erode(self._solid, _square(1)) > 0, np.float32)
        weight = cv2.blur(solid, self._window)
        mean = cv2.blur(pixels * solid[..., None], self._window) / np.maximum(weight, 1e-4)[..., None]
        inside = np.asarray(cv2.blur(solid, (3, 3)), np.float32)[..., None]
        mixed = pixels * inside + mean * (1.0 - inside)
        np.copyto(self._pixels, np.where(weight[..., None] > 1e-3, mixed, pixels).astype(np.uint8))
        return self._pixels


def _square(radius: int) -> U8:
    return np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
