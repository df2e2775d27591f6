"""The space of people: its mathematics against slow truths, and its files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from engines import checkpoint, identity_space
from engines.errors import DataError, SettingsError
from engines.film import FilmDecoder


@pytest.fixture(scope="module")
def people():
    """400 people of 12 numbers that differ in three directions, with deviations 3, 2 and 0.5."""
    rng = np.random.default_rng(5)
    directions = np.linalg.qr(rng.normal(size=(12, 3)))[0].T
    return torch.from_numpy(rng.normal(size=(400, 3)) * (3, 2, 0.5) @ directions + rng.normal(size=12)).float()


def test_components_are_the_covariances(people):
    space = identity_space.fit(people, keep=1.0)
    assert space.size == 3
    assert space.people == 400
    assert torch.allclose(space.components @ space.components.T, torch.eye(3), atol=1e-5)
    covariance = (space.components.T * space.deviations.square()) @ space.components
    assert np.allclose(covariance, np.cov(people.numpy().T), atol=1e-4)
    assert float(space.explained.sum()) == pytest.approx(1, abs=1e-5)
    assert space.deviations.tolist() == sorted(space.deviations.tolist(), reverse=True)
    assert (space.components.max(dim=1).values > -space.components.min(dim=1).values).all()


def test_small_components_are_left_out(people):
    assert identity_space.fit(people, keep=0.97).size == 2
    assert identity_space.fit(people, keep=1.0, most=1).size == 1
    noisy = people + 1e-3 * torch.randn(people.shape, generator=torch.Generator().manual_seed(0))
    assert identity_space.fit(noisy).size == 3


def test_coordinates_come_back(people):
    space = identity_space.fit(people, keep=1.0)
    found = torch.stack([space.coordinates(v) for v in people])
    assert torch.allclose(found.mean(0), torch.zeros(3), atol=1e-4)
    assert torch.allclose(found.var(0), torch.ones(3), atol=1e-3)
    assert torch.allclose(space.vector(found[7]), people[7], atol=1e-4)
    assert torch.allclose(space.vector(torch.tensor([])), space.mean)
    step = space.vector(torch.tensor([0.0, 2.0])) - space.mean
    assert torch.allclose(step, 2 * space.deviations[1] * space.components[1], atol=1e-5)


def test_samples_are_distributed_as_the_people(people):
    space = identity_space.fit(people, keep=1.0)
    drawn = torch.stack([space.sample(seed) for seed in range(2000)])
    assert torch.allclose(drawn.mean(0), people.mean(0), atol=0.25)
    assert np.allclose(np.cov(drawn.numpy().T), np.cov(people.numpy().T), atol=0.5)
    calm = torch.stack([space.sample(seed, spread=0.5) for seed in range(2000)])
    assert torch.allclose(calm - space.mean, 0.5 * (drawn - space.mean), atol=1e-5)
    assert torch.equal(space.sample(3), space.sample(3))
    assert not torch.equal(space.sample(3), space.sample(4))
    assert torch.allclose(space.sample(3, spread=0), space.mean)


def test_a_sample_is_a_decoder(small_sizes):
    trunk = FilmDecoder(small_sizes, seed=1).eval()
    people = 0.2 * torch.randn(6, trunk.film_size, generator=torch.Generator().manual_seed(2))
    space = identity_space.fit(people)
    assert space.size <= 5  # six people span five directions
    code = torch.randn(2, small_sizes.code_size, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        one, other = (trunk.fold(space.sample(seed))(code)[0] for seed in (1, 2))
    assert (one - other).abs().max() > 1e-2


def test_a_space_is_kept(people, tmp_path):
    space = identity_space.fit(people)
    space.save(tmp_path / "space", {"trunk_sha256": "ab"})
    found, meta = identity_space.load(tmp_path / "space")
    assert meta["trunk_sha256"] == "ab"
    assert (found.people, found.variance) == (space.people, space.variance)
    assert torch.equal(found.sample(9), space.sample(9))


def test_damage_is_named(people, tmp_path):
    stem = tmp_path / "space"
    with pytest.raises(DataError, match="cannot read"):
        identity_space.load(stem)
    good = {"mean": torch.zeros(4), "components": torch.eye(4)[:2], "deviations": torch.ones(2)}
    facts = {"people": 3, "variance": 2.0}
    for tensors, meta in (
        (good | {"deviations": -torch.ones(2)}, facts),
        (good | {"components": torch.eye(3)}, facts),
        (good | {"mean": torch.full((4,), torch.nan)}, facts),
        ({"mean": torch.zeros(4)}, facts),
        (good, {"people": 3}),
    ):
        checkpoint.save(stem, "identity-space", tensors, meta)
        with pytest.raises(DataError, match="identity space"):
            identity_space.load(stem)
    identity_space.fit(people).save(stem, {})
    text = json.loads(stem.with_suffix(".json").read_text())
    stem.with_suffix(".json").write_text(json.dumps(text | {"kind": "decoder"}))
    with pytest.raises(DataError, match="kind"):
        identity_space.load(stem)


def test_senseless_questions_are_refused(people):
    for few in (people[:1], people[0], people[:1].expand(5, -1), people * torch.nan):
        with pytest.raises(DataError):
            identity_space.fit(few)
    for keep, most in ((0.0, None), (1.5, None), (0.9, 0)):
        with pytest.raises(SettingsError):
            identity_space.fit(people, keep=keep, most=most)
    space = identity_space.fit(people)
    for ask in (
        lambda: space.sample(1, spread=-1),
        lambda: space.sample(1, spread=float("nan")),
        lambda: space.coordinates(torch.zeros(5)),
        lambda: space.vector(torch.zeros(space.size + 1)),
        lambda: space.vector(torch.zeros(2, 2)),
        lambda: space.vector(torch.tensor([float("inf")])),
    ):
        with pytest.raises(SettingsError):
            ask()
