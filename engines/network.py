"""The networks: one universal encoder, one decoder per persona, no skips between them.

    face (N, 3, S, S) -> UniversalEncoder -> code (N, C) -> PersonaDecoder -> face (N, 3, T, T), mask (N, 1, T, T)

Everything that a decoder knows about the wearer passes through the code: 128 to 256 numbers that have room for
expression, pose, gaze and light, and not for an identity. An encoder may also take points of the wearer's face mesh
(``mesh_points``), which look the same for rendered and real people.

Plain 3x3 convolutions, LeakyReLU and pixel shuffles; no normalisation layer, so nothing depends on the batch and
nothing overflows in half precision. All sizes stand in ``config``. Pictures are RGB float32 0..1 here; the
shift to -1..1 is part of the network and travels with the weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from engines.errors import SettingsError

Tier = Literal["tiny", "small", "base"]
TIERS: tuple[Tier, ...] = get_args(Tier)

LEAK = 0.1
"""Slope of LeakyReLU below zero."""
MESH_WIDTH = 128
"""Features that the mesh points become."""
MESH_SCALE = 10.0
"""Points move by about a tenth of the crop around their mean; times this, they move by about one."""
HEAD_PLANES = 4
"""Red, green, blue, mask: the mask rides in the last convolution instead of a branch of its own."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Sizes of one family. Two networks fit each other when their configs are equal."""

    tier: str
    """Name of the family: "tiny", "small", "base", or another name for test sizes."""
    input_size: int
    """S: side of the encoder's picture in pixels."""
    output_size: int
    """T: side of the decoder's picture in pixels; grid * 2 ** (len(decoder_widths) + 1)."""
    code_size: int
    """C: numbers in the code."""
    stem_width: int
    """Channels of a 3x3 convolution at S / 2, or 0 to go straight from the 12 unshuffled channels."""
    encoder_widths: tuple[int, ...]
    """Channels after each stride-2 convolution, at S / 4, S / 8, ..."""
    encoder_residuals: tuple[bool, ...]
    """Whether a residual block follows that convolution."""
    grid: int
    """Side of the map that the decoder starts from."""
    grid_width: int
    """Channels of that map."""
    decoder_widths: tuple[int, ...]
    """Channels after each doubling; the last one is at T / 2, where the head sits."""
    mesh_points: int = 0
    """P: face mesh points that the encoder takes beside the picture (see ``mesh_subset``); 0 takes none."""
    state_size: int = 0
    """K: the last K numbers of the code are the state itself (pose, expression, gaze, light), each standardised, which
    training compares with the truth; 0 leaves the whole code free."""

    def __post_init__(self) -> None:
        if self.input_size % 2 ** (len(self.encoder_widths) + 1):
            raise SettingsError(
                f"input size {self.input_size} cannot be halved", hint="use a multiple of a power of two"
            )
        if len(self.encoder_widths) != len(self.encoder_residuals):
            raise SettingsError("one residual flag per encoder width", hint="give both tuples the same length")
        if self.mesh_points < 0:
            raise SettingsError(f"{self.mesh_points} mesh points", hint="use 0 for an encoder of pictures alone")
        if not 0 <= self.state_size < self.code_size:
            raise SettingsError(
                f"{self.state_size} numbers of the state in a code of {self.code_size}",
                hint="state_size is at least 0 and below code_size",
            )
        if self.grid * 2 ** (len(self.decoder_widths) + 1) != self.output_size:
            raise SettingsError(
                f"grid {self.grid}, {len(self.decoder_widths)} doublings and the head do not give {self.output_size}",
                hint="output_size = grid * 2 ** (number of decoder widths + 1)",
            )

    @property
    def encoded_side(self) -> int:
        """Side of the encoder's last map."""
        return self.input_size >> (len(self.encoder_widths) + 1)


def config(tier: Tier) -> NetworkConfig:
    """The sizes of a tier. Raises SettingsError for a name that is none."""
    if tier == "tiny":  # 0.72 M + 1.11 M parameters, 0.149 G multiply-adds
        return NetworkConfig(
            tier="tiny", input_size=128, output_size=128, code_size=128,
            stem_width=0, encoder_widths=(24, 48, 96, 128), encoder_residuals=(False, False, False, True),
            grid=4, grid_width=96, decoder_widths=(96, 64, 32, 16),
        )  # fmt: skip
    if tier == "small":  # 0.72 M + 2.4 M, 0.6 G. The encoder is tiny's: what limits it is the number of people that it
        # learned from, not its size, and calibrations and personas' codes hold for both.
        return NetworkConfig(
            tier="small", input_size=128, output_size=192, code_size=128,
            stem_width=0, encoder_widths=(24, 48, 96, 128), encoder_residuals=(False, False, False, True),
            grid=6, grid_width=128, decoder_widths=(128, 96, 48, 24),
        )  # fmt: skip
    if tier == "base":  # 8.8 M + 9.7 M, 3.0 G
        return NetworkConfig(
            tier="base", input_size=128, output_size=256, code_size=256,
            stem_width=48, encoder_widths=(96, 192, 320, 384), encoder_residuals=(True, True, True, True),
            grid=8, grid_width=256, decoder_widths=(256, 128, 64, 32),
        )  # fmt: skip
    raise SettingsError(f"unknown tier {tier!r}", hint=f"choose one of {', '.join(TIERS)}")


def with_state(sizes: NetworkConfig, *, mesh_points: int, state_size: int) -> NetworkConfig:
    """A tier's sizes with mesh points and, beside its free numbers, the state in its code."""
    return replace(
        sizes, mesh_points=mesh_points, code_size=sizes.code_size - sizes.state_size + state_size, state_size=state_size
    )


class Residual(nn.Module):
    """x + conv(act(conv(x))), activated. Starts as almost the identity: the second convolution begins small."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.act = nn.LeakyReLU(LEAK, inplace=True)
        _he_init(self.first)
        _he_init(self.second, gain=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) -> the same shape."""
        out: Tensor = self.act(x + self.second(self.act(self.first(x))))
        return out


class Up(nn.Module):
    """3x3 convolution to four times the channels, LeakyReLU, pixel shuffle to twice the side, residual."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, 4 * width_out, 3, padding=1)
        self.act = nn.LeakyReLU(LEAK, inplace=True)
        self.shuffle = nn.PixelShuffle(2)
        self.residual = Residual(width_out)
        _he_init(self.conv)
        with (
            torch.no_grad()
        ):  # the four sub-pixels of a channel start equal (ICNR, Aitken et al. 2017): no checkerboard
            self.conv.weight.copy_(self.conv.weight[::4].repeat_interleave(4, dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """(N, width_in, H, W) -> (N, width_out, 2 H, 2 W)."""
        out: Tensor = self.residual(self.shuffle(self.act(self.conv(x))))
        return out


class PointsBranch(nn.Module):
    """Mesh points -> features beside those of the picture. Its normalisation, ``mean``, travels with the weights."""

    mean: Tensor

    def __init__(self, points: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((points, 2), 0.5))
        self.layers = nn.Sequential(
            nn.Linear(2 * points + 1, MESH_WIDTH), nn.LeakyReLU(LEAK, inplace=True),
            nn.Linear(MESH_WIDTH, MESH_WIDTH), nn.LeakyReLU(LEAK, inplace=True),
        )  # fmt: skip

    def forward(self, points: Tensor, present: Tensor) -> Tensor:
        """(N, P, 2) fractions of the crop and flags (N, 1) 0 or 1 -> (N, MESH_WIDTH). Points of flag 0 do not count."""
        flag = present.to(points.dtype)
        known = torch.where(flag[:, :, None] > 0, (points - self.mean) * MESH_SCALE, torch.zeros_like(points))
        features: Tensor = self.layers(torch.cat([known.flatten(1), flag], dim=1))
        return features


@dataclass(frozen=True, slots=True)
class Reading:
    """What the encoder makes of a face. The states are for training, which compares each with the truth."""

    code: Tensor
    """(N, C); its last K numbers are the state that picture and points agreed on."""
    by_picture: Tensor | None = None
    """(N, K) the state as the picture shows it; None for an encoder without."""
    by_points: Tensor | None = None
    """(N, K) the state as the points show it; means nothing where they are missing."""

    def float(self) -> Reading:
        """The same in float32."""
        states = (None if state is None else state.float() for state in (self.by_picture, self.by_points))
        return Reading(self.code.float(), *states)


class StateReader(nn.Module):
    """Pose, expression, gaze and light in standard deviations, from what is known of the picture and of the points.

    The points know expression and pose of rendered and real faces alike, and nothing of light and gaze; the picture
    knows all of it worse. ``trust`` weighs them, one number of the state at a time.
    """

    def __init__(self, picture_width: int, state_size: int, *, points: bool) -> None:
        super().__init__()
        self.picture = nn.Linear(picture_width, state_size)
        self.points = nn.Linear(MESH_WIDTH, state_size) if points else None
        self.trust = nn.Parameter(torch.zeros(state_size)) if points else None

    def forward(
        self, picture: Tensor, points: Tensor | None, present: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Features (N, W) and (N, MESH_WIDTH), flags (N, 1) -> (N, K) together, by the picture and by the points."""
        by_picture: Tensor = self.picture(picture)
        if self.points is None or self.trust is None or points is None or present is None:
            return by_picture, by_picture, None
        by_points: Tensor = self.points(points)
        share = torch.sigmoid(self.trust) * present.to(by_points.dtype)
        return by_picture + share * (by_points - by_picture), by_picture, by_points


class UniversalEncoder(nn.Module):
    """Any wearer's aligned face -> code. One set of weights for everybody."""

    def __init__(self, sizes: NetworkConfig) -> None:
        super().__init__()
        self.sizes = sizes
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        width = 12
        if sizes.stem_width:
            layers += [_conv(width, sizes.stem_width, stride=1), nn.LeakyReLU(LEAK, inplace=True)]
            width = sizes.stem_width
        for next_width, residual in zip(sizes.encoder_widths, sizes.encoder_residuals, strict=True):
            layers += [_conv(width, next_width, stride=2), nn.LeakyReLU(LEAK, inplace=True)]
            width = next_width
            if residual:
                layers.append(Residual(width))
        self.body = nn.Sequential(*layers)
        features = width * sizes.encoded_side**2
        self.points = PointsBranch(sizes.mesh_points) if sizes.mesh_points else None
        known = features + (MESH_WIDTH if sizes.mesh_points else 0)
        self.to_code = nn.Linear(known, sizes.code_size - sizes.state_size)
        self.state = (
            StateReader(features, sizes.state_size, points=bool(sizes.mesh_points)) if sizes.state_size else None
        )

    def forward(self, face: Tensor, points: Tensor | None = None, present: Tensor | None = None) -> Tensor:
        """(N, 3, S, S) RGB 0..1 -> (N, C).

        ``points`` (N, P, 2) are xy as fractions of the crop's side, 0 at its left or top edge; without them, or where
        ``present`` (N, 1) is 0, the picture alone decides. Without ``present``, points that are NaN are missing. Mid
        grey pictures leave it to the points. Raises SettingsError for points that this encoder does not take.
        """
        return self.read(face, points, present).code

    def read(self, face: Tensor, points: Tensor | None = None, present: Tensor | None = None) -> Reading:
        """As ``forward``, with the states that its parts found."""
        picture = self.body(face * 2.0 - 1.0).flatten(1)
        of_points = None
        if self.points is not None:
            points, present = self._points(face, points, present)
            of_points = self.points(points, present)
        elif points is not None:
            raise SettingsError("this encoder takes no mesh points", hint="give it the picture alone")
        free: Tensor = self.to_code(picture if of_points is None else torch.cat([picture, of_points], dim=1))
        if self.state is None:
            return Reading(free)
        state, by_picture, by_points = self.state(picture, of_points, present)
        return Reading(torch.cat([free, state], dim=1), by_picture, by_points)

    def _points(self, face: Tensor, points: Tensor | None, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Points and flags, also where none were given."""
        count = face.shape[0]
        if points is None:
            return face.new_zeros((count, self.sizes.mesh_points, 2)), face.new_zeros((count, 1))
        if points.shape[1:] != (self.sizes.mesh_points, 2):
            raise SettingsError(
                f"points of shape {tuple(points.shape)}, this encoder takes (N, {self.sizes.mesh_points}, 2)",
                hint="give it the mesh points of mesh_subset, in its order",
            )
        if present is None:  # Face Mesh saw nothing where points are not numbers
            present = torch.isfinite(points).flatten(1).all(dim=1, keepdim=True).to(points.dtype)
        return points, present


class PersonaDecoder(nn.Module):
    """Code -> one persona's face and mask."""

    def __init__(self, sizes: NetworkConfig) -> None:
        super().__init__()
        self.sizes = sizes
        self.to_grid = nn.Linear(sizes.code_size, sizes.grid_width * sizes.grid**2)
        self.act = nn.LeakyReLU(LEAK, inplace=True)
        widths = (sizes.grid_width, *sizes.decoder_widths)
        self.body = nn.Sequential(*(Up(a, b) for a, b in itertools.pairwise(widths)))
        self.head = nn.Conv2d(widths[-1], 4 * HEAD_PLANES, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)
        _he_init(self.head, gain=0.1)
        with torch.no_grad():  # starts as mid grey with a mask of about one half
            self.head.weight.copy_(self.head.weight[::4].repeat_interleave(4, dim=0))
            _bias(self.head)[:12] = 0.5

    def forward(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C) -> face (N, 3, T, T) RGB and mask logits (N, 1, T, T).

        The face is nominally 0..1, not clamped: a clamp has no gradient outside. The logits' sigmoid is the mask.
        """
        side = self.sizes.grid
        grid = self.act(self.to_grid(code)).reshape(-1, self.sizes.grid_width, side, side)
        planes: Tensor = self.shuffle(self.head(self.body(grid)))
        # On the way back a split is one concatenation; two slices would be two fills and a sum.
        face, mask = torch.split(planes, [3, 1], dim=1)
        return face, mask


def build(tier: Tier, *, seed: int = 0) -> tuple[UniversalEncoder, PersonaDecoder]:
    """A freshly initialised encoder and one decoder of a tier; equal seeds give equal weights."""
    return build_encoder(config(tier), seed=seed), build_decoder(config(tier), seed=seed + 1)


def build_encoder(sizes: NetworkConfig, *, seed: int) -> UniversalEncoder:
    """A freshly initialised encoder. Does not disturb torch's global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UniversalEncoder(sizes)


def build_decoder(sizes: NetworkConfig, *, seed: int) -> PersonaDecoder:
    """A freshly initialised decoder. Does not disturb torch's global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PersonaDecoder(sizes)


def count_parameters(network: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(p.numel() for p in network.parameters())


@torch.no_grad()
def count_macs(network: nn.Module, sample: Tensor) -> int:
    """Multiply-adds of the convolutions and linear layers for ``sample`` (batch of one), by running it once."""
    total = 0

    def add(layer: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            total += output.numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.Linear):
            total += output.numel() * layer.in_features

    hooks = [layer.register_forward_hook(add) for layer in _leaves(network)]
    try:
        network(sample)
    finally:
        for hook in hooks:
            hook.remove()
    return total


def _leaves(network: nn.Module) -> Iterable[nn.Module]:
    return (layer for layer in network.modules() if not list(layer.children()))


def _conv(width_in: int, width_out: int, *, stride: int) -> nn.Conv2d:
    conv = nn.Conv2d(width_in, width_out, 3, stride=stride, padding=1)
    _he_init(conv)
    return conv


def _he_init(conv: nn.Conv2d, *, gain: float = 1.0) -> None:
    """Normal initialisation for LeakyReLU (He et al. 2015), biases zero; ``gain`` scales the weights."""
    nn.init.kaiming_normal_(conv.weight, a=LEAK, nonlinearity="leaky_relu")
    nn.init.zeros_(_bias(conv))
    with torch.no_grad():
        conv.weight.mul_(gain)


def _bias(conv: nn.Conv2d) -> Tensor:
    if conv.bias is None:
        raise TypeError("every convolution here has a bias")
    return conv.bias
