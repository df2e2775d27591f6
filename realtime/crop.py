"""The wearer's face out of the frame: the square that the networks see.

Arrays must be C-contiguous BGR uint8, pixel centres are at integers, and ``to_frame`` is a (2, 3) float64 that takes a
crop pixel (x, y, 1) to (x, y) of the frame.
"""

from __future__ import annotations

import math

import numpy as np

from engines.errors import DetectorError
from engines.jit import kernel
from engines.types import F64, U8
from realtime.vector_ir import crop_1, crop_16, crop_end_1, crop_end_16, halve_1, halve_16

MAX_COEFFICIENT = float(1 << 20)
"""An affine with a larger entry (or NaN) is no face."""
MAX_TAPS = 4
"""Samples along one side of a crop pixel; up to two frame pixels apart, bilinear taps still miss no pixel."""
MIN_FRAME, MAX_FRAME = (4, 2), 16383
"""(width, height) at the least, and either of them at the most: what the steps' 32-bit addresses hold."""
LANES = 16
HALVED_FROM = 3
MARGIN = 4
"""Frame pixels around a crop's square that its samples may touch when it is halved."""
FARTHEST = 1 << 30
"""16.16: positions beyond are all the same border pixel."""
FASTEST = 1 << 25
"""16.16 frame pixels per crop pixel; so many lanes of them still fit into 32 bits."""


@kernel
def _limit(value: int, most: int) -> int:
    return min(max(value, -most), most)


@kernel
def warp_crop(frame: U8, to_frame: F64, taps: int, dst: U8) -> None:
    """The loop of ``FaceCropper``, ``taps`` x ``taps`` samples per crop pixel; 16 bits behind the point."""
    height, width = frame.shape[0], frame.shape[1]
    side = dst.shape[0]
    pixels, out = frame.reshape(-1), dst.reshape(-1)
    pitch, end = 3 * width, pixels.shape[0] - 8
    last_u, last_v = (width - 1) << 16, (height - 1) << 16
    du = _limit(int(np.rint(to_frame[0, 0] * 65536.0)), FASTEST)
    dv = _limit(int(np.rint(to_frame[1, 0] * 65536.0)), FASTEST)
    count = taps * taps
    shift_u, shift_v = np.empty(count, np.int64), np.empty(count, np.int64)
    for k in range(count):
        # Where tap k of a crop pixel lies, in crop pixels from its centre; then the same in the frame.
        x, y = (k % taps + 0.5) / taps - 0.5, (k // taps + 0.5) / taps - 0.5
        # + 128: half a step of the 8-bit weight, which is cut off.
        shift_u[k] = int(np.rint((to_frame[0, 0] * x + to_frame[0, 1] * y) * 65536.0)) + 128
        shift_v[k] = int(np.rint((to_frame[1, 0] * x + to_frame[1, 1] * y) * 65536.0)) + 128
    share = (65536 + count // 2) // count
    sums = np.zeros(4 * LANES, np.uint16)
    for j in range(side):
        u = int(np.rint((to_frame[0, 1] * j + to_frame[0, 2]) * 65536.0))
        v = int(np.rint((to_frame[1, 1] * j + to_frame[1, 2]) * 65536.0))
        i = 0
        while i < side:
            at = 3 * (j * side + i)
            # A step that overhangs its row writes into the next, which is written later.
            if at + 3 * LANES <= out.shape[0]:
                for k in range(count):
                    tap_u, tap_v = _limit(u + shift_u[k], FARTHEST), _limit(v + shift_v[k], FARTHEST)
                    crop_16(pixels, pitch, last_u, last_v, end, tap_u, tap_v, du, dv, sums)
                crop_end_16(sums, share, out, at)
                u, v, i = u + LANES * du, v + LANES * dv, i + LANES
            else:
                for k in range(count):
                    tap_u, tap_v = _limit(u + shift_u[k], FARTHEST), _limit(v + shift_v[k], FARTHEST)
                    crop_1(pixels, pitch, last_u, last_v, end, tap_u, tap_v, 0, 0, sums)
                crop_end_1(sums, share, out, at)
                u, v, i = u + du, v + dv, i + 1


@kernel
def halve(frame: U8, x0: int, y0: int, dst: U8) -> None:
    """Means of 2 x 2 pixels of ``frame`` from (x0, y0) on into ``dst`` (h, w, 3), which must lie in it."""
    pixels, out = frame.reshape(-1), dst.reshape(-1)
    pitch, width = 3 * frame.shape[1], dst.shape[1]
    for j in range(dst.shape[0]):
        at, to = pitch * (y0 + 2 * j) + 3 * x0, 3 * width * j
        whole = width // LANES * LANES
        for i in range(0, whole, LANES):
            halve_16(pixels, at + 6 * i, pitch, out, to + 3 * i)
        for i in range(whole, width):
            halve_1(pixels, at + 6 * i, pitch, out, to + 3 * i)


def crop_taps(to_frame: F64) -> int:
    """Samples along one side of a crop pixel: the rounded scale (frame pixels per crop pixel), within 1..4."""
    area = abs(float(to_frame[0, 0] * to_frame[1, 1] - to_frame[0, 1] * to_frame[1, 0]))
    return int(min(max(np.floor(np.sqrt(area) + 0.5), 1.0), MAX_TAPS))


class FaceCropper:
    """Cuts faces out of frames; owns the buffer that large ones are halved into. Belongs to one thread."""

    def __init__(self) -> None:
        self._half: U8 = np.zeros(0, np.uint8)

    def __call__(self, frame: U8, to_frame: F64, dst: U8) -> None:
        """Cut the square that ``to_frame`` describes out of ``frame`` (H, W, 3) into ``dst`` (S, S, 3).

        Bilinear; beyond the frame its border pixels repeat. A face larger than the crop is averaged over n x n samples
        per crop pixel (n = :func:`crop_taps`): one sample would alias, and the networks would see hair and skin texture
        flicker. From n = 3 on the frame is halved around the face before, and half as many samples are taken, rounded
        down: a quarter of the time, and the blur has the same variance (0.9 square pixels at a scale of 3). Raises
        DetectorError when ``to_frame`` is not finite or absurdly large, and for a frame of a few pixels or of more than
        MAX_FRAME a side.
        """
        if not bool((np.abs(to_frame) < MAX_COEFFICIENT).all()):
            raise DetectorError("the alignment is not finite", hint="the frame is treated as one without a face")
        height, width = frame.shape[:2]
        if width < MIN_FRAME[0] or height < MIN_FRAME[1] or max(width, height) > MAX_FRAME:
            raise DetectorError(
                f"a frame of {width} x {height} holds no face", hint="choose another size of the camera"
            )
        # Any other layout or type would make numba compile anew, a second in which no picture goes out.
        affine = np.ascontiguousarray(to_frame, np.float64)
        taps = crop_taps(affine)
        x0, y0, x1, y1 = _reach(affine, dst.shape[0], width, height)
        half_size = (x1 - x0) // 2, (y1 - y0) // 2
        if taps < HALVED_FROM or half_size[0] < MIN_FRAME[0] or half_size[1] < MIN_FRAME[1]:
            warp_crop(frame, affine, taps, dst)
            return
        half = self._buffer(*half_size)
        halve(frame, x0, y0, half)
        # Pixel i of the half is the mean of two, half a pixel to the right of the first.
        affine = 0.5 * affine
        affine[:, 2] -= (0.5 * x0 + 0.25, 0.5 * y0 + 0.25)
        warp_crop(half, affine, taps // 2, dst)

    def _buffer(self, width: int, height: int) -> U8:
        size = 3 * width * height
        if size > len(self._half):
            self._half = np.zeros(size + size // 2, np.uint8)  # a face that comes closer asks for more in each frame
        return self._half[:size].reshape(height, width, 3)


def crop_face(frame: U8, to_frame: F64, dst: U8) -> None:
    """One face, once: see ``FaceCropper``, which keeps its buffer for the next."""
    FaceCropper()(frame, to_frame, dst)


def _reach(to_frame: F64, side: int, width: int, height: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of the frame's pixels that a crop's samples can touch when it is halved."""
    (a, b, x), (c, d, y) = to_frame.tolist()
    corners = [(u, v) for u in (-1, side) for v in (-1, side)]
    across, down = [a * u + b * v + x for u, v in corners], [c * u + d * v + y for u, v in corners]
    x0, y0 = math.floor(min(across)) - MARGIN, math.floor(min(down)) - MARGIN
    x1, y1 = math.ceil(max(across)) + MARGIN, math.ceil(max(down)) + MARGIN
    return max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
