"""Pictures from strangers: what three formats say of their size is believed by nobody."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from engines.picture import decode, size_of

PICTURE = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8), (40, 30))
FORMATS = {
    "png": (".png", []),
    "jpeg": (".jpg", []),
    "progressive": (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    "lossy webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 80]),
    "lossless webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
}


def encoded(name: str, picture: np.ndarray = PICTURE) -> bytes:
    suffix, options = FORMATS[name]
    return cv2.imencode(suffix, picture, options)[1].tobytes()


@pytest.mark.parametrize("name", FORMATS)
def test_size_and_pixels(name):
    data = encoded(name)
    assert size_of(data) == (40, 30)
    assert np.abs(decode(data).astype(int) - PICTURE).mean() < 12
    assert decode(data, cv2.IMREAD_GRAYSCALE).shape == (30, 40)
    assert decode(data, max_pixels=1200).shape == (30, 40, 3)
    with pytest.raises(ValueError, match="40 x 30"):
        decode(data, max_pixels=1199)


def test_transparent_webp():
    data = cv2.imencode(".webp", np.dstack([PICTURE, PICTURE[..., :1]]), [cv2.IMWRITE_WEBP_QUALITY, 80])[1].tobytes()
    assert data[12:16] == b"VP8X"
    assert size_of(data) == (40, 30)


@pytest.mark.parametrize("name", FORMATS)
def test_cut_off_anywhere(name):
    data = encoded(name)
    for length in (*range(0, 64, 3), len(data) // 2):
        try:
            assert decode(data[:length]).shape == (30, 40, 3)  # decoders fill up what is missing
        except ValueError:
            continue


@pytest.mark.parametrize("data", [b"", b"x", b"GIF89a", b"BM" + bytes(60), b"II*\0" + bytes(60), b"RIFF0000WEBPxxxx"])
def test_other_formats_are_refused(data):
    with pytest.raises(ValueError):
        decode(data)


def bomb(width: int, height: int) -> bytes:
    """A small PNG of that many black pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 7) // 8 + 1) * height, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_small_file_of_a_large_picture():
    assert decode(bomb(64, 64)).shape == (64, 64, 3)
    data = bomb(20_000, 5_000)
    assert len(data) < 20_000
    with pytest.raises(ValueError, match="20000 x 5000"):
        decode(data)
