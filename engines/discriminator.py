"""The critic of the GAN stage: does this look like a true picture of this person, as a whole and pixel by pixel?

    picture (N, 4, T, T), person (N, F) -> Discriminator -> patch logits (N, 1, P, P), pixel logits (N, 1, T, T)

A U-Net (Schoenfeld et al. 2020, arXiv 2002.12655): the way down ends in logits of large overlapping patches (layout,
light), the way up in logits of single pixels (texture, edges). The person enters by projection (Miyato & Koyama 2018,
arXiv 1802.05637) at both ends: logit = psi(h) + <V y, h>. No normalisation layers, so a picture is judged by itself and
gradient penalties mean what they say. Like the decoder it works at half the side, with 2 x 2 pixels as channels.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from engines import checkpoint
from engines.errors import DataError, SettingsError
from engines.network import LEAK, NetworkConfig

GREY = 0.5
"""What stands outside the mask."""


@dataclass(frozen=True, slots=True)
class DiscriminatorConfig:
    """Sizes of a discriminator."""

    size: int
    """T: side of the pictures in pixels."""
    person_size: int
    """F: numbers in a person's vector."""
    widths: tuple[int, ...]
    """Channels at T / 2, T / 4, ...; the last ones are the bottleneck's, with the patch logits."""
    spectral_norm: bool = False
    """Divide every weight by its largest singular value (Miyato et al. 2018, arXiv 1802.05957)."""

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or self.size % 2 ** len(self.widths) or self.person_size < 1:
            raise SettingsError(
                f"a discriminator of {len(self.widths)} levels for pictures of {self.size} and vectors of"
                f" {self.person_size} cannot be built",
                hint="give at least two widths, a size that can be halved once per width, and a person size above 0",
            )


def discriminator_config(sizes: NetworkConfig, person_size: int, *, spectral_norm: bool = False) -> DiscriminatorConfig:
    """The critic that goes with a family of networks; families without a tier of their own get a small one.

    | tier  | side | widths               | parameters, 8 people | multiply-adds per picture |
    |-------|------|----------------------|----------------------|---------------------------|
    | tiny  | 128  | 16, 32, 64, 96       | 0.29 M               | 0.108 G                   |
    | small | 192  | 24, 48, 80, 128      | 0.51 M               | 0.468 G                   |
    | base  | 256  | 32, 64, 96, 128, 192 | 1.43 M               | 1.396 G                   |
    """
    by_tier = {"tiny": (16, 32, 64, 96), "small": (24, 48, 80, 128), "base": (32, 64, 96, 128, 192)}
    widths = by_tier.get(sizes.tier) or _small_widths(sizes.output_size)
    return DiscriminatorConfig(sizes.output_size, person_size, widths, spectral_norm)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a discriminator says about N pictures. Logits are unbounded; only differences of them mean anything."""

    patches: Tensor
    """(N, 1, P, P), P = T / 2 ** len(widths)."""
    pixels: Tensor
    """(N, 1, T, T)"""
    features: tuple[Tensor, ...]
    """Activations of every level, on the way down and then up, for feature matching."""

    def float(self) -> Verdict:
        """The same in float32: losses do not fit into bfloat16's eight bits."""
        return Verdict(self.patches.float(), self.pixels.float(), tuple(f.float() for f in self.features))


class Discriminator(nn.Module):
    """U-Net patch and pixel discriminator with identity projection."""

    def __init__(self, sizes: DiscriminatorConfig) -> None:
        super().__init__()
        self.sizes = sizes
        widths = sizes.widths
        self.unshuffle = nn.PixelUnshuffle(2)
        self.act = nn.LeakyReLU(LEAK)
        self.stem = _conv(16, widths[0])
        self.down = nn.ModuleList(_conv(a, b, stride=2) for a, b in itertools.pairwise(widths))
        self.middle = _conv(widths[-1], widths[-1])
        self.up = nn.ModuleList(_conv(a + b, b) for a, b in itertools.pairwise(widths[::-1]))
        self.to_patch = nn.Conv2d(widths[-1], 1, 1)
        self.to_pixel = nn.Conv2d(widths[0], 4, 1)
        self.shuffle = nn.PixelShuffle(2)
        self.patch_person = nn.Linear(sizes.person_size, widths[-1], bias=False)
        self.pixel_person = nn.Linear(sizes.person_size, widths[0], bias=False)
        with torch.no_grad():
            for head in (self.to_patch, self.to_pixel, self.patch_person, self.pixel_person):
                head.weight.mul_(0.1)  # starts undecided: all logits near 0
        if sizes.spectral_norm:
            for layer in [m for m in self.modules() if isinstance(m, nn.Conv2d | nn.Linear)]:
                parametrizations.spectral_norm(layer)
            self.eval()  # singular vectors move in ``advance`` only

    def forward(self, picture: Tensor, person: Tensor) -> Verdict:
        """(N, 4, T, T) from ``on_grey`` and (N, F) of any scale -> logits and features."""
        person = person / person.square().mean(dim=1, keepdim=True).sqrt().clamp_min(1e-8)
        x = self.act(self.stem(self.unshuffle(picture * 2 - 1)))
        levels = [x]
        for conv in self.down:
            x = self.act(conv(x))
            levels.append(x)
        x = self.act(self.middle(x))
        features = [*levels, x]
        patches = self.to_patch(x) + (x * self.patch_person(person)[:, :, None, None]).sum(1, keepdim=True)
        for conv, skip in zip(self.up, levels[-2::-1], strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.act(conv(torch.cat([x, skip], dim=1)))
            features.append(x)
        # The four sub-pixels share one projection: a person has no preference for odd columns.
        pixels = self.to_pixel(x) + (x * self.pixel_person(person)[:, :, None, None]).sum(1, keepdim=True)
        return Verdict(patches, self.shuffle(pixels), tuple(features))

    @torch.no_grad()
    def advance(self) -> None:
        """One power iteration per layer of the spectral norm; nothing without it. Call once per step.

        Not part of ``forward``, where threads that judge parts of one batch would move the vectors under one another.
        """
        if self.sizes.spectral_norm:
            self.train()
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    _ = layer.weight
            self.eval()


def on_grey(face: Tensor, mask: Tensor) -> Tensor:
    """(N, 3, T, T) RGB 0..1 and the true (N, 1, T, T) mask -> (N, 4, T, T): the face on grey, and the mask.

    True and generated pictures get the same mask, so what lies outside tells nothing and receives no gradient.
    """
    return torch.cat([face * mask + GREY * (1 - mask), mask], dim=1)


def build_discriminator(sizes: DiscriminatorConfig, *, seed: int) -> Discriminator:
    """A freshly initialised discriminator. Does not disturb torch's global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Discriminator(sizes)


def save_discriminator(stem: Path, discriminator: Discriminator, meta: dict[str, Any]) -> Path:
    """Write STEM.safetensors and STEM.json with the sizes; returns the JSON's path."""
    about = {**meta, "discriminator": asdict(discriminator.sizes)}
    return checkpoint.save(stem, "discriminator", discriminator.state_dict(), about)


def load_discriminator(stem: Path) -> tuple[Discriminator, dict[str, Any]]:
    """The discriminator and its JSON. Raises DataError when the files are missing, damaged or do not fit."""
    found = checkpoint.load(stem, "discriminator")
    sizes = found.meta.get("discriminator")
    try:
        if not isinstance(sizes, dict) or set(sizes) != {f.name for f in fields(DiscriminatorConfig)}:
            raise ValueError("wrong fields")
        discriminator = Discriminator(DiscriminatorConfig(**{**sizes, "widths": tuple(sizes["widths"])}))
    except (TypeError, ValueError, SettingsError) as error:
        raise DataError(f"{stem}.json has no usable sizes: {error}", hint="train again") from error
    checkpoint.load_strict(discriminator, found.tensors, str(stem))
    return discriminator.eval(), found.meta


def _small_widths(size: int) -> tuple[int, ...]:
    """Widths that end in a bottleneck of at least 4 pixels a side."""
    levels = 2
    while levels < 4 and size % 2 ** (levels + 1) == 0 and size >> (levels + 1) >= 4:
        levels += 1
    return (16, 32, 48, 64)[:levels]


def _conv(width_in: int, width_out: int, *, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution with the initialisation of He et al. (2015) for LeakyReLU, biases zero."""
    conv = nn.Conv2d(width_in, width_out, 3, stride=stride, padding=1)
    nn.init.kaiming_normal_(conv.weight, a=LEAK, nonlinearity="leaky_relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
