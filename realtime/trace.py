"""Where the milliseconds go: one ring of durations per stage, and their percentiles.

Everything is allocated at the start. A stage costs two clock readings and one store per frame (about 1 us).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

Stage = Literal["detect", "align", "swap", "blend", "mark", "send", "settle", "total"]
"""``total`` is from the frame's capture time stamp to the sink; the others are parts of it, in this order, but for
``settle``, which comes after the sink and delays nobody unless the next frame waits already."""
STAGES: tuple[Stage, ...] = get_args(Stage)


class Percentiles(TypedDict):
    """Milliseconds; all 0 when ``n`` is 0."""

    p50: float
    p95: float
    p99: float
    max: float
    n: int
    """How many durations were recorded since the start; percentiles are of the latest that the ring holds."""


class Summary(TypedDict):
    """The timing part of the JSON line."""

    fps: float
    """Frames per second between the first and the last ``total``; 0 with fewer than two."""
    latency_ms: Percentiles
    stages_ms: dict[str, Percentiles]
    cpu_ms: dict[str, Percentiles]
    """Processor time of the thread in each stage: what is left of ``stages_ms`` when no other program is in the way.
    Empty unless the trace was made with ``cpu``."""


class _Ring:
    """The latest durations of one stage; also its context manager, so that entering a stage allocates nothing."""

    def __init__(self, capacity: int, clock: Callable[[], int], cpu: _Ring | None = None) -> None:
        self._clock = clock
        self._ns = np.zeros(capacity, np.int64)
        self._started_ns = 0
        self.count = 0
        self.max_ns = 0
        self.cpu = cpu

    def __enter__(self) -> None:
        self._started_ns = self._clock()
        if self.cpu is not None:
            self.cpu.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A stage that raised took its time as well.
        if self.cpu is not None:
            self.cpu.__exit__(kind, error, traceback)
        self.add(self._clock() - self._started_ns)

    def add(self, duration_ns: int) -> None:
        self._ns[self.count % len(self._ns)] = duration_ns
        self.count += 1
        self.max_ns = max(self.max_ns, duration_ns)

    def restart(self) -> None:
        self.count = self.max_ns = 0
        if self.cpu is not None:
            self.cpu.restart()

    def newest(self, count: int) -> NDArray[np.int64]:
        """A copy of the newest ``count`` durations, or of all that there are, in any order."""
        capacity = len(self._ns)
        count = min(count, self.count, capacity)
        at = self.count % capacity
        return np.concatenate([self._ns[max(at - count, 0) : at], self._ns[capacity - max(count - at, 0) :]])

    def percentiles(self) -> Percentiles:
        if not self.count:
            return {"p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0, "n": 0}
        held = self._ns[: min(self.count, len(self._ns))]
        p50, p95, p99 = (round(float(value) / 1e6, 3) for value in np.percentile(held, (50, 95, 99)))
        return {"p50": p50, "p95": p95, "p99": p99, "max": round(self.max_ns / 1e6, 3), "n": self.count}


class Trace:
    """Records durations of the stages of one run. Each stage is recorded by one thread and is not nested in itself.

    ``capacity``: how many durations per stage the percentiles look back on; 8192 are 4.5 minutes at 30 a second.
    ``clock`` gives nanoseconds. ``cpu``: processor time as well, for two more readings of a slower clock.
    """

    def __init__(
        self, capacity: int = 8192, clock: Callable[[], int] = time.perf_counter_ns, *, cpu: bool = False
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity {capacity} must be at least 1")
        self._clock = clock
        self._rings: dict[Stage, _Ring] = {
            stage: _Ring(capacity, clock, _Ring(capacity, time.thread_time_ns) if cpu and stage != "total" else None)
            for stage in STAGES
        }
        self._first_total_ns = 0
        self._last_total_ns = 0

    def stage(self, stage: Stage) -> _Ring:
        """``with trace.stage("detect"):`` records how long the block takes, also when it raises."""
        return self._rings[stage]

    def add(self, stage: Stage, duration_ns: int) -> None:
        """Record a duration measured elsewhere. Each ``total`` is one frame that was sent now."""
        if stage == "total":
            self._last_total_ns = self._clock()
            if not self._rings["total"].count:
                self._first_total_ns = self._last_total_ns
        self._rings[stage].add(duration_ns)

    def restart(self) -> None:
        """Forget what was recorded: for benchmarks, when start-up is over. In the thread that records."""
        for ring in self._rings.values():
            ring.restart()

    def summary(self) -> Summary:
        """Percentiles for the JSON line; ready for ``json.dumps``."""
        frames = self._rings["total"].count
        span_s = (self._last_total_ns - self._first_total_ns) / 1e9
        return {
            "fps": round((frames - 1) / span_s, 2) if frames > 1 and span_s > 0.0 else 0.0,
            "latency_ms": self._rings["total"].percentiles(),
            "stages_ms": {stage: ring.percentiles() for stage, ring in self._rings.items() if stage != "total"},
            "cpu_ms": {stage: ring.cpu.percentiles() for stage, ring in self._rings.items() if ring.cpu is not None},
        }

    def recent(self, count: int = 128) -> dict[Stage, tuple[float, float]]:
        """(p50, p99) milliseconds of each stage's newest ``count`` durations; about 40 us, for a view of a live run."""
        found: dict[Stage, tuple[float, float]] = {}
        for stage, ring in self._rings.items():
            if ring.count:
                newest = ring.newest(count)
                newest.sort()
                last = len(newest) - 1
                found[stage] = float(newest[last // 2]) / 1e6, float(newest[round(0.99 * last)]) / 1e6
        return found

    def table(self) -> Table:
        """The same for people, to be printed with rich."""
        summary = self.summary()
        table = Table(title=f"{summary['fps']:.1f} frames a second; milliseconds per frame")
        table.add_column("stage")
        for name in ("p50", "p95", "p99", "max", "frames"):
            table.add_column(name, justify="right")
        rows = {**summary["stages_ms"], "capture to sink": summary["latency_ms"]}
        for name, row in rows.items():
            values = (row["p50"], row["p95"], row["p99"], row["max"])
            table.add_row(name, *(f"{value:.2f}" for value in values), str(row["n"]))
        return table
