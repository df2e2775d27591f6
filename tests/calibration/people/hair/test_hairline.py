"""Where hair begins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calibration.people.hair.hairline import hair_density, hairline_height, part_line, scalp_shade, uneven_height
from calibration.people.hair.style import PRESETS
from calibration.people.head.shape import head_model


def _front(height, x=0.0):
    return np.array([[x, height, 1.3]])


def test_the_swapped_face_ends_below_every_hairline():
    average = head_model().fine_average
    face = (average[:, 1] < 7.76) & (np.abs(average[:, 0]) < 0.35) & (average[:, 2] > 1.1)
    for hair in PRESETS.values():
        assert hair_density(average[face], replace(hair, peak=0.09), 3).max() < 0.6
        assert hair_density(average[face], hair, 3).max() < 0.1


def test_receding_hair_leaves_the_temples_free():
    full, gone = PRESETS["crop"], replace(PRESETS["crop"], recede=0.25)
    assert hairline_height(_front(8.0, 0.36), gone) < 0 < hairline_height(_front(8.0, 0.36), full)


def test_a_widows_peak_reaches_down():
    assert hairline_height(_front(7.9), replace(PRESETS["crop"], peak=0.09)) > hairline_height(
        _front(7.9), PRESETS["crop"]
    )


def test_a_bare_crown_and_a_bald_head():
    crown = np.array([[0.0, 8.33, -0.12]])
    assert hair_density(crown, PRESETS["side"], 3) > 0.95
    assert hair_density(crown, replace(PRESETS["side"], thin=0.9), 3) < 0.3
    assert hair_density(crown, PRESETS["bald"], 3) == 0
    assert 0 < scalp_shade(crown, PRESETS["bald"], 3) < 0.5


def test_the_edge_is_uneven_and_the_same_for_the_same_seed():
    x = np.linspace(-0.3, 0.3, 200)
    points = np.stack([x, np.full(200, 7.9), np.full(200, 1.3)], 1)
    a = uneven_height(points, PRESETS["crop"], 3)
    assert np.std(a - hairline_height(points, PRESETS["crop"])) > 0.01
    assert (a == uneven_height(points, PRESETS["crop"], 3)).all()
    assert (a != uneven_height(points, PRESETS["crop"], 4)).any()


def test_a_parting_is_a_thin_line():
    x = np.linspace(-0.3, 0.3, 601)
    line = part_line(np.stack([x, np.full(601, 8.2), np.full(601, 0.8)], 1), PRESETS["long"], 3)
    assert line.max() > 0.4
    assert (line > 0.2).sum() * 0.001 < 0.035
