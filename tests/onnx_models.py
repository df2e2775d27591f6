"""Tiny ONNX graphs whose right answers are known, and persona files made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from engines.persona import Crop, Manifest, write_persona

S, T, C = 16, 32, 8


def value(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def build(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    weights: dict[str, np.ndarray] | None = None,
    *,
    opsets: Sequence[tuple[str, int]] = (("", 17),),
) -> Any:
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "tiny", list(inputs), list(outputs), tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*o) for o in opsets], ir_version=8)


def affine(shape: tuple[int, ...] = (1, 3, 2, 2), gain: float = 2.0, offset: float = 1.0) -> bytes:
    """y = gain * x + offset, and total = the sum of y."""
    model = build(
        [
            helper.make_node("Mul", ["x", "gain"], ["scaled"]),
            helper.make_node("Add", ["scaled", "offset"], ["y"]),
            helper.make_node("ReduceSum", ["y"], ["total"], keepdims=0),
        ],
        [value("x", *shape)],
        [value("y", *shape), value("total")],
        {"gain": np.float32(gain).reshape(1), "offset": np.float32(offset).reshape(1)},
    )
    return bytes(model.SerializeToString())


def swap_model(s: int = S, t: int = T, c: int = C, *, scale: float = 1.0) -> Any:
    """swap = the face enlarged (nearest) times ``scale``, mask = 1 - its red, code = its first numbers."""
    factor = t // s
    return build(
        [
            helper.make_node("Resize", ["face", "", "factors"], ["big"], mode="nearest"),
            helper.make_node("Mul", ["big", "scale"], ["swap"]),
            helper.make_node("Slice", ["big", "zero", "one", "channel"], ["red"]),
            helper.make_node("Sub", ["unit", "red"], ["mask"]),
            helper.make_node("Reshape", ["face", "flat"], ["line"]),
            helper.make_node("Slice", ["line", "zero", "count", "channel"], ["code"]),
        ],
        [value("face", 1, 3, s, s)],
        [value("swap", 1, 3, t, t), value("mask", 1, 1, t, t), value("code", 1, c)],
        {
            "factors": np.array([1, 1, factor, factor], np.float32),
            "scale": np.array([scale], np.float32),
            "unit": np.array([1], np.float32),
            "zero": np.array([0], np.int64),
            "one": np.array([1], np.int64),
            "channel": np.array([1], np.int64),
            "count": np.array([c], np.int64),
            "flat": np.array([1, -1], np.int64),
        },
    )


def manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "name": "ada", "title": "Ada, invented", "kind": "invented", "tier": "test", "network": "test-1",
        "encoder_sha256": "0" * 64, "crop": Crop(side_dm=2.4, centre_dm=(0.0, 0.12)), "crop_size": S, "output_size": T,
        "code_size": C, "seed": 7, "created_by": "the tests",
    }  # fmt: skip
    return Manifest(**(fields | changes))


def write(path: Path, **changes: Any) -> Path:
    fields: dict[str, Any] = {
        "swap_onnx": swap_model().SerializeToString(),
        "decoder": b"\x02\0\0\0\0\0\0\0{}",
        "preview": b"RIFF\x04\0\0\0WEBP",
        "report": {"psnr_db": 21.5, "worst": float("nan")},
    }
    write_persona(path, manifest(), **(fields | changes))
    return path
