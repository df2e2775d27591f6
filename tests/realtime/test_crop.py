"""The crop against a slow twin that computes one pixel at a time in float64, over all small sizes."""

import math

import numpy as np
import pytest

from engines.errors import DetectorError
from realtime import crop
from tests.realtime.affines import IDENTITY, similarity


def slow_crop(frame, to_frame, side, taps):
    """Float64 twin of crop_face: the average of taps x taps clamped bilinear samples."""
    height, width = frame.shape[:2]
    out = np.zeros((side, side, 3))
    shifts = (np.arange(taps) + 0.5) / taps - 0.5
    for j in range(side):
        for i in range(side):
            for dy in shifts:
                for dx in shifts:
                    u, v = to_frame @ (i + dx, j + dy, 1.0)
                    u, v = min(max(u, 0.0), width - 1.0), min(max(v, 0.0), height - 1.0)
                    x, y = int(u), int(v)
                    x1, y1 = min(x + 1, width - 1), min(y + 1, height - 1)
                    fu, fv = u - x, v - y
                    out[j, i] += (1 - fv) * ((1 - fu) * frame[y, x] + fu * frame[y, x1])
                    out[j, i] += fv * ((1 - fu) * frame[y1, x] + fu * frame[y1, x1])
    return out / taps**2


@pytest.mark.parametrize("side", [1, 2, 5, 9, 17])
@pytest.mark.parametrize("scale", [0.4, 1.0, 1.4, 1.6, 2.4, 3.1, 9.0])
def test_crop_agrees_with_the_slow_twin(side, scale):
    for width, height in ((4, 2), (5, 7), (13, 17), (30, 20)):
        rng = np.random.default_rng((side, width, int(scale * 10)))
        frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for _ in range(3):
            x, y = rng.uniform(-1, 1, 2) * (width, height)
            to_frame = similarity(scale, rng.uniform(-180, 180), x, y)
            dst = np.zeros((side, side, 3), np.uint8)
            taps = crop.crop_taps(to_frame)
            crop.warp_crop(frame, to_frame, taps, dst)
            error = np.abs(dst - slow_crop(frame, to_frame, side, taps))
            assert error.mean() <= 0.6
            assert error.max() < 3.0


def test_crop_taps_follow_the_scale():
    scales = (0.2, 1.0, 1.49, 1.51, 2.4, 3.1, 4.4, 20.0)
    assert [crop.crop_taps(similarity(s, 33, 0, 0)) for s in scales] == [1, 1, 1, 2, 2, 3, 4, 4]


def test_crop_identity_is_a_copy_and_the_border_repeats():
    frame = np.random.default_rng(9).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    dst = np.zeros((6, 6, 3), np.uint8)
    crop.crop_face(frame, IDENTITY, dst)
    np.testing.assert_array_equal(dst, frame)
    crop.crop_face(frame, similarity(1.0, 0, 100.0, -100.0), dst)
    assert (dst == frame[0, 5]).all()


def test_a_large_face_does_not_alias():
    """A checkerboard of single pixels, three to a crop pixel, must come out as grey and not as a moire."""
    y, x = np.mgrid[0:200, 0:200]
    frame = np.repeat((((x + y) % 2) * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    averaged, sampled = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40, 3), np.uint8)
    to_frame = similarity(3.1, 5.0, 20.0, 20.0)
    crop.crop_face(frame, to_frame, averaged)
    crop.warp_crop(frame, to_frame, 1, sampled)
    assert averaged.std() < 0.4 * sampled.std()


def test_crop_reads_a_read_only_frame_and_refuses_nonsense():
    frame = np.full((4, 4, 3), 7, np.uint8)
    frame.setflags(write=False)
    dst = np.zeros((2, 2, 3), np.uint8)
    crop.crop_face(frame, IDENTITY, dst)
    assert (dst == 7).all()
    for bad in (math.nan, math.inf, 1e12):
        with pytest.raises(DetectorError):
            crop.crop_face(frame, similarity(bad, 0.0, 0.0, 0.0), dst)
    for size in ((1, 1), (3, 9), (9, 1), (20_000, 4)):
        with pytest.raises(DetectorError, match="holds no face"):
            crop.crop_face(np.zeros((size[1], size[0], 3), np.uint8), IDENTITY, dst)


def test_absurd_alignments_read_nothing_beyond_the_frame():
    """They may give any of the frame's levels, but must neither crash nor give others."""
    frame = np.full((12, 16, 3), 77, np.uint8)
    dst = np.zeros((20, 20, 3), np.uint8)
    for scale in (1e-9, 0.5, 3.0, 900.0, 1e5, 1e6):
        for x in (-1e6, -20.0, 0.0, 15.99, 1e6):
            crop.crop_face(frame, similarity(scale, 37.0, x, -x), dst)
            assert (dst == 77).all()


@pytest.mark.parametrize("size", [(37, 29), (80, 64)])
@pytest.mark.parametrize("scale", [2.6, 3.1, 5.0])
def test_a_large_face_is_the_slow_twin_of_the_halved_frame(size, scale):
    """Wherever it lies: of a halved frame as a whole, whose odd last column and row are left out."""
    rng = np.random.default_rng(size)
    frame = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    cropper, dst = crop.FaceCropper(), np.zeros((9, 9, 3), np.uint8)
    for _ in range(6):
        to_frame = similarity(scale, rng.uniform(-180, 180), *(rng.uniform(0.2, 0.8, 2) * size))
        x0, y0, x1, y1 = crop._reach(to_frame, 9, *size)
        half = frame[y0:y1, x0:x1][: (y1 - y0) // 2 * 2, : (x1 - x0) // 2 * 2].astype(float)
        half = half.reshape(len(half) // 2, 2, -1, 2, 3).mean(axis=(1, 3))
        in_half = to_frame * 0.5
        in_half[:, 2] -= (x0 / 2 + 0.25, y0 / 2 + 0.25)
        cropper(frame, to_frame, dst)
        if min(half.shape[:2]) < 4:
            continue
        error = np.abs(dst - slow_crop(half, in_half, 9, crop.crop_taps(to_frame) // 2))
        assert error.mean() < 0.8
        assert error.max() < 3.0


@pytest.mark.parametrize("scale", [2.6, 3.1, 4.0])
def test_halving_first_changes_a_picture_by_less_than_a_level(scale):
    """Against all the samples in the full frame: the golden crop of a picture as smooth as a camera's."""
    y, x = np.mgrid[0:240, 0:320]
    waves = [
        128 + 60 * np.sin(x / a + y / b) + 40 * np.sin(x / 31 - y / c) for a, b, c in ((7, 9, 8), (9, 6, 5), (8, 8, 6))
    ]
    frame = np.stack(waves, axis=2).astype(np.uint8)
    halved, full = np.zeros((48, 48, 3), np.uint8), np.zeros((48, 48, 3), np.uint8)
    to_frame = similarity(scale, 8.0, 60.0, 20.0)
    crop.crop_face(frame, to_frame, halved)
    crop.warp_crop(frame, to_frame, crop.crop_taps(to_frame), full)
    assert np.abs(halved.astype(int) - full).mean() < 1.0
