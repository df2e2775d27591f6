"""How far a run is: its time, the rate of the coming step, and when to checkpoint and to tell how it goes.

    course = Course(cfg, cfg, run, clock, progress)
    while course.fraction < 1:
        set_rate(run.optimizer, course.next_rate())
        ...                                          # forward, loss, backward, and loop.take_step
        course.stepped(terms)
        scores = course.checkpoint_if_due(keep)
        course.report(scores, sheet if scores else None)

``run.step`` and ``run.seconds`` are what a checkpoint remembers; the rest begins anew with every call of a stage.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from engines.loop import Schedule, blend, fraction_done, rate_at, seconds_left
from engines.run_state import Run
from engines.validation import Score

Stopped = Literal["finished", "interrupted"]
KeptT = TypeVar("KeptT")


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run tells whoever started it, every few seconds and after each checkpoint."""

    step: int
    fraction: float
    """Of the schedule, 0..1, by steps or by time."""
    loss: Mapping[str, float]
    """Terms and total, smoothed."""
    learning_rate: float
    images_per_s: float
    """Input faces per second since the run was (re)started."""
    eta_s: float
    scores: Mapping[str, Score] | None
    """By persona, right after a checkpoint or a check; otherwise None."""
    sheet: Path | None
    """The contact sheet written with a checkpoint."""


ProgressCallback = Callable[[Progress], None]


class Pauses(Protocol):
    """The part of a run's settings that decides when it saves and what it tells."""

    @property
    def batch(self) -> int:
        """Input faces per step."""

    @property
    def checkpoint_minutes(self) -> float:
        """Time between checkpoints."""

    @property
    def report_seconds(self) -> float:
        """Time between progress reports."""


class Course:
    """A run on its way through its schedule, from the moment it is made. The clock is read here alone."""

    def __init__(
        self, schedule: Schedule, pauses: Pauses, run: Run[Any], clock: Callable[[], float],
        progress: ProgressCallback | None, asked: threading.Event | None = None,
    ) -> None:  # fmt: skip
        """``asked`` ends the run (``ended``), and a KeyboardInterrupt while ``progress`` is told sets it; without it
        that is raised like any other.
        """
        self._schedule, self._pauses, self._run, self._clock = schedule, pauses, run, clock
        self._progress, self._asked = progress, asked
        self._started = self._now = self._last_report = self._last_checkpoint = clock()
        self._first_step, self._seconds_before = run.step, run.seconds
        self._rate = 0.0
        self.loss: dict[str, float] = {}
        """Terms and total, smoothed."""

    @property
    def fraction(self) -> float:
        """How much of the schedule is over, 0..1."""
        return fraction_done(self._schedule, self._run.step, self._run.seconds)

    @property
    def images_per_s(self) -> float:
        """Input faces per second since the run was (re)started; 0 before the first step."""
        return (self._run.step - self._first_step) * self._pauses.batch / max(self._now - self._started, 1e-9)

    def ended(self) -> Stopped | None:
        """Whether the run ends here, and why."""
        if self.fraction >= 1:
            return "finished"
        return "interrupted" if self._asked is not None and self._asked.is_set() else None

    def next_rate(self) -> float:
        """The learning rate of the coming step."""
        self._rate = rate_at(self._schedule, self._run.step, self.fraction)
        return self._rate

    def stepped(self, terms: Mapping[str, float]) -> None:
        """Take the time of a step that was made, and its loss."""
        self._now = self._clock()
        self._run.seconds = self._seconds_before + self._now - self._started
        self.loss = blend(self.loss, terms)

    def checkpoint_if_due(self, keep: Callable[[], KeptT]) -> KeptT | None:
        """What ``keep`` returns if it was time to call it, otherwise None."""
        if self._now - self._last_checkpoint < 60 * self._pauses.checkpoint_minutes:
            return None
        kept = keep()
        self._last_checkpoint = self._clock()  # writing does not count
        return kept

    def report(self, scores: Mapping[str, Score] | None, sheet: Path | None) -> None:
        """Tell how it goes: at once when there are scores or a sheet, otherwise every ``report_seconds``."""
        news = scores is not None or sheet is not None
        if self._progress is None or not (news or self._now - self._last_report >= self._pauses.report_seconds):
            return
        self._last_report = self._now
        run = self._run
        step_s = max(self._now - self._started, 1e-9) / (run.step - self._first_step)
        told = Progress(
            step=run.step, fraction=self.fraction, loss=self.loss, learning_rate=self._rate,
            images_per_s=self._pauses.batch / step_s,
            eta_s=seconds_left(self._schedule, run.step, run.seconds, step_s), scores=scores, sheet=sheet,
        )  # fmt: skip
        try:
            self._progress(told)
        except KeyboardInterrupt:
            if self._asked is None:
                raise
            self._asked.set()
