from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper

from engines import export
from engines.errors import ExportError
from engines.network import build, build_decoder, build_encoder


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)


@pytest.fixture
def networks(small_sizes):
    return build_encoder(small_sizes, seed=0), build_decoder(small_sizes, seed=1)


def test_export_agrees_and_halves_the_file(networks, crops):
    exported = export.export_swap(*networks, crops)
    assert exported.f32.max_abs_error <= 1e-3
    assert exported.f32.crops == 16
    assert exported.f16.swap_psnr_db >= 45
    assert exported.f16.max_abs_error > exported.f32.max_abs_error
    proto = onnx.load_model_from_string(exported.onnx_f16)
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    assert shapes == {"face": [1, 3, 32, 32], "swap": [1, 3, 32, 32], "mask": [1, 1, 32, 32], "code": [1, 24]}
    assert TensorProto.FLOAT not in {i.data_type for i in proto.graph.initializer}
    assert {n.domain for n in proto.graph.node} <= {"", "ai.onnx"}


@torch.no_grad()
def test_outputs_are_clamped(networks, crops):
    networks[1].head.bias[:6] = 3.0
    networks[1].head.bias[6:12] = -3.0
    swap, mask, _ = export.SwapGraph(*networks)(torch.rand(1, 3, 32, 32))
    assert float(swap.max()) == 1
    assert float(swap.min()) == 0
    assert 0 < float(mask.min()) <= float(mask.max()) < 1


def test_the_tiny_tier_exports_to_less_than_4_megabytes():
    encoder, decoder = build("tiny")
    graph = export.store_weights_as_f16(export.to_onnx(export.SwapGraph(encoder, decoder)))
    assert len(graph) < 4e6


def sabotage(model: bytes) -> bytes:
    proto = onnx.load_model_from_string(model)
    weight = next(i for i in proto.graph.initializer if i.name.endswith("head.weight"))
    values = numpy_helper.to_array(weight).copy()
    values[0] += 0.5
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    return proto.SerializeToString()


def test_a_wrong_graph_is_not_exported(networks, crops, monkeypatch):
    honest = export.to_onnx
    monkeypatch.setattr(export, "to_onnx", lambda graph: sabotage(honest(graph)))
    with pytest.raises(ExportError, match="differs from torch"):
        export.export_swap(*networks, crops)


def test_a_wrong_f16_graph_is_not_exported(networks, crops, monkeypatch):
    honest = export.store_weights_as_f16
    monkeypatch.setattr(export, "store_weights_as_f16", lambda model: honest(sabotage(model)))
    with pytest.raises(ExportError, match="dB"):
        export.export_swap(*networks, crops)


def test_weights_beyond_f16_and_nan_are_refused(networks, crops):
    with torch.no_grad():
        networks[1].to_grid.bias[0] = 1e6
    with pytest.raises(ExportError, match="float16"):
        export.export_swap(*networks, crops)
    with torch.no_grad():
        networks[1].to_grid.bias[0] = torch.nan
    with pytest.raises(ExportError):
        export.export_swap(*networks, crops)


def test_crops_and_networks_must_fit(networks, crops):
    with pytest.raises(ExportError, match="crops"):
        export.export_swap(*networks, crops[:4])
    with pytest.raises(ExportError, match="decoder"):
        export.SwapGraph(networks[0], build("tiny")[1])
