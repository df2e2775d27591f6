"""The part of a build that talks to TensorRT, in a process of its own.

    python -m engines.build_worker FOLDER

A build holds the interpreter for seconds to minutes, takes gigabytes, and its libraries were seen to crash at exit
where there is no driver: none of this must reach the process that shows frames. FOLDER holds ``model.onnx`` and
``request.json``; ``plan`` and, last of all, ``result.json`` are written beside them.

What differs between versions stands in ``_network_flags``, ``_configure`` and ``_target``:

    TensorRT-RTX, 11    strongly typed; no precision flags; RTX is told the compute capability and needs no card
    10, 9               strongly typed where it can be asked for, batch explicit in any case
    8.5, 8.6            weakly typed: the FP16 flag allows what the graph says
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

MODULES = {"tensorrt-rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}
"""Backend -> package."""
HEAVY = re.compile(r"conv|correlation|gemm|matmul|matrix_?multiply|fully_?connected|\bfc\b", re.IGNORECASE)
"""Layers that hold the weights: their precision is that of the plan. "correlation" is a convolution on Blackwell."""
WORKSPACE_BYTES = 1 << 30
"""Of scratch memory on the card, for ``tensorrt``; RTX chooses itself."""
_WORDS = re.compile(r"FP16|HALF|FP32|FLOAT|UINT8|INT8|INT32|INT64|BOOL")
_PRECISIONS = {"HALF": "fp16", "FP16": "fp16", "FLOAT": "fp32", "FP32": "fp32"}
Layers = dict[str, dict[str, int]]
"""Which layers ("all" or "heavy") -> precision -> how many."""


class WorkerError(Exception):
    """(what happened, repair)"""


def build(folder: Path) -> dict[str, Any]:
    """Build what ``folder`` asks for; the plan is written, the rest returned. Raises WorkerError."""
    request = json.loads((folder / "request.json").read_text())
    started = time.perf_counter()
    trt = _import(request["backend"])
    log = _logger(trt)
    builder = _checked(lambda: trt.Builder(log), log, "TensorRT cannot start here")
    network = _checked(lambda: builder.create_network(_network_flags(trt)), log, "TensorRT cannot start here")
    parser = trt.OnnxParser(network, log)
    if not parser.parse((folder / "model.onnx").read_bytes()):
        reasons = "; ".join(_first_line(parser.get_error(i).desc()) for i in range(parser.num_errors))
        raise WorkerError(f"TensorRT cannot read the graph: {reasons}", "use another TensorRT (README: runtimes)")
    config = builder.create_builder_config()
    _configure(trt, config, request["precision"])
    _target(trt, config, request["backend"], tuple(request["sm"]))
    data = _checked(lambda: builder.build_serialized_network(network, config), log, "TensorRT cannot build the plan")
    plan = bytes(data)
    (folder / "plan").write_bytes(plan)
    result = {"version": trt.__version__, "source": "graph", "layers": graph_layers(network)}
    inspected = _inspected(trt, log, plan)
    # One compiled block for the whole network tells nothing; then the graph decides, together with the plan's size.
    if inspected is not None and inspected["heavy"].keys() & {"fp16", "fp32"}:
        result |= {"source": "inspector", "layers": inspected}
    return result | {"seconds": time.perf_counter() - started}


def _import(backend: str) -> ModuleType:
    try:
        return importlib.import_module(MODULES[backend])
    except (ImportError, OSError) as error:
        extra = "rtx" if backend == "tensorrt-rtx" else "tensorrt"
        raise WorkerError(f"{MODULES[backend]} cannot be imported: {error}", f"pip install '.[{extra}]'") from error


def _logger(trt: ModuleType) -> Any:
    """Keeps what TensorRT says of errors: its calls only return None."""

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]  # the package comes without types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in {trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR}:
                self.errors.append(_first_line(msg))

    return Log()


def _checked(make: Any, log: Any, what: str) -> Any:
    """The result, unless it is None or raised: then what TensorRT said."""
    try:
        made = make()
    except (TypeError, RuntimeError) as error:  # a null pointer from C++ is a TypeError
        raise WorkerError(f"{what}: {_said(log) or _first_line(str(error))}", _repair(_said(log))) from error
    if made is None:
        raise WorkerError(f"{what}: {_said(log) or 'it does not say why'}", _repair(_said(log)))
    return made


def _said(log: Any) -> str:
    return "; ".join(dict.fromkeys(log.errors))[:600]


def _repair(said: str) -> str:
    if "FP32 GEMM is not supported" in said:
        return "GPUs of SM 7.5 take FP16 plans only"
    if "CUDA" in said and ("error: 35" in said or "initialization" in said):
        return "tensorrt builds on the GPU that runs the plan: check the driver with nvidia-smi"
    return "update TensorRT and the driver, or run with --runtime onnxruntime"


# ---- what differs between versions -----------------------------------------------------------------------------------


def _major(trt: ModuleType) -> int:
    return int(trt.__version__.split(".")[0])


def _is_rtx(trt: ModuleType) -> bool:
    return trt.__name__ == MODULES["tensorrt-rtx"]


def _network_flags(trt: ModuleType) -> int:
    """Both where there are both: 10 ignores EXPLICIT_BATCH and 9 needs it; 8 has only that one, RTX only the other."""
    known = trt.NetworkDefinitionCreationFlag
    return sum(1 << int(getattr(known, name)) for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED") if hasattr(known, name))


def _configure(trt: ModuleType, config: Any, precision: str) -> None:
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the inspector then tells precisions
    weak = hasattr(trt.BuilderFlag, "FP16") and not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")
    if weak and precision == "fp16":
        config.set_flag(trt.BuilderFlag.FP16)
    if precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # 10 bits of mantissa are not what is asked for
    if not _is_rtx(trt):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    if _major(trt) == 8:
        # cuDNN and cuBLAS are packages of their own, of the CUDA that this TensorRT was made for: not asked for.
        own = (trt.TacticSource.EDGE_MASK_CONVOLUTIONS, trt.TacticSource.JIT_CONVOLUTIONS)
        config.set_tactic_sources(sum(1 << int(source) for source in own))
        external = getattr(trt.PreviewFeature, "DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805", None)
        if external is not None:
            config.set_preview_feature(external, True)  # noqa: FBT003 - TensorRT's signature


def _target(trt: ModuleType, config: Any, backend: str, sm: tuple[int, int]) -> None:
    """For which card. ``tensorrt`` builds for the one at hand and measures on it."""
    if not _is_rtx(trt):
        at_hand = compute_capability()
        if at_hand is None:
            raise WorkerError("tensorrt builds on the GPU that runs the plan, and there is none", "use tensorrt-rtx")
        if at_hand != sm:
            found = ".".join(map(str, at_hand))
            raise WorkerError(f"{backend} builds for the GPU at hand (SM {found})", f"ask for --sm {found}")
        return
    known = trt.ComputeCapability
    wanted = getattr(known, f"SM{sm[0]}{sm[1]}", None)
    if wanted is None:
        names = (re.fullmatch(r"SM(\d+)(\d)", name) for name in dir(known))
        there = ", ".join(f"{major}.{minor}" for major, minor in sorted((int(m[1]), int(m[2])) for m in names if m))
        raise WorkerError(f"TensorRT-RTX does not build for SM {sm[0]}.{sm[1]}", f"it builds for SM {there}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(wanted, 0)


def compute_capability() -> tuple[int, int] | None:
    """Of the first GPU, from the driver; None where there is no driver or no GPU."""
    try:
        library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
        cuda = getattr(ctypes, "WinDLL", ctypes.CDLL)(library)
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    steps: tuple[Callable[[], int], ...] = (
        lambda: cuda.cuInit(0),
        lambda: cuda.cuDeviceGet(ctypes.byref(device), 0),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device),
        lambda: cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device),
    )
    return (major.value, minor.value) if all(step() == 0 for step in steps) else None


# ---- precision, read back --------------------------------------------------------------------------------------------


def graph_layers(network: Any) -> Layers:
    """Of the network as TensorRT understood it: each layer by the type of its first output."""
    found: dict[str, Counter[str]] = {"all": Counter(), "heavy": Counter()}
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        kind = str(layer.type).rsplit(".", 1)[-1]
        if kind in {"CONSTANT", "SHAPE"} or not layer.num_outputs:
            continue
        precision = _precision(str(layer.get_output(0).dtype))
        found["all"][precision] += 1
        if HEAVY.search(kind):
            found["heavy"][precision] += 1
    return {name: dict(sorted(count.items())) for name, count in found.items()}


def inspector_layers(text: str) -> Layers | None:
    """Of the finished engine, from the inspector's JSON; None when it tells nothing.

    A layer counts by its first output; one that holds weights by these, because a conversion may be fused behind it.
    """
    try:
        rows = json.loads(text).get("Layers", [])
    except (ValueError, AttributeError):
        return None
    found: dict[str, Counter[str]] = {"all": Counter(), "heavy": Counter()}
    for row in rows:
        if not isinstance(row, Mapping):
            continue
        out, into = (_types(row.get(side)) for side in ("Outputs", "Inputs"))
        precision = out or into or "other"
        weights = row.get("Weights")
        heavy = bool(HEAVY.search(f"{row.get('ParameterType', '')} {row.get('LayerType', '')}"))
        if heavy:
            own = _precision(str(weights.get("Type", ""))) if isinstance(weights, Mapping) else "other"
            precision = own if own != "other" else into or precision
            found["heavy"][precision] += 1
        found["all"][precision] += 1
    if not found["all"]:
        return None
    return {name: dict(sorted(count.items())) for name, count in found.items()}


def _types(tensors: Any) -> str | None:
    for tensor in tensors if isinstance(tensors, list) else []:
        text = str(tensor.get("Format/Datatype", tensor.get("Datatype", ""))) if isinstance(tensor, Mapping) else ""
        if _WORDS.search(text.upper()):
            return _precision(text)
    return None


def _precision(text: str) -> str:
    found = _WORDS.search(text.upper())
    return _PRECISIONS.get(found[0], found[0].lower()) if found else "other"


def _inspected(trt: ModuleType, log: Any, plan: bytes) -> Layers | None:
    """What the finished engine says of itself, where there is a card that can load it."""
    if compute_capability() is None:
        return None
    try:
        engine = trt.Runtime(log).deserialize_cuda_engine(plan)
        inspector = engine.create_engine_inspector() if engine is not None else None
        if inspector is None:
            return None
        return inspector_layers(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    except (AttributeError, RuntimeError, TypeError):  # a plan for another card, or a version without inspector
        return None


def _first_line(text: str) -> str:
    lines = str(text).strip().splitlines()
    return lines[0][:400] if lines else "no reason given"


def main(folder: Path) -> None:
    """Build, write the result, and leave without the libraries' own farewell."""
    if hasattr(os, "nice"):
        os.nice(5)  # frames come first
    try:
        result = build(folder)
    except WorkerError as error:
        result = {"error": error.args[0], "hint": error.args[1]}
    ready = folder / "result.tmp"
    ready.write_text(json.dumps(result))
    ready.replace(folder / "result.json")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
