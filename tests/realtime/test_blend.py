"""Softening against a slow twin, colour match against its formula, paste as a whole."""

import math
from dataclasses import replace

import numpy as np
import pytest

from engines.errors import DetectorError, RuntimeFailure, SettingsError
from engines.geometry import CORE, invert, transform
from engines.types import AlignedFace, Swap
from realtime.blend import MIN_CORE_SHARE, BlendConfig, Blender

SIDE = 32


def a_swap(seed=0, side=SIDE, crop=SIDE, to_frame=None, mask=None):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(60, 160, (side, side, 3), dtype=np.uint8)
    face = rng.integers(60, 160, (crop, crop, 3), dtype=np.uint8)
    if mask is None:
        mask = np.full((side, side), 255, np.uint8)
    if to_frame is None:
        to_frame = np.array([[1.0, 0.0, 20.0], [0.0, 1.0, 10.0]])
    return Swap(AlignedFace(0, face, to_frame), pixels, mask)


def slow_soften(mask, erode, feather):
    """Minimum over squares, border cleared, then two box means; float64, one pixel at a time."""
    side = len(mask)

    def over_squares(picture, radius, function):
        padded = np.pad(picture, radius)
        size = 2 * radius + 1
        return np.array([[function(padded[j : j + size, i : i + size]) for i in range(side)] for j in range(side)])

    soft = over_squares(mask.astype(float), erode, np.min)
    keep = np.zeros_like(soft)
    keep[feather + 1 : side - feather - 1, feather + 1 : side - feather - 1] = 1
    soft *= keep
    for radius in (feather // 2, feather - feather // 2):
        soft = over_squares(soft, radius, np.mean)
    return soft


@pytest.mark.parametrize("erode", [0, 1, 2])
@pytest.mark.parametrize("feather", [0, 1, 2, 3])
def test_soften_agrees_with_the_slow_twin(erode, feather):
    rng = np.random.default_rng((erode, feather))
    for side in (2 * (erode + feather + 1) + 1, 16, 21):
        mask = np.kron(rng.integers(0, 2, (side, side)), [[255]]).astype(np.uint8)
        mask[side // 4 : -side // 4] = 255
        blender = Blender(BlendConfig(erode, feather), side)
        soft = blender.soften(mask)
        # Each box mean rounds to a level.
        assert np.abs(soft - slow_soften(mask, erode, feather)).max() <= 1.01


@pytest.mark.parametrize("config", [BlendConfig(0, 0), BlendConfig(0, 5), BlendConfig(3, 0), BlendConfig()])
def test_the_outermost_ring_is_always_clear_and_the_middle_stays(config):
    soft = Blender(config, SIDE).soften(np.full((SIDE, SIDE), 255, np.uint8))
    for edge in (soft[0], soft[-1], soft[:, 0], soft[:, -1]):
        assert not edge.any()
    assert soft[SIDE // 2, SIDE // 2] == 255


def test_soften_leaves_its_input():
    mask = np.full((SIDE, SIDE), 255, np.uint8)
    Blender(BlendConfig(), SIDE).soften(mask)
    assert (mask == 255).all()


def matched_statistics(swap, config, dt_s=0.0):
    blender = Blender(config, len(swap.mask))
    gain, offset = blender.match_colour(swap, swap.mask, dt_s)
    return swap.pixels * gain + offset


def test_full_strength_gives_the_wearers_mean_and_contrast():
    swap = a_swap()
    face = np.clip(swap.face.pixels * [0.9, 1.05, 1.1] + [20, -30, 10], 0, 255).astype(np.uint8)
    swap = replace(swap, face=replace(swap.face, pixels=face))
    matched = matched_statistics(swap, BlendConfig(colour_strength=1.0))
    np.testing.assert_allclose(matched.mean(axis=(0, 1)), face.mean(axis=(0, 1)), atol=1e-9)
    np.testing.assert_allclose(matched.std(axis=(0, 1)), face.std(axis=(0, 1)), rtol=1e-9)


def test_strength_moves_the_mean_in_proportion_and_zero_or_off_change_nothing():
    swap = a_swap(3)
    face = (swap.face.pixels * 0.7).astype(np.uint8)
    swap = replace(swap, face=replace(swap.face, pixels=face))
    own, wearer = swap.pixels.mean(axis=(0, 1)), face.mean(axis=(0, 1))
    for strength in (0.0, 0.25, 0.6):
        matched = matched_statistics(swap, BlendConfig(colour_strength=strength))
        np.testing.assert_allclose(matched.mean(axis=(0, 1)), own + strength * (wearer - own), atol=1e-9)
    np.testing.assert_array_equal(matched_statistics(swap, BlendConfig(colour=False, colour_strength=1)), swap.pixels)


def test_only_pixels_inside_the_mask_count():
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[8:24, 8:24] = 255
    swap = a_swap(4, mask=mask)
    face = swap.face.pixels.copy()
    face[mask == 0] = 255
    swap = replace(swap, face=replace(swap.face, pixels=face))
    matched = matched_statistics(swap, BlendConfig(colour_strength=1.0))
    inside = mask > 0
    np.testing.assert_allclose(matched[inside].mean(axis=0), face[inside].mean(axis=0), atol=1e-9)


def test_extreme_statistics_stay_in_a_sane_range():
    swap = a_swap(5)
    black_and_white = (np.indices((SIDE, SIDE)).sum(axis=0) % 2 * 255).astype(np.uint8)
    face = np.repeat(black_and_white[:, :, None], 3, axis=2)
    nearly_flat = np.full((SIDE, SIDE, 3), 10, np.uint8)
    nearly_flat[::2] += 4
    for wearer, own in ((face, nearly_flat), (nearly_flat, face), (face, face * 0), (face * 0, face)):
        pair = replace(swap, pixels=own, face=replace(swap.face, pixels=wearer))
        gain, _ = Blender(BlendConfig(colour_strength=1.0), SIDE).match_colour(pair, pair.mask, 0.0)
        assert (gain >= 0.5).all()
        assert (gain <= 2.0).all()
        shift = matched_statistics(pair, BlendConfig(colour_strength=1.0)).mean() - own.mean()
        assert abs(shift) <= 60.0 + 1e-9


def test_the_match_follows_with_its_time_constant_and_forgets_on_reset():
    blender = Blender(BlendConfig(colour_strength=1.0, colour_time_constant_s=0.5), SIDE)
    swap = a_swap(6)
    same = replace(swap, face=replace(swap.face, pixels=swap.pixels))
    brighter = replace(swap, face=replace(swap.face, pixels=swap.pixels + np.uint8(40)))

    def shift(a_pair, dt_s):
        gain, offset = blender.match_colour(a_pair, a_pair.mask, dt_s)
        return float((a_pair.pixels * gain + offset).mean() - a_pair.pixels.mean())

    assert shift(same, 0.0) == pytest.approx(0.0)
    assert shift(brighter, 0.5) == pytest.approx(40.0 * (1 - math.exp(-1.0)))
    assert shift(brighter, 0.5) == pytest.approx(40.0 * (1 - math.exp(-2.0)))
    held = shift(same, 0.0)
    assert held == pytest.approx(40.0 * (1 - math.exp(-2.0)))
    assert shift(same, -3.0) == pytest.approx(held)
    assert shift(same, math.nan) == pytest.approx(held)
    blender.reset()
    assert shift(same, 0.0) == pytest.approx(0.0)


def test_an_empty_mask_keeps_the_last_match():
    blender = Blender(BlendConfig(colour_strength=1.0, colour_time_constant_s=0.0), SIDE)
    swap = a_swap(7)
    brighter = replace(swap, face=replace(swap.face, pixels=swap.pixels + np.uint8(30)))
    before = blender.match_colour(brighter, brighter.mask, 0.1)
    after = blender.match_colour(brighter, np.zeros_like(swap.mask), 0.1)
    np.testing.assert_array_equal(before, after)
    assert before[1].mean() == pytest.approx(30.0)


@pytest.mark.parametrize("crop", [16, 64])
def test_the_wearers_crop_may_have_another_size(crop):
    swap = a_swap(8, crop=crop)
    swap.face.pixels[:] = 200
    matched = matched_statistics(swap, BlendConfig(colour_strength=1.0))
    wanted = swap.pixels.mean() + min(60.0, 200 - swap.pixels.mean())
    assert matched.mean() == pytest.approx(wanted, abs=1.0)


@pytest.mark.parametrize("crop", [16, 32, 64])
def test_paste_puts_the_swap_where_the_crop_was(crop):
    """The same square of the frame, whatever the crop's grid: swap in the middle, the frame outside."""
    angle = math.radians(30)
    scale = 100.0 / crop
    to_frame = np.array(
        [
            [scale * math.cos(angle), -scale * math.sin(angle), 90.0],
            [scale * math.sin(angle), scale * math.cos(angle), 20],
        ]
    )
    swap = a_swap(9, crop=crop, to_frame=to_frame)
    swap.pixels[:] = (10, 20, 230)
    frame = np.random.default_rng(1).integers(0, 256, (180, 240, 3), dtype=np.uint8)
    out = frame.copy()
    touched = Blender(BlendConfig(2, 3, colour=False), SIDE).paste(out, swap, 0.03)
    y, x = np.mgrid[0:180, 0:240]
    crop_xy = transform(invert(to_frame), np.stack([x.ravel(), y.ravel()], axis=1)).reshape(180, 240, 2)
    fraction = (crop_xy + 0.5) / crop
    outside = ((fraction < 0) | (fraction > 1)).any(axis=2)
    middle = ((fraction > 0.35) & (fraction < 0.65)).all(axis=2)
    np.testing.assert_array_equal(out[outside], frame[outside])
    assert (out[middle] == (10, 20, 230)).all()
    assert middle.sum() < touched < (~outside).sum()


@pytest.mark.parametrize("shift", [(-20.0, 5.0), (150.0, -10.0), (100.0, 100.0)])
def test_half_outside_the_frame_only_the_inside_is_painted(shift):
    swap = a_swap(10, to_frame=np.array([[2.0, 0.0, shift[0]], [0.0, 2.0, shift[1]]]))
    out = np.zeros((120, 180, 3), np.uint8)
    assert Blender(BlendConfig(), SIDE).paste(out, swap, 0.0) > 0
    assert out.any()


def test_fully_outside_nothing_is_painted_and_the_count_says_so():
    swap = a_swap(11, to_frame=np.array([[1.0, 0.0, -500.0], [0.0, 1.0, 10.0]]))
    out = np.full((60, 80, 3), 9, np.uint8)
    assert Blender(BlendConfig(), SIDE).paste(out, swap, 0.0) == 0
    assert (out == 9).all()


def test_an_empty_mask_is_told_to_the_caller():
    swap = a_swap(12, mask=np.zeros((SIDE, SIDE), np.uint8))
    out = np.full((60, 80, 3), 9, np.uint8)
    assert Blender(BlendConfig(), SIDE).paste(out, swap, 0.0) == 0
    assert (out == 9).all()


def face_mask(side=128, rx=0.33, ry=0.40, centre=(0.5, 0.52)):
    """What a network gives for a face seen from the front, about: an ellipse."""
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side
    return ((((x - centre[0]) / rx) ** 2 + ((y - centre[1]) / ry) ** 2) < 1).astype(np.uint8) * 255


def cut(mask, rows=slice(None), columns=slice(None)):
    kept = np.zeros_like(mask)
    kept[rows, columns] = mask[rows, columns]
    return kept


FULL = np.full((128, 128), 255, np.uint8)
HOLE = FULL.copy()
HOLE[44:80, 40:88] = 0


@pytest.mark.parametrize(
    ("config", "mask", "share"),
    [
        (BlendConfig(), FULL, (1.0, 1.0)),
        (BlendConfig(), face_mask(), (1.0, 1.0)),
        (BlendConfig(), cut(FULL, columns=slice(52, None)), (0.73, 0.77)),  # a turned head
        (BlendConfig(), cut(FULL, columns=slice(64, None)), (0.4, 0.5)),
        (BlendConfig(), cut(FULL, rows=slice(64, None)), (0.0, 0.1)),  # the eyes are bare
        (BlendConfig(), cut(FULL, rows=slice(0, 64)), (0.0, 0.1)),  # the mouth is bare
        (BlendConfig(), face_mask(rx=0.12, ry=0.12), (0.0, 0.3)),  # the nose alone
        (BlendConfig(), HOLE, (0.0, 0.5)),
        (BlendConfig(feather_px=20), FULL, (1.0, 1.0)),
        (BlendConfig(feather_px=50), FULL, (0.0, 0.0)),
        (BlendConfig(feather_px=60), FULL, (0.0, 0.0)),
        (BlendConfig(erode_px=20), face_mask(), (0.0, 0.6)),
        (BlendConfig(), FULL * 0, (0.0, 0.0)),
        (BlendConfig(), FULL // 3, (0.0, 0.0)),
    ],
)  # fmt: skip
def test_a_swap_that_does_not_cover_the_core_of_the_face_is_refused(config, mask, share):
    blender = Blender(config, 128)
    measured = blender.core_share(blender.soften(mask))
    assert share[0] <= measured <= share[1]
    out = np.full((160, 160, 3), 9, np.uint8)
    touched = blender.paste(out, a_swap(13, side=128, mask=mask), 0.03)
    assert (touched > 0) == (measured >= MIN_CORE_SHARE) == bool((out != 9).any())


def test_a_refused_swap_leaves_the_colour_match_alone():
    blender = Blender(BlendConfig(colour_strength=1.0, colour_time_constant_s=0.0), SIDE)
    swap = a_swap(14)
    half = cut(swap.mask, rows=slice(SIDE // 2))
    before = blender.match_colour(swap, np.zeros_like(half), 0.0)
    assert blender.paste(np.zeros((60, 80, 3), np.uint8), replace(swap, mask=half), 0.1) == 0
    np.testing.assert_array_equal(before, blender.match_colour(swap, np.zeros_like(half), 0.0))


@pytest.mark.parametrize("side", [16, 32, 128, 256])
def test_the_core_is_what_lies_between_eyes_and_mouth(side):
    """Against half planes at pixel centres; only pixels on the polygon's border may differ."""
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side
    inside = np.ones((side, side), bool)
    for (x0, y0), (x1, y1) in zip(CORE, np.roll(CORE, -1, axis=0), strict=True):
        inside &= (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0
    blender = Blender(BlendConfig(0, 0), side)
    border = 5 / side
    assert blender.core_share(np.full((side, side), 128, np.uint8)) == 1.0
    assert blender.core_share(np.full((side, side), 127, np.uint8)) == 0.0
    assert 1 - 2 * border < blender.core_share(inside.astype(np.uint8) * 255) <= 1.0
    assert blender.core_share((~inside).astype(np.uint8) * 255) < 2 * border
    assert inside.mean() == pytest.approx(0.119, abs=0.02)


@pytest.mark.parametrize(
    "to_frame",
    [
        np.full((2, 3), np.nan),
        np.zeros((2, 3)),
        np.array([[1.0, 0, 1e9], [0, 1, 0]]),
        np.array([[1.0, 2, 0], [2, 4, 0]]),
    ],
)
def test_an_alignment_without_area_is_an_error(to_frame):
    out = np.zeros((60, 80, 3), np.uint8)
    with pytest.raises(DetectorError):
        Blender(BlendConfig(), SIDE).paste(out, a_swap(to_frame=to_frame), 0.0)
    assert not out.any()


def test_arrays_of_another_size_or_layout_are_an_error():
    blender = Blender(BlendConfig(), SIDE)
    good = a_swap()
    frame = np.zeros((60, 80, 3), np.uint8)
    bad = [
        (frame, a_swap(side=SIDE + 1)),
        (frame, replace(good, mask=good.mask[:-1])),
        (frame, replace(good, mask=good.mask.astype(np.float32))),
        (frame, replace(good, face=replace(good.face, pixels=good.face.pixels[:5]))),
        (frame[:, ::2], good),
        (frame[:, :, 0], good),
        (frame.astype(np.float32), good),
    ]
    for out, swap in bad:
        with pytest.raises(RuntimeFailure):
            blender.paste(out, swap, 0.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"erode_px": -17},
        {"feather_px": 1000},
        {"colour_strength": 1.1},
        {"colour_strength": math.nan},
        {"colour_time_constant_s": -1.0},
        {"colour_time_constant_s": math.inf},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(SettingsError):
        BlendConfig(**settings)


def test_a_softening_that_would_eat_the_whole_swap_is_refused():
    with pytest.raises(SettingsError, match="leave nothing"):
        Blender(BlendConfig(8, 7), SIDE)
    soft = Blender(BlendConfig(7, 7), SIDE).soften(np.full((SIDE, SIDE), 255, np.uint8))
    assert soft.any()
    with pytest.raises(SettingsError):
        Blender(BlendConfig(), 0)


@pytest.mark.parametrize(("side", "crop"), [(32, 16), (48, 32), (32, 64)])
def test_colours_are_matched_when_swap_and_face_differ_in_size(side, crop):
    """Whichever is larger is brought to the other's grid, and full strength still gives the wearer's mean."""
    y, x = np.mgrid[0:side, 0:side] / side
    pixels = np.stack([90 + 40 * x, 100 + 30 * y, 120 + 20 * x * y], axis=2).astype(np.uint8)
    y, x = np.mgrid[0:crop, 0:crop] / crop
    face = np.stack([110 + 40 * x, 80 + 30 * y, 130 + 20 * x * y], axis=2).astype(np.uint8)
    swap = a_swap(0, side, crop, mask=np.full((side, side), 255, np.uint8))
    swap = replace(swap, pixels=pixels, face=replace(swap.face, pixels=face))
    matched = matched_statistics(swap, BlendConfig(colour_strength=1.0))
    np.testing.assert_allclose(matched.mean(axis=(0, 1)), face.mean(axis=(0, 1)), atol=0.8)
    np.testing.assert_allclose(matched.std(axis=(0, 1)), face.std(axis=(0, 1)), rtol=0.1)
