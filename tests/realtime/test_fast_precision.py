"""When the fastest arithmetic is looked for, and that the stream goes on whatever comes of it."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from engines.cache import PlanCache
from engines.errors import BuildError
from engines.persona import read_persona
from realtime import fast_precision, precision_worker
from realtime.config import Settings
from realtime.engine_switch import EngineSwitch
from realtime.fast_precision import fastest
from realtime.precision_worker import cache_key
from realtime.session import open_swap_runtime, persona_store
from realtime.swap import PlanarRuntime

CROP = np.full((128, 128, 3), 120, np.uint8)


@pytest.fixture(scope="module")
def vera():
    return read_persona(persona_store().find("vera"))


@pytest.fixture
def plain(vera):
    runtime = PlanarRuntime(vera.manifest, open_swap_runtime(vera, Settings()))
    yield runtime
    runtime.close()


def made(vera, plain, folder, find, *, live=True, precision="auto"):
    said = []
    settings = Settings(precision=precision)
    return fastest(vera, settings, plain, live=live, say=said.append, folder=folder, find=find), said


def never(persona, folder, stop):
    raise AssertionError("not to be looked for")


def test_files_and_other_precisions_stay_as_they_are(vera, plain, tmp_path):
    assert made(vera, plain, tmp_path, never, live=False)[0] is plain
    assert made(vera, plain, tmp_path, never, precision="f32")[0] is plain
    assert made(vera, plain, tmp_path, never, precision="bf16")[0] is plain


def test_a_verdict_for_float32_is_not_looked_for_again(vera, plain, tmp_path):
    PlanCache(tmp_path).put(cache_key(vera.swap_onnx), b"", {"precision": "f32"})
    assert made(vera, plain, tmp_path, never)[0] is plain


def test_what_is_kept_takes_over(vera, plain, tmp_path):
    """The persona's own graph stands in for a quantised one."""
    PlanCache(tmp_path).put(cache_key(vera.swap_onnx), vera.swap_onnx, {"precision": "int8"})
    switch, said = made(vera, plain, tmp_path, never)
    assert isinstance(switch, EngineSwitch)
    switch.start()
    assert switch.wait(30)
    switch.swap(CROP, None)
    assert switch.precision == "int8"
    assert "int8 has taken over" in said[-1]
    switch.close()


def test_it_is_found_out_once_and_beside_the_stream(vera, plain, tmp_path, monkeypatch):
    monkeypatch.setattr(fast_precision, "QUIET_S", 0.0)
    looked = threading.Event()

    def find(persona, folder, stop):
        PlanCache(folder).put(cache_key(persona.swap_onnx), persona.swap_onnx, {"precision": "int8"})
        looked.set()

    switch, _ = made(vera, plain, tmp_path, find)
    switch.swap(CROP, None)
    assert switch.precision == "f32"
    assert not looked.is_set()
    switch.start()
    assert switch.wait(30)
    switch.swap(CROP, None)
    assert switch.precision == "int8"
    switch.close()


@pytest.mark.parametrize("verdict", [None, {"precision": "f32", "ms": {"f32": 3.0, "int8": 2.9}}])
def test_a_search_that_fails_or_says_no_leaves_float32(vera, plain, tmp_path, monkeypatch, verdict):
    monkeypatch.setattr(fast_precision, "QUIET_S", 0.0)

    def find(persona, folder, stop):
        if verdict is None:
            raise BuildError("it broke", hint="test")
        PlanCache(folder).put(cache_key(persona.swap_onnx), b"", verdict)

    switch, said = made(vera, plain, tmp_path, find)
    switch.start()
    assert not switch.wait(30)
    switch.swap(CROP, None)
    assert (switch.name, switch.precision) == ("openvino", "f32")
    assert ("it broke" if verdict is None else "float32 stays: 3.0 ms a frame, int8 2.9 ms") in said[0]
    assert len(switch.failures) == 1
    switch.close()


def test_the_end_of_a_short_run_ends_the_wait(vera, plain, tmp_path):
    """Tests, benchmarks and a look at the preview start no search."""
    switch, _ = made(vera, plain, tmp_path, never)
    switch.start()
    switch.close()
    assert not switch._worker.is_alive()


def test_the_judge_takes_the_fastest_that_agrees(vera, monkeypatch):
    monkeypatch.setattr(precision_worker, "quantise", lambda model, feeds: model)
    crops = np.random.default_rng(0).integers(0, 256, (4, 128, 128, 3)).astype(np.uint8)
    points = np.full((4, 127, 2), 0.5, np.float32)
    for ms, floor, expected in (
        ({"f32": 3.0, "bf16": 5.0, "int8": 1.5}, 36.0, "int8"),
        ({"f32": 3.0, "bf16": 5.0, "int8": 2.9}, 36.0, "f32"),
        ({"f32": 3.0, "bf16": 5.0, "int8": 1.5}, 500.0, "f32"),
    ):
        monkeypatch.setattr(precision_worker, "_milliseconds", lambda runtimes, feeds, ms=ms: ms)
        monkeypatch.setattr(precision_worker, "MIN_PIXELS_DB", floor)
        verdict, graph = precision_worker.judge(vera, crops, points)
        assert verdict["precision"] == expected
        assert bool(graph) == (expected == "int8")


@pytest.mark.slow
def test_the_worker_finds_a_verdict_of_this_machine(vera, tmp_path):
    """The real search: about ten seconds of one core."""
    fast_precision.find_out(vera, tmp_path, threading.Event())
    found = PlanCache(tmp_path).find(cache_key(vera.swap_onnx))
    assert found.info["precision"] in {"f32", "bf16", "int8"}
    assert found.info["pixels_db"]["int8"] > 36
    with pytest.raises(BuildError, match="not found"):
        fast_precision.find_out(replace(vera, path=tmp_path / "nobody.persona"), tmp_path, threading.Event())
