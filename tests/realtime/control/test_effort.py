"""Who looks on gets less while the frames need all the time there is."""

from __future__ import annotations

from realtime.control.effort import CALM_AFTER_NS, Effort

QUARTER = 250_000_000


def run(effort, begin, quarters, share, dropped=0):
    answers = []
    for turn in range(quarters):
        for _ in range(5):
            effort.frame(int(share * QUARTER / 5))
        answers.append(effort.busy(begin + (turn + 1) * QUARTER, dropped))
    return answers


def test_frames_that_leave_time_are_not_busy():
    effort = Effort()
    effort.busy(QUARTER, 0)
    assert run(effort, QUARTER, 8, 0.6) == [False] * 8


def test_what_was_lost_before_anybody_asked_does_not_count():
    effort = Effort()
    effort.frame(10 * QUARTER)
    assert not effort.busy(QUARTER, 90)
    assert not any(run(effort, QUARTER, 4, 0.5, dropped=90))


def test_busy_ends_two_seconds_after_the_last_sign():
    effort = Effort()
    effort.busy(QUARTER, 0)
    assert run(effort, QUARTER, 2, 0.95) == [True, True]
    calm = run(effort, 3 * QUARTER, 12, 0.5)
    until = CALM_AFTER_NS // QUARTER - 1
    assert calm == [True] * until + [False] * (12 - until)


def test_a_dropped_frame_is_a_sign():
    effort = Effort()
    effort.busy(QUARTER, 3)
    assert run(effort, QUARTER, 1, 0.2, dropped=4) == [True]
