"""The head's geometry against things that are known without it."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.people.head.mesh import vertex_normals
from calibration.people.head.shape import catmull_clark, head_model, macro_weights, turn_head
from engines.errors import RenderError


def test_catmull_clark_of_a_cube_is_the_published_one():
    """Face points at the faces' centres, edge points at 0.75, corners at 5/9 of the cube's (Catmull and Clark 1978)."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    matrix, fine, uv = catmull_clark(8, quads, np.zeros((6, 4, 2), np.float32))
    points = matrix @ corners
    assert points.shape == (8 + 12 + 6, 3)
    assert fine.shape == (24, 4)
    assert uv.shape == (24, 4, 2)
    assert np.allclose(points[:8], corners * 5 / 9)
    assert np.allclose(np.abs(points[8:20]).max(1), 0.75)
    assert np.allclose(np.sort(np.abs(points[20:]), 1), [0, 0, 1])


def test_catmull_clark_keeps_a_flat_border():
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    matrix, _, _ = catmull_clark(4, np.array([[0, 1, 2, 3]]), np.zeros((1, 4, 2), np.float32))
    points = matrix @ square
    assert np.allclose(np.asarray(matrix.sum(1)).ravel(), 1)
    assert np.allclose(points[0], [0.125, 0.125, 0])


def test_macro_weights_sum_to_one_per_family():
    weights = macro_weights(0.3, 0.6, 0.7, {"asian": 1.0, "african": 2.0})
    assert sum(v for k, v in weights.items() if "universal" not in k) == pytest.approx(1)
    assert sum(v for k, v in weights.items() if "universal" in k) == pytest.approx(1)


def test_landmarks_are_symmetric_on_the_average_head():
    head = head_model()
    points = head.fine_average[head.fine_index["landmarks"]]
    left, right = points[[36, 39, 48, 31, 0]], points[[45, 42, 54, 35, 16]]
    assert np.allclose(left * [-1, 1, 1], right, atol=1e-3)


def test_expression_moves_what_it_names():
    head = head_model()
    index = head.index["landmarks"]
    neutral = head.average[index]
    jaw = head.express(head.average, {"jawOpen": 1.0})[index]
    assert jaw[57, 1] < neutral[57, 1] - 0.1
    assert np.allclose(jaw[36:48], neutral[36:48], atol=0.02)
    assert len(head.expressions) == 52
    with pytest.raises(RenderError, match="unknown face unit"):
        head.express(head.average, {"jawOpne": 1.0})


def test_turn_head_is_a_rotation_where_the_weight_is_one():
    points = np.random.default_rng(0).normal(size=(20, 3)) + np.array([0, 7, 0])
    turned = turn_head(points, np.ones(20), np.array([0, 0.6, 0]), np.array([0.1, 0, 0]))
    before = np.linalg.norm(points[:, None] - points[None], axis=2)
    after = np.linalg.norm(turned[:, None] - turned[None], axis=2)
    assert np.allclose(before, after)
    assert np.allclose(turn_head(points, np.zeros(20), np.array([0, 0.6, 0]), np.zeros(3)), points)


def test_normals_of_a_plane():
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], float)
    assert np.allclose(vertex_normals(points, np.array([[0, 1, 2]])), [0, 0, 1])
