"""A persona's network with convolutions in eight bits: post-training quantisation with real crops.

Weights per output channel, activations per tensor with the range that they had on the given pictures; ONNX Runtime's
own tool writes the graph (quantise and dequantise nodes around float operators), OpenVINO runs it in integers. What is
read off a picture stays in float: the last convolution, which makes it. With it in eight bits the picture agreed with
float32 to 24 dB, without it to 43.6 dB (amara, tiny); its inputs and outputs are float32 as before.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from engines.errors import ExportError
from engines.persona import Manifest
from engines.runtimes.base import Array
from engines.types import F32, U8

Feeds = Mapping[str, Array]
GAINS = (1.0, 0.6, 1.35)
"""Brightness of the pictures that ranges are taken from: a room is darker or lighter than where they were taken."""
_QUANTISED = ["Conv", "Gemm"]


def quantise(model: bytes, feeds: Sequence[Feeds]) -> bytes:
    """``model``, a persona's ``swap.onnx``, with eight-bit convolutions; ``feeds`` set the activations' ranges.

    Raises ExportError when the graph cannot be quantised.
    """
    if not feeds:
        raise ExportError("there is nothing to take the ranges of activations from", hint="give some real crops")
    with _quiet():
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
            def __init__(self) -> None:
                self._rest = iter(feeds)

            def get_next(self) -> dict[str, Array] | None:
                following = next(self._rest, None)
                return None if following is None else dict(following)

        with tempfile.TemporaryDirectory() as folder:
            stored, folded, done = (Path(folder) / name for name in ("stored.onnx", "folded.onnx", "int8.onnx"))
            stored.write_bytes(model)
            try:
                # Stored weights are unpacked here, otherwise there would be no constants to quantise.
                quant_pre_process(str(stored), str(folded), skip_symbolic_shape=True)
                quantize_static(
                    str(folded),
                    str(done),
                    Reader(),
                    quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=_QUANTISED,
                    nodes_to_exclude=[_last_convolution(folded)],
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                )
            except (RuntimeError, ValueError, OSError) as error:
                raise ExportError(f"the network cannot be quantised: {error}", hint="use --precision f32") from error
            return done.read_bytes()


def crop_feeds(manifest: Manifest, crops: U8, points: F32, gain: float = 1.0) -> Iterator[dict[str, Array]]:
    """What the network of ``manifest`` takes, for (N, S, S, 3) BGR ``crops`` and (N, P, 2) mesh ``points``.

    ``gain`` makes the pictures darker or lighter; the wearer's calibration is the one that changes nothing.
    """
    for crop, mesh in zip(crops, points, strict=True):
        shapes = manifest.network_inputs()
        feeds = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        picture = np.clip(crop[..., ::-1].astype(np.float32) * np.float32(gain / 255.0), 0.0, 1.0)
        feeds["face"][0] = picture.transpose(2, 0, 1)
        if manifest.mesh_points:
            feeds["points"][0], feeds["present"][...] = mesh, 1.0
        if manifest.code_calibration:
            feeds["code_gain"].fill(1.0)
        if manifest.morph is not None:
            feeds["morph"].fill(manifest.morph)
        yield feeds


def range_feeds(manifest: Manifest, crops: U8, points: F32) -> list[dict[str, Array]]:
    """For ``quantise``: every crop in every brightness of GAINS, one of them without mesh points as well."""
    feeds = [one for gain in GAINS for one in crop_feeds(manifest, crops, points, gain)]
    if manifest.mesh_points and feeds:
        feeds.append(feeds[0] | {name: np.zeros_like(feeds[0][name]) for name in ("points", "present")})
    return feeds


def _last_convolution(path: Path) -> str:
    graph = onnx.load(str(path)).graph
    names = [node.name for node in graph.node if node.op_type == "Conv"]
    if not names:
        raise ExportError("the network has no convolution", hint="use --precision f32")
    return str(names[-1])


@contextmanager
def _quiet() -> Iterator[None]:
    """The tool gives advice through the root logger, where it would look like ours."""
    root: Any = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
