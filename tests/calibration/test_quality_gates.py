"""The gates on drawn pictures and made-up embeddings, whose right answers are known."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from calibration.mesh_mask import mesh_mask
from calibration.quality_gates import (
    Fault,
    Quality,
    SamePerson,
    Verdict,
    disagreement,
    exposure,
    judge,
    outside,
    sharpness,
)

GOOD = Quality(side_px=300, outside=0.0, sharpness=30.0, clipped=0.0, luma=0.5, present=1.0, disagreement=0.04)
WHOLE = np.full((120, 120), 255, np.uint8)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"side_px": 60}, Fault.SMALL),
        ({"outside": 0.1}, Fault.CUT_OFF),
        ({"luma": 0.05}, Fault.DARK),
        ({"clipped": 0.3}, Fault.BRIGHT),
        ({"sharpness": 3.0}, Fault.BLURRED),
        ({"present": 0.9}, Fault.HIDDEN),
        ({"disagreement": 0.12}, Fault.HIDDEN),
    ],
)
def test_each_bound_names_its_fault(change, fault):
    assert judge(replace(GOOD, **change)) is fault


def texture() -> np.ndarray:
    """Skin-like detail of all sizes."""
    rng = np.random.default_rng(0)
    layers = [cv2.resize(rng.normal(0, 1, (n, n, 3)), (120, 120), interpolation=cv2.INTER_CUBIC) for n in (15, 30, 120)]
    return np.clip(128 + 14 * np.sum(layers, axis=0), 0, 255).astype(np.uint8)


def test_blur_is_seen_whatever_the_contrast():
    sharp = texture()
    pale = (100 + 0.5 * sharp).astype(np.uint8)
    values = [sharpness(p, WHOLE) for p in (sharp, pale, cv2.GaussianBlur(sharp, (0, 0), 2.0))]
    assert values[2] < 0.15 * values[0]
    assert values[1] > 0.7 * values[0]


def test_only_the_face_counts_for_light():
    crop = np.full((120, 120, 3), 255, np.uint8)
    mask = np.zeros((120, 120), np.uint8)
    cv2.circle(mask, (60, 60), 30, 255, -1)
    crop[mask > 0] = (60, 90, 255)  # warm light: red is at its end, and nothing is lost
    luma, burnt = exposure(crop, mask)
    assert burnt == 0.0
    assert luma == pytest.approx((0.114 * 60 + 0.587 * 90 + 0.299 * 255) / 255, abs=0.01)
    assert exposure(crop, WHOLE)[1] > 0.5


def test_a_face_that_leaves_the_picture_is_measured():
    mesh = np.array([(10.0, 10.0), (110.0, 60.0)])
    assert outside(mesh, (200, 100)) == 0.0
    assert outside(mesh + np.array([0, 60]), (200, 100)) == pytest.approx(21 / 100)
    assert outside(mesh - np.array([30, 0]), (200, 100)) == pytest.approx(20 / 100)


def test_disagreement_is_the_largest_distance_over_the_size():
    mesh = np.random.default_rng(0).uniform(0, 100, (468, 2))
    mesh[0], mesh[1] = (0, 0), (100, 100)
    assert disagreement([mesh, mesh]) == 0.0
    assert disagreement([mesh, mesh + np.array([3, 0]), mesh - np.array([0, 4])]) == pytest.approx(0.05)


def test_the_mask_is_the_hull_a_little_grown():
    angles = np.linspace(0, 2 * np.pi, 468, endpoint=False)
    mesh = np.stack([60 + 30 * np.cos(angles), 60 + 40 * np.sin(angles)], axis=1)
    mesh[::2] = (60, 60)  # inner points change nothing
    mask = mesh_mask(mesh, 120)
    assert (mask > 127).sum() == pytest.approx(np.pi * 30 * 40 * 1.04**2, rel=0.045)  # OpenCV fills half a pixel more
    assert mask[60, 60] == 255
    assert mask[2, 2] == 0


def person(seed: int, spread: float = 0.02):
    rng = np.random.default_rng(seed)
    middle = rng.normal(0, 0.05, 128)
    return lambda: middle + rng.normal(0, spread, 128)


def test_the_same_person_stays_the_same():
    face, same = person(1), SamePerson()
    verdicts = [same.ask(face()) for _ in range(20)]
    assert verdicts[0] is Verdict.UNSURE
    assert set(verdicts[1:]) == {Verdict.SAME}
    assert len(same.known) == SamePerson.FIRST
    assert not same.somebody_else


def test_somebody_else_is_noticed_and_one_bad_frame_forgiven():
    face, other, same = person(1), person(2), SamePerson()
    for _ in range(6):
        same.ask(face())
    same.new_track()
    assert same.ask(other()) is Verdict.STRANGER
    same.new_track()
    assert same.ask(face()) is Verdict.SAME
    assert not same.somebody_else
    same.new_track()
    for _ in range(SamePerson.STRIKES):
        assert same.ask(other()) is Verdict.STRANGER
    assert same.somebody_else


def test_three_faces_tell_what_one_cannot():
    """Somebody so near that one face passes is found by the mean of three."""
    face, same = person(1, 0.001), SamePerson()
    for _ in range(6):
        same.ask(face())
    near = np.mean(same.known, axis=0)
    near[0] += 0.45
    same.new_track()
    assert [same.ask(near) for _ in range(3)] == [Verdict.UNSURE, Verdict.STRANGER, Verdict.STRANGER]
