"""Sharpening by one linear solve: a decoder's last convolution learns to undo the blur of its own pictures.

    sharp = sharpen(decoder, code, truths, masks)      # seconds on one core, nothing is trained
    sharp.decoder, sharp.strength, sharp.after.sharpness_ratio

Reconstruction answers uncertainty with a mean, which is too weak in the fine bands, the more so the finer they are. The
wanted picture is the decoder's own with every band of its luma raised to the power that the truths have there. The head
is linear in its features, so the weights that come nearest to it are a least-squares solution: same graph, same cost.

It raises what the decoder already draws (brows, lids, lips, teeth) and invents nothing. Asking a decoder of this size
for the truth's energy by a loss was measured to give a checkerboard instead: it has no other source of detail.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.augment import Tensors
from engines.errors import SettingsError
from engines.losses import luma
from engines.network import PersonaDecoder
from engines.validation import Score, score_faces

BANDS = (0.7, 1.4, 2.8)
"""Sigmas in pixels of pictures of side 128 between which the bands lie."""
STRENGTHS = (1.5, 1.25, 1.0, 0.75, 0.5, 0.25)
"""Tried in this order; at 1 the wanted bands have the truths' power. The head reaches about half of it, hence more."""
MOST_GAIN = 3.0
"""Of a band: what is this weak in the decoder's picture is noise."""
MOST_LOSS_DB = 0.3
"""Masked PSNR that sharpness may cost."""
_RIDGE = 1e-4
_COVERED = 0.99
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Sharpened:
    """A decoder with another head, and what that did on the faces it was fitted on."""

    decoder: PersonaDecoder
    strength: float
    """0 where every strength cost too much; then the decoder is as it was."""
    gains: tuple[float, ...]
    """Of the bands, finest first, at strength 1."""
    before: Score
    after: Score


@torch.no_grad()
def sharpen(
    decoder: PersonaDecoder, code: Tensor, truths: Tensor, masks: Tensor, *, most_loss_db: float = MOST_LOSS_DB,
    strengths: Sequence[float] = STRENGTHS,
) -> Sharpened:  # fmt: skip
    """The strongest of ``strengths`` that costs at most ``most_loss_db``; ``decoder`` is not changed.

    ``code`` (N, C) of wearers, ``truths`` (N, 3, T, T) RGB 0..1 and ``masks`` (N, 1, T, T) 0..1 of the persona in their
    states: about a hundred pairs, of people it was trained on. The mask that the decoder draws stays as it is. Raises
    SettingsError where masks of truth and decoder have nothing in common.
    """
    side = truths.shape[-1]
    sigmas = [sigma * side / 128 for sigma in BANDS]
    features = torch.cat([_features(decoder, some) for some in torch.split(code, _AT_ONCE)])
    face, logits = torch.split(decoder.shuffle(decoder.head(features)).contiguous(), [3, 1], dim=1)
    own, true = (torch.sigmoid(logits) > 0.5).float(), (masks > 0.5).float()
    # Not at the rim, where a band sees too little of the face.
    inner = (F.avg_pool2d(own * true, 5, stride=1, padding=2) > _COVERED).float()
    if not bool(inner.any()):
        raise SettingsError(
            "the decoder draws no face where the truth has one", hint="train the persona before it is sharpened"
        )
    bands, true_bands = _bands(face, own, sigmas), _bands(truths, true, sigmas)
    gains = tuple(_gain(a, b, inner) for a, b in zip(bands, true_bands, strict=True))
    shown = Tensors(face, truths[None], masks[None], truths.new_zeros((1, len(truths), 68, 2)))
    before = score_faces(face, torch.sigmoid(logits), shown, 0)
    head = _HeadFit(features, own)
    for strength in strengths:
        more = sum((gain**strength - 1) * luma(band) for gain, band in zip(gains, bands, strict=True))
        found = copy.deepcopy(decoder)
        head.add_to(found, torch.as_tensor(more).expand_as(face))
        picture = torch.split(found.shuffle(found.head(features)).contiguous(), [3, 1], dim=1)[0]
        after = score_faces(picture, torch.sigmoid(logits), shown, 0)
        if after.psnr_masked_db >= before.psnr_masked_db - most_loss_db:
            return Sharpened(found, strength, gains, before, after)
    return Sharpened(copy.deepcopy(decoder), 0.0, gains, before, before)


class _HeadFit:
    """Least squares of the head's colour planes on its 3x3 windows of features, inside the face."""

    def __init__(self, features: Tensor, own: Tensor) -> None:
        self._features = features
        # (N, H W): the head works at half the picture's side.
        self._inside = (F.avg_pool2d(own, 2) > _COVERED).flatten(1)
        size = features.shape[1] * 9 + 1
        self._gram = torch.zeros(size, size, dtype=torch.float64)
        for i in range(len(features)):
            rows = self._windows(i)
            self._gram += (rows @ rows.mT).double()
        ridge = _RIDGE * self._gram.diagonal().mean() * torch.eye(size, dtype=torch.float64)
        self._system = self._gram + ridge

    def add_to(self, decoder: PersonaDecoder, more: Tensor) -> None:
        """Change the head of ``decoder`` so that its pictures gain, as nearly as it can, ``more`` (N, 3, T, T)."""
        wanted = F.pixel_unshuffle(more, 2).flatten(2)
        against = torch.zeros(len(self._gram), wanted.shape[1], dtype=torch.float64)
        for i in range(len(wanted)):
            against += (self._windows(i) @ wanted[i][:, self._inside[i]].mT).double()
        change = torch.linalg.solve(self._system, against).float()
        weight, bias = decoder.head.weight, decoder.head.bias
        planes = wanted.shape[1]  # the mask's planes come after the colours'
        weight[:planes] += change[:-1].mT.reshape(planes, *weight.shape[1:])
        if bias is not None:
            bias[:planes] += change[-1]

    def _windows(self, face: int) -> Tensor:
        """(9 W + 1, pixels inside): the features around each, and a one."""
        rows = F.unfold(self._features[face : face + 1], 3, padding=1)[0][:, self._inside[face]]
        return torch.cat([rows, torch.ones_like(rows[:1])])


def _features(decoder: PersonaDecoder, code: Tensor) -> Tensor:
    """What the head sees, (N, W, T / 2, T / 2)."""
    caught: list[Tensor] = []
    hook = decoder.head.register_forward_pre_hook(lambda _layer, inputs: caught.append(inputs[0]))
    try:
        decoder(code)
    finally:
        hook.remove()
    return caught[0].contiguous()


def _bands(picture: Tensor, mask: Tensor, sigmas: Sequence[float]) -> list[Tensor]:
    """Differences of neighbouring blurs, finest first; what lies outside ``mask`` does not enter the blurs."""
    found, finer = [], picture
    for sigma in sigmas:
        coarser = _blur(picture * mask, sigma) / _blur(mask, sigma).clamp_min(1e-3)
        found.append((finer - coarser) * mask)
        finer = coarser
    return found


def _gain(band: Tensor, true: Tensor, inner: Tensor) -> float:
    """By how much the truth's amplitude is larger, 1 to MOST_GAIN."""
    own_power, true_power = (float((luma(b).square() * inner).sum()) for b in (band, true))
    return min(MOST_GAIN, max(1.0, math.sqrt(true_power / max(own_power, 1e-12))))


def _blur(picture: Tensor, sigma: float) -> Tensor:
    """Gaussian in both directions, cut at three sigmas."""
    reach, channels = round(3 * sigma), picture.shape[1]
    window = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=picture.dtype) / sigma).square())
    window = (window / window.sum()).repeat(channels, 1, 1, 1)
    across = F.conv2d(F.pad(picture, (reach, reach, 0, 0), mode="replicate"), window, groups=channels)
    return F.conv2d(F.pad(across, (0, 0, reach, reach), mode="replicate"), window.mT, groups=channels)
