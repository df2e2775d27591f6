"""The numba loops of the live path: bare loops over plain arrays that fill a ``dst``.

Nothing is compiled at import. The first call compiles (0.3-3 s each, then cached on disk): call :func:`warm_up`
before the first frame and say so to the user. Every kernel is serial and releases the GIL.

Arrays must be C-contiguous. Pictures are BGR uint8 unless a name says otherwise, pixel centres are at integers, and an
affine is a (2, 3) float64 that takes (x, y, 1) to (x, y). numba does no bounds checks, so each loop proves its own
addresses. The crop is in ``crop.py``, the paste in ``paste.py``, the outputs' formats are in ``planes.py``; the loop
bodies that LLVM does not vectorise by itself are in ``vector_ir.py``.
"""

from __future__ import annotations

import time

import numpy as np

from engines.jit import kernel
from engines.types import F32, U8
from realtime.calm import warm_up_calm
from realtime.cover import extend_colours
from realtime.crop import FaceCropper, crop_face, crop_taps, warp_crop
from realtime.mark import warm_up_mark
from realtime.paste import I64, MAX_COEFFICIENT, PasteBuffers, paste

__all__ = [
    "I64",
    "MAX_COEFFICIENT",
    "FaceCropper",
    "PasteBuffers",
    "bgr_to_planar",
    "blend_plate",
    "count_above",
    "crop_face",
    "crop_taps",
    "masked_sums",
    "paste",
    "planar_to_bgr",
    "warm_up",
    "warm_up_paste",
    "warm_up_rest",
    "warp_crop",
]


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
def _levels(values: F32, dst: U8) -> int:
    """0..1 -> 0..255, rounded and clipped; NaN and infinities -> 0. Returns how many those were."""
    faults = 0
    for i in range(values.shape[0]):
        value = values[i]
        # inf - inf and NaN - NaN are NaN.
        finite = value - value == np.float32(0.0)
        scaled = value * np.float32(255.0) + np.float32(0.5) if finite else np.float32(0.0)
        dst[i] = np.uint8(np.int32(min(max(scaled, np.float32(0.0)), np.float32(255.0))))
        faults += int(not finite)
    return faults


@kernel
def planar_to_bgr(face: F32, mask: F32, dst: U8, dst_mask: U8) -> int:
    """``face`` (1, 3, T, T) RGB and ``mask`` (1, 1, T, T), 0..1 -> ``dst`` (T, T, 3) BGR, ``dst_mask`` (T, T), uint8.

    Values outside 0..1 are clipped. Returns how many numbers were NaN or infinite. They become 0, and a mask of 0 keeps
    the wearer's face: a caller that gets anything but 0 back must treat the frame as a fault.
    """
    faults = 0
    width = dst.shape[1]
    rows = np.empty((3, width), np.uint8)
    for j in range(dst.shape[0]):
        for c in range(3):
            faults += _levels(face[0, 2 - c, j], rows[c])
        row = dst[j].reshape(-1)
        for i in range(width):
            row[3 * i], row[3 * i + 1], row[3 * i + 2] = rows[0, i], rows[1, i], rows[2, i]
        faults += _levels(mask[0, 0, j], dst_mask[j])
    return faults


# ---- colour and label ------------------------------------------------------------------------------------------------


@kernel
def masked_sums(first: U8, second: U8, mask: U8, dst: I64) -> int:
    """Sums and sums of squares of two pictures (T, T, 3) where ``mask`` (T, T) is above 127. Integers, so exact.

    ``dst`` (2, 2, 3): picture, power (1, 2), channel. Returns how many pixels were summed.
    """
    for k in range(12):
        dst[k // 6, k // 3 % 2, k % 3] = 0
    count = 0
    for j in range(mask.shape[0]):
        # A row's sums fit into 32 bits up to T = 33,000, and 32 bits vectorise.
        row_a, row_b, chosen = first[j].reshape(-1), second[j].reshape(-1), mask[j]
        for c in range(3):
            a1 = a2 = b1 = b2 = np.int32(0)
            for i in range(chosen.shape[0]):
                inside = np.int32(chosen[i] >> np.uint8(7))
                a, b = np.int32(row_a[3 * i + c]) * inside, np.int32(row_b[3 * i + c]) * inside
                a1 += a
                a2 += a * a
                b1 += b
                b2 += b * b
            dst[0, 0, c] += a1
            dst[0, 1, c] += a2
            dst[1, 0, c] += b1
            dst[1, 1, c] += b2
        for i in range(chosen.shape[0]):
            count += int(chosen[i] >> np.uint8(7))
    return count


@kernel
def count_above(mask: U8, places: I64, level: int) -> int:
    """How many of the ``places`` (N,), flat indices into ``mask`` (T, T), are above ``level``."""
    flat = mask.reshape(-1)
    count = 0
    for place in places:
        count += int(flat[place] > level)
    return count


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


def warm_up() -> float:
    """Compile (or load from the cache) every kernel for the types of the live path. Returns the seconds it took."""
    started = time.perf_counter()
    warm_up_paste()
    warm_up_rest()
    return time.perf_counter() - started


def warm_up_paste() -> None:
    """One half of :func:`warm_up`, by the time that it takes."""
    picture, mask = np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 255, np.uint8)
    identity = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    paste(picture, picture.copy(), mask, identity, np.ones(3), np.zeros(3), PasteBuffers(4), (0, 0, 4, 4))
    extend_colours(picture, mask, mask, 1, np.zeros((4, 4), np.int32), picture.copy())


def warm_up_rest() -> None:
    """The other half."""
    picture, mask = np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 255, np.uint8)
    identity = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    planar = np.zeros((1, 3, 4, 4), np.float32)
    blend_plate(picture, picture.copy(), mask, 0, 0)
    published = np.zeros((40, 40, 3), np.uint8)
    for scale in (1.0, 4.0):
        crop_face(published, scale * identity, picture)
        published.setflags(write=False)  # numba compiles anew for a read-only frame; better now than at the first one
        crop_face(published, scale * identity, picture)
        published.setflags(write=True)
    bgr_to_planar(picture, planar)
    planar_to_bgr(planar, np.zeros((1, 1, 4, 4), np.float32), picture, mask)
    masked_sums(picture, picture, mask, np.zeros((2, 2, 3), np.int64))
    count_above(mask, np.zeros(1, np.int64), 127)
    warm_up_calm()
    warm_up_mark()
