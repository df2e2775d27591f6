"""Pictures of invented people and the truth beside them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from calibration.people.camera.pinhole import Camera
from calibration.people.camera.sensor import Sensor
from calibration.people.classes import CLASSES
from calibration.people.identity import cast, random_identity
from calibration.people.render import Renderer
from calibration.people.state import State, random_state
from engines import geometry

pytestmark = pytest.mark.egl
CAMERA = Camera(width=320, height=180, focal_px=575.0)
CLEAN = Sensor(noise=0.0, codec=None)


@pytest.fixture(scope="module")
def actor(renderer):
    person = renderer.actor(cast()["tomo"])
    yield person
    person.close()


def test_two_renders_are_identical(renderer, actor):
    a, b = (renderer.shoot(actor, random_state(3), CAMERA, supersample=1.0) for _ in range(2))
    assert (a.pixels == b.pixels).all()
    assert (a.classes == b.classes).all()
    assert (a.landmarks == b.landmarks).all()


def test_landmarks_agree_with_an_independent_projection(renderer, actor):
    shot = renderer.shoot(actor, State(yaw=20, pitch=-8, roll=5), CAMERA, supersample=1.0)
    # OpenCV's camera looks along +z with y down; the world has y up and the camera looks along -z.
    flip = np.diag([1.0, -1.0, -1.0])
    relative = (shot.landmarks_3d.astype(np.float64) - np.array(CAMERA.position)) @ flip.T
    projected, _ = cv2.projectPoints(relative.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), CAMERA.intrinsics, None)
    assert np.abs(projected.reshape(-1, 2) - shot.landmarks).max() < 1e-3


def test_the_picture_shows_the_face_where_the_truth_says(renderer, actor):
    shot = renderer.shoot(actor, State(), CAMERA, supersample=2.0, hair=False)
    inner = shot.landmarks[27:68]
    x, y = np.round(inner).astype(int).T
    assert (shot.mask[y, x] > 200).all()
    lips = shot.pixels[np.round(shot.landmarks[57, 1]).astype(int) - 1, np.round(shot.landmarks[57, 0]).astype(int)]
    assert lips[2] > lips[1]  # red
    assert not (shot.classes == CLASSES["hair"]).any()
    assert (renderer.shoot(actor, State(), CAMERA).classes == CLASSES["hair"]).any()


def test_a_crop_drawn_directly_is_the_crop_of_the_frame(renderer, actor):
    state = State(yaw=15, roll=10)
    frame = renderer.shoot(actor, state, CAMERA, supersample=4.0, sensor=CLEAN)
    crop = renderer.shoot(actor, state, CAMERA, crop_size=64, supersample=4.0, sensor=CLEAN)
    to_crop = geometry.frame_to_crop(frame.landmarks, "points68", 64)
    assert np.abs(to_crop - crop.frame_to_picture).max() < 1e-3
    warped = cv2.warpAffine(frame.pixels, to_crop, (64, 64), flags=cv2.INTER_LINEAR)
    inside = crop.mask > 250
    difference = np.abs(warped.astype(float) - crop.pixels)[inside]
    assert difference.mean() < 4  # the sensors' softness differs, the place must not
    assert np.abs(geometry.transform(to_crop, frame.landmarks) - crop.landmarks).max() < 0.01


def test_expression_and_pose_reach_the_truth(renderer, actor):
    closed = renderer.shoot(actor, State(), CAMERA, supersample=1.0).landmarks
    opened = renderer.shoot(actor, State(expression={"jawOpen": 0.8}), CAMERA, supersample=1.0).landmarks
    assert opened[66, 1] - opened[62, 1] > closed[66, 1] - closed[62, 1] + 3
    left = renderer.shoot(actor, State(yaw=30), CAMERA, supersample=1.0).landmarks
    assert left[30, 0] > closed[30, 0] + 3  # the person's left is the picture's right


def test_anybody_renders_in_any_state(renderer):
    for seed in range(2):
        person = renderer.actor(random_identity(900 + seed))
        for state_seed in range(3):
            shot = renderer.shoot(person, random_state(state_seed), CAMERA, crop_size=64, supersample=1.0)
            assert np.isfinite(shot.landmarks).all()
            assert 0.1 < (shot.mask > 127).mean() < 0.7
            assert shot.pixels.std() > 5
        person.close()


@pytest.mark.parametrize("style", ["photo", "anime"])
def test_an_open_mouth_is_swapped_throughout(renderer, style):
    """The mask has no hole where the inside of the mouth shows."""
    state = State(expression={"jawOpen": 1.0, "mouthSmileLeft": 0.5, "mouthSmileRight": 0.5})
    for who in (cast()["vera"], random_identity(7)):
        shot = renderer.render(who, state, style=style, crop_size=256, hair=False, sensor=CLEAN)
        inner = np.zeros_like(shot.mask)
        cv2.fillPoly(inner, [np.round(shot.landmarks[60:68]).astype(np.int32)], 1)
        assert inner.sum() > 100
        assert (shot.mask[inner > 0] > 200).mean() > 0.97
        assert (shot.classes[inner > 0] == CLASSES["mouth"]).mean() > 0.6


def test_two_studios_in_one_thread_do_not_disturb_each_other(renderer):
    who, options = cast()["tomo"], {"crop_size": 48, "supersample": 1.0}
    before = renderer.render(who, State(), **options)
    with Renderer() as other:
        theirs = other.render(who, State(yaw=20), **options)
        between = renderer.render(who, State(), **options)
        assert (other.render(who, State(yaw=20), **options).pixels == theirs.pixels).all()
    after = renderer.render(who, State(), **options)
    for shot in (between, after):
        assert (shot.pixels == before.pixels).all()
