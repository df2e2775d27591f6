"""Beards: where they grow, and that they follow the jaw."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.people.hair.beards import beard_density, grow_beard
from calibration.people.hair.style import Beard
from calibration.people.head.mesh import vertex_normals
from calibration.people.head.shape import head_model


@pytest.fixture(scope="module")
def face():
    head = head_model()
    skin = head.fine_average
    return head, skin, vertex_normals(skin, head.skin.triangles)


def _grow(face, beard):
    head, skin, normals = face
    return grow_beard(beard, head, skin, normals, np.ones(len(skin), bool), 4, np.random.default_rng(1))


def test_a_beard_grows_on_the_chin_but_not_on_lips_cheeks_and_nose(face):
    head, skin, _ = face
    marks = skin[head.fine_index["landmarks"]]
    density = beard_density(marks, Beard("full"), 4)
    assert density[8] > 0.6
    assert density[48:60].max() == 0
    assert density[27:31].max() == 0
    assert density[17:27].max() == 0
    assert beard_density(marks, Beard("none"), 4).max() == 0


def test_sideburns_narrow_upwards():
    height = np.array([6.9, 7.05, 7.2, 7.35, 7.5])
    depth = np.linspace(0.5, 1.1, 61)
    cheek = np.stack(np.broadcast_arrays(0.66, height[:, None], depth[None]), -1)
    wide = (beard_density(cheek, Beard("short"), 4) > 0.2).sum(1)
    assert wide[0] > 20
    assert (np.diff(wide) <= 0).all()
    assert wide[2] < 0.7 * wide[0]
    assert wide[-1] == 0


@pytest.mark.parametrize(
    ("style", "few", "many"), [("moustache", 200, 420), ("goatee", 400, 750), ("short", 1600, 2500)]
)
def test_styles_differ_in_how_much_grows(face, style, few, many):
    beard = _grow(face, Beard(style, 0.1))
    assert few < len(beard.points) <= many


def test_it_follows_the_jaw(face):
    head, skin, normals = face
    beard = _grow(face, Beard("short", 0.1))
    opened = head.skin.subdivide @ head.express(head.average, {"jawOpen": 0.8})[head.skin.ids]
    rest = beard.posed(skin, normals)[:, :, 0, :3]
    moved = beard.posed(opened, vertex_normals(opened, head.skin.triangles))[:, :, 0, :3] - rest
    chin = head.fine_index["landmarks"][8]
    on_chin = np.linalg.norm(rest[:, 0] - skin[chin], axis=1) < 0.12
    drop = (opened - skin)[chin, 1]
    assert drop < -0.1
    assert np.allclose(moved[on_chin, 0, 1], drop, atol=0.05)
    assert np.allclose(moved[on_chin, -1, 1], drop, atol=0.09)
    moustache = rest[:, 0, 1] > 6.76
    assert np.median(np.abs(moved[moustache & (np.abs(rest[:, 0, 0]) < 0.2)])) < 0.03


def test_in_the_neutral_pose_it_stands_outside_the_skin(face):
    _, skin, normals = face
    beard = _grow(face, Beard("full", 0.4))
    points = beard.posed(skin, normals)[:, :, 0, :3]
    root = (skin[beard.corners] * beard.share[..., None]).sum(1)
    outward = ((points - root[:, None]) * normals[beard.corners[:, 0]][:, None]).sum(-1)
    assert np.quantile(outward[:, 1:], 0.01) > -0.02


def test_a_shaved_face_has_none(face):
    assert _grow(face, Beard()) is None
