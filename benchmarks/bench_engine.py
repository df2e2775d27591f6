"""The persona's network alone, bytes to bytes: each tier in each runtime that this machine has.

    python benchmarks/bench_engine.py                            everything here; writes results/engine.json
    python benchmarks/bench_engine.py --tiers tiny base --runs 500
    python benchmarks/bench_engine.py --detection                the detection networks too: is TensorRT faster there?
    python benchmarks/bench_engine.py prepare FOLDER             write the cases for another machine
    python benchmarks/bench_engine.py measure FOLDER --json F    there: needs numpy and TensorRT, nothing else

TensorRT: time of the build, size of the plan, precision of the layers that hold weights, and where there is a card p50
and p99 of one frame (copies included, from the call to the synchronised answer) with and without a CUDA graph, and the
PSNR of the bytes against ONNX Runtime in float32 (rounding alone allows 48 dB and more). Without a card TensorRT-RTX
builds for several cards and nothing is run. CPU runtimes are measured as the live path calls them, conversion included.

"roofline_ms" is the least time that the card's data sheet allows: work over FP16 peak, or weights and activations (each
written and read once) over memory bandwidth, whichever is longer. What could not be run stands under "not_run", and
under "load" how busy the machine was: on a shared one p99 is the neighbours'.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import engine_detection

from engines.errors import PersonacamError
from engines.runtimes.base import LiveRuntime
from engines.runtimes.cuda import Card, find_card
from engines.runtimes.tensorrt import TensorRtRuntime

RESULTS = Path(__file__).parent / "results" / "engine.json"
TIERS = ("tiny", "small", "base")
BACKENDS = {"tensorrt-rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}
ORDERED = ((8, 6), (8, 9), (12, 0))
"""Compute capabilities that RTX plans are built for where there is no card: RTX 30, 40, 50."""
SHEETS = {"H200": (989.0, 4800.0), "H100": (989.0, 3350.0), "A100": (312.0, 2039.0), "RTX 4090": (165.2, 1008.0)}
"""Part of the card's name -> dense FP16 TFLOP/s with FP32 sums, GB/s of memory: NVIDIA's data sheets."""
Row = dict[str, Any]


def latency(runtime: LiveRuntime, data: dict[str, np.ndarray], runs: int) -> Row:
    """Milliseconds of one swap, over different crops."""
    crops, points = data["crops"], data["points"]
    for i in range(max(20, runs // 10)):
        runtime.swap(crops[i % len(crops)], points[i % len(crops)])
    taken = np.empty(runs)
    for i in range(runs):
        crop, own = crops[i % len(crops)], points[i % len(crops)]
        start = time.perf_counter_ns()
        runtime.swap(crop, own)
        taken[i] = (time.perf_counter_ns() - start) / 1e6
    return {f"p{p}_ms": round(float(np.percentile(taken, p)), 4) for p in (50, 99)} | {"runs": runs}


def error(runtime: LiveRuntime, data: dict[str, np.ndarray]) -> Row:
    """Bytes against the reference's: PSNR over all crops together (None: equal), and the largest difference."""
    worst, squares = 0, {"pixels": 0.0, "mask": 0.0}
    for i, crop in enumerate(data["crops"]):
        for name, found in zip(squares, runtime.swap(crop, data["points"][i]), strict=True):
            difference = found.astype(np.int64) - data[name][i]
            worst = max(worst, int(np.abs(difference).max()))
            squares[name] += float((difference**2).mean()) / len(data["crops"])
    levels = {f"{n}_psnr_db": round(-10 * np.log10(s / 255**2), 2) if s else None for n, s in squares.items()}
    return levels | {"max_levels": worst}


def rates(case: Row, p50_ms: float, card: Card | None) -> Row:
    """Work per second, and the distance to what the card can do."""
    row: Row = {"gflop_per_s": round(case["gflop"] / p50_ms * 1e3, 1)}
    sheet = next((SHEETS[part] for part in SHEETS if card is not None and part in card.name), None)
    if sheet is not None:
        tflops, gb_per_s = sheet
        work_ms = case["gflop"] / tflops
        memory_ms = 2 * (case["parameters"] + 2 * case["activation_values"]) / (gb_per_s * 1e6)
        bound = max(work_ms, memory_ms)
        row |= {
            "percent_of_peak": round(row["gflop_per_s"] / tflops / 10, 2),
            "roofline_ms": round(bound, 4),
            "times_roofline": round(p50_ms / bound, 2),
        }
    return row


def build(folder: Path, backend: str, sm: tuple[int, int], precision: str) -> Row:
    """The plan is written into ``folder``. Returns what the worker says, or its error."""
    for name in ("plan", "result.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "request.json").write_text(json.dumps({"backend": backend, "sm": list(sm), "precision": precision}))
    root = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, *(path for path in sys.path if path)])}
    command = [sys.executable, "-m", "engines.build_worker", str(folder)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if not (folder / "result.json").exists():
        last = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
        return {"error": f"the build ended with {done.returncode}: {last}"}
    result: Row = json.loads((folder / "result.json").read_text())
    return result


def plan_rows(folder: Path, case: Row, backend: str, card: Card | None, runs: int) -> Iterator[Row]:
    """One tier in TensorRT: every precision, every card that can be built for, with and without a graph."""
    data = dict(np.load(folder / case["tier"] / "data.npz"))
    for precision in ("fp16", "fp32"):
        own = folder / case["tier"] / precision
        for sm in ORDERED if card is None else (card.compute,):
            built = build(own, backend, sm, precision)
            row: Row = {
                "tier": case["tier"], "runtime": backend, "precision": precision, "sm": f"{sm[0]}.{sm[1]}",
                "bytes_to_card": case["bus_bytes"][0], "bytes_from_card": case["bus_bytes"][1],
            }  # fmt: skip
            if "error" in built:
                yield row | {"error": built["error"]}
                continue
            plan = (own / "plan").read_bytes()
            row |= {
                "version": built["version"], "build_s": round(built["seconds"], 2), "plan_bytes": len(plan),
                "weighted_layers": built["layers"]["heavy"], "read_of": built["source"],
            }  # fmt: skip
            if card is None:
                yield row
                continue
            for graph in (True, False):
                yield row | run_plan(plan, backend, case, data, card, runs, graph=graph)


def run_plan(
    plan: bytes, backend: str, case: Row, data: dict[str, np.ndarray], card: Card, runs: int, *, graph: bool
) -> Row:
    try:
        runtime = TensorRtRuntime(plan, backend, graph=graph)  # type: ignore[arg-type]  # a name of BACKENDS
    except PersonacamError as failure:
        return {"cuda_graph": graph, "error": str(failure)}
    try:
        engine = runtime.engine
        row: Row = {"cuda_graph": engine.captured, "graph_refused": engine.graph_refused}
        row |= latency(runtime, data, runs)
        return row | error(runtime, data) | rates(case, row["p50_ms"], card)
    except PersonacamError as failure:
        return {"cuda_graph": graph, "error": str(failure)}
    finally:
        runtime.close()


def cpu_rows(folder: Path, case: Row, runs: int, threads: int) -> Iterator[Row]:
    """One tier in the runtimes of any graph, as the live path calls them."""
    from engines.persona import Manifest
    from engines.runtimes import DEFAULT_ORDER, open_runtime
    from engines.runtimes.onnx import OnnxRuntime
    from realtime.swap import PlanarRuntime

    own = folder / case["tier"]
    data = dict(np.load(own / "data.npz"))
    manifest = Manifest.model_validate_json((own / "manifest.json").read_text())
    for name in DEFAULT_ORDER:
        row: Row = {"tier": case["tier"], "runtime": name, "threads": threads}
        start = time.perf_counter()
        try:
            inner = open_runtime((own / "swap.onnx").read_bytes(), prefer=[name], threads=threads)
        except PersonacamError as failure:
            yield row | {"error": str(failure)}
            continue
        runtime = PlanarRuntime(manifest, inner)
        row |= {"precision": runtime.precision, "load_s": round(time.perf_counter() - start, 2)}
        if isinstance(inner, OnnxRuntime):
            row |= {"provider": inner.provider, "fell_back": inner.fell_back}
        row |= latency(runtime, data, runs)
        yield row | error(runtime, data) | rates(case, row["p50_ms"], None)
        runtime.close()


def detection(folder: Path, card: Card | None, runs: int, threads: int) -> Row:
    """The detection networks, where ``prepare`` was asked for them; CPU runtimes too, to compare with."""

    def plans(own: Path, name: str) -> Iterator[Row]:
        for backend, module in BACKENDS.items():
            if _missing(module) is not None or (card is None and backend == "tensorrt"):
                continue
            sm = ORDERED[0] if card is None else card.compute
            row: Row = {"network": name, "runtime": backend, "precision": "fp32", "sm": f"{sm[0]}.{sm[1]}"}
            built = build(own, backend, sm, "fp32")
            if "error" in built:
                yield row | {"error": built["error"]}
                continue
            facts = {"build_s": round(built["seconds"], 2), "plan_bytes": (own / "plan").stat().st_size}
            yield row | facts | {"runs_here": card is not None}

    rows = list(_shown(engine_detection.rows(folder, runs, threads, plans)))
    return {"rows": rows, "verdict": engine_detection.verdict(rows)}


def measure(folder: Path, runs: int, cpu: Callable[[Path, Row], Iterator[Row]] | None) -> Row:
    """Everything that this machine can do with the cases in ``folder``."""
    cases: list[Row] = json.loads((folder / "cases.json").read_text())
    card = find_card()
    rows: list[Row] = []
    not_run: list[str] = []
    for case in cases:
        if cpu is not None:
            rows += _shown(cpu(folder, case))
        for backend, module in BACKENDS.items():
            missing = _missing(module)
            if missing is not None:
                not_run.append(f"{backend}, {case['tier']}: {missing}")
            elif card is None and backend == "tensorrt":
                not_run.append(f"{backend}, {case['tier']}: it builds only on the card that runs the plan")
            else:
                rows += _shown(plan_rows(folder, case, backend, card, runs))
                if card is None:
                    not_run.append(f"{backend}, {case['tier']}: built, not run: no NVIDIA card here")
    not_run += [f"{row['runtime']}, {row['tier']}: {row['error']}" for row in rows if "error" in row]
    return {
        "benchmark": "engine", "card": None if card is None else card.name, "machine": platform.machine(),
        "cores": os.cpu_count(), "load": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(), "cases": cases, "rows": rows,
        "not_run": list(dict.fromkeys(not_run)),
    }  # fmt: skip


def _missing(module: str) -> str | None:
    import importlib.util

    return None if importlib.util.find_spec(module) is not None else f"{module} is not installed"


def _shown(rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        hidden = {"tier", "network", "runtime", "bytes_to_card", "bytes_from_card", "weighted_layers", "runs"}
        text = ", ".join(f"{key} {value}" for key, value in row.items() if key not in hidden and value is not None)
        print(f"{row.get('tier', row.get('network')):9} {row['runtime']:13} {text}", flush=True)
        yield row


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="personacam-bench-") as name:
        yield Path(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="all", choices=["all", "prepare", "measure"])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--tiers", nargs="+", default=list(TIERS))
    parser.add_argument("--runs", type=int, default=1000, help="timed frames; a tenth of it on the CPU")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU runtimes")
    parser.add_argument("--detection", action="store_true", help="measure the detection networks as well")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the result goes")
    arguments = parser.parse_args()
    if arguments.what != "all" and arguments.folder is None:
        parser.error(f"{arguments.what} needs a folder")
    cpu_runs = max(20, arguments.runs // 10)

    def cpu(folder: Path, case: Row) -> Iterator[Row]:
        return cpu_rows(folder, case, cpu_runs, arguments.threads)

    with _folder(arguments.folder) as folder:
        if arguments.what != "measure":
            from engine_cases import prepare

            for case in prepare(folder, arguments.tiers):
                print(f"{case.tier}: {case.gflop:.2f} GFLOP, {case.parameters / 1e6:.2f} M weights ({case.weights})")
            if arguments.detection:
                engine_detection.prepare(folder)
        if arguments.what == "prepare":
            return
        result = measure(folder, arguments.runs, None if arguments.what == "measure" else cpu)
        if (folder / "detection").is_dir():
            result["detection"] = detection(folder, find_card(), arguments.runs, arguments.threads)
    for line in result["not_run"]:
        print(f"not run: {line}")
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({"written": str(arguments.json), "rows": len(result["rows"])}))


if __name__ == "__main__":
    main()
