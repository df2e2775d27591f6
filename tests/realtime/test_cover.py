"""What a narrower persona would leave bare."""

from __future__ import annotations

import numpy as np
import pytest

from realtime.cover import Cover, extend_colours

SIDE = 128
FACE = np.zeros((SIDE, SIDE), np.uint8)
FACE[20:110, 40:100] = 255
PIXELS = np.full((SIDE, SIDE, 3), (200, 30, 30), np.uint8)  # what was behind the persona
PIXELS[FACE > 0] = (90, 120, 180)


def test_features_beside_the_persona_are_covered_with_its_colours():
    cover = Cover(SIDE)
    features = np.array([[37.0, 40.0], [80.0, 40.0], [60.0, 90.0]])
    area = cover.area(features, 1.0, FACE)
    assert area[40, 38] == 255
    assert area[44, 60] == 255
    extended = cover.extend(PIXELS)
    assert np.abs(extended[40, 37].astype(int) - (90, 120, 180)).max() <= 2
    assert (extended[60, 70] == PIXELS[60, 70]).all()


def test_colour_never_goes_far_beyond_the_face():
    """Tracked points lie outside of a turned head; the background there must stay what it is."""
    cover = Cover(SIDE)
    area = cover.area(np.array([[5.0, 40.0], [80.0, 40.0], [60.0, 90.0]]), 1.0, FACE)
    assert area[:, :32].max() == 0
    assert area[:20].max() == 0


def test_an_open_mouth_is_no_hole():
    mask = FACE.copy()
    mask[80:95, 60:80] = 0
    pixels = PIXELS.copy()
    pixels[80:95, 60:80] = (20, 20, 60)
    cover = Cover(SIDE)
    cover.area(np.array([[50.0, 40.0], [90.0, 40.0], [70.0, 96.0]]), 1.0, mask)
    assert (cover.extend(pixels)[87, 70] == (20, 20, 60)).all()


def test_the_scale_between_crop_and_swap_is_respected():
    area = Cover(SIDE).area(np.array([[24.75, 19.75], [39.75, 19.75], [30.0, 45.0]]), 2.0, FACE)
    assert area[44, 60] == 255
    assert area[20, 12] == 0


def test_a_mask_without_a_face_covers_nothing():
    cover = Cover(SIDE)
    features = np.array([[50.0, 40.0], [90.0, 40.0], [70.0, 90.0]])
    assert cover.area(features, 1.0, np.zeros_like(FACE)).max() == 0
    assert (cover.extend(PIXELS) == PIXELS).all()


def slow_extend(pixels, core, inside, radius):
    """Float64 twin: the mean of the core's pixels in the square around each pixel, one pixel at a time."""
    out = pixels.astype(float)
    for j in range(len(core)):
        for i in range(len(core)):
            window = np.s_[max(j - radius, 0) : j + radius + 1, max(i - radius, 0) : i + radius + 1]
            near = pixels[window][core[window] > 0]
            if len(near):
                keep = inside[j, i] / 255.0
                out[j, i] = pixels[j, i] * keep + near.mean(axis=0) * (1 - keep)
    return out


@pytest.mark.parametrize("side", [1, 2, 7, 20])
@pytest.mark.parametrize("radius", [1, 3, 30])
def test_extension_agrees_with_the_slow_twin(side, radius):
    rng = np.random.default_rng((side, radius))
    for share in (0.0, 0.05, 0.7):
        pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        core = ((rng.random((side, side)) < share) * 255).astype(np.uint8)
        inside = rng.choice(np.array([0, 28, 255], np.uint8), (side, side))
        out = np.zeros_like(pixels)
        extend_colours(pixels, core, inside, radius, np.full((4, side), 99, np.int32), out)
        assert np.abs(out - slow_extend(pixels, core, inside, radius)).max() <= 0.51
