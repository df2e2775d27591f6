from __future__ import annotations

import numpy as np
import pytest

from engines.augment import NEUTRAL, augment
from engines.facemesh import POINTS
from engines.geometry import ALIGN_POINTS_68, MESH_TO_68, compose, invert, transform
from engines.mesh_subset import MESH_SUBSET, crop_points
from engines.pairs import Batch


def test_the_subset_is_fixed_and_within_the_mesh():
    assert len(MESH_SUBSET) == len(set(MESH_SUBSET.tolist())) == 127
    assert 0 <= MESH_SUBSET.min() <= MESH_SUBSET.max() < POINTS
    # Trained weights know this order: a changed sum means that they no longer fit.
    assert int((MESH_SUBSET * range(1, 128)).sum()) == 1_728_440


def test_it_has_the_corners_that_eyes_and_mouth_turn_on():
    corners = {33, 133, 362, 263, 61, 291, 13, 14, 152}
    assert corners <= set(MESH_SUBSET.tolist())
    assert len(set(MESH_TO_68[ALIGN_POINTS_68].tolist()) & set(MESH_SUBSET.tolist())) >= 8


TURNED = np.array([[1.9, -0.7, 811.3], [0.7, 1.9, 402.8]])


def test_crop_points_are_fractions_between_the_outer_edges():
    """Pixel centres are at integers: the first one is half a pixel from the crop's edge."""
    size = 64
    mesh = np.zeros((POINTS, 2))
    mesh[MESH_SUBSET[0]] = (0, 0)
    mesh[MESH_SUBSET[1]] = (size - 1, 10)
    mesh[MESH_SUBSET[126]] = (-0.5, size - 0.5)
    found = crop_points(transform(TURNED, mesh).astype(np.float32), TURNED, size)
    assert found.dtype == np.float32
    assert found.shape == (127, 2)
    np.testing.assert_allclose(found[0], 0.5 / size, atol=1e-5)
    np.testing.assert_allclose(found[1], [1 - 0.5 / size, 10.5 / size], atol=1e-5)
    np.testing.assert_allclose(found[126], [0, 1], atol=1e-5)


def test_crop_points_use_the_buffer_and_leave_the_landmarks():
    mesh = np.random.default_rng(0).uniform(0, 1000, (POINTS, 2)).astype(np.float32)
    before, out = mesh.copy(), np.empty((127, 2), np.float32)
    assert crop_points(mesh, TURNED, 64, out=out) is out
    np.testing.assert_array_equal(mesh, before)
    np.testing.assert_array_equal(out, crop_points(mesh.astype(np.float64), TURNED, 64))


@pytest.mark.parametrize("size", [32, 128])
def test_live_points_are_those_of_training(size):
    """One face, once cut out of a frame with its mesh, once stored with a margin and cut by ``augment``."""
    stored, margin = 160, 1.25
    side = stored / margin
    mesh = np.random.default_rng(1).uniform(30, 130, (POINTS, 2)).astype(np.float32)  # pixels of the stored crop
    batch = Batch(
        states=np.zeros(1, np.int64), wearers=["a"], inputs=np.zeros((1, stored, stored, 3), np.uint8),
        truths=np.zeros((1, 1, stored, stored, 4), np.uint8), landmarks=np.zeros((1, 1, 68, 2), np.float32),
        points=mesh[None, MESH_SUBSET],
    )  # fmt: skip
    rng = np.random.default_rng(0)
    trained = augment(batch, NEUTRAL, rng, margin=margin, input_size=size, output_size=size).points[0].numpy()
    # Pixel of the inner crop -> pixel of the stored one -> pixel of a frame.
    scale = side / size
    edge = (stored - side) / 2 + scale / 2 - 0.5
    to_stored = np.array([[scale, 0, edge], [0, scale, edge]])
    to_frame = compose(TURNED, to_stored)
    np.testing.assert_allclose(crop_points(transform(TURNED, mesh), to_frame, size), trained, atol=1e-5)
    # The formula of universal_data.mean_points.
    mean = (mesh[MESH_SUBSET] + 0.5 - (stored - side) / 2) / side
    np.testing.assert_allclose(trained, mean, atol=1e-5)
    np.testing.assert_allclose(
        transform(invert(to_frame), transform(TURNED, mesh[MESH_SUBSET])), trained * size - 0.5, atol=1e-3
    )
