"""What streamers have: the draws, and the moving hand. No picture is drawn here."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise

import numpy as np

from calibration.people.props.hand_motion import hand_at, moving_hand
from calibration.people.props.worn import PROP_KEYS, Cap, Glasses, Hand, Headphones, Microphone, Props, random_props


def test_the_same_seed_draws_the_same_props():
    a, b, c = (random_props(np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert a == b
    assert any(random_props(np.random.default_rng(s)) != a for s in (6, 7, 8)) or c != a


def test_props_are_drawn_as_often_as_announced():
    draws = [random_props(np.random.default_rng([s, 9])) for s in range(3000)]
    announced = {
        "glasses": 0.25,
        "headphones": 0.18,
        "microphone": 0.10,
        "cap": 0.07,
        "hands": 0.08,
        "loose_hair": 0.10,
    }
    assert set(announced) == set(PROP_KEYS)
    for name, rate in announced.items():
        share = np.mean([bool(getattr(p, name)) for p in draws])
        assert abs(share - rate) < 0.03, name
    booms = [p.headphones.boom for p in draws if p.headphones]
    assert 0.4 < np.mean(booms) < 0.6
    assert np.mean([p == Props() for p in draws]) > 0.3
    assert {p.glasses.shape for p in draws if p.glasses} >= {
        "round",
        "rectangular",
        "square",
        "cat-eye",
        "aviator",
        "half-rim",
    }


def test_a_kind_does_not_depend_on_the_others():
    """Every kind has a stream of its own: most people with glasses lose none of them to another kind's draw."""
    both = [random_props(np.random.default_rng([s, 9])) for s in range(3000)]
    with_mic = np.mean([p.glasses is not None for p in both if p.microphone])
    assert abs(with_mic - 0.25) < 0.08


def test_props_are_plain_values():
    for seed in range(40):
        props = random_props(np.random.default_rng(seed))
        text = json.dumps(asdict(props))
        assert json.loads(text)["loose_hair"] == props.loose_hair
        assert hash(props) == hash(random_props(np.random.default_rng(seed)))


def test_what_may_hide_the_face():
    assert not Props().occludes()
    assert not Props(headphones=Headphones()).occludes()
    for props in (
        Props(headphones=Headphones(boom=True)), Props(glasses=Glasses()), Props(microphone=Microphone()),
        Props(cap=Cap()), Props(hands=(Hand(),)), Props(loose_hair=0.3),
    ):  # fmt: skip
        assert props.occludes()


def test_a_hand_comes_from_below_stays_and_leaves():
    hand = Hand(place="chin")
    path = [hand_at(hand, t, stays=1.0, reach=0.5) for t in (0.0, 0.1, 0.4, 0.5, 1.2, 1.9, 2.0)]
    assert path[0] is None
    assert path[-1] is None
    heights = [h.offset[1] for h in path[1:-1] if h]
    assert heights[0] < heights[1] < heights[2] == heights[3] == 0
    assert heights[4] < -1


def test_moving_hands_are_seeded_and_leave_gaps():
    hands = moving_hand(np.random.default_rng(3), 300, 30.0)
    assert hands == moving_hand(np.random.default_rng(3), 300, 30.0)
    assert hands != moving_hand(np.random.default_rng(4), 300, 30.0)
    there = [h is not None for h in hands]
    assert len(hands) == 300
    assert 0.1 < np.mean(there) < 0.9
    # No jump between frames: a hand moves less than its own length in a thirtieth of a second.
    steps = [np.subtract(a.offset, b.offset) for a, b in pairwise(hands) if a and b and a.pose == b.pose]
    assert np.abs(steps).max() < 0.8
