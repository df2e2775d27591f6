"""ONNX -> TensorRT plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Backend = Literal["tensorrt-rtx", "tensorrt"]
PlanPrecision = Literal["fp16", "fp32"]


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to compile."""

    onnx: bytes
    """The persona's ``swap.onnx``."""
    backend: Backend
    sm: tuple[int, int]
    """Compute capability of the GPU that runs the plan, for example (8, 9)."""
    precision: PlanPrecision = "fp16"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A serialised engine, verified to be of ``precision``."""

    data: bytes
    backend: Backend
    backend_version: str
    sm: tuple[int, int]
    precision: PlanPrecision
    seconds: float
    layers: Mapping[str, int]
    """Precision ("fp16", "fp32", ...) -> number of layers."""
    source: Literal["inspector", "graph"]
    """Whether the finished engine was asked, or the network it was built from (no driver: nothing can be loaded)."""


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """One backend on this machine."""

    name: Backend
    version: str | None
    reason: str | None
    """Why it is not usable; None when it is."""


def live_graph(onnx: bytes, precision: PlanPrecision) -> bytes:
    """Being written: engines.live_graph."""
    raise NotImplementedError


def build_plan(request: BuildRequest, progress: Callable[[float], None] | None = None) -> Plan:
    """Being written."""
    raise NotImplementedError


def available_backends() -> tuple[BackendInfo, ...]:
    """Being written."""
    raise NotImplementedError
