"""Pictures in the formats that outputs take as they are, so that no driver library converts them once more.

YUV is in limited range (luma 16..235), its chroma the mean of the pixels that share it. Pictures are contiguous uint8.
"""

from __future__ import annotations

from enum import Enum

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import SinkError
from engines.jit import kernel
from engines.types import U8
from realtime.vector_ir import i420_2, i420_32, nv12_2, nv12_32, uyvy_2, uyvy_32

I16 = NDArray[np.int16]

COLUMNS = 32
BT601: I16 = np.array([[25, 129, 66], [112, -74, -38], [-18, -94, 112]], np.int16)
"""B, G, R weights in 256ths of luma, blue and red chroma, ITU-R BT.601: what virtual cameras take YUV to be."""
BT709: I16 = np.array([[16, 157, 47], [112, -86, -26], [-10, -102, 112]], np.int16)
"""The same of ITU-R BT.709: what recordings say of themselves."""


class PixelFormat(str, Enum):
    """How a picture's bytes lie in memory."""

    BGR = "BGR"
    RGB = "RGB"
    RGBA = "RGBA"
    I420 = "I420"
    """Luma (H, W), then blue and red chroma (H / 2, W / 2) each."""
    NV12 = "NV12"
    """Luma (H, W), then (H / 2, W / 2) pairs of blue and red chroma."""
    UYVY = "UYVY"
    """(H, W / 2) groups of blue chroma, luma, red chroma, luma."""


def fits(size: tuple[int, int], pixel_format: PixelFormat) -> bool:
    """Whether a picture of (width, height) can have the format: shared chroma needs even sides."""
    width, height = size
    if pixel_format is PixelFormat.UYVY:
        return width % 2 == 0
    return pixel_format not in (PixelFormat.I420, PixelFormat.NV12) or (width % 2 == 0 and height % 2 == 0)


def buffer_for(size: tuple[int, int], pixel_format: PixelFormat) -> U8:
    """Zeros in the shape of a picture of (width, height): (H, W, channels), planes (3 H / 2, W), UYVY (H, 2 W)."""
    width, height = size
    shapes: dict[PixelFormat, tuple[int, ...]] = {
        PixelFormat.BGR: (height, width, 3),
        PixelFormat.RGB: (height, width, 3),
        PixelFormat.RGBA: (height, width, 4),
        PixelFormat.I420: (height * 3 // 2, width),
        PixelFormat.NV12: (height * 3 // 2, width),
        PixelFormat.UYVY: (height, 2 * width),
    }
    return np.zeros(shapes[pixel_format], np.uint8)


def convert(pixels: U8, pixel_format: PixelFormat, dst: U8, matrix: I16 = BT601) -> None:
    """BGR ``pixels`` (H, W, 3) into ``dst``, a buffer of ``buffer_for``; one pass, nothing is allocated.

    ``matrix``: BT601 or BT709, for the formats of luma and chroma.

    Raises SinkError for a picture of another size or one that does not fit the format.
    """
    size = (pixels.shape[1], pixels.shape[0])
    if not fits(size, pixel_format) or dst.size != buffer_size(size, pixel_format):
        raise SinkError(
            f"a picture of {size[0]} x {size[1]} does not fit {pixel_format.value}", hint="use even sides, or BGR"
        )
    if pixel_format is PixelFormat.BGR:
        np.copyto(dst, pixels)
    elif pixel_format is PixelFormat.RGB:
        cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=dst)
    elif pixel_format is PixelFormat.RGBA:
        cv2.cvtColor(pixels, cv2.COLOR_BGR2RGBA, dst=dst)
    elif pixel_format is PixelFormat.I420:
        bgr_to_i420(pixels, matrix, dst)
    elif pixel_format is PixelFormat.NV12:
        bgr_to_nv12(pixels, matrix, dst)
    else:
        bgr_to_uyvy(pixels, matrix, dst)


def buffer_size(size: tuple[int, int], pixel_format: PixelFormat) -> int:
    """Bytes of a picture of (width, height)."""
    per_pixel = {PixelFormat.RGBA: 8, PixelFormat.I420: 3, PixelFormat.NV12: 3, PixelFormat.UYVY: 4}
    return size[0] * size[1] * per_pixel.get(pixel_format, 6) // 2


@kernel
def bgr_to_i420(pixels: U8, matrix: I16, dst: U8) -> None:
    """(H, W, 3) into (3 H / 2, W), even sides."""
    height, width = pixels.shape[0], pixels.shape[1]
    frame, out = pixels.reshape(-1), dst.reshape(-1)
    pitch, half = 3 * width, width // 2
    for j in range(0, height, 2):
        at, luma, blue = pitch * j, width * j, width * height + half * (j // 2)
        red = blue + half * (height // 2)
        whole = width // COLUMNS * COLUMNS
        for i in range(0, whole, COLUMNS):
            i420_32(frame, at + 3 * i, pitch, matrix, out, luma + i, width, blue + i // 2, red + i // 2)
        for i in range(whole, width, 2):
            i420_2(frame, at + 3 * i, pitch, matrix, out, luma + i, width, blue + i // 2, red + i // 2)


@kernel
def bgr_to_nv12(pixels: U8, matrix: I16, dst: U8) -> None:
    """(H, W, 3) into (3 H / 2, W), even sides."""
    height, width = pixels.shape[0], pixels.shape[1]
    frame, out = pixels.reshape(-1), dst.reshape(-1)
    pitch = 3 * width
    for j in range(0, height, 2):
        at, luma, chroma = pitch * j, width * j, width * height + width * (j // 2)
        whole = width // COLUMNS * COLUMNS
        for i in range(0, whole, COLUMNS):
            nv12_32(frame, at + 3 * i, pitch, matrix, out, luma + i, width, chroma + i, 0)
        for i in range(whole, width, 2):
            nv12_2(frame, at + 3 * i, pitch, matrix, out, luma + i, width, chroma + i, 0)


@kernel
def bgr_to_uyvy(pixels: U8, matrix: I16, dst: U8) -> None:
    """(H, W, 3) into (H, 2 W), even width."""
    height, width = pixels.shape[0], pixels.shape[1]
    frame, out = pixels.reshape(-1), dst.reshape(-1)
    for j in range(height):
        at, to = 3 * width * j, 2 * width * j
        whole = width // COLUMNS * COLUMNS
        for i in range(0, whole, COLUMNS):
            uyvy_32(frame, at + 3 * i, 0, matrix, out, to + 2 * i, 0, 0, 0)
        for i in range(whole, width, 2):
            uyvy_2(frame, at + 3 * i, 0, matrix, out, to + 2 * i, 0, 0, 0)
