from __future__ import annotations

import math

import pytest
import torch

from engines import gan_losses
from engines.discriminator import GREY, Verdict


def verdict(patch, pixel, features=()):
    patches = torch.as_tensor(patch, dtype=torch.float32).reshape(1, 1, 2, 2)
    return Verdict(patches, torch.as_tensor(pixel, dtype=torch.float32).reshape(1, 1, 4, 4), tuple(features))


@pytest.fixture
def left_half():
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    return mask


def test_the_game_is_balanced_at_log_2_and_relativistic(left_half):
    even = verdict([7.0] * 4, [-3.0] * 16)
    assert gan_losses.discriminator_loss(even, even, left_half) == pytest.approx(math.log(2))
    assert gan_losses.adversarial_loss(even, even, left_half) == pytest.approx(math.log(2))
    better = verdict([9.0] * 4, [-1.0] * 16)
    win, lose = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
    assert gan_losses.discriminator_loss(better, even, left_half) == pytest.approx(win)
    assert gan_losses.discriminator_loss(even, better, left_half) == pytest.approx(lose)
    assert gan_losses.adversarial_loss(even, better, left_half) == pytest.approx(lose)


def test_logits_outside_the_mask_do_not_count(left_half):
    even = verdict([0.0] * 4, [0.0] * 16)
    outside = verdict([0, 50, 0, 50], [[0, 0, 50, 50]] * 4)
    assert gan_losses.discriminator_loss(outside, even, left_half) == pytest.approx(math.log(2))
    assert gan_losses.mean_logit(outside, left_half).tolist() == [0]
    inside = verdict([4, 0, 4, 0], [[2, 2, 0, 0]] * 4)
    assert gan_losses.mean_logit(inside, left_half).tolist() == [6]


def test_the_gradient_penalty_of_a_linear_discriminator_is_half_its_squared_weights():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 8, 8, generator=generator, requires_grad=True)
    pictures = torch.rand(5, 3, 8, 8, generator=generator, requires_grad=True)
    logits = (pictures * weight).flatten(1).sum(1) + 3
    penalty = gan_losses.gradient_penalty(logits, pictures)
    assert float(penalty.detach()) == pytest.approx(0.5 * float(weight.detach().square().sum()), rel=1e-5)
    (slope,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(slope, weight.detach())
    quadratic = (pictures.square() / 2).flatten(1).sum(1)  # the gradient is the picture itself
    expected = 0.5 * pictures.detach().square().flatten(1).sum(1).mean()
    torch.testing.assert_close(gan_losses.gradient_penalty(quadratic, pictures).detach(), expected)
    assert gan_losses.penalty_scale(256) == 4


def test_feature_matching_ignores_scale_and_leaves_the_truth_alone():
    real = torch.rand(2, 3, 4, 4, requires_grad=True)
    fake = torch.rand(2, 3, 4, 4, requires_grad=True)
    make = lambda *features: verdict([0] * 4, [0] * 16, features)  # noqa: E731
    assert gan_losses.feature_matching(make(real), make(real)) == 0
    found = gan_losses.feature_matching(make(fake, 2 * fake), make(real, 2 * real))
    torch.testing.assert_close(found, gan_losses.feature_matching(make(fake), make(real)))
    torch.testing.assert_close(found.detach(), ((fake - real).abs().mean() / real.mean()).detach())
    found.backward()
    assert real.grad is None
    assert fake.grad.abs().sum() > 0


def test_total_variation_counts_neighbours_inside_the_mask():
    face = torch.zeros(2, 3, 4, 4)
    face[0, 0, 1, 1] = 0.5  # one dot: four differences of 0.25
    mask = torch.ones(2, 1, 4, 4)
    assert gan_losses.total_variation(face, mask) == pytest.approx(4 * 0.25 / 2)
    mask[0, 0, 1, 1] = 0
    assert gan_losses.total_variation(face, mask) == 0


def test_the_background_term_sees_bright_dots_outside_only(left_half):
    face = torch.full((1, 3, 4, 4), GREY)
    face[..., :2] = 9.0
    assert gan_losses.background(face, left_half) == 0
    face[..., 0, 3] = 1.0
    assert gan_losses.background(face, left_half) == pytest.approx(0.25 / 8)
    assert gan_losses.background(face, torch.ones_like(left_half)) == 0


def test_variety_is_one_for_the_truth_and_zero_for_one_face_or_one_colour():
    real = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(6, 1, 8, 8)
    assert gan_losses.variety(real, real, mask) == pytest.approx(1)
    assert gan_losses.variety(real * 0.5, real, mask) == pytest.approx(0.25)
    assert gan_losses.variety(real[:1].expand_as(real), real, mask) == pytest.approx(0, abs=1e-6)
    flat = real.mean(dim=(2, 3), keepdim=True).expand_as(real)
    assert gan_losses.variety(flat, real, mask) == pytest.approx(0, abs=1e-6)
    assert gan_losses.variety(real[:1], real[:1], mask[:1]) == pytest.approx(1)
