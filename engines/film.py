"""One decoder for many people: a shared trunk, and per person a short vector that bends it.

    code (N, C), person (N, F) -> FilmDecoder -> face (N, 3, T, T), mask logits (N, 1, T, T)

The vector scales and shifts every channel of every convolution (FiLM, Perez et al. 2018; the foldable form of the AdaIN
of Zakharov et al. 2019) and carries the map that the decoder starts from, which is where a face's own layout sits. An
optional low-rank change of the weights (LoRA, Hu et al. 2021) is for people with more footage than a vector can hold.
All of it folds into the plain convolutions of a ``PersonaDecoder``: whatever a persona was made from, what ships is one
and the same graph.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from engines.errors import SettingsError
from engines.network import NetworkConfig, PersonaDecoder, Up, build_decoder

_SUBPIXELS = 4


@dataclass(frozen=True, slots=True)
class FilmSlot:
    """Where one convolution's numbers lie in a person's vector."""

    layer: str
    """Its name in ``PersonaDecoder.named_modules``."""
    start: int
    channels: int
    """Numbers for the scale; as many for the shift follow."""
    repeat: int
    """Neighbouring output channels that share a number: the four sub-pixels of a channel before a pixel shuffle."""


def film_slots(sizes: NetworkConfig) -> tuple[tuple[FilmSlot, ...], int]:
    """The slots of a family in forward order, and F, the length of a person's vector.

    The first ``grid_width * grid**2`` numbers are the starting map.
    """
    start = sizes.grid_width * sizes.grid**2
    slots = []
    for index, width in enumerate(sizes.decoder_widths):
        for layer, repeat in (("conv", _SUBPIXELS), ("residual.first", 1), ("residual.second", 1)):
            slots.append(FilmSlot(f"body.{index}.{layer}", start, width, repeat))
            start += 2 * width
    return tuple(slots), start


class FilmDecoder(nn.Module):
    """The trunk. It holds no person: vectors come with every call."""

    def __init__(self, sizes: NetworkConfig, *, seed: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.trunk = build_decoder(sizes, seed=seed)
        self.slots, self.film_size = film_slots(sizes)

    def forward(self, code: Tensor, person: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C) and (N, F) -> face (N, 3, T, T) RGB, nominally 0..1 and not clamped, and mask logits (N, 1, T, T).

        Raises SettingsError for vectors of another family.
        """
        if person.shape[-1] != self.film_size:
            raise SettingsError(f"a person's vector has {person.shape[-1]} numbers, this trunk takes {self.film_size}",
                                hint="use a vector that was trained with this trunk")  # fmt: skip
        trunk, sizes = self.trunk, self.sizes
        map_size = sizes.grid_width * sizes.grid**2
        x = trunk.act(trunk.to_grid(code) + person[:, :map_size])
        x = x.reshape(-1, sizes.grid_width, sizes.grid, sizes.grid)
        slots = iter(self.slots)
        for block in (_layer(trunk, f"body.{i}", Up) for i in range(len(sizes.decoder_widths))):
            x = block.shuffle(block.act(_bend(block.conv(x), person, next(slots))))
            inner = block.residual
            y = inner.act(_bend(inner.first(x), person, next(slots)))
            x = inner.act(x + _bend(inner.second(y), person, next(slots)))
        planes: Tensor = trunk.shuffle(trunk.head(x))
        face, mask = torch.split(planes, [3, 1], dim=1)
        return face, mask

    @torch.no_grad()
    def fold(self, person: Tensor) -> PersonaDecoder:
        """The plain decoder of one person's vector (F,): the same pictures, without FiLM. See ``folded``."""
        plain = copy.deepcopy(self.trunk)
        plain.load_state_dict(folded(dict(plain.named_parameters()), self.sizes, person))
        return plain


def folded(parameters: Mapping[str, Tensor], sizes: NetworkConfig, person: Tensor) -> dict[str, Tensor]:
    """A plain decoder's parameters by name, with the vector (F,) of a person in them; gradients flow to all of these.

    y = (1 + g) (W x + b) + s is the convolution with weights (1 + g) W and bias (1 + g) b + s.
    """
    plain = dict(parameters)
    slots, _ = film_slots(sizes)
    plain["to_grid.bias"] = plain["to_grid.bias"] + person[: sizes.grid_width * sizes.grid**2]
    for slot in slots:
        scale, shift = _numbers(person[None], slot)
        plain[f"{slot.layer}.weight"] = plain[f"{slot.layer}.weight"] * (1 + scale[0, :, None, None, None])
        plain[f"{slot.layer}.bias"] = plain[f"{slot.layer}.bias"] * (1 + scale[0]) + shift[0]
    return plain


def _numbers(person: Tensor, slot: FilmSlot) -> tuple[Tensor, Tensor]:
    """Scale and shift (N, output channels) of a slot."""
    scale, shift = person[:, slot.start : slot.start + 2 * slot.channels].chunk(2, dim=1)
    if slot.repeat == 1:
        return scale, shift
    return scale.repeat_interleave(slot.repeat, dim=1), shift.repeat_interleave(slot.repeat, dim=1)


def _bend(x: Tensor, person: Tensor, slot: FilmSlot) -> Tensor:
    scale, shift = _numbers(person, slot)
    return torch.addcmul(x + shift[..., None, None], x, scale[..., None, None])


_Layer = TypeVar("_Layer", bound=nn.Module)


def _layer(network: nn.Module, name: str, kind: type[_Layer]) -> _Layer:
    found = network.get_submodule(name)
    if not isinstance(found, kind):
        raise TypeError(f"{name} is {type(found).__name__}")
    return found


def _parameter(layer: nn.Module, name: str) -> Tensor:
    found = getattr(layer, name)
    if not isinstance(found, Tensor):
        raise TypeError(f"{type(layer).__name__} has no {name}")
    return found


class LowRank(nn.Module):
    """Low-rank changes of all convolutions and the first linear layer of a ``PersonaDecoder``, zero at first."""

    def __init__(self, decoder: PersonaDecoder, rank: int, *, seed: int) -> None:
        super().__init__()
        if rank < 1:
            raise SettingsError(f"rank {rank} changes nothing", hint="use a rank of 1 or more; 4 to 8 is usual")
        generator = torch.Generator().manual_seed(seed)
        self.rank = rank
        self.names = [n for n, m in decoder.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        self.down, self.up = nn.ParameterList(), nn.ParameterList()
        for name in self.names:
            weight = _parameter(decoder.get_submodule(name), "weight")
            rows, columns = weight.shape[0], weight[0].numel()
            self.down.append(nn.Parameter(torch.randn(rank, columns, generator=generator) / columns**0.5))
            self.up.append(nn.Parameter(torch.zeros(rows, rank)))

    def changed(self, decoder: PersonaDecoder) -> dict[str, Tensor]:
        """The decoder's parameters by name with the change added, for ``torch.func.functional_call``."""
        parameters: dict[str, Tensor] = dict(decoder.named_parameters())
        for name, down, up in zip(self.names, self.down, self.up, strict=True):
            weight = parameters[f"{name}.weight"]
            parameters[f"{name}.weight"] = weight + (up @ down).reshape(weight.shape)
        return parameters

    @torch.no_grad()
    def fold(self, decoder: PersonaDecoder) -> PersonaDecoder:
        """The decoder with the change in its weights."""
        plain = copy.deepcopy(decoder)
        plain.load_state_dict(self.changed(decoder))
        return plain
