"""Clothes: deterministic draws, necklines, thickness."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.people.camera.pinhole import Camera
from calibration.people.classes import CLASSES
from calibration.people.head.shape import head_model
from calibration.people.head.wardrobe import GARMENTS, Wardrobe, random_wardrobe
from calibration.people.identity import cast
from calibration.people.state import State


def test_the_same_rng_draws_the_same_clothes_and_all_garments_occur():
    a, b = (random_wardrobe(np.random.default_rng(5)) for _ in range(2))
    assert a == b
    drawn = [random_wardrobe(np.random.default_rng(s)) for s in range(80)]
    assert {w.garment for w in drawn} == set(GARMENTS)
    assert all(0 < c < 0.7 for w in drawn for c in (*w.colour, *w.second))
    assert len({w.colour for w in drawn}) > 60


def test_no_garment_reaches_the_chin():
    average = head_model().fine_average
    face = average[head_model().fine_index["landmarks"]]
    for seed in range(40):
        assert (random_wardrobe(np.random.default_rng(seed)).below_neckline(face) < 0).all()


def test_a_v_neck_shows_more_chest_than_a_tee():
    chest = np.array([[0.0, 5.45, 0.9]])
    assert Wardrobe("tee").below_neckline(chest)[0] > 0
    assert Wardrobe("v_neck").below_neckline(chest)[0] < 0


def test_cloth_stands_off_the_body_only_where_there_is_cloth():
    average = head_model().fine_average
    for garment in GARMENTS:
        wear = Wardrobe(garment)
        thick, depth = wear.thickness(average), wear.below_neckline(average)
        assert (thick[depth < -0.03] == 0).all()
        assert thick[depth > 0.2].min() > 0.01
        assert thick.max() < 0.35
    assert Wardrobe("hoodie").thickness(average).max() > 3 * Wardrobe("tee").thickness(average).max()


@pytest.mark.egl
def test_what_is_drawn_as_cloth_is_below_the_neckline(renderer):
    person = renderer.actor(cast()["kofi"])
    shot = renderer.shoot(person, State(), Camera(width=320, height=180, focal_px=575.0), supersample=1.0, hair=False)
    person.close()
    rows = np.nonzero(shot.classes == CLASSES["cloth"])[0]
    chin = shot.landmarks[8, 1]
    assert len(rows) > 500
    assert rows.min() > chin
