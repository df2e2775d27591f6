"""What the GAN stage minimises beside reconstruction: pure functions of tensors, each with goal, formula and source.

The game is the relativistic pairing GAN of Jolicoeur-Martineau (2018, arXiv 1807.00734) with both gradient penalties,
the combination that R3GAN (Huang et al. 2024, arXiv 2501.05441) shows to converge locally, instead of the classic
min_G max_D E[log D(x)] + E[log(1 - D(G(z)))]: pairs of equal state leave nothing to win by showing easy states only,
so modes are not dropped. With f(t) = log(1 + exp(-t)) and pairs (x true, y generated, both of one person and state):

    discriminator   f(D(x) - D(y)) + R1 + R2
    generator       f(D(y) - D(x)) * adversarial weight + feature matching + reconstruction

D(x) stands for every patch and every pixel in turn, averaged inside the mask. Balance is log 2 = 0.693 for both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.discriminator import GREY, Verdict

MIN_AREA = 1e-6
"""Of a mask, so that pictures without a face divide by something."""


@dataclass(frozen=True, slots=True)
class GanWeights:
    """How much each term counts; 0 switches it off. Reconstruction has its own weights (``LossWeights``)."""

    adversarial: float = 0.1
    """After the warm-up. Small: the true swap is known, the critic only adds what averages away."""
    feature_matching: float = 1.0
    """Activations of the critic on both pictures of a pair should agree."""
    total_variation: float = 1e-6
    """Of sums over a picture, so tiny: against single wild pixels."""
    background: float = 0.02
    """Grey outside the mask: against bright dots that a soft mask edge would let through."""
    r1: float = 0.02
    """Gamma of the gradient penalty on true pictures of 128 pixels; see ``penalty_scale`` for other sides. The dial
    between sharp and faithful: on cartoons 0.16, 0.016 and 0 gave sharpness ratios of 0.054, 0.090 and 0.147 at 18.4,
    17.9 and 17.4 dB (0.039 at 18.2 dB without the game)."""
    r2: float = 0.02
    """The same on generated pictures."""
    penalty_every: int = 16
    """Steps between gradient penalties, which then count that many times (Karras et al. 2020, arXiv 1912.04958)."""


def discriminator_loss(real: Verdict, fake: Verdict, mask: Tensor) -> Tensor:
    """Goal: rank the true picture of every pair above the generated one, in each patch and pixel.

    mean f(D(x) - D(y)), f(t) = log(1 + exp(-t)), patches and pixels in equal parts (RpGAN, Jolicoeur-Martineau 2018).
    ``mask`` (N, 1, T, T) is the pair's true mask; patches count by the part of them that it covers. Returns a scalar.
    """
    return _paired(real, fake, mask)


def adversarial_loss(fake: Verdict, real: Verdict, mask: Tensor) -> Tensor:
    """Goal: generated pictures that the critic ranks above the true ones.

    mean f(D(y) - D(x)): the discriminator's loss with the roles exchanged. Unlike log(1 - D(y)) its gradient does not
    vanish while the critic wins. Returns a scalar.
    """
    return _paired(fake, real, mask)


def mean_logit(verdict: Verdict, mask: Tensor) -> Tensor:
    """(N,): a picture's D(x), the mean over patches plus the mean over pixels inside ``mask`` (N, 1, T, T)."""
    return _inside(verdict.patches, mask) + _inside(verdict.pixels, mask)


def gradient_penalty(logits: Tensor, picture: Tensor) -> Tensor:
    """Goal: a critic that is flat around the pictures, so that the game converges instead of circling.

    1/2 E |grad_x D(x)|^2 (Mescheder et al. 2018, arXiv 1801.04406): R1 for true pictures, R2 for generated ones; times
    gamma in the total. ``logits`` (N,) must have been computed from ``picture`` (N, C, T, T), which requires gradients.
    Differentiable by the discriminator's weights. Returns a scalar.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), picture, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(1).mean()


def penalty_scale(side: int) -> float:
    """(T / 128)^2, by which gamma counts for pictures of ``side`` T.

    D(x) is a mean over locations, so the gradient by one pixel shrinks with their number, as its square summed over
    all pixels does (for the same reason gamma grows with resolution in Karras et al. 2020, arXiv 1912.04958).
    """
    return (side / 128) ** 2


def feature_matching(fake: Verdict, real: Verdict) -> Tensor:
    """Goal: the same texture as the truth at the same place, by the critic's own measure.

    sum over levels of mean |h(y) - h(x)| / mean |h(x)|, divided by the number of levels (Wang et al. 2018, arXiv
    1711.11585, made independent of the critic's scale, which grows). No gradient flows into ``real``. Returns a scalar.
    """
    terms = []
    for found, wanted in zip(fake.features, real.features, strict=True):
        goal = wanted.detach()
        terms.append((found - goal).abs().mean() / goal.abs().mean().clamp_min(1e-6))
    return torch.stack(terms).mean()


def total_variation(face: Tensor, mask: Tensor) -> Tensor:
    """Goal: no single wild pixels.

    Sum over a picture of squared differences of neighbours that both lie in the mask, averaged over the batch (the
    quadratic form of Rudin, Osher & Fatemi 1992). ``face`` (N, 3, T, T) RGB 0..1, ``mask`` (N, 1, T, T).
    """
    across = (face[..., 1:] - face[..., :-1]).square() * mask[..., 1:] * mask[..., :-1]
    along = (face[..., 1:, :] - face[..., :-1, :]).square() * mask[..., 1:, :] * mask[..., :-1, :]
    return (across.flatten(1).sum(1) + along.flatten(1).sum(1)).mean()


def background(face: Tensor, mask: Tensor) -> Tensor:
    """Goal: no bright dots outside the mask, where no other term looks.

    mean over the outside of (y - grey)^2. ``face`` (N, 3, T, T) RGB nominally 0..1, ``mask`` (N, 1, T, T) 0..1.
    """
    outside = 1 - mask
    return ((face - GREY).square() * outside).mean() / outside.mean().clamp_min(MIN_AREA)


@torch.no_grad()
def variety(fake: Tensor, real: Tensor, mask: Tensor) -> float:
    """How much of the true pictures' variance the generated ones have; near 0 is a collapse. Not a loss.

    The smaller of two ratios: variance over the pixels of a picture (0: it is one flat colour), and, for two or more
    pictures, over the batch (0: always the same picture). ``fake`` and ``real`` (N, 3, T, T) of one person in N states,
    ``mask`` (N, 1, T, T) true masks.
    """
    fake, real, mask = fake.float(), real.float(), mask.float()
    ratios = [_variance(fake, mask, (2, 3)) / _variance(real, mask, (2, 3)).clamp_min(1e-8)]
    if len(fake) > 1:
        ratios.append(_variance(fake, mask, (0,)) / _variance(real, mask, (0,)).clamp_min(1e-8))
    return float(torch.stack(ratios).min())


def _paired(winner: Verdict, loser: Verdict, mask: Tensor) -> Tensor:
    patches = F.softplus(loser.patches - winner.patches)
    pixels = F.softplus(loser.pixels - winner.pixels)
    return 0.5 * (_inside(patches, mask) + _inside(pixels, mask)).mean()


def _inside(values: Tensor, mask: Tensor) -> Tensor:
    """(N, 1, P, P) -> (N,): mean weighted by the part of each cell that the mask covers."""
    weight = mask if mask.shape == values.shape else F.adaptive_avg_pool2d(mask, (values.shape[-2], values.shape[-1]))
    return (values * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp_min(MIN_AREA)


def _variance(picture: Tensor, mask: Tensor, over: tuple[int, ...]) -> Tensor:
    """Variance inside the mask over the named dimensions, averaged over the others by area."""
    area = mask.sum(over, keepdim=True)
    mean = (picture * mask).sum(over, keepdim=True) / area.clamp_min(MIN_AREA)
    return ((picture - mean).square() * mask).sum() / mask.sum().clamp_min(MIN_AREA)
