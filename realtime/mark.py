"""The invisible mark into the outgoing picture: one pass over it, in place, after the swap and before the label.

All three colours change by the same few levels, so what changes is luma (ITU-R BT.601 and BT.709 alike: their weights
add up to 1) and every output has the mark, whatever format it converts to. How strongly depends on the texture of each
block of 16 x 16 pixels (``STRENGTHS``): a level is lost in hair and cloth, and would be seen on a smooth cheek. A
block's strength changes by one step in four frames at the most and only when its texture changed clearly, so nothing
flickers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.jit import kernel
from engines.mark import KEY_BYTES, tile
from engines.types import U8
from realtime.vector_ir import mark_1, mark_16

I8 = NDArray[np.int8]
STRENGTHS = (0.8, 0.9, 1.05, 1.2)
"""Standard deviations of the pattern in grey levels, by texture. The last is 46 dB: no part of a picture gets more."""
TEXTURES = (3.5, 7.0, 13.0)
"""Mean difference of green between pixels 4 apart, in the smoothest quarter of a block, from which the next strength
is used."""
BLOCK = 16
_STEP = 4
_TURNS = 4
"""Texture is looked at in every so many-th row of blocks, in turn: it changes slowly, and the look costs as much as the
mark."""
_UP, _DOWN = 1.2, 0.8
"""Hysteresis: shares of TEXTURES that must be passed to change the strength."""


def number_of(session_id: int) -> int:
    """The upper 32 bits of a session's 64: what the mark carries, beside as much error correction."""
    return session_id >> 32


class Marker:
    """Puts one session's mark into pictures. Owns its buffers; belongs to one thread."""

    def __init__(self, secret: bytes, session_id: int, size: tuple[int, int]) -> None:
        """``secret``: the key, ``size``: (width, height) of the pictures to come; others are laid out anew.

        Raises DataError for a key of another length.
        """
        self._secret, self._number = secret, number_of(session_id)
        self._size = (0, 0)
        self._tiles: I8 = np.zeros((0, 0, 0), np.int8)
        self._strength: U8 = np.zeros((0, 0), np.uint8)
        self._limits = np.array([[_UP * limit, _DOWN * limit] for limit in TEXTURES], np.float32)
        self._turn = 0
        self._lay_out(size)

    def draw(self, out: U8) -> None:
        """Add the mark to ``out`` (H, W, 3) BGR uint8 in place."""
        size = (out.shape[1], out.shape[0])
        if size != self._size:
            self._lay_out(size)
        choose_strengths(out, self._limits, self._turn, self._strength)
        self._turn = (self._turn + 1) % _TURNS
        add_pattern(out, self._tiles, self._strength)

    def _lay_out(self, size: tuple[int, int]) -> None:
        self._size = size
        pattern = tile(self._secret, self._number, size[1])
        # Wider than the tile by a block, so that one may begin anywhere in it.
        pattern = np.pad(pattern, ((0, 0), (0, BLOCK)), mode="wrap")
        self._tiles = np.stack([np.rint(np.clip(pattern * s, -127, 127)) for s in STRENGTHS]).astype(np.int8)
        self._strength = np.zeros((-(-size[1] // BLOCK), -(-size[0] // BLOCK)), np.uint8)


@kernel
def choose_strengths(pixels: U8, limits: NDArray[np.float32], turn: int, strength: U8) -> None:
    """Move each block's ``strength`` (rows, columns) of blocks one step towards what its texture allows, if at all.

    ``limits`` (levels - 1, 2): texture above which to go up, below which to go down. ``turn``: which of the _TURNS
    interleaved sets of rows of blocks is looked at.
    """
    height, width = pixels.shape[0], pixels.shape[1]
    half = BLOCK // 2
    for row in range(turn, strength.shape[0], _TURNS):
        for column in range(strength.shape[1]):
            least = np.int32(1 << 20)
            for quarter in range(4):
                top = min(row * BLOCK + half * (quarter // 2), height - half)
                left = min(column * BLOCK + half * (quarter % 2), width - half - _STEP)
                total = np.int32(0)
                if top >= 0 and left >= 0:
                    for j in (top + 1, top + 5):
                        for i in range(left, left + half):
                            total += abs(np.int32(pixels[j, i + _STEP, 1]) - np.int32(pixels[j, i, 1]))
                least = min(least, total)
            texture = np.float32(least) / np.float32(2 * half)
            now = strength[row, column]
            if now < limits.shape[0] and texture > limits[now, 0]:
                strength[row, column] = now + 1
            elif now > 0 and texture < limits[now - 1, 1]:
                strength[row, column] = now - 1


@kernel
def add_pattern(pixels: U8, tiles: I8, strength: U8) -> None:
    """Add to ``pixels`` (H, W, 3), in place, the pattern of each block's strength.

    ``tiles`` (levels, side, side + BLOCK) signed levels, repeated over the picture.
    """
    height, width = pixels.shape[0], pixels.shape[1]
    side, pitch = tiles.shape[1], tiles.shape[2]
    frame, values = pixels.reshape(-1), tiles.reshape(-1)
    plane = side * pitch
    whole = width // BLOCK
    for y in range(height):
        start, across = (y % side) * pitch, 0
        row = strength[y // BLOCK]
        at = 3 * width * y
        for block in range(whole):
            mark_16(frame, at, values, np.int64(row[block]) * plane + start + across)
            at += 3 * BLOCK
            across += BLOCK
            if across >= side:
                across -= side
        for i in range(width - whole * BLOCK):
            mark_1(frame, at + 3 * i, values, np.int64(row[whole]) * plane + start + across + i)


def warm_up_mark() -> None:
    """Compile both kernels, or load them from the cache."""
    Marker(bytes(KEY_BYTES), 0, (BLOCK, BLOCK)).draw(np.zeros((BLOCK, BLOCK, 3), np.uint8))
