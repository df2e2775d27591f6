"""Face mesh points on the invented heads."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.people.camera.sensor import CLEAN
from calibration.people.head.correspond import attach, face_triangles, mesh_points
from calibration.people.head.shape import head_model
from calibration.people.identity import random_identity
from calibration.people.prepare.mesh468 import STATES, hits, look_at, mirror_of
from engines import geometry
from engines.facemesh import load_facemesh


def test_a_point_is_put_onto_the_nearest_place_of_a_surface():
    surface = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    triangles = np.array([[0, 1, 2], [1, 3, 2]])
    points = np.array([[0.2, 0.3, 0.5], [2.0, 0.5, 0.0], [-1.0, -1.0, 0.0]])
    vertices, weights, distance = attach(points, surface, triangles)
    found = np.einsum("nk,nkd->nd", weights, surface[vertices])
    assert found == pytest.approx(np.array([[0.2, 0.3, 0], [1, 0.5, 0], [0, 0, 0]]))
    assert distance == pytest.approx([0.5, 1.0, 2**0.5])
    assert weights.sum(1) == pytest.approx(1)


def test_a_picture_point_meets_the_nearer_of_two_surfaces():
    rest = np.array([[0.0, 0, 2], [0, 1, 2], [1, 0, 2], [0, 0, 1], [0, 1, 1], [1, 0, 1]])
    triangles = np.array([[3, 4, 5], [0, 1, 2]])
    # Seen from +z with y down: counter-clockwise in the world.
    pixels = rest[:, :2] * [1, -1]
    order = triangles[:, [0, 2, 1]]
    found = hits(np.array([[0.2, -0.3], [5.0, 5.0]]), pixels, -rest[:, 2], order, rest)
    assert found[0] == pytest.approx([0.2, 0.3, 2.0])
    assert np.isnan(found[1]).all()


def test_the_mesh_is_symmetric_and_lies_on_the_face():
    average = head_model().fine_average
    points = mesh_points(average)
    assert points.shape == (468, 3)
    partner = mirror_of(points)
    assert np.linalg.norm(points[partner] * [-1, 1, 1] - points, axis=1).max() < 0.12
    assert (partner != np.arange(468)).sum() > 400
    assert points[:, 1].min() > 5.9
    _, _, distance = attach(points, average, face_triangles())
    assert distance.max() < 1e-6
    # MediaPipe's numbers: nose tip in front, the subject's right eye on the negative side, chin lowest.
    assert points[[1, 4], 2].min() > np.percentile(points[:, 2], 97)
    assert points[33, 0] < points[133, 0] < 0 < points[362, 0] < points[263, 0]
    assert points[:, 1].argmin() in (152, 148, 377)


def test_mesh_points_move_with_the_skin():
    skin, shift = head_model().fine_average, np.array([1.0, 2.0, 3.0])
    assert mesh_points(skin + shift) == pytest.approx(mesh_points(skin) + shift)


@pytest.mark.egl
def test_face_mesh_sees_the_true_mesh(renderer):
    actor = renderer.actor(random_identity(9107))
    state = STATES[0]
    shot = renderer.shoot(actor, state, crop_size=320, margin=1.7, hair=False, sensor=CLEAN)
    truth = mesh_points(actor.pose(state).skin)
    actor.close()
    expected = geometry.transform(shot.frame_to_picture, state.camera.project(truth))
    assert shot.mesh == pytest.approx(expected, abs=1e-3)
    assert shot.mesh_visible.mean() > 0.8
    seen, score = look_at(shot, load_facemesh())
    assert score > 0.9
    between = np.linalg.norm(shot.landmarks[36:42].mean(0) - shot.landmarks[42:48].mean(0))
    assert np.median(np.linalg.norm(seen[:, :2] - shot.mesh, axis=1)) < 0.07 * between
