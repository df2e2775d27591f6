"""``personacam engines`` as a user meets it."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from engines.errors import BuildError
from engines.mesh_subset import MESH_SUBSET
from engines.runtimes import cuda
from realtime import cli_engines
from realtime.cli import app
from realtime.session import wearer_crops

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="tensorrt-rtx is not installed: pip install '.[rtx]' (Linux or Windows, x86-64)",
)


@pytest.fixture(autouse=True)
def no_card(monkeypatch):
    monkeypatch.setattr(cuda, "find_card", lambda: None)


def command(folder, *arguments):
    done = CliRunner().invoke(app, ["engines", *map(str, arguments), "--cache", str(folder), "--json"])
    return done.exit_code, json.loads(done.stdout.splitlines()[-1]), " ".join(done.stderr.split())


@needs_rtx
def test_build_list_clear(tmp_path):
    code, built, said = command(tmp_path, "build", "-p", "vera", "--backend", "tensorrt-rtx", "--sm", "8.9")
    assert code == 0
    assert built["persona"]["name"] == "vera"
    assert built["persona"]["tier"] == "tiny"
    assert (built["precision"], built["sm"], built["kept"]) == ("fp16", "8.9", False)
    assert built["weighted"].keys() == {"fp16"}
    assert built["layers"]["fp16"] > built["layers"]["fp32"] > 0
    assert 3.5e6 < built["bytes"] < 7e6
    assert built["seconds"] > 0
    assert built["source"] == "graph"
    assert built["agreement"]["crops"] == 32
    assert built["agreement"]["checked"] == "graph"
    assert min(built["agreement"]["pixels_psnr_db"], built["agreement"]["mask_psnr_db"]) >= 45
    assert "no card here" in said
    code, again, _ = command(tmp_path, "build", "-p", "vera", "--sm", "8.9")
    assert again == built | {"kept": True}

    code, listed, _ = command(tmp_path, "list")
    assert code == 0
    (row,) = listed["plans"]
    assert (row["plan"], row["name"], row["sm"], row["precision"]) == (built["plan"], "vera", "8.9", "fp16")
    assert row["bytes"] == listed["bytes"] > built["bytes"]
    assert [b["name"] for b in listed["backends"]] == ["tensorrt-rtx", "tensorrt"]
    assert command(tmp_path, "clear")[1] == {"removed": 1, "bytes": row["bytes"]}
    assert command(tmp_path, "list")[1]["plans"] == []


def test_an_empty_cache(tmp_path):
    code, listed, said = command(tmp_path / "none", "list")
    assert (code, listed["plans"], listed["bytes"]) == (0, [], 0)
    assert "tensorrt-rtx" in said
    assert command(tmp_path / "none", "clear")[1] == {"removed": 0, "bytes": 0}


@pytest.mark.parametrize("sm", ["89", "8.9.1", "ada", "8,9", "-1.0"])
def test_a_compute_capability_that_is_none(tmp_path, sm, monkeypatch):
    monkeypatch.setattr("engines.build.available_backends", backends)
    code, said, _ = command(tmp_path, "build", f"--sm={sm}")
    assert code == 1
    assert "8.9" in said["error"]["hint"]


def backends(reason=None):
    from engines.build import BackendInfo

    return (BackendInfo("tensorrt-rtx", None if reason else "1.7.1", reason),)


def test_without_a_card_the_capability_must_be_named(tmp_path, monkeypatch):
    monkeypatch.setattr("engines.build.available_backends", backends)
    code, said, _ = command(tmp_path, "build")
    assert (code, said["error"]["hint"]) == (1, "name one: --sm 8.9")


def test_without_tensorrt_the_reason_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("engines.build.available_backends", lambda: backends("not installed: pip install '.[rtx]'"))
    code, said, _ = command(tmp_path, "build", "--sm", "8.9")
    assert code == 1
    assert "[rtx]" in said["error"]["message"]


def test_rtx_is_not_chosen_for_a_card_that_it_does_not_know(monkeypatch):
    from engines.build import BackendInfo

    both = (*backends(), BackendInfo("tensorrt", "10.16", None))
    assert cli_engines._backend(None, both, (9, 0)).name == "tensorrt"
    assert cli_engines._backend(None, both, (8, 9)).name == "tensorrt-rtx"
    assert cli_engines._backend("tensorrt-rtx", both, (9, 0)).name == "tensorrt-rtx"  # it says itself why not
    with pytest.raises(BuildError, match=r"tensorrt-rtx: does not build for SM 9\.0"):
        cli_engines._backend(None, backends(), (9, 0))


def test_the_card_at_hand_is_in_the_target(monkeypatch):
    card = cuda.Card("NVIDIA GeForce RTX 4090", (8, 9), 13000, 24 << 30)
    monkeypatch.setattr(cuda, "find_card", lambda: card)
    monkeypatch.setattr("engines.build.available_backends", backends)
    target, here = cli_engines._target(None, None)
    assert here
    assert (target.gpu_name, target.sm) == (card.name, (8, 9))
    assert "13000" in target.driver
    target, here = cli_engines._target("tensorrt-rtx", "12.0")
    assert not here
    assert (target.gpu_name, target.sm, target.driver) == ("any", (12, 0), "none")


def test_the_crops_are_faces_of_the_shipped_clip():
    crops, points = wearer_crops(64)
    assert crops.shape == (32, 64, 64, 3)
    assert points.shape == (32, len(MESH_SUBSET), 2)
    assert ((points > -0.2) & (points < 1.2)).all()
    assert np.abs(points.mean(axis=(0, 1)) - 0.5).max() < 0.15
    assert len({crop.tobytes() for crop in crops}) == 32
    assert crops.std(axis=(1, 2, 3)).min() > 10
