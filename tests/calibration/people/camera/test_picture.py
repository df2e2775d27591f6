"""From layers to linear light."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.people.camera.picture import Layers, composite, develop
from calibration.people.camera.sensor import CLEAN

SIDE = 48


def _layers(scattering: float = 0.0) -> Layers:
    """A grey disc, lit on its right half."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] - (SIDE - 1) / 2
    inside = (x * x + y * y < 18**2).astype(np.float32)
    albedo = np.zeros((SIDE, SIDE, 4), np.float32)
    albedo[...] = (inside * 0.5)[..., None]
    albedo[..., 3] = inside
    light = np.zeros((SIDE, SIDE, 4), np.float32)
    light[..., :3] = (inside * (x > 0))[..., None]
    light[..., 3] = inside * scattering
    return Layers(albedo, light, np.zeros((SIDE, SIDE, 4), np.float32), np.zeros((SIDE, SIDE), np.float32))


def test_light_times_albedo_before_the_room():
    room = np.full((SIDE, SIDE, 3), 0.25, np.float32)
    linear = composite(_layers(), (SIDE, SIDE), room, 100.0)
    middle = SIDE // 2
    assert linear[middle, middle + 8] == pytest.approx(0.5)
    assert linear[middle, middle - 8] == pytest.approx(0.0)
    assert linear[1, 1] == pytest.approx(0.25)


def test_red_light_goes_farther_under_the_skin_than_blue_and_none_leaves_it():
    room = np.zeros((SIDE, SIDE, 3), np.float32)
    linear = composite(_layers(1.0), (SIDE, SIDE), room, 100.0)
    red, green, blue = linear[SIDE // 2, SIDE // 2 - 3]
    assert red > green > blue
    assert red > 0.02
    assert linear[1].max() == 0
    # As much light as before, moved.
    assert linear.sum() == pytest.approx(composite(_layers(), (SIDE, SIDE), room, 100.0).sum(), rel=0.05)


def test_gloss_is_added_and_supersampling_averaged():
    layers = _layers()
    layers.gloss[SIDE // 2 - 1 : SIDE // 2 + 1, SIDE // 2 + 8 : SIDE // 2 + 10, :3] = 0.4
    small = composite(layers, (SIDE // 2, SIDE // 2), np.zeros((SIDE // 2, SIDE // 2, 3), np.float32), 100.0)
    assert small.shape == (SIDE // 2, SIDE // 2, 3)
    assert 0.5 < small.max() <= 0.9


def test_develop_gives_bytes_as_bgr():
    room = np.zeros((SIDE, SIDE, 3), np.float32)
    room[..., 0] = 1.0
    picture = develop(_layers(), (SIDE, SIDE), room, 100.0, CLEAN, 0)
    assert picture.dtype == np.uint8
    assert picture[0, 0, 2] > 200 > picture[0, 0, 0]
