"""Props on heads: fit, classes, mask, glare, hair under caps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.people.camera.pinhole import Camera
from calibration.people.camera.sensor import Sensor
from calibration.people.classes import CLASSES
from calibration.people.head.shape import HEAD_PIVOT
from calibration.people.identity import random_identity
from calibration.people.props import rig
from calibration.people.props.worn import Cap, Glasses, Hand, Headphones, Microphone, Props, Source
from calibration.people.state import State

pytestmark = pytest.mark.egl
CLEAN = Sensor(noise=0.0, codec=None)
CAMERA = Camera(width=320, height=320, focal_px=900.0)
KINDS = {
    "glasses": (Props(glasses=Glasses()), CLASSES["glasses"]),
    "headphones": (Props(headphones=Headphones()), CLASSES["headphones"]),
    "boom": (Props(headphones=Headphones(boom=True)), CLASSES["microphone"]),
    "microphone": (Props(microphone=Microphone(place=(0.2, -0.1, 0.8))), CLASSES["microphone"]),
    "cap": (Props(cap=Cap()), CLASSES["cap"]),
    "beanie": (Props(cap=Cap("beanie")), CLASSES["cap"]),
    "hand": (Props(hands=(Hand("flat", "mouth"),)), CLASSES["hand"]),
}


@pytest.fixture(scope="module")
def people(renderer):
    actors = [renderer.actor(random_identity(seed)) for seed in (901, 904)]
    yield actors
    for actor in actors:
        actor.close()


def shoot(renderer, actor, props, **pose):
    return renderer.shoot(actor, State(props=props, sensor=CLEAN, **pose), CAMERA, supersample=1.0)


def test_class_numbers_are_the_renderer_s():
    numbers = {"glasses": CLASSES["glasses"], "headphones": CLASSES["headphones"], "microphone": CLASSES["microphone"],
               "hand": CLASSES["hand"], "cap": CLASSES["cap"], "cloth": CLASSES["cloth"]}  # fmt: skip
    assert {name: CLASSES[name] for name in numbers} == numbers


@pytest.mark.parametrize("kind", KINDS)
def test_a_prop_shows_with_its_class_and_leaves_the_mask(renderer, people, kind):
    props, number = KINDS[kind]
    for actor in people:
        bare, worn = shoot(renderer, actor, Props()), shoot(renderer, actor, props)
        there = worn.classes == number
        assert not (bare.classes == number).any()
        assert there.sum() > 40
        changed = np.abs(bare.pixels.astype(int) - worn.pixels).max(2) > 12
        assert changed[there].mean() > 0.3
        assert worn.mask[there].max() == 0
        assert worn.mask.sum() <= bare.mask.sum() * 1.01  # a cap may lay down a lock that hung over the brow
        assert np.array_equal(worn.landmarks, bare.landmarks)


def test_the_same_props_give_the_same_picture(renderer, people):
    props = Props(glasses=Glasses("round", "metal"), hands=(Hand("relaxed", "cheek", left=True),))
    a, b = (shoot(renderer, people[0], props, yaw=20) for _ in range(2))
    assert (a.pixels == b.pixels).all()
    assert (a.mask == b.mask).all()


def test_glasses_sit_before_each_one_s_own_eyes(people):
    for actor in people:
        rig = actor.props
        built = rig._glasses(Glasses("round"))
        lenses, fit = built.lenses.positions, rig.fit
        for eye, sign in enumerate((1, -1)):
            lens = lenses[(lenses[:, 0] - fit.middle[0]) * sign > 0]
            middle = (lens.min(0) + lens.max(0)) / 2
            assert np.abs(middle[:2] - fit.eyes[eye][:2]).max() < 0.1
            assert lens[:, 2].min() > fit.eyes[eye][2] + 0.15  # before the cornea
            temple = built.frame.positions[(built.frame.positions[:, 0] - fit.middle[0]) * sign > 0]
            ear = fit.ear(sign)
            assert temple[:, 2].min() < np.median(ear[:, 2])


def test_cups_cover_the_ears(renderer, people):
    for actor in people:
        fit = actor.props.fit
        worn = shoot(renderer, actor, Props(headphones=Headphones()), yaw=70)
        rotation = State(yaw=70).rotation().as_matrix()
        ear = (fit.ear(-1) - HEAD_PIVOT) @ rotation.T + HEAD_PIVOT
        x, y = np.round(CAMERA.project(ear)).astype(int).T
        assert (worn.classes[y, x] == CLASSES["headphones"]).mean() > 0.85


def test_a_reflection_lowers_the_mask_as_far_as_it_hides_the_eye(renderer, people):
    lamp = Source((0.0, 0.0, 1.0), (3.0, 3.0), (18.0, 18.0, 18.0))
    plain = shoot(renderer, people[0], Props(glasses=Glasses(sources=())))
    bright = shoot(renderer, people[0], Props(glasses=Glasses(sources=(lamp,))))
    eye = np.round(plain.landmarks[42:48].mean(0)).astype(int)
    assert plain.mask[eye[1], eye[0]] > 200
    assert bright.mask[eye[1], eye[0]] < 120
    assert bright.pixels[eye[1], eye[0]].mean() > plain.pixels[eye[1], eye[0]].mean() + 40
    chin = np.round(plain.landmarks[8]).astype(int) - [0, 8]
    assert bright.mask[chin[1], chin[0]] == plain.mask[chin[1], chin[0]] > 200


def test_tinted_lenses_are_darker_and_keep_the_mask(renderer, people):
    clear, tinted = (
        shoot(renderer, people[0], Props(glasses=Glasses(tint=tint))) for tint in ((1.0, 1.0, 1.0), (0.5, 0.5, 0.5))
    )
    eye = np.round(clear.landmarks[42:48].mean(0)).astype(int)
    box = (slice(eye[1] - 3, eye[1] + 4), slice(eye[0] - 3, eye[0] + 4))
    assert tinted.pixels[box].mean() < clear.pixels[box].mean() * 0.9
    assert (tinted.mask[box] == clear.mask[box]).all()


def test_hair_above_a_cap_is_gone(renderer):
    who = next(w for w in map(random_identity, range(904, 930)) if w.hair.style != "bald")
    actor = renderer.actor(who)
    bare, capped = shoot(renderer, actor, Props()), shoot(renderer, actor, Props(cap=Cap()))
    *_, d = actor.props.hair_clip(Props(cap=Cap()))
    normal = np.array(actor.props.hair_clip(Props(cap=Cap()))[:3])
    marks = actor.hair.marks
    hidden = marks[marks @ normal - d > 0.15]
    x, y = np.round(CAMERA.project(hidden)).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < 320) & (y < 320)
    x, y = x[inside], y[inside]
    assert len(x) > 100
    assert (bare.classes[y, x] == CLASSES["hair"]).mean() > 0.5
    assert (capped.classes[y, x] == CLASSES["hair"]).mean() < 0.1
    actor.close()


def test_a_stand_does_not_turn_with_the_head(renderer, people):
    props = Props(microphone=Microphone(place=(0.0, -0.3, 1.0)))
    ahead, turned = (shoot(renderer, people[0], props, yaw=yaw).classes == CLASSES["microphone"] for yaw in (0, 40))
    assert (ahead != turned).mean() < 0.01


def test_hands_touch_and_do_not_sink_in(people):
    actor = people[0]
    for place, pose in (("mouth", "flat"), ("cheek", "relaxed"), ("chin", "fist")):
        hand = Hand(pose, place, left=True)
        for state in (State(), State(yaw=-30, expression={"jawOpen": 0.6})):
            posed = actor.pose(state)
            (model,) = actor.props._hand_models((hand,), posed)
            points = actor.props._hand(hand).probe @ model[:3, :3].T + model[:3, 3]
            gap = np.linalg.norm(points[:, None] - posed.skin[None, ::7], axis=2).min()
            assert gap < 0.25, place
            face = posed.skin[actor._head.fine_index["landmarks"]]
            nearest = np.linalg.norm(points[:, None, :2] - face[None, :, :2], axis=2).argmin(1)
            behind = points[:, 2] < face[nearest, 2] - 0.35
            assert behind.mean() < 0.35, place


def test_a_mirrored_hand_is_the_other_hand(renderer, people):
    left, right = (shoot(renderer, people[0], Props(hands=(Hand("open", "air", left=side),))) for side in (True, False))
    x = np.nonzero(left.classes == CLASSES["hand"])[1].mean(), np.nonzero(right.classes == CLASSES["hand"])[1].mean()
    assert x[0] > x[1] + 5


def test_nothing_is_built_for_states_without_props(renderer):
    actor = renderer.actor(random_identity(905))
    shoot(renderer, actor, Props())
    assert actor.props._fit is None
    assert not actor.props._drawables
    shoot(renderer, actor, Props(glasses=Glasses()))
    built = set(actor.props._drawables)
    shoot(renderer, actor, Props(glasses=replace(Glasses(), colour=(0.5, 0.1, 0.1))))
    assert set(actor.props._drawables) == built
    actor.close()


def test_what_was_worn_long_ago_is_built_again_and_looks_the_same(renderer, monkeypatch):
    monkeypatch.setattr(rig, "_KEPT", 3)
    actor = renderer.actor(random_identity(905))
    first = shoot(renderer, actor, Props(glasses=Glasses()))
    for size in (0.95, 1.02, 1.05):
        shoot(renderer, actor, Props(glasses=Glasses(size=size)))
    assert len(actor.props._drawables) == len(actor.props._meshes) == 3
    assert (shoot(renderer, actor, Props(glasses=Glasses())).pixels == first.pixels).all()
    actor.close()
