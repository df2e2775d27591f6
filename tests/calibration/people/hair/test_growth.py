"""Heads of hair: grown on the head, dense on the scalp, off the face."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.spatial import cKDTree

from calibration.people.classes import CLASSES
from calibration.people.hair.cloud import thickness
from calibration.people.hair.growth import Skull
from calibration.people.hair.hairline import hairline_height
from calibration.people.hair.rig import _undercoat, plan_hair
from calibration.people.hair.style import PRESETS
from calibration.people.head.mesh import vertex_normals
from calibration.people.head.shape import head_model
from calibration.people.identity import cast
from calibration.people.state import State
from engines import geometry

pytestmark = pytest.mark.egl
SIZE = 128


@pytest.fixture(scope="module")
def body(renderer):
    head = head_model()
    skin = head.skin.subdivide @ head.identity_vertices(cast()["vera"].shape_weights())[head.skin.ids]
    return head, skin, vertex_normals(skin, head.skin.triangles), renderer._shared.free


def _plan(body, style, seed=3):
    head, skin, normals, free = body
    return plan_hair(PRESETS[style], head, Skull(head, skin, normals, free), skin, normals, free, seed)


@pytest.mark.parametrize("style", sorted(set(PRESETS) - {"bald"}))
def test_hair_grows_outside_the_skull_and_off_the_face(body, style):
    head, skin, normals, free = body
    points = np.concatenate([t.points.reshape(-1, 3) for t in _plan(body, style)]).astype(np.float64)
    assert len(points) > 2000
    assert np.isfinite(points).all()
    assert not Skull(head, skin, normals, free).before_face(points, np.zeros(len(points))).mean() > 0.0005
    near = np.flatnonzero(free)
    near = near[cKDTree(skin[near]).query(points)[1]]
    above = ((points - skin[near]) * normals[near]).sum(1)
    assert np.quantile(above, 0.002) > -0.03
    assert above.min() > -0.12


def test_the_same_seed_grows_the_same_hair(body):
    a, b, c = (np.concatenate([t.vertices.ravel() for t in _plan(body, "crop", seed)]) for seed in (3, 3, 4))
    assert (a == b).all()
    assert a.shape != c.shape or (a != c).any()


def test_a_bald_head_has_none(body):
    assert _plan(body, "bald") == []


def _shoot(renderer, hair, state, **changes):
    person = renderer.actor(replace(cast()["vera"], hair=hair, **changes))
    shot = renderer.shoot(person, state, crop_size=SIZE, margin=1.7)
    posed = person.pose(state)
    person.close()
    return shot, posed


@pytest.mark.parametrize("style", ["crop", "side", "curly", "afro", "long", "tied"])
def test_hair_hides_the_scalp_and_nothing_of_the_face(renderer, style):
    state = State()
    shot, posed = _shoot(renderer, PRESETS[style], state)
    average = head_model().fine_average
    scalp = (hairline_height(average, PRESETS[style]) > 0.1) & (average[:, 1] > 7.8) & (posed.normals[:, 2] > 0.25)
    at = geometry.transform(shot.frame_to_picture, state.camera.project(posed.skin[scalp]))
    x, y = np.round(at).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < SIZE) & (y < SIZE)
    assert inside.sum() > 30
    assert (shot.classes[y[inside], x[inside]] == CLASSES["hair"]).mean() > 0.93
    face = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillConvexPoly(face, cv2.convexHull(np.round(shot.landmarks[17:68]).astype(np.int32)), 1)
    assert (shot.classes[face > 0] == CLASSES["hair"]).mean() < 0.002


def test_loose_locks_fall_over_the_face(renderer):
    covered = []
    for share in (0.0, 0.4, 1.0):
        state = State()
        state = replace(state, props=replace(state.props, loose_hair=share))
        shot, _ = _shoot(renderer, PRESETS["tied"], state)
        face = np.zeros((SIZE, SIZE), np.uint8)
        cv2.fillConvexPoly(face, cv2.convexHull(np.round(shot.landmarks[17:68]).astype(np.int32)), 1)
        covered.append(((shot.classes == CLASSES["hair"]) & (face > 0)).sum())
    assert covered[0] == 0
    assert 5 < covered[1] < covered[2]


def test_tufts_that_nobody_sees_are_not_drawn(renderer):
    person = renderer.actor(replace(cast()["vera"], hair=PRESETS["crop"]))
    counts = {}
    for yaw in (0.0, 60.0):
        state = State(yaw=yaw)
        posed = person.pose(state)
        uniforms = renderer._uniforms(person, posed, state.light, state.camera, state.camera.view_projection())
        counts[yaw] = person.hair._visible(uniforms)
    whole = sum(rows.size for rows in person.hair._groups) + person.hair._coat.size
    person.close()
    assert 0.3 * whole < len(counts[0.0]) < 0.95 * whole
    assert set(counts[0.0].tolist()) != set(counts[60.0].tolist())


@pytest.mark.parametrize("style", ["afro", "curly"])
def test_curls_stand_on_a_closed_core(body, style):
    head, skin, normals, free = body
    coat, triangles = _undercoat(PRESETS[style], head, skin, normals, free, 3)
    near = cKDTree(skin).query(coat[:, :3])[0]
    crown = head.fine_average[:, 1] > 8.25
    top = coat[:, 1] > skin[crown][:, 1].min() + 0.15
    assert top.sum() > 100
    assert triangles.max() < len(coat)
    assert (coat[top, 11] > 1).mean() > 0.95  # opaque
    assert near[top].mean() > 0.5 * thickness(PRESETS[style], head.fine_average[crown]).mean()
    flat, _ = _undercoat(PRESETS["crop"], head, skin, normals, free, 3)
    assert cKDTree(skin).query(flat[:, :3])[0].max() < 0.05


def test_tufts_thin_out_at_their_ends(body):
    cover = _plan(body, "long")[0].vertices[:, :, 0, 11]
    tufts = cover.max(1) < 1.5  # the others are single hairs
    assert tufts.mean() > 0.7
    assert cover[tufts, -1].max() < 0.2
    assert cover[tufts, -1].mean() < 0.25 * cover[tufts, 4].mean()
