"""Is this ONNX file safe to load, and what does it take and give?

A persona comes from a stranger. Its graph may use standard operators on fixed shapes and nothing else: no file beside
it (external data reads any path), no operator from a library, no control flow (a loop need not end), no shape that
depends on data, and nothing that needs more memory or nodes than a face network does.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    ValueInfoProto,
    helper,
    shape_inference,
)

from engines.errors import PersonaFormatError
from engines.onnx_fold import infer_folded

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
MAX_OPSET = 26
_REFUSED = "the file is damaged or not made by personacam: get it again from its author"


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """What a face network may need at most. The largest family (MODEL.md's ``large``) needs a third of it."""

    file_bytes: int = 192 << 20
    nodes: int = 2000
    tensor_elements: int = 64 << 20
    """Of one weight or one value between two nodes."""
    total_elements: int = 512 << 20
    """Of all values between nodes together."""
    multiply_adds: int = 100_000_000_000
    """Of one run: ten times the largest family, some seconds on a processor. A run cannot be interrupted."""


IMPORTED_LIMITS = GuardLimits(
    file_bytes=1 << 30, nodes=4000, tensor_elements=256 << 20, total_elements=1 << 30, multiply_adds=500_000_000_000
)
"""Of models that were trained elsewhere: DeepFaceLive's go up to 700 MB and 448 pixels a side."""
IMPORTED_NETWORK = "dfm-1"
"""The network family of such a persona."""


def limits_of(network: str) -> GuardLimits:
    """What a persona of this family may need."""
    return IMPORTED_LIMITS if network == IMPORTED_NETWORK else GuardLimits()


@dataclass(frozen=True, slots=True)
class Interface:
    """Float32 inputs and outputs of a graph, name -> static shape."""

    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]


def _refuse(reason: str) -> PersonaFormatError:
    return PersonaFormatError(f"the network in the persona is refused: {reason}", hint=_REFUSED)


def check_onnx(data: bytes, limits: GuardLimits = GuardLimits()) -> Interface:
    """Walk the whole graph without running it. Raises PersonaFormatError with the first thing that is not allowed."""
    if not data or len(data) > limits.file_bytes:
        raise _refuse(f"{len(data)} bytes (1 to {limits.file_bytes} are allowed)")
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError) as error:
        raise _refuse(f"it cannot be parsed ({error})") from error
    _check_model(model)
    graph = model.graph
    weights = _check_graph(graph, limits)
    interface = Interface(
        {v.name: _static_shape(v, "input") for v in graph.input if v.name not in weights},
        {v.name: _static_shape(v, "output") for v in graph.output},
    )
    for value in (*(v for v in graph.input if v.name not in weights), *graph.output):
        if value.type.tensor_type.elem_type != TensorProto.FLOAT:
            raise _refuse(f"{_quoted(value.name)} is not float32")
    if not interface.inputs or not interface.outputs:
        raise _refuse("it has no input or no output")
    _check_inferred(model, limits)
    return interface


def check_parts(model: ModelProto, limits: GuardLimits) -> None:
    """Nodes and weights one by one, before anything is made of the graph. Raises PersonaFormatError."""
    _check_model(model)
    _check_graph(model.graph, limits)


def _check_model(model: ModelProto) -> None:
    if not model.HasField("graph") or not model.opset_import:
        raise _refuse("it holds no graph")
    if model.functions:
        raise _refuse("it defines functions of its own")
    if model.training_info:
        raise _refuse("it holds training information")
    for opset in model.opset_import:
        if opset.domain not in STANDARD_DOMAINS:
            raise _refuse(f"it imports the operators of {_quoted(opset.domain)}")
        if not 7 <= opset.version <= MAX_OPSET:
            raise _refuse(f"operator set {opset.version} is not known here")


def _check_graph(graph: GraphProto, limits: GuardLimits) -> frozenset[str]:
    """Nodes and weights of the graph. Returns the names of the weights."""
    if graph.sparse_initializer:
        raise _refuse("it holds sparse weights")
    if len(graph.node) > limits.nodes:
        raise _refuse(f"{len(graph.node)} nodes (at most {limits.nodes})")
    for node in graph.node:
        _check_node(node, limits)
    for tensor in graph.initializer:
        _check_tensor(tensor, limits)
    made = Counter(name for node in graph.node for name in node.output if name)
    made.update(tensor.name for tensor in graph.initializer)
    listed = (Counter(value.name for value in values) for values in (graph.input, graph.output))
    twice = [name for counts in (made, *listed) for name, count in counts.items() if count > 1]
    if twice:
        raise _refuse(f"{_quoted(twice[0])} is made twice")
    return frozenset(tensor.name for tensor in graph.initializer)


_UNBOUNDED = frozenset(
    {
        "DFT",
        "Det",
        "Einsum",
        "GRU",
        "LSTM",
        "MaxUnpool",
        "NonMaxSuppression",
        "RNN",
        "RegexFullMatch",
        "RoiAlign",
        "STFT",
    }
    | {"StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer", "Attention", "STFT"}
)
"""Standard operators that no face network has, and whose work is not a product of a few sizes."""


def _check_node(node: NodeProto, limits: GuardLimits) -> None:
    if node.op_type in _UNBOUNDED:
        raise _refuse(f"the operator {_quoted(node.op_type)}")
    if node.domain not in STANDARD_DOMAINS:
        raise _refuse(f"the operator {_quoted(node.op_type)} of {_quoted(node.domain)} is not a standard one")
    for attribute in node.attribute:
        if attribute.HasField("g") or attribute.graphs:
            raise _refuse(f"control flow ({_quoted(node.op_type)})")
        for tensor in _tensors(attribute):
            _check_tensor(tensor, limits)
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            raise _refuse(f"a sparse constant in {_quoted(node.op_type)}")
        if attribute.ref_attr_name:
            raise _refuse("a reference to an attribute outside of a function")


def _tensors(attribute: AttributeProto) -> Iterable[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors


def _check_tensor(tensor: TensorProto | SparseTensorProto, limits: GuardLimits) -> None:
    if not isinstance(tensor, TensorProto) or tensor.HasField("segment"):
        raise _refuse("a weight in pieces")
    if tensor.data_location != TensorProto.DEFAULT or tensor.external_data:
        raise _refuse(f"the weight {_quoted(tensor.name)} lies in another file")
    elements = math.prod(tensor.dims)
    if any(d < 0 for d in tensor.dims) or elements > limits.tensor_elements:
        raise _refuse(f"the weight {_quoted(tensor.name)} has {elements} numbers (at most {limits.tensor_elements})")
    if tensor.data_type in {TensorProto.UNDEFINED, TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.COMPLEX128}:
        raise _refuse(f"the weight {_quoted(tensor.name)} holds no plain numbers")
    try:
        item_bytes = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, TypeError, ValueError) as error:
        raise _refuse(f"the weight {_quoted(tensor.name)} has an unknown type") from error
    typed = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
    stored = len(tensor.raw_data) // item_bytes if tensor.HasField("raw_data") else max(map(len, typed))
    if stored != elements:
        raise _refuse(f"the weight {_quoted(tensor.name)} says {elements} numbers and holds {stored}")


def _static_shape(value: ValueInfoProto, role: str) -> tuple[int, ...]:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        raise _refuse(f"the {role} {_quoted(value.name)} has no shape")
    if any(not d.HasField("dim_value") or d.dim_value <= 0 for d in kind.shape.dim):
        raise _refuse(f"the {role} {_quoted(value.name)} has a shape that is not fixed")
    return tuple(int(d.dim_value) for d in kind.shape.dim)


def _check_inferred(model: ModelProto, limits: GuardLimits) -> None:
    """Every value between nodes must have a fixed shape, known without running, and of bearable size."""
    claimed = {v.name: _static_shape(v, "output") for v in model.graph.output}
    try:
        onnx.checker.check_model(model)  # operators, their attributes and the order of the nodes
        # Shapes that the file claims are set aside: they are worked out afresh from the inputs and compared.
        del model.graph.value_info[:]
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
        shapes = infer_folded(model)
    except (onnx.checker.ValidationError, shape_inference.InferenceError, RuntimeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise _refuse(f"it is not consistent ({reason[:200]})") from error
    for name, shape in claimed.items():
        if shapes.get(name) != shape:
            raise _refuse(f"the output {_quoted(name)} says {shape} and has {shapes.get(name)}")
    weights = {tensor.name for tensor in model.graph.initializer}
    given = [math.prod(_static_shape(v, "input")) for v in model.graph.input if v.name not in weights]
    if max(given, default=0) > limits.tensor_elements:
        raise _refuse(f"an input of {max(given)} numbers (at most {limits.tensor_elements})")
    total, work = sum(given), 0
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        for name in filter(None, node.output):
            if name not in shapes:
                raise _refuse(f"the shape of {_quoted(name)} ({_quoted(node.op_type)}) is not fixed")
            elements = math.prod(shapes[name])
            total += elements
            if elements > limits.tensor_elements or total > limits.total_elements:
                raise _refuse(f"{_quoted(name)} needs {elements} numbers, all values together {total} or more")
        work += _multiply_adds(node, shapes)
        if work > limits.multiply_adds:
            raise _refuse(f"{work} multiplications or more (at most {limits.multiply_adds})")


def _multiply_adds(node: NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """At most so many for one node; the caller has seen that its outputs have shapes."""
    given = [shapes.get(name, ()) for name in node.input]
    outputs = sum(math.prod(shapes[name]) for name in node.output if name)
    if node.op_type in {"Conv", "ConvInteger", "QLinearConv"}:
        kernels = [shape for shape in given if len(shape) > 2][1:]
        return outputs * max((math.prod(shape[1:]) for shape in kernels), default=1)
    if node.op_type in {"ConvTranspose", "DeformConv"}:
        return max(math.prod(given[0]), outputs) * max(math.prod(shape[1:]) for shape in given)
    if node.op_type in {"MatMul", "MatMulInteger", "QLinearMatMul"}:
        return outputs * (given[0][-1] if given[0] else 1)
    if node.op_type == "Gemm":  # its first factor may be transposed
        return outputs * max(given[0], default=1)
    if "Pool" in node.op_type:
        window = next((list(a.ints) for a in node.attribute if a.name == "kernel_shape"), list(given[0]))
        return outputs * max(1, math.prod(window))
    return outputs + sum(math.prod(shape) for shape in given)


def _quoted(text: str) -> str:
    """A name from the file, fit for a terminal."""
    return repr(text[:60])
