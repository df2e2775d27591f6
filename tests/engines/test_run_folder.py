"""What stages hand to one another."""

from __future__ import annotations

import json

import pytest
import torch

from engines import checkpoint
from engines.errors import DataError
from engines.film import FilmDecoder
from engines.network import build_decoder, build_encoder
from engines.run_folder import check_named, load_persona, load_universal, persona_names
from engines.universal_networks import save_people, save_trunk


@pytest.fixture
def universal(small_sizes, tmp_path):
    folder = tmp_path / "universal"
    trunk = FilmDecoder(small_sizes, seed=1)
    vectors = 0.3 * torch.randn(2, trunk.film_size, generator=torch.Generator().manual_seed(0))
    encoder_sha256 = sha256(checkpoint.save_encoder(folder / "encoder", build_encoder(small_sizes, seed=0), {}))
    trunk_sha256 = sha256(save_trunk(folder / "trunk", trunk, {"encoder_sha256": encoder_sha256}))
    save_people(folder / "people", vectors, ["ann", "bob"], {"trunk_sha256": trunk_sha256})
    return folder


def sha256(path):
    return json.loads(path.read_text())["sha256"]


def test_a_universal_run_and_its_people(universal):
    run = load_universal(universal)
    assert run.people.names == ("ann", "bob")
    bob = load_persona(universal, "bob")
    assert torch.equal(bob.vector, run.people.vectors[1])
    assert torch.equal(bob.decoder.head.weight, run.trunk.fold(bob.vector).head.weight)
    assert persona_names(universal) == ["ann", "bob"]
    with pytest.raises(DataError, match="bo'") as caught:
        load_persona(universal, "bo")
    assert "bob" in caught.value.hint


@pytest.mark.parametrize("stem", ["decoder", "decoder-mara"])
def test_a_decoder_beside_its_encoder(small_sizes, tmp_path, stem):
    mate = sha256(checkpoint.save_encoder(tmp_path / "encoder", build_encoder(small_sizes, seed=0), {}))
    decoder = build_decoder(small_sizes, seed=3)
    checkpoint.save_decoder(tmp_path / stem, decoder, {"persona": "mara", "encoder_sha256": mate})
    found = load_persona(tmp_path, "mara")
    assert torch.equal(found.decoder.head.weight, decoder.head.weight)
    assert found.vector is None
    checkpoint.save_encoder(tmp_path / "encoder", build_encoder(small_sizes, seed=9), {})
    with pytest.raises(DataError, match="other weights"):
        load_persona(tmp_path, "mara")


def test_mixed_up_runs_are_named(universal, small_sizes):
    checkpoint.save_encoder(universal / "encoder", build_encoder(small_sizes, seed=5), {})
    with pytest.raises(DataError, match="trunk was trained with other weights"):
        load_universal(universal)


def test_missing_parts_are_named(universal, tmp_path):
    with pytest.raises(DataError, match="no trunk"):
        load_universal(tmp_path)
    with pytest.raises(DataError, match="no run"):
        load_persona(tmp_path, "ann")
    (universal / "people.safetensors").unlink()
    with pytest.raises(DataError, match="people"):
        load_universal(universal)


def test_identities_are_named(tmp_path):
    check_named("vera", ["kofi", "vera"], tmp_path)
    with pytest.raises(DataError, match="vara") as caught:
        check_named("vara", ["kofi", "vera"], tmp_path)
    assert "vera" in caught.value.hint
