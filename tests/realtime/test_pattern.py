"""The synthetic input is the same every time, moves, and keeps its rate."""

from __future__ import annotations

import numpy as np

from realtime.pattern import PatternSource, draw_pattern
from realtime.source import SourceConfig

MS = 1_000_000


def test_a_picture_depends_on_its_index_alone() -> None:
    assert np.array_equal(draw_pattern(7, (64, 48)), draw_pattern(7, (64, 48)))
    assert not np.array_equal(draw_pattern(7, (64, 48)), draw_pattern(8, (64, 48)))
    assert draw_pattern(0, (65, 47)).shape == (47, 65, 3)


def test_it_is_paced_and_missed_ticks_show_in_the_time_stamps_only() -> None:
    now = [0]

    def sleep(seconds: float) -> None:
        now[0] += round(seconds * 1e9)

    source = PatternSource(SourceConfig(size=(32, 24), fps=25.0), lambda: now[0], sleep)
    assert source.live
    first, second = source.read(), source.read()
    assert (first.index, second.index) == (0, 1)
    assert second.captured_ns - first.captured_ns == 40 * MS
    now[0] += 100 * MS  # the tick at 80 ms is missed, the next read gets the one at 120 ms, late
    third = source.read()
    assert third.index == 2
    assert third.timestamp_ns == 120 * MS
    assert first.size == (32, 24)


def test_without_a_rate_it_waits_for_nobody() -> None:
    source = PatternSource(SourceConfig(size=(32, 24), fps=None), sleep=lambda _: None)
    assert not source.live
    assert [source.read().timestamp_ns for _ in range(3)] == [0, 33_333_333, 66_666_667]
