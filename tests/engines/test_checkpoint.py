from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from engines import checkpoint
from engines.errors import DataError
from engines.network import build_decoder, build_encoder


@pytest.fixture
def saved(tmp_path, small_sizes):
    encoder = build_encoder(small_sizes, seed=3).to(memory_format=torch.channels_last)
    checkpoint.save_encoder(tmp_path / "encoder-1.0", encoder, {"note": "hello"})
    return tmp_path / "encoder-1.0", encoder


def test_round_trip(saved, tmp_path, small_sizes):
    stem, encoder = saved
    found, meta = checkpoint.load_encoder(stem)
    assert found.sizes == small_sizes
    assert meta["note"] == "hello"
    assert meta["kind"] == "encoder"
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), encoder.parameters(), strict=True))
    decoder = build_decoder(small_sizes, seed=1)
    checkpoint.save_decoder(tmp_path / "d", decoder, {})
    assert torch.equal(checkpoint.load_decoder(tmp_path / "d")[0].head.weight, decoder.head.weight)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "d.json", "d.safetensors", "encoder-1.0.json", "encoder-1.0.safetensors",
    ]  # fmt: skip


def edit(stem, **changes):
    path = stem.with_name(stem.name + ".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def weights(stem):
    return stem.with_name(stem.name + ".safetensors")


def flip_bit(stem):
    data = bytearray(weights(stem).read_bytes())
    data[-5] ^= 1
    weights(stem).write_bytes(bytes(data))


DAMAGES = {
    "truncated": lambda stem: weights(stem).write_bytes(weights(stem).read_bytes()[:-4]),
    "one bit": flip_bit,
    "missing": lambda stem: weights(stem).unlink(),
    "foreign": lambda stem: edit(stem, format="other"),
    "other kind": lambda stem: edit(stem, kind="decoder"),
    "newer": lambda stem: edit(stem, version=99),
    "no sizes": lambda stem: edit(stem, network={"tier": "tiny"}),
    "no JSON": lambda stem: stem.with_name(stem.name + ".json").write_text("{"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_named(saved, damage):
    damage(saved[0])
    with pytest.raises(DataError) as caught:
        checkpoint.load_encoder(saved[0])
    assert caught.value.hint


def test_weights_must_fit_and_be_finite(saved, small_sizes):
    _, encoder = saved
    tensors = dict(encoder.state_dict())
    bias = tensors.pop("to_code.bias")
    with pytest.raises(DataError, match=r"to_code\.bias"):
        checkpoint.load_strict(encoder, tensors, "test")
    with pytest.raises(DataError, match=r"to_code\.bias"):
        checkpoint.load_strict(encoder, {**tensors, "to_code.bias": bias[:2]}, "test")
    with pytest.raises(DataError, match="finite"):
        checkpoint.load_strict(encoder, {**tensors, "to_code.bias": bias * torch.nan}, "test")


def test_old_files_pass_through_the_upgrades(saved, monkeypatch):
    stem, encoder = saved

    def from_0_to_1(meta, tensors):
        return meta, {name.removeprefix("old."): t for name, t in tensors.items()}

    old = {f"old.{k}": v for k, v in encoder.state_dict().items()}
    meta = json.loads(stem.with_name(stem.name + ".json").read_text())
    checkpoint.save(stem, "encoder", old, {"network": meta["network"]})
    edit(stem, version=0)
    with pytest.raises(DataError, match="version 0"):
        checkpoint.load_encoder(stem)
    monkeypatch.setattr(checkpoint, "UPGRADES", {0: from_0_to_1})
    assert torch.equal(checkpoint.load_encoder(stem)[0].to_code.bias, encoder.to_code.bias)


def test_weights_from_before_a_size_existed_still_load(saved):
    stem, encoder = saved
    network = json.loads(stem.with_name(stem.name + ".json").read_text())["network"]
    assert network.pop("mesh_points") == 0
    edit(stem, network=network)
    found, _ = checkpoint.load_encoder(stem)
    assert found.sizes == encoder.sizes
    assert torch.equal(found.to_code.weight, encoder.to_code.weight)
    for bad in ({**network, "unheard_of": 1}, {k: v for k, v in network.items() if k != "grid"}):
        edit(stem, network=bad)
        with pytest.raises(DataError, match="sizes"):
            checkpoint.load_encoder(stem)


def test_an_encoder_with_mesh_points_keeps_their_mean(small_sizes, tmp_path):
    encoder = build_encoder(replace(small_sizes, mesh_points=5), seed=3)
    encoder.points.mean.fill_(0.25)
    checkpoint.save_encoder(tmp_path / "encoder", encoder, {})
    found, _ = checkpoint.load_encoder(tmp_path / "encoder")
    assert found.sizes.mesh_points == 5
    assert torch.equal(found.points.mean, encoder.points.mean)
