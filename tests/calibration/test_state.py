"""States and identities are their seeds."""

from __future__ import annotations

import numpy as np

from calibration.demo_footage import MOTION_SEED, WEARER
from calibration.people.identity import cast, random_identity
from calibration.people.shape import head_model
from calibration.people.state import motion, random_state
from calibration.plan import Plan


def test_the_same_seed_is_the_same_person_and_moment():
    assert random_identity(5) == random_identity(5)
    assert random_identity(5) != random_identity(6)
    assert random_state(5) == random_state(5)
    assert random_state(5) != random_state(6)


def test_random_people_are_adults_of_every_kind():
    people = [random_identity(seed) for seed in range(120)]
    assert all(0 <= p.age <= 1 and 0 <= p.gender <= 1 for p in people)
    assert 0.3 < np.mean([p.gender > 0.5 for p in people]) < 0.7
    tones = [p.skin.melanin for p in people]
    assert min(tones) < 0.25
    assert max(tones) > 1.2
    assert {p.hair.style for p in people} == {"bald", "short", "back", "long", "afro"}
    known = {name for pair in head_model().sliders() for name in pair}
    assert all(0 < w <= 0.5 for p in people for w in p.sliders.values())
    assert all(name in known for p in people for name in p.sliders)


def test_states_stay_in_range():
    names = set(head_model().expressions)
    for state in [*(random_state(seed) for seed in range(200)), *motion(3, 90)]:
        assert abs(state.yaw) <= 42
        assert set(state.expression) <= names
        assert all(0 <= v <= 1.5 for v in state.expression.values())


def test_motion_is_smooth_and_has_blinks():
    states = motion(4, 150)
    assert np.abs(np.diff([s.yaw for s in states])).max() < 4
    assert max(s.expression["eyeBlinkLeft"] for s in states) > 0.9


def test_the_plan_keeps_validation_and_demo_apart():
    plan = Plan()
    parts = plan.parts()
    train = {int(s) for p in parts if p.role == "wearer" and p.split == "train" for s in p.state_seeds}
    held = {int(s) for p in parts if p.split == "val" for s in p.state_seeds}
    assert train
    assert held
    assert not train & held
    seeds = [p.who.seed for p in parts if p.role == "wearer"]
    assert len(seeds) == len(set(seeds)) == plan.wearers + plan.validation_wearers
    assert cast()[WEARER] not in [p.who for p in parts]
    assert WEARER not in plan.personas
    assert MOTION_SEED not in train
