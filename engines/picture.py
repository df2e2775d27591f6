"""Pictures from files, which may come from a stranger: three formats, and no larger than is said before decoding.

A PNG of a few kilobytes can decode to gigabytes of zeros, so the size is read from the header first.
"""

from __future__ import annotations

import struct

import cv2
import numpy as np

from engines.types import U8

MAX_PIXELS = 64 << 20
"""Of one picture: 8192 x 8192, in colour 200 MB."""
MAX_FILE_BYTES = 256 << 20

_FRAME_HEADERS = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
"""JPEG's SOF markers (ITU-T T.81, table B.1)."""


def decode(data: bytes | U8, flag: int = cv2.IMREAD_COLOR, *, max_pixels: int = MAX_PIXELS) -> U8:
    """The pixels of a PNG, JPEG or WebP: (H, W, 3) BGR uint8, or (H, W) with cv2.IMREAD_GRAYSCALE.

    Raises ValueError for anything else, for a damaged picture, and for one of more than ``max_pixels``.
    """
    blob = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
    if blob.nbytes > MAX_FILE_BYTES:
        raise ValueError(f"a picture file of {blob.nbytes} bytes; at most {MAX_FILE_BYTES} are read")
    width, height = size_of(blob.tobytes())
    if width < 1 or height < 1 or width * height > max_pixels:
        raise ValueError(f"a picture of {width} x {height} pixels; at most {max_pixels} are read")
    try:
        picture = cv2.imdecode(blob, flag)
    except cv2.error as error:
        raise ValueError(f"the picture cannot be decoded: {error.err or error}") from error
    if picture is None:
        raise ValueError("the picture cannot be decoded")
    return picture.astype(np.uint8, copy=False)


def size_of(data: bytes) -> tuple[int, int]:
    """(width, height) that a PNG, JPEG or WebP says of itself. Raises ValueError for anything else."""
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR":
            width, height = struct.unpack(">II", data[16:24])
            return int(width), int(height)
        if data[:2] == b"\xff\xd8":
            return _jpeg_size(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp_size(data)
    except (struct.error, IndexError) as error:
        raise ValueError("a picture that is cut off") from error
    raise ValueError("no PNG, JPEG or WebP picture")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """The largest frame of a JPEG: a decoder may take any."""
    at, size = 2, (0, 0)
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1  # what lies between segments is skipped, as decoders do
            continue
        marker = data[at + 1]
        if marker in _FRAME_HEADERS:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            size = max(size, (width, height), key=lambda s: s[0] * s[1])
        if marker in {0x00, 0x01, 0xD8, 0xFF} or 0xD0 <= marker <= 0xD7:  # no length follows
            at += 1 if marker == 0xFF else 2
        elif marker in {0xD9, 0xDA}:
            break  # the end, or the picture itself
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return size


def _webp_size(data: bytes) -> tuple[int, int]:
    """Of the first chunk (RFC 9649): lossy, lossless or extended."""
    kind, body = data[12:16], data[20:]
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", body[6:10])
        return int(width) & 0x3FFF, int(height) & 0x3FFF
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X" and len(body) >= 10:
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    raise ValueError("a WebP picture of an unknown kind")
