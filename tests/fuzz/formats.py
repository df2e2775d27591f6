"""Mutations that keep a file of its kind: what is behind a checksum or a parser is reached only by these.

Each takes a seeded generator and the bytes of one file, and gives other bytes. What cannot be parsed any more is
changed as plain bytes.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor

INTEGERS = (0, 1, -1, 2, 7, 16, 127, 128, 255, 256, 1000, 4096, 65535, 1 << 20, 2**31 - 1, -(2**31), 2**32, 2**63 - 1)
NUMBERS = (0.0, -0.0, 1e-300, 1e300, -1.5, 0.5, float("inf"), float("-inf"), float("nan"))
TEXTS = ("", "..", "../../escape", "/etc/passwd", "a" * 5000, "\x00", "\x1b[2J", "é", "NaN", "C:\\x", "1", "-")
OPERATORS = (
    "Add", "Sub", "Mul", "Div", "Conv", "ConvTranspose", "MatMul", "Gemm", "Resize", "Reshape", "Concat", "Split",
    "Slice", "Gather", "Pad", "Expand", "Tile", "ConstantOfShape", "Range", "NonZero", "Loop", "If", "Scan", "TopK",
    "OneHot", "Cast", "DepthToSpace", "Transpose", "Softmax", "GRU", "LSTM", "Einsum", "Identity", "GlobalMaxPool",
    "AveragePool", "MaxPool", "BatchNormalization", "CumSum", "ScatterND", "GridSample", "Upsample", "Where", "Sqrt",
    "QuantizeLinear", "DequantizeLinear", "MatMulInteger", "RandomNormal", "Trilu", "RoiAlign", "NonMaxSuppression",
)  # fmt: skip
Random = random.Random


# ---- bytes -----------------------------------------------------------------------------------------------------------


def plain(rng: Random, data: bytes) -> bytes:
    """Flip, cut, repeat, insert, overwrite with numbers of note, or truncate."""
    if not data:
        return rng.randbytes(rng.randrange(1, 64))
    out, at = bytearray(data), rng.randrange(len(data))
    choice = rng.randrange(7)
    if choice == 0:
        out[at] ^= 1 << rng.randrange(8)
    elif choice == 1:
        del out[at : at + rng.choice((1, 4, 16, 256))]
    elif choice == 2:
        piece = out[at : at + rng.choice((1, 4, 16, 256, 4096))]
        out[at:at] = piece * rng.choice((1, 2, 50))
    elif choice == 3:
        out[at:at] = rng.randbytes(rng.randrange(1, 32))
    elif choice == 4:
        form = rng.choice(["<I", ">I", "<Q", ">Q", "<H", ">H"])
        blob = struct.pack(form, rng.choice(INTEGERS) & (256 ** struct.calcsize(form) - 1))
        out[at : at + len(blob)] = blob
    elif choice == 5:
        del out[at:]
    else:
        for _ in range(rng.randrange(2, 20)):
            out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


# ---- JSON and TOML ---------------------------------------------------------------------------------------------------


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


def any_value(rng: Random, depth: int = 0) -> Any:
    """Some JSON value."""
    kinds = 5 if depth > 3 else 8
    choice = rng.randrange(kinds)
    if choice == 0:
        return rng.choice(INTEGERS)
    if choice == 1:
        return rng.choice(NUMBERS)
    if choice == 2:
        return rng.choice(TEXTS)
    if choice in (3, 4):
        return rng.choice((None, True, False))
    if choice == 5:
        return {rng.choice(("a", "", "__proto__", "size")): any_value(rng, depth + 1)}
    if choice == 6:
        return [any_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return [rng.choice(INTEGERS)] * rng.choice((3, 2000))


def change_tree(rng: Random, value: Any) -> None:
    """Replace, remove, rename or nest something inside a parsed JSON value, in place."""
    places = list(_places(value))
    if not places:
        return
    holder, key = rng.choice(places)
    choice = rng.randrange(8)
    if choice < 4:
        holder[key] = any_value(rng)
    elif choice == 4:
        del holder[key]
    elif choice == 5 and isinstance(holder, dict):
        holder[rng.choice(TEXTS)] = holder.pop(key)
    elif choice == 6:
        other, its = rng.choice(places)
        holder[key] = other[its] if rng.random() < 0.5 else [other[its]]
    elif isinstance(holder[key], (int, float)) and not isinstance(holder[key], bool):
        holder[key] = rng.choice((holder[key] + 1, -holder[key], holder[key] * 1000, str(holder[key])))


def json_text(rng: Random, data: bytes) -> bytes:
    value = json.loads(data)
    if rng.random() < 0.05:
        deep = rng.choice((100, 100_000))
        return rng.choice((b"[" * deep, b'{"a":' * deep, b"[" * deep + b"]" * deep, b"9" * 5000, b"1e999"))
    change_tree(rng, value)
    text = json.dumps(value)
    if rng.random() < 0.1 and isinstance(value, dict) and value:
        key = rng.choice(list(value))
        text = f"{text[:-1]}, {json.dumps(key)}: {json.dumps(any_value(rng))}}}"  # the same key twice
    return text.encode()


def toml_text(rng: Random, data: bytes) -> bytes:
    lines = data.decode().splitlines() or [""]
    at = rng.randrange(len(lines))
    key = lines[at].split("=")[0].strip() or "fps"
    choice = rng.randrange(6)
    if choice == 0:
        lines[at] = f"{key} = {json.dumps(any_value(rng))}"
    elif choice == 1:
        odd = ["nan", "-inf", "1979-05-27T07:32:00Z", "07:32:00", "'''x", "[1, 'a', {b=1}]", "1e999999"]
        long = ["0x" + "f" * 300, "9" * 5000, "[" * 5000, "{a=" * 3000]
        lines[at] = f"{key} = {rng.choice([*odd, *long])}"
    elif choice == 2:
        lines.insert(at, lines[rng.randrange(len(lines))])
    elif choice == 3:
        lines[at] = rng.choice((f"[{key}]", f"[[{key}]]", f"{key}.x = 1", '"" = 1', "x" * 10000, "[a." * 2000))
    elif choice == 4:
        del lines[at]
    else:
        lines[at] = lines[at].replace(key, rng.choice((key.upper(), key[:-1], key + "s", "é")), 1)
    return "\n".join(lines).encode()


# ---- protobuf --------------------------------------------------------------------------------------------------------


def _many(field: Any) -> bool:
    """Whether a field holds a list; older protobuf packages say it with a label."""
    return bool(field.is_repeated if hasattr(field, "is_repeated") else field.label == 3)


def _fields(message: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """(message, field) of everything that is set, a little way down."""
    for field, value in message.ListFields():
        yield message, field
        if field.type != FieldDescriptor.TYPE_MESSAGE or depth > 6:
            continue
        inner = value if _many(field) else [value]
        for item in list(inner)[:200]:
            yield from _fields(item, depth + 1)


def _scalar(rng: Random, field: Any, old: Any, names: list[str]) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        if isinstance(old, bytes):
            return weights(rng, old)
        return rng.choice((*OPERATORS, *TEXTS[:4], *names)) if rng.random() < 0.9 else rng.choice(TEXTS[:4])
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return rng.choice(NUMBERS)
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return rng.randrange(32)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return not old
    near = rng.choice((old + 1, old - 1, old * 2, -old, old // 2)) if isinstance(old, int) else 0
    number = near if rng.random() < 0.6 else rng.choice(INTEGERS)
    wide = kind in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
    signed = kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
    top = 2 ** ((64 if wide else 32) - signed) - 1
    return max(-top - 1 if signed else 0, min(top, number))


def weights(rng: Random, raw: bytes) -> bytes:
    """Raw numbers with some that are not finite or very large."""
    if len(raw) < 4 or rng.random() < 0.2:
        return plain(rng, raw)
    out = bytearray(raw)
    for _ in range(rng.choice((1, 1, 8))):
        at = rng.randrange(len(raw) // 4) * 4
        out[at : at + 4] = struct.pack("<f", rng.choice((*NUMBERS[3:], 3e38, 1e-40)))
    return bytes(out)


def onnx_graph(rng: Random, data: bytes) -> bytes:
    model = onnx.load_model_from_string(data)
    if rng.random() < 0.25:
        _special_graph(rng, model)
        return bytes(model.SerializeToString())
    names = [name for node in model.graph.node for name in (*node.input, *node.output)]
    # Weights have many fields of no interest: the graph's own are drawn as often.
    places = list(_fields(model)) if rng.random() < 0.5 else [p for node in model.graph.node for p in _fields(node)]
    message, field = rng.choice(places)
    if _many(field):
        _repeated(rng, getattr(message, field.name), field, names)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _scalar(rng, field, getattr(message, field.name), names))
    return bytes(model.SerializeToString())


def _repeated(rng: Random, values: Any, field: Any, names: list[str]) -> None:
    at = rng.randrange(len(values))
    choice = rng.randrange(4)
    if choice == 0:
        del values[at]
    elif choice == 1:
        values.append(values[at])
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        values[at].CopyFrom(values[rng.randrange(len(values))])
    elif choice == 2:
        values.append(_scalar(rng, field, values[at], names))
    else:
        values[at] = _scalar(rng, field, values[at], names)


def _special_graph(rng: Random, model: Any) -> None:
    """What a hand with a purpose would write."""
    graph = model.graph
    weight = rng.choice(graph.initializer) if graph.initializer else graph.initializer.add(name="w", data_type=1)
    choice = rng.randrange(8)
    if choice == 0:  # a file elsewhere
        weight.ClearField("raw_data")
        weight.data_location = rng.choice((0, 1))
        weight.external_data.add(key="location", value=rng.choice(("../../etc/passwd", "/etc/passwd", "x.bin")))
    elif choice == 1:  # more than there is
        weight.dims[:] = [rng.choice((1 << 20, 2**31, 2**62, -1, 0)) for _ in range(rng.randrange(1, 5))]
    elif choice == 2:  # little stored, much computed
        shape = [rng.choice((1, 4096, 65536)) for _ in range(3)]
        graph.initializer.append(onnx.numpy_helper.from_array(_int64(shape), "bomb_shape"))
        graph.node.insert(0, onnx.helper.make_node("ConstantOfShape", ["bomb_shape"], ["bomb"]))
    elif choice == 3:
        node = graph.node[rng.randrange(len(graph.node))]
        node.op_type, node.domain = rng.choice(OPERATORS), rng.choice(("", "", "ai.onnx", "com.microsoft", "evil"))
    elif choice == 4:
        node = graph.node[rng.randrange(len(graph.node))]
        node.attribute.add(
            name=rng.choice(("body", "axis", "pads", "group", "kernel_shape", "to", "perm")), type=2, i=2**40
        )
    elif choice == 5:
        shape = graph.input[0].type.tensor_type.shape.dim
        if shape:
            shape[rng.randrange(len(shape))].dim_value = rng.choice((0, 1, 4096, 2**40))
    elif choice == 6:
        for entry in model.opset_import:
            entry.version = rng.choice((1, 7, 11, 13, 18, 21, 26, 99))
    else:
        function = model.functions.add(name=rng.choice(OPERATORS), domain="")
        function.node.append(graph.node[0])


def _int64(values: list[int]) -> Any:
    import numpy as np

    return np.array(values, np.int64)


BY_SUFFIX: dict[str, Callable[[Random, bytes], bytes]] = {
    ".json": json_text,
    ".toml": toml_text,
    ".onnx": onnx_graph,
}
