"""When TensorRT is used, and a whole session on a card of numpy, from building the plan to the last frame."""

from __future__ import annotations

import importlib.util
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from engines.build import BuildRequest, Plan
from engines.cache import PlanCache
from engines.errors import DeviceError, MissingDependencyError, RuntimeFailure, SettingsError
from engines.live_graph import live_graph
from engines.persona import Persona, read_persona
from engines.runtimes import open_runtime
from engines.runtimes.cuda import Card
from realtime import engine_plan, session
from realtime.config import Settings
from realtime.engine_plan import Choice, _Progress, choose, live_runtime, plan_opener
from realtime.engine_switch import EngineSwitch
from realtime.session import run_session
from realtime.swap import PlanarRuntime
from tests.fake_gpu import OOM, FakeDriver, FakeTensorRt
from tests.onnx_models import write

RTX = Card("Fake 4090", (8, 9), 12080, 24 << 30)
HOPPER = Card("Fake H200", (9, 0), 12080, 141 << 30)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch):
    """Say which of both packages are installed."""
    real = importlib.util.find_spec

    def install(*names: str) -> None:
        def find(name: str):
            return (object() if name in names else None) if name.startswith("tensorrt") else real(name)

        monkeypatch.setattr(importlib.util, "find_spec", find)

    install()
    return install


def test_which_back_end(packages) -> None:
    assert choose("auto", None) == "there is no NVIDIA card that can be used"
    assert "personacam[rtx]" in str(choose("auto", RTX))
    assert "personacam[tensorrt]" in str(choose("auto", HOPPER))
    packages("tensorrt")
    assert choose("auto", RTX) == Choice("tensorrt", RTX)
    packages("tensorrt", "tensorrt_rtx")
    assert choose("auto", RTX) == Choice("tensorrt-rtx", RTX)
    assert choose("auto", HOPPER) == Choice("tensorrt", HOPPER)
    assert choose("tensorrt", RTX) == Choice("tensorrt", RTX)
    assert choose("tensorrt-rtx", HOPPER) == "tensorrt-rtx does not build for SM 9.0"


@pytest.fixture
def ada(tmp_path: Path) -> Persona:
    return read_persona(write(tmp_path / "ada.persona"))


def opened(persona: Persona, card: Card | None, **settings: str):
    fallback = open_runtime(persona.swap_onnx, prefer=["onnxruntime"])
    return live_runtime(persona, Settings(**settings), fallback, say=lambda _: None, crops=_never, card=lambda: card)


def _never():
    raise AssertionError("nothing is built here")


def test_auto_takes_the_engine_where_it_can(packages, ada: Persona) -> None:
    assert isinstance(opened(ada, RTX), PlanarRuntime)
    packages("tensorrt_rtx")
    assert isinstance(opened(ada, RTX), EngineSwitch)
    assert isinstance(opened(ada, None), PlanarRuntime)
    assert isinstance(opened(ada, RTX, runtime="openvino"), PlanarRuntime)
    assert isinstance(opened(ada, RTX, precision="bf16"), PlanarRuntime)


def test_what_is_asked_for_by_name_and_cannot_be_is_an_error(packages, ada: Persona) -> None:
    with pytest.raises(DeviceError) as caught:
        opened(ada, None, runtime="tensorrt")
    assert caught.value.kind == "missing"
    with pytest.raises(MissingDependencyError, match="not installed"):
        opened(ada, RTX, runtime="tensorrt-rtx")
    packages("tensorrt_rtx")
    with pytest.raises(MissingDependencyError, match=r"SM 9\.0"):
        opened(ada, HOPPER, runtime="tensorrt-rtx")
    with pytest.raises(SettingsError, match="bf16"):
        opened(ada, RTX, runtime="tensorrt-rtx", precision="bf16")


def test_progress_speaks_now_and_then_and_stops_the_build() -> None:
    said, stop, now = [], threading.Event(), [0.0]
    progress = _Progress("ada", stop, said.append, clock=lambda: now[0])
    for second in range(12):
        now[0] = float(second)
        progress(float(second), 9.0)
    assert said == [f"building the engine of ada: {s} s, usually about 9 s" for s in (0, 5, 10)]
    stop.set()
    with pytest.raises(RuntimeFailure, match="stopped"):
        progress(13.0, 9.0)


# ---- a whole session -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crops():
    return session.wearer_crops(128)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, crops):
    """(driver, TensorRT, builds): a card on which plans are live graphs that ONNX Runtime computes."""
    driver, builds = FakeDriver(), []
    trt = FakeTensorRt(driver)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.setattr("engines.runtimes.cuda.open_driver", lambda: driver)
    monkeypatch.setattr("engines.build.importlib.util.find_spec", _spec(importlib.util.find_spec))
    monkeypatch.setenv("PERSONACAM_CACHE", str(tmp_path))
    monkeypatch.setattr(session, "wearer_crops", lambda size: crops)

    def build(request: BuildRequest, progress=None) -> Plan:
        builds.append(request)
        if progress is not None:
            progress(0.5, 1.0)
        data = live_graph(request.onnx, "fp32")
        return Plan(
            data, "tensorrt", "10.0.0", request.sm, request.precision, 0.5, {"fp16": 1}, {"fp16": 1}, "inspector"
        )

    monkeypatch.setattr("engines.plan_check.build_plan", build)
    return driver, trt, builds


def _spec(real):
    return lambda name: object() if name == "tensorrt" else None if name == "tensorrt_rtx" else real(name)


def run(said: list[str], **settings) -> dict:
    result = run_session(Settings(source="demo", sink=("null",), **settings), say=said.append)
    assert result.error is None
    return result.report


def test_a_session_builds_once_and_runs_on_the_card(gpu) -> None:
    driver, _, builds = gpu
    first, second = [], []
    report = run(first, frames=6, runtime="tensorrt")
    assert (report["runtime"], report["precision"]) == ("tensorrt", "f16")
    assert report["frames"]["swapped"] == 6
    assert report["engine"] == {"frames": {"tensorrt": 6}, "failures": []}  # a file waits for the engine
    assert len(builds) == 1
    assert builds[0].sm == (8, 9)
    assert any("building the engine of" in line for line in first)
    again = run(second, frames=3, runtime="auto")
    assert again["runtime"] == "tensorrt"
    assert len(builds) == 1  # kept
    assert not any("building" in line for line in second)
    assert set(driver.leaks()) <= {"host"}


def test_a_kept_plan_that_cannot_be_loaded_is_built_again(gpu, tmp_path: Path) -> None:
    driver, _, builds = gpu
    persona = read_persona(session.persona_store().find("vera"))
    said: list[str] = []
    cache = PlanCache(tmp_path / "own", say=said.append)
    opener = plan_opener(
        persona, Choice("tensorrt", RTX), "fp16", lambda: session.wearer_crops(128), said.append, cache=cache
    )
    opener(threading.Event()).close()
    (entry,) = cache.entries()
    cache.put(entry.key, b"of another TensorRT", entry.info)
    said.clear()
    opener(threading.Event()).close()
    assert len(builds) == 2
    assert len([line for line in said if "cannot be loaded" in line and "built again" in line]) == 1
    opener(threading.Event()).close()
    assert len(builds) == 2  # the new one is kept
    driver.fail["cuMemAlloc"] = OOM
    with pytest.raises(DeviceError):
        opener(threading.Event())
    assert len(builds) == 2
    assert len(cache.entries()) == 1  # the card's fault is not the plan's


def test_the_libraries_are_loaded_before_the_first_frame(packages, ada: Persona, monkeypatch) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(engine_plan, "import_tensorrt", loaded.append)
    packages("tensorrt_rtx")
    opened(ada, RTX).close()
    assert loaded == ["tensorrt-rtx"]

    def missing(name: str):
        raise MissingDependencyError("no", hint="x")

    monkeypatch.setattr(engine_plan, "import_tensorrt", missing)
    opened(ada, RTX).close()  # the worker says so


def test_a_build_that_fails_leaves_the_fallback_and_the_reason(gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(request, progress=None):
        raise ZeroDivisionError("inside the builder")

    monkeypatch.setattr("engines.plan_check.build_plan", broken)
    said = []
    report = run(said, frames=3, runtime="tensorrt")
    assert report["runtime"] == "openvino"
    assert report["frames"]["swapped"] == 3
    assert "inside the builder" in report["engine"]["failures"][0]["message"]
    assert any("no engine" in line for line in said)


def test_a_card_that_is_lost_in_a_session(gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frame at hand is covered, the rest swapped, and the report says what happened."""
    driver = gpu[0]
    monkeypatch.setattr(engine_plan.EngineSwitch, "__init__", _patient(engine_plan.EngineSwitch.__init__))
    computed = []
    send = session.NullSink.send

    def counting(self, pixels, frame):
        computed.append(frame.index)
        if len(computed) == 3:
            driver.lost = True
        return send(self, pixels, frame)

    monkeypatch.setattr(session.NullSink, "send", counting)
    report = run([], frames=8, runtime="tensorrt")
    assert computed == sorted(computed)
    assert report["frames"]["policy"] == 1
    assert report["policy_reasons"] == {"runtime_error": 1}
    assert report["frames"]["swapped"] == 7
    assert report["engine"]["frames"] == {"tensorrt": 3, "openvino": 4}
    assert [f["kind"] for f in report["engine"]["failures"]] == ["lost"]


def _patient(real):
    """An engine that is opened again much later than the test lasts."""
    from realtime.engine_switch import Retries

    def init(self, *arguments, **named) -> None:
        real(self, *arguments, **named, retries=Retries(2, 3600.0))

    return init


def test_the_engines_picture_is_the_fallbacks(gpu, crops) -> None:
    """Live graph, buffers and conversion against the float32 path, on a real crop."""
    persona = read_persona(session.persona_store().find("vera"))
    pictures, points = crops
    plain = PlanarRuntime(persona.manifest, open_runtime(persona.swap_onnx))
    switch = live_runtime(
        persona,
        Settings(runtime="tensorrt"),
        open_runtime(persona.swap_onnx),
        say=lambda _: None,
        crops=lambda: crops,
    )
    assert isinstance(switch, EngineSwitch)
    switch.start()
    assert switch.wait(120)
    for crop in pictures[:3]:
        expected = [array.copy() for array in plain.swap(crop, points[0])]
        for found, wanted in zip(switch.swap(crop, points[0]), expected, strict=True):
            assert np.abs(found.astype(int) - wanted).max() <= 1
    assert switch.name == "tensorrt"
    switch.close()
