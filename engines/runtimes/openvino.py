"""OpenVINO behind the ``Runtime`` protocol: the fastest one on CPUs."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from engines.errors import MissingDependencyError, RuntimeFailure
from engines.runtimes.base import Array, Precision, RuntimeName
from engines.runtimes.checks import check_feeds, static_shape

_TELEMETRY = "openvino_telemetry"
_ONE_AT_A_TIME = threading.RLock()
"""Networks are loaded by several threads: none may see the package half imported, or make a second Core."""


def import_openvino() -> ModuleType:
    """The package, without its telemetry. Raises MissingDependencyError.

    ``import openvino`` reports each import to its maker unless the user opted out, and writes a client id into the home
    folder. With ``openvino_telemetry`` hidden during the import, OpenVINO takes the silent stub that it ships for
    machines without that package; nothing on the user's disk is changed.
    """
    with _ONE_AT_A_TIME:
        if sys.modules.get("openvino") is not None:
            return sys.modules["openvino"]
        missing = object()
        before: Any = sys.modules.get(_TELEMETRY, missing)
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # None is documented to make the import fail
        try:
            return importlib.import_module("openvino")
        except ImportError as error:
            raise MissingDependencyError(
                f"OpenVINO cannot be imported: {error}", hint="pip install openvino"
            ) from error
        finally:
            if before is missing:
                del sys.modules[_TELEMETRY]
            else:
                sys.modules[_TELEMETRY] = before


def openvino_core() -> Any:
    """The process's one ``Core``, never destroyed. Raises MissingDependencyError.

    Each Core gives the thread a stack for signal handlers and unmaps it when it goes, while the thread may still be
    pointed at it (seen with OpenVINO 2026.4): the next signal, Ctrl-C or the end of a child, then kills the process.
    """
    with _ONE_AT_A_TIME:
        return _the_core()


@lru_cache(maxsize=1)
def _the_core() -> Any:
    return import_openvino().Core()


class OpenVinoRuntime:
    """One network in OpenVINO, on the CPU. See ``base.Runtime`` for the contract."""

    name: RuntimeName = "openvino"

    def __init__(self, model: bytes, *, precision: Precision = "f32", threads: int = 1) -> None:
        """Compile ``model``, a serialised ONNX graph. Raises RuntimeFailure, MissingDependencyError.

        OpenVINO's own default on CPUs with bf16 units is bf16, which moves detected boxes by up to 15 pixels:
        float32 is always asked for by name. ``int8`` says that ``model`` is a quantised graph; what stayed in float in
        it is computed in float32.
        """
        ov = import_openvino()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
        }
        try:
            core = openvino_core()
            network = core.read_model(model, b"")
            _check_types(network.inputs)
            _check_types(network.outputs)
            compiled = core.compile_model(network, "CPU", settings)
        except (RuntimeError, TypeError, ValueError) as error:
            raise RuntimeFailure(
                f"OpenVINO cannot load the network: {_last_line(error)}", hint="is the file a complete ONNX graph?"
            ) from error
        # A CPU without bf16 units computes in float32 whatever was asked: report what is.
        used = str(compiled.get_property("INFERENCE_PRECISION_HINT"))
        plain: Precision = "bf16" if "bf16" in used or "bfloat16" in used else "f32"
        self.precision: Precision = "int8" if precision == "int8" else plain
        self.inputs: Mapping[str, tuple[int, ...]] = _shapes(compiled.inputs)
        self.outputs: Mapping[str, tuple[int, ...]] = _shapes(compiled.outputs)
        self._feeds: dict[str, Array] = {name: np.zeros(shape, np.float32) for name, shape in self.inputs.items()}
        self._results: dict[str, Array] = {name: np.zeros(shape, np.float32) for name, shape in self.outputs.items()}
        self._request: Any = compiled.create_infer_request()
        for index, array in enumerate(self._feeds.values()):
            self._request.set_input_tensor(index, ov.Tensor(array, shared_memory=True))
        for index, array in enumerate(self._results.values()):
            self._request.set_output_tensor(index, ov.Tensor(array, shared_memory=True))

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """Execute once; the outputs belong to the runtime until the next call. Raises RuntimeFailure."""
        if self._request is None:
            raise RuntimeFailure("the network was closed", hint="open it again with open_runtime")
        check_feeds(self.inputs, feeds)
        for name, array in feeds.items():
            np.copyto(self._feeds[name], array)
        try:
            # Unless outputs are shared, each call also copies all of them into a dict that nobody reads.
            self._request.infer(share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise RuntimeFailure(
                f"OpenVINO failed: {_last_line(error)}", hint="try --runtime onnxruntime, and personacam doctor"
            ) from error
        return self._results

    def close(self) -> None:
        """Free the network; may be called twice."""
        self._request = None


def _check_types(ports: list[Any]) -> None:
    for port in ports:
        if port.get_element_type().get_type_name() != "f32":
            raise ValueError(f"{port.any_name} is {port.get_element_type().get_type_name()}, not float32")


def _shapes(ports: list[Any]) -> dict[str, tuple[int, ...]]:
    """Name -> shape in the graph's own order."""
    shapes: dict[str, tuple[int, ...]] = {}
    for port in ports:
        name = _graph_name(port)
        if name in shapes:
            raise RuntimeFailure(f"two values of the network are called {name}", hint="export the network again")
        partial = port.get_partial_shape()
        dims = [d.get_length() if d.is_static else str(d) for d in partial] if partial.rank.is_static else ["?"]
        shapes[name] = static_shape(name, dims)
    return shapes


def _graph_name(port: Any) -> str:
    """The name in the ONNX graph.

    A port has several names after OpenVINO removed a step that does nothing; the node behind it keeps the graph's.
    """
    name = str(port.get_node().get_friendly_name()).rsplit("/sink_port_", 1)[0]
    return name if name in port.get_names() else str(port.get_any_name())


def _last_line(error: Exception) -> str:
    """OpenVINO wraps the reason into the place where it was noticed; the reason comes last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
