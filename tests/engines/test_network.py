from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engines.errors import SettingsError
from engines.network import TIERS, build, build_decoder, config, count_macs, count_parameters

# MODEL.md's table: millions of parameters of encoder and decoder, billions of multiply-adds.
TABLE = {"tiny": (0.7, 1.1, 0.154), "small": (1.9, 2.7, 0.69), "base": (8.8, 9.7, 3.0)}


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
