"""Rooms behind people."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.people.camera.lighting import light_of
from calibration.people.camera.room import ROOM_KINDS, Room, background, random_room

WHOLE = np.array([[1.0, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize("kind", ROOM_KINDS)
def test_every_kind_of_room_is_finite_light_and_its_seed(kind):
    room = Room(3, kind)
    picture = background(room, 180, (320, 180), WHOLE)
    assert picture.shape == (180, 320, 3)
    assert np.isfinite(picture).all()
    assert picture.min() >= 0
    assert picture.max() > 0.01
    assert (picture == background(Room(3, kind), 180, (320, 180), WHOLE)).all()
    assert (picture != background(Room(4, kind), 180, (320, 180), WHOLE)).any()


def test_walls_are_as_bright_as_the_light_allows():
    room = Room(3, "plain")
    dark = replace(room, light=(0.1, 0.1, 0.1))
    assert background(dark, 180, (320, 180), WHOLE).mean() < 0.2 * background(room, 180, (320, 180), WHOLE).mean()


def test_a_dark_face_has_a_window_behind_it():
    rng = np.random.default_rng(0)
    rooms = [random_room(rng, light_of("backlit", rng), "backlit") for _ in range(60)]
    windows = [r for r in rooms if r.kind == "window"]
    assert len(windows) > 40
    shown = [background(r, 180, (320, 180), WHOLE).max() for r in windows]
    assert np.median(shown) > 1.5
    assert all(random_room(rng, light_of("room", rng), "room").kind in ROOM_KINDS for _ in range(60))


def test_the_room_stays_where_it_is_at_every_resolution():
    room = Room(8, "shelves")
    small = background(room, 360, (640, 360), WHOLE)
    large = background(room, 720, (1280, 720), WHOLE)
    shrunk = large.reshape(360, 2, 640, 2, 3).mean((1, 3))
    assert np.abs(shrunk - small).mean() < 0.002
