"""Other ways for the frame loop to wait, measured by ``bench_latency.py --compare``. None of them is in the product."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from engines.types import Frame
from realtime import session
from realtime.capture import CaptureThread
from realtime.latest import Latest


@dataclass(frozen=True)
class Trial:
    """What is done differently."""

    pin: bool = False
    """Capture on the first core, the frame loop on the last (Linux)."""
    awake_ms: float = 0.0
    """From so long before the next frame is due, the loop asks for it without sleeping."""
    switch_ms: float = 5.0
    """Longest turn of a thread that holds the interpreter lock; 5 is Python's own."""


TRIALS = {
    "plain": Trial(),
    "pinned": Trial(pin=True),
    "awake 1 ms": Trial(awake_ms=1.0),
    "awake 3 ms": Trial(awake_ms=3.0),
    "turns of 0.5 ms": Trial(switch_ms=0.5),
}


class Box(Latest[Frame]):
    """The loop's box: pins who asks, and does not let it sleep when the next frame is about to come."""

    def __init__(self, trial: Trial, fps: int) -> None:
        super().__init__()
        self._pin = trial.pin
        self._period_s, self._awake_s = 1.0 / fps, trial.awake_ms / 1e3
        self._due_s: float | None = None

    def get(self, timeout_s: float) -> Frame | None:
        """As ``Latest.get``."""
        if self._pin:  # not earlier: what is loaded beside the loop would inherit it
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
            self._pin = False
        if self._awake_s and self._due_s is not None:
            asleep_s = self._due_s - self._awake_s - time.perf_counter()
            if asleep_s > 0.0:
                item = super().get(min(asleep_s, timeout_s))
                if item is not None or asleep_s > timeout_s:
                    return self._taken(item)
            while self._item is None and not self._closed and time.perf_counter() < self._due_s + self._awake_s:
                time.sleep(0)  # lets go of the interpreter lock, or the frame could not come
        return self._taken(super().get(timeout_s))

    def _taken(self, item: Frame | None) -> Frame | None:
        if item is not None:
            self._due_s = time.perf_counter() + self._period_s
        return item


@contextmanager
def under(trial: Trial, fps: int) -> Iterator[None]:
    """The product with this trial built in; threads that it pins end with the run, but for the one that calls."""
    plain, interval = session.CaptureThread, sys.getswitchinterval()
    cores = os.sched_getaffinity(0) if trial.pin else set()

    class Tried(CaptureThread):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.latest = Box(trial, fps)

        def _run(self) -> None:
            if trial.pin:
                os.sched_setaffinity(0, {min(cores)})
            super()._run()

    session.CaptureThread = Tried  # type: ignore[misc]
    sys.setswitchinterval(trial.switch_ms / 1e3)
    try:
        yield
    finally:
        session.CaptureThread = plain  # type: ignore[misc]
        sys.setswitchinterval(interval)
        if cores:
            os.sched_setaffinity(0, cores)
