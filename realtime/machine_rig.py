"""What a machine's candidates are, and how one frame through each is timed: on crops of the shipped clip."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from calibration.calibrate_machine import Candidate, Run
from calibration.consent_gates import shown_only
from engines.errors import RuntimeFailure
from engines.int8 import crop_feeds, quantise, range_feeds
from engines.persona import Persona, read_persona
from engines.runtimes import open_runtime
from engines.runtimes.base import Array, Runtime
from engines.types import F32, U8
from realtime.precision_worker import MIN_MASK_DB, MIN_PIXELS_DB

ARITHMETIC: tuple[tuple[Literal["openvino", "onnxruntime"], Literal["f32", "bf16", "int8"]], ...] = (
    ("openvino", "f32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
    ("onnxruntime", "f32"),
)
"""float32 first: what is not faster does not take its place."""
CROPS = 16


@contextmanager
def candidates(
    tiers: Mapping[str, Path], crops: Callable[[int], tuple[U8, F32]], *, threads: int = 1
) -> Iterator[dict[Candidate, Callable[[], Run]]]:
    """Each with what opens it; closed at the end. ``crops`` gives pictures and mesh points of a size.

    An arithmetic that does not give float32's picture is refused when it is opened, as a run would.
    """
    with ExitStack() as stack:
        found: dict[Candidate, Callable[[], Run]] = {}
        for tier, path in tiers.items():
            persona = read_persona(path, admit=shown_only)
            pictures, points = crops(persona.manifest.crop_size)
            bench = _Bench(persona, pictures[:CROPS], points[:CROPS], threads, stack)
            for runtime, precision in ARITHMETIC:
                found[Candidate(tier, runtime, precision)] = partial(bench.open, runtime, precision)
        yield found


class _Bench:
    """One persona file on one thread."""

    def __init__(self, persona: Persona, crops: U8, points: F32, threads: int, stack: ExitStack) -> None:
        self._persona, self._threads, self._stack = persona, threads, stack
        self._crops, self._points = crops, points
        self._feeds = list(crop_feeds(persona.manifest, crops, points))
        self._truth: list[dict[str, Array]] = []

    def open(self, runtime: Literal["openvino", "onnxruntime"], precision: Literal["f32", "bf16", "int8"]) -> Run:
        """Raises RuntimeFailure, MissingDependencyError, ExportError; RuntimeFailure too for another picture."""
        model = self._persona.swap_onnx
        opened: Runtime
        if precision == "int8":
            from engines.runtimes.openvino import OpenVinoRuntime

            ranges = range_feeds(self._persona.manifest, self._crops[::2], self._points[::2])
            opened = OpenVinoRuntime(quantise(model, ranges), precision="int8", threads=self._threads)
        else:
            opened = open_runtime(model, prefer=[runtime], precision=precision, threads=self._threads)
        self._stack.callback(opened.close)
        if opened.precision != precision:
            raise RuntimeFailure(f"{precision} is not computed here", hint="use --precision f32")
        self._compare(opened)
        turn = itertools.cycle(self._feeds)

        def run() -> float:
            feeds = next(turn)
            started = time.perf_counter_ns()
            opened.run(feeds)
            return (time.perf_counter_ns() - started) / 1e6

        return run

    def _compare(self, opened: Runtime) -> None:
        """Against the first one, which is float32."""
        feeds = self._feeds[1::4]
        found = [{name: np.array(value) for name, value in opened.run(one).items()} for one in feeds]
        if not self._truth:
            self._truth = found
            return
        for name, least in (("swap", MIN_PIXELS_DB), ("mask", MIN_MASK_DB)):
            error = float(np.mean([np.mean((a[name] - b[name]) ** 2) for a, b in zip(self._truth, found, strict=True)]))
            db = -10.0 * float(np.log10(max(error, 1e-12))) if np.isfinite(error) else 0.0
            if db < least:
                raise RuntimeFailure(f"its {name} is {db:.0f} dB from float32's, not {least:.0f}", hint="use f32")
