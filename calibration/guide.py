"""What a person before the camera is asked for next: one thing at a time, until it is seen or does not come.

Pure: the time comes in as an argument.
"""

from __future__ import annotations

from calibration.coverage import BINS, Bin, Coverage

PATIENCE_S = 12.0
"""So long a required thing is asked for before the next one; it comes round once more at the end."""
WISH_PATIENCE_S = 6.0
"""So long something that is only wished for."""
ROUNDS = 2
HOLD_S = 1.5
"""A line stays at least so long: it has to be read."""


class Guide:
    """Asks in the order of ``BINS``: required things first, then wishes, each as long as it brings something."""

    def __init__(self, coverage: Coverage) -> None:
        self._coverage = coverage
        self._asking: int | None = None
        self._since = self._progress_at = 0.0
        self._before = 0
        self._rounds = dict.fromkeys(range(len(BINS)), 0)

    @property
    def asking(self) -> Bin | None:
        """What is asked for now."""
        return None if self._asking is None else BINS[self._asking][1]

    def next(self, now_s: float) -> str:
        """The line for the person; empty when nothing is left to ask. Call it after each frame."""
        if self._asking is not None and not self._over(self._asking, now_s):
            return BINS[self._asking][1].prompt
        self._asking = self._choose()
        if self._asking is None:
            return ""
        self._since = self._progress_at = now_s
        self._before = int(self._coverage.counts[self._asking])
        self._rounds[self._asking] += 1
        return BINS[self._asking][1].prompt

    def _over(self, asked: int, now_s: float) -> bool:
        count = int(self._coverage.counts[asked])
        if count > self._before:
            self._before, self._progress_at = count, now_s
        if count >= self._coverage.wanted[asked]:
            return now_s - self._since >= HOLD_S
        patience = PATIENCE_S if BINS[asked][1].required else WISH_PATIENCE_S
        return now_s - self._progress_at >= patience

    def _choose(self) -> int | None:
        """The emptiest that was asked for least; None when everything came or was asked for often enough."""
        filled = self._coverage.filled()
        left = [
            i for i, (_, b) in enumerate(BINS)
            if filled[i] < 1 and self._rounds[i] < (ROUNDS if b.required else 1)
        ]  # fmt: skip
        if not left:
            return None
        return min(left, key=lambda i: (not BINS[i][1].required, self._rounds[i], i))
