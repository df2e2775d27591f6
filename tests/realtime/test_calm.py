"""Noise out of the network's inputs, and nothing else: what moves passes at once."""

from __future__ import annotations

import time

import numpy as np
import pytest

from realtime.calm import FIRST_NOISE, MOST_NOISE, SMALLEST, Calm, CalmConfig, CropCalm
from realtime.config import Settings
from realtime.live_settings import CurrentSettings, calm_config

SIDE, FPS = 64, 30.0


def scene(seed: int = 0) -> np.ndarray:
    """A picture with edges and soft parts."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(50, 200, (8, 8, 3))
    return np.kron(coarse, np.ones((SIDE // 8, SIDE // 8, 1))).astype(np.float64)


def noisy(picture: np.ndarray, rng: np.random.Generator, sigma: float = 2.0) -> np.ndarray:
    return np.clip(np.rint(picture + rng.normal(0, sigma, picture.shape)), 0, 255).astype(np.uint8)


def slow_truth(new: np.ndarray, kept: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The kernel's result, by plain numpy: levels, float."""
    away = np.abs(new - kept).sum(axis=2)
    padded = np.pad(away, 2)
    around = sum(padded[j : j + len(new), i : i + len(new)] for j in range(5) for i in range(5)) / 75
    weight = weights[np.minimum((4 * around).astype(int), len(weights) - 1)] / 256
    return kept + weight[..., None] * (new - kept)


@pytest.mark.parametrize("side", [16, 17, 31, 64])
def test_the_kernel_equals_plain_numpy(side):
    rng = np.random.default_rng(side)
    first = rng.integers(0, 256, (side, side, 3)).astype(np.uint8)
    second = np.clip(first + rng.normal(0, 3, first.shape), 0, 255).astype(np.uint8)
    second[: side // 2, : side // 2] = 255 - second[: side // 2, : side // 2]
    calm = CropCalm(CalmConfig())
    calm(first.copy(), 0.0)
    got = second.copy()
    calm(got, 1 / FPS)
    wanted = slow_truth(second.astype(float), first.astype(float), calm._weights)
    assert np.abs(got - wanted).max() < 0.6
    assert (got[2 : side // 4, 2 : side // 4] == second[2 : side // 4, 2 : side // 4]).all()
    assert not np.array_equal(got, second)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0])
def test_a_still_crop_changes_a_third_as_much_and_keeps_its_mean(sigma):
    rng, calm, raw, out = np.random.default_rng(1), CropCalm(CalmConfig()), [], []
    for i in range(60):
        crop = noisy(scene(), rng, sigma)
        raw.append(crop.copy())
        calm(crop, i / FPS)
        out.append(crop)
    before, after = (np.abs(np.diff(np.array(x[20:], float), axis=0)).mean() for x in (raw, out))
    assert after < before / 3
    assert np.abs(np.mean(out[20:], axis=(0, 1, 2)) - scene().mean(axis=(0, 1))).max() < 0.1
    assert np.abs(out[-1] - scene()).mean() < 0.6 * np.abs(raw[-1] - scene()).mean()


def test_a_blink_of_a_tenth_of_a_second_passes_in_each_of_its_frames():
    rng, calm = np.random.default_rng(2), CropCalm(CalmConfig())
    eye = slice(24, 32), slice(16, 32)
    for i in range(30):
        picture = scene()
        shut = 20 <= i < 23
        if shut:
            picture[eye] = 255 - picture[eye]
        crop = noisy(picture, rng)
        calm(crop, i / FPS)
        assert np.abs(crop[eye] - picture[eye]).mean() < 2.5, i
        if i in {19, 25}:
            assert np.abs(crop - picture).mean() < 1.3


def test_a_crop_that_moves_as_a_whole_leaves_no_ghost():
    rng, calm = np.random.default_rng(3), CropCalm(CalmConfig())
    for i in range(30):
        picture = np.roll(scene(), 3 * i, axis=1)
        crop = noisy(picture, rng)
        calm(crop, i / FPS)
        assert np.abs(crop - picture).mean() < 2.0, i
    assert calm.noise <= MOST_NOISE


def test_slow_light_is_followed():
    calm = CropCalm(CalmConfig())
    for i in range(60):
        crop = np.full((SIDE, SIDE, 3), 60 + i, np.uint8)  # 30 levels a second
        calm(crop, i / FPS)
        assert abs(float(crop.mean()) - (60 + i)) < 6.0


def test_noise_is_found_and_a_cut_is_none():
    rng, calm = np.random.default_rng(4), CropCalm(CalmConfig())
    for i in range(40):
        calm(noisy(scene(), rng, 1.5), i / FPS)
    level = calm.noise
    assert 0.8 < level < 1.8
    cut = noisy(scene(9), rng, 1.5)
    shown = cut.copy()
    calm(shown, 40 / FPS)
    assert np.abs(shown.astype(int) - cut).mean() < 0.5
    assert calm.noise < 1.1 * level
    first = CropCalm(CalmConfig())
    first(noisy(scene(1), rng), 0.0)
    first(noisy(scene(2), rng), 1 / FPS)
    assert first.noise == FIRST_NOISE


def test_half_the_frame_rate_is_calmed_in_the_same_time():
    left = []
    for fps in (30.0, 60.0):
        calm = CropCalm(CalmConfig())
        calm(np.full((SIDE, SIDE, 3), 100, np.uint8), 0.0)
        calm.noise = 3.0
        for i in range(1, round(0.1 * fps) + 1):
            crop = np.full((SIDE, SIDE, 3), 103, np.uint8)
            calm(crop, i / fps)
        left.append(103.0 - calm._kept.mean() / 128)
    assert left[0] == pytest.approx(left[1], abs=0.35)
    assert 0.5 < left[0] < 2.0


@pytest.mark.parametrize("then", [0.5, 0.4, 1.2])
def test_after_a_gap_or_with_a_clock_that_does_not_advance_frames_pass(then):
    rng, calm = np.random.default_rng(5), CropCalm(CalmConfig())
    for t_s in (0.4, 0.5):
        calm(noisy(scene(), rng), t_s)
    crop = noisy(scene(), rng)
    shown = crop.copy()
    calm(shown, then)
    np.testing.assert_array_equal(shown, crop)


def test_another_size_and_a_reset_begin_anew():
    rng, calm = np.random.default_rng(6), CropCalm(CalmConfig())
    calm(noisy(scene(), rng), 0.0)
    for side, times in ((40, [1]), (SMALLEST - 1, [2, 3, 4])):
        for i in times:
            crop = rng.integers(0, 255, (side, side, 3)).astype(np.uint8)
            shown = crop.copy()
            calm(shown, i / FPS)
            np.testing.assert_array_equal(shown, crop)
    calm(noisy(scene(), rng), 5 / FPS)
    calm(noisy(scene(), rng), 6 / FPS)
    assert calm.noise is not None
    calm.reset()
    assert calm.noise is None
    shown = noisy(scene(), rng)
    crop = shown.copy()
    calm(shown, 7 / FPS)
    np.testing.assert_array_equal(shown, crop)


def test_points_of_a_still_face_rest_and_a_mouth_that_opens_does_not_wait():
    rng, calm = np.random.default_rng(7), Calm()
    crop = np.zeros((SIDE, SIDE, 3), np.uint8)
    true = rng.uniform(0.2, 0.8, (127, 2)).astype(np.float32)
    raw, out = [], []
    for i in range(40):
        points = (true + rng.normal(0, 0.0015, true.shape)).astype(np.float32)
        raw.append(points.copy())
        calm(crop, points, i / FPS)
        out.append(points)
    assert np.abs(np.diff(out[10:], axis=0)).mean() < 0.4 * np.abs(np.diff(raw[10:], axis=0)).mean()
    opened = true.copy()
    opened[60:80, 1] += 0.03
    points = opened.copy()
    calm(crop, points, 40 / FPS)
    np.testing.assert_allclose(points[60:80], opened[60:80], atol=1e-6)


def test_switched_off_nothing_changes_and_on_again_nothing_old_comes_back():
    rng = np.random.default_rng(8)
    current = CurrentSettings(Settings())
    calm = current.calm()
    for i in range(12):
        current.value = Settings(smooth=not 4 <= i < 8)
        crop, points = noisy(scene(i // 4), rng), rng.uniform(0, 1, (127, 2)).astype(np.float32)
        shown, moved = crop.copy(), points.copy()
        calm(shown, moved, i / FPS)
        assert np.array_equal(shown, crop) == (i in {0, 4, 5, 6, 7, 8})
        if i in {0, 4, 7, 8}:
            np.testing.assert_array_equal(moved, points)


def test_smoothing_is_a_matter_of_degree():
    assert calm_config(Settings()) == CalmConfig()
    calm, lively = (calm_config(Settings(smoothing=value)) for value in (1.0, 0.1))
    assert calm.crop_hz < CalmConfig().crop_hz < lively.crop_hz
    assert calm.points_hz < CalmConfig().points_hz < lively.points_hz
    assert not calm_config(Settings(smoothing=0.0)).on
    assert not calm_config(Settings(smooth=False)).on


def test_it_costs_little():
    """A loose bound for busy machines; what is measured when it is quiet stands in the CHANGELOG."""
    rng, calm = np.random.default_rng(9), CropCalm(CalmConfig())
    crops = [rng.integers(0, 255, (128, 128, 3)).astype(np.uint8) for _ in range(20)]
    took = []
    for i, crop in enumerate(crops):
        started = time.perf_counter()
        calm(crop, i / FPS)
        took.append(time.perf_counter() - started)
    assert min(took[2:]) < 2e-3
