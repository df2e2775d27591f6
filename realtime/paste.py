"""The swap into the frame: numba loops that fill a given picture, in place, and nothing else.

:func:`pack` once per swap, at the swap's own size, then :func:`paste_table` over the face's region of the frame. What
it costs is one pass over the pixels that the mask can reach: colour correction is done while packing, mask and colours
share one table, and a sample takes two loads of eight bytes (``vector_ir.paste_16``).

Arrays must be C-contiguous; an affine is a (2, 3) float64 that takes (x, y, 1) to (x, y). numba does no bounds checks:
rows are limited to the spans that are solved here in the very integers that the loop steps, and the steps clamp what
lies beside them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.jit import kernel
from engines.types import F64, U8
from realtime.vector_ir import paste_1, paste_16

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

FRACTION_BITS = 32
"""Fixed-point stepping of :func:`paste_table`: 32 bits behind the point leave no visible drift over a 16k row."""
ONE = 1 << FRACTION_BITS
HALF_WEIGHT = 1 << (FRACTION_BITS - 9)
"""Half a step of the 8-bit bilinear weight, added so that weights are rounded and not cut off."""
MAX_COEFFICIENT = float(1 << 20)
"""An affine with a larger entry (or NaN) is no face. It also keeps every fixed-point product inside int64."""
MAX_GAIN = 32.0
MAX_OFFSET = 8192.0
"""With MAX_GAIN: 255 * gain + offset fits into 32 bits with 16 behind the point."""
LANES = 16
BYTES = 3 * LANES
EMPTY = np.int64(1) << np.int64(30)


class PasteBuffers:
    """What :func:`paste` works in, for swaps of T x T; allocated once."""

    def __init__(self, swap_size: int) -> None:
        side = swap_size + 2
        self.table: U64 = np.zeros((side + 1, side), np.uint64)
        self.row: U32 = np.zeros(side, np.uint32)
        self.reach: I64 = np.zeros(8, np.int64)


@kernel
def pack(swap: U8, mask: U8, gain: F64, offset: F64, row: U32, table: U64, reach: I64) -> None:
    """Swap and mask into one 64-bit word per pixel, colour corrected, with a ring around.

    ``swap`` (T, T, 3), ``mask`` (T, T), ``gain`` and ``offset`` (3,) in levels (value * gain + offset, clipped to
    0..255). ``table`` (T + 3, T + 2): the bytes B B' G G' R R' A A' of a pixel and of its right neighbour, so that one
    load serves both columns of a bilinear sample. The ring repeats the outermost colour with mask 0: the swap fades out
    over one of its pixels instead of ending in a step; the last row is for clamped positions. ``row`` (T + 2,) is
    scratch. ``reach`` (8,): the eight-sided outline of what the mask can reach, in table pixels: from and to of x, y,
    x + y and x - y.
    """
    side = mask.shape[0]
    gains, offsets = np.empty(3, np.int32), np.empty(3, np.int32)
    for c in range(3):
        gains[c] = np.int32(np.rint(min(max(gain[c], -MAX_GAIN), MAX_GAIN) * 65536.0))
        offsets[c] = np.int32(np.rint(min(max(offset[c], -MAX_OFFSET), MAX_OFFSET) * 65536.0)) + 32768
    _outline(mask, reach)
    for j in range(1, side + 1):
        _pack_row(swap[j - 1].reshape(-1), mask[j - 1], gains, offsets, row[1 : side + 1])
        row[0] = row[1] & np.uint32(0xFFFFFF)
        row[side + 1] = row[side] & np.uint32(0xFFFFFF)
        _pair_row(row, table[j])
        if j in (1, side):
            for i in range(side + 2):
                row[i] &= np.uint32(0xFFFFFF)
            _pair_row(row, table[0 if j == 1 else side + 1])
            # A swap of one pixel has but one row, which serves both ends.
            if side == 1:
                _pair_row(row, table[side + 1])
    # Not as slices: numba would compile the messages of a broadcasting error with it, 3 s of a first start.
    for i in range(side + 2):
        table[side + 2, i] = table[side + 1, i]


@kernel
def _pack_row(swap: U8, mask: U8, gain: NDArray[np.int32], offset: NDArray[np.int32], row: U32) -> None:
    """B, G, R corrected, and the mask, into one 32-bit word per pixel."""
    g0, g1, g2, o0, o1, o2 = gain[0], gain[1], gain[2], offset[0], offset[1], offset[2]
    for i in range(mask.shape[0]):
        b = min(max(np.int32(np.int32(swap[3 * i]) * g0 + o0) >> np.int32(16), np.int32(0)), np.int32(255))
        g = min(max(np.int32(np.int32(swap[3 * i + 1]) * g1 + o1) >> np.int32(16), np.int32(0)), np.int32(255))
        r = min(max(np.int32(np.int32(swap[3 * i + 2]) * g2 + o2) >> np.int32(16), np.int32(0)), np.int32(255))
        colours = np.uint32(b) | (np.uint32(g) << np.uint32(8)) | (np.uint32(r) << np.uint32(16))
        row[i] = np.uint32(colours | (np.uint32(mask[i]) << np.uint32(24)))


@kernel
def _pair_row(row: U32, pairs: U64) -> None:
    """Each pixel's four bytes interleaved with its right neighbour's; the last one's with its own."""
    last = row.shape[0] - 1
    for i in range(last + 1):
        here, right = np.uint64(row[i]), np.uint64(row[min(i + 1, last)])
        # Bytes into the lower halves of 16-bit lanes.
        here = (here | (here << np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
        here = (here | (here << np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
        right = (right | (right << np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
        right = (right | (right << np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
        pairs[i] = here | (right << np.uint64(8))


@kernel
def _outline(mask: U8, reach: I64) -> None:
    """``reach`` of :func:`pack`.

    A position (u, v) of the table mixes the pixels up to one beyond it, so a mask pixel in table column i and row j is
    reached from i - 1 < u < i + 1 and j - 1 < v < j + 1.
    """
    for k in range(4):
        reach[2 * k], reach[2 * k + 1] = EMPTY, -EMPTY
    side = mask.shape[0]
    for j in range(side):
        first = 0
        while first < side and mask[j, first] == 0:
            first += 1
        if first == side:
            continue
        last = side - 1
        while mask[j, last] == 0:
            last -= 1
        # + 1: the ring shifts the table by one pixel.
        u0, u1, v = first + 1, last + 1, j + 1
        reach[0], reach[1] = min(reach[0], u0 - 1), max(reach[1], u1 + 1)
        reach[2], reach[3] = min(reach[2], v - 1), max(reach[3], v + 1)
        reach[4], reach[5] = min(reach[4], u0 + v - 2), max(reach[5], u1 + v + 2)
        reach[6], reach[7] = min(reach[6], u0 - v - 2), max(reach[7], u1 - v + 2)


@kernel
def _span(start: int, step: int, low: int, high: int, count: int) -> tuple[int, int]:
    """The i of range(count) with low <= start + i * step < high, as (first, last + 1). Exact integers."""
    start -= low
    limit = high - low
    if step < 0:
        start, step = limit - 1 - start, -step
    if step == 0:
        return (0, count) if 0 <= start < limit else (0, 0)
    first = max(-(start // step), 0)
    last = min(-((start - limit) // step), count)
    return first, max(first, last)


@kernel
def paste_table(dst: U8, table: U64, reach: I64, frame_to_swap: F64, x0: int, y0: int, x1: int, y1: int) -> int:
    """Sample a packed swap through an affine and blend it into ``dst`` in place, in one pass.

    ``dst`` (H, W, 3), ``table`` and ``reach`` of :func:`pack`, ``frame_to_swap`` takes frame pixels to swap pixels.
    Only pixels of x0 <= x < x1, y0 <= y < y1 that lie in the frame and less than one swap pixel outside the swap's
    square are changed. Bilinear with 8-bit weights; blended with the exact rounded division by 255. Returns how many
    pixels got a mask above 0, or -1 when the affine holds NaN or an absurd value (nothing is written then).
    """
    height, width = dst.shape[0], dst.shape[1]
    for k in range(6):
        # Written so that NaN fails it too.
        if not abs(frame_to_swap[k // 3, k % 3]) < MAX_COEFFICIENT:
            return -1
    if reach[0] >= reach[1]:
        return 0
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    count = max(x1 - x0, 0)
    flat = dst.reshape(-1)
    size = flat.shape[0]
    pitch = 8 * table.shape[1]
    last_u, last_v = (table.shape[1] - 1) << 16, (table.shape[0] - 2) << 16
    step_u = int(np.rint(frame_to_swap[0, 0] * ONE))
    step_v = int(np.rint(frame_to_swap[1, 0] * ONE))
    touched = 0
    for y in range(y0, y1):
        # + 1: the ring shifts the table by one pixel.
        at_u = frame_to_swap[0, 0] * x0 + frame_to_swap[0, 1] * y + frame_to_swap[0, 2] + 1.0
        at_v = frame_to_swap[1, 0] * x0 + frame_to_swap[1, 1] * y + frame_to_swap[1, 2] + 1.0
        if not (abs(at_u) < MAX_COEFFICIENT and abs(at_v) < MAX_COEFFICIENT):
            continue
        u = int(np.rint(at_u * ONE)) + HALF_WEIGHT
        v = int(np.rint(at_v * ONE)) + HALF_WEIGHT
        first, last = _span(u, step_u, reach[0] * ONE, reach[1] * ONE, count)
        for k in range(1, 4):
            start, step = (v, step_v) if k == 1 else (u + v, step_u + step_v) if k == 2 else (u - v, step_u - step_v)
            low, high = _span(start, step, reach[2 * k] * ONE, reach[2 * k + 1] * ONE, count)
            first, last = max(first, low), min(last, high)
        if first >= last:
            continue
        u += first * step_u
        v += first * step_v
        at = 3 * (y * width + x0 + first)
        wanted = last - first
        while wanted > 0:
            if at + BYTES <= size:
                touched += paste_16(table, pitch, last_u, last_v, u, v, step_u, step_v, flat, at, min(wanted, LANES))
            else:
                for i in range(min(wanted, LANES)):
                    touched += paste_1(
                        table, pitch, last_u, last_v, u + i * step_u, v + i * step_v, 0, 0, flat, at + 3 * i, 1
                    )
            u += LANES * step_u
            v += LANES * step_v
            at += BYTES
            wanted -= LANES
    return touched


def paste(
    dst: U8,
    swap: U8,
    mask: U8,
    frame_to_swap: F64,
    gain: F64,
    offset: F64,
    buffers: PasteBuffers,
    region: tuple[int, int, int, int],
) -> int:
    """:func:`pack` into ``buffers``, then :func:`paste_table` within ``region`` (x0, y0, x1, y1).

    Two calls and no kernel of its own: it would contain both once more, and a first start compile them twice.
    """
    pack(swap, mask, gain, offset, buffers.row, buffers.table, buffers.reach)
    return paste_table(dst, buffers.table, buffers.reach, frame_to_swap, *region)
