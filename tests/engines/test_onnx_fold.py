"""Shape arithmetic of exporters is worked out; data is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, shape_inference

from engines.onnx_fold import infer_folded
from engines.onnx_guard import check_onnx
from tests.onnx_models import build, value


def unflatten(last: int = 2):
    """What torch's exporter writes for ``x.unflatten(1, (3, 2))`` of a (1, 6) array, with its axis worked out."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Mod", ["axis", "rank"], ["positive"]),
        helper.make_node("Slice", ["shape", "zero", "positive"], ["front"]),
        helper.make_node("Concat", ["front", "inner"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    weights = {"axis": [3], "rank": [2], "zero": [0], "inner": [3, last]}
    arrays = {name: np.array(numbers, np.int64) for name, numbers in weights.items()}
    return build(nodes, [value("x", 1, 6)], [value("y", 1, 3, 2)], arrays)


def test_unflatten_becomes_constants() -> None:
    model = unflatten()
    shapes = infer_folded(model)
    assert shapes["y"] == (1, 3, 2)
    assert [node.op_type for node in model.graph.node] == ["Constant"] * 4 + ["Reshape"]
    check_onnx(unflatten().SerializeToString())


def test_chains_of_reshapes_need_several_rounds() -> None:
    """Each Shape is known only after the reshape before it is."""
    nodes = []
    for i in range(4):
        nodes += [
            helper.make_node("Shape", [f"v{i}"], [f"s{i}"]),
            helper.make_node("Gather", [f"s{i}", "swap"], [f"t{i}"]),
            helper.make_node("Reshape", [f"v{i}", f"t{i}"], [f"v{i + 1}"]),
        ]
    model = build(nodes, [value("v0", 2, 3)], [value("v4", 2, 3)], {"swap": np.array([1, 0], np.int64)})
    shapes = infer_folded(model)
    assert [shapes[f"v{i}"] for i in range(5)] == [(2, 3), (3, 2), (2, 3), (3, 2), (2, 3)]


def test_arithmetic_that_makes_no_sense_is_an_error() -> None:
    nodes = [
        helper.make_node("Mod", ["nine", "ten"], ["far"]),
        helper.make_node("Gather", ["k", "far"], ["g"]),
        helper.make_node("Relu", ["x"], ["y"]),
    ]
    weights = {"k": np.array([1, 2], np.int64), "nine": np.array([9], np.int64), "ten": np.array([10], np.int64)}
    with pytest.raises(shape_inference.InferenceError):
        infer_folded(build(nodes, [value("x", 4)], [value("y", 4)], weights))


def test_long_integers_are_data() -> None:
    weights = {"k": np.arange(65), "one": np.array([1], np.int64)}
    nodes = [helper.make_node("Add", ["k", "one"], ["g"]), helper.make_node("Relu", ["x"], ["y"])]
    model = build(nodes, [value("x", 4)], [value("y", 4)], weights)
    assert infer_folded(model)["g"] == (65,)
    assert model.graph.node[0].op_type == "Add"
