from __future__ import annotations

import dataclasses
import io
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from engines import live_graph as live
from engines.compact import compact
from engines.errors import BuildError
from engines.export import SwapGraph, to_onnx
from engines.live_graph import live_graph, rounded_graph
from engines.mesh_subset import MESH_SUBSET
from engines.network import build_decoder, build_encoder
from engines.plan_check import graph_runner

POINTS = len(MESH_SUBSET)


@pytest.fixture(scope="module")
def model(small_sizes):
    sizes = dataclasses.replace(small_sizes, mesh_points=POINTS)
    encoder, decoder = build_encoder(sizes, seed=0), build_decoder(sizes, seed=1)
    with torch.no_grad():
        decoder.head.weight.mul_(10)  # as freshly made, pictures hardly depend on the code
    return to_onnx(SwapGraph(encoder, decoder).eval())


def feeds(seed: int = 0, **changes: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "crop": rng.integers(0, 256, (1, 32, 32, 3), np.uint8),
        "points": rng.normal(0.5, 0.1, (1, POINTS, 2)).astype(np.float32),
        "present": np.ones((1, 1), np.float32),
        "code_gain": rng.uniform(0.8, 1.25, (1, 24)).astype(np.float32),
        "code_shift": rng.normal(0, 0.3, (1, 24)).astype(np.float32),
    } | changes


def reference(model: bytes, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the float32 path gives, as bytes."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    face = np.ascontiguousarray(given["crop"][..., ::-1].transpose(0, 3, 1, 2), np.float32) / 255
    rest = {name: value for name, value in given.items() if name != "crop"}
    swap, mask, code = session.run(["swap", "mask", "code"], {"face": face, **rest})
    level = lambda x: np.floor(x * 255 + 0.5).astype(np.uint8)  # noqa: E731
    return {"pixels": level(swap).transpose(0, 2, 3, 1)[..., ::-1], "mask": level(mask)[:, 0], "code": code}


def largest(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found.astype(np.float64) - expected).max())


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_the_graph_agrees_with_the_float32_path_within_one_level(model, precision):
    run = graph_runner(live_graph(model, precision))
    for seed in range(6):
        given = feeds(seed, present=np.full((1, 1), float(seed % 2), np.float32))
        found, expected = run(given), reference(model, given)
        assert found["pixels"].dtype == found["mask"].dtype == np.uint8
        assert largest(found["pixels"], expected["pixels"]) <= 1
        assert largest(found["mask"], expected["mask"]) <= 1
        assert largest(found["code"], expected["code"]) < (1e-5 if precision == "fp32" else 5e-3)
        assert np.std(expected["pixels"]) > 5


def test_the_interface_is_bytes_and_the_arithmetic_fp16(model):
    graph = onnx.load_model_from_string(live_graph(model)).graph
    sides = {
        v.name: (v.type.tensor_type.elem_type, [d.dim_value for d in v.type.tensor_type.shape.dim])
        for v in (*graph.input, *graph.output)
    }
    byte, single = TensorProto.UINT8, TensorProto.FLOAT
    assert sides == {
        "crop": (byte, [1, 32, 32, 3]), "points": (single, [1, POINTS, 2]), "present": (single, [1, 1]),
        "code_gain": (single, [1, 24]), "code_shift": (single, [1, 24]),
        "pixels": (byte, [1, 32, 32, 3]), "mask": (byte, [1, 32, 32]), "code": (single, [1, 24]),
    }  # fmt: skip
    weights = {t.name: t.data_type for t in graph.initializer}
    heavy = [n for n in graph.node if n.op_type in {"Conv", "Gemm"}]
    assert len(heavy) > 8
    assert {weights[n.input[1]] for n in heavy} == {TensorProto.FLOAT16}
    assert len(live_graph(model)) < 0.6 * len(live_graph(model, "fp32"))


@pytest.mark.parametrize("storage", ["int7", "int8", "float16"])
def test_weights_are_taken_out_of_their_storage(model, storage):
    stored = compact(model, storage)
    graph = onnx.load_model_from_string(live_graph(stored)).graph
    assert not {"Split", "Div", "Floor"} & {n.op_type for n in graph.node if n.name.startswith("weights")}
    assert all(t.data_type != TensorProto.INT8 for t in graph.initializer)
    given = feeds(3)
    found, expected = graph_runner(live_graph(stored, "fp32"))(given), reference(stored, given)
    assert largest(found["pixels"], expected["pixels"]) <= 1
    assert largest(found["code"], expected["code"]) < 1e-5


def test_a_persona_without_points_and_calibration(model, small_sizes):
    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = build_encoder(small_sizes, seed=0), build_decoder(small_sizes, seed=1)

        def forward(self, face):
            code = self.encoder(face)
            picture, mask = self.decoder(code)
            return picture.clamp(0, 1), torch.sigmoid(mask), code

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the exporter
        torch.onnx.export(
            Plain().eval(), (torch.zeros(1, 3, 32, 32),), buffer, input_names=["face"],
            output_names=["swap", "mask", "code"], opset_version=17, dynamo=False,
        )  # fmt: skip
    plain = buffer.getvalue()
    given = {"crop": feeds()["crop"]}
    found, expected = graph_runner(live_graph(plain))(given), reference(plain, given)
    assert largest(found["pixels"], expected["pixels"]) <= 1
    assert largest(found["mask"], expected["mask"]) <= 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38, -1e38, 1e9, 70000.0, -70000.0])
@pytest.mark.parametrize("name", ["points", "present", "code_gain", "code_shift"])
def test_nothing_that_is_fed_makes_nan(runner, name, bad):
    crops = (np.zeros((1, 32, 32, 3), np.uint8), np.full((1, 32, 32, 3), 255, np.uint8))
    for crop in crops:
        given = feeds(crop=crop)
        given[name] = np.full_like(given[name], bad)
        found = runner(given)
        assert np.isfinite(found["code"]).all()
        assert found["pixels"].std() > 0


@pytest.fixture(scope="module")
def runner(model):
    return graph_runner(live_graph(model))


def test_points_that_are_absent_do_not_count_whatever_they_are(runner):
    absent = np.zeros((1, 1), np.float32)
    garbage = np.full((1, POINTS, 2), np.nan, np.float32)
    first, second = runner(feeds(present=absent)), runner(feeds(present=absent, points=garbage))
    np.testing.assert_array_equal(first["pixels"], second["pixels"])


def changed(model: bytes, name: str, factor: float) -> bytes:
    proto = onnx.load_model_from_string(model)
    weight = next(t for t in proto.graph.initializer if t.name == name)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), name))
    return proto.SerializeToString()


def test_an_overflow_in_the_decoder_is_reported_and_hides_the_wearer(model):
    overflowing = changed(changed(model, "decoder.to_grid.weight", 3e4), "decoder.body.0.conv.weight", 3e3)
    given = feeds(1)
    assert np.isfinite(reference(overflowing, given)["code"]).all()
    found = graph_runner(live_graph(overflowing))(given)
    assert np.isnan(found["code"]).all()
    assert found["mask"].min() == 255  # every mask value of 0 would show the wearer
    assert np.isfinite(graph_runner(live_graph(model))(given)["code"]).all()


def test_rounding_is_really_done(model):
    given = feeds(2)
    exact = graph_runner(live_graph(model, "fp32"))(given)["code"]
    half = graph_runner(live_graph(model, "fp16"))(given)["code"]
    assert (half == half.astype(np.float16)).all()
    assert not (exact == exact.astype(np.float16)).all()
    assert (
        rounded_graph(live_graph(model, "fp32"))
        == onnx.load_model_from_string(live_graph(model, "fp32")).SerializeToString()
    )  # nothing to round there


def test_the_same_file_gives_the_same_graph(model):
    assert live_graph(model) == live_graph(model)


def test_weights_beyond_fp16_are_refused_by_name(model):
    with pytest.raises(BuildError, match=r"head\.weight.*FP16"):
        live_graph(changed(model, "decoder.head.weight", 1e7))
    assert live_graph(changed(model, "decoder.head.weight", 1e7), "fp32")


def foreign(operator: str = "Erf", *, output: str = "swap") -> bytes:
    kind = helper.make_tensor_value_info
    outputs = [kind(n, TensorProto.FLOAT, (1, 3, 8, 8)) for n in (output, "mask", "code")]
    nodes = [helper.make_node(operator, ["face"], [v.name]) for v in outputs]
    graph = helper.make_graph(nodes, "g", [kind("face", TensorProto.FLOAT, (1, 3, 8, 8))], outputs)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return made.SerializeToString()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (foreign(), "operator 'Erf'"),
        (foreign(output="face_out"), "no persona"),
        (b"\xff\xff not onnx", "parsed|operator sets"),
        (b"", "operator sets"),
    ],
)
def test_foreign_graphs_are_refused(data, match):
    with pytest.raises(BuildError, match=match):
        live_graph(data)


def weakly_typed(given: np.ndarray) -> np.ndarray:
    """``code`` of a picture where everything is rounded to FP16, as a builder of weak types may do it."""
    writer = live._Writer(half=True, opset=17)
    writer.floats.update({"net.code": TensorProto.FLOAT, "picture": TensorProto.FLOAT16})
    live._write_code(writer, ["picture"])
    inputs = [
        helper.make_tensor_value_info("net.code", TensorProto.FLOAT, (1, 3)),
        helper.make_tensor_value_info("picture", TensorProto.FLOAT16, given.shape),
    ]
    outputs = [helper.make_tensor_value_info("code", TensorProto.FLOAT, (1, 3))]
    graph = helper.make_graph(writer.nodes, "health", inputs, outputs, list(writer.tensors.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    values = {"net.code": np.ones((1, 3), np.float32), "picture": given}
    values |= {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        alone = helper.make_model(
            helper.make_graph([node], "one", [], [onnx.ValueInfoProto(name=name) for name in node.output],
                              [numpy_helper.from_array(np.asarray(values[n]), n) for n in node.input]),
            opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
        )  # fmt: skip
        session = onnxruntime.InferenceSession(alone.SerializeToString(), providers=["CPUExecutionProvider"])
        for name, value in zip(node.output, session.run(None, {}), strict=True):
            with np.errstate(over="ignore"):
                rounded = value.astype(np.float16).astype(np.float32) if value.dtype == np.float32 else value
            values[name] = rounded
    return values["code"]


@pytest.mark.parametrize("level", [0.5, 60000.0, -60000.0])
def test_a_large_picture_is_sound_even_where_sums_are_fp16(level):
    """TensorRT 8.5 knows no strong types: a sum that overflowed there would refuse every plan."""
    picture = np.full((1, 4, 256, 256), level, np.float16)
    np.testing.assert_array_equal(weakly_typed(picture), 1.0)
    for bad in (np.nan, np.inf, -np.inf):
        picture[0, 3, 255, 7] = bad
        assert np.isnan(weakly_typed(picture)).all()
