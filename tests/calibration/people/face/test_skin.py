"""Painted skin: pigments, marks, wrinkles, and that painting is repeatable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.people.face.complexion import MakeUp
from calibration.people.face.skin import neck_albedo, paint, pigmented, read
from calibration.people.face.strokes import strokes
from calibration.people.head.shape import head_model
from calibration.people.head.unwrap import charted, placed, sample, shared_maps
from calibration.people.identity import cast

pytestmark = pytest.mark.egl
TOMO = replace(cast()["tomo"], beard=replace(cast()["tomo"].beard, style="none"))
NO_STROKES = strokes(np.zeros((1, 2, 2)), np.ones((1, 2)), np.zeros((1, 3)), np.zeros((1, 2)))


@pytest.fixture(scope="module")
def studio(renderer):
    return renderer._gl, renderer._shared


@pytest.fixture(scope="module")
def points(studio):
    _, shared = studio
    return np.frombuffer(shared.places.read(), np.float32).reshape(*shared.places.size[::-1], 3)


def painted(studio, who, lines=NO_STROKES):
    gl, shared = studio
    maps = paint(gl, who, shared, lines)
    out = read(maps.colour), read(maps.relief)
    maps.release()
    return out


def skinned(**changes):
    return replace(TOMO, skin=replace(TOMO.skin, stubble=0.0, moles=0, **changes))


def around(points, centre, radius):
    near = np.linalg.norm(points - np.array(centre), axis=-1) < radius
    assert near.sum() > 200
    return near


def test_painting_twice_gives_the_same_bytes(studio):
    a, b = painted(studio, TOMO), painted(studio, TOMO)
    assert all((x == y).all() for x, y in zip(a, b, strict=True))
    assert (painted(studio, replace(TOMO, seed=99))[0] != a[0]).mean() > 0.3


def test_melanin_darkens_blue_most_and_the_numbers_agree_with_the_shader(studio, points):
    cheek = around(points, (0.42, 6.95, 1.2), 0.15)
    light, dark = (painted(studio, skinned(melanin=m))[0][cheek, :3].mean(0) ** 2 for m in (0.2, 1.4))
    assert (dark < 0.75 * light).all()
    assert dark[2] / light[2] < dark[0] / light[0]
    assert np.abs(light - pigmented(0.2, TOMO.skin.haemoglobin * 1.2)).max() < 0.08
    assert (neck_albedo(skinned(melanin=2.0)) < neck_albedo(skinned(melanin=0.2))).all()


def test_very_dark_skin_is_brown_and_not_orange():
    red, green, blue = pigmented(2.1, 0.42)
    assert 1.4 < red / green < 3
    assert red / blue < 6
    assert 0.03 < green < 0.1


def test_crows_feet_are_darker_and_duller_than_the_skin_between_them(studio, points):
    beside = (np.abs(points[..., 0]) > 0.48) & (np.abs(points[..., 0]) < 0.56)
    beside &= (np.abs(points[..., 1] - 7.315) < 0.05) & (points[..., 2] > 0.9)
    young, old = (painted(studio, replace(skinned(melanin=1.5), age=age))[0] for age in (0.0, 0.9))
    darker = young[..., 1] - old[..., 1]
    assert darker[beside].min() > -0.03  # nowhere lighter
    assert np.quantile(darker[beside], 0.9) > 0.01
    assert (old[beside, 3] - young[beside, 3]).mean() > 0.05


def test_freckles_add_contrast_to_the_cheeks(studio, points):
    cheek = around(points, (0.40, 6.98, 1.25), 0.2)
    plain, freckled = (painted(studio, skinned(melanin=0.2, freckles=f))[0][cheek, 1].std() for f in (0.0, 0.9))
    assert freckled > 1.4 * plain


def test_stubble_darkens_the_chin_only(studio, points):
    chin, brow = around(points, (0, 6.33, 1.35), 0.1), around(points, (0, 7.7, 1.35), 0.15)
    bare = painted(studio, skinned())[0]
    rough = painted(studio, replace(TOMO, skin=replace(TOMO.skin, stubble=0.8, moles=0)))[0]
    assert rough[chin, :3].mean() < 0.96 * bare[chin, :3].mean()
    assert np.abs(rough[brow] - bare[brow]).max() < 0.02


def test_age_adds_relief_to_forehead_and_corners_of_the_eyes(studio, points):
    young, old = (painted(studio, replace(TOMO, age=age))[1] for age in (0.0, 0.95))
    for centre in ((0.0, 7.72, 1.4), (0.5, 7.3, 1.2)):
        place = around(points, centre, 0.1)
        assert old[place, :2].std() > 1.2 * young[place, :2].std()


def test_lipstick_colours_the_lips_and_nothing_else(studio, points):
    lips = painted(studio, TOMO)[1][..., 2] > 0.95
    assert 300 < lips.sum() < 60000
    bare = painted(studio, skinned())[0]
    red = painted(studio, skinned(make_up=MakeUp(lipstick=(0.4, 0.02, 0.03), lips=0.9)))[0]
    assert (red[lips, 1].mean() / red[lips, 0].mean()) < 0.75 * (bare[lips, 1].mean() / bare[lips, 0].mean())
    assert np.abs(red - bare)[painted(studio, TOMO)[1][..., 2] < 0.01].max() < 0.02


def test_a_stroke_is_drawn_where_it_should_be(studio):
    line = strokes(np.array([[[0.5, 0.5], [0.6, 0.5]]]), np.full((1, 2), 6.0), np.zeros((1, 3)), np.ones((1, 2)))
    before, after = painted(studio, TOMO)[0], painted(studio, TOMO, line)[0]
    rows, columns = np.nonzero(np.abs(after - before)[..., :3].max(-1) > 0.1)
    height, width = before.shape[:2]
    assert abs(rows.mean() + 0.5 - height * 0.5) < 1
    assert abs(columns.min() - width * 0.5) < 2
    assert abs(columns.max() - width * 0.6) < 2
    assert (before[..., 3] == after[..., 3]).all()


def test_the_texture_magnifies_the_face(points):
    step = np.linalg.norm(np.diff(points, axis=0), axis=-1)[:, :-1]
    face, nape = (points[:-1, :-1, 2] > 1.3) & (step > 0), (points[:-1, :-1, 2] < -0.3) & (step > 0)
    assert 1 / np.median(step[face]) > 250
    assert np.median(step[face]) < 0.5 * np.median(step[nape])


def test_places_keep_order_and_stay_outside_outside():
    head = head_model()
    u0, u1, v0, v1 = head.uv_window
    along = np.stack([np.linspace(u0, u1, 50), np.linspace(v0, v1, 50)], 1)
    assert (np.diff(placed(head, along), axis=0) > 0).all()
    assert np.allclose(placed(head, along)[[0, -1]], [[0, 0], [1, 1]])
    outside = np.array([[u0 - 0.1, v0]])
    assert placed(head, outside)[0, 0] < 0
    assert sample(np.full((4, 4), 255, np.uint8), charted(head, outside))[0] == 0


def test_shared_maps_mark_ears_and_mouth(renderer):
    shared = shared_maps(renderer._gl, head_model())
    average = head_model().fine_average
    assert (shared.thin[shared.inside_mouth] == -1).all()
    ears = shared.thin > 0.6
    assert ears.sum() > 100
    assert (np.abs(average[ears, 0]) > 0.5).all()
    assert not shared.free[ears].any()
    assert (np.abs(average[shared.inside_mouth, 0]) < 0.5).all()
