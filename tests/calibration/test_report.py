"""The report's arithmetic on made-up pictures and a perfect, made-up persona."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calibration.people.identity import cast
from calibration.report import MEANS, Worn, _means, _summary, compare, flicker, laid_over
from calibration.report import Measured as Scored
from calibration.report_page import contact_sheet, page, photo_sheet, targets, verdicts
from calibration.report_people import ReportPlan, TrueFrame, middle
from engines.errors import SettingsError

T = 32


@pytest.fixture
def truth():
    rng = np.random.default_rng(1)
    mask = np.zeros((T, T), np.uint8)
    mask[6:26, 8:24] = 255
    head = rng.integers(0, 256, (48, 48, 3)).astype(np.uint8)
    return TrueFrame(head, mask, np.zeros((68, 2), np.float32))


def test_a_perfect_swap_is_perfect(truth):
    row = compare(truth.crop, truth.mask, truth)
    assert row == {"mask_iou": 1.0, "psnr_masked_db": math.inf, "sharpness_ratio": 1.0}


def test_only_what_the_true_mask_shows_counts(truth):
    result = truth.crop
    result[truth.mask == 0] = 0
    assert compare(result, truth.mask, truth)["psnr_masked_db"] == math.inf
    half = truth.mask.copy()
    half[16:] = 0
    assert compare(result, half, truth)["mask_iou"] == 0.5
    away = TrueFrame(truth.head, truth.mask * 0, truth.landmarks)
    assert compare(result, half, away) == {"mask_iou": 0.0, "psnr_masked_db": None, "sharpness_ratio": None}


def test_the_swap_is_laid_over_the_middle(truth):
    out = laid_over(np.zeros_like(truth.head), np.full((T, T, 3), 200, np.uint8), truth.mask)
    inside = np.zeros((48, 48), bool)
    inside[14:34, 16:32] = True
    assert (out[inside] == 200).all()
    assert (out[~inside] == 0).all()
    assert np.array_equal(middle(truth.head, T), truth.head[8:40, 8:40])


class Wobbly:
    """Goes out as it came in, brighter by ``step`` in every second picture."""

    crop_size = swap_size = T

    def __init__(self, step: int, covered: bool = False) -> None:
        self.step, self.covered = step, covered

    def swap(self, crop, points):
        raise AssertionError("the stills go through the live path")

    def live(self, pictures):
        mask = np.full(pictures[0].shape[:2], 255, np.uint8)
        return [None if self.covered else Worn(p + np.uint8(i % 2 * self.step), mask) for i, p in enumerate(pictures)]


def test_flicker_is_the_change_of_what_goes_out():
    clip = [np.full((T, T, 3), 100, np.uint8)] * 4
    assert flicker(Wobbly(0), [clip]) == 0
    assert flicker(Wobbly(3), [clip, clip]) == pytest.approx(3)
    assert flicker(Wobbly(3, covered=True), [clip]) is None


def row(**changes):
    plain = {"mask_iou": 0.9, "psnr_masked_db": 25.0, "sharpness_ratio": 0.5, "nme_pct": 2.0, "pose_deg": 1.0,
             "yaw": 3.0, "props": False}  # fmt: skip
    return plain | changes


def test_frames_are_averaged_by_kind():
    got = _summary([row(), row(psnr_masked_db=27.0, nme_pct=None), row(props=True, mask_iou=0.7, psnr_masked_db=None)])
    assert (got["mask_iou"], got["mask_iou_occluded"], got["psnr_masked_db"]) == (0.9, 0.7, 26.0)
    assert (got["nme_pct"], got["faces_compared"]) == (2.0, 2)
    means = _means({"a": Scored({"flicker": 1.0}), "b": Scored({"flicker": 2.0})}, ["a", "b"])
    assert means["flicker"] == 1.5
    assert means.keys() == set(MEANS)
    assert means["nme_pct"] is None


def report(**changes):
    figures = dict.fromkeys(MEANS, 1.0) | {"psnr_masked_db": 24.0, "retrieval_pct": 100.0}
    plain = {"tier": "tiny", "seed": 0, **figures, "per_persona": {"a<b": figures}, "real": None}
    plain["measured_over"] = ["a<b"]
    plain["counts"] = {"personas": 1, "wearers": 1, "frames": 2, "frames_with_props": 0}
    return plain | changes


def test_verdicts_know_the_tier_and_both_directions():
    by_key = {key: verdict for (key, *_), verdict in zip(targets("tiny"), verdicts(report()), strict=True)}
    assert by_key["psnr_masked_db"][3] is True
    assert by_key["nme_pct"][3] is True
    assert by_key["real.mouth_r"][2:] == (None, None)
    assert verdicts(report(tier="small"))[0][3] is False  # 25 dB are wanted there
    assert {v[0]: v[3] for v in verdicts(report(nme_pct=3.1))}["landmark NME, % of inter-ocular"] is False
    for ratio, good in ((0.8, False), (0.9, True), (1.3, False)):
        assert [v[3] for v in verdicts(report(sharpness_ratio=ratio)) if v[0].startswith("sharpness")] == [good]


def test_the_page_escapes_names_and_holds_its_pictures():
    text = page(report(), {"a<b": Scored(frames=[row(), row(yaw=-20.0)])}, [], "T & co")
    assert "T &amp; co" in text
    assert "a&lt;b" in text
    assert "a<b" not in text
    assert "src='http" not in text
    assert text.count("<circle") == 6
    assert contact_sheet({}).ndim == photo_sheet([]).ndim == 3


def test_a_plan_is_fresh_people_and_refuses_nonsense():
    a, b = ReportPlan(0, 2, 4), ReportPlan(1, 2, 4)
    assert a.people() == ReportPlan(0, 2, 4).people()
    assert not {p.seed for p in a.people()} & {p.seed for p in (*b.people(), *cast().values())}
    assert a.states()[0] != b.states()[0]
    for arguments in ((0, 0, 4), (0, 5, 4), (-1, 1, 1)):
        with pytest.raises(SettingsError):
            ReportPlan(*arguments)
