"""Whether the frames need all the time that there is: then whoever looks on gets less of it."""

from __future__ import annotations

BUSY_SHARE = 0.8
"""Of the time, worked on frames."""
CALM_AFTER_NS = 2_000_000_000
"""So long after the last sign of it."""


class Effort:
    """Counts what frames cost; belongs to the thread of the frames."""

    def __init__(self) -> None:
        self._worked_ns = self._since_ns = self._dropped = 0
        self._busy_until_ns = -1

    def frame(self, cost_ns: int) -> None:
        """One more, from the camera's box to the last sink."""
        self._worked_ns += cost_ns

    def busy(self, now_ns: int, dropped: int) -> bool:
        """Since the last question, or a little earlier. ``dropped`` frames since the start."""
        span = now_ns - self._since_ns
        begun = self._since_ns > 0
        if begun and (self._worked_ns > BUSY_SHARE * span or dropped > self._dropped):
            self._busy_until_ns = now_ns + CALM_AFTER_NS
        self._worked_ns, self._since_ns, self._dropped = 0, now_ns, dropped
        return now_ns < self._busy_until_ns
