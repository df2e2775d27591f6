from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from engines import losses, metrics
from engines.losses import LossWeights, swap_losses


def pictures(seed: int, *, size: int = 64) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    noise = [cv2.GaussianBlur(rng.random((size, size, 3), np.float32), (0, 0), 2) for _ in range(2)]
    return torch.from_numpy(np.stack(noise)).permute(0, 3, 1, 2).contiguous()


def disc(size: int = 64) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (((x - size / 2) ** 2 + (y - size / 2) ** 2) < (size / 4) ** 2).float().expand(2, 1, size, size)


def test_perfect_output_costs_nothing():
    truth, mask = pictures(0), disc()
    terms = swap_losses(truth, (mask - 0.5) * 60, truth, mask, mask, LossWeights())
    assert all(float(value) == pytest.approx(0, abs=1e-5) for value in terms.values())


def test_total_is_the_weighted_sum_and_zero_weights_leave_terms_out():
    truth, mask = pictures(0), disc()
    weights = LossWeights(dssim=2, charbonnier=3, regions=0, laplacian=0, mask_bce=5, mask_dice=7)
    terms = swap_losses(pictures(1), torch.zeros(2, 1, 64, 64), truth, mask, mask, weights)
    assert set(terms) == {"charbonnier", "dssim", "mask_bce", "mask_dice", "total"}
    wanted = 2 * terms["dssim"] + 3 * terms["charbonnier"] + 5 * terms["mask_bce"] + 7 * terms["mask_dice"]
    assert float(terms["total"]) == pytest.approx(float(wanted), rel=1e-6)
    assert float(terms["mask_bce"]) == pytest.approx(np.log(2), rel=1e-5)


def test_what_lies_outside_the_dilated_mask_is_free():
    truth, mask = pictures(0), disc()
    face = truth.clone()
    face[:, :, :6] += 0.5
    terms = swap_losses(face, (mask - 0.5) * 60, truth, mask, mask, LossWeights())
    assert float(terms["total"]) == pytest.approx(0, abs=1e-5)
    face[:, :, 32] += 0.5
    assert float(swap_losses(face, (mask - 0.5) * 60, truth, mask, mask, LossWeights())["total"]) > 0.1


def test_regions_count_errors_at_the_eyes_only():
    landmarks = torch.full((1, 68, 2), 40.0)
    landmarks[:, 36:42] = torch.tensor([[10.0, 12], [12, 10], [16, 10], [18, 12], [16, 14], [12, 14]])
    weights = losses.region_weights(landmarks, 64)
    assert weights.shape == (1, 1, 64, 64)
    assert float(weights[0, 0, 12, 14]) > 0.7
    assert float(weights[0, 0, 60, 5]) < 0.01


def test_dssim_agrees_with_the_metric():
    a, b = pictures(0, size=128), pictures(1, size=128)
    grey_a, grey_b = losses.luma(a), losses.luma(b)
    wanted = np.mean(
        [
            metrics.ssim(x.permute(1, 2, 0).numpy() * 255, y.permute(1, 2, 0).numpy() * 255)
            for x, y in zip(grey_a.expand_as(a), grey_b.expand_as(b), strict=True)
        ]
    )
    assert 1 - 2 * float(losses.dssim(grey_a, grey_b)) == pytest.approx(wanted, abs=0.02)
    assert float(losses.dssim(grey_a, grey_a)) == pytest.approx(0, abs=1e-6)


def test_laplacian_sees_blur_and_an_offset():
    truth = pictures(0)
    blurred = torch.nn.functional.avg_pool2d(truth, 5, stride=1, padding=2)
    assert float(losses.laplacian_l1(truth * 0)) == 0
    assert float(losses.laplacian_l1(truth - blurred)) > 0.001
    assert float(losses.laplacian_l1(torch.full((1, 1, 64, 64), 0.25))) == pytest.approx(0.25)


def test_dice():
    mask = disc()
    assert float(losses.dice(mask, mask)) == pytest.approx(0, abs=1e-6)
    assert float(losses.dice(1 - mask, mask)) > 0.99


def test_code_consistency_is_relative_to_the_spread():
    code = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    assert float(losses.code_consistency(code, code)) == 0
    other = code + 0.1
    assert float(losses.code_consistency(code, other)) == pytest.approx(0.01, rel=0.2)
    assert float(losses.code_consistency(code * 5, other * 5)) == pytest.approx(0.01, rel=0.2)


def test_a_face_of_little_contrast_counts_as_one_of_much():
    noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.05
    dark, light = 0.1 + 0.4 * noise, 0.6 + 4 * noise
    inside = torch.ones(1, 1, 32, 32)
    gains = losses.contrast_gain(torch.cat([dark, light]), inside.repeat(2, 1, 1, 1), 0.5).flatten()
    assert gains[0] > 1 > gains[1]
    plain, felt = (
        swap_losses(dark + 0.01, 9 * inside, dark, inside, inside, LossWeights(contrast=c)) for c in (0.0, 0.5)
    )
    assert felt["charbonnier"] > 1.5 * plain["charbonnier"]
    assert felt["mask_bce"] == plain["mask_bce"]
