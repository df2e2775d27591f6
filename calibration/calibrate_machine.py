"""What a machine does best, by measuring: every candidate in turn, over and over, and the best that holds the rate.

Candidates are a persona's sizes (tiers), the runtimes that are installed, and their arithmetic. They run interleaved,
one frame each and round again: when another program takes the processor or it grows warm, it does so for all alike.
The choice is the largest tier of which some candidate holds the wanted rate; within it the fastest. If none holds it,
the fastest of all.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.errors import PersonacamError, RuntimeFailure

WARM_UP = 3
"""Runs of each candidate that do not count: memory, caches, compilation."""
ROUNDS = 40
MARGIN = 0.8
"""Share of a frame's time that may be used: a machine in use does other things as well."""
FASTER = 0.97
"""Within a tier a candidate must be at least 3 % faster to take the place of one before it in the list: so much differs
from one measurement to the next."""
TIERS = ("tiny", "small", "base")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run the persona."""

    tier: str
    runtime: str
    precision: str

    def __str__(self) -> str:
        return f"{self.tier}, {self.runtime} {self.precision}"


@dataclass(frozen=True, slots=True)
class Measured:
    """One candidate's times in milliseconds, or why it has none."""

    candidate: Candidate
    network_ms: float = 0.0
    """Median of the network alone."""
    frame_ms: float = 0.0
    """Nine frames in ten take less: the network's 90th percentile and everything else's."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is used, and why."""

    candidate: Candidate
    frame_ms: float
    holds: bool
    why: str


Run = Callable[[], float]
"""One frame through a candidate's network; gives the milliseconds that it took."""


def measure(
    candidates: Mapping[Candidate, Callable[[], Run]],
    other_ms: float,
    *,
    rounds: int = ROUNDS,
    progress: Callable[[int, int], None] = lambda _a, _b: None,
) -> list[Measured]:
    """Open each candidate, warm it up, and time all of them interleaved.

    ``other_ms`` is what a frame takes beside the network. A candidate that cannot be opened or fails is listed with its
    error, and the others go on.
    """
    running: dict[Candidate, Run] = {}
    failed: dict[Candidate, str] = {}
    for candidate, opened in candidates.items():
        try:
            run = opened()
            for _ in range(WARM_UP):
                run()
            running[candidate] = run
        except PersonacamError as error:
            failed[candidate] = error.message
    times: dict[Candidate, list[float]] = {candidate: [] for candidate in running}
    for turn in range(rounds):
        for candidate, run in list(running.items()):
            try:
                times[candidate].append(run())
            except PersonacamError as error:
                failed[candidate] = error.message
                del running[candidate]
        progress(turn + 1, rounds)
    return [
        Measured(c, error=failed[c]) if c in failed else _measured(c, np.array(times[c]), other_ms) for c in candidates
    ]


def _measured(candidate: Candidate, times: NDArray[np.float64], other_ms: float) -> Measured:
    middle, most = (float(value) for value in np.percentile(times, (50, 90)))
    return Measured(candidate, round(middle, 3), round(most + other_ms, 3))


def choose(measured: Sequence[Measured], fps: float) -> Choice:
    """The best of those that hold ``fps``. Raises RuntimeFailure when nothing runs at all."""
    running = [one for one in measured if not one.error]
    if not running:
        reasons = "; ".join(f"{one.candidate}: {one.error}" for one in measured) or "there are no candidates"
        raise RuntimeFailure(f"nothing runs the persona here: {reasons}", hint="personacam doctor says what is missing")
    budget = MARGIN * 1000.0 / fps
    for tier in reversed(TIERS):
        holding = [one for one in running if one.candidate.tier == tier and one.frame_ms <= budget]
        if holding:
            best = _fastest(holding)
            return Choice(best.candidate, best.frame_ms, holds=True, why=_why(best, running, fps, budget))
    best = _fastest(running)
    why = (
        f"nothing holds {fps:g} frames a second here: {best.candidate} is the fastest and takes {best.frame_ms:.1f} ms"
        f" of the {budget:.1f} ms that a frame may take"
    )
    return Choice(best.candidate, best.frame_ms, holds=False, why=why)


def _fastest(measured: Sequence[Measured]) -> Measured:
    best = measured[0]
    for one in measured[1:]:
        if one.network_ms < FASTER * best.network_ms:
            best = one
    return best


def _why(best: Measured, running: Sequence[Measured], fps: float, budget: float) -> str:
    larger = [one for one in running if TIERS.index(one.candidate.tier) > TIERS.index(best.candidate.tier)]
    text = (
        f"{best.candidate} takes {best.frame_ms:.1f} ms of the {budget:.1f} ms that a frame may take"
        f" at {fps:g} frames a second"
    )
    if larger:
        nearest = _fastest([one for one in larger if one.candidate.tier == min(larger, key=_size).candidate.tier])
        text += f"; {nearest.candidate} would take {nearest.frame_ms:.1f}"
    else:
        text += "; no larger size of this persona is here"
    same = [one for one in running if one.candidate.tier == best.candidate.tier and one is not best]
    if same:
        second = min(same, key=lambda one: one.network_ms)
        text += (
            f"; the network takes {best.network_ms:.1f} ms, {second.candidate.runtime} {second.candidate.precision}"
            f" {second.network_ms:.1f}"
        )
    return text


def _size(measured: Measured) -> int:
    return TIERS.index(measured.candidate.tier)


def machine_name(card: str | None = None) -> str:
    """Which machine this is, for people and to know it again: processor, cores, and the graphics card if any."""
    name = platform.processor() or platform.machine()
    if sys.platform == "linux":
        try:
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
            name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
        except OSError:
            pass
    return ", ".join([name or "unknown processor", f"{os.cpu_count()} cores", *([card] if card else [])])[:200]
