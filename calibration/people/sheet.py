"""Contact sheets: many invented people, or the same states on each of them, on one picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.people.anime import Style
from calibration.people.identity import Identity
from calibration.people.render import Renderer
from calibration.people.state import State

U8 = NDArray[np.uint8]
HEAD_MARGIN = 1.75
"""Side of a cell over side of the family's crop: the whole head with some of its hair."""
_WIDER = 1.6
"""Columns per row of a sheet without a second axis, about a screen's shape."""
_INK, _PAPER = (30, 30, 30), 244


def columns_for(count: int) -> int:
    """Columns of a sheet of ``count`` cells: about as wide as a screen, with as few empty cells as that allows."""
    ideal = math.sqrt(count * _WIDER)
    choices = range(max(1, math.ceil(ideal * 0.75)), max(1, math.floor(ideal * 1.3)) + 1)
    return min(count, min(choices, key=lambda columns: (-count % columns, abs(columns - ideal))))


def sheet_size(people: int, states: int, size: int) -> tuple[int, int]:
    """Width and height in pixels of the sheet that ``contact_sheet`` makes of so many people and states."""
    columns = states if states > 1 else columns_for(people)
    height, gap = size + _caption_height(size), _gap(size)
    return columns * (size + gap) + gap, -(-people * states // columns) * (height + gap) + gap


def _caption_height(size: int) -> int:
    return max(12, round(size * 0.085))


def _gap(size: int) -> int:
    return max(2, size // 64)


def contact_sheet(
    renderer: Renderer,
    people: Sequence[Identity],
    states: Sequence[State],
    *,
    size: int = 256,
    style: Style = "photo",
    hair: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> U8:
    """(H, W, 3) BGR: with one state a grid of ``people``; with several a row for each person, a column for each state.

    Cells are ``size`` pixels wide and carry the seed of who is on them. ``progress`` hears (cells done, cells in all).
    """
    cells: list[U8] = []
    for who in people:
        for state in states:
            shot = renderer.render(who, state, style=style, crop_size=size, margin=HEAD_MARGIN, hair=hair)
            cells.append(_captioned(shot.pixels, f"{who.seed}"))
            if progress:
                progress(len(cells), len(people) * len(states))
    return _grid(cells, sheet_size(len(people), len(states), size))


def _captioned(picture: U8, text: str) -> U8:
    """The picture with a line of text below."""
    size = picture.shape[1]
    height = _caption_height(size)
    line = np.full((height, size, 3), _PAPER, np.uint8)
    scale = height / 32
    (width, rise), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    at = ((size - width) // 2, (height + rise) // 2)
    cv2.putText(line, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)
    return np.concatenate([picture, line])


def _grid(cells: Sequence[U8], size: tuple[int, int]) -> U8:
    """Cells row by row on a sheet of ``size`` (width, height), a thin gap between them; the last row may be short."""
    height, width = cells[0].shape[:2]
    gap = _gap(width)
    columns = size[0] // (width + gap)
    sheet = np.full((size[1], size[0], 3), _PAPER, np.uint8)
    for i, cell in enumerate(cells):
        y, x = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        sheet[y : y + height, x : x + width] = cell
    return sheet
