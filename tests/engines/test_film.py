"""FiLM and LoRA: what is trained with them is what is shipped without them."""

from __future__ import annotations

import pytest
import torch

from engines.errors import SettingsError
from engines.film import FilmDecoder, LowRank, film_slots
from engines.network import build_decoder, config, count_parameters


@pytest.fixture
def trunk(small_sizes):
    return FilmDecoder(small_sizes, seed=3).eval()


def test_folding_gives_the_same_pictures(trunk, small_sizes):
    generator = torch.Generator().manual_seed(0)
    person = 0.3 * torch.randn(trunk.film_size, generator=generator)
    code = torch.randn(4, small_sizes.code_size, generator=generator)
    with torch.no_grad():
        face, mask = trunk(code, person.expand(4, -1))
        plain_face, plain_mask = trunk.fold(person)(code)
        bare_face, _ = trunk.trunk(code)
    assert torch.allclose(face, plain_face, atol=1e-5)
    assert torch.allclose(mask, plain_mask, atol=1e-5)
    assert (face - bare_face).abs().max() > 1e-2  # the vector did something


def test_a_batch_may_mix_people(trunk, small_sizes):
    people = 0.3 * torch.randn(2, trunk.film_size, generator=torch.Generator().manual_seed(1))
    code = torch.randn(1, small_sizes.code_size, generator=torch.Generator().manual_seed(2)).expand(2, -1)
    with torch.no_grad():
        both, _ = trunk(code, people)
        alone, _ = trunk(code[:1], people[1:])
    assert torch.allclose(both[1:], alone, atol=1e-5)
    assert (both[0] - both[1]).abs().max() > 1e-2


def test_vectors_of_another_family_are_refused(trunk, small_sizes):
    with pytest.raises(SettingsError, match="numbers"):
        trunk(torch.zeros(1, small_sizes.code_size), torch.zeros(1, trunk.film_size + 1))


@pytest.mark.parametrize("tier", ["tiny", "small", "base"])
def test_a_persons_vector_stays_small(tier):
    slots, size = film_slots(config(tier))
    assert slots[-1].start + 2 * slots[-1].channels == size
    assert 1_000 < size < 20_000  # a few kilobytes in half precision


def test_low_rank_starts_as_nothing_and_folds(small_sizes):
    decoder = build_decoder(small_sizes, seed=5).eval()
    change = LowRank(decoder, 2, seed=1)
    code = torch.randn(2, small_sizes.code_size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        before, _ = decoder(code)
        assert torch.equal(change.fold(decoder)(code)[0], before)
        for up in change.up:
            up.normal_(0, 0.05, generator=torch.Generator().manual_seed(4))
        after, _ = torch.func.functional_call(decoder, change.changed(decoder), (code,))
        folded, _ = change.fold(decoder)(code)
    assert torch.allclose(after, folded, atol=1e-6)
    assert (after - before).abs().max() > 1e-3
    assert count_parameters(change) < count_parameters(decoder) / 3


def test_rank_zero_is_refused(small_sizes):
    with pytest.raises(SettingsError, match="rank"):
        LowRank(build_decoder(small_sizes, seed=0), 0, seed=0)
