"""Plans on a card of numpy: one synchronisation a frame, nothing made after the start, every failure by its name."""

from __future__ import annotations

import gc
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engines.errors import DeviceError, MissingDependencyError, RuntimeFailure
from engines.runtimes.base import LiveRuntime
from engines.runtimes.cuda import Cuda
from engines.runtimes.tensorrt import Engine, TensorRtRuntime
from tests.fake_gpu import ILLEGAL_ADDRESS, INVALID_CONTEXT, OOM, DataType, FakeDriver, FakeTensorRt, fake_plan

S, T, C = 8, 16, 4


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def trt(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    package = FakeTensorRt(driver)
    monkeypatch.setitem(sys.modules, "tensorrt", package)
    return package


def opened(driver: FakeDriver, plan: bytes | None = None, *, graph: bool = True) -> TensorRtRuntime:
    return TensorRtRuntime(fake_plan() if plan is None else plan, "tensorrt", cuda=Cuda(driver), graph=graph)


def crop(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (S, S, 3), np.uint8)


@pytest.mark.parametrize("graph", [True, False])
def test_known_answer(driver: FakeDriver, trt: FakeTensorRt, *, graph: bool) -> None:
    runtime = opened(driver, graph=graph)
    assert isinstance(runtime, LiveRuntime)
    assert (runtime.crop_size, runtime.swap_size, runtime.engine.captured) == (S, T, graph)
    for seed in range(3):
        pixels, mask = runtime.swap(crop(seed), None)
        large = crop(seed).repeat(2, 0).repeat(2, 1)
        np.testing.assert_array_equal(pixels, large)
        np.testing.assert_array_equal(mask, 255 - large[..., 2])
        assert pixels.flags.c_contiguous
        assert mask.shape == (T, T)


def test_a_frame_is_one_launch_and_one_wait_and_makes_nothing(driver: FakeDriver, trt: FakeTensorRt) -> None:
    runtime = opened(driver)
    assert driver.count()["cuStreamBeginCapture"] == driver.count()["cuGraphInstantiate"] == 1
    runtime.swap(crop(0), None)
    driver.calls.clear()
    enqueued = trt.enqueued
    for seed in range(5):
        runtime.swap(crop(seed), None)
    assert driver.calls == ["cuGraphLaunch", "cuStreamSynchronize"] * 5
    assert trt.enqueued == enqueued  # TensorRT itself is not called again
    assert trt.computed >= 5


def test_without_a_graph_there_is_one_copy_each_way_and_one_wait(driver: FakeDriver, trt: FakeTensorRt) -> None:
    runtime = opened(driver, fake_plan(points=6, calibrated=True), graph=False)
    driver.calls.clear()
    runtime.swap(crop(0), None)
    assert driver.calls == ["cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuStreamSynchronize"]


def test_bytes_over_the_bus(driver: FakeDriver, trt: FakeTensorRt) -> None:
    up, down = opened(driver, fake_plan(128, 256, 256)).engine.bytes_per_frame
    assert 128 * 128 * 3 <= up < 128 * 128 * 3 + 512
    assert 256 * 256 * 4 + 1024 <= down < 256 * 256 * 4 + 1024 + 3 * 512


def test_points_and_calibration_reach_the_card(driver: FakeDriver, trt: FakeTensorRt) -> None:
    runtime = opened(driver, fake_plan(points=6, calibrated=True))
    code = runtime.engine.outputs["code"]
    points = np.full((6, 2), 0.5, np.float32)
    runtime.swap(crop(0), points)
    assert code[0, :2].tolist() == [6.0, 1.0]
    runtime.swap(crop(0), None)
    assert code[0, :2].tolist() == [0.0, 0.0]
    plain = code[0, 2:].copy()
    runtime.calibrate(np.full(C, 2.0, np.float32), np.full(C, 1.0, np.float32))
    runtime.swap(crop(0), None)
    np.testing.assert_array_equal(code[0, 2:], plain * 2 + 1)
    runtime.calibrate(np.ones(C, np.float32), np.zeros(C, np.float32))
    runtime.swap(crop(0), None)
    np.testing.assert_array_equal(code[0, 2:], plain)
    with pytest.raises(RuntimeFailure, match="mesh points"):
        runtime.swap(crop(0), points[:5])
    with pytest.raises(RuntimeFailure, match="crop"):
        runtime.swap(crop(0)[1:], None)


def test_close_twice_leaves_nothing_but_the_last_picture(driver: FakeDriver, trt: FakeTensorRt) -> None:
    runtime = opened(driver)
    pixels = runtime.swap(crop(3), None)[0]
    runtime.close()
    runtime.close()
    np.testing.assert_array_equal(pixels[::2, ::2], crop(3))  # still readable
    with pytest.raises(RuntimeFailure, match="closed"):
        runtime.swap(crop(0), None)
    assert set(driver.leaks()) == {"host"}
    del pixels, runtime
    gc.collect()
    assert driver.leaks() == {}
    assert driver.contexts == 0


def test_things_go_before_what_they_use(driver: FakeDriver, trt: FakeTensorRt) -> None:
    runtime = opened(driver)
    driver.calls.clear()
    runtime.close()
    assert driver.calls == [
        "cuGraphExecDestroy", "~context", "~engine", "~runtime", "cuMemFree", "cuMemFree", "cuStreamDestroy",
    ]  # fmt: skip


@pytest.mark.parametrize("graph", [True, False])
def test_made_in_one_thread_run_in_a_second_closed_in_a_third(
    driver: FakeDriver, trt: FakeTensorRt, *, graph: bool
) -> None:
    """As the engine switch does: its worker opens and closes, the frame loop runs."""

    def elsewhere(work, *arguments, **named):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(work, *arguments, **named).result(30)

    assert elsewhere(driver.call, "cuMemAlloc", 1) == (INVALID_CONTEXT, (0,))  # the fake would notice
    runtime = elsewhere(opened, driver, graph=graph)
    pixels = elsewhere(runtime.swap, crop(2), None)[0]
    np.testing.assert_array_equal(pixels[::2, ::2], crop(2))
    elsewhere(runtime.close)
    del runtime, pixels
    gc.collect()
    assert driver.leaks() == {}


def test_a_plan_that_cannot_be_captured_runs_without_a_graph(driver: FakeDriver, trt: FakeTensorRt) -> None:
    trt.refuse_capture = True
    runtime = opened(driver)
    assert not runtime.engine.captured
    assert "capturing" in (runtime.engine.graph_refused or "")
    np.testing.assert_array_equal(runtime.swap(crop(1), None)[0][::2, ::2], crop(1))
    assert driver.capturing is None


@pytest.mark.parametrize(("code", "kind"), [(OOM, "out_of_memory"), (ILLEGAL_ADDRESS, "lost")])
@pytest.mark.parametrize("call", ["cuMemAlloc", "cuMemAllocHost", "cuStreamCreate", "cuGraphInstantiate"])
def test_failures_while_opening_leave_nothing_behind(
    driver: FakeDriver, trt: FakeTensorRt, call: str, code: int, kind: str
) -> None:
    there = Cuda(driver)
    driver.fail[call] = code
    with pytest.raises(DeviceError) as caught:
        Engine(fake_plan(), "tensorrt", there)
    assert caught.value.kind == kind
    assert driver.resets == (kind == "lost")  # so that the next attempt finds a fresh context
    caught = None
    gc.collect()
    assert driver.leaks() == {}


def test_a_card_that_is_lost_while_running(driver: FakeDriver, trt: FakeTensorRt) -> None:
    runtime = opened(driver)
    driver.lost = True
    for _ in range(2):
        with pytest.raises(DeviceError) as caught:
            runtime.swap(crop(0), None)
        assert caught.value.kind == "lost"
    runtime.abandon()
    assert driver.resets == 1
    again = opened(driver)
    np.testing.assert_array_equal(again.swap(crop(1), None)[0][::2, ::2], crop(1))


def test_tensorrt_refuses_and_says_why(driver: FakeDriver, trt: FakeTensorRt) -> None:
    with pytest.raises(RuntimeFailure, match="magicTag mismatch") as caught:
        opened(driver, b"no plan")
    assert not isinstance(caught.value, DeviceError)
    trt.no_context = True
    with pytest.raises(RuntimeFailure, match="cannot prepare"):
        opened(driver)
    trt.no_context = False
    runtime = opened(driver, graph=False)
    trt.refuse = "Error Code 2: OutOfMemory (Requested size was 123 bytes.)"
    with pytest.raises(DeviceError) as oom:
        runtime.swap(crop(0), None)
    assert oom.value.kind == "out_of_memory"
    trt.refuse = "Error Code 1: Cuda Runtime (an illegal memory access was encountered)"
    driver.lost = True
    with pytest.raises(DeviceError) as lost:
        runtime.swap(crop(0), None)
    assert lost.value.kind == "lost"


def test_numbers_that_are_not_finite(driver: FakeDriver, trt: FakeTensorRt) -> None:
    runtime = opened(driver)
    trt.overflow = True
    with pytest.raises(RuntimeFailure, match="not finite") as caught:
        runtime.swap(crop(0), None)
    assert caught.value.kind == "bad_output"


def test_a_foreign_plan(driver: FakeDriver, trt: FakeTensorRt, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests import fake_gpu

    real = fake_gpu.FakeEngine.__init__

    def odd(self, package, spec) -> None:
        real(self, package, spec | {"code_type": DataType.BF16})

    monkeypatch.setattr(fake_gpu.FakeEngine, "__init__", odd)
    with pytest.raises(RuntimeFailure, match="code is BF16"):
        opened(driver)

    def nameless(self, package, spec) -> None:
        real(self, package, spec)
        self.tensors["other"] = self.tensors.pop("mask")

    monkeypatch.setattr(fake_gpu.FakeEngine, "__init__", nameless)
    monkeypatch.setattr(fake_gpu.FakeContext, "compute", lambda self: None)
    with pytest.raises(RuntimeFailure, match="no mask"):
        opened(driver)
    gc.collect()
    assert driver.leaks() == {}


def test_a_missing_package_names_the_extra(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingDependencyError) as caught:
        TensorRtRuntime(fake_plan(), "tensorrt-rtx", cuda=Cuda(driver))
    assert "rtx" in caught.value.hint
