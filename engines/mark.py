"""What the invisible mark looks like: a keyed pattern of luma, the same in every frame of a session.

The pattern is periodic. Its tile is as high and wide as TILE_SHARE of the picture's height, so the mark scales with the
picture, and it is made of the waves that have a whole number of periods in a tile, RADII of them: periods of 14 to 26
pixels at 720 lines. Shorter ones do not outlive a video codec (at CRF 28 a tenth of their strength is left), longer
ones drown in the shading of faces. Every wave's phase is the key's (SHAKE-256). Two in five are the **pilot**, which
tells where and how large the pattern is; the others carry the 64 bits of ``mark_code``, each bit by the sign of the
same number of waves, spread over all lengths.

It lies still in the frame and not on the face. Whoever moves, under a camera that stands or is held, moves beneath it:
summed over frames, the picture blurs and the mark stays, and the detector needs no alignment. (Spread spectrum after
Cox, Kilian, Leighton and Shamoon 1997, IEEE Trans. Image Processing 6(12).)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engines.errors import DataError
from engines.mark_code import BITS, Bits, encode, signs

TILE_SHARE = 256 / 720
"""Side of the tile over the picture's height."""
RADII = (10, 18)
"""Periods of a wave in a tile, along its own direction: from, to."""
MAX_RADIUS = RADII[1]
KEY_BYTES = 32
_DOMAIN = b"personacam mark 1\0"
_PILOTS, _OF = 2, 5
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
C128 = NDArray[np.complex128]


@dataclass(frozen=True)
class Layout:
    """The waves of one key."""

    places: I64
    """(n, 2): periods per tile along y and along x, of one half of the plane (the other is its conjugate)."""
    waves: C128
    """(n,) of modulus 1: phase at the tile's upper left."""
    bit: I64
    """(n,): which of the 64 bits a wave carries; -1: pilot."""


def check_key(secret: bytes) -> None:
    """Raises DataError unless it has KEY_BYTES bytes."""
    if len(secret) != KEY_BYTES:
        raise DataError(
            f"a mark's key has {KEY_BYTES} bytes, not {len(secret)}", hint="give the file as it was exported"
        )


@lru_cache(maxsize=64)
def layout(secret: bytes) -> Layout:
    """Waves of the key; the same on every machine. Raises DataError for a key of another length."""
    check_key(secret)
    places = _places()
    count = len(places)
    stream = hashlib.shake_256(_DOMAIN + secret).digest(16 * count)
    numbers = np.frombuffer(stream, "<u8").reshape(2, count)
    waves = np.exp(2j * np.pi * (numbers[0] / 2.0**64))
    bit = np.full(count, -1, np.int64)
    carriers = np.flatnonzero(np.arange(count) % _OF >= _PILOTS)
    carriers = carriers[: len(carriers) // BITS * BITS]
    # In order of length, 64 at a time: every bit gets one wave of each length, which one says the key.
    for start in range(0, len(carriers), BITS):
        group = carriers[start : start + BITS]
        bit[group] = np.argsort(numbers[1][group], kind="stable")
    return Layout(places, waves, bit)


def spectrum(plan: Layout, word: Bits) -> C128:
    """(n,) waves that say ``word`` (64,)."""
    sign = signs(word)
    return plan.waves * np.where(plan.bit >= 0, sign[np.maximum(plan.bit, 0)], 1.0)


def tile_side(height: int) -> int:
    """Of the tile in a picture of so many lines, in pixels."""
    return max(2 * MAX_RADIUS + 2, round(height * TILE_SHARE))


def tile(secret: bytes, number: int, height: int) -> F64:
    """(side, side) the pattern of a session for pictures of ``height`` lines: mean 0, standard deviation 1.

    ``number``: 32 bits. Raises DataError for a key of another length, ValueError for a larger number.
    """
    plan, side = layout(secret), tile_side(height)
    half = np.zeros((side, side), np.complex128)
    half[plan.places[:, 0] % side, plan.places[:, 1] % side] = spectrum(plan, encode(number))
    pattern = np.fft.ifft2(half).real
    return np.asarray(pattern / pattern.std())


@lru_cache(maxsize=1)
def _places() -> I64:
    """Waves of one half of the plane whose length is within RADII, longest waves first."""
    low, high = RADII
    found = [
        (y * y + x * x, y, x)
        for x in range(high + 1)
        for y in range(-high, high + 1)
        if low * low <= y * y + x * x <= high * high and (x > 0 or y > 0)
    ]
    return np.array([(y, x) for _, y, x in sorted(found)], np.int64)
