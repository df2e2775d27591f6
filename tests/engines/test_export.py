from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper

from engines import export
from engines.compact import compact
from engines.errors import ExportError
from engines.mesh_subset import MESH_SUBSET
from engines.network import build, build_decoder, build_encoder
from engines.onnx_guard import check_onnx
from engines.runtimes import open_runtime

RUNTIMES = ("openvino", "onnxruntime")


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def points():
    return np.random.default_rng(1).normal(0.5, 0.1, (16, len(MESH_SUBSET), 2)).astype(np.float32)


@pytest.fixture
def networks(small_sizes):
    return build_encoder(small_sizes, seed=0), build_decoder(small_sizes, seed=1)


@pytest.fixture(scope="module")
def mesh_networks(small_sizes):
    sizes = dataclasses.replace(small_sizes, mesh_points=len(MESH_SUBSET))
    encoder, decoder = build_encoder(sizes, seed=0), build_decoder(sizes, seed=1)
    with torch.no_grad():
        encoder.points.mean.uniform_(0.3, 0.7)
        decoder.head.weight.mul_(10)  # as freshly made, pictures hardly depend on the code
    return encoder, decoder


@pytest.fixture(scope="module")
def exported(mesh_networks, crops, points):
    return export.export_swap(*mesh_networks, crops, points)


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(exported, request):
    return open_runtime(exported.onnx_f32, prefer=[request.param])


def feeds(seed: int = 0, **changes: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "face": rng.random((1, 3, 32, 32), np.float32),
        "points": rng.normal(0.5, 0.1, (1, len(MESH_SUBSET), 2)).astype(np.float32),
        "present": np.ones((1, 1), np.float32),
        "code_gain": np.ones((1, 24), np.float32),
        "code_shift": np.zeros((1, 24), np.float32),
    } | changes


def run(runtime, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in runtime.run(given).items()}


def shapes(model: bytes) -> dict[str, list[int]]:
    graph = onnx.load_model_from_string(model).graph
    return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.input, *graph.output)}


def test_export_agrees_and_ships_seven_bits(networks, crops):
    exported = export.export_swap(*networks, crops)
    assert exported.f32.max_abs_error <= 1e-3
    assert exported.f32.crops == exported.shipped.crops == 16
    assert exported.weights == "int7"
    assert min(exported.shipped.swap_psnr_db, exported.shipped.mask_psnr_db) >= 40
    assert exported.shipped.max_abs_error > exported.f32.max_abs_error
    assert shapes(exported.onnx) == {
        "face": [1, 3, 32, 32], "code_gain": [1, 24], "code_shift": [1, 24],
        "swap": [1, 3, 32, 32], "mask": [1, 1, 32, 32], "code": [1, 24],
    }  # fmt: skip
    graph = onnx.load_model_from_string(exported.onnx).graph
    many = {i.data_type for i in graph.initializer if np.prod(i.dims) > 512}
    assert many == {TensorProto.UINT8}
    assert {n.domain for n in graph.node} <= {"", "ai.onnx"}


def test_a_graph_with_points_agrees_with_torch_in_both_runtimes(runtime, exported, mesh_networks):
    assert exported.f32.max_abs_error <= 1e-3
    assert shapes(exported.onnx)["points"] == [1, 127, 2]
    assert shapes(exported.onnx)["present"] == [1, 1]
    rng = np.random.default_rng(3)
    calibration = {
        "code_gain": rng.uniform(0.5, 1.5, (1, 24)).astype(np.float32),
        "code_shift": rng.normal(0, 0.5, (1, 24)).astype(np.float32),
    }
    graph = export.SwapGraph(*mesh_networks).eval()
    for given in (feeds(1), feeds(2, **calibration), feeds(3, present=np.zeros((1, 1), np.float32))):
        found = run(runtime, given)
        ordered = (given[n] for n in ("face", "code_gain", "code_shift", "points", "present"))
        with torch.no_grad():
            expected = graph(*map(torch.from_numpy, ordered))
        for name, tensor in zip(export.OUTPUTS, expected, strict=True):
            np.testing.assert_allclose(found[name], tensor.numpy(), atol=1e-4, err_msg=name)


def test_points_count_where_they_are_present_and_only_there(runtime):
    moved = feeds()["points"] + np.float32(0.05)
    for present, changes in ((1.0, True), (0.0, False)):
        flag = np.full((1, 1), present, np.float32)
        before, after = run(runtime, feeds(present=flag)), run(runtime, feeds(present=flag, points=moved))
        for name in ("swap", "code"):
            assert (np.abs(before[name] - after[name]).max() > 1e-3) == changes, (name, present)
    absent = np.zeros((1, 1), np.float32)
    garbage = np.full_like(moved, np.nan)
    assert np.isfinite(run(runtime, feeds(present=absent, points=garbage))["swap"]).all()


def test_gain_and_shift_change_what_the_decoder_gets_and_not_the_code(runtime, mesh_networks):
    rng = np.random.default_rng(4)
    gain = rng.uniform(0.5, 1.5, (1, 24)).astype(np.float32)
    shift = rng.normal(0, 0.5, (1, 24)).astype(np.float32)
    plain, changed = run(runtime, feeds()), run(runtime, feeds(code_gain=gain, code_shift=shift))
    np.testing.assert_allclose(plain["code"], changed["code"], atol=1e-6)
    with torch.no_grad():
        for out, code in ((plain, plain["code"]), (changed, plain["code"] * gain + shift)):
            face, mask = mesh_networks[1](torch.from_numpy(code))
            np.testing.assert_allclose(out["swap"], face.clamp(0, 1).numpy(), atol=1e-4)
            np.testing.assert_allclose(out["mask"], mask.sigmoid().numpy(), atol=1e-4)
    assert np.abs(plain["swap"] - changed["swap"]).max() > 0.01


@torch.no_grad()
def test_outputs_are_clamped(networks):
    networks[1].head.bias[:6] = 3.0
    networks[1].head.bias[6:12] = -3.0
    graph = export.SwapGraph(*networks)
    swap, mask, _ = graph(torch.rand(1, 3, 32, 32), torch.ones(1, 24), torch.zeros(1, 24))
    assert float(swap.max()) == 1
    assert float(swap.min()) == 0
    assert 0 < float(mask.min()) <= float(mask.max()) < 1


def test_the_tiny_tier_exports_to_less_than_half_of_float16():
    graph = export.to_onnx(export.SwapGraph(*build("tiny")))
    int8, float16 = compact(graph, "int8"), compact(graph, "float16")
    assert len(float16) < 3.8e6
    assert len(int8) < 0.52 * len(float16)
    int7 = compact(graph, "int7")
    assert len(int7) < 0.885 * len(int8)
    assert check_onnx(int7).inputs["code_gain"] == (1, 128)


def sabotage(model: bytes, change: float = 0.5) -> bytes:
    proto = onnx.load_model_from_string(model)
    weight = next(i for i in proto.graph.initializer if i.name.endswith("head.weight"))
    values = numpy_helper.to_array(weight).copy()
    values[0] += change
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    return proto.SerializeToString()


def test_a_wrong_graph_is_not_exported(networks, crops, monkeypatch):
    honest = export.to_onnx
    monkeypatch.setattr(export, "to_onnx", lambda graph: sabotage(honest(graph)))
    with pytest.raises(ExportError, match="differs from torch"):
        export.export_swap(*networks, crops)


@pytest.mark.parametrize(
    ("storages", "coarse", "left"),
    [
        (("int7", "int8", "float16"), {"int7"}, "int8"),
        (("int7", "int8", "float16"), {"int7", "int8"}, "float16"),
        (("int6", "float16"), {}, "int6"),
    ],
)
def test_storage_that_is_too_coarse_falls_back_by_name(networks, crops, monkeypatch, storages, coarse, left):
    def sometimes(model, storage):
        return compact(sabotage(model) if storage in coarse else model, storage)

    monkeypatch.setattr(export, "compact", sometimes)
    exported = export.export_swap(*networks, crops, storages=storages)
    assert exported.weights == left
    assert exported.onnx == compact(exported.onnx_f32, left)
    assert min(exported.shipped.swap_psnr_db, exported.shipped.mask_psnr_db) >= export.MIN_PSNR_DB[left]


def test_a_wrong_f16_graph_is_not_exported(networks, crops, monkeypatch):
    monkeypatch.setattr(export, "compact", lambda model, storage: compact(sabotage(model), storage))
    with pytest.raises(ExportError, match=r"float16 weights change the picture to .* dB"):
        export.export_swap(*networks, crops)


def test_weights_beyond_f16_and_nan_are_refused(networks, crops):
    with torch.no_grad():
        networks[1].to_grid.bias[0] = 1e6
    with pytest.raises(ExportError, match="float16"):
        export.export_swap(*networks, crops)
    with torch.no_grad():
        networks[1].to_grid.bias[0] = torch.nan
    with pytest.raises(ExportError):
        export.export_swap(*networks, crops)


def test_crops_points_and_networks_must_fit(networks, mesh_networks, crops, points):
    with pytest.raises(ExportError, match="crops"):
        export.export_swap(*networks, crops[:4])
    with pytest.raises(ExportError, match="decoder"):
        export.SwapGraph(networks[0], build("tiny")[1])
    with pytest.raises(ExportError, match="no points cannot test"):
        export.export_swap(*mesh_networks, crops)
    with pytest.raises(ExportError, match="points"):
        export.export_swap(*mesh_networks, crops, points[:15])
    with pytest.raises(ExportError, match="points"):
        export.export_swap(*networks, crops, points)
