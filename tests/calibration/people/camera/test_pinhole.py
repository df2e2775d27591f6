"""Two ways to project agree, and crops are parts of the frame."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.people.camera.pinhole import Camera, crop_clip, orthographic
from engines import geometry

POINTS = np.random.default_rng(0).uniform([-1, 6, -1], [1, 8, 2], (50, 3))


def _pixels(matrix: np.ndarray, points: np.ndarray, width: int, height: int) -> np.ndarray:
    clip = np.c_[points, np.ones(len(points))] @ matrix.T
    ndc = clip[:, :2] / clip[:, 3:]
    return np.stack([(ndc[:, 0] + 1) / 2 * width - 0.5, (1 - ndc[:, 1]) / 2 * height - 0.5], 1)


@pytest.mark.parametrize(
    "camera", [Camera(), Camera((0.4, 7.3, 4.6), 640, 480, 600.0), Camera((-1.0, 6.8, 20.0), 1920, 1080, 5200.0)]
)
def test_the_graphics_card_and_numpy_project_alike(camera):
    expected = camera.project(POINTS)
    assert _pixels(camera.view_projection(), POINTS, camera.width, camera.height) == pytest.approx(expected, abs=1e-6)
    relative = (POINTS - np.array(camera.position)) * [1, -1, -1]
    by_matrix = relative @ camera.intrinsics.T
    assert by_matrix[:, :2] / by_matrix[:, 2:] == pytest.approx(expected, abs=1e-6)


def test_depth_grows_with_distance():
    clip = np.c_[[[0, 7, 1.5], [0, 7, 0.0]], [1, 1]] @ Camera().view_projection().T
    near, far = clip[:, 2] / clip[:, 3]
    assert -1 < near < far < 1


def test_a_crop_is_the_frame_seen_through_its_affine():
    camera = Camera()
    angle, scale = 0.2, 0.6
    affine = np.array(
        [
            [scale * np.cos(angle), -scale * np.sin(angle), -250.0],
            [scale * np.sin(angle), scale * np.cos(angle), -120.0],
        ]
    )
    matrix = crop_clip((camera.width, camera.height), affine, 256) @ camera.view_projection()
    assert _pixels(matrix, POINTS, 256, 256) == pytest.approx(
        geometry.transform(affine, camera.project(POINTS)), abs=1e-6
    )


def test_nearer_cameras_draw_noses_larger():
    """Real perspective: at arm's length the nose grows against the ears."""
    nose, ear = np.array([[-0.1, 7, 1.6], [0.1, 7, 1.6]]), np.array([[-0.1, 7, 0.2], [0.1, 7, 0.2]])

    def ratio(distance: float) -> float:
        camera = Camera((0.0, 7.0, 1.0 + distance))
        return float(np.ptp(camera.project(nose)[:, 0]) / np.ptp(camera.project(ear)[:, 0]))

    assert ratio(3.5) > 1.4 > 1.1 > ratio(20.0)


def test_orthographic_looks_at_its_centre():
    matrix = orthographic(np.array([0.3, 0.5, 0.8]), np.array([0.0, 7.0, 0.4]), 2.0)
    assert (matrix @ [0.0, 7.0, 0.4, 1.0])[:2] == pytest.approx([0, 0], abs=1e-9)
