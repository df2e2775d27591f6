"""ONNX Runtime behind the ``Runtime`` protocol: the portable one."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from engines.errors import MissingDependencyError, RuntimeFailure
from engines.runtimes.base import Array, Precision, RuntimeName
from engines.runtimes.checks import check_feeds, static_shape

_log = logging.getLogger("personacam")

PROVIDERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("CUDAExecutionProvider", {"use_tf32": "0"}),
    ("DmlExecutionProvider", {}),
    # The neural engine computes in float16 only; on CPU and GPU an ML program stays in float32.
    ("CoreMLExecutionProvider", {"ModelFormat": "MLProgram", "MLComputeUnits": "CPUAndGPU"}),
    ("CPUExecutionProvider", {}),
)
"""Tried in this order, those that the installed build has. All of them are asked for float32 arithmetic."""


def import_onnxruntime() -> ModuleType:
    """The package, with its usage reports switched off. Raises MissingDependencyError."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read while the library loads
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            f"ONNX Runtime cannot be imported: {error}", hint="pip install onnxruntime"
        ) from error
    onnxruntime.disable_telemetry_events()
    package: ModuleType = onnxruntime
    return package


def _failures() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: its own classes share no base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (*own, RuntimeError, ValueError)


class OnnxRuntime:
    """One network in ONNX Runtime. See ``base.Runtime`` for the contract."""

    name: RuntimeName = "onnxruntime"

    def __init__(self, model: bytes, *, precision: Precision = "f32", threads: int = 1) -> None:
        """Load ``model``, a serialised ONNX graph. Raises RuntimeFailure, MissingDependencyError."""
        if precision != "f32":
            raise RuntimeFailure(
                f"ONNX Runtime does not compute in {precision}", hint="choose --runtime openvino or --precision f32"
            )
        ort = import_onnxruntime()
        self.precision: Precision = precision
        self._failures = _failures()
        available = set(ort.get_available_providers())
        providers = [entry for entry in PROVIDERS if entry[0] in available]
        try:
            options = _options(ort, threads, available)
            self._session: Any = ort.InferenceSession(model, options, providers=providers)
        except self._failures as error:
            raise RuntimeFailure(
                f"ONNX Runtime cannot load the network: {_first_line(error)}", hint="is the file a complete ONNX graph?"
            ) from error
        self.inputs: Mapping[str, tuple[int, ...]] = _shapes(self._session.get_inputs())
        self.outputs: Mapping[str, tuple[int, ...]] = _shapes(self._session.get_outputs())
        self.provider: str = self._session.get_providers()[0]
        """The execution provider in use."""
        self.fell_back = _fallen_back([entry[0] for entry in providers], self._session.get_providers())
        """What did not come of the providers that were asked for, in one line; None when all did."""
        if self.fell_back is not None:
            _log.warning("%s", self.fell_back)
        self._results: dict[str, Array] = {name: np.zeros(shape, np.float32) for name, shape in self.outputs.items()}
        self._binding: Any = self._session.io_binding()
        for name, array in self._results.items():
            self._binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Execute once; the outputs belong to the runtime until the next call. Raises RuntimeFailure."""
        if self._session is None:
            raise RuntimeFailure("the network was closed", hint="open it again with open_runtime")
        check_feeds(self.inputs, feeds)
        try:
            for name, array in feeds.items():
                self._binding.bind_cpu_input(name, array)
            self._session.run_with_iobinding(self._binding)
        except self._failures as error:
            raise RuntimeFailure(
                f"ONNX Runtime failed: {_first_line(error)}", hint="try --runtime openvino, and personacam doctor"
            ) from error
        return self._results

    def close(self) -> None:
        """Free the network; may be called twice."""
        self._binding = self._session = None


def _options(ort: ModuleType, threads: int, available: set[str]) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads take the cores from capture and blending between two frames.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; they are raised as well
    if "DmlExecutionProvider" in available:
        options.enable_mem_pattern = False  # DirectML's documented requirement
    return options


def _fallen_back(asked: Sequence[str], used: Sequence[str]) -> str | None:
    """ONNX Runtime drops a provider whose libraries do not load and goes on with the next, without an error."""
    lost = [name for name in asked if name not in used]
    if not lost:
        return None
    return f"ONNX Runtime was asked for {', '.join(lost)} and runs on {used[0]}: personacam doctor"


def _shapes(values: list[Any]) -> dict[str, tuple[int, ...]]:
    for value in values:
        if value.type != "tensor(float)":
            raise RuntimeFailure(
                f"{value.name} is a {value.type}", hint="export the network with float32 inputs and outputs"
            )
    return {value.name: static_shape(value.name, value.shape) for value in values}


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
