"""A DeepFaceLive model (.dfm) as a persona's network.

    input   "in_face:0" (N, R, R, 3) float32 BGR 0..1; AMP models add "morph_value:0" (1,)
    outputs "out_face_mask:0" (N, R, R, 1), "out_celeb_face:0" (N, R, R, 3) BGR 0..1,
            "out_celeb_face_mask:0" (N, R, R, 1)

becomes the ``swap.onnx`` of ``engines.persona``: "face" (1, 3, R, R) RGB, with a morph also "morph" (1, 1); "swap",
"mask" and "code". Layout and order of colours are changed inside the graph, so that every runtime and the whole live
path take it as they take any other. An imported model shows no code: "code" is the mean colour of the picture, three
numbers that say whether it is finite.

The file comes from a stranger: it is looked through before anything is made of it, the result goes through
``onnx_guard`` as a whole, and then original and result are run and compared. What some ports write wrongly (shapes of
outputs, operator sets that no node uses) is put right and named; everything else is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from engines.dfm_morph import MORPHS, fix_morph, prune
from engines.errors import PersonaFormatError, RuntimeFailure
from engines.onnx_fold import infer_folded
from engines.onnx_guard import IMPORTED_LIMITS, IMPORTED_NETWORK, STANDARD_DOMAINS, GuardLimits, check_onnx, check_parts
from engines.runtimes.onnx import OnnxRuntime, import_onnxruntime
from engines.types import F32

SUFFIX = ".dfm"
CODE_SIZE = 3
SIDES = range(64, 1025)
MaskChoice = Literal["both", "persona", "wearer"]
"""The model draws the mask of the persona's face and that of the wearer's, without what is in front of it. both: what
lies in either, as DeepFaceLive begins with."""

_FACE, _MORPH = "in_face", "morph_value"
_PICTURE, _PERSONA_MASK, _WEARER_MASK = "out_celeb_face", "out_celeb_face_mask", "out_face_mask"
_OUTPUTS = {_WEARER_MASK: 1, _PICTURE: 3, _PERSONA_MASK: 1}
"""Output -> channels."""
_OPSET = 17
"""What older operator sets are converted to, so that TensorRT plans can be built; where that fails, they stay."""
_LEAST_OPSET = 13
_HALVED_FROM = 160 << 20
"""Bytes. Larger files keep their large weights in FP16, half the size; they are computed in FP32 all the same."""
_LARGE_WEIGHT = 4096
_F16_MAX = float(np.finfo(np.float16).max)
_MAX_ERROR = 2e-3
_MIN_HALF_DB = 45.0
_HINT = "export the model again for DeepFaceLive (.dfm, no training checkpoint), or get an intact file from its maker"


@dataclass(frozen=True, slots=True)
class ImportedNetwork:
    """What became of a file."""

    swap_onnx: bytes
    side: int
    """R, of input and output."""
    morph: bool
    """An AMP model."""
    repaired: tuple[str, ...]
    """What was put right, in plain words."""


def _refuse(reason: str, hint: str = _HINT) -> PersonaFormatError:
    return PersonaFormatError(f"the DFM file is refused: {reason}", hint=hint)


def import_dfm(data: bytes, *, mask: MaskChoice = "both", limits: GuardLimits = IMPORTED_LIMITS) -> ImportedNetwork:
    """Convert a file's bytes. Raises PersonaFormatError with the first thing that is wrong and cannot be put right."""
    model = _parsed(data, limits)
    try:
        return _converted(model, mask, limits, halved=len(data) > _HALVED_FROM)
    except PersonaFormatError as error:
        # The guard speaks of personas; what it found was in the file.
        reason = error.message.removeprefix("the network in the persona is refused: ")
        raise (error if reason == error.message else _refuse(reason)) from error


def _parsed(data: bytes, limits: GuardLimits) -> ModelProto:
    if not data or len(data) > limits.file_bytes:
        raise _refuse(f"it has {len(data)} bytes (1 to {limits.file_bytes} are allowed)")
    try:
        model: ModelProto = onnx.load_model_from_string(data)
    except (DecodeError, ValueError) as error:
        raise _refuse(f"it is no ONNX file ({error})") from error
    return model


def _converted(model: ModelProto, mask: MaskChoice, limits: GuardLimits, *, halved: bool) -> ImportedNetwork:
    repaired = _drop_unused_domains(model)
    check_parts(model, limits)
    names = _interface(model)
    side = _fix_inputs(model, names)
    repaired += _fix_outputs(model, names, side)
    reference = ModelProto()
    reference.CopyFrom(model)
    morph = _MORPH in names
    if morph:
        fix_morph(model, names[_MORPH])
    infer_folded_or_refuse(model)
    _check_shapes(model, names, side)
    for candidate in (_newer(model), model):
        if candidate is None:
            continue
        swap_onnx = _wrapped(candidate, names, side, mask, halved=halved)
        try:
            check_onnx(swap_onnx, limits)
            _compare(reference, swap_onnx, names, side, mask, halved=halved)
        except PersonaFormatError:
            if candidate is model:
                raise
            continue  # the conversion of operators was at fault, perhaps
        return ImportedNetwork(swap_onnx, side, morph, tuple(repaired))
    raise _refuse("it cannot be converted")


# ---- what the file says, and what of it is put right -----------------------------------------------------------------


def _drop_unused_domains(model: ModelProto) -> list[str]:
    """tf2onnx names ai.onnx.ml in every file, whether or not a node is of it."""
    used = {node.domain for node in model.graph.node}
    unused = [o for o in model.opset_import if o.domain not in STANDARD_DOMAINS and o.domain not in used]
    for opset in unused:
        model.opset_import.remove(opset)
    return [f"operator set {opset.domain[:40]!r} was named and not used" for opset in unused if opset.domain[:40]]


def _interface(model: ModelProto) -> dict[str, str]:
    """The contract's names without ":0" -> the file's own. Raises PersonaFormatError for any other interface."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name.removesuffix(":0"): value.name for value in model.graph.input if value.name not in weights}
    outputs = {value.name.removesuffix(":0"): value.name for value in model.graph.output}
    for kind, found, needed in (("input", inputs, [_FACE]), ("output", outputs, list(_OUTPUTS))):
        missing = [f"{name}:0" for name in needed if name not in found]
        if missing:
            has = ", ".join(repr(name[:40]) for name in list(found.values())[:8]) or "none"
            raise _refuse(f"there is no {kind} {', '.join(missing)}; the file has {has}")
    unknown = inputs.keys() - {_FACE, _MORPH}
    if unknown:
        raise _refuse(f"an input {min(unknown)[:40]!r} that no DFM model has")
    return inputs | {name: outputs[name] for name in _OUTPUTS}


def _fix_inputs(model: ModelProto, names: Mapping[str, str]) -> int:
    """Batch 1 everywhere. Returns R."""
    values = {value.name: value for value in model.graph.input}
    face = values[names[_FACE]]
    shape = _dims(face)
    if len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2] or shape[1] is None:
        at = "planes first (N, 3, R, R): not a DFM model" if len(shape) == 4 and shape[1] == 3 else "not (N, R, R, 3)"
        raise _refuse(f"{names[_FACE]} is {_shape_text(shape)}, {at}")
    side = shape[1]
    if side not in SIDES:
        raise _refuse(f"its pictures have {side} pixels a side ({SIDES.start} to {SIDES.stop - 1} are allowed)")
    _set_shape(face, (1, side, side, 3))
    if _MORPH in names:
        morph = values[names[_MORPH]]
        if len(_dims(morph)) > 1 or (len(_dims(morph)) == 1 and _dims(morph)[0] not in {None, 1}):
            raise _refuse(f"{names[_MORPH]} is {_shape_text(_dims(morph))}, not (1,)")
        _set_shape(morph, (1,))
    return side


def _fix_outputs(model: ModelProto, names: Mapping[str, str], side: int) -> list[str]:
    """Forget every shape that the file claims but its inputs'; what the outputs truly are is worked out afterwards."""
    repaired = []
    order = {value.name: value for value in model.graph.output}
    for name, channels in _OUTPUTS.items():
        value = order[names[name]]
        claimed, true = _dims(value), (1, side, side, channels)
        if len(claimed) != 4 or any(c is not None and c != t for c, t in zip(claimed[1:], true[1:], strict=True)):
            repaired.append(f"{names[name]} said {_shape_text(claimed)} and is {true}")
        value.type.tensor_type.ClearField("shape")
    del model.graph.output[:]  # what else it gives is of no use here, and is pruned
    model.graph.output.extend(order[names[name]] for name in _OUTPUTS)
    del model.graph.value_info[:]
    prune(model.graph)
    return repaired


def infer_folded_or_refuse(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """``infer_folded`` with this module's error."""
    try:
        return infer_folded(model)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise _refuse(f"its shapes contradict each other for one picture ({reason[:200]})") from error


def _check_shapes(model: ModelProto, names: Mapping[str, str], side: int) -> None:
    shapes = infer_folded_or_refuse(model)
    for name, channels in _OUTPUTS.items():
        true = (1, side, side, channels)
        found = shapes.get(names[name])
        if found != true:
            got = "a shape that is not fixed" if found is None else str(found)
            raise _refuse(f"{names[name]} has {got} when it is worked out from the input, not {true}")


def _dims(value: ValueInfoProto) -> list[int | None]:
    """None: not fixed, as a name, or as the -1 and 0 that some writers put."""
    dims = value.type.tensor_type.shape.dim
    return [int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else None for d in dims]


def _set_shape(value: ValueInfoProto, shape: Sequence[int]) -> None:
    kind = value.type.tensor_type.elem_type
    value.CopyFrom(helper.make_tensor_value_info(value.name, kind, list(shape)))


def _shape_text(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("?" if side is None else str(side) for side in shape) + ")"


def _newer(model: ModelProto) -> ModelProto | None:
    """In an operator set that TensorRT plans are made of; None where it is one already, or cannot be converted."""
    version = max(o.version for o in model.opset_import)
    if version >= _LEAST_OPSET:
        return None
    try:
        converted: ModelProto = onnx.version_converter.convert_version(model, _OPSET)
    except Exception:  # noqa: BLE001 - the converter's own errors derive from nothing narrower; the file stays as it is
        return None
    return converted


# ---- the wrapping ----------------------------------------------------------------------------------------------------


def _wrapped(model: ModelProto, names: Mapping[str, str], side: int, mask: MaskChoice, *, halved: bool) -> bytes:
    """``swap.onnx`` around the model; its own values are called "dfm.NAME", so that none is taken for ours."""
    nodes = [
        helper.make_node("Transpose", ["face"], ["rows"], perm=[0, 2, 3, 1]),
        helper.make_node("Gather", ["rows", "swapped"], [f"dfm.{names[_FACE]}"], axis=3),
    ]
    inputs = [helper.make_tensor_value_info("face", TensorProto.FLOAT, [1, 3, side, side])]
    weights = [numpy_helper.from_array(np.array([2, 1, 0], np.int64), "swapped")]
    if _MORPH in names:
        inputs.append(helper.make_tensor_value_info("morph", TensorProto.FLOAT, [1, 1]))
        weights.append(numpy_helper.from_array(np.array([1], np.int64), "single"))
        nodes.append(helper.make_node("Reshape", ["morph", "single"], [f"dfm.{names[_MORPH]}"]))
    body, stored = _renamed(model, halved=halved)
    picture, persona, wearer = (f"dfm.{names[name]}" for name in (_PICTURE, _PERSONA_MASK, _WEARER_MASK))
    masks = {"both": [persona, wearer], "persona": [persona], "wearer": [wearer]}[mask]
    weights.append(numpy_helper.from_array(np.array([1, CODE_SIZE], np.int64), "flat"))
    tail = [
        helper.make_node("Gather", [picture, "swapped"], ["coloured"], axis=3),
        helper.make_node("Transpose", ["coloured"], ["swap"], perm=[0, 3, 1, 2]),
        helper.make_node("Min" if len(masks) > 1 else "Identity", masks, ["chosen"]),
        helper.make_node("Transpose", ["chosen"], ["mask"], perm=[0, 3, 1, 2]),
        helper.make_node("GlobalAveragePool", ["swap"], ["colour"]),
        helper.make_node("Reshape", ["colour", "flat"], ["code"]),
    ]
    outputs = [
        helper.make_tensor_value_info("swap", TensorProto.FLOAT, [1, 3, side, side]),
        helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 1, side, side]),
        helper.make_tensor_value_info("code", TensorProto.FLOAT, [1, CODE_SIZE]),
    ]
    graph = helper.make_graph([*nodes, *body, *tail], "dfm", inputs, outputs, [*weights, *stored])
    prune(graph)
    wrapped = helper.make_model(graph, opset_imports=model.opset_import, ir_version=min(model.ir_version, 8))
    wrapped.producer_name = "personacam"
    return bytes(wrapped.SerializeToString(deterministic=True))


def _renamed(model: ModelProto, *, halved: bool) -> tuple[list[NodeProto], list[TensorProto]]:
    """The model's nodes and weights under names of their own; ``halved``: large weights in FP16 with a cast."""
    nodes: list[NodeProto] = []
    weights: list[TensorProto] = []
    for tensor in model.graph.initializer:
        kept = TensorProto()
        kept.CopyFrom(tensor)
        kept.name = f"dfm.{tensor.name}"
        half = _half(tensor) if halved else None
        if half is not None:
            kept = numpy_helper.from_array(half, f"half.{tensor.name}")
            nodes.append(helper.make_node("Cast", [kept.name], [f"dfm.{tensor.name}"], to=TensorProto.FLOAT))
        weights.append(kept)
    for node in model.graph.node:
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.name, copy.doc_string, copy.domain = "", "", ""
        del copy.input[:], copy.output[:]
        copy.input.extend(f"dfm.{name}" if name else "" for name in node.input)
        copy.output.extend(f"dfm.{name}" if name else "" for name in node.output)
        nodes.append(copy)
    return nodes, weights


def _half(tensor: TensorProto) -> NDArray[np.float16] | None:
    """A large float weight in FP16, if it fits."""
    if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _LARGE_WEIGHT:
        return None
    value = np.asarray(numpy_helper.to_array(tensor))
    return value.astype(np.float16) if bool((np.abs(value) <= _F16_MAX).all()) else None


# ---- is it still the same? -------------------------------------------------------------------------------------------


def _compare(
    reference: ModelProto, swap_onnx: bytes, names: Mapping[str, str], side: int, mask: MaskChoice, *, halved: bool
) -> None:
    """Run the file's own graph and ours on the same picture. Raises PersonaFormatError when they differ.

    The guard has let ours pass, and the file's has no node that ours has not, except a morph's two cuts: it needs no
    more time or memory.
    """
    picture = _picture(side)
    try:
        ours = OnnxRuntime(swap_onnx)
        original = _session(reference)
        for morph in MORPHS if _MORPH in names else (None,):
            feeds: dict[str, F32] = {names[_FACE]: picture}
            given: dict[str, F32] = {"face": np.ascontiguousarray(picture[..., ::-1].transpose(0, 3, 1, 2))}
            if morph is not None:
                feeds[names[_MORPH]] = np.array([morph], np.float32)
                given["morph"] = np.array([[morph]], np.float32)
            found = dict(zip(_OUTPUTS, original(feeds, [names[name] for name in _OUTPUTS]), strict=True))
            results = ours.run(given)
            masks = {"both": [_PERSONA_MASK, _WEARER_MASK], "persona": [_PERSONA_MASK], "wearer": [_WEARER_MASK]}[mask]
            wanted = np.minimum.reduce([found[name] for name in masks]).transpose(0, 3, 1, 2)
            _agree("picture", found[_PICTURE][..., ::-1].transpose(0, 3, 1, 2), results["swap"], halved=halved)
            _agree("mask", wanted, results["mask"], halved=halved)
    except RuntimeFailure as error:
        raise _refuse(f"it does not run: {error.message}") from error


def _session(model: ModelProto) -> Any:
    """A function (feeds, names) -> values over ONNX Runtime; the graph may have shapes that it learns while running."""
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes share no base but Exception
        raise _refuse(f"it cannot be loaded ({next(iter(str(error).splitlines()), '')[:200]})") from error

    def run(feeds: Mapping[str, F32], names: Sequence[str]) -> list[F32]:
        try:
            return [np.asarray(value, np.float32) for value in session.run(list(names), dict(feeds))]
        except Exception as error:
            raise _refuse(f"it does not run ({next(iter(str(error).splitlines()), '')[:200]})") from error

    return run


def _picture(side: int) -> F32:
    """(1, R, R, 3) of slow waves and noise, 0..1: it touches every pixel with its own value."""
    rng = np.random.default_rng(0)
    waves = np.sin(np.arange(side)[:, None, None] / 9.0 + np.arange(3)) * np.cos(np.arange(side)[None, :, None] / 7.0)
    picture = 0.5 + 0.35 * waves + 0.15 * rng.uniform(-1, 1, (side, side, 3))
    return np.ascontiguousarray(picture[None], np.float32)


def _agree(what: str, wanted: F32, found: F32, *, halved: bool) -> None:
    if not np.isfinite(wanted).all():
        raise _refuse(f"its {what} holds numbers that are not finite")
    error = np.abs(wanted - found)
    if halved:
        square = float(np.mean(error**2))
        bad = square > 10.0 ** (-_MIN_HALF_DB / 10.0)
    else:
        bad = float(error.max()) > _MAX_ERROR
    if bad:
        raise _refuse(f"its {what} came out differently by {float(error.max()):.3g} after the conversion")


__all__ = ["CODE_SIZE", "IMPORTED_NETWORK", "SUFFIX", "ImportedNetwork", "MaskChoice", "import_dfm"]
