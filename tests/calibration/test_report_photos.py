"""Photographs: found without imports, varied as said, correlated over what was seen."""

from __future__ import annotations

import numpy as np
import pytest

from calibration import report_photos
from calibration.report_photos import PhotoFace, PhotoFile, _figures, _Reading, variants
from engines.blazeface import load_blazeface
from engines.face_pose import FaceReading


def test_a_package_that_is_missing_is_skipped_with_a_reason(monkeypatch):
    gone = PhotoFile("no_such_package_here", "a.jpg", "no-such-package", "")
    monkeypatch.setattr(report_photos, "PHOTOS", (gone, PhotoFile("numpy", "no.jpg", "numpy", "")))
    faces, skipped = report_photos.find_faces(load_blazeface())
    assert faces == []
    assert skipped["no_such_package_here/a.jpg"] == "not installed: pip install --no-deps no-such-package"
    assert "numpy/no.jpg" in skipped


def test_faces_of_the_group_are_cut_one_by_one(monkeypatch):
    wanted = [p for p in report_photos.PHOTOS if p.package == "insightface"]
    if wanted[0].find() is None:
        pytest.skip("insightface is not installed")
    monkeypatch.setattr(report_photos, "PHOTOS", wanted)
    faces, skipped = report_photos.find_faces(load_blazeface())
    assert skipped == {}
    assert len(faces) == 6
    for face in faces:
        assert np.ptp(face.corners, axis=0).max() == pytest.approx(400 / 2.6, abs=1)
        assert face.corners.mean(axis=0) == pytest.approx([199.5, 199.5], abs=1)


def test_variants_move_the_corners_with_the_picture():
    pixels = np.zeros((400, 400, 3), np.uint8)
    pixels[148:153, 98:103] = 255  # a dot under the first corner
    corners = np.array([(100, 150), (300, 150), (300, 350), (100, 350)], np.float32)
    made = variants(PhotoFace("a", pixels, corners))
    assert len(made) == 11
    for name in ("as it is", "turned -15", "turned +15", "small", "bright", "blurred"):
        picture, moved = made[name]
        grey = picture[..., 0].astype(float)
        y, x = (np.indices(grey.shape) * grey).sum(axis=(1, 2)) / grey.sum()
        assert (x, y) == pytest.approx(tuple(moved[0]), abs=1), name
    grey = np.full((400, 400, 3), 100, np.uint8)
    lit = variants(PhotoFace("a", grey, corners))
    assert lit["lit from the right"][0][0, -1, 0] > 2 * lit["lit from the right"][0][0, 0, 0]
    assert lit["dark"][0].mean() < 60 < 130 < lit["bright"][0].mean()


def test_correlations_are_over_all_pictures_and_over_faces():
    def reading(i, variant, mouth, found):
        return _Reading(i, variant, FaceReading(0, 0, 0, mouth, 0.1 * i, 0.3), FaceReading(6, 0, 0, found, 0.1 * i, i))

    plain = [reading(i, "as it is", m, m * 2) for i, m in enumerate((0.0, 0.1, 0.4))]
    got = _figures([*plain, reading(0, "dark", 0.0, 0.8)], 8)
    assert got["mouth_r_faces"] == pytest.approx(1)
    assert got["mouth_r"] < 0.7
    assert got["eyes_r"] == pytest.approx(1)
    assert got["brows_r"] is None  # the photographs' do not vary
    assert (got["pose_deg"], got["swapped_pct"]) == (2, 50)
    assert _figures([], 8)["pose_deg"] is None
