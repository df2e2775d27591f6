"""The graph that TensorRT compiles: a persona's ``swap.onnx`` with bytes at both ends and FP16 in between.

    inputs  "crop" (1, S, S, 3) uint8 BGR, as the aligned face lies in memory
            "points" (1, P, 2), "present" (1, 1), "code_gain" (1, C), "code_shift" (1, C), "morph" (1, 1) float32,
            those that the persona has
    outputs "pixels" (1, T, T, 3) uint8 BGR, "mask" (1, T, T) uint8, "code" (1, C) float32 as the encoder gave it

Scaling, layout, clamp and rounding stand in the graph, so that a quarter of the bytes cross the bus. Precision does
too: TensorRT 11 and TensorRT-RTX know no other place for it. Convolutions and linear layers, and what comes after them,
are FP16; what is done to the inputs before stays FP32 and is rounded once.

Nothing that is fed makes NaN: a number that is not finite becomes a neutral one, and numbers far outside of what a face
can give are cut off (LIMITS). A network that overflows FP16 all the same says so: ``code`` is then NaN as a whole and
the mask of each such pixel 255, so that the wearer's face does not show. Whoever runs the graph looks at ``code``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from engines.errors import BuildError
from engines.onnx_fold import infer_folded

PlanPrecision = Literal["fp16", "fp32"]

LIVE_VERSION = 2
"""Changes when this module makes another graph of the same file: plans that were built before are then not used."""
OPSETS = range(13, 24)
"""Operator sets in which every operator that is added or kept here means the same."""
LIMITS: Mapping[str, tuple[float, float, float]] = {
    "points": (-8.0, 9.0, 0.5),
    "present": (0.0, 1.0, 0.0),
    "code_gain": (-16.0, 16.0, 1.0),
    "code_shift": (-256.0, 256.0, 0.0),
    "morph": (0.0, 1.0, 0.5),
}
"""Input -> least and largest value that is let through, and what takes the place of one that is not finite."""
F16_MAX = float(np.finfo(np.float16).max)
HEALTH_SCALE = 2.0**-20
"""A picture has fewer numbers than 2**20, so a sum of them, made so much smaller, does not overflow even in FP16, in
which builders of weak types (TensorRT 8.5) may compute what the graph has in FP32."""
HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Computed in FP16. Their sums are the runtime's business."""
_COMPARISONS = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or"})
_FOLLOWING = frozenset(
    {"Abs", "Add", "AveragePool", "Clip", "Concat", "DepthToSpace", "Div", "Flatten", "Gather", "GlobalAveragePool"}
    | {"Identity", "LeakyRelu", "Max", "MaxPool", "Min", "Mul", "Neg", "PRelu", "Pad", "Relu", "Reshape", "Sigmoid"}
    | {"Slice", "SpaceToDepth", "Split", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Where"}
)
"""Computed in the precision of what they are given; float operands are all of one type."""
_HINT = "the persona was not made by this program; it runs on ONNX Runtime: --runtime onnxruntime"


def live_graph(onnx_model: bytes, precision: PlanPrecision = "fp16") -> bytes:
    """``swap.onnx`` -> the graph above. The same file gives the same bytes.

    Raises BuildError when the file is not a persona's graph, has operators that are not known here, or a weight that
    does not fit into FP16.
    """
    model = _load(onnx_model)
    _fold(model)
    writer = _Writer(half=precision == "fp16", opset=max(o.version for o in model.opset_import))
    shapes = _shapes(model.graph)
    inputs = _write_inputs(writer, shapes)
    _write_body(writer, model.graph)
    outputs = _write_outputs(writer, shapes)
    graph = helper.make_graph(writer.nodes, "live", inputs, outputs, list(writer.tensors.values()))
    built = helper.make_model(graph, opset_imports=model.opset_import, ir_version=min(model.ir_version, 8))
    built.producer_name = "personacam"
    try:
        onnx.checker.check_model(built, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise BuildError(f"the FP16 graph is not consistent: {error}", hint=_HINT) from error
    return bytes(built.SerializeToString(deterministic=True))


def _load(data: bytes) -> ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError) as error:
        raise BuildError(f"the network cannot be parsed: {error}", hint=_HINT) from error
    versions = [o.version for o in model.opset_import if not o.domain]
    if len(versions) != 1 or len(model.opset_import) != 1 or versions[0] not in OPSETS:
        raise BuildError(f"operator sets {versions} are not known here", hint=_HINT)
    inputs, outputs = ({value.name for value in side} for side in (model.graph.input, model.graph.output))
    if not ({"face"} <= inputs <= {"face", *LIMITS} and outputs == {"swap", "mask", "code"}):
        raise BuildError(f"a graph from {sorted(inputs)} to {sorted(outputs)} is no persona's", hint=_HINT)
    return model


# ---- constants -------------------------------------------------------------------------------------------------------


def _fold(model: ModelProto) -> None:
    """Compute in place what depends on no input: shapes, and the weights from what the file stores of them."""
    try:
        infer_folded(model)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise BuildError(f"the network is not consistent: {error}", hint=_HINT) from error
    graph = model.graph
    known = {tensor.name for tensor in graph.initializer}
    constant: list[NodeProto] = []
    live: list[NodeProto] = []
    for node in graph.node:
        if all(name in known for name in node.input if name):
            constant.append(node)
            known.update(node.output)
        else:
            live.append(node)
    needed = {name for node in live for name in node.input}
    wanted = [name for node in constant for name in node.output if name in needed]
    stored = [tensor for tensor in graph.initializer if tensor.name in needed]
    computed = _computed(model, constant, wanted)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend([*stored, *computed])
    graph.node.extend(live)


def _computed(model: ModelProto, nodes: Iterable[NodeProto], names: list[str]) -> list[TensorProto]:
    """Values of a graph without inputs, by ONNX Runtime: as exact as the runtimes that it stands in for."""
    if not names:
        return []
    from engines.runtimes.onnx import import_onnxruntime

    ort = import_onnxruntime()
    outputs = [ValueInfoProto(name=name) for name in names]
    graph = helper.make_graph(list(nodes), "constants", [], outputs, list(model.graph.initializer))
    alone = helper.make_model(graph, opset_imports=model.opset_import, ir_version=min(model.ir_version, 8))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(alone.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = session.run(names, {})
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in zip(names, values, strict=True)]


def _shapes(graph: GraphProto) -> dict[str, tuple[int, ...]]:
    return {
        value.name: tuple(int(d.dim_value) for d in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.output)
    }


# ---- writing ---------------------------------------------------------------------------------------------------------


@dataclass
class _Writer:
    """Nodes so far, and which of their float values are FP16."""

    half: bool
    opset: int
    nodes: list[NodeProto] = field(default_factory=list)
    tensors: dict[str, TensorProto] = field(default_factory=dict)
    floats: dict[str, int] = field(default_factory=dict)
    """Float value between nodes -> its ONNX type."""
    constants: dict[str, TensorProto] = field(default_factory=dict)
    """Weights of the original graph by name, float or not."""

    def add(self, operator: str, inputs: Iterable[str], output: str, kind: int | None = None, **attributes: Any) -> str:
        """One node; ``kind`` is the type of a float output."""
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        if kind is not None:
            self.floats[output] = kind
        return output

    def tensor(self, value: NDArray[np.generic], name: str) -> str:
        """A constant."""
        self.tensors[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def scalar(self, value: float, kind: int) -> str:
        """A float constant without a shape."""
        dtype = np.float16 if kind == TensorProto.FLOAT16 else np.float32
        return self.tensor(np.array(value, dtype), f"live.{dtype.__name__}.{value:g}")

    def ints(self, *values: int) -> str:
        """Axes, sizes or indices."""
        return self.tensor(np.array(values, np.int64), "live.int." + ".".join(map(str, values)))

    def cast(self, name: str, kind: int) -> str:
        """``name`` as a float of ``kind``; one cast for all who need it."""
        if self.floats[name] == kind:
            return name
        made = f"{name}.{'f16' if kind == TensorProto.FLOAT16 else 'f32'}"
        if made not in self.floats:
            self.add("Cast", [name], made, kind, to=kind)
        return made

    def constant(self, name: str, kind: int) -> str:
        """A weight of the original graph, as a float of ``kind`` if it is one."""
        tensor = self.constants[name]
        if tensor.data_type not in {TensorProto.FLOAT, TensorProto.FLOAT16} or tensor.data_type == kind:
            self.tensors[name] = tensor
            return name
        made = f"{name}.{'f16' if kind == TensorProto.FLOAT16 else 'f32'}"
        if made not in self.tensors:
            value = np.asarray(numpy_helper.to_array(tensor))
            if kind == TensorProto.FLOAT16 and not (np.abs(value) <= F16_MAX).all():  # NaN is refused as well
                raise BuildError(f"{name} does not fit into FP16", hint="build it in FP32: --precision fp32")
            self.tensor(value.astype(np.float16 if kind == TensorProto.FLOAT16 else np.float32), made)
        return made


def _write_inputs(writer: _Writer, shapes: Mapping[str, tuple[int, ...]]) -> list[ValueInfoProto]:
    """Bytes -> "face"; the other inputs, finite and within LIMITS."""
    size = shapes["face"][2]
    inputs = [helper.make_tensor_value_info("crop", TensorProto.UINT8, (1, size, size, 3))]
    single = TensorProto.FLOAT
    writer.add("Cast", ["crop"], "crop.bgr", single, to=single)
    writer.add("Gather", ["crop.bgr", writer.ints(2, 1, 0)], "crop.rgb", single, axis=3)
    writer.add("Transpose", ["crop.rgb"], "crop.planes", single, perm=[0, 3, 1, 2])
    writer.add("Mul", ["crop.planes", writer.scalar(1 / 255, single)], "live.face", single)
    for name, (least, most, neutral) in LIMITS.items():
        if name not in shapes:
            continue
        inputs.append(helper.make_tensor_value_info(name, single, shapes[name]))
        writer.add("Abs", [name], f"live.{name}.abs", single)
        writer.add("Less", [f"live.{name}.abs", writer.scalar(1e30, single)], f"live.{name}.ok")
        chosen = [f"live.{name}.ok", name, writer.scalar(neutral, single)]
        writer.add("Where", chosen, f"live.{name}.finite", single)
        limits = [writer.scalar(least, single), writer.scalar(most, single)]
        writer.add("Clip", [f"live.{name}.finite", *limits], f"live.{name}", single)
    return inputs


def _write_body(writer: _Writer, graph: GraphProto) -> None:
    """The network itself; its inputs and outputs are called "live.NAME" inside."""
    writer.constants = {tensor.name: tensor for tensor in graph.initializer}
    renamed = {value.name: f"live.{value.name}" for value in graph.input}
    renamed |= {value.name: f"net.{value.name}" for value in graph.output}
    for node in graph.node:
        inputs = [renamed.get(name, name) for name in node.input]
        outputs = [renamed.get(name, name) for name in node.output]
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.domain = ""
        kind = _kind(writer, node, inputs)
        del copy.input[:], copy.output[:]
        copy.input.extend(_operand(writer, name, kind) for name in inputs)
        copy.output.extend(outputs)
        writer.nodes.append(copy)
        if node.op_type == "Cast":
            kind = next(a.i for a in node.attribute if a.name == "to")
        if node.op_type not in _COMPARISONS and kind in {TensorProto.FLOAT, TensorProto.FLOAT16}:
            writer.floats.update(dict.fromkeys(outputs, kind))


def _kind(writer: _Writer, node: NodeProto, inputs: Iterable[str]) -> int:
    """The type of a node's float operands."""
    if node.op_type not in HEAVY | _FOLLOWING | _COMPARISONS | {"Cast"}:
        raise BuildError(f"the operator {node.op_type[:40]!r} is not known here", hint=_HINT)
    if not writer.half:
        return int(TensorProto.FLOAT)
    given = {writer.floats[name] for name in inputs if name in writer.floats}
    if node.op_type in HEAVY or TensorProto.FLOAT16 in given:
        return int(TensorProto.FLOAT16)
    return int(TensorProto.FLOAT) if given else 0


def _operand(writer: _Writer, name: str, kind: int) -> str:
    if name in writer.constants:
        return writer.constant(name, kind or TensorProto.FLOAT)
    return writer.cast(name, kind) if kind and name in writer.floats else name


def _write_outputs(writer: _Writer, shapes: Mapping[str, tuple[int, ...]]) -> list[ValueInfoProto]:
    """Pictures as bytes, rounded as the CPU path rounds; ``code`` as float32, NaN when a picture is not finite."""
    side, width = shapes["swap"][2], shapes["code"][1]
    made = {name: node for node in writer.nodes for name in node.output}
    planes, logits = (_before(made, f"net.{name}", last) for name, last in (("swap", "Clip"), ("mask", "Sigmoid")))
    # A mask that is no number must not show the wearer.
    kind = writer.floats[logits]
    writer.add("Abs", [logits], "mask.abs", kind)
    writer.add("Less", ["mask.abs", writer.scalar(F16_MAX, kind)], "mask.ok")
    writer.add("Where", ["mask.ok", "net.mask", writer.scalar(1.0, kind)], "mask.safe", kind)
    writer.add("Squeeze", ["mask.safe", writer.ints(1)], "mask.flat", kind)
    _bytes(writer, "mask.flat", "mask")
    kind = writer.floats["net.swap"]
    writer.add("Transpose", ["net.swap"], "pixels.rgb", kind, perm=[0, 2, 3, 1])
    writer.add("Gather", ["pixels.rgb", writer.ints(2, 1, 0)], "pixels.bgr", kind, axis=3)
    _bytes(writer, "pixels.bgr", "pixels")
    _write_code(writer, _sources(made, planes, logits))
    return [
        helper.make_tensor_value_info("pixels", TensorProto.UINT8, (1, side, side, 3)),
        helper.make_tensor_value_info("mask", TensorProto.UINT8, (1, side, side)),
        helper.make_tensor_value_info("code", TensorProto.FLOAT, (1, width)),
    ]


def _before(made: Mapping[str, NodeProto], name: str, operator: str) -> str:
    """What ``name`` is made of by ``operator``, which may hide NaN and infinities; else ``name`` itself."""
    node = made[name]
    return str(node.input[0]) if node.op_type == operator else name


def _sources(made: Mapping[str, NodeProto], first: str, second: str) -> list[str]:
    """Both values, or the one that both are parts of: one look instead of two."""
    node = made.get(first)
    if node is not None and node.op_type == "Split" and {first, second} == set(node.output):
        return [str(node.input[0])]
    return [first, second]


def _bytes(writer: _Writer, name: str, output: str) -> None:
    """0..1 -> uint8 0..255, rounded half up and clipped."""
    single = TensorProto.FLOAT
    clip = [writer.cast(name, single), writer.scalar(0.0, single), writer.scalar(1.0, single)]
    writer.add("Clip", clip, f"{output}.clip", single)
    writer.add("Mul", [f"{output}.clip", writer.scalar(255.0, single)], f"{output}.scaled", single)
    writer.add("Add", [f"{output}.scaled", writer.scalar(0.5, single)], f"{output}.half", single)
    writer.add("Floor", [f"{output}.half"], f"{output}.level", single)
    writer.add("Cast", [f"{output}.level"], output, to=int(TensorProto.UINT8))


def _write_code(writer: _Writer, pictures: Iterable[str]) -> None:
    """A sum is finite only if all of its terms are."""
    single = TensorProto.FLOAT
    verdict = ""
    for i, name in enumerate(pictures):
        small = [writer.cast(name, single), writer.scalar(HEALTH_SCALE, single)]
        writer.add("Mul", small, f"health.{i}.small", single)
        writer.add("ReduceSum", [f"health.{i}.small", writer.ints(1, 2, 3)], f"health.{i}", single, keepdims=0)
        writer.add("Abs", [f"health.{i}"], f"health.{i}.abs", single)
        writer.add("Less", [f"health.{i}.abs", writer.scalar(1e30, single)], f"health.{i}.ok")
        if verdict:
            writer.add("And", [verdict, f"health.{i}.ok"], "health.both")
        verdict = "health.both" if verdict else f"health.{i}.ok"
    writer.add("Where", [verdict, writer.cast("net.code", single), writer.scalar(np.nan, single)], "code")


# ---- FP16 on a CPU ---------------------------------------------------------------------------------------------------

_MOVES = frozenset({"DepthToSpace", "Flatten", "Gather", "Identity", "Reshape", "SpaceToDepth", "Split", "Squeeze"})
_EXACT = _MOVES | {"Concat", "Slice", "Transpose", "Unsqueeze", "Where", "Abs", "Neg", "Max", "Min", "MaxPool", "Pad"}
"""Their results are numbers that they were given."""


def rounded_graph(graph: bytes) -> bytes:
    """A live graph that computes in FP32 and rounds every result that is FP16 there: what FP16 does, on any machine.

    ONNX Runtime's CPU path takes FP16 nodes for FP32 ones and drops the rounding between them, so the live graph itself
    would look better there than it is. Sums inside a convolution are FP32 here, as they are on the card.
    """
    model = onnx.load_model_from_string(graph)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    half = {v.name for v in inferred.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "Cast" and node.output[0] in half:
            nodes += _rounding(node.input[0], node.output[0])
            continue
        outputs = [name for name in node.output if name in half and node.op_type not in _EXACT]
        copy = NodeProto()
        copy.CopyFrom(node)
        for i, name in enumerate(copy.output):
            copy.output[i] = f"{name}.exact" if name in outputs else name
        nodes.append(copy)
        for name in outputs:
            nodes += _rounding(f"{name}.exact", name)
    for i, tensor in enumerate(model.graph.initializer):
        if tensor.data_type == TensorProto.FLOAT16:
            value = np.asarray(numpy_helper.to_array(tensor), np.float32)
            model.graph.initializer[i].CopyFrom(numpy_helper.from_array(value, tensor.name))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString())


def _rounding(name: str, into: str) -> list[NodeProto]:
    there = helper.make_node("Cast", [name], [f"{into}.half"], to=TensorProto.FLOAT16)
    return [there, helper.make_node("Cast", [f"{into}.half"], [into], to=TensorProto.FLOAT)]
