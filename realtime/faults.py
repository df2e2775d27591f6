"""Faults on purpose: what breaks in the field, injected by a seeded schedule into the real pipeline.

For tests and benchmarks only: nothing of the program imports this module, and no option of the command line reaches it.

A ``Schedule`` says in which frames what goes wrong. The wrappers (``FaultySource``, ``FaultyDetector``,
``FaultyRuntime``, ``FaultySink``, ``FaultyClock``) ask one ``Injector`` which frame it is and what is broken in it. The
detector's wrapper, which sees every frame first, moves it on. Faults of the source belong to another thread and stay
pending until it has read often enough.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from engines.errors import DetectorError, DeviceError, RuntimeFailure, SinkError, SourceLostError
from engines.runtimes.base import Array, Bytes, LiveName, LivePrecision, LiveRuntime
from engines.types import U8, Detection, Frame
from realtime.detect import Detector
from realtime.pacing import Clock, now_ns
from realtime.sink import Sink
from realtime.source import Source

SourceFault = Literal[
    "source_lost", "source_stall", "source_resize", "source_black", "source_garbage", "source_raises", "thread_death"
]
DetectorFault = Literal[
    "detector_error", "detector_raises", "detector_memory", "detector_blind", "detector_nan", "detector_huge",
    "detector_point", "detector_shape", "detector_slow",
]  # fmt: skip
RuntimeFault = Literal[
    "runtime_error", "runtime_raises", "runtime_memory", "runtime_nan", "runtime_shape", "runtime_slow", "device_lost",
    "device_memory", "mask_empty", "mask_noise", "mask_half",
]  # fmt: skip
SinkFault = Literal["sink_error", "sink_raises", "sink_stall", "second_sink_error", "second_sink_raises", "disk_full"]
OtherFault = Literal["clock_forward", "clock_back", "memory_pressure"]
FaultKind = SourceFault | DetectorFault | RuntimeFault | SinkFault | OtherFault
KINDS: tuple[FaultKind, ...] = tuple(kind for group in get_args(FaultKind) for kind in get_args(group))
SOURCE_KINDS = frozenset(get_args(SourceFault))
ENDS_THE_RUN = frozenset({"source_raises", "thread_death", "sink_error", "sink_raises"})
"""After these a run ends, with an error and nothing uncovered; somebody has to start it again."""
_ONCE = frozenset({*ENDS_THE_RUN, "source_lost", "second_sink_error", "second_sink_raises", "disk_full", "device_lost",
                   "device_memory", "clock_forward", "clock_back", "memory_pressure"})  # fmt: skip
_SLOW = frozenset({"source_stall", "detector_slow", "runtime_slow", "sink_stall"})
_JUMP_NS = 3_600_000_000_000
_BALLAST_BYTES = 32 << 20


class ThreadDeath(BaseException):
    """Ends a thread past every ``except Exception``, as SystemExit in a library does."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    kind: FaultKind
    frame: int
    """The first frame that it is in, counted over the whole soak."""
    length: int
    """In so many frames."""


def schedule(seed: int, frames: int, count: int, kinds: Sequence[FaultKind] = KINDS) -> tuple[Fault, ...]:
    """``count`` faults over ``frames`` frames, the same ones for a seed: every kind as often as any other, in random
    order, 1 to 12 frames long (once for what ends something, at most 2 for what takes long), with random gaps between.
    """
    rng = random.Random(seed)
    drawn = [kinds[i % len(kinds)] for i in range(count)]
    rng.shuffle(drawn)
    gap = frames / (count + 1)
    found = []
    for number, kind in enumerate(drawn):
        length = 1 if kind in _ONCE else rng.randrange(1, 3) if kind in _SLOW else rng.randrange(1, 13)
        found.append(Fault(kind, round(gap * (number + 1) + rng.uniform(-0.25, 0.25) * gap), length))
    return tuple(found)


@dataclass
class Injected:
    """What became of one fault. Times are of the true clock, in nanoseconds."""

    fault: Fault
    began_ns: int
    ended_ns: int | None = None
    recovered_ns: int | None = None
    """A frame went out swapped and in time again."""
    covered: int = 0
    """Frames that the policy covered until then."""


class Injector:
    """Knows which frame it is and what is broken in it. Used by the frame loop, and by the source's thread."""

    def __init__(self, faults: Sequence[Fault], clock: Clock = now_ns) -> None:
        self._faults = list(faults)
        self._clock = clock
        self._lock = threading.Lock()
        self._source_left = 0
        self._now: Injected | None = None
        self.frame = -1
        self.log: list[Injected] = []
        """All faults so far, in order."""

    @property
    def done(self) -> bool:
        """Whether every fault was injected and is over."""
        with self._lock:
            return not self._faults and self._now is None

    def ahead(self) -> list[tuple[int, FaultKind]]:
        """What is still to come: in how many frames, and what."""
        with self._lock:
            return [(max(0, fault.frame - self.frame), fault.kind) for fault in self._faults]

    def next_frame(self) -> None:
        """The frame loop has another frame: end what is over, begin what is due, one at a time."""
        with self._lock:
            self.frame += 1
            now = self._now
            if now is not None and now.fault.kind not in SOURCE_KINDS:
                if self.frame < now.fault.frame + now.fault.length:
                    return
                self._end()
            if self._now is None and self._faults and self.frame >= self._faults[0].frame:
                fault = self._faults.pop(0)
                # What was held up by the fault before begins now, in its full length.
                self._now = Injected(replace(fault, frame=self.frame), self._clock())
                self.log.append(self._now)
                self._source_left = fault.length if fault.kind in SOURCE_KINDS else 0

    def active(self) -> FaultKind | None:
        """What is broken in the present frame, the source's faults apart."""
        now = self._now
        return None if now is None or now.fault.kind in SOURCE_KINDS else now.fault.kind

    def once(self, *kinds: FaultKind) -> FaultKind | None:
        """As ``active``, if it is one of ``kinds``; it is over with that."""
        with self._lock:
            now = self._now
            if now is None or now.fault.kind not in kinds:
                return None
            self._end()
            return now.fault.kind

    def take_source(self) -> FaultKind | None:
        """For the source's thread: what goes wrong with this reading."""
        with self._lock:
            if self._now is None or not self._source_left:
                return None
            self._source_left -= 1
            return self._now.fault.kind

    def source_done(self) -> None:
        """For the source's thread, after a reading that went wrong: the last one ends the fault."""
        with self._lock:
            if self._now is not None and not self._source_left and self._now.fault.kind in SOURCE_KINDS:
                self._end()

    def _end(self) -> None:
        if self._now is not None:
            self._now.ended_ns = self._clock()
        self._now = None


class FaultyClock:
    """A clock that jumps by an hour. Recordings of it are of no use as durations over a jump; that is the point."""

    def __init__(self, injector: Injector, clock: Clock = now_ns) -> None:
        self._injector, self._clock = injector, clock
        self._offset_ns = 0

    def __call__(self) -> int:
        """Nanoseconds."""
        kind = self._injector.once("clock_forward", "clock_back") if self._injector.active() else None
        if kind is not None:
            self._offset_ns += _JUMP_NS if kind == "clock_forward" else -_JUMP_NS
        return self._clock() + self._offset_ns


class FaultySource:
    """A source that is lost, stalls, changes size, blackens, gives garbage, raises, or kills the thread that reads it.

    ``open_count`` of the class's users tells leaks: it is told +1 when made and -1 when closed.
    """

    live = True

    def __init__(self, source: Source, injector: Injector, stall_s: float, opened: Callable[[int], None]) -> None:
        self.name, self.size, self.fps, self.report = source.name, source.size, source.fps, source.report
        self._source, self._injector, self._stall_s, self._opened = source, injector, stall_s, opened
        self._open = True
        opened(1)

    def read(self) -> Frame | None:
        """See ``Source``."""
        kind = self._injector.take_source()
        if kind is None:
            return self._source.read()
        try:
            return self._faulty(kind)
        finally:
            self._injector.source_done()

    def _faulty(self, kind: FaultKind) -> Frame | None:
        if kind == "source_lost":
            raise SourceLostError(f"{self.name} was unplugged", hint="injected")
        if kind == "source_raises":
            raise ValueError("a driver's own error")
        if kind == "thread_death":
            raise ThreadDeath
        if kind == "source_stall":
            time.sleep(self._stall_s)
        frame = self._source.read()
        if frame is None:
            return None
        if kind == "source_resize":
            return replace(frame, pixels=np.ascontiguousarray(frame.pixels[::2, ::2]))
        if kind == "source_black":
            return replace(frame, pixels=np.zeros_like(frame.pixels))
        if kind == "source_garbage":
            return replace(frame, pixels=np.ascontiguousarray(frame.pixels[..., :1]))
        return frame

    def close(self) -> None:
        """See ``Source``."""
        if self._open:
            self._open = False
            self._opened(-1)
            self._source.close()


class FaultyDetector:
    """Moves the injector on, then finds the face, or does what the schedule says."""

    name = "faulty"

    def __init__(self, detector: Detector, injector: Injector, slow_s: float) -> None:
        self._detector, self._injector, self._slow_s = detector, injector, slow_s
        self._frame = -1

    def search(self, frame: Frame) -> Detection | None:
        """See ``Detector``."""
        return self._broken(frame, self._detector.search(frame))

    def follow(self, frame: Frame, last: Detection) -> Detection | None:
        """See ``Detector``."""
        return self._broken(frame, self._detector.follow(frame, last))

    def confirm(self, frame: Frame, detection: Detection) -> bool:
        """See ``Detector``."""
        return self._detector.confirm(frame, detection)

    def close(self) -> None:
        """See ``Detector``."""
        self._detector.close()

    def _broken(self, frame: Frame, found: Detection | None) -> Detection | None:
        if id(frame) != self._frame:  # a face that is not followed any more is searched for in the same frame
            self._frame = id(frame)
            self._injector.next_frame()
        kind = self._injector.active()
        if kind == "memory_pressure":
            _press(self._injector)
        if kind == "detector_slow":
            time.sleep(self._slow_s)
        if kind == "detector_error":
            raise DetectorError("injected", hint="injected")
        if kind == "detector_raises":
            raise ZeroDivisionError("a library's own error")
        if kind == "detector_memory":
            raise MemoryError
        if kind == "detector_blind" or found is None:
            return None
        points = found.landmarks
        bad = {
            "detector_nan": np.full_like(points, np.nan),
            "detector_huge": points * np.float32(1e30),
            "detector_point": np.full_like(points, 3.0),
            "detector_shape": points[:3],
        }
        return replace(found, landmarks=bad[kind]) if kind in bad else found


def _press(injector: Injector) -> None:
    """Take much memory for a moment, every page of it."""
    np.ones(_BALLAST_BYTES, np.uint8).sum()
    injector.once("memory_pressure")


class FaultyRuntime:
    """A ``LiveRuntime`` that fails as networks, drivers and cards do."""

    def __init__(self, runtime: LiveRuntime, injector: Injector, slow_s: float) -> None:
        self._runtime, self._injector, self._slow_s = runtime, injector, slow_s
        self.crop_size, self.swap_size = runtime.crop_size, runtime.swap_size
        self._noise = np.random.default_rng(0).integers(0, 2, (self.swap_size, self.swap_size), np.uint8) * 255

    @property
    def name(self) -> LiveName:
        """See ``LiveRuntime``."""
        return self._runtime.name

    @property
    def precision(self) -> LivePrecision:
        """See ``LiveRuntime``."""
        return self._runtime.precision

    def swap(self, crop: Bytes, points: Array | None) -> tuple[Bytes, Bytes]:
        """See ``LiveRuntime``."""
        kind = self._injector.active()
        if kind == "runtime_slow":
            time.sleep(self._slow_s)
        _raise_as_runtimes_do(kind, self._injector)
        pixels, mask = self._runtime.swap(crop, points)
        if kind == "runtime_shape":
            return pixels[:-1], mask[:-1]
        if kind == "mask_empty":
            return pixels, np.zeros_like(mask)
        if kind == "mask_noise":
            return pixels, self._noise
        if kind == "mask_half":
            half = mask.copy()
            half[:, self.swap_size // 2 :] = 0
            return pixels, half
        return pixels, mask

    def calibrate(self, gain: Array, shift: Array) -> None:
        """See ``LiveRuntime``."""
        self._runtime.calibrate(gain, shift)

    def close(self) -> None:
        """See ``LiveRuntime``."""
        self._runtime.close()


def _raise_as_runtimes_do(kind: FaultKind | None, injector: Injector) -> None:
    if kind == "runtime_error":
        raise RuntimeFailure("injected", hint="injected")
    if kind == "runtime_nan":
        raise RuntimeFailure("7 numbers are not finite", hint="injected", kind="bad_output")
    if kind == "runtime_raises":
        raise IndexError("a library's own error")
    if kind == "runtime_memory":
        raise MemoryError
    if injector.once("device_lost"):
        raise DeviceError("the card fell off the bus", hint="injected", kind="lost")
    if injector.once("device_memory"):
        raise DeviceError("out of memory", hint="injected", kind="out_of_memory")


class FaultySink:
    """An output that fails, raises what it may not, or stalls. ``second`` beside a first one that goes on."""

    def __init__(self, sink: Sink, injector: Injector, stall_s: float, *, second: bool) -> None:
        self.name, self.report = sink.name, sink.report
        self.sink = sink
        self._injector, self._stall_s, self._second = injector, stall_s, second

    def open(self, size: tuple[int, int], fps: float) -> None:
        """See ``Sink``."""
        self.sink.open(size, fps)

    def send(self, pixels: U8, frame: Frame) -> None:
        """See ``Sink``."""
        injector = self._injector
        if injector.once("second_sink_error" if self._second else "sink_error"):
            raise SinkError("injected", hint="injected")
        if injector.once("second_sink_raises" if self._second else "sink_raises"):
            raise OSError("a driver's own error")
        if not self._second and injector.active() == "sink_stall":
            time.sleep(self._stall_s)
        self.sink.send(pixels, frame)

    def close(self) -> None:
        """See ``Sink``."""
        self.sink.close()
