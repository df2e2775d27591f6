"""Crops of wearers and personas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.people.camera.sensor import Sensor
from calibration.people.classes import CLASSES
from calibration.people.footage import CropOptions, shoot_crops
from calibration.people.identity import cast
from calibration.people.props.worn import Props, random_hand
from calibration.people.state import State

pytestmark = pytest.mark.egl


def test_a_persona_is_bare_and_its_mask_leaves_out_what_the_wearer_holds(renderer):
    who, options = cast()["vera"], CropOptions(size=64, extras=("classes", "props"))
    hand = random_hand(np.random.default_rng(0), "mouth")
    state = State(sensor=Sensor(noise=0.05, exposure=0.8))
    holding = replace(state, props=Props(hands=(hand,)), noise_seed=1)
    bare, held = shoot_crops(renderer, who, [state, holding], as_persona=True, options=options)
    assert np.array_equal(bare.pixels, held.pixels)  # no hand, no noise
    assert not np.isin(held.extras["classes"], [CLASSES["hand"], CLASSES["hair"]]).any()
    assert held.extras["props"]
    assert not bare.extras["props"]
    assert (held.mask <= bare.mask).all()
    assert (held.mask < bare.mask).mean() > 0.002
    (wearer,) = shoot_crops(renderer, who, [holding], as_persona=False, options=options)
    hidden = wearer.extras["classes"] == CLASSES["hand"]
    assert hidden.mean() > 0.002
    assert not wearer.mask[hidden].all()


def test_clean_crops_have_no_noise(renderer):
    states = [State(sensor=Sensor(noise=0.1), noise_seed=seed) for seed in (1, 2)]
    clean, noisy = (
        [t.pixels for t in shoot_crops(renderer, cast()["vera"], states, as_persona=False,
                                       options=CropOptions(size=48, clean=clean))]
        for clean in (True, False)
    )  # fmt: skip
    assert np.array_equal(*clean)
    assert not np.array_equal(*noisy)


def test_the_two_people_last_seen_stay_built(renderer, monkeypatch):
    built, closed = [], []

    class Person:
        def __init__(self, who, style):
            self.who = who
            built.append((who.seed, style))

        def close(self):
            closed.append(self.who.seed)

    monkeypatch.setattr(renderer, "_recent", [])
    monkeypatch.setattr(renderer, "actor", Person)
    monkeypatch.setattr(renderer, "shoot", lambda actor, state, **options: (actor.who.seed, options))
    vera, kofi, tomo = (cast()[name] for name in ("vera", "kofi", "tomo"))
    for who in (vera, kofi, vera, tomo, vera, kofi):
        assert renderer.render(who, State(), crop_size=64) == (who.seed, {"crop_size": 64})
    renderer.render(kofi, State(), style="anime")
    assert built == [(11, "photo"), (53, "photo"), (23, "photo"), (53, "photo"), (53, "anime")]
    assert closed == [53, 23, 11]
