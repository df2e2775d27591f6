"""torch -> one ONNX graph per persona, compared with torch on real crops before anyone gets it.

    input   "face" (1, 3, S, S) RGB float32 0..1
    outputs "swap" (1, 3, T, T) RGB 0..1, "mask" (1, 1, T, T) 0..1, "code" (1, C)

In ONNX a name stands for one value, so the output picture cannot be called "face" like the input. The file that ships
stores its weights as float16 with a cast to float32 behind each: half the size, and a CPU runtime folds the casts while
loading and computes in float32 as before.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from engines.augment import to_tensor
from engines.errors import ExportError
from engines.metrics import psnr_masked_db
from engines.network import PersonaDecoder, UniversalEncoder
from engines.types import U8

INPUT = "face"
OUTPUTS = ("swap", "mask", "code")
OPSET = 17
MIN_CROPS = 16
MAX_ABS_ERROR_F32 = 1e-3
"""Largest difference of any output number between torch and the float32 graph."""
MIN_PSNR_F16_DB = 45.0
"""Least agreement of pictures and masks between torch and the graph with float16 weights."""


class SwapGraph(nn.Module):
    """Encoder and one decoder as the live path runs them: outputs clamped to 0..1."""

    def __init__(self, encoder: UniversalEncoder, decoder: PersonaDecoder) -> None:
        super().__init__()
        if encoder.sizes != decoder.sizes:
            raise ExportError(
                f"a {encoder.sizes.tier} encoder with a {decoder.sizes.tier} decoder",
                hint="export a decoder with the encoder that it was trained on",
            )
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, face: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, S, S) -> swap (N, 3, T, T), mask (N, 1, T, T), code (N, C)."""
        code = self.encoder(face)
        picture, mask = self.decoder(code)
        return picture.clamp(0, 1), torch.sigmoid(mask), code


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a graph in ONNX Runtime is from torch, over all crops."""

    crops: int
    max_abs_error: float
    """Of all outputs; pictures and masks are in 0..1."""
    swap_psnr_db: float
    mask_psnr_db: float


@dataclass(frozen=True, slots=True)
class ExportedSwap:
    """Both graphs, compared and found good."""

    onnx_f32: bytes
    onnx_f16: bytes
    """float16 weights, float32 computation: the one to ship."""
    f32: Agreement
    f16: Agreement
    opset: int = OPSET


def export_swap(encoder: UniversalEncoder, decoder: PersonaDecoder, crops: U8) -> ExportedSwap:
    """Export and compare on ``crops`` (N, S, S, 3) uint8 BGR, at least 16 of them, real ones.

    Raises ExportError when a graph does not agree with torch, or a weight does not fit into float16.
    """
    size = encoder.sizes.input_size
    if len(crops) < MIN_CROPS or crops.shape[1:] != (size, size, 3):
        raise ExportError(f"crops {crops.shape} cannot test the export", hint=f"give {MIN_CROPS} of side {size}")
    graph = SwapGraph(encoder, decoder).eval()
    onnx_f32 = to_onnx(graph)
    f32 = compare(onnx_f32, graph, crops)
    if not f32.max_abs_error <= MAX_ABS_ERROR_F32:  # written so that NaN fails
        raise ExportError(
            f"the ONNX graph differs from torch by {f32.max_abs_error:.2g} (at most {MAX_ABS_ERROR_F32:g})",
            hint="export with the torch version named in pyproject.toml",
        )
    onnx_f16 = store_weights_as_f16(onnx_f32)
    f16 = compare(onnx_f16, graph, crops)
    if not min(f16.swap_psnr_db, f16.mask_psnr_db) >= MIN_PSNR_F16_DB:
        raise ExportError(
            f"float16 weights change the picture to {f16.swap_psnr_db:.1f} dB, the mask to {f16.mask_psnr_db:.1f} dB "
            f"(at least {MIN_PSNR_F16_DB:g})",
            hint="look for exploded weights: train with a smaller learning_rate",
        )
    return ExportedSwap(onnx_f32, onnx_f16, f32, f16)


def to_onnx(graph: SwapGraph) -> bytes:
    """The float32 graph, batch 1, static shapes, no external data."""
    size = graph.encoder.sizes.input_size
    buffer = io.BytesIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # The TorchScript exporter is announced as deprecated; the other one needs one package more.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            graph,
            (torch.zeros(1, 3, size, size),),
            buffer,  # type: ignore[arg-type]  # a file object is what the TorchScript exporter takes
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


def store_weights_as_f16(model: bytes) -> bytes:
    """The same graph with every float32 weight stored as float16 and cast back. Raises ExportError on overflow."""
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    halves, casts = [], []
    for weight in list(graph.initializer):
        if weight.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(weight)
        if not (np.abs(values) <= np.finfo(np.float16).max).all():
            raise ExportError(f"{weight.name} does not fit into float16", hint="train with a smaller learning_rate")
        stored = f"{weight.name}.f16"
        halves.append(numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(
            helper.make_node("Cast", [stored], [weight.name], name=f"{weight.name}.cast", to=TensorProto.FLOAT)
        )
        graph.initializer.remove(weight)
    graph.initializer.extend(halves)
    nodes = [*casts, *graph.node]  # nodes must stand in the order of their dependencies
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


@torch.no_grad()
def compare(model: bytes, graph: SwapGraph, crops: U8) -> Agreement:
    """Run ``crops`` (N, S, S, 3) uint8 BGR through ONNX Runtime and through torch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    worst = 0.0
    pictures: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in OUTPUTS}
    for crop in crops:
        face = to_tensor(crop[None])
        expected = [t.numpy() for t in graph(face)]
        found = session.run(list(OUTPUTS), {INPUT: face.numpy()})
        for name, a, b in zip(OUTPUTS, found, expected, strict=True):
            error = float(np.abs(np.asarray(a) - b).max())
            worst = math.nan if math.isnan(error) or math.isnan(worst) else max(worst, error)
            pictures[name].append((np.asarray(a) * 255, b * 255))
    swap_db, mask_db = (_psnr(pictures[name]) for name in OUTPUTS[:2])
    return Agreement(len(crops), worst, swap_db, mask_db)


def _psnr(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """PSNR over everything; infinity for equal arrays."""
    a, b = (np.stack(side)[..., None] for side in zip(*pairs, strict=True))
    return psnr_masked_db(a, b, np.ones(a.shape[:-1], np.float32))
