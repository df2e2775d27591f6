"""A run that begins with what an earlier one has learned."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engines.checkpoint import Meta
from engines.errors import DataError
from engines.network import with_state
from engines.run_folder import Universal
from engines.universal_networks import People, UniversalNetworks
from engines.warm_start import begin_with


def universal(networks, names):
    people = People(networks.people.weight.detach().clone(), tuple(names), Meta())
    return Universal(networks.encoder, networks.trunk, people)


@pytest.fixture
def before(small_sizes):
    sizes = replace(small_sizes, mesh_points=5)
    networks = UniversalNetworks(sizes, 2, wearers=0, truths=(), seed=1)
    torch.nn.init.normal_(networks.people.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    return networks


@torch.no_grad()
def test_a_code_that_grew_begins_with_the_same_pictures(small_sizes, before):
    sizes = with_state(small_sizes, mesh_points=5, state_size=4)
    networks = UniversalNetworks(sizes, 3, wearers=0, truths=(3, 1), seed=9)
    networks.encoder.points.mean.fill_(0.25)
    begin_with(networks, ["new", "kofi", "vera"], universal(before, ["vera", "kofi"]))
    assert (networks.encoder.points.mean == 0.25).all()  # of the new set
    networks.encoder.points.mean.copy_(before.encoder.points.mean)
    faces, points = torch.rand(2, 3, 32, 32), torch.rand(2, 5, 2)
    now = networks.decode(networks.encoder(faces, points), torch.tensor([2, 1]))
    then = before.decode(before.encoder(faces, points), torch.tensor([0, 1]))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(now, then, strict=True))
    assert networks.encoder(faces, points)[:, -4:].abs().max() > 1e-3


def test_another_family_is_refused(small_sizes, before):
    wider = replace(small_sizes, mesh_points=5, encoder_widths=tuple(2 * w for w in small_sizes.encoder_widths))
    networks = UniversalNetworks(wider, 2, wearers=0, truths=(), seed=1)
    with pytest.raises(DataError, match="earlier run"):
        begin_with(networks, ["vera", "kofi"], universal(before, ["vera", "kofi"]))
