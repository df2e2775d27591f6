"""The runs of the soak: the real pipeline around stand-ins, with faults, and everything that leaves looked at."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2

sys.path.insert(0, str(Path(__file__).parent))

from soak_rig import (
    SIZE,
    LoopSource,
    OneColour,
    TruthDetector,
    coded_pixels,
    draw_wearers,
    face_is_the_personas,
    number_of,
    soak_persona,
)

from engines.errors import PersonacamError
from engines.types import U8, Frame
from realtime import kernels
from realtime.blend import BlendConfig, Blender
from realtime.capture import CaptureThread
from realtime.engine_switch import EngineSwitch, Retries
from realtime.faults import (
    Fault,
    FaultyClock,
    FaultyDetector,
    FaultyRuntime,
    FaultySink,
    FaultySource,
    Injector,
)
from realtime.pacing import now_ns
from realtime.pipeline import Limits, Pipeline, Stages
from realtime.policy import FailurePolicy, PolicyGate
from realtime.provenance import Label
from realtime.reconnect import SteadyCamera
from realtime.recorder import RecorderSink
from realtime.sink import NullSink, Sink
from realtime.swap import PlanarRuntime, Swapper
from realtime.trace import Trace
from realtime.track import Tracker

IN_TIME_MS = 100.0
"""A frame that left swapped within this is one in time again."""
DEADLINE_MS = 250.0
STALL_S = 0.15
"""Without a frame for so long, and the policy's picture goes out."""
RUN_FRAMES = 2500
"""After so many frames a run ends by itself."""
POLICIES = (FailurePolicy.VEIL, FailurePolicy.HOLD, FailurePolicy.CARD)


@dataclass
class Findings:
    """What was promised and not kept, and what it is judged by."""

    frames: int = 0
    swapped: int = 0
    covered: int = 0
    runs: int = 0
    dropped: int = 0
    uncovered: list[str] = field(default_factory=list)
    """The frames that showed the wearer's code: number, pixels, what was broken."""
    disorder: list[str] = field(default_factory=list)
    not_the_persona: int = 0
    """Frames counted as swapped in which the face is not the persona's colour."""
    latencies_ms: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    """Resident size at the end of each run."""
    ends: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)


class WatchingSink:
    """Looks at everything that leaves."""

    name = report = "watching"

    def __init__(self, findings: Findings, injector: Injector, clock: FaultyClock, kept: Path | None) -> None:
        self._findings, self._injector, self._clock, self._folder = findings, injector, clock, kept
        self.pipeline: Pipeline | None = None
        self._policy = 0
        self._last: tuple[int, int] = (-1, -1)

    def open(self, size: tuple[int, int], fps: float) -> None:
        """See ``Sink``."""

    def send(self, pixels: U8, frame: Frame) -> None:
        """Judge one picture."""
        findings, counts = self._findings, self.pipeline.counts if self.pipeline else None
        findings.frames += 1
        coded = coded_pixels(pixels)
        if coded:
            findings.uncovered.append(f"{findings.frames}: {coded} pixels, {self._injector.active()}")
            self._keep(pixels)
        now = (frame.index, frame.timestamp_ns)
        if now[0] < self._last[0] or now[1] <= self._last[1]:
            findings.disorder.append(f"{self._last} then {now}")
        self._last = now
        covered = counts is not None and counts.policy > self._policy
        self._policy = counts.policy if counts is not None else 0
        latency_ms = (self._clock() - frame.captured_ns) / 1e6
        if covered:
            findings.covered += 1
        else:
            findings.swapped += 1
            if findings.frames % 16 == 0:
                findings.latencies_ms.append(latency_ms)
            if not face_is_the_personas(pixels, number_of(frame.pixels)):
                findings.not_the_persona += 1
        self._recover(covered=covered, latency_ms=latency_ms)

    def _keep(self, pixels: U8) -> None:
        """The first few, to be looked at."""
        if len(self._findings.uncovered) <= 20 and self._folder is not None:
            cv2.imwrite(str(self._folder / f"uncovered-{self._findings.frames}.png"), pixels)

    def _recover(self, *, covered: bool, latency_ms: float) -> None:
        now = now_ns()
        for entry in reversed(self._injector.log):
            if entry.recovered_ns is not None:
                break
            entry.covered += covered
            in_time = not covered and 0 <= latency_ms < IN_TIME_MS
            # A picture that was on its way when the fault ended says nothing about what comes after it.
            if in_time and entry.ended_ns is not None and now - latency_ms * 1e6 >= entry.ended_ns:
                entry.recovered_ns = now

    def close(self) -> None:
        """See ``Sink``."""


class TinyDisk:
    """A full disk for the recorder: no file may grow while it lasts. Linux and macOS."""

    def __init__(self, injector: Injector) -> None:
        self._injector = injector
        self._before: tuple[int, int] | None = None

    def look(self, frame: Frame) -> None:
        """After each frame that was sent."""
        del frame
        if self._injector.once("disk_full"):
            self._before = self._before or resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1, self._before[1]))

    def free(self) -> None:
        """There is room again."""
        if self._before is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, self._before)
            self._before = None


class Soak:
    """The parts that live as long as the soak, and its runs one after the other."""

    def __init__(self, faults: Sequence[Fault], folder: Path, kept: Path | None) -> None:
        self.findings = Findings()
        self._kept = kept
        self.injector = Injector(faults)
        self.open_sources = 0
        self._folder = folder
        self._clock = FaultyClock(self.injector)
        self._pictures = draw_wearers()
        persona = soak_persona()
        live = [PlanarRuntime(persona.manifest, OneColour(persona.manifest, n)) for n in ("onnxruntime", "openvino")]
        slow_s = 1.2 * DEADLINE_MS / 1e3

        def engine(stop: threading.Event) -> FaultyRuntime:
            del stop
            again = PlanarRuntime(persona.manifest, OneColour(persona.manifest, "openvino"))
            return FaultyRuntime(again, self.injector, slow_s)

        live[1].close()
        self.switch = EngineSwitch(
            FaultyRuntime(live[0], self.injector, slow_s), engine, say=lambda _: None, retries=Retries(900, 0.0)
        )
        swapper = Swapper(persona, self.switch)
        blender = Blender(BlendConfig(1, 2, colour_strength=0.0), swapper.swap_size)
        self._stages = Stages(
            Tracker(FaultyDetector(TruthDetector(), self.injector, slow_s)),
            kernels.crop_face,
            swapper,
            blender,
            Label(),
        )

    def _opened(self, change: int) -> None:
        self.open_sources += change

    def _open(self, _: int | str = 0) -> FaultySource:
        loop = LoopSource(self._pictures, self._clock, pause_s=0.0003)
        return FaultySource(loop, self.injector, 1.6 * STALL_S, self._opened)

    def run_once(self, frames: int, stop: threading.Event, record: Path | None = None) -> None:
        """One run, from its start to its end by frames, fault or ``stop``. All of it is recorded to ``record``."""
        findings, number = self.findings, self.findings.runs
        findings.runs += 1
        away = iter([None, 0] * 10_000)  # not there at the first look, then back
        camera = SteadyCamera(
            self._open(), self._open, lambda: next(away), clock=self._clock, sleep=lambda s: time.sleep(s / 10)
        )
        capture = CaptureThread(camera, "newest" if number % 2 else "lossless", clock=self._clock)
        watching = WatchingSink(findings, self.injector, self._clock, self._kept)
        recorder = RecorderSink(record or self._folder / "soak.mp4")
        frames, alone, records = (frames, False, True) if record else self._plan(frames)
        sinks: list[Sink] = [FaultySink(watching, self.injector, 0.1, second=False)]
        sinks += [] if alone else [FaultySink(recorder if records else NullSink(), self.injector, 0.1, second=True)]
        disk = TinyDisk(self.injector)
        for sink in sinks:
            sink.open(SIZE, 30.0)
        pipeline = watching.pipeline = Pipeline(
            capture.latest,
            self._stages,
            PolicyGate(POLICIES[number % len(POLICIES)], size=SIZE, hold_s=0.5),
            sinks,
            size=SIZE,
            limits=Limits(frames=frames, deadline_ms=DEADLINE_MS, stall_s=STALL_S),
            trace=Trace(capacity=64),
            clock=self._clock,
            sent=disk.look,
        )
        capture.start()
        try:
            pipeline.run(stop)
            findings.ends["frames"] += 1
        except PersonacamError as error:
            findings.ends[type(error).__name__] += 1
        finally:
            disk.free()
            if not capture.stop(5.0):
                findings.disorder.append("the capture thread does not end")
            for sink in sinks:
                try:
                    sink.close()
                except PersonacamError as error:
                    findings.ends[f"closing: {type(error).__name__}"] += 1
        for name in pipeline.counts.first_errors:
            if name.startswith("sink "):
                findings.ends[f"lost: {name}"] += 1
        findings.dropped += capture.dropped
        findings.reasons.update(pipeline.counts.reasons)

    def _plan(self, frames: int) -> tuple[int, bool, bool]:
        """Frames of the next run, whether it has one output only, and whether it records.

        One output before a fault of it, which then ends the run; several before everything else, so that one may be
        lost. An encoder costs more than all the rest, so there is one only where the disk fills up.
        """
        ahead = self.injector.ahead()
        alone = [(distance, kind) for distance, kind in ahead if kind in ("sink_error", "sink_raises")]
        if ahead and alone and alone[0] == ahead[0]:
            return frames, True, False
        if alone:
            frames = max(20, min(frames, alone[0][0] - 2))
        return frames, False, any(kind == "disk_full" for distance, kind in ahead if distance < frames)


def resident_mb() -> float | None:
    """What is held after everything that can be given back was."""
    gc.collect()
    if sys.platform != "linux":
        return None
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def descriptors() -> int | None:
    """How many files, sockets and devices are open."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else None
