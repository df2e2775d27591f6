"""A picture that says when it was shown: a number in black and white cells between four markers.

The number counts the pictures that were shown. It stands in Gray code, so that two pictures that a camera's exposure
blends, or that its rolling shutter splits, differ in a single cell: what is read is one of the two. Every cell has its
opposite beside it, so that no threshold is needed in any light; three more cells check the rest. The markers are
ArUco's (Garrido-Jurado et al. 2014, Pattern Recognition 47(6)), found by OpenCV in perspective, blur and noise.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from engines.types import F32, U8

BITS = 13
"""Numbers below 8192: at 60 pictures a second they come again after 136 seconds."""
COUNT = 1 << BITS
_CHECK = 3
_CELLS = BITS + _CHECK
_COLUMNS, _ROWS = 8, 4
"""Of cells: each bit takes two, one above the other, and 16 bits stand in two lines."""
_UNIT = 40
"""Pixels of a cell in the picture as it is drawn."""
_MARKER, _GAP, _EDGE = 2 * _UNIT, _UNIT // 2, _UNIT
LOOK_EVERY = 8
"""Frames between two looks for the markers, which take most of the time."""
_LEAST_CONTRAST = 0.12
"""A pair of cells that differs by less of the code's own contrast, while the code changed over, is not told apart."""
SIZE = (2 * (_EDGE + _MARKER + _GAP) + _COLUMNS * _UNIT, 2 * (_EDGE + _MARKER + _GAP) + _ROWS * _UNIT)
"""(width, height) of the picture."""


def _corners() -> F32:
    """(4, 2) upper left corners of the markers, in the order of their numbers: clockwise from the upper left."""
    right, low = SIZE[0] - _EDGE - _MARKER, SIZE[1] - _EDGE - _MARKER
    return np.array([[_EDGE, _EDGE], [right, _EDGE], [right, low], [_EDGE, low]], np.float32)


def _centres() -> np.ndarray[Any, np.dtype[np.int64]]:
    """(16, 2, 2): of every bit's cell and its opposite, xy."""
    left, top = _EDGE + _MARKER + _GAP, _EDGE + _MARKER + _GAP
    bit = np.arange(_CELLS)
    x = left + (bit % _COLUMNS) * _UNIT + _UNIT // 2
    y = top + (bit // _COLUMNS) * 2 * _UNIT + _UNIT // 2
    return np.stack([np.stack([x, y], 1), np.stack([x, y + _UNIT], 1)], 1)


def _bits_of(number: int) -> list[int]:
    gray = number ^ (number >> 1)
    bits = [(gray >> k) & 1 for k in range(BITS)]
    # Parities of every third bit: neighbours differ in one data bit and so in one check bit.
    return bits + [sum(bits[k::_CHECK]) % 2 for k in range(_CHECK)]


def draw_code(number: int) -> U8:
    """(H, W, 3) uint8 BGR of SIZE: black and white. The number counts modulo COUNT."""
    out: U8 = np.full((SIZE[1], SIZE[0], 3), 255, np.uint8)
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50)
    for marker, (x, y) in enumerate(_corners().astype(int)):
        picture = cv2.aruco.generateImageMarker(dictionary, marker, _MARKER)
        out[y : y + _MARKER, x : x + _MARKER] = picture[..., None]
    half = _UNIT // 2
    for bit, pair in zip(_bits_of(number % COUNT), _centres(), strict=True):
        for (x, y), white in zip(pair, (bit, 1 - bit), strict=True):
            out[y - half : y + half, x - half : x + half] = 255 * white
    return out


class CodeReader:
    """Finds the code in pictures and reads its number. One thread at a time."""

    def __init__(self) -> None:
        parameters = cv2.aruco.DetectorParameters()
        parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
        dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50)
        self._detector = cv2.aruco.ArucoDetector(dictionary, parameters)
        self._last: np.ndarray[Any, np.dtype[np.float64]] | None = None
        self._age = 0

    def read(self, pixels: U8) -> int | None:
        """The number in (H, W, 3) uint8 BGR; None where there is no code, or one that cannot be read for sure."""
        grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
        to_picture = self._place(np.asarray(grey, np.uint8))
        if to_picture is None:
            return None
        flat = np.asarray(cv2.warpPerspective(grey, to_picture, SIZE, flags=cv2.INTER_LINEAR), np.float64)
        return _number(flat)

    def _place(self, grey: U8) -> np.ndarray[Any, np.dtype[np.float64]] | None:
        """From the camera's picture to the drawn one. Screens and cameras stand still: with fewer than three markers
        in sight, the last place holds.
        """
        self._age += 1
        if self._last is not None and self._age % LOOK_EVERY:
            return self._last
        corners, numbers, _ = self._detector.detectMarkers(grey)
        drawn, seen = [], []
        upper_left = _corners()
        square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32) * _MARKER - 0.5
        for quad, number in zip(corners, [] if numbers is None else numbers.ravel(), strict=True):
            if 0 <= number < 4:
                drawn.append(upper_left[int(number)] + square)
                seen.append(quad.reshape(4, 2))
        if len(seen) >= 3:
            found, _ = cv2.findHomography(np.concatenate(seen), np.concatenate(drawn))
            if found is not None and np.isfinite(found).all():
                self._last = np.asarray(found, np.float64)
        return self._last


def _number(flat: np.ndarray[Any, np.dtype[np.float64]]) -> int | None:
    """Of the code's picture as it was drawn, (H, W) in any light."""
    quarter = _UNIT // 4
    means = np.array([
        [flat[y - quarter : y + quarter, x - quarter : x + quarter].mean() for x, y in pair] for pair in _centres()
    ])  # fmt: skip
    difference = means[:, 0] - means[:, 1]
    contrast = float(np.abs(difference).max())
    if contrast < 8.0:  # levels: a black screen, or no code at all
        return None
    unsure = np.flatnonzero(np.abs(difference) < _LEAST_CONTRAST * contrast)
    if len(unsure) > 2:  # more than one step's data and check bit
        return None
    bits = (difference > 0).astype(int)
    # An unsure cell is one that just changes: either value is right to within a step, but a step's two go together.
    for guess in range(1 << len(unsure)):
        trial = bits.copy()
        for k, cell in enumerate(unsure):
            trial[cell] = (guess >> k) & 1
        gray = int(sum(int(bit) << k for k, bit in enumerate(trial[:BITS])))
        if [int(sum(trial[k:BITS:_CHECK]) % 2) for k in range(_CHECK)] == trial[BITS:].tolist():
            return _from_gray(gray)
    return None


def _from_gray(gray: int) -> int:
    number = 0
    while gray:
        number ^= gray
        gray >>= 1
    return number
