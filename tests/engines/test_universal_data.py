"""Pairs of the universal stage: who meets whom, what depends on what, and where the points lie."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.augment import NEUTRAL, AugmentConfig
from engines.errors import DataError
from engines.mesh_subset import MESH_SUBSET
from engines.torch_faceset import PairedFaces
from engines.universal_data import Examples, Feeder, PointsNoise, UniversalPairs, join, state_size
from tests.engines.synthetic import write_people

QUIET = PointsNoise(jitter=0, shift=0, strong_chance=0, drop_points=0, drop_picture=0)
USUAL = {"self_fraction": 0.15, "targets": True, "second": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"), states=32)


@pytest.fixture(scope="module")
def sizes(small_sizes):
    return replace(small_sizes, mesh_points=len(MESH_SUBSET))


@pytest.fixture(scope="module")
def pairs(folder, sizes):
    return UniversalPairs(folder, "train", sizes, seed=3, held_out=0.25, truths=True)


def tensors(examples):
    return {name: getattr(examples, name) for name in Examples.__slots__ if getattr(examples, name) is not None}


def same(a, b):
    a, b = tensors(a), tensors(b)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_validation_has_unseen_wearers_and_states_and_trained_personas(folder, sizes, pairs):
    unseen = UniversalPairs(folder, "unseen", sizes, seed=3, held_out=0.25, truths=True)
    assert unseen.names == pairs.names
    assert set(pairs.faces.wearers) == set(pairs.faces.personas)
    assert not set(unseen.faces.wearers) & set(pairs.faces.personas)
    states = [{p.faces.pair(i)[2] for i in range(len(p.faces))} for p in (pairs, unseen)]
    assert not states[0] & states[1]
    assert len(states[1]) == 8


def test_a_part_depends_on_seed_step_and_number_alone(folder, sizes, pairs):
    drawn = pairs.draw(5, 1, 6, AugmentConfig(), PointsNoise(), **USUAL)
    pairs.draw(6, 0, 6, AugmentConfig(), PointsNoise(), **USUAL)
    again = UniversalPairs(folder, "train", sizes, seed=3, held_out=0.25, truths=True)
    assert same(drawn, again.draw(5, 1, 6, AugmentConfig(), PointsNoise(), **USUAL))
    with ThreadPoolExecutor(4) as pool:
        threads = list(pool.map(lambda _: pairs.draw(5, 1, 6, AugmentConfig(), PointsNoise(), **USUAL), range(8)))
    assert all(same(drawn, other) for other in threads)
    for step, part in ((5, 0), (4, 1)):
        assert not same(drawn, pairs.draw(step, part, 6, AugmentConfig(), PointsNoise(), **USUAL))
    assert not same(pairs.every(5), drawn)
    assert same(pairs.every(5), again.every(5))


def test_the_persona_stands_in_the_wearers_state(pairs):
    drawn = pairs.draw(0, 0, 40, NEUTRAL, QUIET, self_fraction=0.5, targets=True, second=False)
    own = torch.tensor([pairs.faces.personas[row] for row in drawn.personas]) == drawn.wearers
    assert 0.25 < float(own.float().mean()) < 0.75
    assert (drawn.inputs - drawn.truths)[own].abs().max() < 0.02  # one person in one state, one picture
    assert (drawn.inputs - drawn.truths)[~own].abs().amax(dim=(1, 2, 3)).min() > 0.1
    never = pairs.draw(0, 0, 40, NEUTRAL, QUIET, self_fraction=0, targets=True, second=False)
    assert not (torch.tensor([pairs.faces.personas[row] for row in never.personas]) == never.wearers).any()


def test_points_follow_the_picture_and_its_disturbances(pairs):
    """The cartoon's mesh repeats its 68 landmarks, so points and landmarks of one's own persona are one."""
    moved = replace(AugmentConfig(), input_shift_px=0, input_turn_deg=0, input_scale=0)
    drawn = pairs.draw(1, 0, 8, moved, QUIET, self_fraction=1, targets=False, second=True)
    side = drawn.inputs.shape[-1]
    expected = (drawn.landmarks[:, MESH_SUBSET % 68] + 0.5) / side
    assert drawn.points is not None
    assert drawn.present is not None
    assert torch.allclose(drawn.points, expected, atol=1e-4)
    assert torch.allclose(drawn.second_points, expected, atol=1e-4)
    assert drawn.present.tolist() == [[1.0]] * 8
    assert (pairs.mean_points() - drawn.points.mean(dim=0)).abs().max() < 0.1
    shaken = pairs.draw(1, 0, 8, AugmentConfig(input_shift_px=6), QUIET, self_fraction=1, targets=False, second=True)
    assert (shaken.points - shaken.second_points).abs().max() > 0.01


def test_points_are_as_noisy_as_asked_and_modalities_are_missing_as_often(pairs):
    noise = PointsNoise(jitter=0.01, shift=0, strong_chance=0, drop_points=0.3, drop_picture=0.15)
    count = 400
    noisy = pairs.draw(2, 0, count, NEUTRAL, noise, self_fraction=0.1, targets=False, second=False)
    quiet = pairs.draw(2, 0, count, NEUTRAL, QUIET, self_fraction=0.1, targets=False, second=False)
    assert float((noisy.points - quiet.points).std()) == pytest.approx(0.01, rel=0.05)
    gone = noisy.present[:, 0] == 0
    grey = (noisy.inputs == 0.5).flatten(1).all(dim=1)
    assert float(gone.float().mean()) == pytest.approx(0.3, abs=0.07)
    assert float(grey.float().mean()) == pytest.approx(0.15, abs=0.06)
    assert not (gone & grey).any()
    strong = pairs.draw(
        2, 0, count, NEUTRAL, replace(noise, strong_chance=1, strong_factor=3), self_fraction=0.1, targets=False,
        second=False,
    )  # fmt: skip
    assert float((strong.points - quiet.points).std()) == pytest.approx(0.03, rel=0.05)
    twice = pairs.draw(2, 0, count, NEUTRAL, noise, self_fraction=0.1, targets=False, second=True)
    assert not (twice.inputs == 0.5).flatten(1).all(dim=1).any()


def test_faces_that_face_mesh_did_not_see_have_no_points(pairs):
    asked = torch.tensor([[[0.1, 0.2], [torch.nan, 0.3]], [[0.1, 0.2], [0.4, 0.3]]])
    _, present = pairs._points(asked, QUIET, np.ones(2), np.random.default_rng(0))
    assert present[:, 0].tolist() == [0, 1]
    _, present = pairs._points(asked, replace(QUIET, drop_points=1.0), np.zeros(2), np.random.default_rng(0))
    assert present[:, 0].tolist() == [0, 0]


def test_truths_are_the_wearers(pairs):
    drawn = pairs.draw(0, 0, 6, NEUTRAL, QUIET, self_fraction=0, targets=True, second=False)
    assert pairs.truths == ("expression", "gaze")
    assert pairs.truth_widths == (3, 2, 2)
    pose, expression, gaze = drawn.targets.split(pairs.truth_widths, dim=1)
    assert torch.allclose(gaze, torch.deg2rad(pose[:, :2]), atol=1e-6)
    assert (expression[:, 1] == 0).all()
    assert pairs.sample_targets().shape[1] == state_size(pairs.faces.info) == 7
    assert pairs.draw(0, 0, 2, NEUTRAL, QUIET, self_fraction=0, targets=False, second=False).targets is None


def test_a_network_without_points_reads_none(folder, small_sizes):
    plain = UniversalPairs(folder, "train", small_sizes, seed=3, held_out=0.25, truths=False)
    drawn = plain.draw(0, 0, 40, NEUTRAL, PointsNoise(), self_fraction=0, targets=False, second=True)
    assert (drawn.points, drawn.present, drawn.second_points, drawn.targets) == (None, None, None, None)
    assert not (drawn.inputs == 0.5).flatten(1).all(dim=1).any()  # without points, nothing could stand in


def test_parts_join_to_a_batch(pairs):
    parts = [pairs.draw(0, k, 3, NEUTRAL, QUIET, **USUAL) for k in range(2)]
    whole = join(parts)
    assert torch.equal(whole.inputs, torch.cat([p.inputs for p in parts]))
    assert {len(t) for t in tensors(whole).values()} == {6}
    assert join(parts[:1]) is parts[0]
    assert same(whole.on(torch.device("cpu")), whole)


def test_a_face_that_was_not_rendered_is_named(folder):
    faces = PairedFaces(folder, "train")
    faces._shard_of[0, :] = -1
    with pytest.raises(DataError, match="person-0"):
        faces.face(0, 0)
    with pytest.raises(IndexError):
        faces.choose(len(faces), np.random.default_rng(0))


def test_a_feeder_works_ahead_and_in_order():
    made = []

    def prepare(step, part):
        made.append((step, part))
        return (step, part)

    with ThreadPoolExecutor(1) as pool:
        feeder = Feeder(pool, prepare, (4, 5), 2)
        assert feeder.take(7) == [(7, 4), (7, 5)]
        assert feeder.take(8) == [(8, 4), (8, 5)]
        while len(made) < 8:
            time.sleep(0.001)
        assert made == [(step, part) for step in (7, 8, 9, 10) for part in (4, 5)]
        with pytest.raises(RuntimeError, match="step 3"):
            feeder.take(3)
        feeder.close()


def test_a_feeder_passes_on_what_went_wrong():
    def prepare(step, part):
        raise DataError("torn", hint="render again")

    with ThreadPoolExecutor(2) as pool:
        feeder = Feeder(pool, prepare, (0,), 1)
        with pytest.raises(DataError, match="torn"):
            feeder.take(0)
        feeder.close()
