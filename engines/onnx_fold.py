"""Work out the shape arithmetic that exporters leave in a graph, so that every shape is known without running it.

A reshape to "all but the last axis, then 96 x 4 x 4" arrives as Shape, Slice and Concat nodes on a few integers. With
fixed input shapes they are constants; ONNX's own shape inference does not follow all of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

MAX_ROUNDS = 8
"""A round folds everything that one inference of shapes makes constant."""
MAX_ELEMENTS = 64
"""Shapes are short; anything longer is data, which is not for us to compute."""
_ARITHMETIC = frozenset(
    {"Shape", "Gather", "Slice", "Concat", "Add", "Sub", "Mul", "Div", "Mod", "Reshape", "Squeeze", "Unsqueeze"}
    | {"Cast", "Identity"}
)
_FAILED = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What the reference implementation raises for operands that make no sense; such a node stays as it is."""

Integers = NDArray[np.int64]


def infer_folded(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Fold ``model`` in place and return the shapes of all values that are fixed.

    Raises what ``onnx.shape_inference`` raises for a graph that contradicts itself.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for _ in range(MAX_ROUNDS):
        inferred = shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True).graph
        shapes = {}
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            kind = value.type.tensor_type
            if kind.HasField("shape") and all(d.HasField("dim_value") and d.dim_value >= 0 for d in kind.shape.dim):
                shapes[value.name] = tuple(int(d.dim_value) for d in kind.shape.dim)
        if not _fold(model, shapes):
            break
    return shapes


def _fold(model: ModelProto, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Replace integer arithmetic on constants by its result. Returns whether anything changed."""
    known = {t.name: v for t in model.graph.initializer if (v := _integers(t)) is not None}
    shapes = shapes | {t.name: tuple(t.dims) for t in model.graph.initializer}
    opset = max(entry.version for entry in model.opset_import)
    changed = False
    for index, node in enumerate(model.graph.node):
        if node.op_type == "Constant":
            value = next((_integers(a.t) for a in node.attribute if a.name == "value"), None)
        elif node.op_type in _ARITHMETIC:
            value = _evaluate(node, known, shapes, opset)
        else:
            continue
        if value is None:
            continue
        known[node.output[0]] = value
        if node.op_type != "Constant":
            constant = numpy_helper.from_array(value, node.output[0])
            model.graph.node[index].CopyFrom(helper.make_node("Constant", [], [node.output[0]], value=constant))
            changed = True
    return changed


def _integers(tensor: TensorProto) -> Integers | None:
    """A tensor's numbers, if they are few integers."""
    if tensor.data_type != TensorProto.INT64 or np.prod(tensor.dims) > MAX_ELEMENTS:
        return None
    return np.asarray(numpy_helper.to_array(tensor), np.int64)


def _evaluate(
    node: NodeProto, known: dict[str, Integers], shapes: dict[str, tuple[int, ...]], opset: int
) -> Integers | None:
    """The node's result, if all that it needs is known and the result is few integers."""
    feeds: dict[str, NDArray[np.generic]] = {}
    for name in filter(None, node.input):
        if name in known:
            feeds[name] = known[name]
        elif node.op_type == "Shape" and name in shapes:
            # Only its shape matters: one number, repeated without taking memory.
            feeds[name] = np.broadcast_to(np.float32(0), shapes[name])
        else:
            return None
    from onnx.reference import ReferenceEvaluator  # a third of a second, and most graphs do not need it

    try:
        with np.errstate(all="ignore"):
            (result,) = ReferenceEvaluator(node, opsets={"": opset}).run(None, feeds)
    except _FAILED:
        return None
    value = np.asarray(result)
    return value if value.dtype == np.int64 and value.size <= MAX_ELEMENTS else None
