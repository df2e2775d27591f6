"""The numba loops of the live path: bare loops over plain arrays that fill a ``dst``.

Nothing is compiled at import. The first call compiles (0.3-2 s each, then cached on disk): call :func:`warm_up`
before the first frame and say so to the user. Every kernel is serial and releases the GIL.

Arrays must be C-contiguous. Pictures are BGR uint8 unless a name says otherwise, pixel centres are at integers, and an
affine is a (2, 3) float64 that takes (x, y, 1) to (x, y). numba does no bounds checks, so each loop proves its own
addresses: the spans of :func:`paste_table` are solved in the very integers that the loop steps, the taps of
:func:`crop_face` are clamped.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from engines.errors import DetectorError
from engines.jit import kernel
from engines.types import F32, F64, U8

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

FRACTION_BITS = 32
"""Fixed-point stepping of :func:`paste_table`: 32 bits behind the point leave no visible drift over a 16k row."""
ONE = 1 << FRACTION_BITS
HALF_WEIGHT = 1 << (FRACTION_BITS - 9)
"""Half a step of the 8-bit bilinear weight, added so that weights are rounded and not cut off."""
MAX_COEFFICIENT = float(1 << 20)
"""An affine with a larger entry (or NaN) is no face. It also keeps every fixed-point product inside int64."""
LANES = 0x00FF00FF00FF00FF
ROUND = 0x0080008000800080
COLOUR_LANES = 0x0000FFFFFFFFFFFF
MAX_TAPS = 4
"""Samples along one side of a crop pixel; up to two frame pixels apart, bilinear taps still miss no pixel."""


# ---- the swap into the frame -----------------------------------------------------------------------------------------


@kernel
def pack(swap: U8, mask: U8, gain: F64, offset: F64, table: U64) -> None:
    """Swap and mask into one 64-bit word per pixel, colour corrected, with a ring around.

    ``swap`` (T, T, 3), ``mask`` (T, T), ``gain`` and ``offset`` (3,) in levels (value * gain + offset, clipped to
    0..255), ``table`` (T + 2, T + 2): 16-bit lanes B, G, R, mask from the low end. The ring repeats the outermost
    colour with mask 0: the swap fades out over one of its pixels instead of ending in a step. Done at T x T, so that
    colour correction costs nothing per frame pixel and one multiplication interpolates all four channels.
    """
    side = mask.shape[0]
    g0, g1, g2 = np.int64(gain[0] * 65536.0), np.int64(gain[1] * 65536.0), np.int64(gain[2] * 65536.0)
    o0, o1, o2 = (
        np.int64(offset[0] * 65536.0 + 32768.0),
        np.int64(offset[1] * 65536.0 + 32768.0),
        np.int64(offset[2] * 65536.0 + 32768.0),
    )
    for j in range(side + 2):
        source = min(max(j - 1, 0), side - 1)
        in_ring = j == 0 or j == side + 1
        for i in range(side):
            b = min(max((swap[source, i, 0] * g0 + o0) >> 16, 0), 255)
            g = min(max((swap[source, i, 1] * g1 + o1) >> 16, 0), 255)
            r = min(max((swap[source, i, 2] * g2 + o2) >> 16, 0), 255)
            m = 0 if in_ring else np.int64(mask[source, i])
            table[j, i + 1] = np.uint64(b | (g << 16) | (r << 32) | (m << 48))
        table[j, 0] = table[j, 1] & np.uint64(COLOUR_LANES)
        table[j, side + 1] = table[j, side] & np.uint64(COLOUR_LANES)


@kernel
def _span(start: int, step: int, limit: int, count: int) -> tuple[int, int]:
    """The i of range(count) with 0 <= start + i * step < limit, as (first, last + 1). Exact integers."""
    if step < 0:
        start, step = limit - 1 - start, -step
    if step == 0:
        return (0, count) if 0 <= start < limit else (0, 0)
    first = max(-(start // step), 0)
    last = min(-((start - limit) // step), count)
    return first, max(first, last)


@kernel
def _sample_row(flat: U64, side: int, u: int, v: int, step_u: int, step_v: int, colour: U8, alpha: U8) -> int:
    """Bilinear samples of a packed table along a line: B, G, R into ``colour`` (3 n,), the mask thrice into ``alpha``.

    Positions are table pixels in fixed point. Returns how many samples have a mask above 0.
    """
    row_step = np.uint64(side)
    lanes, rounding, full = np.uint64(LANES), np.uint64(ROUND), np.uint64(256)
    eight, byte, one = np.uint64(8), np.uint64(255), np.uint64(1)
    touched = 0
    k = np.uint64(0)
    for _ in range(colour.shape[0] // 3):
        # The upper 8 bits of the fraction are the weights; unsigned indices spare numba's test for negative ones.
        fu, fv = np.uint64(u >> 24) & byte, np.uint64(v >> 24) & byte
        at = np.uint64(v >> 32) * row_step + np.uint64(u >> 32)
        below = at + row_step
        top = ((flat[at] * (full - fu) + flat[at + one] * fu + rounding) >> eight) & lanes
        low = ((flat[below] * (full - fu) + flat[below + one] * fu + rounding) >> eight) & lanes
        pixel = (top * (full - fv) + low * fv + rounding) >> eight
        colour[k] = np.uint8(pixel)
        colour[k + np.uint64(1)] = np.uint8(pixel >> np.uint64(16))
        colour[k + np.uint64(2)] = np.uint8(pixel >> np.uint64(32))
        mask = np.uint8(pixel >> np.uint64(48))
        alpha[k] = alpha[k + np.uint64(1)] = alpha[k + np.uint64(2)] = mask
        touched += mask != 0
        k += np.uint64(3)
        u += step_u
        v += step_v
    return touched


@kernel
def _blend_row(dst: U8, colour: U8, alpha: U8) -> None:
    """(dst * (255 - alpha) + colour * alpha) / 255 into ``dst``, rounded exactly; LLVM vectorises it."""
    for i in range(dst.shape[0]):
        a = np.uint16(alpha[i])
        mixed = np.uint16(np.uint16(dst[i]) * np.uint16(np.uint16(255) - a) + np.uint16(colour[i]) * a + np.uint16(128))
        dst[i] = np.uint8(np.uint16(mixed + (mixed >> np.uint16(8))) >> np.uint16(8))


@kernel
def paste_table(dst: U8, table: U64, frame_to_swap: F64, x0: int, y0: int, x1: int, y1: int) -> int:
    """Sample a packed swap through an affine and blend it into ``dst`` in place: one pass, through a buffer of one row.

    ``dst`` (H, W, 3), ``table`` of :func:`pack`, ``frame_to_swap`` takes frame pixels to swap pixels. Only pixels of
    x0 <= x < x1, y0 <= y < y1 that lie in the frame and less than one swap pixel outside the swap's square are written.
    Bilinear with 8-bit weights; blended with the exact rounded division by 255. Returns how many pixels got a mask
    above 0, or -1 when the affine holds NaN or an absurd value (nothing is written then).
    """
    height, width = dst.shape[0], dst.shape[1]
    for k in range(6):
        # Written so that NaN fails it too.
        if not abs(frame_to_swap[k // 3, k % 3]) < MAX_COEFFICIENT:
            return -1
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    count = max(x1 - x0, 0)
    side = table.shape[1]
    flat = table.reshape(-1)
    colour, alpha = np.empty(3 * count, np.uint8), np.empty(3 * count, np.uint8)
    # A position needs its right and lower neighbour in the table: 0 <= position < side - 1.
    limit = (side - 1) * ONE
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
        first_u, last_u = _span(u, step_u, limit, count)
        first_v, last_v = _span(v, step_v, limit, count)
        first, last = max(first_u, first_v), min(last_u, last_v)
        if first >= last:
            continue
        samples = 3 * (last - first)
        touched += _sample_row(
            flat, side, u + first * step_u, v + first * step_v, step_u, step_v, colour[:samples], alpha[:samples]
        )
        row = dst[y].reshape(-1)[3 * (x0 + first) : 3 * (x0 + last)]
        _blend_row(row, colour[:samples], alpha[:samples])
    return touched


@kernel
def paste(
    dst: U8,
    swap: U8,
    mask: U8,
    frame_to_swap: F64,
    gain: F64,
    offset: F64,
    table: U64,
    x0: int,
    y0: int,
    x1: int,
    y1: int,
) -> int:
    """:func:`pack` into ``table`` (T + 2, T + 2), then :func:`paste_table`."""
    pack(swap, mask, gain, offset, table)
    return paste_table(dst, table, frame_to_swap, x0, y0, x1, y1)


@kernel
def blend_plate(dst: U8, plate: U8, alpha: U8, x0: int, y0: int) -> None:
    """Blend a small picture into ``dst`` (H, W, 3) with its upper left pixel at (x0, y0); what hangs over is cut off.

    ``plate`` (h, w, 3), ``alpha`` (h, w): 0 keeps the frame, 255 takes the plate.
    """
    for j in range(max(0, -y0), min(alpha.shape[0], dst.shape[0] - y0)):
        for i in range(max(0, -x0), min(alpha.shape[1], dst.shape[1] - x0)):
            a = np.uint32(alpha[j, i])
            for c in range(3):
                mixed = np.uint32(
                    np.uint32(dst[y0 + j, x0 + i, c]) * (np.uint32(255) - a)
                    + np.uint32(plate[j, i, c]) * a
                    + np.uint32(128)
                )
                dst[y0 + j, x0 + i, c] = np.uint8((mixed + (mixed >> np.uint32(8))) >> np.uint32(8))


# ---- the face out of the frame ---------------------------------------------------------------------------------------


@kernel
def warp_crop(frame: U8, to_frame: F64, taps: int, dst: U8) -> None:
    """The loop of :func:`crop_face`, ``taps`` x ``taps`` samples per crop pixel; 16 bits behind the point."""
    height, width = frame.shape[0], frame.shape[1]
    side = dst.shape[0]
    last_u, last_v = (width - 1) << 16, (height - 1) << 16
    du, dv = np.int64(np.rint(to_frame[0, 0] * 65536.0)), np.int64(np.rint(to_frame[1, 0] * 65536.0))
    count = taps * taps
    shift_u, shift_v = np.empty(count, np.int64), np.empty(count, np.int64)
    for k in range(count):
        # Where tap k of a crop pixel lies, in crop pixels from its centre; then the same in the frame.
        x, y = (k % taps + 0.5) / taps - 0.5, (k // taps + 0.5) / taps - 0.5
        shift_u[k] = np.int64(np.rint((to_frame[0, 0] * x + to_frame[0, 1] * y) * 65536.0)) + 128
        shift_v[k] = np.int64(np.rint((to_frame[1, 0] * x + to_frame[1, 1] * y) * 65536.0)) + 128
    scale = np.float32(1.0 / (65536.0 * count))
    half = np.float32(0.5)
    for j in range(side):
        u = np.int64(np.rint((to_frame[0, 1] * j + to_frame[0, 2]) * 65536.0))
        v = np.int64(np.rint((to_frame[1, 1] * j + to_frame[1, 2]) * 65536.0))
        for i in range(side):
            b = g = r = 0
            for k in range(count):
                tap_u = min(max(u + shift_u[k], 0), last_u)
                tap_v = min(max(v + shift_v[k], 0), last_v)
                left, top = np.uint64(tap_u >> 16), np.uint64(tap_v >> 16)
                right, low = np.uint64(min((tap_u >> 16) + 1, width - 1)), np.uint64(min((tap_v >> 16) + 1, height - 1))
                fu, fv = (tap_u >> 8) & 255, (tap_v >> 8) & 255
                w00, w01 = (256 - fu) * (256 - fv), fu * (256 - fv)
                w10, w11 = (256 - fu) * fv, fu * fv
                b += frame[top, left, 0] * w00 + frame[top, right, 0] * w01
                b += frame[low, left, 0] * w10 + frame[low, right, 0] * w11
                g += frame[top, left, 1] * w00 + frame[top, right, 1] * w01
                g += frame[low, left, 1] * w10 + frame[low, right, 1] * w11
                r += frame[top, left, 2] * w00 + frame[top, right, 2] * w01
                r += frame[low, left, 2] * w10 + frame[low, right, 2] * w11
            dst[j, i, 0] = np.uint8(np.float32(b) * scale + half)
            dst[j, i, 1] = np.uint8(np.float32(g) * scale + half)
            dst[j, i, 2] = np.uint8(np.float32(r) * scale + half)
            u += du
            v += dv


def crop_taps(to_frame: F64) -> int:
    """Samples along one side of a crop pixel: the rounded scale (frame pixels per crop pixel), within 1..4."""
    area = abs(float(to_frame[0, 0] * to_frame[1, 1] - to_frame[0, 1] * to_frame[1, 0]))
    return int(min(max(np.floor(np.sqrt(area) + 0.5), 1.0), MAX_TAPS))


def crop_face(frame: U8, to_frame: F64, dst: U8) -> None:
    """Cut the square that ``to_frame`` describes out of ``frame`` (H, W, 3) into ``dst`` (S, S, 3).

    Bilinear; beyond the frame its border pixels repeat. A face larger than the crop is averaged over n x n samples per
    crop pixel (n = :func:`crop_taps`): one sample would alias, and the networks would see hair and skin texture
    flicker. Raises DetectorError when ``to_frame`` is not finite or absurdly large.
    """
    if not bool((np.abs(to_frame) < MAX_COEFFICIENT).all()):
        raise DetectorError("the alignment is not finite", hint="the frame is treated as one without a face")
    # Any other layout or type would make numba compile anew, a second in which no picture goes out.
    affine = np.ascontiguousarray(to_frame, np.float64)
    warp_crop(frame, affine, crop_taps(affine), dst)


# ---- the only two conversions between pictures and tensors -----------------------------------------------------------


@kernel
def bgr_to_planar(crop: U8, dst: F32) -> None:
    """(S, S, 3) BGR uint8 -> ``dst`` (1, 3, S, S) RGB float32 0..1."""
    scale = np.float32(1.0 / 255.0)
    for j in range(crop.shape[0]):
        for i in range(crop.shape[1]):
            dst[0, 0, j, i] = crop[j, i, 2] * scale
            dst[0, 1, j, i] = crop[j, i, 1] * scale
            dst[0, 2, j, i] = crop[j, i, 0] * scale


@kernel
def _level(value: np.float32) -> np.uint8:
    """0..1 -> 0..255, rounded and clipped; NaN and infinities -> 0."""
    if not np.isfinite(value):
        return np.uint8(0)
    scaled = value * np.float32(255.0) + np.float32(0.5)
    return np.uint8(min(max(scaled, np.float32(0.0)), np.float32(255.0)))


@kernel
def planar_to_bgr(face: F32, mask: F32, dst: U8, dst_mask: U8) -> int:
    """``face`` (1, 3, T, T) RGB and ``mask`` (1, 1, T, T), 0..1 -> ``dst`` (T, T, 3) BGR, ``dst_mask`` (T, T), uint8.

    Values outside 0..1 are clipped. Returns how many numbers were NaN or infinite. They become 0, and a mask of 0 keeps
    the wearer's face: a caller that gets anything but 0 back must treat the frame as a fault.
    """
    faults = 0
    for j in range(dst.shape[0]):
        for i in range(dst.shape[1]):
            for c in range(3):
                value = face[0, 2 - c, j, i]
                dst[j, i, c] = _level(value)
                faults += not np.isfinite(value)
            value = mask[0, 0, j, i]
            dst_mask[j, i] = _level(value)
            faults += not np.isfinite(value)
    return faults


# ---- colour ----------------------------------------------------------------------------------------------------------


@kernel
def masked_sums(first: U8, second: U8, mask: U8, dst: I64) -> int:
    """Sums and sums of squares of two pictures (T, T, 3) where ``mask`` (T, T) is above 127. Integers, so exact.

    ``dst`` (2, 2, 3): picture, power (1, 2), channel. Returns how many pixels were summed.
    """
    dst[:] = 0
    count = 0
    for j in range(mask.shape[0]):
        for i in range(mask.shape[1]):
            if mask[j, i] > 127:
                count += 1
                for c in range(3):
                    a, b = np.int64(first[j, i, c]), np.int64(second[j, i, c])
                    dst[0, 0, c] += a
                    dst[0, 1, c] += a * a
                    dst[1, 0, c] += b
                    dst[1, 1, c] += b * b
    return count


def warm_up() -> float:
    """Compile (or load from the cache) every kernel for the types of the live path. Returns the seconds it took."""
    started = time.perf_counter()
    picture, mask = np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 255, np.uint8)
    identity = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    planar = np.zeros((1, 3, 4, 4), np.float32)
    paste(picture, picture.copy(), mask, identity, np.ones(3), np.zeros(3), np.zeros((6, 6), np.uint64), 0, 0, 4, 4)
    blend_plate(picture, picture.copy(), mask, 0, 0)
    crop_face(picture, identity, picture.copy())
    published = picture.copy()
    published.setflags(write=False)  # numba compiles anew for a read-only frame; better now than at the first one
    crop_face(published, identity, picture)
    bgr_to_planar(picture, planar)
    planar_to_bgr(planar, np.zeros((1, 1, 4, 4), np.float32), picture, mask)
    masked_sums(picture, picture, mask, np.zeros((2, 2, 3), np.int64))
    return time.perf_counter() - started
