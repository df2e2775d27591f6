"""Deadlines are added: being late once shifts nothing, and missed periods are skipped, not burst through."""

from __future__ import annotations

import pytest

from realtime.pacing import Ticker

MS = 1_000_000


class FakeTime:
    """A clock that only sleeping and working move."""

    def __init__(self) -> None:
        self.ns = 5_000 * MS

    def clock(self) -> int:
        return self.ns

    def sleep(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


def test_work_of_changing_length_does_not_shift_the_grid() -> None:
    time = FakeTime()
    ticker = Ticker(40 * MS, time.clock, time.sleep)
    starts = []
    for work_ms in (5, 39, 0, 20, 7):
        assert ticker.wait() == 0
        starts.append(time.ns)
        time.ns += work_ms * MS
    assert [start - starts[0] for start in starts] == [n * 40 * MS for n in range(5)]
    assert (ticker.ticks, ticker.late, ticker.skipped) == (5, 0, 0)


def test_a_late_caller_gets_its_tick_at_once_and_the_next_one_on_the_grid() -> None:
    time = FakeTime()
    ticker = Ticker(40 * MS, time.clock, time.sleep)
    ticker.wait()
    origin = time.ns
    time.ns += 50 * MS
    assert ticker.wait() == 10 * MS
    assert time.ns == origin + 50 * MS
    assert ticker.wait() == 0
    assert time.ns == origin + 80 * MS
    assert (ticker.late, ticker.skipped, ticker.worst_ns) == (1, 0, 10 * MS)


def test_missed_periods_are_skipped_and_counted() -> None:
    time = FakeTime()
    ticker = Ticker(40 * MS, time.clock, time.sleep)
    ticker.wait()
    origin = time.ns
    time.ns += 170 * MS  # the ticks at 40, 80 and 120 are gone, the one at 160 is late
    assert ticker.wait() == 130 * MS
    assert ticker.skipped == 3
    assert ticker.wait() == 0
    assert time.ns == origin + 200 * MS


def test_a_period_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        Ticker(0)
