"""What ``bench_engine.py --detection`` measures: the shipped detection networks, one pass each, float32 in and out.

FOLDER/detection/NAME/model.onnx, data.npz    the network, what it was fed on the demo clip and what it answered

On a CPU a pass is the runtime's call as the live path makes it; on a card it is the copy into pinned memory, both ways
over the bus and the plan's kernels. What is done before and after is the same for both, so the difference of the
medians is what a frame would win end to end: one pass of facemesh each frame, blazeface now and then. Precision is
FP32 throughout: positions are what these networks are for, and at their size a card waits for launches, not for sums.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engines.errors import PersonacamError
from engines.runtimes.cuda import Cuda
from engines.runtimes.tensorrt import Engine

Row = dict[str, Any]
Tensors = Mapping[str, np.ndarray]
FILES = {"blazeface": "face_detection_full_range.onnx", "facemesh": "face_landmark.onnx"}
PASSES = 32


class Tap:
    """A runtime that remembers what goes through it."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.fed, self.answered = inner, [], []
        self.inputs, self.outputs = inner.inputs, inner.outputs

    def run(self, feeds: Tensors) -> Tensors:
        """As the runtime behind."""
        answer = self.inner.run(feeds)
        if len(self.fed) < PASSES:
            self.fed.append({name: value.copy() for name, value in feeds.items()})
            self.answered.append({name: value.copy() for name, value in answer.items()})
        return answer

    def close(self) -> None:
        """As the runtime behind."""
        self.inner.close()


def prepare(folder: Path) -> None:
    """Write both networks and PASSES real passes of each. Needs this repository's packages."""
    from importlib import resources

    from engines.blazeface import BlazeFace
    from engines.facemesh import FaceMesh
    from engines.runtimes import open_runtime
    from realtime.capture import SourceConfig, open_source
    from realtime.detect import MeshDetector
    from realtime.session import demo_clip

    models = {name: resources.files("engines").joinpath("models", file).read_bytes() for name, file in FILES.items()}
    taps = {name: Tap(open_runtime(data, prefer=["onnxruntime"])) for name, data in models.items()}
    detector = MeshDetector(BlazeFace(taps["blazeface"]), FaceMesh(taps["facemesh"]))  # type: ignore[arg-type]
    source = open_source(str(demo_clip()), SourceConfig())
    while min(len(tap.fed) for tap in taps.values()) < PASSES and (frame := source.read()) is not None:
        detector.search(frame)
    source.close()
    detector.close()
    for name, tap in taps.items():
        own = folder / "detection" / name
        own.mkdir(parents=True, exist_ok=True)
        (own / "model.onnx").write_bytes(models[name])
        sides = (("in", tap.fed), ("out", tap.answered))
        np.savez(own / "data.npz", **{f"{side}.{n}": np.stack([row[n] for row in rows]) for side, rows in sides
                                      for n in rows[0]})  # fmt: skip


def rows(folder: Path, runs: int, threads: int, plans: Callable[[Path, str], Iterator[Row]]) -> Iterator[Row]:
    """Both networks in everything that this machine has. ``plans`` builds one: see ``bench_engine``."""
    for name in FILES:
        own = folder / "detection" / name
        if not own.is_dir():
            continue
        stored = dict(np.load(own / "data.npz"))
        yield from _cpu_rows(own, name, stored, max(20, runs // 10), threads)
        for row in plans(own, name):
            if "error" in row or not row.pop("runs_here"):
                yield row
                continue
            try:
                yield row | _plan_row((own / "plan").read_bytes(), row["runtime"], stored, runs)
            except PersonacamError as failure:
                yield row | {"error": str(failure)}


def _cpu_rows(own: Path, name: str, stored: Tensors, runs: int, threads: int) -> Iterator[Row]:
    from engines.runtimes import DEFAULT_ORDER, open_runtime

    for runtime_name in DEFAULT_ORDER:
        row: Row = {"network": name, "runtime": runtime_name, "threads": threads, "precision": "f32"}
        try:
            runtime = open_runtime((own / "model.onnx").read_bytes(), prefer=[runtime_name], threads=threads)
        except PersonacamError as failure:
            yield row | {"error": str(failure)}
            continue
        yield row | timed(runtime.run, stored, runs)
        runtime.close()


def _plan_row(plan: bytes, backend: str, stored: Tensors, runs: int) -> Row:
    engine = Engine(plan, backend, Cuda())  # type: ignore[arg-type]  # a name of BACKENDS

    def run(feeds: Tensors) -> Tensors:
        for name, value in feeds.items():
            np.copyto(engine.inputs[name], value)
        engine.run()
        return engine.outputs

    try:
        facts = {"cuda_graph": engine.captured, "graph_refused": engine.graph_refused}
        return facts | {"bus_bytes": engine.bytes_per_frame} | timed(run, stored, runs)
    finally:
        engine.close()


def timed(run: Callable[[Tensors], Tensors], stored: Tensors, runs: int) -> Row:
    """Milliseconds of a pass, and the largest difference of any answer from the stored one, relative to its range."""
    fed = [{n.removeprefix("in."): stored[n][i] for n in stored if n.startswith("in.")} for i in range(PASSES)]
    worst = 0.0
    for i, feeds in enumerate(fed):  # warms up as well
        for name, found in run(feeds).items():
            wanted = stored[f"out.{name}"][i]
            span = max(float(np.ptp(stored[f"out.{name}"])), 1e-6)
            worst = float(np.maximum(worst, np.abs(found - wanted).max() / span))  # NaN stays NaN
    taken = np.empty(runs)
    for i in range(runs):
        start = time.perf_counter_ns()
        run(fed[i % PASSES])
        taken[i] = (time.perf_counter_ns() - start) / 1e6
    return {f"p{p}_ms": round(float(np.percentile(taken, p)), 4) for p in (50, 99)} | {
        "runs": runs, "largest_error": worst,
    }  # fmt: skip


def verdict(rows_: list[Row]) -> Row:
    """Network -> whether a plan was faster than the fastest CPU runtime; None where one of both was not run."""
    found: Row = {}
    for name in FILES:
        medians = [(row["p50_ms"], row["runtime"]) for row in rows_ if row["network"] == name and "p50_ms" in row]
        plans = [median for median, runtime in medians if runtime.startswith("tensorrt")]
        others = [median for median, runtime in medians if not runtime.startswith("tensorrt")]
        found[name] = {"tensorrt_is_faster": min(plans) < min(others) if plans and others else None}
    return found
