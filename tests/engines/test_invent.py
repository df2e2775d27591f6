"""The bundle that ships and the faces that come out of it, on cartoon people."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.errors import DataError, SettingsError
from engines.identity_space import fit
from engines.invent import propose, shown, slider_effects, slider_index
from engines.mesh_subset import MESH_SUBSET
from engines.polish_data import WearerFaces
from engines.run_folder import load_universal
from engines.universal import UniversalConfig, train_universal
from engines.universal_bundle import codes_of, load_bundle, sample_codes, sample_wearers, save_bundle
from engines.universal_data import Examples
from tests.engines.synthetic import write_people

SPLIT = {"seed": 3, "held_out": 0.25}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"), people=10, states=48)


@pytest.fixture(scope="module")
def run(folder, small_sizes, tmp_path_factory):
    """(folder of the run, what is in it)"""
    cfg = UniversalConfig(
        network=replace(small_sizes, mesh_points=len(MESH_SUBSET)), steps=120, batch=16, learning_rate=4e-3,
        warmup_steps=10, ema=0.95, validation_faces=8, threads=1, **SPLIT,
    )  # fmt: skip
    out = tmp_path_factory.mktemp("run")
    train_universal(cfg, folder, out)
    return out, load_universal(out)


@pytest.fixture(scope="module")
def stored(run, folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundle")
    save_bundle(out, run[1], sample_wearers(folder, run[1].encoder, **SPLIT), {"command": "test"})
    return out


@pytest.fixture(scope="module")
def bundle(stored):
    return load_bundle(stored)


@pytest.fixture(scope="module")
def space(bundle):
    return fit(bundle.universal.people.vectors)


def test_a_bundle_makes_the_pictures_of_its_run(run, bundle, folder):
    universal = run[1]
    samples = sample_wearers(folder, universal.encoder, **SPLIT)
    codes = sample_codes(bundle)
    assert codes.shape == (24, 24)
    vector = universal.people.vectors[0]
    a = shown(universal.trunk.fold(vector), codes).astype(int)
    b = shown(bundle.universal.trunk.fold(bundle.universal.people.vectors[0]), codes).astype(int)
    assert np.abs(a - b).mean() < 0.5  # float16 weights
    assert np.abs(bundle.samples.crops.astype(int) - samples.crops).mean() < 3  # a JPEG
    assert np.array_equal(bundle.samples.points, samples.points)
    assert np.array_equal(bundle.samples.code_mean, samples.code_mean)


def test_samples_are_unseen_wearers_and_the_first_is_the_most_neutral(run, folder, bundle):
    sizes = run[1].encoder.sizes
    unseen = WearerFaces(folder, "unseen", sizes, **SPLIT)
    training = WearerFaces(folder, "train", sizes, **SPLIT)
    assert not set(unseen.faces.wearers) & set(training.faces.wearers)
    faces = [unseen.of(wearer, 48) for wearer in unseen.faces.wearers]
    best = min(float(unseen.distance_from_neutral(some).min()) for some in faces)
    all_inputs = torch.cat([some.inputs for some in faces])
    first = torch.from_numpy(bundle.samples.crops[0][..., ::-1].transpose(2, 0, 1).copy()).float() / 255
    nearest = int((all_inputs - first).abs().mean(dim=(1, 2, 3)).argmin())
    distances = np.concatenate([unseen.distance_from_neutral(some) for some in faces])
    assert distances[nearest] == pytest.approx(best)
    # The reference is the training wearers': a neutral wearer's code is near it, in spreads.
    code = codes_of(run[1].encoder, first[None], torch.from_numpy(bundle.samples.points[:1])).numpy()[0]
    assert np.sqrt((((code - bundle.samples.code_mean) / bundle.samples.code_spread) ** 2).mean()) < 1.5


def test_distance_from_neutral_grows_with_pose_and_expression(run, folder):
    faces = WearerFaces(folder, "train", run[1].encoder.sizes, **SPLIT)
    some = faces.of(faces.faces.wearers[0], 3)
    still = torch.zeros(3, sum(faces.truth_widths))
    turned = still.clone()
    turned[1, 0], turned[2, 3] = 15.0, 1.0
    none = dict.fromkeys(Examples.__slots__)
    lit = torch.full((3, 3, 4, 4), 0.5)
    shown = Examples(**none | {"targets": turned, "inputs": lit})
    assert faces.distance_from_neutral(shown).tolist() == [0, 1, 1]
    dim = faces.distance_from_neutral(replace(shown, inputs=lit * 0.4))
    assert dim == pytest.approx([2, 3, 3], abs=1e-5)
    assert len(some.inputs) == 3


def test_damage_is_named(stored, run, tmp_path):
    with pytest.raises(DataError, match="no universal networks"):
        load_bundle(tmp_path)
    with pytest.raises(DataError, match="without sample wearers"):
        load_bundle(run[0])
    for file in stored.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    whole = (tmp_path / "wearers.safetensors").read_bytes()
    (tmp_path / "wearers.safetensors").write_bytes(whole[:-9])
    with pytest.raises(DataError, match="wearers"):
        load_bundle(tmp_path)


def test_equal_seeds_are_equal_faces_and_others_are_not(bundle, space):
    trunk, codes = bundle.universal.trunk, sample_codes(bundle)[:4]

    def picture(**options):
        return shown(propose(trunk, space, **options).decoder, codes).astype(int)

    first = picture(seed=7)
    assert np.array_equal(first, picture(seed=7))
    for other in ({"seed": 8}, {"seed": 7, "attempt": 1}, {"seed": 7, "spread": 0.3}):
        assert np.abs(first - picture(**other)).mean() > 0.3, other
    assert np.array_equal(picture(seed=1, spread=0), picture(seed=2, spread=0))  # the mean face
    assert propose(trunk, space, seed=2**62).seed == 2**62


def test_sliders_move_what_they_name_and_nothing_else(bundle, space):
    trunk, codes = bundle.universal.trunk, sample_codes(bundle)[:2]
    plain = propose(trunk, space, seed=5)
    moved = propose(trunk, space, seed=5, sliders={1: 2.5})
    assert moved.coordinates[1] == 2.5
    others = [i for i in range(space.size) if i != 1]
    assert torch.equal(moved.coordinates[others], plain.coordinates[others])
    ends = [shown(propose(trunk, space, seed=5, sliders={0: v}).decoder, codes).astype(int) for v in (-2, 0, 2)]
    assert np.abs(ends[2] - ends[0]).mean() > np.abs(ends[1] - ends[0]).mean() > 0.2
    assert slider_index("pc1", space) == 0
    for wrong in ("pc0", f"pc{space.size + 1}", "age", "pc", "pcx", "1"):
        with pytest.raises(SettingsError, match="no slider"):
            slider_index(wrong, space)
    for value in (3.1, -9, math.nan):
        with pytest.raises(SettingsError, match="pc1"):
            propose(trunk, space, seed=0, sliders={0: value})


def test_effects_are_measured(bundle, space):
    trunk, code = bundle.universal.trunk, sample_codes(bundle)[0]
    effects = slider_effects(trunk, space, code, most=3)
    assert [e["name"] for e in effects] == ["pc1", "pc2", "pc3"]
    assert effects[0]["share"] >= effects[1]["share"] >= effects[2]["share"] > 0
    # Cartoon people differ in skin: one of the first sliders must move the face's colours.
    assert max(abs(e["lightness"]) + abs(e["warmth"]) for e in effects) > 3
