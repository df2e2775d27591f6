"""Pressure on the code: what must be in it, and what must not.

Both are heads on the code (N, C) that are thrown away after training. The auxiliary head must read the state out of it,
of which invented people have the truth for free; the adversary tries to read the wearer's identity, and its gradient
goes into the encoder with the sign reversed (Ganin et al. 2016, Domain-Adversarial Training of Neural Networks).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.network import LEAK, Reading

HIDDEN = 128
_LEAST_SPREAD = 1e-3
"""Targets that vary less than this in the set say nothing and do not count."""


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """``x`` on the way forward; on the way back its gradient times -strength."""
    found: Tensor = _Reversal.apply(x, strength)  # type: ignore[no-untyped-call]
    return found


def reversal_strength(weight: float, fraction: float) -> float:
    """The adversary's rise, weight * (2 / (1 + exp(-10 p)) - 1) at fraction p of the schedule: Ganin et al., 5.2.2.

    A head that knows nothing yet would send noise.
    """
    return weight * (2 / (1 + math.exp(-10 * fraction)) - 1)


class IdentityAdversary(nn.Module):
    """Code -> which of K wearers it is."""

    def __init__(self, code_size: int, identities: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(code_size, HIDDEN), nn.LeakyReLU(LEAK, inplace=True), nn.Linear(HIDDEN, identities)
        )

    def forward(self, code: Tensor, wearer: Tensor, strength: float) -> Tensor:
        """Cross entropy in nats of (N, C) codes and wearers (N,) 0..K-1; log K when the code tells nothing.

        The head minimises it; whatever made the code is pushed to raise it, ``strength`` times as hard.
        """
        return F.cross_entropy(self.layers(reverse_gradient(code, strength)).float(), wearer)


class AuxiliaryHead(nn.Module):
    """What the code says of the state's truth: pose, expression, gaze, light, each standardised by the set.

    An encoder whose code holds the state (``NetworkConfig.state_size``) is compared with the truth directly, part by
    part; out of another's code a small network reads it.
    """

    mean: Tensor
    spread: Tensor
    counts: Tensor

    def __init__(self, code_size: int, groups: Sequence[int], *, in_code: bool = False) -> None:
        """``groups`` are the widths of the truths that are concatenated in a target; each group counts the same."""
        super().__init__()
        width = sum(groups)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.register_buffer("counts", torch.cat([torch.full((n,), 1 / (n * len(groups))) for n in groups]))
        self.layers = None
        if not in_code:
            self.layers = nn.Sequential(
                nn.Linear(code_size, HIDDEN), nn.LeakyReLU(LEAK, inplace=True), nn.Linear(HIDDEN, width)
            )

    @torch.no_grad()
    def standardise(self, targets: Tensor) -> None:
        """Take mean and spread from a sample of targets (n, sum of groups)."""
        self.mean.copy_(targets.mean(dim=0))
        self.spread.copy_(targets.std(dim=0, unbiased=False))

    def forward(self, reading: Reading, targets: Tensor, present: Tensor | None = None) -> Tensor:
        """Huber distance of what was read to (N, sum of groups) targets in standard deviations.

        About 0.42 for a head that always says the mean of a normal target. Where the state is in the code, the mean
        over picture, points (those ``present`` (N, 1)) and both together.
        """
        known = self.spread > _LEAST_SPREAD
        truth = torch.where(known, (targets - self.mean) / self.spread.clamp_min(_LEAST_SPREAD), 0)
        counts = known * self.counts
        if self.layers is not None:
            return _distance(self.layers(reading.code).float(), truth, counts)
        together = reading.code[:, reading.code.shape[1] - truth.shape[1] :]
        distances = [_distance(together, truth, counts)]
        if reading.by_picture is not None:
            distances.append(_distance(reading.by_picture, truth, counts))
        if reading.by_points is not None and present is not None:
            distances.append(_distance(reading.by_points, truth, counts * present))
        return torch.stack(distances).mean()


def _distance(found: Tensor, truth: Tensor, counts: Tensor) -> Tensor:
    """Mean over N of the Huber distances of (N, K), weighted by ``counts`` (K,) or (N, K)."""
    return (F.smooth_l1_loss(found, truth, reduction="none") * counts).sum(dim=1).mean()
