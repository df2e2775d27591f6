"""What ``bench_engine.py`` measures: a persona's network of each tier, as files that need nothing but numpy to be used.

FOLDER/cases.json         facts of each tier: work, weights, bytes
FOLDER/TIER/swap.onnx     the float32 network
FOLDER/TIER/fp16, fp32    model.onnx: the live graph, as engines.build_worker takes it
FOLDER/TIER/data.npz      real crops and mesh points, and what ONNX Runtime makes of them in float32

Only ``prepare`` needs this repository's packages; a machine with a card and no internet needs numpy and TensorRT.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx

from engines.live_graph import live_graph
from engines.onnx_fold import infer_folded
from engines.persona import Crop, Manifest, read_persona
from engines.runtimes import open_runtime
from engines.types import F32, U8
from realtime.session import persona_store, wearer_crops
from realtime.swap import PlanarRuntime

PRECISIONS = ("fp16", "fp32")


@dataclass(frozen=True, slots=True)
class Case:
    """One tier. Bytes and operations are of one frame."""

    tier: str
    weights: str
    """Whose: a persona's, or "random" where none of this tier is at hand; speed depends on shapes alone."""
    crop_size: int
    swap_size: int
    parameters: int
    gflop: float
    """Convolutions and linear layers; a multiply-add is two operations."""
    activation_values: int
    """Numbers between the nodes of the network."""
    bus_bytes: tuple[int, int]
    """Bytes of the live graph's inputs and outputs: to the card, from the card."""
    float_bus_bytes: tuple[int, int]
    """The same if pictures crossed the bus as float32."""


def network_of(tier: str) -> tuple[bytes, Manifest, str]:
    """(swap.onnx, its manifest, whose weights): the first persona of that tier, else random weights (needs torch)."""
    store = persona_store()
    for path in store.list():
        found = store.tiers(path.stem).get(tier)
        if found is not None:
            persona = read_persona(found)
            return persona.swap_onnx, persona.manifest, persona.manifest.name
    import torch

    from engines.export import SwapGraph, to_onnx
    from engines.network import PersonaDecoder, UniversalEncoder, config

    torch.manual_seed(5)
    torch.set_num_threads(1)
    sizes = config(tier)  # type: ignore[arg-type]  # an unknown tier raises
    data = to_onnx(SwapGraph(UniversalEncoder(sizes), PersonaDecoder(sizes)).eval())
    manifest = Manifest(
        name="random", title="random weights", kind="invented", tier=tier, network="benchmark",
        encoder_sha256="0" * 64, crop=Crop(side_dm=2.4, centre_dm=(0.0, 0.12)), crop_size=sizes.input_size,
        output_size=sizes.output_size, code_size=sizes.code_size, code_calibration=True, seed=5,
        created_by="bench_engine",
    )  # fmt: skip
    return data, manifest, "random"


def work(model: bytes) -> tuple[float, int, int]:
    """(operations, parameters, numbers between nodes) of a graph.

    A convolution multiplies and adds every weight of its kernel once for each number that it gives.
    """
    proto = onnx.load_model_from_string(model)
    shapes = infer_folded(proto)
    weights = {t.name: tuple(t.dims) for t in proto.graph.initializer}
    operations = 0.0
    for node in proto.graph.node:
        if node.op_type not in {"Conv", "ConvTranspose", "Gemm", "MatMul"}:
            continue
        out = math.prod(shapes[node.output[0]])
        kernel = weights.get(node.input[1]) or shapes[node.input[1]]
        if node.op_type == "Conv":
            operations += 2.0 * out * math.prod(kernel[1:])
        elif node.op_type == "ConvTranspose":
            operations += 2.0 * math.prod(shapes[node.input[0]]) * math.prod(kernel[1:])
        else:
            operations += 2.0 * out * shapes[node.input[0]][-1]
    made = {name for node in proto.graph.node for name in node.output}
    values = sum(math.prod(shape) for name, shape in shapes.items() if name in made and name not in weights)
    return operations, sum(math.prod(dims) for dims in weights.values()), values


def bus_bytes(graph: bytes) -> tuple[int, int]:
    """Bytes of a graph's inputs and of its outputs."""
    proto = onnx.load_model_from_string(graph).graph
    sizes = [
        sum(
            math.prod(d.dim_value for d in v.type.tensor_type.shape.dim)
            * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type)).itemsize
            for v in values
        )
        for values in (proto.input, proto.output)
    ]
    return sizes[0], sizes[1]


def reference(model: bytes, manifest: Manifest, crops: U8, points: F32) -> tuple[U8, U8]:
    """Pictures and masks of ONNX Runtime in float32, as bytes."""
    runtime = PlanarRuntime(manifest, open_runtime(model, prefer=["onnxruntime"], precision="f32"))
    pictures, masks = [], []
    for crop, own in zip(crops, points, strict=True):
        picture, mask = runtime.swap(crop, own)
        pictures.append(picture.copy())
        masks.append(mask.copy())
    runtime.close()
    return np.stack(pictures), np.stack(masks)


def prepare(folder: Path, tiers: list[str]) -> list[Case]:
    """Write everything into ``folder``."""
    cases = []
    for tier in tiers:
        model, manifest, weights = network_of(tier)
        own = folder / tier
        crops, points = wearer_crops(manifest.crop_size)
        pictures, masks = reference(model, manifest, crops, points)
        own.mkdir(parents=True, exist_ok=True)
        (own / "swap.onnx").write_bytes(model)
        (own / "manifest.json").write_text(manifest.model_dump_json())
        np.savez(own / "data.npz", crops=crops, points=points, pixels=pictures, mask=masks)
        graphs = {precision: live_graph(model, precision) for precision in PRECISIONS}  # type: ignore[arg-type]
        for precision, graph in graphs.items():
            (own / precision).mkdir(exist_ok=True)
            (own / precision / "model.onnx").write_bytes(graph)
        # The live graph has its weights as weights; the shipped file stores them packed, and unpacks them in nodes.
        operations, parameters, values = work(graphs["fp32"])
        case = Case(
            tier, weights, manifest.crop_size, manifest.output_size, parameters, operations / 1e9, values,
            bus_bytes(graphs["fp16"]), bus_bytes(model),
        )  # fmt: skip
        cases.append(case)
    (folder / "cases.json").write_text(json.dumps([asdict(case) for case in cases], indent=1))
    return cases
