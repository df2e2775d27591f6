"""A trunk of larger pictures that begins as the enlarged picture of a smaller one, instead of as noise.

    trunk, vectors = grown(small_trunk, its_people, FilmDecoder(larger_sizes, seed=0))

Wider layers keep the narrow ones' weights in their first channels. What the further channels would add to the first is
zero, so that the old channels compute what they did (Net2Net, Chen et al. 2016); their own weights stay as they were
drawn. The starting map is enlarged as a picture is. The result is not the enlarged picture exactly, because
convolutions then see less of the face at once: a fraction of the training from nothing makes up for that.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.errors import DataError
from engines.film import FilmDecoder, film_slots
from engines.network import NetworkConfig


def can_grow(small: NetworkConfig, large: NetworkConfig) -> bool:
    """Whether a decoder of ``small`` fits into one of ``large``, for the same code."""
    return (
        small.code_size <= large.code_size and small.grid <= large.grid and small.grid_width <= large.grid_width
        and len(small.decoder_widths) == len(large.decoder_widths)
        and all(a <= b for a, b in zip(small.decoder_widths, large.decoder_widths, strict=True))
    )  # fmt: skip


@torch.no_grad()
def grown(before: FilmDecoder, vectors: Tensor, fresh: FilmDecoder) -> tuple[FilmDecoder, Tensor]:
    """``fresh`` with the weights of ``before`` in it, and the people's vectors (K, F) in its family's form (K, F').

    Raises DataError where ``before`` does not fit.
    """
    small, large = before.sizes, fresh.sizes
    if not can_grow(small, large):
        raise DataError(
            f"a decoder of {small.tier} does not fit into one of {large.tier}",
            hint="start from a run of a smaller tier",
        )
    trunk = copy.deepcopy(fresh)
    new, old = trunk.trunk.state_dict(), before.trunk.state_dict()
    maps = (large.grid_width, large.grid, large.grid)
    weight = new["to_grid.weight"].view(*maps, large.code_size)
    weight[: small.grid_width, ..., : small.code_size] = _enlarged(old["to_grid.weight"].T, small, large).movedim(0, -1)
    weight[: small.grid_width, ..., small.code_size :] = 0
    bias = new["to_grid.bias"].view(maps)
    bias[: small.grid_width] = _enlarged(old["to_grid.bias"][None], small, large)[0]
    for name in (n for n in new if not n.startswith("to_grid")):
        into, value = new[name], old[name]
        rows = value.shape[0]
        if value.ndim == 1:
            into[:rows] = value
        else:
            into[:rows] = 0
            into[:rows, : value.shape[1]] = value
    trunk.trunk.load_state_dict(new)
    return trunk, _grown_vectors(vectors, small, large)


def _grown_vectors(vectors: Tensor, small: NetworkConfig, large: NetworkConfig) -> Tensor:
    """(K, F) -> (K, F'): maps enlarged, scales and shifts of further channels zero."""
    old_slots, _ = film_slots(small)
    new_slots, length = film_slots(large)
    people = vectors.new_zeros(len(vectors), length)
    maps = vectors.new_zeros(len(vectors), large.grid_width, large.grid, large.grid)
    maps[:, : small.grid_width] = _enlarged(vectors[:, : small.grid_width * small.grid**2], small, large)
    people[:, : large.grid_width * large.grid**2] = maps.flatten(1)
    for old, new in zip(old_slots, new_slots, strict=True):
        for part in (0, 1):
            start, into = old.start + part * old.channels, new.start + part * new.channels
            people[:, into : into + old.channels] = vectors[:, start : start + old.channels]
    return people


def _enlarged(maps: Tensor, small: NetworkConfig, large: NetworkConfig) -> Tensor:
    """(K, W * g * g) -> (K, W, G, G), as a picture is enlarged."""
    grids = maps.reshape(len(maps), small.grid_width, small.grid, small.grid)
    return F.interpolate(grids, size=(large.grid, large.grid), mode="bilinear", align_corners=False)
