"""From the fallback to the engine and back, while frames go through: none is lost, none is the wearer's own."""

from __future__ import annotations

import gc
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.errors import DataError, DeviceError, MissingDependencyError, RuntimeFailure
from engines.persona import Persona
from engines.runtimes.cuda import Cuda
from engines.runtimes.tensorrt import TensorRtRuntime
from engines.types import AlignedFace
from engines.wearer import WearerCalibration
from realtime import kernels, session
from realtime.blend import BlendConfig, Blender
from realtime.config import Settings
from realtime.engine_switch import EngineSwitch, Retries, change_persona
from realtime.latest import Latest
from realtime.pipeline import Limits, Pipeline, Stages
from realtime.policy import FailurePolicy, PolicyGate
from realtime.swap import Swapper
from realtime.trace import Trace
from tests.fake_gpu import FakeDriver, FakeTensorRt, fake_plan
from tests.onnx_models import C, S, T, manifest
from tests.realtime.test_pipeline import SIZE, FakeTrack, MemorySink, leaks, wearer

CROP = np.zeros((S, S, 3), np.uint8)
NOW = Retries(count=2, wait_s=0.0)
LOST = DeviceError("gone", hint="x", kind="lost")
OOM = DeviceError("full", hint="x", kind="out_of_memory")
BAD = RuntimeFailure("NaN", hint="x", kind="bad_output")


class Live:
    """A runtime that paints its own grey."""

    def __init__(self, name: str, grey: int) -> None:
        self.name, self.precision, self.grey = name, "f32", grey
        self.crop_size, self.swap_size = S, T
        self.closed = self.abandoned = 0
        self.fault: Exception | None = None
        self.calibration: list[float] = []
        self.threads: set[int] = set()

    def swap(self, crop, points):
        if self.fault is not None:
            raise self.fault
        self.threads.add(threading.get_ident())
        return np.full((T, T, 3), self.grey, np.uint8), np.full((T, T), 255, np.uint8)

    def calibrate(self, gain, shift):
        self.calibration.append(float(gain[0]))

    def close(self):
        self.closed += 1

    def abandon(self):
        self.abandoned += 1


class Opener:
    """Opens engines one after the other when it is let; an exception stands for a failure to open."""

    def __init__(self, *results) -> None:
        self.results, self.asked = list(results), 0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, stop: threading.Event):
        assert self.gate.wait(5)
        result = self.results[self.asked]
        self.asked += 1
        if isinstance(result, Exception):
            raise result
        return result


def made(*results, retries: Retries = NOW) -> tuple[EngineSwitch, Live, Opener, list[str]]:
    fallback, opener, said = Live("openvino", 50), Opener(*results), []
    return EngineSwitch(fallback, opener, say=said.append, retries=retries), fallback, opener, said


def until(condition) -> None:
    """The worker needs a moment; a test that waits for nothing fails."""
    waited = threading.Event()
    for _ in range(1000):
        if condition():
            return
        waited.wait(0.005)
    raise AssertionError("it never came")


def grey(switch) -> int:
    return int(switch.swap(CROP, None)[0][0, 0, 0])


def test_the_fallback_first_then_the_engine() -> None:
    engine = Live("tensorrt", 200)
    switch, fallback, opener, said = made(engine)
    opener.gate.clear()
    switch.start()
    assert [grey(switch) for _ in range(3)] == [50] * 3
    assert switch.name == "openvino"
    opener.gate.set()
    assert switch.wait(5)
    until(lambda: grey(switch) == 200)
    assert switch.name == "tensorrt"
    assert "tensorrt f32 has taken over from openvino" in said
    assert switch.frames["openvino"] >= 3
    assert engine.threads == {threading.get_ident()}  # frames are computed by the frame loop alone
    switch.close()
    switch.close()
    assert (engine.closed, fallback.closed) == (1, 1)


@pytest.mark.parametrize("fault", [LOST, OOM, RuntimeFailure("x", hint="y"), ZeroDivisionError("x")])
def test_a_failure_is_raised_once_then_the_fallback_then_a_new_engine(fault: Exception) -> None:
    first, second = Live("tensorrt", 200), Live("tensorrt", 210)
    switch, _, opener, said = made(first, second)
    switch.start()
    switch.wait(5)
    until(lambda: grey(switch) == 200)
    opener.gate.clear()
    first.fault = fault
    with pytest.raises(type(fault)):
        switch.swap(CROP, None)
    assert [grey(switch) for _ in range(3)] == [50] * 3
    opener.gate.set()
    until(lambda: grey(switch) == 210)
    switch.close()
    assert first.closed + first.abandoned == 1
    assert first.abandoned == (fault is LOST)  # only a lost card is cleared away
    assert any("openvino goes on" in line for line in said)
    assert len(switch.failures) == 1


def test_retries_are_bounded() -> None:
    engines = [Live("tensorrt", 200 + i) for i in range(9)]
    switch, _, opener, said = made(*engines)
    for engine in engines:
        engine.fault = LOST
    switch.start()
    covered = 0
    for _ in range(NOW.count + 1):
        until(lambda: switch._ready is not None)
        with pytest.raises(DeviceError):
            switch.swap(CROP, None)
        covered += 1
    switch._worker.join(5)
    assert opener.asked == NOW.count + 1 == covered
    assert [grey(switch) for _ in range(3)] == [50] * 3
    assert "the engine failed 3 times; openvino stays" in said
    switch.close()


@pytest.mark.parametrize(
    ("fault", "asked"),
    [
        (OOM, 3),
        (LOST, 3),
        (MissingDependencyError("no package", hint="pip"), 1),
        (RuntimeFailure("bad plan", hint="x"), 1),
        (ZeroDivisionError("x"), 1),
        (DeviceError("no card", hint="x", kind="missing"), 1),
    ],
)
def test_an_engine_that_cannot_be_opened_is_tried_again_only_where_that_can_help(fault: Exception, asked: int) -> None:
    switch, _, opener, said = made(fault, fault, fault)
    switch.start()
    switch._worker.join(5)
    assert not switch.wait(0)
    assert opener.asked == asked == len(switch.failures)
    assert grey(switch) == 50
    assert any("no engine" in line for line in said)
    switch.close()


def test_bad_outputs_in_a_row_end_the_engine_for_good() -> None:
    engine = Live("tensorrt", 200)
    switch, _, opener, _ = made(engine, Live("tensorrt", 1))
    switch.start()
    switch.wait(5)
    until(lambda: grey(switch) == 200)
    for _ in range(2):
        engine.fault = BAD
        with pytest.raises(RuntimeFailure):
            switch.swap(CROP, None)
        engine.fault = None
        assert grey(switch) == 200  # one odd frame is covered, and that is all
    engine.fault = BAD
    for _ in range(NOW.bad_outputs):
        with pytest.raises(RuntimeFailure):
            switch.swap(CROP, None)
    assert grey(switch) == 50
    switch._worker.join(5)
    assert opener.asked == 1
    switch.close()


def test_a_failing_fallback_is_the_pipelines_business() -> None:
    switch, fallback, _, _ = made(OOM, OOM, OOM)
    fallback.fault = RuntimeFailure("x", hint="y")
    with pytest.raises(RuntimeFailure):
        switch.swap(CROP, None)
    fallback.fault = None
    assert grey(switch) == 50
    switch.close()
    assert fallback.closed == 1


def test_an_engine_of_other_sizes_is_not_taken() -> None:
    engine = Live("tensorrt", 200)
    engine.swap_size = T * 2
    switch, _, _, said = made(engine)
    switch.start()
    switch._worker.join(5)
    assert grey(switch) == 50
    assert engine.closed == 1
    assert any("another persona" in line for line in said)
    switch.close()


def test_calibration_reaches_the_engine_that_comes_later() -> None:
    engine = Live("tensorrt", 200)
    switch, fallback, opener, _ = made(engine)
    opener.gate.clear()
    switch.start()
    one = np.ones(C, np.float32)
    switch.calibrate(one * 2, one)
    opener.gate.set()
    switch.wait(5)
    switch.calibrate(one * 3, one)
    assert fallback.calibration == [2.0, 3.0]
    assert engine.calibration == [2.0, 3.0]
    switch.close()


def test_closing_while_the_engine_is_built_does_not_wait_for_it() -> None:
    stopped = []

    def building(stop: threading.Event):
        assert stop.wait(5)
        stopped.append(True)
        raise RuntimeFailure("stopped", hint="x")

    fallback = Live("openvino", 50)
    switch = EngineSwitch(fallback, building, say=lambda _: None)
    switch.start()
    switch.close()
    assert stopped == [True]
    assert fallback.closed == 1
    assert switch.failures == []


# ---- another persona -------------------------------------------------------------------------------------------------


def persona(**fields) -> Persona:
    return Persona(manifest(**fields), b"", None, {}, "", Path("ada.persona"), None)


def face(index: int) -> AlignedFace:
    return AlignedFace(index, CROP, np.eye(2, 3))


def test_another_persona_is_prepared_first_and_then_exchanged() -> None:
    engine = Live("tensorrt", 200)
    first, fallback, _, _ = made(engine)
    first.start()
    first.wait(5)
    swapper = Swapper(persona(code_calibration=True), first)
    one = np.ones(C, np.float32)
    swapper.calibrate(WearerCalibration(one * 2, one, "0" * 64))
    assert swapper.swap(face(0)).pixels[0, 0, 0] == 200
    follower = Live("tensorrt", 90)
    second = made(follower)[0]
    change_persona(swapper, persona(name="bea", code_calibration=True), second, first)
    assert (engine.closed, fallback.closed) == (0, 0)  # still worn
    assert swapper.swap(face(1)).pixels[0, 0, 0] == 90  # the very next frame, by its engine
    until(lambda: engine.closed == fallback.closed == 1)
    assert follower.calibration[-1] == 2.0  # the same encoder: the wearer's calibration is kept
    swapper.calibrate(None)
    assert follower.calibration[-1] == 1.0
    second.close()


def test_a_persona_of_another_encoder_drops_the_calibration() -> None:
    first, second = made(OOM, OOM, OOM)[0], made(OOM, OOM, OOM)[0]
    swapper = Swapper(persona(code_calibration=True), first)
    one = np.ones(C, np.float32)
    mine = WearerCalibration(one * 2, one, "0" * 64)
    swapper.calibrate(mine)
    change_persona(swapper, persona(code_calibration=True, encoder_sha256="b" * 64), second, first)
    assert second._fallback.calibration == []
    with pytest.raises(DataError):
        swapper.calibrate(mine)  # of the persona that is about to be worn
    second.close()


def test_a_persona_of_another_size_is_refused_and_the_first_stays() -> None:
    first, other = made(OOM)[0], Live("openvino", 70)
    swapper = Swapper(persona(), first)
    other.swap_size = 2 * T
    second = EngineSwitch(other, Opener(OOM, OOM, OOM), say=lambda _: None, retries=NOW)
    with pytest.raises(RuntimeFailure, match="other picture sizes"):
        change_persona(swapper, persona(output_size=2 * T), second, first)
    assert other.closed == 1
    assert swapper.swap(face(0)).pixels[0, 0, 0] == 50
    with pytest.raises(RuntimeFailure, match="does not fit"):
        Swapper(persona(output_size=2 * T), first)


def test_a_tier_that_cannot_run_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The governor's other tier: two networks on a card are one too many."""
    switch, fallback, _, _ = made(OOM, OOM, OOM)
    fallback.fault = RuntimeFailure("x", hint="y")
    monkeypatch.setattr(session, "_network", lambda *_, **__: (persona(), switch))
    with pytest.raises(RuntimeFailure, match="x"):
        session._another(Settings(tier="tiny"), say=lambda _: None, engine=True)
    assert fallback.closed == 1
    assert switch._stop.is_set()


# ---- the whole path on a card of numpy -------------------------------------------------------------------------------


def test_a_lost_card_in_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """One frame is covered by the policy, the others are swapped, all in order, and none shows the wearer."""
    driver = FakeDriver()
    trt = FakeTensorRt(driver)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    opened = []

    def open_engine(stop: threading.Event) -> TensorRtRuntime:
        opened.append(TensorRtRuntime(fake_plan(S, T, C), "tensorrt", cuda=Cuda(driver)))
        return opened[-1]

    # The fake plan enlarges the crop, which would be the wearer: a plan that paints grey instead.
    monkeypatch.setattr("tests.fake_gpu.FakeContext.compute", paint)
    switch = EngineSwitch(Live("openvino", 90), open_engine, say=lambda _: None, retries=Retries(1, 0.0))
    swapper = Swapper(persona(), switch)
    sink = MemorySink()
    blender = Blender(BlendConfig(erode_px=1, feather_px=2, colour=False), T)
    stages = Stages(Track(), kernels.crop_face, swapper, blender, None)
    gate = PolicyGate(FailurePolicy.VEIL, size=SIZE)
    pipeline = Pipeline(Latest(), stages, gate, [sink], size=SIZE, limits=Limits(), trace=Trace())
    index = 0

    def step() -> str:
        nonlocal index
        swapped = pipeline.counts.swapped
        pipeline.step(wearer(index))
        index += 1
        return switch.name if pipeline.counts.swapped > swapped else "policy"

    assert step() == "openvino"
    switch.start()
    switch.wait(5)
    until(lambda: step() == "tensorrt")
    driver.lost = True
    seen = [step()]
    until(lambda: seen.append(step()) or seen[-1] == "tensorrt")
    switch.close()
    assert seen[0] == "policy"
    assert seen.count("policy") == 1
    assert pipeline.counts.reasons == {"runtime_error": 1}
    assert "lost" in pipeline.counts.first_errors["runtime_error"]
    assert len(opened) == 2
    assert driver.resets == 1
    assert [f.index for f in sink.frames] == list(range(index))
    assert not any(leaks(p, replace(f)) for p, f in zip(sink.pictures, sink.frames, strict=True))


def test_failing_engines_leave_nothing_on_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one before is freed before the next one is opened, and the last one with the switch."""
    driver = FakeDriver()
    trt = FakeTensorRt(driver)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    gate, there = threading.Event(), []

    def open_engine(stop: threading.Event) -> TensorRtRuntime:
        there.append(dict(driver.leaks()))
        assert gate.wait(5)
        return TensorRtRuntime(fake_plan(S, T, C), "tensorrt", cuda=Cuda(driver), graph=False)

    switch = EngineSwitch(Live("openvino", 50), open_engine, say=lambda _: None, retries=NOW)
    switch.start()
    for _ in range(NOW.count + 1):
        gate.set()
        until(lambda: switch._ready is not None)
        gate.clear()
        trt.refuse = "Error Code 2: something"
        with pytest.raises(RuntimeFailure, match="something"):
            switch.swap(CROP, None)
        trt.refuse = ""
    switch._worker.join(5)
    switch.close()
    assert there == [{}] * (NOW.count + 1)
    gc.collect()  # pinned memory goes with the last array that looks at it
    assert driver.leaks() == {}
    assert driver.contexts == 0


class Track(FakeTrack):
    """Its face is 32 pixels of a crop; the persona here takes 16."""

    def align(self, detection, size, t_s):
        return super().align(detection, size, t_s) * np.array([[32 / size, 32 / size, 1.0]])


def paint(context) -> None:
    context.trt.computed += 1
    context.array("pixels").fill(90)
    context.array("mask").fill(255)
    context.array("code").fill(0)
