from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engines.errors import SettingsError
from engines.network import (
    TIERS,
    build,
    build_decoder,
    build_encoder,
    config,
    count_macs,
    count_parameters,
    with_state,
)  # fmt: skip

# MODEL.md's table: millions of parameters of encoder and decoder, billions of multiply-adds. Small has tiny's encoder.
TABLE = {"tiny": (0.7, 1.1, 0.154), "small": (0.7, 2.4, 0.6), "base": (8.8, 9.7, 3.0)}


@pytest.mark.parametrize("tier", TIERS)
def test_sizes_are_those_of_the_table(tier):
    encoder, decoder = build(tier)
    sizes = config(tier)
    macs = count_macs(encoder, torch.zeros(1, 3, sizes.input_size, sizes.input_size))
    macs += count_macs(decoder, torch.zeros(1, sizes.code_size))
    found = (count_parameters(encoder) / 1e6, count_parameters(decoder) / 1e6, macs / 1e9)
    assert found == pytest.approx(TABLE[tier], rel=0.15)


@torch.no_grad()
def test_starts_sane_and_uses_its_input():
    encoder, decoder = build("tiny")
    faces = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    code = encoder(faces)
    picture, mask = decoder(code)
    assert code.shape == (2, 128)
    assert picture.shape == (2, 3, 128, 128)
    assert mask.shape == (2, 1, 128, 128)
    assert 0.3 < float(picture.mean()) < 0.7
    assert float(picture.std()) < 0.2
    assert float((torch.sigmoid(mask) - 0.5).abs().max()) < 0.3
    assert float(code.std()) > 0.05
    assert not torch.equal(code[0], code[1])


def test_equal_seeds_give_equal_weights_and_leave_the_global_state_alone():
    before = torch.get_rng_state()
    a, b, c = (build_decoder(config("tiny"), seed=s).head.weight for s in (3, 3, 4))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())


def test_every_weight_learns():
    encoder, decoder = build("tiny")
    picture, mask = decoder(encoder(torch.rand(1, 3, 128, 128)))
    (picture.square().mean() + mask.square().mean()).backward()
    for network in (encoder, decoder):
        for name, weight in network.named_parameters():
            assert weight.grad is not None, name
            assert float(weight.grad.abs().sum()) > 0, name


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(SettingsError, match="doublings"):
        replace(config("tiny"), output_size=130)
    with pytest.raises(SettingsError, match="halved"):
        replace(config("tiny"), input_size=100)
    with pytest.raises(SettingsError, match="unknown tier"):
        config("huge")


@pytest.fixture
def with_points(small_sizes):
    encoder = build_encoder(replace(small_sizes, mesh_points=5), seed=2)
    generator = torch.Generator().manual_seed(0)
    return encoder, torch.rand(3, 3, 32, 32, generator=generator), torch.rand(3, 5, 2, generator=generator)


@torch.no_grad()
def test_mesh_points_change_the_code_and_may_be_missing(with_points):
    encoder, faces, points = with_points
    both, alone = encoder(faces, points), encoder(faces)
    assert (both - alone).abs().max() > 1e-2
    assert (both - encoder(faces, points + 0.02)).abs().max() > 1e-3
    # Where the flag is 0, points do not count at all, not even as numbers that are none.
    flags = torch.tensor([[1.0], [0.0], [0.0]])
    points[2] = torch.nan
    mixed = encoder(faces, points, flags)
    assert torch.allclose(mixed[0], both[0], atol=1e-6)
    assert torch.allclose(mixed[1:], alone[1:], atol=1e-6)
    # And present points at their mean are not the same as none.
    assert (encoder(faces, encoder.points.mean.expand(3, -1, -1)) - alone).abs().max() > 1e-3


def test_missing_points_teach_the_flag_but_not_through_their_values(with_points):
    encoder, faces, points = with_points
    points.requires_grad_()
    code = encoder(faces, points, torch.tensor([[1.0], [1.0], [0.0]]))
    (slope,) = torch.autograd.grad(code.sum(), points)
    assert slope[:2].abs().max() > 0
    assert (slope[2] == 0).all()


def test_points_that_do_not_fit_are_refused(with_points, small_sizes):
    encoder, faces, points = with_points
    with pytest.raises(SettingsError, match="takes"):
        encoder(faces, points[:, :4])
    with pytest.raises(SettingsError, match="no mesh points"):
        build_encoder(small_sizes, seed=0)(faces, points)
    with pytest.raises(SettingsError, match="mesh points"):
        replace(small_sizes, mesh_points=-1)


def test_an_encoder_of_pictures_alone_is_what_it_was(small_sizes):
    names = set(build_encoder(small_sizes, seed=0).state_dict())
    assert not any(name.startswith("points") for name in names)
    more = set(build_encoder(replace(small_sizes, mesh_points=5), seed=0).state_dict()) - names
    assert "points.mean" in more


@pytest.fixture
def with_a_state(small_sizes):
    encoder = build_encoder(with_state(small_sizes, mesh_points=5, state_size=4), seed=2)
    generator = torch.Generator().manual_seed(0)
    return encoder, torch.rand(3, 3, 32, 32, generator=generator), torch.rand(3, 5, 2, generator=generator)


@torch.no_grad()
def test_picture_and_points_agree_on_the_state(with_a_state, small_sizes):
    encoder, faces, points = with_a_state
    found = encoder.read(faces, points, torch.tensor([[1.0], [1.0], [0.0]]))
    assert found.code.shape == (3, small_sizes.code_size + 4)
    state = found.code[:, -4:]
    assert torch.allclose(state[:2], (found.by_picture + found.by_points)[:2] / 2, atol=1e-6)  # trust begins at a half
    assert torch.equal(state[2], found.by_picture[2])
    encoder.state.trust.fill_(20.0)
    assert torch.allclose(encoder(faces, points)[:, -4:], encoder.read(faces, points).by_points)
    assert torch.allclose(encoder(faces)[:, -4:], found.by_picture)


@torch.no_grad()
def test_points_that_are_no_numbers_are_missing(with_a_state):
    encoder, faces, points = with_a_state
    points[1, 3] = torch.nan
    mixed, alone = encoder(faces, points), encoder(faces)
    assert torch.isfinite(mixed).all()
    assert torch.equal(mixed[1], alone[1])
    assert not torch.equal(mixed[0], alone[0])


@pytest.mark.parametrize("size", [-1, 10_000])
def test_a_state_fits_into_the_code(small_sizes, size):
    with pytest.raises(SettingsError, match="state"):
        replace(small_sizes, state_size=size)
