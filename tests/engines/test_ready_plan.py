from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from engines import ready_plan as module
from engines.build import Plan
from engines.cache import PlanCache
from engines.errors import BuildError
from engines.export import SwapGraph, to_onnx
from engines.network import build_decoder, build_encoder
from engines.plan_check import Agreement, CheckedPlan
from engines.ready_plan import Target, plan_key, ready_plan

TARGET = Target("tensorrt-rtx", "1.7.1", (8, 9), "NVIDIA GeForce RTX 4090", "580.95")


@pytest.fixture(scope="module")
def model(small_sizes):
    return to_onnx(SwapGraph(build_encoder(small_sizes, seed=0), build_decoder(small_sizes, seed=1)).eval())


class Builds:
    """Stands in for ``build_checked``."""

    def __init__(self, precision: str = "fp16") -> None:
        self.count, self.precision, self.entered, self.go = 0, precision, threading.Event(), threading.Event()
        self.go.set()

    def __call__(self, request, crops, points, **options):
        self.entered.set()
        assert self.go.wait(30)
        self.count += 1
        plan = Plan(b"x" * 500, "tensorrt-rtx", "1.7.1", request.sm, self.precision, 1.234, {"fp16": 9}, {}, "graph")
        return CheckedPlan(
            plan, Agreement(32, 58.0, 59.0, 0.001, "graph"), "too bad" if "2" in self.precision else None
        )


@pytest.fixture
def builds(monkeypatch):
    made = Builds()
    monkeypatch.setattr(module, "build_checked", made)
    return made


def get(model, cache, said, **changes):
    options = {"open_plan": None, "say": said.append, "name": "vera"} | changes
    return ready_plan(model, TARGET, cache, lambda: (np.zeros(1, np.uint8), None), **options)


def test_the_second_start_builds_nothing(model, tmp_path, builds):
    said: list[str] = []
    cache = PlanCache(tmp_path)
    first, second = get(model, cache, said), get(model, cache, said)
    assert (first.kept, second.kept, builds.count) == (False, True, 1)
    assert first.data == second.data
    assert first.info == second.info
    assert second.info["agreement"]["pixels_psnr_db"] == 58.0
    assert second.info["name"] == "vera"
    assert said == []


def test_whatever_the_plan_hangs_on_is_in_the_key(model):
    key = plan_key(model, TARGET, "fp16")
    assert key.shapes == "face 1x3x32x32, code_gain 1x24, code_shift 1x24"
    others = [
        plan_key(model, replace(TARGET, **{name: value}), "fp16")
        for name, value in (("driver", "581"), ("sm", (9, 0)), ("backend_version", "1.8"), ("gpu_name", "other"),
                            ("backend", "tensorrt"))
    ]  # fmt: skip
    others += [plan_key(model, TARGET, "fp32"), plan_key(model, replace(TARGET, driver="582"), "fp16")]
    assert len({k.digest() for k in [key, *others]}) == 8


def test_a_refused_fp16_is_not_built_at_every_start(model, tmp_path, monkeypatch):
    builds = Builds("fp32")
    monkeypatch.setattr(module, "build_checked", builds)
    cache = PlanCache(tmp_path)
    assert get(model, cache, []).precision == "fp32"
    said: list[str] = []
    again = get(model, cache, said)
    assert (again.kept, again.precision, builds.count) == (True, "fp32", 1)
    assert again.info["refused"] == "too bad"
    assert said == ["vera is of FP32: FP16 was refused when it was built: too bad"]  # at every start


def test_two_that_start_at_once_build_once(model, tmp_path, builds):
    builds.go.clear()
    said: list[str] = []
    results = []
    threads = [threading.Thread(target=lambda: results.append(get(model, PlanCache(tmp_path), said))) for _ in range(2)]
    threads[0].start()
    assert builds.entered.wait(30)
    threads[1].start()
    deadline = threading.Event()
    for _ in range(300):
        if said:
            break
        deadline.wait(0.1)
    builds.go.set()
    for thread in threads:
        thread.join(30)
    assert builds.count == 1
    assert sorted(ready.kept for ready in results) == [False, True]
    assert said == ["another process builds this plan; waiting for it"]


def test_a_folder_that_cannot_be_written_costs_a_line_and_no_plan(model, tmp_path, builds):
    (tmp_path / "file").write_text("")
    said: list[str] = []
    ready = get(model, PlanCache(tmp_path / "file"), said)
    assert (ready.path, ready.kept, len(ready.data)) == (None, False, 500)
    assert builds.count == 1
    assert said
    assert all("engines clear" in line for line in said)


def test_a_build_that_fails_is_an_error_and_keeps_nothing(model, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise BuildError("no", hint="x")

    monkeypatch.setattr(module, "build_checked", fail)
    cache = PlanCache(tmp_path)
    with pytest.raises(BuildError):
        get(model, cache, [])
    assert cache.entries() == []
