"""A trunk that begins as a smaller one's enlarged pictures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engines.errors import DataError
from engines.film import FilmDecoder
from engines.grow import can_grow, grown
from engines.network import config, with_state
from engines.universal_bundle import load_bundle, sample_codes, shipped_universal


@pytest.fixture
def small(small_sizes):
    trunk = FilmDecoder(small_sizes, seed=1)
    vectors = torch.randn(2, trunk.film_size, generator=torch.Generator().manual_seed(0)) * 0.3
    return trunk, vectors


def wider(sizes, times=1):
    widths = tuple(w + 3 for w in sizes.decoder_widths)
    return replace(
        sizes, tier="wider", grid=sizes.grid * times, output_size=sizes.output_size * times, decoder_widths=widths,
        grid_width=sizes.grid_width + 5, code_size=sizes.code_size + 2,
    )  # fmt: skip


@torch.no_grad()
def test_wider_layers_make_the_same_pictures(small_sizes, small):
    trunk, vectors = small
    sizes = wider(small_sizes)
    larger, people = grown(trunk, vectors, FilmDecoder(sizes, seed=7))
    code = torch.randn(2, small_sizes.code_size, generator=torch.Generator().manual_seed(3))
    more = torch.cat([code, torch.randn(2, 2)], dim=1)  # numbers that the smaller code did not have
    for now, then in zip(larger(more, people), trunk(code, vectors), strict=True):
        assert torch.allclose(now, then, atol=1e-4)
    assert larger.trunk.body[0].conv.weight[-1].abs().max() > 1e-3  # further channels can learn


@torch.no_grad()
def test_a_larger_map_makes_about_the_enlarged_picture():
    bundle = load_bundle(shipped_universal("tiny"))
    tiny, people = bundle.universal.trunk, bundle.universal.people.vectors.float()[:1]
    sizes = config("small")
    sizes = with_state(sizes, mesh_points=tiny.sizes.mesh_points, state_size=tiny.sizes.state_size)
    fresh = FilmDecoder(sizes, seed=7)
    larger, vectors = grown(tiny, people, fresh)
    code = sample_codes(bundle)[:4]
    then, _ = tiny(code, people)
    enlarged = torch.nn.functional.interpolate(then, size=(192, 192), mode="bilinear")
    inside = (..., slice(60, 132), slice(60, 132))  # the face, which is what was trained

    def difference(trunk, vectors):
        return float((trunk(code, vectors)[0] - enlarged)[inside].square().mean())

    assert difference(larger, vectors) < 0.4 * difference(fresh, 0 * vectors)


def test_what_does_not_fit_is_refused(small_sizes, small):
    trunk, vectors = small
    narrower = replace(small_sizes, decoder_widths=tuple(w - 1 for w in small_sizes.decoder_widths))
    assert not can_grow(small_sizes, narrower)
    with pytest.raises(DataError, match="does not fit"):
        grown(trunk, vectors, FilmDecoder(narrower, seed=0))
