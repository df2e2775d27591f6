from __future__ import annotations

import dataclasses
import errno
import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from engines import build, build_worker
from engines.build import BuildRequest, available_backends, build_plan, check_precision
from engines.errors import BuildError, PlanRefusedError
from engines.export import SwapGraph, to_onnx
from engines.live_graph import live_graph
from engines.mesh_subset import MESH_SUBSET
from engines.network import TIERS, build_decoder, build_encoder, config

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="tensorrt-rtx is not installed: pip install '.[rtx]' (Linux or Windows, x86-64)",
)


def network(sizes) -> bytes:
    sizes = dataclasses.replace(sizes, mesh_points=len(MESH_SUBSET))
    return to_onnx(SwapGraph(build_encoder(sizes, seed=0), build_decoder(sizes, seed=1)).eval())


@pytest.fixture(scope="module")
def small_model(small_sizes):
    return network(small_sizes)


@pytest.fixture(scope="module", params=TIERS)
def tier_model(request):
    return network(config(request.param))


# ---- real builds, without a GPU --------------------------------------------------------------------------------------


@needs_rtx
@pytest.mark.parametrize("sm", [(8, 6), (8, 9), (12, 0)])
def test_plans_of_all_tiers_are_fp16(tier_model, sm):
    seen: list[tuple[float, float]] = []
    plan = build_plan(BuildRequest(tier_model, "tensorrt-rtx", sm), lambda *now: seen.append(now))
    assert (plan.precision, plan.sm, plan.backend) == ("fp16", sm, "tensorrt-rtx")
    assert plan.weighted.keys() == {"fp16"}
    assert plan.weighted["fp16"] >= 20
    assert plan.layers["uint8"] == 2  # pictures leave as bytes
    weights = build.count_weights(live_graph(tier_model, "fp16"))
    assert 2 * weights < len(plan.data) < 2 * weights + 2.9e6
    assert plan.backend_version == available_backends()[0].version
    assert seen
    assert all(typical > 0 for _, typical in seen)
    assert [elapsed for elapsed, _ in seen] == sorted(elapsed for elapsed, _ in seen)


@needs_rtx
def test_a_graph_that_is_fp32_although_fp16_was_asked_is_an_error(monkeypatch):
    model = network(config("tiny"))
    monkeypatch.setattr(build, "live_graph", lambda onnx, precision: live_graph(onnx, "fp32"))
    with pytest.raises(PlanRefusedError, match="came out FP32: 23 of 23"):
        build_plan(BuildRequest(model, "tensorrt-rtx", (8, 9)))
    plan = build_plan(BuildRequest(model, "tensorrt-rtx", (8, 9), "fp32"))
    assert (plan.precision, dict(plan.weighted)) == ("fp32", {"fp32": 23})


@needs_rtx
@pytest.mark.parametrize(
    ("sm", "precision", "match"),
    [((9, 0), "fp16", r"SM 9\.0.*7\.5, 8\.0, 8\.6, 8\.9, 12\.0"), ((7, 5), "fp32", r"SM 7\.5 take FP16 plans only")],
)
def test_cards_that_cannot_be_built_for_are_named(small_model, sm, precision, match):
    with pytest.raises(BuildError, match=match):
        build_plan(BuildRequest(small_model, "tensorrt-rtx", sm, precision))


@needs_rtx
def test_the_worker_dies_with_the_build(small_model, monkeypatch):
    started = []
    real = subprocess.Popen

    def popen(*arguments, **options):
        started.append(real(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(build.subprocess, "Popen", popen)

    def interrupt(elapsed_s, typical_s):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plan(BuildRequest(small_model, "tensorrt-rtx", (8, 9)), interrupt)
    assert started[0].returncode is not None


def test_a_backend_that_is_not_there_says_how_to_get_it(small_model, monkeypatch):
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("tensorrt is installed here")
    with pytest.raises(BuildError, match=r"tensorrt cannot be imported.*\.\[tensorrt\]"):
        build_plan(BuildRequest(small_model, "tensorrt", (8, 9)))
    info = available_backends()[1]
    assert (info.name, info.version) == ("tensorrt", None)
    assert "[tensorrt]" in info.reason


# ---- what comes back from the worker ---------------------------------------------------------------------------------


def test_a_crash_after_the_result_does_no_harm_and_one_before_is_told(tmp_path):
    (tmp_path / "said").write_text("loading\nout of memory\n")
    with pytest.raises(BuildError, match="killed by signal 9: out of memory"):
        build._result(tmp_path, -9)
    with pytest.raises(BuildError, match="ended with 3"):
        build._result(tmp_path, 3)
    (tmp_path / "result.json").write_text(json.dumps({"seconds": 1.0}))
    assert build._result(tmp_path, -11) == {"seconds": 1.0}
    (tmp_path / "result.json").write_text(json.dumps({"error": "what", "hint": "repair"}))
    with pytest.raises(BuildError) as caught:
        build._result(tmp_path, 0)
    assert (caught.value.message, caught.value.hint) == ("what", "repair")


def test_no_room_for_the_builds_files_is_a_named_error(small_model, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BuildError, match="No space left") as caught:
        build_plan(BuildRequest(small_model, "tensorrt-rtx", (8, 9)))
    assert "temporary files" in caught.value.hint


def test_a_build_that_hangs_is_ended(tmp_path, monkeypatch):
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    if sys.platform == "win32":
        pytest.skip("needs a shell")
    monkeypatch.setattr(build.sys, "executable", str(sleeper))
    monkeypatch.setattr(build, "TIMEOUT_S", 0.3)
    with pytest.raises(BuildError, match="took more than"):
        build._run_worker(tmp_path, 1.0, None)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_a_build_has_a_lower_priority(tmp_path, monkeypatch):
    shell = tmp_path / "python"
    shell.write_text("#!/bin/sh\nsleep 0.2\nnice > nice\necho '{}' > result.json\n")
    shell.chmod(0o755)
    monkeypatch.setattr(build.sys, "executable", str(shell))
    build._run_worker(tmp_path, 1.0, None)
    assert int((tmp_path / "nice").read_text()) == min(os.nice(0) + 10, 19)


def test_on_windows_too(tmp_path, monkeypatch):
    (tmp_path / "result.json").write_text("{}")
    started = {}

    class Ended:
        pid, returncode = 0, 0

        def __init__(self, command, **options):
            started.update(options)

        def poll(self):
            return 0

    monkeypatch.setattr(build.subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0x4000, raising=False)
    monkeypatch.setattr(build.subprocess, "Popen", Ended)
    monkeypatch.setattr(build, "_be_nice", lambda _: None)
    build._run_worker(tmp_path, 1.0, None)
    assert started["creationflags"] == 0x4000


# ---- precision -------------------------------------------------------------------------------------------------------


def inspector(*rows: tuple[str, str, str, str]) -> str:
    """(type, input, output, weights) as the inspector writes them."""
    words = {"fp16": "Channel major FP16 format where channel % 8 == 0", "fp32": "Row major linear FP32", "": "N/A"}
    layers = []
    for kind, into, out, weights in rows:
        row = {"Name": "x", "LayerType": kind, "Inputs": [{"Format/Datatype": words[into]}],
               "Outputs": [{"Format/Datatype": words[out]}]}  # fmt: skip
        layers.append(row | ({"Weights": {"Type": weights, "Count": 9}} if weights else {}))
    return json.dumps({"Layers": layers, "Bindings": []})


def test_the_inspectors_words_are_understood():
    text = inspector(
        ("CaskConvolution", "fp16", "fp16", "Half"), ("CaskConvolution", "fp16", "fp32", "Half"),
        ("gemm", "fp32", "fp32", "Float"), ("Reformat", "fp32", "fp16", ""), ("PointWiseV2", "", "fp32", ""),
    )  # fmt: skip
    found = build_worker.inspector_layers(text)
    assert found == {"all": {"fp16": 3, "fp32": 2}, "heavy": {"fp16": 2, "fp32": 1}}
    modern = json.dumps({"Layers": [{"Name": "k", "LayerType": "kgen", "Outputs": [{"Format/Datatype": "Half"}]}]})
    assert build_worker.inspector_layers(modern) == {"all": {"fp16": 1}, "heavy": {}}
    for nothing in ("", "no json", "{}", '{"Layers": ["conv1", "conv2"]}', "[]"):
        assert build_worker.inspector_layers(nothing) is None


def test_convolutions_of_blackwell_are_told_apart():
    text = inspector(("correlation", "fp32", "fp32", ""), ("kgen", "fp16", "fp16", ""))
    assert build_worker.inspector_layers(text) == {"all": {"fp32": 1, "fp16": 1}, "heavy": {"fp32": 1}}


@needs_rtx
@pytest.mark.parametrize(
    ("rows", "source"),
    [
        ([("CaskConvolution", "fp16", "fp16", "Half")], "inspector"),
        ([("Myelin", "", "", "")], "graph"),  # one block, its insides unknown: no reason to refuse the plan
        ([("PointWise", "fp16", "fp16", "")], "graph"),
    ],
)
def test_an_engine_that_says_nothing_of_its_weights_is_judged_by_its_graph(
    small_model, tmp_path, monkeypatch, rows, source
):
    found = build_worker.inspector_layers(inspector(*rows))
    monkeypatch.setattr(build_worker, "_inspected", lambda trt, log, plan: found)
    (tmp_path / "model.onnx").write_bytes(live_graph(small_model, "fp16"))
    (tmp_path / "request.json").write_text(json.dumps({"backend": "tensorrt-rtx", "sm": [8, 9], "precision": "fp16"}))
    result = build_worker.build(tmp_path)
    assert result["source"] == source
    weights = build.count_weights((tmp_path / "model.onnx").read_bytes())
    check_precision("fp16", result["layers"], source, (tmp_path / "plan").stat().st_size, weights)


@pytest.mark.parametrize(
    ("layers", "size", "source", "refused"),
    [
        ({"all": {"fp16": 30, "fp32": 20}, "heavy": {"fp16": 20}}, 2_000_000, "graph", False),
        ({"all": {"fp16": 30, "fp32": 20}, "heavy": {"fp16": 20}}, 8_000_000, "graph", True),  # the weights are FP32
        ({"all": {"fp16": 30, "fp32": 20}, "heavy": {"fp16": 20}}, 8_000_000, "inspector", False),
        ({"all": {"fp16": 9, "fp32": 20}, "heavy": {"fp16": 17, "fp32": 3}}, 9, "inspector", False),
        ({"all": {"fp16": 30, "fp32": 20}, "heavy": {"fp16": 10, "fp32": 10}}, 9, "inspector", True),
        ({"all": {"fp16": 30}, "heavy": {"fp32": 20}}, 9, "inspector", True),
        ({"all": {"fp32": 30}, "heavy": {}}, 9, "inspector", True),
        ({"all": {"fp16": 30, "fp32": 2}, "heavy": {}}, 9, "inspector", False),
        ({"all": {"other": 4}, "heavy": {}}, 9, "inspector", True),
    ],
)
def test_a_plan_that_came_out_fp32_is_refused(layers, size, source, refused):
    weights = 1_000_000
    if refused:
        with pytest.raises(PlanRefusedError, match="came out FP32"):
            check_precision("fp16", layers, source, size, weights)
    else:
        check_precision("fp16", layers, source, size, weights)
    check_precision("fp32", layers, source, size, weights)


# ---- versions --------------------------------------------------------------------------------------------------------


def fake_trt(version: str, creation: dict[str, int], builder_flags: tuple[str, ...], name: str = "tensorrt"):
    trt = types.ModuleType(name)
    trt.__version__ = version
    trt.NetworkDefinitionCreationFlag = types.SimpleNamespace(**creation)
    trt.BuilderFlag = types.SimpleNamespace(**{flag: flag for flag in builder_flags})
    trt.ProfilingVerbosity = types.SimpleNamespace(DETAILED="detailed")
    trt.MemoryPoolType = types.SimpleNamespace(WORKSPACE="workspace")
    trt.TacticSource = types.SimpleNamespace(EDGE_MASK_CONVOLUTIONS=3, JIT_CONVOLUTIONS=4)
    trt.PreviewFeature = types.SimpleNamespace(DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805="core")
    return trt


class Config:
    def __init__(self) -> None:
        self.said: list[tuple] = []

    def __getattr__(self, name: str):
        return lambda *arguments: self.said.append((name, *arguments))


OLD = fake_trt("8.5.3.1", {"EXPLICIT_BATCH": 0}, ("FP16", "TF32"))
TEN = fake_trt("10.16.1", {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}, ("FP16", "TF32"))
ELEVEN = fake_trt("11.0.0", {"STRONGLY_TYPED": 1}, ("TF32",))
LATER = fake_trt("12.0.0", {}, ("TF32",))
"""A TensorRT that no longer names what it cannot do without."""
RTX = fake_trt("1.7.1", {"STRONGLY_TYPED": 1}, ("TF32",), "tensorrt_rtx")


@pytest.mark.parametrize(("trt", "flags"), [(OLD, 1), (TEN, 3), (ELEVEN, 2), (LATER, 0), (RTX, 2)])
def test_networks_are_strongly_typed_where_that_is_known(trt, flags):
    assert build_worker._network_flags(trt) == flags


@pytest.mark.parametrize("trt", [OLD, TEN, ELEVEN, LATER, RTX])
def test_only_the_oldest_gets_the_fp16_flag(trt):
    half, single = Config(), Config()
    build_worker._configure(trt, half, "fp16")
    build_worker._configure(trt, single, "fp32")
    assert (("set_flag", "FP16") in half.said) == (trt is OLD)
    assert ("clear_flag", "TF32") in single.said
    assert ("set_flag", "FP16") not in single.said
    assert (("set_tactic_sources", 24) in half.said) == (trt is OLD)
    assert any(said[0] == "set_memory_pool_limit" for said in half.said) == (trt is not RTX)
    assert half.__dict__["profiling_verbosity"] == "detailed"


def test_tensorrt_builds_for_the_card_at_hand_only(monkeypatch):
    for at_hand, match in ((None, "there is none"), ((9, 0), r"GPU at hand \(SM 9\.0\)")):
        monkeypatch.setattr(build_worker, "compute_capability", lambda at_hand=at_hand: at_hand)
        with pytest.raises(build_worker.WorkerError, match=match):
            build_worker._target(TEN, Config(), "tensorrt", (8, 9))
    build_worker._target(TEN, Config(), "tensorrt", (9, 0))


def test_the_digest_follows_the_file_and_the_graphs_version(monkeypatch):
    first = build.model_digest(b"model")
    assert first != build.model_digest(b"another")
    monkeypatch.setattr(build, "LIVE_VERSION", 999)
    assert first != build.model_digest(b"model")


def test_the_worker_is_started_away_from_the_users_folder(tmp_path, monkeypatch):
    """A module of the same name in the working folder must not run."""
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "__init__.py").write_text("raise SystemExit('stranger')")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "request.json").write_text(json.dumps({"backend": "tensorrt", "sm": [8, 9], "precision": "fp16"}))
    monkeypatch.setattr(sys, "path", [str(Path(build.__file__).parents[1]), *sys.path])
    with pytest.raises(BuildError, match="tensorrt"):
        build._run_worker(folder, 1.0, None)
