"""Faults on purpose: what the schedule promises, and that nobody but tests and benchmarks can reach it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from engines.errors import DetectorError, DeviceError, RuntimeFailure, SinkError, SourceLostError
from engines.types import Detection, Frame
from realtime.faults import (
    KINDS,
    Fault,
    FaultyClock,
    FaultyDetector,
    FaultyRuntime,
    FaultySink,
    FaultySource,
    Injector,
    ThreadDeath,
    schedule,
)
from realtime.latest import Latest
from realtime.pipeline import Limits
from realtime.policy import FailurePolicy
from realtime.sink import NullSink
from tests.realtime.test_pipeline import build, wearer

POINTS = np.arange(10, dtype=np.float32).reshape(5, 2)
FRAME = Frame(np.full((8, 8, 3), 7, np.uint8), 0, 0, 0)


class Ticks:
    """Each reading is a nanosecond later."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        self.now += 1
        return self.now


class Finds:
    name = "finds"

    def search(self, frame):
        return Detection(frame.index, np.zeros(4, np.float32), POINTS, "points5", 1.0)

    def follow(self, frame, last):
        return self.search(frame)

    def confirm(self, frame, detection):
        return True

    def close(self): ...


class Source:
    name = report = "source"
    size, fps, live = (8, 8), 30.0, True

    def read(self):
        return FRAME

    def close(self): ...


class Live:
    name, precision, crop_size, swap_size = "openvino", "f32", 8, 8

    def swap(self, crop, points):
        return np.zeros((8, 8, 3), np.uint8), np.full((8, 8), 255, np.uint8)

    def calibrate(self, gain, shift): ...

    def close(self): ...


def begun(kind, length=1):
    """An injector in which the fault has just begun."""
    injector = Injector([Fault(kind, 0, length)], Ticks())
    injector.next_frame()
    return injector


# ---- the schedule ----------------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_faults_and_every_kind_as_often():
    faults = schedule(3, 10_000, 2 * len(KINDS))
    assert faults == schedule(3, 10_000, 2 * len(KINDS))
    assert faults != schedule(4, 10_000, 2 * len(KINDS))
    assert Counter(fault.kind for fault in faults) == dict.fromkeys(KINDS, 2)
    frames = [fault.frame for fault in faults]
    assert frames == sorted(frames)
    assert frames[0] > 0
    assert frames[-1] < 10_000
    assert all(1 <= fault.length <= 12 for fault in faults)


def test_faults_come_one_at_a_time_and_in_full_length():
    injector = Injector([Fault("runtime_error", 1, 2), Fault("detector_blind", 2, 3)], Ticks())
    seen = []
    for _ in range(8):
        injector.next_frame()
        seen.append(injector.active())
    assert seen == [None, "runtime_error", "runtime_error", *["detector_blind"] * 3, None, None]
    assert injector.done
    assert [entry.fault.frame for entry in injector.log] == [1, 3]
    assert all(entry.ended_ns > entry.began_ns for entry in injector.log)


def test_a_source_s_fault_waits_for_its_thread():
    injector = begun("source_black", 2)
    for _ in range(5):
        injector.next_frame()
    assert injector.active() is None
    for _ in range(2):
        assert not injector.done
        assert injector.take_source() == "source_black"
        injector.source_done()
    assert injector.done
    assert injector.take_source() is None


def test_no_command_reaches_it():
    """Neither the command line nor a run imports the module."""
    program = "import sys, realtime.cli, realtime.session; sys.exit('realtime.faults' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


# ---- the wrappers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "error"), [("source_lost", SourceLostError), ("source_raises", ValueError), ("thread_death", ThreadDeath)]
)
def test_a_source_that_breaks(kind, error):
    injector, count = begun(kind), []
    source = FaultySource(Source(), injector, 0.0, count.append)
    with pytest.raises(error):
        source.read()
    assert injector.done
    assert source.read() is FRAME
    source.close()
    source.close()
    assert count == [1, -1]


@pytest.mark.parametrize(
    ("kind", "shape"), [("source_resize", (4, 4, 3)), ("source_garbage", (8, 8, 1)), ("source_black", (8, 8, 3))]
)
def test_a_source_with_other_pictures(kind, shape):
    source = FaultySource(Source(), begun(kind), 0.0, lambda _: None)
    pixels = source.read().pixels
    assert pixels.shape == shape
    assert pixels.flags.c_contiguous
    assert (kind == "source_black") == (not pixels.any())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("detector")])
def test_a_detector_that_breaks(kind):
    detector = FaultyDetector(Finds(), Injector([Fault(kind, 0, 1)], Ticks()), 0.0)
    raised = {"detector_error": DetectorError, "detector_raises": ZeroDivisionError, "detector_memory": MemoryError}
    if kind in raised:
        with pytest.raises(raised[kind]):
            detector.search(FRAME)
    else:
        found = detector.search(FRAME)
        same = found is not None and found.landmarks.shape == POINTS.shape and bool((found.landmarks == POINTS).all())
        assert same == (kind == "detector_slow")
    assert detector.follow(replace(FRAME, index=1), None).landmarks is POINTS


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith(("runtime", "device", "mask"))])
def test_a_runtime_that_breaks(kind):
    injector = begun(kind)
    runtime = FaultyRuntime(Live(), injector, 0.0)
    raised = {
        "runtime_error": RuntimeFailure, "runtime_nan": RuntimeFailure, "runtime_raises": IndexError,
        "runtime_memory": MemoryError, "device_lost": DeviceError, "device_memory": DeviceError,
    }  # fmt: skip
    if kind in raised:
        with pytest.raises(raised[kind]):
            runtime.swap(FRAME.pixels, None)
    else:
        pixels, mask = runtime.swap(FRAME.pixels, None)
        whole = pixels.shape == (8, 8, 3) and bool((mask == 255).all())
        assert whole == (kind == "runtime_slow")
    injector.next_frame()
    assert runtime.swap(FRAME.pixels, None)[1].min() == 255


@pytest.mark.parametrize(("kind", "second", "error"), [
    ("sink_error", False, SinkError), ("sink_raises", False, OSError),
    ("second_sink_error", True, SinkError), ("second_sink_raises", True, OSError),
])  # fmt: skip
def test_a_sink_that_breaks(kind, second, error):
    sinks = {flag: FaultySink(NullSink(), begun(kind), 0.0, second=flag) for flag in (True, False)}
    sinks[not second].send(FRAME.pixels, FRAME)
    with pytest.raises(error):
        sinks[second].send(FRAME.pixels, FRAME)
    sinks[second].send(FRAME.pixels, FRAME)
    assert sinks[second].sink.frames == 1


@pytest.mark.parametrize(("kind", "hours"), [("clock_forward", 1), ("clock_back", -1)])
def test_a_clock_that_jumps_once(kind, hours):
    clock = FaultyClock(begun(kind), lambda: 5)
    assert [clock(), clock()] == [5 + hours * 3_600_000_000_000] * 2


# ---- what the soak found in the pipeline -----------------------------------------------------------------------------


def test_whatever_a_second_output_raises_the_first_goes_on():
    pipeline, _, _, _, sink, _ = build(FailurePolicy.VEIL)
    broken = FaultySink(NullSink(), begun("second_sink_raises"), 0.0, second=True)
    pipeline._sinks.append(broken)
    for index in range(3):
        pipeline.step(wearer(index))
    assert len(sink.pictures) == 3
    assert "driver" in pipeline.counts.first_errors["sink null"]


def test_whatever_the_only_output_raises_ends_the_run_with_a_hint():
    pipeline, box, *_ = build(FailurePolicy.VEIL)
    pipeline._sinks[:] = [FaultySink(NullSink(), begun("sink_raises"), 0.0, second=False)]
    box.put(wearer(0))
    with pytest.raises(SinkError, match="a driver's own error") as caught:
        pipeline.run(threading.Event())
    assert caught.value.hint
    assert isinstance(caught.value.__cause__, OSError)


def test_a_stall_is_seen_by_a_clock_that_ran_backwards():
    pipeline, _, _, _, sink, clock = build(FailurePolicy.VEIL, Limits(stall_s=1.0))
    stop, asked = threading.Event(), []

    class Stalled(Latest):
        def get(self, timeout_s):
            asked.append(None)
            clock.now += -3_600_000_000_000 if len(asked) == 2 else 700_000_000
            if len(asked) > 5:
                stop.set()
            return wearer(0) if len(asked) == 1 else None

    pipeline._frames = Stalled()
    pipeline.run(stop)
    assert pipeline.counts.reasons == {"source_lost": 2}
    assert len(sink.pictures) == 3
