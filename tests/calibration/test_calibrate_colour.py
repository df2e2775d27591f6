"""Colours per light: the gain that takes the persona's light to the wearer's, and which light it is."""

import numpy as np
import pytest

from calibration.calibrate_colour import (
    GAMMA,
    LEAST_FRAMES,
    MOST_GAIN,
    Colours,
    learn_light,
    light_of,
    linear_mean,
    value_gains,
)
from engines.errors import DataError

PERSONA = np.array([0.10, 0.15, 0.25])


def seen(gain, count=60, seed=0):
    rng = np.random.default_rng(seed)
    return [Colours(PERSONA * gain * np.exp(rng.normal(0, 0.03, 3)), PERSONA.copy()) for _ in range(count)]


def test_a_known_light_is_learned_in_spite_of_some_odd_frames():
    gain = np.array([0.7, 1.0, 1.4])
    odd = [Colours(PERSONA * 5, PERSONA) for _ in range(12)] + [Colours(PERSONA * 0, PERSONA)]  # a lamp, a hand
    light = learn_light(seen(gain) + odd, name="usual", persona="vera")
    assert np.allclose(light.gain, gain, rtol=0.03)
    assert np.allclose(light.face, PERSONA * gain, rtol=0.03)


def test_a_gain_in_linear_light_is_one_of_the_values():
    light = learn_light(seen(np.array([0.6, 1.0, 1.5])), name="usual", persona="vera")
    values = np.array([60.0, 120.0, 180.0])
    linear = ((values * value_gains(light, 1.0)) / 255) ** GAMMA
    assert np.allclose(linear, (values / 255) ** GAMMA * light.gain)
    assert np.allclose(value_gains(light, 0.0), 1.0)
    picture = np.full((4, 4, 3), 128, np.uint8)
    assert np.allclose(linear_mean(picture, np.ones((4, 4), bool)), (128 / 255) ** GAMMA)


def test_too_few_frames_and_impossible_gains():
    with pytest.raises(DataError, match=f"seen in {LEAST_FRAMES - 1} frames"):
        learn_light(seen(1.0, LEAST_FRAMES - 1), name="usual", persona="vera")
    assert max(learn_light(seen(9.0), name="usual", persona="vera").gain) <= MOST_GAIN


def test_the_light_is_known_again_by_the_face_and_a_strange_one_is_none():
    day = learn_light(seen(np.array([1.3, 1.1, 1.0])), name="day", persona="vera")
    lamp = learn_light(seen(np.array([0.35, 0.6, 1.0])), name="lamp", persona="vera")
    assert light_of([day, lamp], np.array(day.face) * 1.15) == day
    assert light_of([day, lamp], np.array(lamp.face) * 0.85) == lamp
    assert light_of([day, lamp], np.array(day.face) * 3) is None
    assert light_of([], np.array(day.face)) is None
