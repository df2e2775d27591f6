"""The benchmark's own arithmetic, and that it measures a plan with numpy and TensorRT alone."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from engines.runtimes.cuda import Card
from tests.fake_gpu import FakeDriver, FakeTensorRt, fake_plan
from tests.onnx_models import build, value

FOLDER = Path(__file__).parents[1] / "benchmarks"
CASE = {"tier": "test", "gflop": 4.0, "parameters": 10_000_000, "activation_values": 5_000_000, "bus_bytes": [1, 2]}


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


bench, cases = load("bench_engine"), load("engine_cases")


def test_work_of_known_layers() -> None:
    """8 filters of 3 x 3 over 4 channels on 6 x 6, then 8 x 6 x 6 numbers into 5."""
    model = build(
        [
            helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1]),
            helper.make_node("Flatten", ["y"], ["flat"]),
            helper.make_node("Gemm", ["flat", "m"], ["out"]),
        ],
        [value("x", 1, 4, 6, 6)],
        [value("out", 1, 5)],
        {"w": np.zeros((8, 4, 3, 3), np.float32), "m": np.zeros((288, 5), np.float32)},
    )
    operations, parameters, between = cases.work(model.SerializeToString())
    assert operations == 2 * (8 * 36 * 4 * 9 + 288 * 5)
    assert parameters == 8 * 4 * 9 + 288 * 5
    assert between == 288 + 288 + 5
    assert cases.bus_bytes(model.SerializeToString()) == (4 * 144, 4 * 5)


def test_rates_against_the_data_sheet() -> None:
    row = bench.rates(CASE, 2.0, Card("NVIDIA H200", (9, 0), 12080, 1))
    assert row["gflop_per_s"] == 2000.0
    assert row["percent_of_peak"] == pytest.approx(100 * 2 / 989, abs=0.01)
    memory_ms = 2 * 20e6 / 4.8e9
    assert row["roofline_ms"] == pytest.approx(memory_ms, abs=1e-4)  # more than the work's 0.004 ms
    assert row["times_roofline"] == pytest.approx(2.0 / memory_ms, abs=0.01)
    assert set(bench.rates(CASE, 2.0, None)) == {"gflop_per_s"}
    assert set(bench.rates(CASE, 2.0, Card("GT 1", (8, 6), 1, 1))) == {"gflop_per_s"}


def test_a_plan_with_and_without_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver()
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRt(driver))
    monkeypatch.setattr("engines.runtimes.cuda.open_driver", lambda: driver)
    crops = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    large = crops.repeat(2, 1).repeat(2, 2)
    data = {"crops": crops, "points": np.zeros((4, 3, 2), np.float32), "pixels": large, "mask": 255 - large[..., 2]}
    card = Card("Fake 4090", (8, 9), 1, 1)
    for graph in (True, False):
        row = bench.run_plan(fake_plan(), "tensorrt", CASE, data, card, 30, graph=graph)
        assert row["cuda_graph"] == graph
        assert (row["pixels_psnr_db"], row["mask_psnr_db"], row["max_levels"]) == (None, None, 0)
        assert 0 < row["p50_ms"] <= row["p99_ms"]
    data["mask"] = data["mask"] ^ 1
    row = bench.run_plan(fake_plan(), "tensorrt", CASE, data, card, 30, graph=True)
    assert row["mask_psnr_db"] == pytest.approx(48.13, abs=0.01)
    assert row["max_levels"] == 1
    assert "magicTag" in bench.run_plan(b"no plan", "tensorrt", CASE, data, card, 30, graph=True)["error"]


def test_detection_networks_are_compared_with_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    driver = FakeDriver()
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRt(driver))
    monkeypatch.setattr("engines.runtimes.cuda.open_driver", lambda: driver)
    detection = sys.modules["engine_detection"]
    monkeypatch.setattr(detection, "PASSES", 2)
    own = tmp_path / "detection" / "facemesh"
    own.mkdir(parents=True)
    weights = np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32)  # a "plan" of a graph has some size
    graph = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = build(graph, [value("x", 1, 40)], [value("y", 1, 40)], {"w": weights}).SerializeToString()
    (own / "model.onnx").write_bytes(model)
    fed = np.random.default_rng(1).normal(size=(2, 1, 40)).astype(np.float32)
    np.savez(own / "data.npz", **{"in.x": fed, "out.y": fed @ weights})

    def plans(folder: Path, name: str):
        (folder / "plan").write_bytes(model)
        yield {"network": name, "runtime": "tensorrt", "runs_here": True}
        yield {"network": name, "runtime": "tensorrt-rtx", "runs_here": False}

    rows = list(detection.rows(tmp_path, 30, 1, plans))
    assert [row["runtime"] for row in rows] == ["openvino", "onnxruntime", "tensorrt", "tensorrt-rtx"]
    assert all(row["largest_error"] < 1e-5 and 0 < row["p50_ms"] <= row["p99_ms"] for row in rows[:3])
    assert rows[2]["cuda_graph"]
    assert "p50_ms" not in rows[3]
    verdict = detection.verdict(rows)
    assert isinstance(verdict["facemesh"]["tensorrt_is_faster"], bool)
    assert verdict["blazeface"]["tensorrt_is_faster"] is None
    assert detection.verdict(rows[:2])["facemesh"]["tensorrt_is_faster"] is None  # not measured is not "slower"
    np.savez(own / "data.npz", **{"in.x": fed, "out.y": 2 * (fed @ weights)})
    assert all(row["largest_error"] > 0.1 for row in list(detection.rows(tmp_path, 30, 1, plans))[:3])


def test_where_plans_are_measured_numpy_is_enough() -> None:
    """A machine with a card and no internet has no onnx, no cv2, no ONNX Runtime."""
    heavy = ("onnx", "onnxruntime", "openvino", "cv2", "torch", "pydantic", "numba", "av")
    code = (
        f"import sys\nfor name in {heavy}: sys.modules[name] = None\n"
        f"sys.path.insert(0, {str(FOLDER)!r})\nimport bench_engine, engines.build_worker\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
