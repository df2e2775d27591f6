"""ONNX Runtime's execution providers: which are asked for, in which order, and what is said when one falls away."""

from __future__ import annotations

import logging

import pytest

from engines.runtimes import open_runtime
from engines.runtimes.onnx import PROVIDERS, OnnxRuntime, import_onnxruntime
from tests.onnx_models import affine

CPU = "CPUExecutionProvider"


class Session:
    """An ONNX Runtime whose CUDA libraries do not load: it goes on without a word."""

    asked: list[str]

    def __init__(self, model, options, providers) -> None:
        import onnxruntime

        type(self).asked = [name for name, _ in providers]
        self.real = onnxruntime.capi.onnxruntime_inference_collection.InferenceSession(model, options, providers=[CPU])

    def __getattr__(self, name):
        return getattr(self.real, name)


def with_providers(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    ort = import_onnxruntime()
    monkeypatch.setattr(ort, "get_available_providers", lambda: list(names))
    monkeypatch.setattr(ort, "InferenceSession", Session)


def test_the_order_is_one_table_and_ends_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [name for name, _ in PROVIDERS] == [
        "CUDAExecutionProvider", "DmlExecutionProvider", "CoreMLExecutionProvider", CPU,
    ]  # fmt: skip
    with_providers(monkeypatch, CPU, "CoreMLExecutionProvider", "CUDAExecutionProvider", "AzureExecutionProvider")
    OnnxRuntime(affine())
    assert Session.asked == ["CUDAExecutionProvider", "CoreMLExecutionProvider", CPU]


def test_a_silent_fall_to_the_cpu_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with_providers(monkeypatch, "CUDAExecutionProvider", CPU)
    with caplog.at_level(logging.WARNING, "personacam"):
        runtime = OnnxRuntime(affine())
    assert runtime.provider == CPU
    assert runtime.fell_back is not None
    assert "asked for CUDAExecutionProvider and runs on CPUExecutionProvider" in runtime.fell_back
    assert runtime.fell_back in caplog.text


def test_nothing_is_said_where_nothing_fell_away() -> None:
    runtime = open_runtime(affine(), prefer=["onnxruntime"])
    assert isinstance(runtime, OnnxRuntime)
    assert runtime.fell_back is None
