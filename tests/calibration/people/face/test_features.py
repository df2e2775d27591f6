"""Eyes, teeth and tongue."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.people.camera.pinhole import Camera
from calibration.people.camera.sensor import Sensor
from calibration.people.classes import CLASSES
from calibration.people.face.features import Mouth, eye_mesh, gaze_rotation, resting_pitch
from calibration.people.head.shape import head_model
from calibration.people.identity import cast, random_identity
from calibration.people.state import State


def expressed(**expression):
    head = head_model()
    return head.express(head.average, expression)


def test_teeth_follow_the_jaw_and_upper_teeth_do_not():
    head = head_model()
    mouth = Mouth(head, head.average)
    rest, opened = mouth.positions(expressed()), mouth.positions(expressed(jawOpen=0.8))
    lower, teeth = mouth._is_lower, len(mouth._points)
    drop = (rest - opened)[:teeth, 1]
    assert np.abs(drop[~lower]).max() < 1e-9
    assert drop[lower].mean() > 0.1
    # Rigid: distances among lower teeth stay.
    a, b = rest[:teeth][lower][[0, -1]], opened[:teeth][lower][[0, -1]]
    assert np.linalg.norm(a[0] - a[1]) == pytest.approx(np.linalg.norm(b[0] - b[1]), rel=1e-6)


def test_teeth_are_lighter_than_gum_and_tongue_and_get_darker_inside():
    head = head_model()
    mouth = Mouth(head, head.average)
    colour, points = mouth.colour, mouth.positions(head.average)
    enamel = colour[:, 1] > 0.8 * colour[:, 0]
    assert colour[enamel, :3].mean() > 2 * colour[~enamel, :3].mean()
    front, back = points[:, 2] > np.quantile(points[enamel, 2], 0.8), points[:, 2] < np.quantile(points[enamel, 2], 0.2)
    assert colour[enamel & front, 3].mean() > 1.5 * colour[enamel & back, 3].mean()


def teeth_of(who, **expression):
    """Lowest front point of the upper row and highest of the lower one, and the lips' inner edges (heights)."""
    head = head_model()
    neutral = head.identity_vertices(who.shape_weights())
    mouth, now = Mouth(head, neutral), head.express(neutral, expression)
    count = len(mouth._points)
    points, enamel = mouth.positions(now)[:count], mouth.colour[:count, 1] > 0.8 * mouth.colour[:count, 0]
    front = enamel & (np.abs(points[:, 0]) < 0.1) & (points[:, 2] > points[:, 2].max() - 0.3)
    upper, lower = (points[front & (mouth._is_lower == low), 1] for low in (False, True))
    lips = now[head.index["landmarks"][[62, 66]], 1]
    return upper.min(), lower.max(), lips[0], lips[1]


@pytest.mark.parametrize("who", [cast()["vera"], cast()["kofi"], random_identity(206), random_identity(207)])
def test_parted_lips_bare_the_upper_teeth_and_hardly_the_lower_ones(who):
    upper, lower, upper_lip, lower_lip = teeth_of(who, jawOpen=0.25)
    assert 0.02 < upper_lip - upper < 0.08
    assert lower - lower_lip < 0.03
    # Overbite: with the jaw shut the upper row hides the lower row's edge.
    upper, lower, _, _ = teeth_of(who)
    assert 0.01 < lower - upper < 0.05


def test_relaxed_mouths_do_not_hang():
    head = head_model()
    lifts = []
    for seed in range(24):
        lips = head.identity_vertices(random_identity(seed).shape_weights())[head.index["landmarks"], 1]
        lifts.append(lips[[60, 64]].mean() - lips[[62, 66]].mean())
    assert 0.0 < np.mean(lifts) < 0.02
    assert np.std(lifts) > 0.005


def test_the_eye_is_a_ball_with_a_cornea():
    mesh = eye_mesh()
    radius = np.linalg.norm(mesh.positions, axis=1)
    assert radius.max() == pytest.approx(1.045, abs=1e-6)
    assert radius[mesh.directions[:, 2] < 0].max() < 1.001
    assert ((mesh.normals * mesh.directions).sum(1) > 0.7).all()


def test_gaze_turns_left_and_up():
    forward = gaze_rotation((0.3, 0.2)) @ [0, 0, 1]
    assert forward[0] > 0.2
    assert forward[1] > 0.1
    assert np.allclose(gaze_rotation((0, 0)), np.eye(3))


def test_a_resting_eye_looks_between_its_lids():
    def lid(height):
        return np.tile([0.0, height, 0.0], (7, 1))

    assert resting_pitch(np.zeros(3), 0.14, lid(0.04), lid(-0.04)) == pytest.approx(0, abs=0.05)
    assert resting_pitch(np.zeros(3), 0.14, lid(0.0), lid(-0.08)) < -0.2


@pytest.fixture(scope="module")
def vera(renderer):
    person = renderer.actor(cast()["vera"])
    yield person
    person.close()


@pytest.mark.egl
def test_lids_shade_and_cover_the_eyes(renderer, vera):
    camera, clean = Camera(), Sensor(noise=0.0, codec=None)
    shots = [
        renderer.shoot(vera, State(expression=e), camera, crop_size=192, hair=False, sensor=clean)
        for e in ({}, {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0})
    ]
    eyes = [shot.classes == CLASSES["eyes"] for shot in shots]
    assert eyes[0].sum() > 60
    assert eyes[1].sum() < 0.2 * eyes[0].sum()
    # The white under the upper lid is darker than the white lower down.
    rows, columns = np.nonzero(eyes[0])
    white = shots[0].pixels[rows, columns].min(1).astype(float)
    height = (rows - rows.min()) / np.ptp(rows)
    # Medians: the lamp's image is bright wherever it falls.
    assert np.median(white[height < 0.25]) < 0.85 * np.median(white[height > 0.5])


@pytest.mark.egl
def test_smile_and_raised_brows_fold_the_skin(vera):
    assert vera.pose(State()).wrinkles == (0.0, 0.0)
    smile = vera.pose(State(expression={"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0})).wrinkles
    assert smile[0] > 0.5
    assert smile[1] == 0
    assert vera.pose(State(expression={"browInnerUp": 1.0, "browOuterUpLeft": 1.0})).wrinkles[1] > 0.5


@pytest.mark.egl
def test_occlusion_is_deep_in_the_mouth_and_open_on_the_nose(vera):
    marks = head_model().fine_index["landmarks"]
    occlusion = vera._occlusion
    assert ((occlusion >= 0) & (occlusion <= 1)).all()
    assert occlusion[marks[30]] > 0.6  # tip of the nose
    assert occlusion[marks[33]] < occlusion[marks[30]]  # under the nose
