"""Covers what a narrower persona would leave bare of the wearer: the outer corner of a far eye, the end of a brow.

The persona's mask is the persona's face. Where the wearer's own brows, eyes and mouth reach beyond it, the swap is
extended by the colours at its edge, so that no feature of the wearer stays sharp beside it. It is extended by a few
pixels at most: on a turned head the tracked points lie outside of the face, and colour must not spill over its outline.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.jit import kernel
from engines.types import F64, U8

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
        self._reach = reach
        self._core: U8 = np.zeros((swap_size, swap_size), np.uint8)
        self._inside: U8 = np.zeros((swap_size, swap_size), np.uint8)
        self._columns = np.zeros((4, swap_size), np.int32)
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
        cv2.erode(self._solid, _square(1), dst=self._core)
        cv2.blur(self._core, (3, 3), dst=self._inside)
        extend_colours(pixels, self._core, self._inside, self._reach // 2, self._columns, self._pixels)
        return self._pixels


@kernel
def extend_colours(pixels: U8, core: U8, inside: U8, radius: int, columns: NDArray[np.int32], dst: U8) -> None:
    """Mix ``pixels`` (T, T, 3) where ``inside`` (T, T) is below 255 with the mean of the pixels around whose ``core``
    (T, T) is 255 and not 0: those of a square of ``radius``, as far as it is in the picture. Without any, it stays.

    Sums over the square slide: down the columns (``columns`` (4, T) is scratch), then along the row.
    """
    side = core.shape[0]
    for c in range(4):
        for i in range(side):
            columns[c, i] = 0
    blues, greens, reds, counts = columns[0], columns[1], columns[2], columns[3]
    for j in range(-radius, side):
        for row, sign in ((j + radius, 1), (j - radius - 1, -1)):
            if 0 <= row < side:
                flat, solid = pixels[row].reshape(-1), core[row]
                signed = np.int32(sign)
                for i in range(side):
                    share = np.int32(solid[i] >> np.uint8(7)) * signed
                    blues[i] += share * np.int32(flat[3 * i])
                    greens[i] += share * np.int32(flat[3 * i + 1])
                    reds[i] += share * np.int32(flat[3 * i + 2])
                    counts[i] += share
        if j < 0:
            continue
        b = g = r = n = np.int32(0)
        for i in range(min(radius, side)):
            b, g, r, n = b + blues[i], g + greens[i], r + reds[i], n + counts[i]
        for i in range(side):
            at = i + radius
            if at < side:
                b, g, r, n = b + blues[at], g + greens[at], r + reds[at], n + counts[at]
            at = i - radius - 1
            if at >= 0:
                b, g, r, n = b - blues[at], g - greens[at], r - reds[at], n - counts[at]
            own = np.int32(inside[j, i])
            if own == 255 or n == 0:
                dst[j, i, 0], dst[j, i, 1], dst[j, i, 2] = pixels[j, i, 0], pixels[j, i, 1], pixels[j, i, 2]
                continue
            keep = np.float32(own) * np.float32(1.0 / 255.0)
            take = (np.float32(1.0) - keep) / np.float32(n)
            half = np.float32(0.5)
            dst[j, i, 0] = np.uint8(np.float32(pixels[j, i, 0]) * keep + np.float32(b) * take + half)
            dst[j, i, 1] = np.uint8(np.float32(pixels[j, i, 1]) * keep + np.float32(g) * take + half)
            dst[j, i, 2] = np.uint8(np.float32(pixels[j, i, 2]) * keep + np.float32(r) * take + half)


def _square(radius: int) -> U8:
    return np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
