"""ONNX -> TensorRT plan, in a process of its own, and its precision read back.

    swap.onnx -> live_graph (FP16 in the graph) -> TensorRT -> Plan -> plan_check (against ONNX Runtime, FP32)

A plan that came out FP32 although FP16 was asked for is an error: TensorRT itself says nothing about it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx

from engines.build_worker import MODULES, Layers
from engines.errors import BuildError, PlanRefusedError
from engines.live_graph import LIVE_VERSION, PlanPrecision, live_graph

Backend = Literal["tensorrt-rtx", "tensorrt"]
BACKENDS: tuple[Backend, ...] = ("tensorrt-rtx", "tensorrt")
Progress = Callable[[float, float], None]
"""Called a few times a second with seconds so far and seconds that such a build usually takes."""

POLL_S = 0.2
NICE = 10
"""How much lower than ours the priority of a build is, on POSIX."""
TIMEOUT_S = 1800.0
MIN_FP16 = 0.75
"""Share of convolutions and linear layers that must be FP16. Builders of weak types may keep a few in FP32 because they
are faster there; strongly typed ones keep all as they are written."""
BYTES_PER_WEIGHT, PLAN_OVERHEAD_BYTES = 3, 2_900_000
"""A plan of FP16 weights has 2 bytes of each and up to 2.5 MB of its own, one of FP32 has 4 (TensorRT-RTX 1.7)."""
_TYPICAL_S: Mapping[Backend, tuple[float, float]] = {"tensorrt-rtx": (1.5, 0.2), "tensorrt": (25.0, 1.5)}
"""Seconds of a build: so many, and so many more for each MB of the FP16 graph."""


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
    """For messages."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A serialised engine of ``live_graph``, and what was read back from it."""

    data: bytes
    backend: Backend
    backend_version: str
    sm: tuple[int, int]
    precision: PlanPrecision
    """Verified."""
    seconds: float
    """Of the build."""
    layers: Mapping[str, int]
    """Precision ("fp16", "fp32", "uint8", ...) -> number of layers; what is done to bytes before and after is FP32."""
    weighted: Mapping[str, int]
    """The same of layers that hold weights."""
    source: Literal["inspector", "graph"]
    """Whether the finished engine was asked, or the network that it was built from (no driver: nothing can be loaded)
    and the plan's size."""


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """One backend on this machine."""

    name: Backend
    version: str | None
    reason: str | None
    """Why it is not usable; None when it is."""


def available_backends() -> tuple[BackendInfo, ...]:
    """All of BACKENDS in their order. The first call imports what there is: a second at most."""
    return tuple(_info(name) for name in BACKENDS)


def _info(name: Backend) -> BackendInfo:
    if importlib.util.find_spec(MODULES[name]) is None:
        extra = "rtx" if name == "tensorrt-rtx" else "tensorrt"
        return BackendInfo(name, None, f"not installed: pip install '.[{extra}]'")
    try:
        return BackendInfo(name, str(importlib.import_module(MODULES[name]).__version__), None)
    except (ImportError, OSError, AttributeError) as error:  # a package of stubs has no version
        return BackendInfo(name, None, f"cannot be imported: {error}")


def model_digest(onnx_model: bytes) -> str:
    """For ``PlanKey.model_sha256``: changes with the file, and when this program makes another graph of it."""
    return hashlib.sha256(f"live graph {LIVE_VERSION}\n".encode() + onnx_model).hexdigest()


def typical_seconds(backend: Backend, graph_bytes: int) -> float:
    """What a build usually takes, roughly."""
    base, per_mb = _TYPICAL_S[backend]
    return base + per_mb * graph_bytes / 1e6


def build_plan(request: BuildRequest, progress: Progress | None = None) -> Plan:
    """Compile. Takes seconds (TensorRT-RTX) to minutes, during which the interpreter is free for others.

    Raises BuildError when the backend is not there, cannot build for that GPU or finds no room for its files, and
    PlanRefusedError when it made a plan of another precision.
    """
    graph = live_graph(request.onnx, request.precision)
    try:
        with tempfile.TemporaryDirectory(prefix="personacam-build-", ignore_cleanup_errors=True) as name:
            result, data = _built(Path(name), graph, request, progress)
    except OSError as error:
        place = f"the folder for temporary files, {tempfile.gettempdir()}"
        raise BuildError(f"the build failed: {error.strerror}", hint=f"look at {place}") from error
    check_precision(request.precision, result["layers"], result["source"], len(data), count_weights(graph))
    return Plan(
        data,
        request.backend,
        result["version"],
        request.sm,
        request.precision,
        result["seconds"],
        result["layers"]["all"],
        result["layers"]["heavy"],
        result["source"],
    )


def _built(
    folder: Path, graph: bytes, request: BuildRequest, progress: Progress | None
) -> tuple[dict[str, Any], bytes]:
    """The worker's result, and the plan."""
    wanted = {"backend": request.backend, "sm": list(request.sm), "precision": request.precision}
    (folder / "request.json").write_text(json.dumps(wanted))
    (folder / "model.onnx").write_bytes(graph)
    result = _run_worker(folder, typical_seconds(request.backend, len(graph)), progress)
    return result, (folder / "plan").read_bytes()


def _run_worker(folder: Path, typical_s: float, progress: Progress | None) -> dict[str, Any]:
    """Start ``build_worker`` in ``folder`` and wait for it. It dies with this call, however that ends.

    A live stream may run beside it, so it gets what processor time that leaves over.
    """
    # Its working folder is a fresh one: no module there can stand in for ours.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "engines.build_worker", str(folder)]
    with (folder / "said").open("wb") as said:
        worker = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
            creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),  # Windows
        )  # fmt: skip
        _be_nice(worker.pid)
        started = time.monotonic()
        try:
            while worker.poll() is None:
                elapsed = time.monotonic() - started
                if elapsed > TIMEOUT_S:
                    raise BuildError(f"the build took more than {TIMEOUT_S:.0f} s", hint="run with --runtime openvino")
                if progress is not None:
                    progress(elapsed, typical_s)
                try:
                    worker.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
    return _result(folder, worker.returncode)


def _be_nice(process: int) -> None:
    """POSIX: as ``nice -n 10`` does. The process must not have threads yet, or they keep their priority."""
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError):  # it has ended at once; why is in what it said
            os.setpriority(os.PRIO_PROCESS, process, min(os.getpriority(os.PRIO_PROCESS, 0) + NICE, 19))


def _result(folder: Path, code: int) -> dict[str, Any]:
    """What the worker wrote; a result that is there counts, even if the libraries crashed after it."""
    try:
        result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    except OSError as error:
        lines = (folder / "said").read_text(errors="replace").strip().splitlines()
        last = lines[-1][:300] if lines else "it said nothing"
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        hint = "free memory and try again, or run with --runtime openvino"
        raise BuildError(f"the build {how}: {last}", hint=hint) from error
    if "error" in result:
        raise BuildError(str(result["error"]), hint=str(result["hint"]))
    return result


def check_precision(
    precision: PlanPrecision, layers: Layers, source: Literal["inspector", "graph"], plan_bytes: int, weights: int
) -> None:
    """Raises PlanRefusedError for a plan that is not of ``precision`` although TensorRT built it without a word.

    ``layers`` as ``build_worker`` counts them; layers that hold weights decide, or all where none is told apart.
    Without an inspector the plan's size must fit FP16 weights too; with one it is not looked at, because some builders
    store weights several times over.
    """
    if precision != "fp16":
        return
    hint = "use another TensorRT, or ask for FP32 by name: --precision fp32"
    counts = layers["heavy"] or layers["all"]
    half, single = counts.get("fp16", 0), counts.get("fp32", 0)
    if half < MIN_FP16 * (half + single) or not half:
        raise PlanRefusedError(f"the plan came out FP32: {single} of {half + single} layers with weights", hint=hint)
    most = BYTES_PER_WEIGHT * weights + PLAN_OVERHEAD_BYTES
    if source == "graph" and plan_bytes > most:
        what = f"the plan has {plan_bytes / 1e6:.1f} MB; FP16 weights would fit into {most / 1e6:.1f}"
        raise PlanRefusedError(f"the plan came out FP32: {what}", hint=hint)


def count_weights(graph: bytes) -> int:
    """Numbers stored in an ONNX graph."""
    return sum(math.prod(tensor.dims) for tensor in onnx.load_model_from_string(graph).graph.initializer)


__all__ = [
    "BACKENDS",
    "Backend",
    "BackendInfo",
    "BuildRequest",
    "Plan",
    "PlanPrecision",
    "Progress",
    "available_backends",
    "build_plan",
    "check_precision",
    "live_graph",
    "model_digest",
    "typical_seconds",
]
