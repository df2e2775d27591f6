"""What training minimises. Pure functions of tensors: result and truth in, a dict of named terms plus ``total`` out.

The truth of decoder B for wearer A in state s is the render of persona B in state s (the exact swap loss), so plain
reconstruction terms suffice. Every picture term sees only the difference inside the dilated mask: what lies outside is
never blended into a frame, and the network need not spend weights on it.

Kept lean on purpose: beside a network this small a loss is easily the dearest part. The Gaussian window of SSIM is a
product with two banded matrices evaluated at every second pixel, structure and edges are compared in luma (colour is
Charbonnier's business), the regions are drawn at a quarter of the side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

SSIM_C1 = 0.01**2
SSIM_C2 = 0.03**2
"""The stabilisers of Wang et al. (2004) for pictures in 0..1."""
CHARBONNIER_EPSILON = 1e-2
"""Below about this difference (2.5 of 255) the penalty turns quadratic."""
_USUAL_CONTRAST = 0.1
REGIONS_68 = ((36, 42), (42, 48), (48, 68))
"""Rows of the iBUG 68 layout: right eye, left eye, mouth."""


@dataclass(frozen=True, slots=True)
class LossWeights:
    """How much each term counts; 0 leaves a term out and saves its time."""

    dssim: float = 10.0
    """(1 - SSIM) / 2, structure."""
    charbonnier: float = 10.0
    """Smooth L1 of colours inside the dilated mask."""
    regions: float = 3.0
    """The same, once more on eyes and mouth: they carry the expression."""
    laplacian: float = 5.0
    """L1 of a Laplacian pyramid of the difference: edges at every scale."""
    mask_bce: float = 1.0
    """Binary cross entropy of the mask, pixel by pixel."""
    mask_dice: float = 1.0
    """Overlap of the mask as a whole."""
    code: float = 0.1
    """Equal codes for two differently disturbed pictures of one face (used on some steps only, see TrainConfig)."""
    contrast: float = 0.0
    """Exponent of ``contrast_gain``: 0 counts a difference by its size alone, which makes the decoder that all share
    learn dark faces and dark light last, and their features not at all."""


def swap_losses(
    face: Tensor, mask_logits: Tensor, truth: Tensor, truth_mask: Tensor, regions: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """Losses of one decoder's output.

    ``face`` and ``truth`` (N, 3, T, T) RGB 0..1, ``mask_logits`` and ``truth_mask`` (N, 1, T, T), the latter 0..1,
    ``regions`` (N, 1, T, T) from ``region_weights``. Returns scalars: the unweighted terms, and ``total``, weighted.
    """
    terms: dict[str, Tensor] = {}
    inside = dilate(truth_mask)
    difference = (face - truth) * inside
    area = inside.mean()

    felt = difference * contrast_gain(truth, inside, weights.contrast) if weights.contrast else difference
    magnitude = torch.sqrt(felt.square() + CHARBONNIER_EPSILON**2) - CHARBONNIER_EPSILON
    terms["charbonnier"] = magnitude.mean() / area
    if weights.regions:
        terms["regions"] = (magnitude * regions).mean() / regions.mean().clamp_min(1e-6)
    luma_difference = luma(difference)
    if weights.dssim:
        luma_truth = luma(truth)
        terms["dssim"] = dssim(luma_truth + luma_difference, luma_truth) / area
    if weights.laplacian:
        terms["laplacian"] = laplacian_l1(luma(felt)) / area
    terms["mask_bce"] = F.binary_cross_entropy_with_logits(mask_logits, truth_mask)
    terms["mask_dice"] = dice(torch.sigmoid(mask_logits), truth_mask)

    total = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
    return {**terms, "total": total}


def contrast_gain(truth: Tensor, inside: Tensor, exponent: float) -> Tensor:
    """(N, 1, 1, 1) what the differences of each face count: more where its truth (N, 3, T, T) has little contrast.

    (0.1 / s) ** exponent within 0.7 and 3, s the standard deviation of luma where ``inside`` (N, 1, T, T) is 1.
    """
    grey = luma(truth)
    area = inside.sum((1, 2, 3), keepdim=True).clamp_min(1.0)
    mean = (grey * inside).sum((1, 2, 3), keepdim=True) / area
    variance = ((grey - mean).square() * inside).sum((1, 2, 3), keepdim=True) / area
    return (_USUAL_CONTRAST / variance.sqrt().clamp_min(1e-3)).pow(exponent).clamp(0.7, 3.0)


def luma(picture: Tensor) -> Tensor:
    """(N, 3, T, T) RGB -> (N, 1, T, T) by the weights of BT.601."""
    red, green, blue = picture.unbind(dim=1)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]


def dssim(a: Tensor, b: Tensor) -> Tensor:
    """Mean of (1 - SSIM) / 2 over (N, C, T, T) pictures in 0..1; 0 for equal pictures. No gradient flows into ``b``.

    Gaussian window of about T / 11.6 pixels (11 at 128), as Wang et al. (2004) had 11; evaluated at every second pixel.
    """
    rows = _window_matrix(a.shape[-1]).to(a)
    b = b.detach()
    mean_a, mean_b = _smooth(a, rows), _smooth(b, rows)
    # Only the sum of the two variances enters, so one smoothing serves both.
    power = _smooth(a.square() + b.square(), rows)
    cross = _smooth(a * b, rows)
    mean_power = mean_a.square() + mean_b.square()
    mean_cross = mean_a * mean_b
    luminance = (2 * mean_cross + SSIM_C1) / (mean_power + SSIM_C1)
    structure = (2 * (cross - mean_cross) + SSIM_C2) / (power - mean_power + SSIM_C2)
    return (1 - luminance * structure).mean() / 2


def laplacian_l1(difference: Tensor, *, levels: int = 4) -> Tensor:
    """L1 of the Laplacian pyramid of a difference (N, C, T, T).

    The pyramid is linear, so the difference of two pyramids is the pyramid of the difference. Down is a 2x2 mean, up is
    nearest: the cheapest pair that is exact (each level plus the level above gives the picture back).
    """
    total = difference.new_zeros(())
    for _ in range(levels):
        below = F.avg_pool2d(difference, 2)
        total = total + (difference - F.interpolate(below, scale_factor=2.0, mode="nearest")).abs().mean()
        difference = below
    return total + difference.abs().mean()


def dice(mask: Tensor, truth: Tensor) -> Tensor:
    """1 - 2 |A and B| / (|A| + |B|), the soft overlap of (N, 1, T, T) masks in 0..1, averaged over the batch."""
    both = (mask * truth).flatten(1).sum(1)
    each = mask.flatten(1).sum(1) + truth.flatten(1).sum(1)
    return (1 - (2 * both + 1) / (each + 1)).mean()


def code_consistency(code: Tensor, other: Tensor) -> Tensor:
    """Mean squared distance of two (N, C) codes of one face, in units of the codes' own variance over the batch."""
    variance = code.detach().var(dim=0, unbiased=False).mean().clamp_min(1e-6)
    return (code - other).square().mean() / variance


@torch.no_grad()
def dilate(mask: Tensor) -> Tensor:
    """(N, 1, T, T) mask grown by 4 to 8 pixels, with a soft edge; done on a quarter of the side."""
    coarse = F.max_pool2d(F.max_pool2d(mask, 4), 3, stride=1, padding=1)
    return F.interpolate(coarse, scale_factor=4.0, mode="bilinear")


@torch.no_grad()
def region_weights(landmarks: Tensor, size: int) -> Tensor:
    """(N, 1, T, T) weights 0..1: soft ellipses over both eyes and the mouth.

    ``landmarks`` (N, 68, 2) are xy in pixels of the T x T picture. The falloff exp(-r^4) is flat inside the ellipse.
    """
    quarter = size // 4
    axis = (torch.arange(quarter, dtype=torch.float32, device=landmarks.device) + 0.5) * 4 - 0.5
    regions = landmarks.new_zeros((landmarks.shape[0], quarter, quarter))
    for first, last in REGIONS_68:
        points = landmarks[:, first:last]
        low, high = points.amin(dim=1), points.amax(dim=1)
        centre = (low + high) / 2
        # Eyes are flat and close: at least 4 % of the picture high, so that a shut eye still counts.
        half = ((high - low) * 0.75).clamp_min(0.04 * size)
        dx = (axis[None, :] - centre[:, :1]) / half[:, :1]
        dy = (axis[None, :] - centre[:, 1:]) / half[:, 1:]
        radius2 = dx.square()[:, None, :] + dy.square()[:, :, None]
        regions = torch.maximum(regions, torch.exp(-radius2.square()))
    return F.interpolate(regions[:, None], scale_factor=4.0, mode="bilinear")


def _smooth(picture: Tensor, rows: Tensor) -> Tensor:
    """(N, C, T, T) -> (N, C, T/2, T/2) by the window in both directions, as two matrix products."""
    return rows @ (picture @ rows.mT)


@lru_cache(maxsize=8)
def _window_matrix(size: int) -> Tensor:
    """(T/2, T): row i holds the normalised Gaussian around pixel 2 i + 0.5; at the border the window is cut."""
    sigma = 1.5 * size / 128
    centres = torch.arange(size // 2, dtype=torch.float32) * 2 + 0.5
    offsets = torch.arange(size, dtype=torch.float32)[None, :] - centres[:, None]
    window = torch.exp(-0.5 * (offsets / sigma).square())
    window[offsets.abs() > math.ceil(size / 11.6 / 2)] = 0
    return window / window.sum(dim=1, keepdim=True)
