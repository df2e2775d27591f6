from __future__ import annotations

import math

import numpy as np
import pytest

from engines import metrics
from engines.errors import SettingsError


def test_psnr_counts_masked_pixels_only():
    truth = np.full((8, 8, 3), 100, np.uint8)
    result = truth.copy()
    result[:, :4] = 110
    mask = np.zeros((8, 8))
    mask[:, :4] = 1
    assert metrics.psnr_masked_db(result, truth, mask) == pytest.approx(20 * math.log10(25.5))
    assert metrics.psnr_masked_db(result, truth, 1 - mask) == math.inf
    result[:, :4] = 90  # uint8 must not wrap around
    assert metrics.psnr_masked_db(result, truth, mask) == pytest.approx(20 * math.log10(25.5))
    with pytest.raises(SettingsError, match="empty"):
        metrics.psnr_masked_db(result, truth, mask * 0)


def test_mask_iou():
    a = np.zeros((4, 4))
    b = a.copy()
    a[:2], b[1:3] = 1, 0.9
    assert metrics.mask_iou(a, b) == pytest.approx(1 / 3)
    assert metrics.mask_iou(a, a) == 1
    assert metrics.mask_iou(a * 0, b * 0) == 1
    assert metrics.mask_iou(a, b * 0) == 0


def test_ssim():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    assert metrics.ssim(truth, truth) == pytest.approx(1)
    noisy = np.clip(truth + rng.normal(0, 30, truth.shape), 0, 255)
    assert metrics.ssim(rng.permutation(truth), truth) < metrics.ssim(noisy, truth) < 0.99
    mask = np.zeros((32, 32))
    mask[:10] = 1
    half = truth.copy()
    half[20:] = 0
    assert metrics.ssim(half, truth, mask) == pytest.approx(1)
    flat = np.full((16, 16, 3), 100.0)  # without variance only luminance counts: closed form
    c1 = (0.01 * 255) ** 2
    assert metrics.ssim(flat, flat * 2) == pytest.approx((2 * 100 * 200 + c1) / (100**2 + 200**2 + c1))


def test_flicker_excess():
    truth = np.zeros((3, 4, 4, 3))
    truth[1] = 10
    result = truth.copy()
    masks = np.ones((3, 4, 4))
    assert metrics.flicker_excess(result, truth, masks) == 0
    result[1] += 5
    assert metrics.flicker_excess(result, truth, masks) == pytest.approx(5)
    assert metrics.flicker_excess(truth * 0, truth, masks) == pytest.approx(-10)
    masks[:, :2] = 0
    result[:, :2] = np.random.default_rng(0).uniform(0, 255, (3, 2, 4, 3))
    assert metrics.flicker_excess(result, truth, masks) == pytest.approx(5)
    with pytest.raises(SettingsError):
        metrics.flicker_excess(result[:1], truth[:1], masks[:1])


def test_sharpness_ratio_is_laplacian_energy_inside_the_mask():
    rng = np.random.default_rng(3)
    truth = rng.uniform(0, 255, (2, 16, 16, 3))
    mask = np.zeros((2, 16, 16))
    mask[:, 3:12, 3:12] = 1
    assert metrics.sharpness_ratio(truth, truth, mask) == 1
    assert metrics.sharpness_ratio(truth * 0.5 + 9, truth, mask) == pytest.approx(0.25)
    soft = (truth + np.roll(truth, 1, axis=1)) / 2
    assert metrics.sharpness_ratio(soft, truth, mask) < 0.7
    noisy = truth + rng.normal(0, 60, truth.shape)
    assert metrics.sharpness_ratio(noisy, truth, mask) > 1.2
    elsewhere = np.where(mask[..., None] > 0, truth, 0)
    assert metrics.sharpness_ratio(elsewhere, truth, mask) == 1
    flat = np.full_like(truth, 7.0)
    assert metrics.sharpness_ratio(flat, flat, mask) == 1
    assert metrics.sharpness_ratio(truth, flat, mask) == math.inf
    dot = np.zeros((5, 5, 3))
    dot[2, 2] = 1  # responses -4 in the middle, 1 at its four neighbours: 20
    slope = np.zeros((5, 5, 3))
    slope[2, :2] = 1  # -3, -3, and 1s
    whole = np.ones((5, 5))
    assert metrics.sharpness_ratio(dot * 2, dot, whole) == 4
    assert metrics.sharpness_ratio(slope, dot, whole) == pytest.approx((9 + 1 + 1 + 1) / 20)
    with pytest.raises(SettingsError, match="empty"):
        metrics.sharpness_ratio(truth, truth, mask * 0)
