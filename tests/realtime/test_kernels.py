"""Each kernel against a slow twin that computes one pixel at a time in float64, over all small sizes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import DetectorError
from engines.geometry import invert
from realtime import kernels

IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def similarity(scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    """Crop -> frame affine; (x, y) is where crop pixel (0, 0) lands."""
    a = math.radians(degrees)
    return np.array([[scale * math.cos(a), -scale * math.sin(a), x], [scale * math.sin(a), scale * math.cos(a), y]])


def slow_paste(frame, swap, mask, frame_to_swap, gain, offset):
    """Float64 twin: zero mask and repeated colour outside the square, bilinear, gain and offset before sampling."""
    side = len(mask)
    coloured = np.clip(np.floor(swap * gain + offset + 0.5), 0, 255)
    colour = np.pad(coloured, ((1, 1), (1, 1), (0, 0)), mode="edge")
    alpha = np.pad(mask.astype(float), 1)
    out = frame.astype(float)
    for y in range(frame.shape[0]):
        for x in range(frame.shape[1]):
            u, v = frame_to_swap @ (x, y, 1.0) + 1.0
            if not (0.0 <= u < side + 1 and 0.0 <= v < side + 1):
                continue
            i, j = int(u), int(v)
            fu, fv = u - i, v - j
            weights = np.array([[(1 - fu) * (1 - fv), fu * (1 - fv)], [(1 - fu) * fv, fu * fv]])
            a = (weights * alpha[j : j + 2, i : i + 2]).sum() / 255.0
            c = (weights[:, :, None] * colour[j : j + 2, i : i + 2]).sum(axis=(0, 1))
            out[y, x] = out[y, x] * (1 - a) + c * a
    return out


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


def paste(frame, swap, mask, frame_to_swap, gain=(1.0, 1.0, 1.0), offset=(0.0, 0.0, 0.0), region=None):
    side = len(mask)
    table = np.zeros((side + 2, side + 2), np.uint64)
    out = frame.copy()
    x0, y0, x1, y1 = region or (0, 0, frame.shape[1], frame.shape[0])
    affine = np.ascontiguousarray(frame_to_swap, np.float64)
    touched = kernels.paste(out, swap, mask, affine, np.array(gain), np.array(offset), table, x0, y0, x1, y1)
    return out, touched


def pictures(seed, side, width, height):
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    swap = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    mask = rng.integers(0, 256, (side, side), dtype=np.uint8)
    return rng, frame, swap, mask


def random_affine(rng, side, width, height):
    """A similarity with its centre anywhere in the frame or half a frame beside it."""
    scale = math.exp(rng.uniform(math.log(0.4), math.log(4.0)))
    to_frame = similarity(scale, rng.uniform(-180, 180), 0.0, 0.0)
    middle = (side - 1) / 2
    to_frame[:, 2] = rng.uniform((-0.5 * width, -0.5 * height), (1.5 * width, 1.5 * height)) - to_frame[:, :2] @ (
        middle,
        middle,
    )
    return to_frame


@pytest.mark.parametrize("side", range(1, 10))
def test_paste_agrees_with_the_slow_twin_over_all_small_sizes(side):
    errors = []
    for width in range(1, 18, 2):
        for height in (1, 2, 9, 17):
            rng, frame, swap, mask = pictures((side, width, height), side, width, height)
            gain, offset = rng.uniform(0.5, 2.0, 3), rng.uniform(-60, 60, 3)
            frame_to_swap = invert(random_affine(rng, side, width, height))
            out, _ = paste(frame, swap, mask, frame_to_swap, gain, offset)
            errors.append(np.abs(out - slow_paste(frame, swap, mask, frame_to_swap, gain, offset)).ravel())
    error = np.concatenate(errors)
    # 8-bit weights: noise of 255 levels from pixel to pixel may differ by a few levels, on average far below one.
    assert error.mean() < 0.5
    assert error.max() < 4.0


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 9), st.integers(1, 17), st.integers(1, 17), st.integers(0, 2**32 - 1))
def test_paste_agrees_for_any_affine(side, width, height, seed):
    rng, frame, swap, mask = pictures(seed, side, width, height)
    frame_to_swap = invert(random_affine(rng, side, width, height))
    out, _ = paste(frame, swap, mask, frame_to_swap)
    error = np.abs(out - slow_paste(frame, swap, mask, frame_to_swap, np.ones(3), np.zeros(3)))
    assert error.mean() <= 1.0
    assert error.max() < 4.0


def test_a_shear_and_a_mirror_are_affines_too():
    _, frame, swap, mask = pictures(3, 8, 17, 15)
    for matrix in (
        [[-0.5, 0.1, 6.0], [0.3, 0.7, -1.0]],
        [[0.6, 0.0, 0.0], [0.5, 0.9, -3.0]],
        [[0, 0.5, 0], [0.5, 0, 0]],
    ):
        affine = np.array(matrix, float)
        out, touched = paste(frame, swap, mask, affine)
        assert touched > 10
        assert np.abs(out - slow_paste(frame, swap, mask, affine, np.ones(3), np.zeros(3))).max() < 4.0


def test_full_mask_and_identity_put_the_swap_there_exactly():
    _, frame, swap, _ = pictures(1, 7, 16, 12)
    to_swap = np.array([[1.0, 0.0, -4.0], [0.0, 1.0, -3.0]])
    out, touched = paste(frame, swap, np.full((7, 7), 255, np.uint8), to_swap)
    expected = frame.copy()
    expected[3:10, 4:11] = swap
    np.testing.assert_array_equal(out, expected)
    assert touched == 49


@pytest.mark.parametrize("degrees", [0, 8, 45, 90, 137])
def test_zero_mask_leaves_every_byte(degrees):
    _, frame, swap, _ = pictures(2, 9, 17, 17)
    to_swap = invert(similarity(1.7, degrees, 3.3, 4.1))
    out, touched = paste(frame, swap, np.zeros((9, 9), np.uint8), to_swap)
    np.testing.assert_array_equal(out, frame)
    assert touched == 0


@pytest.mark.parametrize("degrees", [0, 20, 45, 110])
def test_nothing_outside_the_square_is_touched(degrees):
    _, frame, swap, _ = pictures(4, 8, 60, 50)
    frame[:] = 128
    swap[:] = 255
    to_swap = invert(similarity(2.5, degrees, 25.0, 18.0))
    out, touched = paste(frame, swap, np.full((8, 8), 255, np.uint8), to_swap)
    y, x = np.mgrid[0:50, 0:60]
    u = to_swap[0, 0] * x + to_swap[0, 1] * y + to_swap[0, 2]
    v = to_swap[1, 0] * x + to_swap[1, 1] * y + to_swap[1, 2]
    outside = (u < -1.001) | (v < -1.001) | (u > 8.001) | (v > 8.001)
    assert (out[outside] == 128).all()
    inside = (u >= 0.01) & (v >= 0.01) & (u <= 6.99) & (v <= 6.99)
    assert inside.sum() > 100
    assert (out[inside] == 255).all()
    assert inside.sum() <= touched <= (~outside).sum()


def test_only_the_given_region_is_written_and_it_may_hang_over_the_frame():
    _, frame, swap, _ = pictures(5, 9, 20, 20)
    mask = np.full((9, 9), 255, np.uint8)
    to_swap = invert(similarity(2.0, 0, 1.0, 1.0))
    out, _ = paste(frame, swap, mask, to_swap, region=(5, 6, 9, 8))
    changed = (out != frame).any(axis=2)
    assert changed[6:8, 5:9].any()
    changed[6:8, 5:9] = False
    assert not changed.any()
    everything, _ = paste(frame, swap, mask, to_swap)
    beyond, _ = paste(frame, swap, mask, to_swap, region=(-50, -50, 999, 999))
    np.testing.assert_array_equal(beyond, everything)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("place", range(6))
def test_an_affine_that_is_no_affine_writes_nothing(bad, place):
    _, frame, swap, mask = pictures(6, 5, 9, 9)
    affine = IDENTITY.copy()
    affine.flat[place] = bad
    out, touched = paste(frame, swap, mask, affine)
    assert touched == -1
    np.testing.assert_array_equal(out, frame)


def test_a_step_of_nearly_nothing_and_a_huge_one_stay_in_the_table():
    _, frame, swap, mask = pictures(7, 6, 17, 17)
    for scale in (1e-9, 1e-4, 1e4, 1e6):
        for shift in (-1.0, -1e-9, 0.0, 5.999999999, 6.0, 1e6):
            affine = np.array([[scale, -scale, shift], [scale, scale, shift]])
            out, _ = paste(frame, swap, mask, affine)
            assert np.abs(out - slow_paste(frame, swap, mask, affine, np.ones(3), np.zeros(3))).max() < 4.0


def test_gain_and_offset_are_clipped_to_levels():
    _, frame, swap, _ = pictures(8, 4, 4, 4)
    full = np.full((4, 4), 255, np.uint8)
    out, _ = paste(frame, swap, full, IDENTITY, gain=(2.0, 0.5, 1.0), offset=(60.0, -60.0, 0.0))
    wanted = np.clip(swap * [2.0, 0.5, 1.0] + [60.0, -60.0, 0.0], 0, 255)
    assert np.abs(out - wanted).max() <= 0.5
    assert out.max() == 255
    assert out.min() == 0


@pytest.mark.parametrize("side", [1, 2, 5, 9])
@pytest.mark.parametrize("scale", [0.4, 1.0, 1.4, 1.6, 2.4, 3.1, 9.0])
def test_crop_agrees_with_the_slow_twin(side, scale):
    for width, height in ((1, 1), (2, 7), (13, 17), (30, 20)):
        rng = np.random.default_rng((side, width, int(scale * 10)))
        frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for _ in range(3):
            x, y = rng.uniform(-1, 1, 2) * (width, height)
            to_frame = similarity(scale, rng.uniform(-180, 180), x, y)
            dst = np.zeros((side, side, 3), np.uint8)
            kernels.crop_face(frame, to_frame, dst)
            error = np.abs(dst - slow_crop(frame, to_frame, side, kernels.crop_taps(to_frame)))
            assert error.mean() <= 0.6
            assert error.max() < 3.0


def test_crop_taps_follow_the_scale():
    scales = (0.2, 1.0, 1.49, 1.51, 2.4, 3.1, 4.4, 20.0)
    assert [kernels.crop_taps(similarity(s, 33, 0, 0)) for s in scales] == [1, 1, 1, 2, 2, 3, 4, 4]


def test_crop_identity_is_a_copy_and_the_border_repeats():
    frame = np.random.default_rng(9).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    dst = np.zeros((6, 6, 3), np.uint8)
    kernels.crop_face(frame, IDENTITY, dst)
    np.testing.assert_array_equal(dst, frame)
    kernels.crop_face(frame, similarity(1.0, 0, 100.0, -100.0), dst)
    assert (dst == frame[0, 5]).all()


def test_a_large_face_does_not_alias():
    """A checkerboard of single pixels, three to a crop pixel, must come out as grey and not as a moire."""
    y, x = np.mgrid[0:200, 0:200]
    frame = np.repeat((((x + y) % 2) * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    averaged, sampled = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40, 3), np.uint8)
    to_frame = similarity(3.1, 5.0, 20.0, 20.0)
    kernels.crop_face(frame, to_frame, averaged)
    kernels.warp_crop(frame, to_frame, 1, sampled)
    assert averaged.std() < 0.4 * sampled.std()


def test_crop_reads_a_read_only_frame_and_refuses_nonsense():
    frame = np.full((4, 4, 3), 7, np.uint8)
    frame.setflags(write=False)
    dst = np.zeros((2, 2, 3), np.uint8)
    kernels.crop_face(frame, IDENTITY, dst)
    assert (dst == 7).all()
    for bad in (math.nan, math.inf, 1e12):
        with pytest.raises(DetectorError):
            kernels.crop_face(frame, similarity(bad, 0.0, 0.0, 0.0), dst)


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
