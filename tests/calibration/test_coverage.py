"""What footage shows and lacks, on readings that were made up."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from calibration.coverage import AXES, BINS, Coverage, Gathering, choose, membership, neutral_of
from calibration.coverage_picture import WIDTH, draw_map
from calibration.face_reading import COLUMNS, Reading

PLAIN = Reading(
    yaw=0, pitch=0, roll=0, open=0.01, width=0.48, corners=0.01, depth=-0.126, brows=0.23, eyes=0.2, gaze=0.03,
    size=0.35, light=0.55, side=0.0,
)  # fmt: skip
NAMES = [f"{axis} {b.name}" for axis, b in BINS]


def rows(*changes: dict[str, float], plain: int = 12) -> np.ndarray:
    """``plain`` frames of somebody at rest, then one for each change."""
    base = PLAIN.row()
    out = [base.copy() for _ in range(plain)]
    for change in changes:
        row = base.copy()
        for name, value in change.items():
            row[COLUMNS.index(name)] = value
        out.append(row)
    return np.stack(out)


@pytest.mark.parametrize(
    ("change", "shown", "not_shown"),
    [
        ({"yaw": 20}, "turn left", "turn ahead"),
        ({"yaw": -50}, "turn far right", "turn right"),
        ({"pitch": 12}, "nod up", "nod level"),
        ({"roll": -9}, "tilt right", "tilt upright"),
        ({"open": 0.12}, "mouth open", "mouth closed"),
        ({"width": 0.41}, "mouth round", "mouth wide"),
        ({"corners": 0.03, "depth": -0.15}, "smile smiling", "smile none"),
        ({"eyes": 0.1}, "eyes closed", "eyes open"),
        ({"gaze": 0.4}, "gaze left", "gaze ahead"),
        ({"brows": 0.26}, "brows raised", "brows at rest"),
        ({"size": 0.5}, "distance nearer", "distance as usual"),
        ({"side": -0.4}, "light from the right", "light from the front"),
        ({"light": 0.3}, "light darker", "light brighter"),
        ({"speed": 0.5}, "speech talking", "mouth wide"),
    ],
)
def test_a_change_is_seen_against_what_is_normal_for_the_person(change, shown, not_shown):
    found = rows(change)
    inside = membership(found, neutral_of(found))
    assert inside[-1, NAMES.index(shown)]
    assert not inside[-1, NAMES.index(not_shown)]
    assert not inside[0, NAMES.index(shown)]


def test_somebody_with_a_wide_mouth_does_not_smile_all_day():
    wide = rows(plain=20)
    wide[:, COLUMNS.index("width")] += 0.1
    assert not membership(wide, neutral_of(wide))[:, NAMES.index("mouth wide")].any()


def test_shut_eyes_look_nowhere():
    found = rows({"eyes": 0.08, "gaze": 0.5})
    assert not membership(found, neutral_of(found))[-1, NAMES.index("gaze left")]


def test_missing_is_said_in_plain_words_and_wishes_come_last():
    coverage = Coverage(20)
    coverage.count(rows(plain=20))
    prompts = coverage.prompts()
    assert "turn your head a little to the left" in prompts
    assert prompts.index("smile") < prompts.index("lean back")
    assert "look straight ahead" not in prompts
    assert "turn: far left" in coverage.never_seen()
    assert 0 < coverage.share < 1
    assert not coverage.enough


def full_set() -> np.ndarray:
    """At least one frame of every required bin, in shares that 20 frames want."""
    changes = [
        {"yaw": 20}, {"yaw": 25}, {"yaw": -20}, {"yaw": -25}, {"pitch": 12}, {"pitch": -12}, {"roll": 9}, {"roll": -9},
        {"open": 0.12}, {"open": 0.05}, {"open": 0.05, "speed": 0.5}, {"width": 0.55}, {"width": 0.41},
        {"corners": 0.03, "depth": -0.15}, {"eyes": 0.1}, {"gaze": 0.4}, {"gaze": -0.4}, {"speed": 0.4},
    ]  # fmt: skip
    return rows(*changes, plain=12)


def test_enough_is_when_everything_required_was_shown():
    coverage, found = Coverage(20), full_set()
    coverage.count(found)
    assert coverage.enough, coverage.missing()
    coverage.count(np.delete(found, 12 + 8, axis=0))  # the only wide open mouth
    assert not coverage.enough
    assert coverage.missing()[0][1].prompt == "open your mouth wide"


def test_a_frame_contributes_what_is_still_missing():
    coverage, found = Coverage(20), rows(plain=20)
    coverage.count(found)
    new, old = rows({"yaw": 25, "open": 0.12})[-1], found[0]
    assert coverage.contribution(new) > 1.5 > coverage.contribution(old)


def test_the_choice_takes_the_rare_frames_and_not_many_of_the_same():
    rng = np.random.default_rng(0)
    common = np.repeat(rows(plain=1), 400, axis=0) + rng.normal(0, 1e-3, (400, len(COLUMNS)))
    rare = full_set()[12:]
    picked = choose(np.concatenate([common, rare]), 60)
    assert len(picked) == 60
    assert set(range(400, 400 + len(rare))) <= set(picked.tolist())
    assert (np.diff(picked) > 0).all()
    assert choose(rare, 60).tolist() == list(range(len(rare)))


def test_gathering_skips_what_is_alike_and_thins_out_when_full():
    gathering, rng = Gathering(10, 30), np.random.default_rng(1)
    plain = PLAIN.row()
    assert gathering.wants(plain)
    gathering.add(plain)
    assert not gathering.wants(plain)
    thinned = 0
    for _ in range(400):
        row = plain.copy()
        row[:3] = rng.normal(0, 20, 3)
        row[3] = rng.uniform(0, 0.15)
        if gathering.wants(row):
            stay = gathering.add(row)
            thinned += stay is not None
            assert stay is None or len(stay) == len(gathering.rows)
    assert thinned
    assert len(gathering.rows) <= 30
    assert gathering.coverage.total == len(gathering.rows)
    again = Gathering(10, 30)
    again.resume(gathering.rows, gathering.step)
    assert (again.coverage.counts == gathering.coverage.counts).all()
    assert not again.wants(gathering.rows[3])


def test_every_bin_can_be_reached_and_asks_for_something():
    assert len({b.prompt for _, b in BINS}) == len(BINS)
    assert {axis.name for axis in AXES} >= {"turn", "nod", "tilt", "mouth", "eyes", "brows", "smile", "speech", "light"}


def test_the_map_shows_full_and_empty_bins_in_their_colours():
    coverage, found = Coverage(20), full_set()
    coverage.count(found)
    picture = cv2.imdecode(np.frombuffer(draw_map(coverage, found, "ada"), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] == WIDTH
    green, red = (106, 157, 31), (91, 73, 209)  # BGR of "enough" and "missing"
    assert ((np.abs(picture.astype(int) - green) < 4).all(axis=2)).sum() > 5000
    coverage.count(rows(plain=3))
    poor = cv2.imdecode(np.frombuffer(draw_map(coverage, rows(plain=3), "ada"), np.uint8), cv2.IMREAD_COLOR)
    red_pixels = [((np.abs(p.astype(int) - red) < 8).all(axis=2)).sum() for p in (picture, poor)]
    assert red_pixels[1] > red_pixels[0] + 400
