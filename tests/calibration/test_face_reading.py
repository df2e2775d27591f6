"""Readings of a face drawn so that the answer is known; how well they follow rendered faces stands in the module."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from calibration.face_reading import COLUMNS, read_moment
from engines.errors import DetectorError
from engines.face_pose import head_frame
from engines.geometry import compose

SIZE = 240
LEFT_EYE, RIGHT_EYE = ((362, 263), (386, 374)), ((33, 133), (159, 145))


def average_mesh() -> np.ndarray:
    """(468, 3) pixels of a frontal face whose rigid points are the average head's."""
    from engines.face_pose import _HEAD, _RIGID

    mesh = np.zeros((468, 3))
    mesh[_RIGID] = _HEAD - _HEAD.mean(axis=0)
    for side, (x, points) in enumerate(((-0.3, RIGHT_EYE), (0.3, LEFT_EYE))):
        corners, lids = points
        height = mesh[list(corners), 1].mean()
        mesh[lids[0]], mesh[lids[1]] = (x, height + 0.05, 0), (x, height - 0.05, 0)
        mesh[(105, 334)[side]] = (x, height + 0.23, 0)
    mesh[61], mesh[291], mesh[13], mesh[14] = (-0.24, -0.4, 0), (0.24, -0.4, 0), (0, -0.39, 0.1), (0, -0.42, 0.1)
    for point, x in ((50, -0.4), (205, -0.35), (280, 0.4), (425, 0.35)):
        mesh[point] = (x, -0.2, 0)
    return mesh * (1, -1, -1) * 100 + (SIZE / 2, SIZE / 2 - 20, 0)


def drawn(mesh: np.ndarray, *, shut: bool = False, look: float = 0.0, bright_left: int = 0) -> np.ndarray:
    crop = np.full((SIZE, SIZE, 3), (110, 140, 180), np.uint8)
    crop[:, SIZE // 2 :] += np.uint8(bright_left)  # the person's left is the picture's right
    if not shut:
        for corners, _ in (LEFT_EYE, RIGHT_EYE):
            a, b = mesh[corners[0], :2], mesh[corners[1], :2]
            centre, half = (a + b) / 2, np.linalg.norm(b - a) / 2
            middle = tuple(round(float(v)) for v in centre)
            cv2.ellipse(crop, middle, (int(half), int(half * 0.5)), 0, 0, 360, (225, 230, 235), -1)
            iris = (round(float(centre[0] + look * half)), middle[1])
            cv2.circle(crop, iris, max(2, int(half * 0.42)), (30, 40, 50), -1)
    return crop


STILL = np.array([[1.0, 0, 0], [0, 1, 0]])


def read(crop: np.ndarray, mesh: np.ndarray, to_frame: np.ndarray = STILL) -> dict[str, float]:
    return dict(zip(COLUMNS, read_moment(crop, mesh, to_frame, 480).row(), strict=True))


def test_a_frontal_face_is_frontal_and_its_mouth_measured():
    mesh = average_mesh()
    found = read(drawn(mesh), mesh)
    assert max(abs(found[name]) for name in ("yaw", "roll", "pitch")) < 1
    assert found["open"] == pytest.approx(0.03, abs=1e-3)
    assert found["width"] == pytest.approx(0.48, abs=1e-3)
    assert found["depth"] == pytest.approx(-0.1, abs=1e-3)
    assert abs(found["side"]) < 0.02


def test_roll_is_that_of_the_frame_and_nothing_else_changes():
    mesh = average_mesh()
    angle = np.radians(-15)  # the crop was turned upright; in the frame the head is tilted
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]])
    upright, tilted = read(drawn(mesh), mesh), read(drawn(mesh), mesh, compose(turn, STILL))
    assert abs(tilted["roll"] - upright["roll"]) == pytest.approx(15, abs=0.5)
    assert tilted["open"] == pytest.approx(upright["open"], abs=1e-6)
    assert tilted["gaze"] == upright["gaze"]


def test_the_picture_says_whether_eyes_are_open_and_where_they_look():
    mesh = average_mesh()
    ahead = read(drawn(mesh), mesh)
    assert read(drawn(mesh, shut=True), mesh)["eyes"] < 0.2 * ahead["eyes"]
    left, right = (read(drawn(mesh, look=look), mesh)["gaze"] for look in (0.4, -0.4))
    assert left > ahead["gaze"] + 0.15
    assert right < ahead["gaze"] - 0.15


def test_light_from_the_left_is_seen():
    mesh = average_mesh()
    assert read(drawn(mesh, bright_left=60), mesh)["side"] > 0.2


def test_a_turned_head_keeps_its_mouth():
    mesh = average_mesh()
    angle = np.radians(30)
    centre = mesh.mean(axis=0)
    turn = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
    turned = (mesh - centre) @ turn.T + centre
    found = read(drawn(mesh), turned)
    assert abs(found["yaw"]) == pytest.approx(30, abs=1)
    assert found["width"] == pytest.approx(0.48, abs=5e-3)
    np.testing.assert_allclose(head_frame(turned), head_frame(mesh), atol=1e-6)


def test_no_face_is_refused():
    with pytest.raises(DetectorError):
        read(np.zeros((SIZE, SIZE, 3), np.uint8), np.zeros((468, 3)))
