"""Down when frames take all of their time, up when they clearly do not, and no swinging between the two."""

from __future__ import annotations

from itertools import pairwise

import pytest

from realtime.governor import Governor, GovernorConfig, Level, ladder

FRAME_S = 1 / 30
LEVELS = ladder(["base", "small", "tiny"])
COST_S = {"base": 0.030, "small": 0.014, "tiny": 0.009}


def costs(level: Level, slowdown: float) -> float:
    return COST_S[level.tier] * slowdown * (0.98 if level.check_every > 30 else 1.0)


def run(governor: Governor, seconds: float, slowdown: float = 1.0, start: float = 0.0) -> float:
    """Frames at 30 a second on a machine so many times slower. Returns when it ended."""
    now = start
    while now < start + seconds:
        level = governor.level
        cost = costs(level, slowdown)
        now += max(FRAME_S * level.send_every, cost)
        governor.observe(now, cost, int(cost > FRAME_S * level.send_every))
    return now


def test_the_ladder_goes_from_the_largest_tier_to_half_the_rate():
    assert [level.tier for level in LEVELS] == ["base", "small", "tiny", "tiny", "tiny"]
    assert [level.send_every for level in LEVELS] == [1, 1, 1, 1, 2]
    assert LEVELS[3].check_every > LEVELS[2].check_every
    with pytest.raises(ValueError, match="tier"):
        ladder([])


def test_it_stays_where_it_fits():
    governor = Governor(LEVELS, 1, FRAME_S)
    run(governor, 120)
    assert governor.level.tier == "small"
    assert governor.changes == []


def test_it_goes_down_within_seconds_and_says_why():
    governor = Governor(LEVELS, 0, FRAME_S)
    run(governor, 6, slowdown=1.3)
    assert governor.level.tier == "small"
    (change,) = governor.changes
    assert change.at_s < 3.5
    assert "of 33.3" in change.reason
    assert governor.report()["changes"][0]["to"] == "tier small"


def test_it_ends_at_half_the_rate_and_no_lower():
    governor = Governor(LEVELS, 0, FRAME_S)
    run(governor, 60, slowdown=9)
    assert governor.at == len(LEVELS) - 1
    assert len(governor.changes) == len(LEVELS) - 1


def test_it_comes_back_when_the_load_has_gone():
    governor = Governor(LEVELS, 1, FRAME_S)
    now = run(governor, 10, slowdown=2.6)
    assert governor.level.tier == "tiny"
    run(governor, 120, start=now)
    assert governor.level.tier == "small"
    assert len(governor.changes) <= 4


def test_it_does_not_swing():
    """A machine on which small just does not fit: tries upwards become rare."""
    governor = Governor(LEVELS, 1, FRAME_S)
    run(governor, 600, slowdown=2.3)
    tries = [change for change in governor.changes if change.after.tier == "small"]
    assert len(tries) <= 2
    assert governor.level.tier == "tiny"


def test_a_climb_that_fails_is_tried_ever_more_rarely():
    """The level above looks cheap from below and is not."""
    governor = Governor(LEVELS, 2, FRAME_S, GovernorConfig(up_after_s=4.0))
    now, climbs = 0.0, []
    while now < 400:
        tier = governor.level.tier
        cost = 0.006 if tier == "tiny" else 0.040
        now += max(FRAME_S * governor.level.send_every, cost)
        change = governor.observe(now, cost, 0)
        if change is not None and change.after.tier == "small":
            climbs.append(now)
    gaps = [b - a for a, b in pairwise(climbs)]
    assert len(climbs) < 10
    assert gaps[1] > 1.5 * gaps[0]


def test_a_level_that_cannot_run_is_not_tried_again():
    governor = Governor(LEVELS, 2, FRAME_S)
    now = 0.0
    while not governor.changes:
        now = run(governor, 1, slowdown=0.4, start=now)
    change = governor.changes[-1]
    assert change.after.tier == "small"
    governor.refuse(1)
    governor.back(change)
    run(governor, 120, slowdown=0.4, start=now)
    assert all(one.after.tier != "small" for one in governor.changes[1:])


def test_a_stutter_changes_nothing():
    governor = Governor(LEVELS, 1, FRAME_S)
    now = 0.0
    for index in range(3000):
        now += FRAME_S
        governor.observe(now, 0.2 if index % 100 == 0 else 0.014, int(index % 100 == 1))
    assert governor.changes == []
