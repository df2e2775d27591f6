"""The driver's few calls: what each failure is called, and that nothing is left behind."""

from __future__ import annotations

import ctypes
import gc
import threading
from enum import IntEnum
from types import SimpleNamespace

import numpy as np
import pytest

from engines.errors import DeviceError, RuntimeFailure
from engines.runtimes import cuda
from engines.runtimes.cuda import CALLS, BindingsDriver, CtypesDriver, Cuda, device_error, find_card
from tests.fake_gpu import ILLEGAL_ADDRESS, INVALID_VALUE, NO_DEVICE, OOM, FakeDriver


def test_the_card() -> None:
    card = Cuda(FakeDriver()).card
    assert (card.name, card.compute, card.sm, card.driver) == ("Fake 4090", (8, 9), "8.9", 12080)
    assert card.memory_bytes == 24 << 30


@pytest.mark.parametrize(
    ("code", "kind"),
    [(OOM, "out_of_memory"), (NO_DEVICE, "missing"), (ILLEGAL_ADDRESS, "lost"), (INVALID_VALUE, "driver")],
)
def test_every_failure_has_a_kind_and_a_hint(code: int, kind: str) -> None:
    driver = FakeDriver()
    there = Cuda(driver)
    driver.fail["cuMemAlloc"] = code
    with pytest.raises(DeviceError) as caught:
        there.allocate(10)
    assert caught.value.kind == kind
    assert "cuMemAlloc" in caught.value.message
    assert caught.value.hint
    assert isinstance(caught.value, RuntimeFailure)  # the pipeline covers the frame


def test_lost_codes_are_those_after_which_nothing_runs() -> None:
    for code in (700, 702, 716, 719, 214, 999, 46):
        assert device_error(code, "cuStreamSynchronize", "x").kind == "lost"


def test_no_card_and_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match="0 NVIDIA cards") as caught:
        Cuda(FakeDriver(cards=0))
    assert caught.value.kind == "missing"
    assert find_card(FakeDriver(cards=0)) is None
    assert find_card(FakeDriver()) is not None

    def absent(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(cuda.ctypes, "CDLL", absent)
    monkeypatch.setattr(cuda.ctypes, "WinDLL", absent, raising=False)
    with pytest.raises(DeviceError, match="no NVIDIA driver") as caught:
        Cuda()
    assert caught.value.kind == "missing"
    assert find_card() is None


def test_pinned_memory_lives_as_long_as_an_array_looks_at_it() -> None:
    driver = FakeDriver()
    there = Cuda(driver)
    view = there.pinned(64).array()[8:16].view(np.float32)
    view[:] = 2.5
    del there
    gc.collect()
    assert len(driver.host) == 1
    assert driver.contexts == 1  # the memory belongs to the context
    assert view.tolist() == [2.5, 2.5]
    del view
    gc.collect()
    assert driver.leaks() == {}
    assert driver.contexts == 0


def test_after_a_reset_nothing_old_is_freed_a_second_time() -> None:
    driver = FakeDriver()
    there = Cuda(driver)
    view = there.pinned(64).array()
    there.reset()
    there.reset()
    assert (driver.resets, driver.contexts, there.alive) == (1, 0, False)
    del view, there
    gc.collect()
    assert driver.count()["cuMemFreeHost"] == 0


def test_the_context_is_made_current_once_per_thread() -> None:
    driver = FakeDriver()
    there = Cuda(driver)
    for _ in range(3):
        there.use()
    assert driver.count()["cuCtxSetCurrent"] == 1
    thread = threading.Thread(target=lambda: (there.use(), there.use()))
    thread.start()
    thread.join()
    assert driver.count()["cuCtxSetCurrent"] == 2


def test_a_capture_that_fails_ends_the_capture_and_reports_its_own_error() -> None:
    driver = FakeDriver()
    there = Cuda(driver)
    stream = there.stream()

    def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        there.capture(stream, work)
    assert driver.capturing is None
    assert not driver.graphs


# ---- the two ways to the driver --------------------------------------------------------------------------------------


class Library:
    """A C library as ctypes would show it: functions that take pointers to their results."""

    def __init__(self, missing: str = "") -> None:
        self.seen: list[tuple[str, tuple[object, ...]]] = []
        for name in (*(s.symbol for s in CALLS.values()), "cuDeviceGetName", "cuGetErrorName"):
            if name != missing:
                setattr(self, name, self._function(name))

    def _function(self, name):
        def function(*arguments):
            self.seen.append((name, arguments))
            if name == "cuDeviceGetName":
                arguments[0].value = b"C card"
                return 0
            if name == "cuGetErrorName":
                arguments[1]._obj.value = b"CUDA_ERROR_X"
                return 0
            pointers = [a for a in arguments if hasattr(a, "_obj")]
            for i, pointer in enumerate(pointers):
                pointer._obj.value = 40 + i
            return 2 if name == "cuMemAlloc_v2" else 0

        return SimpleFunction(function)


class SimpleFunction:
    def __init__(self, function) -> None:
        self.function = function

    def __call__(self, *arguments):
        return self.function(*arguments)


def test_ctypes_puts_results_where_the_c_declaration_has_them() -> None:
    library = Library()
    driver = CtypesDriver(library)
    assert driver.call("cuMemGetInfo") == (0, (40, 41))
    assert driver.call("cuStreamEndCapture", 7) == (0, (40,))
    assert library.seen[-1][1][0] == 7  # the stream first, then the graph
    assert driver.call("cuEventElapsedTime", 5, 6) == (0, (40.0,))
    assert library.seen[-1][1][1:] == (5, 6)  # the time first
    assert driver.call("cuMemAlloc", 12)[0] == 2
    assert driver.device_name(0) == "C card"
    assert driver.error_name(2) == "CUDA_ERROR_X"
    end_capture, elapsed = library.cuStreamEndCapture, library.cuEventElapsedTime
    assert end_capture.argtypes == [ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)]
    assert elapsed.argtypes == [ctypes.POINTER(ctypes.c_float), ctypes.c_void_p, ctypes.c_void_p]


def test_a_driver_that_is_too_old_is_named() -> None:
    with pytest.raises(DeviceError, match="cuGraphInstantiateWithFlags") as caught:
        CtypesDriver(Library(missing="cuGraphInstantiateWithFlags"))
    assert caught.value.kind == "missing"


class Result(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2


class Enum75(IntEnum):
    MAJOR, MINOR = 75, 76


class CaptureMode(IntEnum):
    THREAD_LOCAL = 1


def test_cuda_bindings_gives_the_same_numbers() -> None:
    def no_driver(size):
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    package = SimpleNamespace(
        CUresult=Result, CUdevice_attribute=Enum75, CUstreamCaptureMode=CaptureMode,
        cuDeviceGetAttribute=lambda which, device: (Result(0), which.value if isinstance(which, Enum75) else None),
        cuDeviceGetName=lambda size, device: (Result(0), b"Bound card\0\0\0"),
        cuMemAlloc=lambda size: (Result(2), None),
        cuEventElapsedTime=lambda a, b: (Result(0), 0.25),
        cuMemAllocHost=no_driver,
    )  # fmt: skip
    driver = BindingsDriver(package)
    assert driver.call("cuDeviceGetAttribute", 75, 0) == (0, (75,))
    assert driver.call("cuMemAlloc", 10) == (2, (0,))
    assert driver.call("cuEventElapsedTime", 1, 2) == (0, (0.25,))
    assert driver.device_name(0) == "Bound card"
    assert (driver.error_name(2), driver.error_name(12345)) == ("CUDA_ERROR_OUT_OF_MEMORY", "error 12345")
    with pytest.raises(DeviceError) as caught:
        driver.call("cuMemAllocHost", 10)
    assert caught.value.kind == "missing"


@pytest.mark.parametrize("cuda_11", [True, False])
def test_a_graph_is_instantiated_with_flags_whatever_the_package_calls_it(*, cuda_11: bool) -> None:
    """cuda-bindings 12 and 13: cuGraphInstantiate(graph, flags). 11: (graph, log, size), and a call of its own."""

    def with_flags(graph, flags):
        return Result(0), graph + flags + 1

    def with_log(graph, log, size):
        raise AssertionError("not this one")

    package = SimpleNamespace(CUdevice_attribute=Enum75, CUstreamCaptureMode=CaptureMode)
    package.cuGraphInstantiate = with_log if cuda_11 else with_flags
    if cuda_11:
        package.cuGraphInstantiateWithFlags = with_flags
    assert BindingsDriver(package).call("cuGraphInstantiate", 7, 0) == (0, (8,))


def test_the_package_that_is_installed_has_every_call() -> None:
    package = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")
    BindingsDriver(package)
    assert [name for name in CALLS if not hasattr(package, name)] == []
