"""Clips of one person."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calibration.people.head.shape import head_model
from calibration.people.motion import motion
from calibration.people.props.worn import Headphones, Props


def test_the_same_seed_is_the_same_clip():
    assert motion(4, 20) == motion(4, 20)
    assert motion(4, 20) != motion(5, 20)


def test_motion_is_smooth_and_has_blinks_speech_and_smiles():
    states = motion(4, 150)
    assert np.abs(np.diff([s.yaw for s in states])).max() < 4
    assert 15 < max(abs(s.yaw) for s in states) <= 38
    for unit, least in (("eyeBlinkLeft", 0.9), ("jawOpen", 0.2), ("mouthSmileLeft", 0.3)):
        assert max(s.expression[unit] for s in [*states, *motion(5, 150), *motion(6, 150)]) > least
    jaw = np.array([s.expression["jawOpen"] for s in states])
    assert np.abs(np.diff(jaw)).max() < 0.4
    keys = np.array([s.light.key_direction for s in states])
    assert 0 < np.abs(np.diff(keys, axis=0)).max() < 0.1


def test_all_frames_share_room_and_props_but_not_noise():
    props = Props(headphones=Headphones())
    states = motion(7, 12, props=props)
    assert {s.room for s in states} == {states[0].room}
    assert all(s.props == props for s in states)
    assert len({s.noise_seed for s in states}) == 12


def test_a_hand_comes_and_goes_and_moves_nothing_else():
    without, states = motion(7, 180), motion(7, 180, hand=True)
    held = [len(s.props.hands) for s in states]
    assert set(held) == {0, 1}
    assert [replace(s, props=Props()) for s in states] == without


def test_expressions_are_units_of_the_head_in_their_range():
    names = set(head_model().expressions)
    for state in motion(3, 90):
        assert set(state.expression) <= names
        assert all(0 <= v <= 1 for v in state.expression.values())
