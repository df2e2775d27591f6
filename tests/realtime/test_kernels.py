"""Each kernel against a slow twin that computes one pixel at a time in float64, over all small sizes."""

import numpy as np
import pytest

from realtime import kernels


@pytest.mark.parametrize("side", range(1, 10))
def test_pictures_survive_the_way_to_tensors_and_back(side):
    picture = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    tensor = np.zeros((1, 3, side, side), np.float32)
    kernels.bgr_to_planar(picture, tensor)
    np.testing.assert_allclose(tensor[0].transpose(1, 2, 0)[:, :, ::-1], picture / 255.0, atol=1e-6)
    assert tensor.max() <= 1.0
    back, mask = np.zeros_like(picture), np.zeros((side, side), np.uint8)
    assert kernels.planar_to_bgr(tensor, tensor[:, :1].copy(), back, mask) == 0
    np.testing.assert_array_equal(back, picture)
    np.testing.assert_array_equal(mask, picture[:, :, 2])


def test_tensors_are_clipped_and_what_is_not_finite_becomes_zero_and_is_counted():
    face = np.full((1, 3, 2, 2), 0.5, np.float32)
    face[0, 0, 0] = (np.nan, np.inf)
    face[0, 1, 0] = (-3.0, 7.5)
    mask = np.array([[[[np.nan, -np.inf], [2.0, -0.1]]]], np.float32)
    picture, picture_mask = np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 9, np.uint8)
    assert kernels.planar_to_bgr(face, mask, picture, picture_mask) == 4
    np.testing.assert_array_equal(picture[0], [[128, 0, 0], [128, 255, 0]])
    np.testing.assert_array_equal(picture_mask, [[0, 0], [255, 0]])


@pytest.mark.parametrize("side", range(1, 10))
def test_sums_agree_with_numpy(side):
    rng = np.random.default_rng(side)
    first, second = rng.integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    mask = rng.integers(100, 156, (side, side), dtype=np.uint8)
    sums = np.full((2, 2, 3), 77, np.int64)
    chosen = mask > 127
    assert kernels.masked_sums(first, second, mask, sums) == chosen.sum()
    for k, picture in enumerate((first, second)):
        values = picture[chosen].astype(np.int64)
        np.testing.assert_array_equal(sums[k], [values.sum(axis=0), (values**2).sum(axis=0)])


def test_a_plate_is_blended_and_cut_off_at_the_border():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    plate = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    alpha = rng.integers(0, 256, (4, 5), dtype=np.uint8)
    for x0, y0 in ((1, 1), (-2, -1), (5, 4), (-9, 0), (20, 20)):
        out = frame.copy()
        kernels.blend_plate(out, plate, alpha, x0, y0)
        wanted = frame.astype(float)
        for y in range(6):
            for x in range(7):
                if 0 <= y - y0 < 4 and 0 <= x - x0 < 5:
                    a = alpha[y - y0, x - x0] / 255.0
                    wanted[y, x] = frame[y, x] * (1 - a) + plate[y - y0, x - x0] * a
        assert np.abs(out - wanted).max() <= 0.51


def test_warm_up_says_how_long_it_took():
    assert 0.0 < kernels.warm_up() < 300.0
