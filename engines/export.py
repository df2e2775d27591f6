"""torch -> one ONNX graph per persona, compared with torch on real crops before anyone gets it.

    inputs  "face" (1, 3, S, S) RGB float32 0..1
            "points" (1, P, 2) fractions of the crop's side, in the order of MESH_SUBSET, and "present" (1, 1), 1 or 0
            where there are none: only of an encoder that takes points
            "code_gain" (1, C), "code_shift" (1, C): the wearer's calibration (see ``wearer``). The decoder gets
            code * gain + shift; ones and zeros change nothing
    outputs "swap" (1, 3, T, T) RGB 0..1, "mask" (1, 1, T, T) 0..1, "code" (1, C) as the encoder gave it

In ONNX a name stands for one value, so the output picture cannot be called "face" like the input. The file that ships
stores its weights in fewer bytes and computes in float32 as before (see ``compact``).
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from engines.augment import to_tensor
from engines.compact import Storage, compact
from engines.errors import ExportError
from engines.metrics import psnr_masked_db
from engines.network import NetworkConfig, PersonaDecoder, UniversalEncoder
from engines.types import F32, U8

OUTPUTS = ("swap", "mask", "code")
OPSET = 17
MIN_CROPS = 16
MAX_ABS_ERROR_F32 = 1e-3
"""Largest difference of any output number between torch and the float32 graph."""
MIN_PSNR_DB: dict[Storage, float] = {"int6": 40.0, "int7": 40.0, "int8": 40.0, "float16": 45.0}
"""Least agreement of pictures and masks between torch and the graph with stored weights."""


def input_shapes(sizes: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the graph's inputs, in the order of ``SwapGraph.forward``."""
    size, code, count = sizes.input_size, sizes.code_size, sizes.mesh_points
    shapes: dict[str, tuple[int, ...]] = {"face": (1, 3, size, size), "code_gain": (1, code), "code_shift": (1, code)}
    return shapes | ({"points": (1, count, 2), "present": (1, 1)} if count else {})


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

    def forward(
        self, face: Tensor, gain: Tensor, shift: Tensor, points: Tensor | None = None, present: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, S, S), (N, C), (N, C), (N, P, 2), (N, 1) -> swap (N, 3, T, T), mask (N, 1, T, T), code (N, C)."""
        code = self.encoder(face, points, present)
        picture, mask = self.decoder(code * gain + shift)
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
    onnx: bytes
    """The one to ship: weights stored as ``weights`` says, float32 computation."""
    weights: Storage
    f32: Agreement
    shipped: Agreement
    """Of ``onnx``."""
    opset: int = OPSET


def export_swap(
    encoder: UniversalEncoder,
    decoder: PersonaDecoder,
    crops: U8,
    points: F32 | None = None,
    *,
    storages: Sequence[Storage] = ("int7", "int8", "float16"),
) -> ExportedSwap:
    """Export and compare on ``crops`` (N, S, S, 3) uint8 BGR, at least 16 of them, real ones.

    An encoder that takes mesh points needs those of the crops, ``points`` (N, P, 2) as fractions of the crop's side.
    Weights ship in the first of ``storages`` that agrees with torch as MIN_PSNR_DB asks. Raises ExportError when none
    does or the float32 graph does not, when a weight does not fit into float16, or when crops or points do not fit the
    networks.
    """
    _check_faces(encoder.sizes, crops, points)
    graph = SwapGraph(encoder, decoder).eval()
    onnx_f32 = to_onnx(graph)
    f32 = compare(onnx_f32, graph, crops, points)
    if not f32.max_abs_error <= MAX_ABS_ERROR_F32:  # written so that NaN fails
        raise ExportError(
            f"the ONNX graph differs from torch by {f32.max_abs_error:.2g} (at most {MAX_ABS_ERROR_F32:g})",
            hint="export with the torch version named in pyproject.toml",
        )
    missed = "weights cannot be stored in no way at all"
    for weights in storages:
        model = compact(onnx_f32, weights)
        shipped = compare(model, graph, crops, points)
        if min(shipped.swap_psnr_db, shipped.mask_psnr_db) >= MIN_PSNR_DB[weights]:
            return ExportedSwap(onnx_f32, model, weights, f32, shipped)
        missed = f"{weights} weights change the picture to {shipped.swap_psnr_db:.1f} dB, "
        missed += f"the mask to {shipped.mask_psnr_db:.1f} dB (at least {MIN_PSNR_DB[weights]:g})"
    raise ExportError(missed, hint="look for exploded weights: train with a smaller learning_rate")


def _check_faces(sizes: NetworkConfig, crops: U8, points: F32 | None) -> None:
    size, count = sizes.input_size, sizes.mesh_points
    if len(crops) < MIN_CROPS or crops.shape[1:] != (size, size, 3):
        raise ExportError(f"crops {crops.shape} cannot test the export", hint=f"give {MIN_CROPS} of side {size}")
    if (points is None) != (count == 0) or (points is not None and points.shape != (len(crops), count, 2)):
        found = "no points" if points is None else f"points {points.shape}"
        wanted = f"points ({len(crops)}, {count}, 2)" if count else "none"
        raise ExportError(f"{found} cannot test this export", hint=f"give {wanted}, as the encoder takes them")


def to_onnx(graph: SwapGraph) -> bytes:
    """The float32 graph, batch 1, static shapes, no external data."""
    shapes = input_shapes(graph.encoder.sizes)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # The TorchScript exporter is announced as deprecated; the other one needs one package more.
        warnings.simplefilter("ignore", DeprecationWarning)
        # The encoder looks at the points' shape while it is traced; shapes are fixed here.
        warnings.filterwarnings("ignore", "Converting a tensor to a Python boolean")
        torch.onnx.export(
            graph,
            tuple(torch.zeros(shape) for shape in shapes.values()),
            buffer,  # type: ignore[arg-type]  # a file object is what the TorchScript exporter takes
            input_names=list(shapes),
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


@torch.no_grad()
def compare(model: bytes, graph: SwapGraph, crops: U8, points: F32 | None = None) -> Agreement:
    """Run ``crops`` (N, S, S, 3) uint8 BGR through ONNX Runtime and through torch; with ``points`` (N, P, 2) each of
    them twice: with its points, and without.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    worst = 0.0
    pictures: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in OUTPUTS}
    for feeds in _feeds(graph.encoder.sizes, crops, points):
        expected = [t.numpy() for t in graph(*feeds.values())]
        found = session.run(list(OUTPUTS), {name: tensor.numpy() for name, tensor in feeds.items()})
        for name, a, b in zip(OUTPUTS, found, expected, strict=True):
            error = float(np.abs(np.asarray(a) - b).max())
            worst = math.nan if math.isnan(error) or math.isnan(worst) else max(worst, error)
            pictures[name].append((np.asarray(a) * 255, b * 255))
    swap_db, mask_db = (_psnr(pictures[name]) for name in OUTPUTS[:2])
    return Agreement(len(crops), worst, swap_db, mask_db)


def _feeds(sizes: NetworkConfig, crops: U8, points: F32 | None) -> Iterator[dict[str, Tensor]]:
    """What the graph takes, in its order, with a calibration that changes nothing."""
    gain, shift = torch.ones(1, sizes.code_size), torch.zeros(1, sizes.code_size)
    for i in range(len(crops)):
        feeds = {"face": to_tensor(crops[i : i + 1]), "code_gain": gain, "code_shift": shift}
        if points is None:
            yield feeds
            continue
        own = torch.from_numpy(np.ascontiguousarray(points[i : i + 1], np.float32))
        for present in (1.0, 0.0):
            yield feeds | {"points": own, "present": torch.full((1, 1), present)}


def _psnr(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """PSNR over everything; infinity for equal arrays."""
    a, b = (np.stack(side)[..., None] for side in zip(*pairs, strict=True))
    return psnr_masked_db(a, b, np.ones(a.shape[:-1], np.float32))
