"""Readings of made-up meshes whose pose and openings are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from engines import face_pose
from engines.errors import DetectorError


def mesh(yaw=0.0, pitch=0.0, roll=0.0, *, scale=90.0, mouth=0.1, eyes=0.06):
    """(468, 3) picture points of the reference head, with lips and lids so far apart (decimetres)."""
    points = np.zeros((468, 3))
    points[face_pose._RIGID] = face_pose._HEAD
    points[13], points[14] = (0, 6.6 + mouth / 2, 1.5), (0, 6.6 - mouth / 2, 1.5)
    for upper, lower, x in ((159, 145, -0.3), (386, 374, 0.3)):
        points[upper], points[lower] = (x, 7.3 + eyes / 2, 1.3), (x, 7.3 - eyes / 2, 1.3)
    points[105], points[334] = (-0.3, 7.5, 1.4), (0.3, 7.5, 1.4)
    turned = points @ Rotation.from_euler("YXZ", [yaw, -pitch, roll], degrees=True).as_matrix().T
    return turned * scale * (1, -1, -1) + (320, 200, 7)


@pytest.mark.parametrize("angles", [(0, 0, 0), (30, 0, 0), (-50, 10, 0), (0, -25, 12), (20, 15, -20)])
def test_pose_is_the_states(angles):
    assert face_pose.pose_degrees(mesh(*angles)) == pytest.approx(angles, abs=1e-6)


def test_openings_depend_on_neither_pose_nor_size():
    shut, wide = face_pose.read_face(mesh()), face_pose.read_face(mesh(35, -20, 15, scale=40, mouth=0.3, eyes=0.12))
    assert wide.mouth == pytest.approx(3 * shut.mouth)
    assert wide.eyes == pytest.approx(2 * shut.eyes)
    assert wide.brows == pytest.approx(shut.brows)
    assert shut.mouth == pytest.approx(0.1 / np.linalg.norm(face_pose._HEAD[0] - face_pose._HEAD[10]))


def test_pose_error_is_the_mean_of_three_angles():
    a, b = face_pose.read_face(mesh(10, 5, 0)), face_pose.read_face(mesh(4, 8, -3))
    assert face_pose.pose_error_degrees(a, b) == pytest.approx(4)
    assert face_pose.pose_error_degrees(a, a) == 0


def test_no_face_has_no_pose():
    for broken in (np.zeros((468, 3)), np.full((468, 3), np.nan)):
        with pytest.raises(DetectorError):
            face_pose.read_face(broken)
