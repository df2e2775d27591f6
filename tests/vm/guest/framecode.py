"""A number and six colours in the top left corner of a picture, made to survive JPEG, 4:2:0 and H.264.

Laid out in rows of 16 pixels:

    row 0    12 cells of 16 x 16 pixels: the number's bits, lowest first, white is 1
    row 1    the same cells inverted, so that a damaged picture is not read as another number
    rows 2-3 six patches of 32 x 32 pixels, for colours
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

CELL = 16
BITS = 12
COUNT = 512
"""Numbers run from 0 up to here and begin again; 17 s at 30 pictures a second, longer than any latency."""
WIDTH, HEIGHT = BITS * CELL, 4 * CELL
PATCH = 2 * CELL
COLOURS = ((180, 70, 60), (60, 150, 80), (70, 90, 180), (190, 170, 70), (120, 120, 120), (220, 200, 190))
"""RGB of the patches, all well inside what limited-range YCbCr can say."""
BLACK, WHITE = 16, 235
U8 = NDArray[np.uint8]


def cells(number: int) -> U8:
    """(2 * CELL, WIDTH) luma of the two rows."""
    bits = (number >> np.arange(BITS)) & 1
    rows = np.where(np.stack([bits, 1 - bits]), WHITE, BLACK).astype(np.uint8)
    return rows.repeat(CELL, axis=0).repeat(CELL, axis=1)


def draw_colours(bgr: U8) -> None:
    """The patches, which are the same in every picture, into (H, W, 3) BGR."""
    for index, (red, green, blue) in enumerate(COLOURS):
        bgr[2 * CELL : 4 * CELL, index * PATCH : (index + 1) * PATCH] = (blue, green, red)


def draw_number(bgr: U8, number: int) -> None:
    """The two rows into (H, W, 3) BGR."""
    bgr[: 2 * CELL, :WIDTH] = cells(number)[:, :, None]


def read_number(luma: Any) -> int | None:
    """The number in (H, W) uint8 luma (green does as well); None when the code is damaged or not there."""
    block = np.asarray(luma[: 2 * CELL, :WIDTH]).reshape(2, CELL, BITS, CELL)
    quarter = CELL // 4
    means = block[:, quarter:-quarter, :, quarter:-quarter].mean(axis=(1, 3))
    bright = means > (BLACK + WHITE) / 2
    if (bright[0] == bright[1]).any() or (np.abs(means - (BLACK + WHITE) / 2) < 40).any():
        return None
    return int((bright[0] << np.arange(BITS)).sum())


def read_colours(rgb: Any) -> list[list[float]]:
    """Mean RGB of the middle of each patch of (H, W, 3)."""
    found = []
    for index in range(len(COLOURS)):
        middle = rgb[2 * CELL + 8 : 4 * CELL - 8, index * PATCH + 8 : (index + 1) * PATCH - 8]
        found.append([float(value) for value in middle.reshape(-1, 3).mean(axis=0)])
    return found


def colour_error(colours: list[Any], expected: Any = COLOURS) -> float:
    """The largest difference of a channel of a patch from what was sent, 0..255."""
    return float(np.abs(np.array(colours, np.float64) - np.array(expected, np.float64)).max())


def read_as_709(colours: Any = COLOURS) -> NDArray[np.float64]:
    """What BT.601 colours (N, 3) look like to somebody who takes their YCbCr for BT.709's, as OBS does on Linux."""
    rgb = np.array(colours, np.float64)
    luma = rgb @ (0.299, 0.587, 0.114)
    cb, cr = (rgb[:, 2] - luma) / 1.772, (rgb[:, 0] - luma) / 1.402
    seen = np.stack([luma + 1.5748 * cr, luma - 0.187324 * cb - 0.468124 * cr, luma + 1.8556 * cb], axis=-1)
    return seen.clip(0, 255)


def i420_to_rgb(planes: U8, width: int, height: int) -> NDArray[np.float64]:
    """(H * 3 / 2 * W,) I420 of limited range, ITU-R BT.601, as (HEIGHT, WIDTH, 3) RGB of the corner alone."""
    size = width * height
    luma = planes[:size].reshape(height, width)[:HEIGHT, :WIDTH].astype(np.float64) - 16
    blue = planes[size : size * 5 // 4].reshape(height // 2, width // 2)
    red = planes[size * 5 // 4 : size * 3 // 2].reshape(height // 2, width // 2)
    cb, cr = (
        plane[: HEIGHT // 2, : WIDTH // 2].repeat(2, 0).repeat(2, 1).astype(np.float64) - 128 for plane in (blue, red)
    )
    luma *= 255 / 219
    cb, cr = cb * (255 / 224), cr * (255 / 224)
    rgb = np.stack([luma + 1.402 * cr, luma - 0.344136 * cb - 0.714136 * cr, luma + 1.772 * cb], axis=-1)
    return rgb.clip(0, 255)


def steps(numbers: list[int]) -> list[int]:
    """Differences between successive numbers, the shorter way round: 0 repeats, 1 is the next, negative goes back."""
    half = COUNT // 2
    return [(after - before + half) % COUNT - half for before, after in pairwise(numbers)]
