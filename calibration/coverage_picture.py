"""The coverage as a picture: where the head was turned, and a bar for everything that was to be seen. No face in it."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw, ImageFont

from calibration.coverage import AXES, Axis, Coverage
from calibration.face_reading import COLUMNS
from engines.types import F64

WIDTH = 1240
_SCALE = 2
"""Drawn twice as large and shrunk: Pillow's shapes have hard edges."""
_INK, _SOFT, _PAPER, _CARD, _RAIL = "#1c2430", "#6b7685", "#f4f6f8", "#ffffff", "#e6eaef"
_FULL, _PART, _NONE, _WISH = "#1f9d6b", "#e0a526", "#d1495b", "#8fb7d9"
_PAD, _GAP, _HEAD = 28, 20, 86
_MAP_W, _MAP_H = 560, 420
_ROW, _TITLE = 25, 30
_YAW, _PITCH = 60.0, 30.0
"""Degrees that the map of turns reaches to."""
_BOUNDS_YAW, _BOUNDS_PITCH = (-35, -14, 14, 35), (-8, 8)
"""As the bins of ``turn`` and ``nod`` have them."""


class _Pen:
    """Pillow's drawing in unscaled pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.picture = Image.new("RGB", (width * _SCALE, height * _SCALE), _PAPER)
        self._draw = ImageDraw.Draw(self.picture)

    def text(self, x: float, y: float, text: str, size: int = 15, fill: str = _INK, anchor: str = "lm") -> None:
        font = ImageFont.load_default(size * _SCALE)
        self._draw.text((x * _SCALE, y * _SCALE), text, fill=fill, font=font, anchor=anchor)

    def width_of(self, text: str, size: int) -> float:
        return ImageFont.load_default(size * _SCALE).getlength(text) / _SCALE

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: str, radius: float = 0) -> None:
        if x1 > x0 and y1 > y0:
            corners = [v * _SCALE for v in (x0, y0, x1, y1)]
            self._draw.rounded_rectangle(corners, min(radius, (x1 - x0) / 2) * _SCALE, fill=fill)

    def line(self, x0: float, y0: float, x1: float, y1: float, fill: str) -> None:
        self._draw.line([v * _SCALE for v in (x0, y0, x1, y1)], fill=fill, width=_SCALE)

    def dot(self, x: float, y: float, radius: float, fill: str) -> None:
        self._draw.ellipse([v * _SCALE for v in (x - radius, y - radius, x + radius, y + radius)], fill=fill)

    def png(self) -> bytes:
        size = self.picture.width // _SCALE, self.picture.height // _SCALE
        out = io.BytesIO()
        self.picture.resize(size, Image.Resampling.LANCZOS).save(out, "PNG", optimize=True)
        return out.getvalue()


def draw_map(coverage: Coverage, rows: F64, name: str) -> bytes:
    """PNG of the coverage of (N, 14) ``rows``, 1240 pixels wide."""
    left, right = _columns()
    below = _HEAD + _MAP_H + _GAP
    height = max(below + _cards_height(left), _HEAD + _cards_height(right)) + _PAD + 14
    pen = _Pen(WIDTH, height)
    pen.text(_PAD, 36, f"{name}: what the footage shows", 26)
    text = f"{coverage.total} faces of {coverage.frames} wanted,  {coverage.share:.0%} of what is required"
    pen.text(_PAD, 66, text, 15, _SOFT)
    _legend(pen, WIDTH - _PAD, 36)
    _turns(pen, _PAD, _HEAD, coverage, rows)
    filled = iter(zip(coverage.filled().tolist(), coverage.counts.tolist(), coverage.wanted.tolist(), strict=True))
    figures = {(axis.name, b.name): next(filled) for axis in AXES for b in axis.bins}
    _cards(pen, _PAD, below, _MAP_W, left, figures)
    x = _PAD + _MAP_W + _GAP
    _cards(pen, x, _HEAD, WIDTH - _PAD - x, right, figures)
    return pen.png()


def _columns() -> tuple[list[Axis], list[Axis]]:
    """Axes under the map, and those beside it: about equally high."""
    by_name = {axis.name: axis for axis in AXES}
    below = ["turn", "nod", "tilt"]
    return [by_name[n] for n in below], [axis for axis in AXES if axis.name not in below]


def _cards_height(axes: list[Axis]) -> int:
    return sum(_TITLE + _ROW * len(axis.bins) + 10 for axis in axes) + 16


def _legend(pen: _Pen, right: float, y: float) -> None:
    for text, colour in (("wished for", _WISH), ("missing", _NONE), ("some", _PART), ("enough", _FULL)):
        pen.text(right, y, text, 14, _SOFT, "rm")
        right -= pen.width_of(text, 14) + 12
        pen.dot(right, y, 6, colour)
        right -= 20


def _turns(pen: _Pen, x: float, y: float, coverage: Coverage, rows: F64) -> None:
    """Every face as a dot at its turn and nod, over the bins' borders."""
    pen.box(x, y, x + _MAP_W, y + _MAP_H, _CARD, 10)
    pen.text(x + 16, y + 22, "where the head was turned", 16)
    pen.text(x + _MAP_W - 20, y + 22, "left and right are the person's own", 13, _SOFT, "rm")
    x0, y0, x1, y1 = x + 58, y + 44, x + _MAP_W - 20, y + _MAP_H - 44
    pen.box(x0, y0, x1, y1, _PAPER)

    def at(yaw: float, pitch: float) -> tuple[float, float]:
        u = min(max(yaw / _YAW, -1.0), 1.0) * 0.97
        v = min(max(pitch / _PITCH, -1.0), 1.0) * 0.97
        return (x0 + x1) / 2 + u * (x1 - x0) / 2, (y0 + y1) / 2 - v * (y1 - y0) / 2

    for yaw in _BOUNDS_YAW:
        pen.line(at(yaw, 0)[0], y0, at(yaw, 0)[0], y1, _RAIL)
    for pitch in _BOUNDS_PITCH:
        pen.line(x0, at(0, pitch)[1], x1, at(0, pitch)[1], _RAIL)
    for yaw, text in ((-47, "far right"), (-24, "right"), (0, "ahead"), (24, "left"), (47, "far left")):
        pen.text(at(yaw, 0)[0], y1 + 18, text, 14, _SOFT, "mm")
    for pitch, text in ((19, "up"), (0, "level"), (-19, "down")):
        pen.text(x0 - 10, at(0, pitch)[1], text, 14, _SOFT, "rm")
    yaws, pitches = rows[:, COLUMNS.index("yaw")], rows[:, COLUMNS.index("pitch")] - coverage.neutral["pitch"]
    for yaw, pitch in zip(yaws.tolist(), pitches.tolist(), strict=True):
        pen.dot(*at(yaw, pitch), 4.5, _CARD)
    for yaw, pitch in zip(yaws.tolist(), pitches.tolist(), strict=True):
        pen.dot(*at(yaw, pitch), 3.4, _FULL)


def _cards(
    pen: _Pen, x: float, y: float, width: float, axes: list[Axis],
    figures: dict[tuple[str, str], tuple[float, int, int]],
) -> None:  # fmt: skip
    """A bar for each bin."""
    pen.box(x, y, x + width, y + _cards_height(axes), _CARD, 10)
    y += 10
    for axis in axes:
        pen.text(x + 16, y + 18, axis.name, 16)
        y += _TITLE
        for one in axis.bins:
            filled, has, wants = figures[axis.name, one.name]
            middle, x0, x1 = y + _ROW / 2, x + 150, x + width - 78
            pen.text(x + 28, middle, one.name, 14, _INK if one.required else _SOFT)
            pen.box(x0, middle - 6, x1, middle + 6, _RAIL, 6)
            colour = _FULL if filled >= 1 else _PART if filled >= 1 / 3 else _NONE
            if not one.required and filled < 1:
                colour = _WISH
            pen.box(x0, middle - 6, x0 + max(filled, 0.025) * (x1 - x0), middle + 6, colour, 6)
            pen.text(x + width - 16, middle, f"{has} / {wants}", 14, _SOFT, "rm")
            y += _ROW
        y += 10
