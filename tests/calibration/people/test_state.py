"""States and identities are their seeds."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from calibration.demo_footage import MOTION_SEED, WEARER
from calibration.people import state as state_module
from calibration.people.face.expression import random_expression
from calibration.people.head.shape import HEAD_PIVOT, head_model
from calibration.people.identity import cast, random_identity
from calibration.people.props.worn import Props
from calibration.people.state import FACE_CENTRE, FACE_HEIGHT_DM, FARTHEST_DM, NEAREST_DM, random_state
from calibration.plan import Plan

MANY = [random_state(seed) for seed in range(600)]


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
    assert len({p.hair.style for p in people}) >= 5
    known = {name for pair in head_model().sliders() for name in pair}
    assert all(w > 0 for p in people for w in p.sliders.values())
    assert all(name in known for p in people for name in p.sliders)


def test_expressions_use_known_units_within_their_range_and_differ_left_and_right():
    names = set(head_model().expressions)
    for state in MANY:
        assert set(state.expression) <= names
        assert all(0 <= v <= 1 for v in state.expression.values())
    smiles = [(s.expression.get("mouthSmileLeft", 0.0), s.expression.get("mouthSmileRight", 0.0)) for s in MANY]
    left, right = np.array([pair for pair in smiles if min(pair) > 0.3]).T
    assert np.corrcoef(left, right)[0, 1] > 0.5
    assert np.abs(left - right).mean() > 0.01


@pytest.mark.parametrize(
    ("what", "seen", "least"),
    [
        ("laughter", lambda e: e.get("mouthSmileLeft", 0) > 0.6 and e.get("jawOpen", 0) > 0.2, 0.03),
        ("speech", lambda e: e.get("jawOpen", 0) > 0.12, 0.2),
        ("surprise", lambda e: e.get("eyeWideLeft", 0) > 0.35, 0.02),
        ("anger", lambda e: e.get("browDownLeft", 0) > 0.5, 0.02),
        ("pucker", lambda e: e.get("mouthPucker", 0) > 0.4, 0.02),
        ("tongue", lambda e: e.get("tongueOut", 0) > 0.4 and e["jawOpen"] > 0.3, 0.005),
        ("blink", lambda e: min(e["eyeBlinkLeft"], e["eyeBlinkRight"]) > 0.5, 0.08),
        ("wink", lambda e: abs(e["eyeBlinkLeft"] - e["eyeBlinkRight"]) > 0.6, 0.01),
        ("stillness", lambda e: all(v < 0.55 for n, v in e.items() if not n.startswith("eye")), 0.1),
    ],
)
def test_every_kind_of_face_occurs(what, seen, least):
    rng = np.random.default_rng(3)
    share = np.mean([seen(random_expression(rng)) for _ in range(1500)])
    assert least < share < 0.75, what


def test_poses_are_mostly_frontal_and_reach_profiles():
    yaw, pitch, roll = (np.abs([getattr(s, name) for s in MANY]) for name in ("yaw", "pitch", "roll"))
    assert yaw.max() <= 70
    assert pitch.max() <= 30
    assert roll.max() <= 25
    assert 0.64 < (yaw <= 30).mean() < 0.78
    assert 0.05 < (yaw > 50).mean() < 0.15
    assert np.percentile(pitch, 97) > 15
    assert {s.yaw > 0 for s in MANY if abs(s.yaw) > 55} == {True, False}
    assert all(abs(s.yaw) < 1e-9 for s in (random_state(seed, turn=0.0) for seed in range(5)))


def test_eyes_lead_the_head_or_stay_on_the_screen():
    turned = [s for s in MANY if abs(s.yaw) > 20]
    along = np.array([np.sign(s.yaw) * s.gaze[0] for s in turned])
    assert (along > 0.15).mean() > 0.15
    assert (along < -0.15).mean() > 0.3
    assert np.abs([s.gaze for s in MANY]).max() <= 0.55


def test_faces_near_and_far_lie_inside_the_frame():
    head = head_model()
    average = head.fine_average[head.fine_index["landmarks"]]
    shares = []
    for state in MANY:
        camera = state.camera
        distance = camera.position[2] - FACE_CENTRE[2]
        assert NEAREST_DM - 1e-9 <= distance <= FARTHEST_DM + 1e-9
        shares.append(FACE_HEIGHT_DM * camera.focal_px / distance / camera.height)
        turned = state.rotation().apply(average - HEAD_PIVOT) + HEAD_PIVOT + np.array(state.shift)
        pixels = camera.project(turned)
        assert (pixels > 0).all(), state.camera
        assert (pixels < [camera.width, camera.height]).all(), state.camera
    assert min(shares) >= 0.08 - 1e-9
    assert max(shares) <= 0.60 + 1e-9
    assert np.percentile(shares, 90) > 2 * np.percentile(shares, 10)


def test_one_aspect_changes_no_other(monkeypatch):
    before = random_state(11)
    monkeypatch.setattr(state_module, "random_props", lambda rng: (rng.random(1000), Props())[1])
    monkeypatch.setattr(state_module, "random_expression", lambda rng: {"jawOpen": float(rng.random(7)[6])})
    after = random_state(11)
    assert after.expression != before.expression
    for name in ("yaw", "pitch", "roll", "shift", "gaze", "light", "room", "camera", "sensor", "noise_seed"):
        assert getattr(after, name) == getattr(before, name), name


def test_props_can_be_left_out_alone():
    seed = next(seed for seed, state in enumerate(MANY) if state.props != Props())
    worn, bare = random_state(seed), random_state(seed, props=False)
    assert bare.props == Props()
    assert asdict(bare) | {"props": None} == asdict(worn) | {"props": None}


def test_states_are_plain_values():
    assert json.loads(json.dumps(asdict(MANY[0])))["yaw"] == MANY[0].yaw


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
