"""Brows and lashes: where they grow and that they follow the face."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.people.face.brows import BROW_X, BrowStrands, Lashes, brow_line, lid_lines
from calibration.people.face.complexion import Brow, MakeUp
from calibration.people.head.mesh import vertex_normals
from calibration.people.head.shape import head_model

ALONG = np.linspace(0, 1, 4)


@pytest.fixture(scope="module")
def brows():
    return BrowStrands(Brow((0.05, 0.03, 0.02)), head_model(), np.random.default_rng(3))


def posed(**expression):
    head = head_model()
    vertices = head.express(head.average, expression)
    skin = head.skin.subdivide @ vertices[head.skin.ids]
    return skin, vertex_normals(skin, head.skin.triangles)


def test_strands_grow_along_the_brow_line_on_both_sides(brows):
    strands = brows.strands(*posed(), np.eye(3), ALONG)
    root = strands[:, 0]
    assert (np.sign(root[:, 0]) == brows.side).all()
    u = (np.abs(root[:, 0]) - BROW_X[0]) / (BROW_X[1] - BROW_X[0])
    assert np.abs(root[:, 1] - brow_line(u.clip(0, 1), 0.01)).max() < 0.06
    length = np.linalg.norm(np.diff(strands, axis=1), axis=2).sum(1)
    assert length.min() > 0.01
    assert length.max() < 0.12


def test_brows_follow_brow_inner_up(brows):
    rest, raised = (brows.strands(*posed(**e), np.eye(3), ALONG) for e in ({}, {"browInnerUp": 1.0}))
    inner = np.abs(rest[:, 0, 0]) < 0.25
    assert (raised - rest)[inner, 0, 1].mean() > 0.03
    marks, up = (brows.landmarks(posed(**e)[0]) for e in ({}, {"browInnerUp": 1.0}))
    assert up[4, 1] > marks[4, 1] + 0.02


def test_landmarks_run_from_the_right_temple_to_the_left(brows):
    marks = brows.landmarks(posed()[0])
    assert marks.shape == (10, 3)
    assert (np.diff(marks[:, 0]) > 0).all()
    assert np.allclose(marks[:, 0], -marks[::-1, 0], atol=0.01)


def test_painted_strokes_stay_on_the_brows(brows):
    places = brows.strokes.vertices[:, :2]
    assert np.isfinite(places).all()
    assert (np.ptp(places, axis=0) < 0.5).all()
    assert (brows.strokes.vertices[:, 5] <= 1).all()
    assert brows.strokes.indices.max() < len(places)


def test_liner_is_darker_than_bare_lids():
    bare, lined = (lid_lines(head_model(), MakeUp(liner=amount), 0.6).vertices[:, 5].sum() for amount in (0.0, 1.0))
    assert lined > bare


def test_lashes_point_away_from_the_eye():
    head, (skin, _) = head_model(), posed()
    lashes = Lashes(0.045, 50, np.random.default_rng(1))
    ball = head.average[head.index["left_eye"]]
    centre = (ball.min(0) + ball.max(0)) / 2
    upper, lower = (skin[head.fine_index[f"left_{lid}_lid"]] for lid in ("upper", "lower"))
    strands = lashes.strands(0, centre, upper, lower, np.eye(3), ALONG)
    assert len(strands) * 2 == lashes.count
    away = np.linalg.norm(strands - centre, axis=2)
    assert (away[:, -1] > away[:, 0]).all()
    assert (strands[:50, -1, 1] > strands[:50, 0, 1]).mean() > 0.9  # upper lashes curl up
    assert (strands[50:, -1, 1] < strands[50:, 0, 1]).mean() > 0.9  # lower ones point down
