"""Open a network in the first runtime that works."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from engines.errors import MissingDependencyError, RuntimeFailure
from engines.runtimes.base import Precision, Runtime, RuntimeName

DEFAULT_ORDER: tuple[RuntimeName, ...] = ("openvino", "onnxruntime")


def _openvino(model: bytes, precision: Precision, threads: int) -> Runtime:
    from engines.runtimes.openvino import OpenVinoRuntime

    return OpenVinoRuntime(model, precision=precision, threads=threads)


def _onnxruntime(model: bytes, precision: Precision, threads: int) -> Runtime:
    from engines.runtimes.onnx import OnnxRuntime

    return OnnxRuntime(model, precision=precision, threads=threads)


def _opener(name: RuntimeName) -> Callable[[bytes, Precision, int], Runtime]:
    return _openvino if name == "openvino" else _onnxruntime


def open_runtime(
    model: bytes | Path,
    *,
    prefer: Sequence[RuntimeName] | None = None,
    precision: Literal["auto", "f32", "bf16"] = "auto",
    threads: int = 1,
) -> Runtime:
    """Load an ONNX graph (its bytes, or a file) with static shapes and float32 inputs and outputs.

    ``prefer`` names the runtimes to try, in order; by default OpenVINO, then ONNX Runtime. ``auto`` precision is
    float32. ``threads`` is the number of threads of one inference. Raises RuntimeFailure with the reasons of every
    runtime when none works.
    """
    names = DEFAULT_ORDER if prefer is None else tuple(prefer)
    if not names:
        raise RuntimeFailure("no runtime was named", hint=f"name one of {', '.join(DEFAULT_ORDER)}")
    if isinstance(model, Path):
        try:
            data = model.read_bytes()
        except OSError as error:
            raise RuntimeFailure(f"{model} cannot be read: {error.strerror}", hint="check the path") from error
    else:
        data = model
    wanted: Precision = "f32" if precision == "auto" else precision
    reasons: list[str] = []
    hints: list[str] = []
    for name in names:
        try:
            return _opener(name)(data, wanted, threads)
        except (RuntimeFailure, MissingDependencyError) as error:
            reasons.append(f"{name}: {error.message}")
            hints.append(error.hint)
    raise RuntimeFailure(
        "no runtime could load the network: " + "; ".join(reasons), hint="; ".join(dict.fromkeys(hints))
    )


__all__ = ["DEFAULT_ORDER", "Runtime", "RuntimeName", "open_runtime"]
