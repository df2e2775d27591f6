"""Estimates of biases in a world whose truth is known, and people that are none of their business."""

import numpy as np
import pytest

from calibration.guided_map import RIDGES, GuidedPerson, features, learn_map
from calibration.guided_people import random_rest

C = 12
SPREAD = np.linspace(0.5, 2.0, C)


def people(rng, count, *, nuisance, bias):
    """Faces differ along ``nuisance``, biases along ``bias``; both (C,)."""
    out = []
    for _ in range(count):
        neutral = rng.normal() * nuisance + rng.normal(0, 0.05, C)
        biased = []
        for _ in range(2):
            amount = rng.uniform(-2, 2)
            biased.append((shown(neutral + amount * bias), (-amount * bias * SPREAD).astype(np.float32)))
        out.append(GuidedPerson(shown(neutral), biased))
    return out


def shown(neutral):
    return {name: (neutral * SPREAD).astype(np.float32) for name in ("neutral", "smile", "open")}


def left(found, some):
    usual, inward, outward, _ = found
    errors, sizes, moved = [], [], []
    for person in some:
        moved.append((features(person.plain, SPREAD) - usual) @ inward @ outward)
        for codes, wanted in person.biased:
            estimate = (features(codes, SPREAD) - usual) @ inward @ outward
            errors.append(estimate[:C] - wanted / SPREAD)
            sizes.append(wanted / SPREAD)
    return (np.linalg.norm(np.array(part)) for part in (errors, sizes, np.array(moved)[:, :C]))


def test_what_faces_differ_by_anyway_is_not_taken_for_a_bias():
    rng = np.random.default_rng(0)
    nuisance, bias = np.eye(C)[0] * 5 + np.eye(C)[1], np.eye(C)[1] * 3
    found = learn_map(people(rng, 40, nuisance=nuisance, bias=bias), SPREAD, bias[None] / 9)
    error, size, moved = left(found, people(rng, 20, nuisance=nuisance, bias=bias))
    assert error < 0.2 * size
    assert moved < 0.2 * size


def test_a_bias_that_looks_like_a_face_is_hardly_touched():
    rng = np.random.default_rng(1)
    nuisance, bias = np.eye(C)[0] * 6, np.eye(C)[0]
    found = learn_map(people(rng, 40, nuisance=nuisance, bias=bias), SPREAD, bias[None])
    error, size, moved = left(found, people(rng, 20, nuisance=nuisance, bias=bias))
    assert moved < size
    assert error == pytest.approx(size, rel=0.3)


def test_the_face_at_rest_is_told_along_the_readers_and_the_map_is_small():
    rng = np.random.default_rng(2)
    bias = np.eye(C)[3] * 4
    usual, inward, outward, ridge = learn_map(
        people(rng, 30, nuisance=np.eye(C)[0], bias=bias), SPREAD, bias[None] / 16
    )
    told = (features(shown(0.5 * bias), SPREAD) - usual) @ inward @ outward[:, C:]
    assert told[0] == pytest.approx(0.5, abs=0.1)
    assert inward.shape[1] == len(outward) <= 4
    assert ridge in RIDGES


def test_random_biases_are_faces_and_differ():
    some = [random_rest(np.random.default_rng(seed)) for seed in range(200)]
    units = [name for rest in some for name in rest]
    assert all(0 <= value <= 1 for rest in some for value in rest.values())
    for name in ("mouthSmileLeft", "mouthFrownRight", "jawOpen", "browDownLeft", "browInnerUp", "eyeBlinkRight"):
        assert units.count(name) > 10
    assert some[0] != some[1]
