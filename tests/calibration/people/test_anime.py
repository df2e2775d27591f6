"""The drawn style: other proportions, exact truth, flat shades and ink."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.people.anime import ink, redraw, redrawn
from calibration.people.camera.picture import Layers
from calibration.people.camera.sensor import CLEAN
from calibration.people.classes import CLASSES
from calibration.people.head.shape import head_model
from calibration.people.identity import cast, random_identity
from calibration.people.state import State


def test_eyes_grow_and_mouth_and_chin_shrink():
    head = head_model()
    neutral = head.identity_vertices(random_identity(3).shape_weights())
    drawn = redraw(head, neutral)
    before, after = (points[head.index["landmarks"]] for points in (neutral, drawn.neutral))
    eye = slice(36, 42)
    assert np.ptp(after[eye], axis=0)[0] > 1.4 * np.ptp(before[eye], axis=0)[0]
    assert np.ptp(after[48:60], axis=0)[0] < 0.95 * np.ptp(before[48:60], axis=0)[0]
    assert after[8, 1] > before[8, 1]
    assert drawn.scale.min() > 0.3  # no face unit turns round


def test_a_drawn_person_is_young_and_clear():
    old = next(p for p in (random_identity(seed) for seed in range(50)) if p.age > 0.6 and p.skin.moles)
    drawn = redrawn(old)
    assert drawn.age < 0.3
    assert drawn.skin.moles == 0
    assert drawn.hair == old.hair


def test_lines_run_where_surfaces_meet():
    size = 40
    white = np.ones((size, size, 4), np.float32)
    zero = np.zeros((size, size), np.float32)
    classes = np.full((size, size), CLASSES["hair"], np.uint8)
    classes[:, size // 2 :] = CLASSES["face"]
    inked = ink(Layers(white, white, white, zero), classes, zero, line_px=1.0).albedo[..., 0]
    assert inked[:, size // 2].max() < 0.5
    assert inked[:, 2].min() > 0.95
    depth = zero.copy()
    depth[: size // 2] = 0.5
    edge = ink(Layers(white, white, white, zero), np.full_like(classes, 1), depth, line_px=1.0).albedo[..., 0]
    assert edge[size // 2].max() < 0.5
    assert edge[2].min() > 0.95


@pytest.mark.egl
def test_the_drawn_style_shares_states_and_truth(renderer):
    who, options = cast()["vera"], {"crop_size": 96, "sensor": CLEAN, "hair": False}
    look = State(yaw=15)
    blink = State(yaw=15, expression={"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0})
    filmed, drawn = (renderer.render(who, look, style=style, **options) for style in ("photo", "anime"))
    shut = renderer.render(who, blink, style="anime", **options)

    def opening(shot):
        return np.linalg.norm(shot.landmarks_3d[[37, 38, 43, 44]] - shot.landmarks_3d[[41, 40, 47, 46]], axis=1).mean()

    assert opening(drawn) > 1.5 * opening(filmed)
    assert opening(shut) < 0.4 * opening(drawn)
    eyes = [int((shot.classes == CLASSES["eyes"]).sum()) for shot in (filmed, drawn, shut)]
    assert eyes[1] > 1.5 * eyes[0]
    assert eyes[2] < 0.1 * eyes[1]
    # Flat: on most of the face neighbouring pixels are alike, where film shades throughout.
    calm = [
        (np.abs(np.diff(shot.pixels.astype(int), axis=1)).max(2) <= 1)[shot.classes[:, 1:] == CLASSES["face"]].mean()
        for shot in (drawn, filmed)
    ]
    assert calm[0] > calm[1] + 0.15
    assert (drawn.mask > 127).mean() > 0.2
