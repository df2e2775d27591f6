"""Which arithmetic is the fastest here for one persona and still gives its picture, found out in a process of its own.

    python -m realtime.precision_worker PERSONA_FILE CACHE_FOLDER

Quantising holds the interpreter for seconds, which must not happen beside frames. Float32, bfloat16 and int8 run in
turn on crops of the shipped clip, in OpenVINO with one thread; the verdict and the graph are kept in the cache. The
result is also the last line of standard output, as JSON.

bfloat16 doubles the speed of CPUs with a full-rate unit for it (AMX, Zen 4) and halves that of others; int8 was 1.5 to
3 times faster with VNNI. So neither is chosen by the name of an instruction set.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from calibration.consent_gates import shown_only
from engines.build import model_digest
from engines.cache import PlanCache, PlanKey
from engines.errors import PersonacamError
from engines.int8 import crop_feeds, quantise, range_feeds
from engines.persona import Persona, read_persona
from engines.runtimes.base import Array, Precision
from engines.runtimes.openvino import OpenVinoRuntime, import_openvino, openvino_core

MIN_PIXELS_DB = 36.0
"""Least agreement of the picture with float32's. Personas are 20 to 25 dB from the truth: at 36 dB a picture of 25 dB
loses 0.3 dB at the most, and none that was measured lost 0.05."""
MIN_MASK_DB = 30.0
MIN_GAIN = 1.15
"""So many times faster, or float32 stays."""
ROUNDS = 40
FAST: tuple[Precision, ...] = ("bf16", "int8")


def cache_key(model: bytes) -> PlanKey:
    """Under which the verdict on a ``swap.onnx`` is kept on this processor. Raises MissingDependencyError."""
    core = openvino_core()
    return PlanKey(
        model_sha256=model_digest(model),
        gpu_name=str(core.get_property("CPU", "FULL_DEVICE_NAME")),
        compute_capability="cpu",
        driver="none",
        backend="openvino",
        backend_version=str(import_openvino().__version__),
        precision="fastest",
        shapes="-",
    )


def judge(persona: Persona, crops: np.ndarray, points: np.ndarray) -> tuple[dict[str, Any], bytes]:
    """(verdict, graph): {"precision", "ms", "pixels_db", "mask_db"}, and the graph for it, b"" for the persona's own.

    Ranges come from every other crop, agreement from the rest.
    """
    model, manifest = persona.swap_onnx, persona.manifest
    int8 = quantise(model, range_feeds(manifest, crops[::2], points[::2]))
    runtimes: dict[Precision, OpenVinoRuntime] = {
        "f32": OpenVinoRuntime(model),
        "bf16": OpenVinoRuntime(model, precision="bf16"),
        "int8": OpenVinoRuntime(int8, precision="int8"),
    }
    feeds = list(crop_feeds(manifest, crops[1::2], points[1::2]))
    agreement = {name: _agreement(runtimes["f32"], runtimes[name], feeds) for name in FAST}
    ms = _milliseconds(runtimes, feeds)
    best: Precision = "f32"
    for name in FAST:
        pixels_db, mask_db = agreement[name]
        good = pixels_db >= MIN_PIXELS_DB and mask_db >= MIN_MASK_DB and runtimes[name].precision == name
        if good and ms[name] * MIN_GAIN <= ms["f32"] and ms[name] < ms[best]:
            best = name
    verdict = {
        "name": manifest.name, "precision": best, "ms": ms,
        "pixels_db": {name: pair[0] for name, pair in agreement.items()},
        "mask_db": {name: pair[1] for name, pair in agreement.items()},
    }  # fmt: skip
    return verdict, int8 if best == "int8" else b""


def _agreement(
    reference: OpenVinoRuntime, other: OpenVinoRuntime, feeds: list[dict[str, Array]]
) -> tuple[float, float]:
    """PSNR of picture and mask over all crops, in dB; 0 when a number is not finite."""
    squares = {"swap": 0.0, "mask": 0.0}
    for one in feeds:
        expected, found = reference.run(one), other.run(one)
        for name in squares:
            squares[name] += float(np.mean((expected[name] - found[name]) ** 2)) / len(feeds)
    values = [-10.0 * float(np.log10(max(value, 1e-12))) if np.isfinite(value) else 0.0 for value in squares.values()]
    return round(values[0], 2), round(values[1], 2)


def _milliseconds(
    runtimes: Mapping[Precision, OpenVinoRuntime], feeds: list[dict[str, Array]]
) -> dict[Precision, float]:
    """Lower quartile of the processor time of one run, in turn: other programs make the rest slower."""
    taken: dict[Precision, list[float]] = {name: [] for name in runtimes}
    for turn in range(ROUNDS):
        one = feeds[turn % len(feeds)]
        for name, runtime in runtimes.items():
            runtime.run(one)
            started = time.process_time_ns()
            runtime.run(one)
            taken[name].append((time.process_time_ns() - started) / 1e6)
    return {name: round(float(np.percentile(values, 25)), 3) for name, values in taken.items()}


def main() -> None:
    """Judge one persona and keep the verdict."""
    if hasattr(os, "nice"):  # not on Windows, where whoever starts this says so
        os.nice(10)
    from realtime.session import wearer_crops

    path, folder = (Path(argument) for argument in sys.argv[1:3])
    try:
        persona = read_persona(path, admit=shown_only)  # who runs it has passed the gate
        verdict, graph = judge(persona, *wearer_crops(persona.manifest.crop_size))
        PlanCache(folder).put(cache_key(persona.swap_onnx), graph, verdict)
    except PersonacamError as error:
        print(json.dumps({"error": error.message, "hint": error.hint}))
        raise SystemExit(1) from error
    print(json.dumps(verdict))


if __name__ == "__main__":
    main()
