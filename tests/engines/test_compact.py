"""Weights in fewer bytes: what is stored, how near it comes, and that runtimes get plain weights back."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.compact import BITS, CLIPS, STORAGES, compact, pack, quantise
from engines.errors import ExportError, SettingsError
from engines.onnx_guard import check_onnx
from engines.runtimes import open_runtime
from tests.onnx_models import build, value

INT8 = 127
LAYERS = {
    "conv": (32, 4, 3, 3),  # output channels first
    "gemm": (16, 128),  # transB: likewise
    "matmul": (16, 40),  # output channels last
}


def model(**changes: np.ndarray) -> bytes:
    """(1, 4, 4, 4) -> convolution -> pooled to 32 x 4 -> Gemm with transB -> 16 -> MatMul -> 40."""
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in LAYERS.items()}
    weights |= {"bias": rng.normal(size=32).astype(np.float32), "line": np.array([1, -1], np.int64)} | changes
    nodes = [
        helper.make_node("Conv", ["x", "conv", "bias"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["a", "line"], ["b"]),
        helper.make_node("Gemm", ["b", "gemm"], ["c"], transB=1),
        helper.make_node("MatMul", ["c", "matmul"], ["y"]),
    ]
    made = build(nodes, [value("x", 1, 4, 4, 4)], [value("y", 1, 40)], weights)
    return bytes(made.SerializeToString())


def stored(data: bytes) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load_model_from_string(data).graph.initializer}


def run(data: bytes, name: str) -> np.ndarray:
    x = np.random.default_rng(1).normal(size=(1, 4, 4, 4)).astype(np.float32)
    return open_runtime(data, prefer=[name]).run({"x": x})["y"].copy()


def unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """Steps, worked out with integers."""
    low, high = packed.astype(int) & ((1 << bits) - 1), packed.astype(int) >> bits
    last = sum(row << (j * (8 - bits)) for j, row in enumerate(high))
    return np.concatenate([low, last[None]]).ravel() - (1 << (bits - 1))


def weights_of(data: bytes) -> dict[str, np.ndarray]:
    """The float32 weights that a stored graph stands for, worked out by hand."""
    found = stored(data)
    weights = {name[:-4]: array.astype(np.float32) for name, array in found.items() if name.endswith(".f16")}
    kinds = [(bits, found[f"weights.{storage}"]) for storage, bits in BITS.items() if f"weights.{storage}" in found]
    for bits, row in kinds:
        steps = row.astype(int) if bits == 8 else unpacked(row, bits)
        start = 0
        for i, (name, shape) in enumerate(LAYERS.items()):
            count = int(np.prod(shape))
            weights[name] = steps[start : start + count].reshape(shape) / found[f"weights.{i}.per_unit"]
            start += count
    return {name: np.asarray(array, np.float32) for name, array in weights.items()}


@pytest.mark.parametrize(("storage", "kind"), [("int6", np.uint8), ("int7", np.uint8), ("int8", np.int8)])
def test_divisors_stand_for_output_channels_and_small_weights_stay_f16(storage: str, kind: type) -> None:
    found = stored(compact(model(), storage))
    assert [found[f"weights.{i}.per_unit"].shape for i in range(3)] == [(32, 1, 1, 1), (16, 1), (1, 40)]
    row = found[f"weights.{storage}"]
    assert row.dtype == kind
    assert 0 <= row.size * 8 - BITS[storage] * sum(int(np.prod(shape)) for shape in LAYERS.values()) < 64
    assert found["bias.f16"].dtype == np.float16
    assert found["line"].dtype == np.int64
    assert not set(LAYERS) & set(found)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("storage", STORAGES)
def test_both_runtimes_compute_with_the_stored_weights(name: str, storage: str) -> None:
    """The graph does just what a float32 graph of the rounded weights does, and is near to the original one.

    OpenVINO would quantise the inputs of linear layers as well, were their weights restored by Cast and Mul.
    """
    data = compact(model(), storage)
    check_onnx(data)
    np.testing.assert_allclose(run(data, name), run(model(**weights_of(data)), name), rtol=1e-4, atol=1e-3)
    exact = run(model(), name)
    error = np.sqrt(np.mean((run(data, name) - exact) ** 2) / np.mean(exact**2))
    assert 0 < error < {"int6": 0.08, "int7": 0.04, "int8": 0.02, "float16": 0.001}[storage]


@pytest.mark.parametrize("storage", STORAGES)
def test_onnx_runtime_sees_float32_weights_once_it_is_loaded(tmp_path, storage: str) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(compact(model(), storage), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(tmp_path / "optimised.onnx").graph
    assert sorted(node.op_type for node in graph.node) == ["Conv", "Gemm", "MatMul", "Reshape"]
    assert {t.data_type for t in graph.initializer} == {TensorProto.FLOAT, TensorProto.INT64}


@pytest.mark.parametrize("storage", STORAGES)
def test_openvino_sees_float32_weights_once_it_is_loaded(storage: str) -> None:
    from engines.runtimes.openvino import import_openvino

    core = import_openvino().Core()

    def layers(data: bytes) -> list[str]:
        compiled = core.compile_model(core.read_model(data, b""), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        nodes = compiled.get_runtime_model().get_ordered_ops()
        return sorted(node.get_rt_info()["layerType"].astype(str) for node in nodes)

    assert layers(compact(model(), storage)) == layers(model())


@pytest.mark.parametrize(("bits", "rows"), [(6, 3), (7, 7)])
def test_every_number_is_packed_and_found_again(bits: int, rows: int) -> None:
    most = (1 << (bits - 1)) - 1
    steps = np.arange(-most, most + 1, dtype=np.int8)
    for order in (steps, steps[::-1].copy(), np.random.default_rng(0).permutation(steps), steps[:5]):
        packed = pack(order, bits)
        assert packed.shape == (rows, -(-len(order) // (rows + 1)))
        assert packed.dtype == np.uint8
        found = unpacked(packed, bits)
        np.testing.assert_array_equal(found[: len(order)], order)
        np.testing.assert_array_equal(found[len(order) :], 0)


def test_the_best_clip_cuts_an_outlier_off_and_loses_nowhere() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(3, 40_000)).astype(np.float32)
    weights[1, 0] = 8.0  # alone outside: steps that reach it are too coarse for all the others
    weights[2] = 0.0
    steps, per_unit = quantise(weights, 0, INT8)
    assert per_unit.shape == (3, 1)
    assert np.abs(steps).max() <= INT8
    np.testing.assert_array_equal(steps[2], 0)
    assert INT8 / per_unit[1, 0] < 7.5
    error = ((steps / per_unit - weights) ** 2).sum(1)
    naive = INT8 / np.maximum(np.abs(weights).max(1, keepdims=True), 1e-3)
    plain = ((np.rint(weights * naive) / naive - weights) ** 2).sum(1)
    assert error[1] < 0.95 * plain[1]
    assert (error <= plain * (1 + 1e-6)).all()
    assert CLIPS[-1] == 1.0


def test_quantise_takes_any_axis() -> None:
    weights = np.random.default_rng(0).normal(size=(5, 7, 3)).astype(np.float32)
    for axis in range(3):
        steps, per_unit = quantise(weights, axis, INT8)
        assert per_unit.shape == tuple(n if i == axis else 1 for i, n in enumerate(weights.shape))
        np.testing.assert_allclose(steps / per_unit, weights, atol=0.1)
        moved, _ = quantise(np.ascontiguousarray(np.moveaxis(weights, axis, 0)), 0, INT8)
        np.testing.assert_array_equal(np.moveaxis(steps, axis, 0), moved)


def test_a_weight_used_twice_stays_f16() -> None:
    weight = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Gemm", ["a", "w"], ["y"], transB=1)]
    twice = build(nodes, [value("x", 1, 32)], [value("y", 1, 32)], {"w": weight}).SerializeToString()
    assert set(stored(compact(twice, "int8"))) == {"w.f16"}


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("bad", [1e6, np.nan, np.inf])
def test_weights_that_cannot_be_stored_are_refused(storage: str, bad: float) -> None:
    weights = np.ones(LAYERS["conv"], np.float32)
    weights[0, 0, 0, 0] = bad
    with pytest.raises(ExportError, match="conv does not fit"):
        compact(model(conv=weights), storage)


def test_denormal_weights_become_zero_not_nan() -> None:
    steps, per_unit = quantise(np.full((1, 600), 1e-45, np.float32), 0, INT8)
    np.testing.assert_array_equal(steps / per_unit, 0)


def test_unknown_storage_is_refused() -> None:
    with pytest.raises(SettingsError, match="int4"):
        compact(model(), "int4")  # type: ignore[arg-type]
