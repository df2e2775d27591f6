"""The outputs' formats against the formulas of BT.601 and BT.709 in float64."""

import numpy as np
import pytest

from engines.errors import SinkError
from realtime.planes import BT601, BT709, PixelFormat, buffer_for, buffer_size, convert, fits

KR_KB = {"601": (0.299, 0.114), "709": (0.2126, 0.0722)}
"""Shares of red and blue in luma, from the two recommendations."""


def truth(pixels, standard):
    """Luma and the chromas at every pixel, limited range, not rounded."""
    kr, kb = KR_KB[standard]
    blue, green, red = (pixels[..., c] / 255.0 for c in range(3))
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    return 16 + 219 * luma, 128 + 112 * (blue - luma) / (1 - kb), 128 + 112 * (red - luma) / (1 - kr)


def pooled(values, rows):
    """The mean of the pixels that share a chroma: 2 x 2, or 2 side by side."""
    height, width = values.shape
    return values.reshape(height // rows, rows, width // 2, 2).mean(axis=(1, 3))


def taken_apart(data, pixel_format, size):
    """Luma and the chromas of a converted picture."""
    width, height = size
    if pixel_format is PixelFormat.UYVY:
        groups = data.reshape(height, width // 2, 4)
        return groups[..., 1::2].reshape(height, width), groups[..., 0], groups[..., 2]
    luma, chroma = data[:height], data[height:]
    if pixel_format is PixelFormat.NV12:
        pairs = chroma.reshape(height // 2, width // 2, 2)
        return luma, pairs[..., 0], pairs[..., 1]
    return luma, *chroma.reshape(2, height // 2, width // 2)


@pytest.mark.parametrize("size", [(2, 2), (4, 6), (30, 4), (32, 2), (34, 4), (100, 8)])
@pytest.mark.parametrize("pixel_format", [PixelFormat.I420, PixelFormat.NV12, PixelFormat.UYVY])
@pytest.mark.parametrize(("standard", "matrix"), [("601", BT601), ("709", BT709)])
def test_luma_and_chroma_are_the_formulas_rounded(size, pixel_format, standard, matrix):
    rng = np.random.default_rng(size)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    pixels[0, 0], pixels[-1, -1] = (0, 0, 0), (255, 255, 255)
    data = buffer_for(size, pixel_format)
    convert(pixels, pixel_format, data, matrix)
    luma, blue, red = truth(pixels, standard)
    rows = 1 if pixel_format is PixelFormat.UYVY else 2
    wanted = luma, pooled(blue, rows), pooled(red, rows)
    for got, value in zip(taken_apart(data, pixel_format, size), wanted, strict=True):
        # Weights of 8 bits, and a mean that is rounded before.
        assert np.abs(got - value).max() < 1.7
        assert np.abs(got - value).mean() < 0.7


@pytest.mark.parametrize("level", [0, 1, 77, 128, 254, 255])
def test_grey_has_no_colour_and_the_ends_are_16_and_235(level):
    data = buffer_for((64, 2), PixelFormat.I420)
    convert(np.full((2, 64, 3), level, np.uint8), PixelFormat.I420, data)
    assert (data[2:] == 128).all()
    assert (data[:2] == round(16 + 219 * level / 255)).all()


def test_packed_colours_change_places():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    for pixel_format, places in ((PixelFormat.BGR, [0, 1, 2]), (PixelFormat.RGB, [2, 1, 0])):
        data = buffer_for((5, 3), pixel_format)
        convert(pixels, pixel_format, data)
        np.testing.assert_array_equal(data, pixels[..., places])
    data = buffer_for((5, 3), PixelFormat.RGBA)
    convert(pixels, PixelFormat.RGBA, data)
    np.testing.assert_array_equal(data[..., :3], pixels[..., ::-1])
    assert (data[..., 3] == 255).all()


def test_odd_sides_and_other_sizes_are_refused():
    assert fits((5, 3), PixelFormat.BGR)
    assert fits((4, 3), PixelFormat.UYVY)
    for size, pixel_format in (((4, 3), PixelFormat.I420), ((5, 4), PixelFormat.NV12), ((5, 4), PixelFormat.UYVY)):
        assert not fits(size, pixel_format)
        with pytest.raises(SinkError, match="does not fit"):
            convert(np.zeros((size[1], size[0], 3), np.uint8), pixel_format, np.zeros(100, np.uint8))
    with pytest.raises(SinkError, match="does not fit"):
        convert(np.zeros((4, 4, 3), np.uint8), PixelFormat.I420, buffer_for((4, 6), PixelFormat.I420))
    for pixel_format in PixelFormat:
        assert buffer_for((6, 4), pixel_format).size == buffer_size((6, 4), pixel_format)
