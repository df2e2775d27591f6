"""Motion JPEG in files by OpenCV's decoder (libjpeg-turbo), as a camera's pictures are decoded: half the processor time
of FFmpeg's decoder and its exact conversion to BGR, and no threads. Whatever is unusual stays with FFmpeg.
"""

from __future__ import annotations

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace

from engines.picture import decode
from engines.types import U8

ALIKE = 2.0
"""Levels. The two decoders differ by 0.6 on the mean, in how they enlarge chroma; another colour matrix makes 5."""
_PADDING = 64
"""Bytes that a container may put behind a picture."""


def picture_of(data: bytes, size: tuple[int, int]) -> U8 | None:
    """(H, W, 3) BGR of a packet that is one whole JPEG picture of ``size`` (width, height); None for any other."""
    if not data.startswith(b"\xff\xd8") or b"\xff\xd9" not in data[-_PADDING:]:
        return None
    try:
        pixels = decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, max_pixels=size[0] * size[1])
    except ValueError:
        return None
    return pixels if pixels.shape == (size[1], size[0], 3) else None


def is_plain(picture: VideoFrame) -> bool:
    """Whether a decoded picture has the range and the colours of JFIF files, which other decoders take for granted."""
    return picture.color_range == ColorRange.JPEG and picture.colorspace == Colorspace.ITU601


def alike(first: U8, second: U8 | None) -> bool:
    """Whether two decoders read the same from a packet: size, turn, range and colours."""
    if second is None or first.shape != second.shape:
        return False
    return float(np.abs(first.astype(np.int16) - second).mean()) < ALIKE
