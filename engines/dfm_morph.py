"""The morph of an AMP model without shapes that depend on it.

An AMP model has two codes of the face, and its morph value says how many channels come from the first: Slice, Slice and
Concat with lengths that are known only while it runs. TensorRT plans and the guard want fixed shapes, so the three
nodes become one choice per channel:

    code[c] = first[c] if c + 1 <= channels * morph else second[c]

which is the same: the original cuts channels * morph off to a whole number. Whether three nodes are such a morph is not
believed of their names: their bounds are computed for several values of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

MORPHS = (0.0, 0.11, 0.37, 0.5, 0.73, 0.9, 1.0)
"""Values for which the bounds are computed."""
_MAX_NODES, _MAX_ELEMENTS = 64, 64
"""Of the arithmetic behind one bound."""
_ARITHMETIC = frozenset(
    {"Add", "Cast", "Concat", "Constant", "Div", "Equal", "Floor", "Gather", "Identity", "Mul", "Reshape", "Slice"}
    | {"Squeeze", "Sub", "Unsqueeze", "Where", "Max", "Min", "Neg", "Less", "Greater"}
)
_FAILED = (ArithmeticError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError)

Numbers = NDArray[Any]


def fix_morph(model: ModelProto, morph: str) -> int:
    """Replace every such morph by choices, in place; ``morph`` (1,) is the graph's input. Returns how many there were.

    Shapes of the graph's inputs are fixed. What is no morph stays as it is.
    """
    graph = model.graph
    shapes = _shapes(model)
    made = {name: node for node in graph.node for name in node.output}
    arithmetic = _Arithmetic(model, made, morph)
    count = 0
    for index, node in enumerate(graph.node):
        cut = _cut_of(node, made, shapes, arithmetic) if node.op_type == "Concat" and len(node.input) == 2 else None
        if cut is None:
            continue
        chosen = _choice(graph, cut, morph, f"morph.{count}", str(node.output[0]))
        graph.node[index].CopyFrom(chosen[-1])
        for before in reversed(chosen[:-1]):
            graph.node.insert(index, before)
        count += 1
        break  # positions have moved
    if count:
        prune(graph)
        return count + fix_morph(model, morph)
    return 0


def prune(graph: GraphProto) -> None:
    """Remove nodes and weights that no output needs."""
    needed = {value.name for value in graph.output}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):
        if any(name in needed for name in node.output):
            needed.update(node.input)
            kept.append(node)
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(reversed(kept))
    if len(weights) < len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(weights)


@dataclass(frozen=True, slots=True)
class _Cut:
    """The first channels of one value and the other channels of a second one."""

    first: str
    second: str
    axis: int
    shape: tuple[int, ...]


def _shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """Of the values whose shape is fixed."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    found: dict[str, tuple[int, ...]] = {}
    for value in (*inferred.input, *inferred.value_info):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            found[value.name] = tuple(int(d.dim_value) for d in dims)
    return found


class _Arithmetic:
    """Computes small values that depend on the morph and on constants only."""

    def __init__(self, model: ModelProto, made: dict[str, NodeProto], morph: str) -> None:
        self._opset = max(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
        self._made, self._morph = made, morph
        self._weights = {
            t.name: numpy_helper.to_array(t) for t in model.graph.initializer if np.prod(t.dims) <= _MAX_ELEMENTS
        }

    def value(self, name: str, morph: float) -> Numbers | None:
        """None when it depends on anything else, or is more than arithmetic."""
        known: dict[str, Numbers] = {self._morph: np.array([morph], np.float32)}
        return self._value(name, known, [_MAX_NODES])

    def _value(self, name: str, known: dict[str, Numbers], left: list[int]) -> Numbers | None:
        if name in known:
            return known[name]
        if name in self._weights:
            return np.asarray(self._weights[name])
        node = self._made.get(name)
        left[0] -= 1
        if node is None or node.op_type not in _ARITHMETIC or left[0] < 0:
            return None
        feeds: dict[str, Numbers] = {}
        for given in filter(None, node.input):
            value = self._value(given, known, left)
            if value is None:
                return None
            feeds[given] = value
        from onnx.reference import ReferenceEvaluator

        try:
            (result,) = ReferenceEvaluator(node, opsets={"": self._opset}).run(None, feeds)
        except _FAILED:
            return None
        known[name] = np.asarray(result)
        return known[name] if known[name].size <= _MAX_ELEMENTS else None


def _cut_of(
    node: NodeProto, made: dict[str, NodeProto], shapes: dict[str, tuple[int, ...]], arithmetic: _Arithmetic
) -> _Cut | None:
    """What a Concat of two values puts together, if it is a morph."""
    slices = [made.get(name) for name in node.input]
    first, second = slices
    if first is None or second is None or {first.op_type, second.op_type} != {"Slice"}:
        return None
    if len(first.input) < 3 or len(second.input) < 3:  # an operator set in which bounds are constants
        return None
    shape = shapes.get(first.input[0])
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    if shape is None or shapes.get(second.input[0]) != shape or not -len(shape) <= axis < len(shape):
        return None
    axis %= len(shape)
    whole = [(0, side) for side in shape]
    for morph in MORPHS:
        count = int(np.float32(shape[axis]) * np.float32(morph))
        for part, bounds in ((first, (0, count)), (second, (count, shape[axis]))):
            if _bounds(part, shape, arithmetic, morph) != [*whole[:axis], bounds, *whole[axis + 1 :]]:
                return None
    return _Cut(first.input[0], second.input[0], axis, shape)


def _bounds(
    node: NodeProto, shape: tuple[int, ...], arithmetic: _Arithmetic, morph: float
) -> list[tuple[int, int]] | None:
    """From where to where a Slice cuts, for every axis."""
    given = [arithmetic.value(name, morph) if name else None for name in node.input[1:]]
    starts, ends = given[0], given[1]
    if starts is None or ends is None or any(v is None for v, name in zip(given, node.input[1:], strict=True) if name):
        return None
    axes = given[2] if len(given) > 2 and given[2] is not None else np.arange(len(starts))
    steps = given[3] if len(given) > 3 and given[3] is not None else np.ones(len(starts), np.int64)
    if not len(starts) == len(ends) == len(axes) == len(steps) or not (steps == 1).all():
        return None
    bounds = [(0, side) for side in shape]
    for axis, start, end in zip(axes.tolist(), starts.tolist(), ends.tolist(), strict=True):
        if not -len(shape) <= axis < len(shape):
            return None
        low, high, _ = slice(int(start), int(end)).indices(shape[axis])
        bounds[axis] = (low, max(low, high))
    return bounds


def _choice(graph: GraphProto, cut: _Cut, morph: str, name: str, output: str) -> list[NodeProto]:
    """Nodes that choose per channel, the last of which makes ``output``."""
    channels = cut.shape[cut.axis]
    shape = [channels if axis == cut.axis else 1 for axis in range(len(cut.shape))]
    number = np.arange(1, channels + 1, dtype=np.float32).reshape(shape)
    graph.initializer.append(numpy_helper.from_array(number, f"{name}.number"))
    graph.initializer.append(numpy_helper.from_array(np.array([channels], np.float32), f"{name}.channels"))
    return [
        helper.make_node("Mul", [morph, f"{name}.channels"], [f"{name}.count"]),
        helper.make_node("LessOrEqual", [f"{name}.number", f"{name}.count"], [f"{name}.first"]),
        helper.make_node("Where", [f"{name}.first", cut.first, cut.second], [output]),
    ]


__all__ = ["MORPHS", "fix_morph", "prune"]
