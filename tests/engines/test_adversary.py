"""Heads on the code: what must be readable becomes readable, who it is becomes unreadable."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engines.adversary import AuxiliaryHead, IdentityAdversary, reversal_strength, reverse_gradient
from engines.network import Reading


def test_the_gradient_comes_back_reversed_and_scaled():
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = reverse_gradient(x, 0.25)
    assert torch.equal(y, x)
    (gradient,) = torch.autograd.grad((y * torch.tensor([3.0, 4.0])).sum(), x)
    assert gradient.tolist() == [-0.75, -1.0]


def test_a_step_makes_the_head_better_and_the_code_worse():
    torch.manual_seed(0)
    head = IdentityAdversary(8, 3)
    code, who = torch.randn(30, 8, requires_grad=True), torch.arange(30) % 3
    loss = head(code, who, 0.1)
    for_code, *for_head = torch.autograd.grad(loss, [code, *head.parameters()])
    with torch.no_grad():
        assert head(code - 10 * for_code, who, 0.1) > loss  # descent of the code confuses the head
        for weight, gradient in zip(head.parameters(), for_head, strict=True):
            weight.sub_(0.05 * gradient)
        assert head(code, who, 0.1) < loss


def test_the_strength_rises_from_nothing_to_its_weight():
    strengths = [reversal_strength(0.1, p) for p in (0, 0.05, 0.2, 1)]
    assert strengths[0] == 0
    assert strengths == sorted(strengths)
    assert strengths[-1] == pytest.approx(0.1, rel=1e-3)


def test_truths_are_standardised_groups_count_alike_and_constants_do_not_count():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(2000, 5, generator=generator) * torch.tensor([1, 100, 0.1, 5, 0]) + 7
    head = AuxiliaryHead(4, (4, 1))
    head.standardise(targets)
    last = head.layers[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    code = torch.zeros(2000, 4)
    at_the_mean = head(Reading(code), targets).detach()
    # E of Huber(x), x normal: numerically 0.425. One group of two is constant and reads as zero.
    assert float(at_the_mean) == pytest.approx(0.425 / 2, abs=0.01)
    nn.init.constant_(last.bias, 5.0)
    assert head(Reading(code), targets) > 5 * at_the_mean


def test_the_auxiliary_head_reads_what_is_in_the_code():
    torch.manual_seed(1)
    code = torch.randn(256, 6)
    targets = torch.stack([30 * code[:, 0], code[:, 1] + code[:, 2]], dim=1)
    head = AuxiliaryHead(6, (1, 1))
    head.standardise(targets)
    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    before = float(head(Reading(code), targets).detach())
    for _ in range(80):
        optimizer.zero_grad()
        loss = head(Reading(code), targets)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.2 * before


def test_a_state_in_the_code_is_compared_part_by_part():
    head = AuxiliaryHead(6, (1, 1), in_code=True)
    assert not list(head.parameters())
    targets = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]])
    head.standardise(targets)
    truth = (targets - targets.mean(0)) / targets.std(0, unbiased=False)
    code = torch.cat([torch.full((4, 4), 9.0), truth], dim=1)
    assert float(head(Reading(code), targets)) == 0
    # Each part counts the same, and the points only where there are any.
    off = truth + torch.tensor([[2.0, 2.0], [0, 0], [0, 0], [0, 0]])
    present = torch.tensor([[1.0], [1.0], [1.0], [1.0]])
    by_picture = float(head(Reading(code, off, truth), targets, present))
    assert by_picture == pytest.approx(1.5 / 4 / 3)
    assert float(head(Reading(code, truth, off), targets, present)) == pytest.approx(by_picture)
    assert float(head(Reading(code, truth, off), targets, 1 - present)) == 0
