"""The paste against a slow twin that computes one pixel at a time in float64, over all small sizes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.geometry import invert
from realtime.paste import PasteBuffers, pack, paste_table
from realtime.paste import paste as paste_swap
from tests.realtime.affines import IDENTITY, similarity


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


def paste(frame, swap, mask, frame_to_swap, gain=(1.0, 1.0, 1.0), offset=(0.0, 0.0, 0.0), region=None):
    out = frame.copy()
    region = region or (0, 0, frame.shape[1], frame.shape[0])
    affine = np.ascontiguousarray(frame_to_swap, np.float64)
    buffers = PasteBuffers(len(mask))
    touched = paste_swap(out, swap, mask, affine, np.array(gain), np.array(offset), buffers, region)
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


@pytest.mark.parametrize("side", [24, 64])
@pytest.mark.parametrize("degrees", [0, 8, 90, 200])
def test_a_face_in_a_picture_is_the_slow_twins_to_a_fraction_of_a_level(side, degrees):
    """The golden frame: smooth pictures, an oval mask, colours corrected, the face hanging over the lower edge."""
    y, x = np.mgrid[0:90, 0:131]
    frame = np.stack([x * 255 // 130, y * 255 // 89, (x + y) % 200], axis=2).astype(np.uint8)
    v, u = (np.mgrid[0:side, 0:side] + 0.5) / side - 0.5
    swap = np.stack([128 + 100 * u, 128 - 100 * v, 128 + 90 * u * v], axis=2).astype(np.uint8)
    mask = np.clip(1500 * (0.42 - np.hypot(u / 0.85, v)) * 64 / side, 0, 255).astype(np.uint8)
    to_frame = similarity(90 / side, degrees, 0.0, 0.0)
    to_frame[:, 2] = np.array((70.0, 55.0)) - to_frame[:, :2] @ np.full(2, (side - 1) / 2)
    gain, offset = np.array([1.1, 0.9, 1.0]), np.array([-9.0, 12.0, 0.4])
    out, touched = paste(frame, swap, mask, invert(to_frame), gain, offset)
    error = np.abs(out - slow_paste(frame, swap, mask, invert(to_frame), gain, offset))
    changed = (out != frame).any(axis=2)
    assert touched > 3000
    assert error[changed].mean() < 0.5
    assert error.max() <= 2.0


@pytest.mark.parametrize("seed", range(30))
def test_what_the_mask_cannot_reach_is_left_out_and_nothing_else(seed):
    rng, frame, swap, _ = pictures(seed, 12, 70, 50)
    mask = ((rng.random((12, 12)) < rng.choice([0.01, 0.05, 0.3])) * rng.integers(1, 256, (12, 12))).astype(np.uint8)
    affine = np.ascontiguousarray(invert(similarity(rng.uniform(0.3, 4.0), rng.uniform(-180, 180), 30.0, 20.0)))
    buffers, results = PasteBuffers(12), []
    pack(swap, mask, np.ones(3), np.zeros(3), buffers.row, buffers.table, buffers.reach)
    everything = np.array([0, 13, 0, 13, -99, 99, -99, 99])
    for reach in (buffers.reach, everything):
        out = frame.copy()
        results.append((paste_table(out, buffers.table, reach, affine, 0, 0, 70, 50), out))
    assert results[0][0] == results[1][0]
    # Positions within one step are rounded to 1/65536 from the span's beginning, which differs.
    assert np.abs(results[0][1].astype(int) - results[1][1]).max() <= 1
