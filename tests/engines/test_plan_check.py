from __future__ import annotations

import dataclasses
import sys
import types
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from engines import plan_check
from engines.build import BuildRequest, Plan
from engines.errors import BuildError, PlanRefusedError
from engines.export import SwapGraph, to_onnx
from engines.live_graph import live_graph
from engines.mesh_subset import MESH_SUBSET
from engines.network import build_decoder, build_encoder
from engines.plan_check import build_checked, graph_runner, opened_plan, verify, verify_graph


@pytest.fixture(scope="module")
def model(small_sizes):
    sizes = dataclasses.replace(small_sizes, mesh_points=len(MESH_SUBSET))
    encoder, decoder = build_encoder(sizes, seed=0), build_decoder(sizes, seed=1)
    with torch.no_grad():
        decoder.head.weight.mul_(10)
    return to_onnx(SwapGraph(encoder, decoder).eval())


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def points():
    return np.random.default_rng(1).normal(0.5, 0.1, (32, len(MESH_SUBSET), 2)).astype(np.float32)


def plan(precision: str = "fp16") -> Plan:
    return Plan(b"plan", "tensorrt-rtx", "1.7", (8, 9), precision, 1.0, {precision: 9}, {precision: 5}, "graph")


def spoiled(model: bytes, name: str, change):
    run = graph_runner(live_graph(model))

    def spoil(feeds):
        outputs = dict(run(feeds))
        return outputs | {name: change(outputs[name])}

    return spoil


def test_the_fp16_graph_agrees_and_is_not_perfect(model, crops, points):
    half = verify_graph(model, "fp16", crops, points)
    assert half.checked == "graph"
    assert half.crops == 32
    assert 45 <= min(half.pixels_psnr_db, half.mask_psnr_db) < 59.5  # bytes alone are 58.9 dB
    assert half.code_error > 10 * verify_graph(model, "fp32", crops, points).code_error


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("pixels", lambda x: np.clip(x.astype(int) + 3, 0, 255).astype(np.uint8), "pictures agree"),
        ("mask", lambda x: 255 - x, "masks to"),
        ("pixels", lambda x: x[..., ::-1], "pictures agree"),
        ("code", lambda x: x * np.nan, "not finite"),
        ("pixels", np.zeros_like, "pictures agree"),
    ],
)
def test_a_plan_that_does_not_agree_is_refused(model, crops, points, name, change, match):
    with pytest.raises(PlanRefusedError, match=match):
        verify(spoiled(model, name, change), model, crops, points)


def test_one_bad_picture_of_many_is_noticed(model, crops, points):
    seen = []

    def once(pixels):
        seen.append(0)
        return np.zeros_like(pixels) if len(seen) == 40 else pixels

    with pytest.raises(PlanRefusedError):
        verify(spoiled(model, "pixels", once), model, crops, points)


def test_points_are_judged_with_and_without(model, crops, points):
    flags = []
    run = graph_runner(live_graph(model))

    def watch(feeds):
        flags.append(float(feeds["present"][0, 0]))
        return run(feeds)

    assert verify(watch, model, crops, points).checked == "plan"
    assert flags == [1.0, 0.0] * 32


def test_few_crops_judge_nothing(model, crops, points):
    with pytest.raises(PlanRefusedError, match="31 crops"):
        verify_graph(model, "fp16", crops[:31], points[:31])


class Builder:
    """``build_plan`` and a card whose FP16 is as bad as wanted."""

    def __init__(self, model: bytes, bad: set[str], refuse: set[str] = frozenset()) -> None:
        self.model, self.bad, self.refuse, self.built = model, bad, refuse, []

    def build(self, request, progress=None):
        self.built.append(request.precision)
        if request.precision in self.refuse:
            raise PlanRefusedError("the plan came out FP32", hint="x")
        return plan(request.precision)

    @contextmanager
    def open(self, made):
        good = graph_runner(live_graph(self.model, made.precision))
        yield spoiled(self.model, "mask", lambda x: x * 0) if made.precision in self.bad else good


@pytest.mark.parametrize(
    ("bad", "refuse", "built", "precision"),
    [
        (set(), set(), ["fp16"], "fp16"),
        ({"fp16"}, set(), ["fp16", "fp32"], "fp32"),
        (set(), {"fp16"}, ["fp16", "fp32"], "fp32"),
    ],
)
def test_fp16_that_is_refused_becomes_fp32_aloud(model, crops, points, monkeypatch, bad, refuse, built, precision):
    builder, said = Builder(model, bad, refuse), []
    monkeypatch.setattr(plan_check, "build_plan", builder.build)
    request = BuildRequest(model, "tensorrt-rtx", (8, 9), name="vera")
    checked = build_checked(request, crops, points, open_plan=builder.open, say=said.append)
    assert builder.built == built
    assert checked.plan.precision == precision
    assert checked.agreement.checked == "plan"
    assert (checked.refused is not None) == bool(said) == (precision == "fp32")
    if said:
        assert "vera: FP16 is refused, building FP32" in said[0]
        assert checked.refused in said[0]


def test_when_fp32_is_bad_too_that_is_an_error(model, crops, points, monkeypatch):
    builder = Builder(model, {"fp16", "fp32"})
    monkeypatch.setattr(plan_check, "build_plan", builder.build)
    request = BuildRequest(model, "tensorrt-rtx", (8, 9))
    with pytest.raises(PlanRefusedError, match="masks"):
        build_checked(request, crops, points, open_plan=builder.open, say=lambda _: None)
    assert builder.built == ["fp16", "fp32"]


def test_an_error_that_fp32_would_not_repair_is_passed_on(model, crops, points, monkeypatch):
    def fail(request, progress=None):
        raise BuildError("no such card", hint="x")

    monkeypatch.setattr(plan_check, "build_plan", fail)
    request = BuildRequest(model, "tensorrt-rtx", (9, 0))
    with pytest.raises(BuildError, match="no such card"):
        build_checked(request, crops, points, open_plan=None, say=pytest.fail)


def test_without_a_card_the_graph_is_judged(model, crops, points, monkeypatch):
    monkeypatch.setattr(plan_check, "build_plan", lambda request, progress: plan(request.precision))
    request = BuildRequest(model, "tensorrt-rtx", (8, 9))
    assert build_checked(request, crops, points, open_plan=None, say=pytest.fail).agreement.checked == "graph"


def test_a_plan_is_opened_run_and_closed(monkeypatch):
    class Engine:
        def __init__(self, data, backend, cuda, *, graph):
            assert (data, backend) == (b"plan", "tensorrt-rtx")
            self.inputs, self.outputs, self.open = {"crop": np.zeros(3)}, {"pixels": np.zeros(3)}, True
            made.append(self)

        def run(self):
            self.outputs["pixels"][...] = self.inputs["crop"] * 2

        def close(self):
            self.open = False

    made: list[Engine] = []
    for name, content in (("cuda", {"Cuda": object}), ("tensorrt", {"Engine": Engine})):
        fake = types.ModuleType(f"engines.runtimes.{name}")
        fake.__dict__.update(content)
        monkeypatch.setitem(sys.modules, fake.__name__, fake)
    with opened_plan(plan()) as run:
        assert list(run({"crop": np.arange(3)})["pixels"]) == [0, 2, 4]
    assert not made[0].open
