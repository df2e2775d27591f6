"""Smaller files: the weights of a graph stored in 6, 7, 8 or 16 bits, and made float32 again by the graph itself.

    int8        all weights in one row -> Cast to float32 -> Split -> each: Reshape, Div by a number per output channel
    int7, int6  seven bytes hold eight numbers, or three bytes four -> a few nodes take them apart -> as int8
    float16     each weight -> Cast to float32

Storage only: while loading, ONNX Runtime and OpenVINO compute these nodes once, and then run on float32 weights as fast
as before. Div, because either runtime takes the usual forms for leave to compute in int8: ONNX Runtime keeps
DequantizeLinear in the graph, and of a linear layer behind Cast and Mul OpenVINO quantises the inputs as well, which
was measured to change its outputs by half a per cent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from engines.errors import ExportError, SettingsError
from engines.types import F32, U8

Storage = Literal["int6", "int7", "int8", "float16"]
STORAGES: tuple[Storage, ...] = get_args(Storage)
"""The smallest first."""

BITS: dict[Storage, int] = {"int6": 6, "int7": 7, "int8": 8}
"""Of one number. The largest is 2 ** (bits - 1) - 1, the smallest minus that: zero is exact, and -w as precise as w."""
MIN_ELEMENTS = 512
"""Smaller weights stay float16: a number per channel and more nodes would eat up what is saved."""
CLIPS = np.linspace(0.3, 1.0, 36)
"""Largest stored value as a fraction of the channel's largest weight; the best of them is searched for."""
TINY = 1e-20
"""A channel of smaller weights is stored as zeros."""
_ROW = "weights"
"""Prefix of the values that all weights go through together."""

Parts = tuple[list[TensorProto], list[NodeProto]]
"""Tensors that are stored, and nodes that make weights of them."""


def compact(model: bytes, storage: Storage) -> bytes:
    """The same graph with stored weights that are smaller.

    The integer storages are for the weights of convolutions and linear layers of 512 numbers or more; all other float32
    weights become float16, as all do for ``float16``. Raises ExportError for a weight that is not finite or beyond
    float16.
    """
    if storage not in STORAGES:
        raise SettingsError(f"weights cannot be stored as {storage!r}", hint=f"choose one of {', '.join(STORAGES)}")
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    channels = _output_channels(graph) if storage in BITS else {}
    tensors: list[TensorProto] = []
    nodes: list[NodeProto] = []
    large: dict[str, F32] = {}
    for weight in graph.initializer:
        if weight.data_type != TensorProto.FLOAT:
            tensors.append(weight)
            continue
        values = np.asarray(numpy_helper.to_array(weight), np.float32)
        if not (np.abs(values) <= np.finfo(np.float16).max).all():  # NaN is refused as well
            raise ExportError(f"{weight.name} does not fit into float16", hint="train with a smaller learning_rate")
        if weight.name in channels:
            large[weight.name] = values
            continue
        stored = f"{weight.name}.f16"
        tensors.append(numpy_helper.from_array(values.astype(np.float16), stored))
        nodes.append(helper.make_node("Cast", [stored], [weight.name], to=TensorProto.FLOAT))
    if large:
        together = _together(large, channels, BITS[storage])
        tensors += together[0]
        nodes += together[1]
    nodes += graph.node  # nodes must stand in the order of their dependencies
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


def quantise(weights: F32, axis: int, most: int) -> tuple[NDArray[np.int8], F32]:
    """Weights -> steps -most..most of the same shape; steps per unit that broadcast to it, one per index of ``axis``.

    weight = steps / per_unit. Each is the one of CLIPS with the least squared error in its channel: a large weight that
    stands alone is cut off, where all others gain more than it loses. A channel of zeros has 1.
    """
    rows = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)
    largest = np.abs(rows).max(axis=1)
    best = np.full(len(rows), np.inf)
    per_unit = np.ones(len(rows), np.float32)
    for clip in CLIPS:
        tried = np.where(largest > TINY, most / (clip * np.maximum(largest, TINY)), 1.0).astype(np.float32)
        error = ((_steps(rows, tried[:, None], most) / tried[:, None] - rows) ** 2).sum(axis=1)
        better = error < best
        best[better], per_unit[better] = error[better], tried[better]
    shape = [1] * weights.ndim
    shape[axis] = -1
    found = per_unit.reshape(shape)
    return _steps(weights, found, most).astype(np.int8), found


def _steps(weights: F32, per_unit: F32, most: int) -> F32:
    steps: F32 = np.clip(np.rint(weights * per_unit), -most, most)
    return steps


def pack(steps: NDArray[np.int8], bits: int) -> U8:
    """Steps of 6 or 7 bits, in a row, -> (R, columns) uint8; R is 3 or 7. Zeros fill the row up.

    The steps, plus 2 ** (bits - 1), make R + 1 rows. Row j of the first R stands in the low bits of row j of the
    result, and the last row is spread over the high ones: its lowest bits over the first row, and so on.
    """
    free = 8 - bits
    rows = bits // free
    offset = 1 << (bits - 1)
    columns = -(-len(steps) // (rows + 1))
    full = np.zeros((rows + 1) * columns, np.int64)
    full[: len(steps)] = steps
    numbers = full.reshape(rows + 1, columns) + offset
    spread = (numbers[rows] >> (free * np.arange(rows)[:, None])) & ((1 << free) - 1)
    packed: U8 = (numbers[:rows] | (spread << bits)).astype(np.uint8)
    return packed


def _together(weights: Mapping[str, F32], axes: Mapping[str, int], bits: int) -> Parts:
    """All weights as steps in one row, taken apart by Split."""
    tensors: list[TensorProto] = []
    ends: list[NodeProto] = []
    steps: list[NDArray[np.int8]] = []
    for i, (name, values) in enumerate(weights.items()):
        found, per_unit = quantise(values, axes[name], (1 << (bits - 1)) - 1)
        steps.append(found.ravel())
        flat, shape, shaped, divisor = (f"{_ROW}.{i}.{part}" for part in ("flat", "shape", "steps", "per_unit"))
        tensors.append(numpy_helper.from_array(np.array(values.shape, np.int64), shape))
        tensors.append(numpy_helper.from_array(per_unit, divisor))
        ends.append(helper.make_node("Reshape", [flat, shape], [shaped]))
        ends.append(helper.make_node("Div", [shaped, divisor], [name]))
    row = np.concatenate(steps)
    start = _plain(row) if bits == 8 else _unpacked(row, bits)
    sizes = [len(part) for part in steps]
    outputs = [f"{_ROW}.{i}.flat" for i in range(len(steps))]
    if spare := _numbers_of(start[0][0], bits) - len(row):
        sizes.append(spare)
        outputs.append(f"{_ROW}.spare")
    tensors.append(numpy_helper.from_array(np.array(sizes, np.int64), f"{_ROW}.sizes"))
    split = helper.make_node("Split", [f"{_ROW}.row", f"{_ROW}.sizes"], outputs, axis=0)
    return [*start[0], *tensors], [*start[1], split, *ends]


def _numbers_of(stored: TensorProto, bits: int) -> int:
    return int(np.prod(stored.dims)) * 8 // bits


def _plain(row: NDArray[np.int8]) -> Parts:
    cast = helper.make_node("Cast", [f"{_ROW}.int8"], [f"{_ROW}.row"], to=TensorProto.FLOAT)
    return [numpy_helper.from_array(row, f"{_ROW}.int8")], [cast]


def _unpacked(row: NDArray[np.int8], bits: int) -> Parts:
    """``pack`` backwards, in whole numbers that float32 holds exactly."""
    packed = pack(row, bits)
    powers = float(1 << (8 - bits)) ** np.arange(len(packed), dtype=np.float32)
    values = {
        "base": np.float32(1 << bits), "powers": powers[None], "offset": np.float32(1 << (bits - 1)),
        "one": np.array([-1], np.int64),
    }  # fmt: skip
    tensors = [numpy_helper.from_array(packed, f"{_ROW}.int{bits}")]
    tensors += [numpy_helper.from_array(np.asarray(value), f"{_ROW}.{name}") for name, value in values.items()]
    chain = (
        ("Cast", f"int{bits}", "bytes"), ("Div", "bytes base", "ratio"), ("Floor", "ratio", "high"),
        ("Mul", "high base", "over"), ("Sub", "bytes over", "low"), ("MatMul", "powers high", "last"),
        ("Concat", "low last", "rows"), ("Reshape", "rows one", "numbers"), ("Sub", "numbers offset", "row"),
    )  # fmt: skip
    nodes = []
    for operator, inputs, output in chain:
        extra = {"to": int(TensorProto.FLOAT)} if operator == "Cast" else {"axis": 0} if operator == "Concat" else {}
        names = [f"{_ROW}.{name}" for name in inputs.split()]
        node = helper.make_node(operator, names, [f"{_ROW}.{output}"])
        node.attribute.extend(helper.make_attribute(key, value) for key, value in extra.items())
        nodes.append(node)
    return tensors, nodes


def _output_channels(graph: GraphProto) -> dict[str, int]:
    """Axis of the output channels of every weight that is large enough and used once, by a layer that is known."""
    sizes = {w.name: int(np.prod(w.dims)) for w in graph.initializer if w.data_type == TensorProto.FLOAT}
    uses = Counter(name for node in graph.node for name in node.input)
    found: dict[str, int] = {}
    for node in graph.node:
        if node.op_type not in {"Conv", "Gemm", "MatMul"}:
            continue
        name = node.input[1]
        if uses[name] == 1 and sizes.get(name, 0) >= MIN_ELEMENTS:
            flipped = any(a.name == "transB" and a.i for a in node.attribute)
            found[name] = 0 if node.op_type == "Conv" or flipped else 1
    return found
