"""A universal run that begins with what an earlier one has learned, on another set or with more in its code."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from engines.errors import DataError
from engines.grow import grown
from engines.network import NetworkConfig
from engines.run_folder import Universal
from engines.universal_networks import UniversalNetworks

_FROM_THE_SET = ("points.mean",)
"""Buffers that say how the set is, not what was learned."""


@torch.no_grad()
def begin_with(networks: UniversalNetworks, names: Sequence[str], before: Universal) -> None:
    """Copy encoder, trunk and the vectors of the people (``names``, the rows of ``networks.people``) known from before.

    Where the code has more numbers now, the decoder begins as if they were zero; a trunk of a smaller tier is grown
    (see ``grow``). Raises DataError when the earlier networks are of another family: another encoder, or maps that are
    larger than these.
    """
    _copy(networks.encoder, before.encoder, "encoder")
    trunk, vectors = before.trunk, before.people.vectors
    if _decoder_sizes(trunk.sizes) != _decoder_sizes(networks.trunk.sizes):
        trunk, vectors = grown(trunk, vectors, networks.trunk)
    _copy(networks.trunk, trunk, "trunk")
    known = {name: row for row, name in enumerate(before.people.names)}
    if vectors.shape[1] != networks.people.weight.shape[1]:
        raise DataError("the earlier run's people are of another family", hint="start from a run of the same tier")
    for row, name in enumerate(names):
        if name in known:
            networks.people.weight[row] = vectors[known[name]]


def _decoder_sizes(sizes: NetworkConfig) -> tuple[object, ...]:
    return sizes.grid, sizes.grid_width, sizes.decoder_widths


def _copy(network: nn.Module, before: nn.Module, what: str) -> None:
    """Copy tensors of one name; of a matrix that grew by columns, the new ones become zero."""
    earlier = before.state_dict()
    mine = network.state_dict()
    for name in (n for n in mine if n in earlier and n not in _FROM_THE_SET):
        new, old = mine[name], earlier[name].to(mine[name].dtype)
        if new.shape == old.shape:
            new.copy_(old)
        elif new.ndim == old.ndim == 2 and new.shape[0] == old.shape[0] and new.shape[1] > old.shape[1]:
            new.zero_()
            new[:, : old.shape[1]] = old
        else:
            raise DataError(
                f"{what}.{name} is {tuple(old.shape)} in the earlier run, {tuple(new.shape)} here",
                hint="start from a run of the same tier",
            )
