"""Keeping a rate: deadlines are added, never re-read from the clock, so being late once shifts nothing after it."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Monotonic nanoseconds."""
Sleep = Callable[[float], object]
"""Waits about that many seconds; may return early, when it is woken up."""

now_ns: Clock = time.perf_counter_ns
"""The one clock of the live path. On Linux and macOS it is the monotonic clock; on Windows before Python 3.13 that one
steps in 16 ms, this one does not."""


class Ticker:
    """Ticks every ``period_ns`` on a grid that begins with the first call of ``wait``.

    A caller that comes late gets its tick at once. One that comes later than a whole period gets one tick; the periods
    it missed are skipped and counted, so that it never bursts to catch up, and it stays on the grid.
    """

    def __init__(self, period_ns: int, clock: Clock = now_ns, sleep: Sleep = time.sleep) -> None:
        if period_ns <= 0:
            raise ValueError(f"period_ns must be positive, not {period_ns}")
        self.period_ns = period_ns
        self._clock = clock
        self._sleep = sleep
        self._deadline_ns: int | None = None
        self.ticks = 0
        """Ticks given."""
        self.late = 0
        """Ticks whose caller arrived after the deadline, by more than a millisecond."""
        self.skipped = 0
        """Whole periods that passed without a tick."""
        self.worst_ns = 0
        """The latest that a caller has arrived, in nanoseconds after its deadline."""

    def wait(self) -> int:
        """Sleep until the next deadline. Returns how late the caller arrived, in nanoseconds; 0 when in time."""
        now = self._clock()
        self.ticks += 1
        if self._deadline_ns is None:
            self._deadline_ns = now + self.period_ns
            return 0
        lateness = now - self._deadline_ns
        if lateness < 0:
            self._sleep(-lateness / 1e9)
            lateness = 0
        else:
            missed = lateness // self.period_ns
            self._deadline_ns += missed * self.period_ns
            self.skipped += missed
            self.late += lateness > 1_000_000
            self.worst_ns = max(self.worst_ns, lateness)
        self._deadline_ns += self.period_ns
        return lateness
