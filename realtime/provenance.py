"""What says that the picture was changed: the visible label.

A virtual camera cannot carry content credentials, so the disclosure is in the picture itself.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from engines.errors import SettingsError
from engines.types import U8
from realtime import kernels

LabelPosition = Literal["top-right", "top-left", "bottom-right", "bottom-left"]
PersonaKind = Literal["invented", "person"]

DEFAULT_TEXT = "AI MODIFIED"
MIN_HEIGHT_PX = 14
"""Below this the letters of the label cannot be read."""
_SUPERSAMPLE = 4
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PLATE_GREY = 24
_PLATE_ALPHA = 170
_TEXT_GREY = 245


def resolve_label(enabled: bool, kind: PersonaKind) -> bool:  # noqa: FBT001 - it resolves a boolean
    """Whether the label is drawn. Raises SettingsError when it was switched off for a persona of a real person."""
    if kind == "person" and not enabled:
        raise SettingsError(
            "the label cannot be switched off for a persona of a real person",
            hint="remove the option that disables the label, or move the label with its position option",
        )
    return enabled


class Label:
    """Light letters on a half-transparent dark plate with round corners, in one corner of the picture.

    Drawn once per picture size (OpenCV's built-in letters, 4 x 4 supersampled) and then only blended.
    """

    def __init__(
        self, text: str = DEFAULT_TEXT, position: LabelPosition = "top-right", height_fraction: float = 0.04
    ) -> None:
        """``height_fraction``: height of the plate over that of the picture.

        Raises SettingsError for what cannot be drawn.
        """
        if not text.strip() or not text.isascii() or not text.isprintable():
            raise SettingsError(
                f"the label {text!r} cannot be drawn", hint="use letters, digits and signs of ASCII, at least one"
            )
        if position not in ("top-right", "top-left", "bottom-right", "bottom-left"):
            raise SettingsError(
                f"unknown label position {position!r}", hint="use top-right, top-left, bottom-right or bottom-left"
            )
        if not 0.02 <= height_fraction <= 0.25:
            raise SettingsError(
                f"label height {height_fraction} of the picture must lie in 0.02..0.25", hint="0.04 reads well"
            )
        self.text = text
        self.position: LabelPosition = position
        self.height_fraction = height_fraction
        self._size = (0, 0)
        self._plate: U8 = np.zeros((0, 0, 3), np.uint8)
        self._alpha: U8 = np.zeros((0, 0), np.uint8)
        self._corner = (0, 0)

    def draw(self, out: U8) -> None:
        """Blend the label into ``out`` (H, W, 3) BGR uint8 in place."""
        size = (out.shape[1], out.shape[0])
        if size != self._size:
            self._lay_out(size)
        kernels.blend_plate(out, self._plate, self._alpha, self._corner[0], self._corner[1])

    def box(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1) of the plate in a picture of (width, height); nothing outside it is written."""
        if size != self._size:
            self._lay_out(size)
        x, y = self._corner
        return x, y, x + self._alpha.shape[1], y + self._alpha.shape[0]

    def _lay_out(self, size: tuple[int, int]) -> None:
        width, height = size
        plate_height = max(MIN_HEIGHT_PX, round(self.height_fraction * height))
        self._plate, self._alpha = draw_plate(self.text, plate_height)
        margin = max(1, plate_height // 3)
        room_x, room_y = max(width - 2 * margin, 1), max(height - 2 * margin, 1)
        shrink = min(room_x / self._alpha.shape[1], room_y / self._alpha.shape[0])
        if shrink < 1.0:
            # A picture too small for the label still gets all of it, as large as fits.
            fit = (max(1, int(self._alpha.shape[1] * shrink)), max(1, int(self._alpha.shape[0] * shrink)))
            self._plate = np.ascontiguousarray(cv2.resize(self._plate, fit, interpolation=cv2.INTER_AREA), np.uint8)
            self._alpha = np.ascontiguousarray(cv2.resize(self._alpha, fit, interpolation=cv2.INTER_AREA), np.uint8)
        plate_h, plate_w = self._alpha.shape
        x = margin if self.position.endswith("left") else width - margin - plate_w
        y = margin if self.position.startswith("top") else height - margin - plate_h
        self._corner = (max(x, 0), max(y, 0))
        self._size = size


def draw_plate(text: str, height: int) -> tuple[U8, U8]:
    """The label at ``height`` pixels: colours (h, w, 3) and alpha (h, w) uint8, width as the text needs.

    Drawn at four times the size and averaged, which smooths letters and corners alike.
    """
    big = height * _SUPERSAMPLE
    letter = big * 0.5
    thickness = max(1, round(big * 0.065))
    unit_height = cv2.getTextSize(text, _FONT, 1.0, 1)[0][1]
    scale = letter / unit_height
    (text_width, text_height), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    side = round(big * 0.35)
    width = -(-(text_width + 2 * side) // _SUPERSAMPLE) * _SUPERSAMPLE
    shape = np.zeros((big, width), np.uint8)
    radius = big // 4
    cv2.rectangle(shape, (radius, 0), (width - 1 - radius, big - 1), 255, -1)
    cv2.rectangle(shape, (0, radius), (width - 1, big - 1 - radius), 255, -1)
    for centre_x in (radius, width - 1 - radius):
        for centre_y in (radius, big - 1 - radius):
            cv2.circle(shape, (centre_x, centre_y), radius, 255, -1)
    letters = np.zeros((big, width), np.uint8)
    origin = ((width - text_width) // 2, (big + text_height) // 2)
    cv2.putText(letters, text, origin, _FONT, scale, 255, thickness, cv2.LINE_AA)
    # OpenCV's text height includes room that the letters do not fill: centre the ink itself.
    rows = np.flatnonzero(letters.any(axis=1))
    letters = np.roll(letters, (big - int(rows[0]) - int(rows[-1]) - 1) // 2, axis=0)
    small = (width // _SUPERSAMPLE, height)
    ink = cv2.resize(letters, small, interpolation=cv2.INTER_AREA).astype(np.float64) / 255.0
    plate_alpha = cv2.resize(shape, small, interpolation=cv2.INTER_AREA).astype(np.float64) / 255.0 * _PLATE_ALPHA
    # Letters lie over the plate: opaque where there is ink.
    alpha = plate_alpha + (255.0 - plate_alpha) * ink
    grey = _PLATE_GREY + (_TEXT_GREY - _PLATE_GREY) * (ink * 255.0 / np.maximum(alpha, 1.0))
    colour = np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    return np.ascontiguousarray(colour), np.rint(alpha).astype(np.uint8)
