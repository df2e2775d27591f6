"""Small files to the contract of DeepFaceLive's models, whose right answers are known.

Plain: the picture is the input darkened, blue most (BGR), the persona's mask is its green, the wearer's its red.
AMP: two codes of CHANNELS channels, "first" 0.9 and "second" 0.2; the picture is the share of "first" in all three
colours, cut as the trainer's exporter cuts it: Slice, Slice and Concat with lengths from the morph value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

R = 64
CHANNELS = 10
GAINS = np.array([0.5, 0.7, 0.9], np.float32)  # of B, G, R


def _value(name: str, *shape: int | str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def plain(side: int = R, *, batch: int | str = "N", opset: int = 12, **changes: Any) -> Any:
    """Keywords replace the outputs' claimed shapes: picture, persona, wearer."""
    nodes = [
        helper.make_node("Mul", ["in_face:0", "gains"], ["out_celeb_face:0"]),
        helper.make_node("Slice", ["in_face:0", "one", "two", "three"], ["out_celeb_face_mask:0"]),
        helper.make_node("Slice", ["in_face:0", "two", "three", "three"], ["out_face_mask:0"]),
    ]
    weights = {"gains": GAINS, "one": np.array([1]), "two": np.array([2]), "three": np.array([3])}
    return _model(nodes, weights, [_value("in_face:0", batch, side, side, 3)], side, batch, opset, changes)


def amp(side: int = R, *, opset: int = 12, lerp: bool = False, batch: int | str = "N") -> Any:
    """``lerp``: a port that mixes instead of cutting."""
    node = helper.make_node
    nodes = [node("Transpose", ["in_face:0"], ["planes"], perm=[0, 3, 1, 2]),
             node("Conv", ["planes", "first.w", "first.b"], ["first"]),
             node("Conv", ["planes", "second.w", "second.b"], ["second"])]  # fmt: skip
    if lerp:
        nodes += [node("Sub", ["unit", "morph_value:0"], ["rest"]), node("Mul", ["first", "morph_value:0"], ["a"]),
                  node("Mul", ["second", "rest"], ["b"]), node("Add", ["a", "b"], ["code"])]  # fmt: skip
    else:
        nodes += [
            node("Gather", ["morph_value:0", "index"], ["morph"], axis=0),
            node("Mul", ["morph", "channels"], ["count.float"]),
            node("Cast", ["count.float"], ["count.int"], to=TensorProto.INT32),
            node("Cast", ["count.int"], ["count"], to=TensorProto.INT64),
            node("Reshape", ["count", "single"], ["count.1"]),
            node("Concat", ["all", "count.1", "all", "all"], ["ends"], axis=0),
            node("Slice", ["first", "zeros", "ends"], ["first.cut"]),
            node("Concat", ["zero", "count.1", "zero", "zero"], ["starts"], axis=0),
            node("Slice", ["second", "starts", "everything"], ["second.cut"]),
            node("Concat", ["first.cut", "second.cut"], ["code"], axis=1),
        ]
    nodes += [node("Conv", ["code", "mean.w"], ["grey"]), node("Transpose", ["grey"], ["rows"], perm=[0, 2, 3, 1]),
              node("Concat", ["rows", "rows", "rows"], ["out_celeb_face:0"], axis=3),
              node("Sigmoid", ["rows"], ["out_celeb_face_mask:0"]),
              node("Identity", ["out_celeb_face_mask:0"], ["out_face_mask:0"])]  # fmt: skip
    most = np.iinfo(np.int64).max
    weights = {
        "first.w": np.zeros((CHANNELS, 3, 1, 1), np.float32), "first.b": np.full(CHANNELS, 0.9, np.float32),
        "second.w": np.zeros((CHANNELS, 3, 1, 1), np.float32), "second.b": np.full(CHANNELS, 0.2, np.float32),
        "mean.w": np.full((1, CHANNELS, 1, 1), 1 / CHANNELS, np.float32), "unit": np.ones(1, np.float32),
        "index": np.array(0), "channels": np.array(CHANNELS, np.float32), "single": np.array([1]),
        "all": np.array([most]), "zero": np.array([0]), "zeros": np.zeros(4, np.int64),
        "everything": np.full(4, most),
    }  # fmt: skip
    inputs = [_value("in_face:0", batch, side, side, 3), _value("morph_value:0", 1)]
    return _model(nodes, weights, inputs, side, batch, opset, {})


def _model(
    nodes: list[Any],
    weights: dict[str, Any],
    inputs: list[Any],
    side: int,
    batch: int | str,
    opset: int,
    claims: dict[str, Any],
) -> Any:
    shapes = {"wearer": (batch, side, side, 1), "picture": (batch, side, side, 3), "persona": (batch, side, side, 1)}
    names = {"wearer": "out_face_mask:0", "picture": "out_celeb_face:0", "persona": "out_celeb_face_mask:0"}
    outputs = [_value(names[key], *(claims | shapes | claims)[key]) for key in names]
    used = {name for made in nodes for name in made.input}
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items() if k in used]
    graph = helper.make_graph(nodes, "dfm", inputs, outputs, tensors)
    # As tf2onnx does: a second operator set that no node uses.
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 2)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=7)
