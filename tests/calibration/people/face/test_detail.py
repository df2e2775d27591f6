"""Brows, lashes and ink lines follow the face."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.people.face.brows import BrowStrands
from calibration.people.face.detail import HairDetail, InkDetail
from calibration.people.head.mesh import vertex_normals
from calibration.people.head.shape import head_model
from calibration.people.identity import cast


def posed(expression):
    head, who = head_model(), cast()["kofi"]
    vertices = head.express(head.identity_vertices(who.shape_weights()), expression)
    skin = head.skin.subdivide @ vertices[head.skin.ids]
    eyes = [vertices[head.index[f"{side}_eye"]].mean(0) for side in ("left", "right")]
    return skin, vertex_normals(skin, head.skin.triangles), np.eye(3), eyes


def hair_detail():
    head, who = head_model(), cast()["kofi"]
    return HairDetail(who, head, BrowStrands(who.brow, head, np.random.default_rng(0)), np.random.default_rng(1))


@pytest.mark.parametrize("make", [hair_detail, lambda: InkDetail(cast()["kofi"], head_model())])
def test_ribbons_stay_on_the_face(make):
    detail = make()
    skin, normals, rotation, eyes = posed({})
    points = detail.points(skin, normals, rotation, eyes)
    assert points.shape == (detail.count, len(detail.along), 3)
    nearest = np.array([np.linalg.norm(skin - p, axis=1).min() for p in points[:, 0]])
    assert nearest.max() < 0.08
    made = detail.ribbons(points)
    assert made.indices.max() == len(made.vertices) - 1


def test_ink_lines_of_the_upper_lid_fall_with_a_blink():
    detail = InkDetail(cast()["vera"], head_model())
    still, shut = (detail.points(*posed(e)) for e in ({}, {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}))
    left_upper, right_upper = 2, 4
    for line in (left_upper, right_upper):
        middle = len(detail.along) // 2
        assert shut[line, middle, 1] < still[line, middle, 1] - 0.03
    brow_up = detail.points(*posed({"browOuterUpLeft": 1.0, "browOuterUpRight": 1.0}))
    assert brow_up[:2, :, 1].mean() > still[:2, :, 1].mean() + 0.02
