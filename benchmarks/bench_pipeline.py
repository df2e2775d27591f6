"""The whole live path on a clip: frames a second, latency, where the milliseconds go, processor share, memory.

    python benchmarks/bench_pipeline.py --seconds 20                          the shipped clip, vera, as fast as it goes
    python benchmarks/bench_pipeline.py --source clip.mp4 --persona kofi --runtime onnxruntime --json
    python benchmarks/bench_pipeline.py --tier small --size 1080p --fps 60 --pace
    python benchmarks/bench_pipeline.py --matrix --rounds 3 --out benchmarks/results/pipeline.jsonl    all goals
    python benchmarks/bench_pipeline.py --matrix --cases threads --rounds 5   one thread of inference against two

Everything is on: detection, smoothing, colour, label; the sink counts frames and throws them away (MP4 encoding is
another program's work: ``--sink out.mp4`` adds it). Without ``--pace`` nothing is dropped and the figure is throughput,
"capture to sink" then contains the wait for the frame before. With ``--pace`` frames come at their own rate, late ones
are dropped at the source, and latency is what a viewer would see.

``--tier`` and ``--matrix`` play the shipped clip as a camera would send it: 4:2:2 JPEG pictures at 720p or 1080p, made
once into the cache folder. Tiers that are not shipped have random weights (``tier_personas.py``; the train extra is
needed once): time does not depend on them. Each case of the matrix runs in a process of its own, cases in turn, so many
rounds; medians and the range are shown. A first run warms up (kernels, networks, the search for the fastest
arithmetic) and is not counted, nor are the first seconds of each run (``--warm``), in which float32 computes until the
faster arithmetic has loaded beside it. "cpu" is processor time of the frame loop's thread; "core" that of the whole
process, decoding included, in percent of one core. "settle" is what the loop does after a frame went out. On a shared
machine compare figures of one run only. The last line (``--json``) is the JSON object of ``personacam run --json`` with
``benchmark`` added; the matrix writes a line a case.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import av
import numpy as np
import platformdirs
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tier_personas import persona_of

from engines.types import Frame, Swap
from realtime.config import Settings
from realtime.session import Result, demo_clip, run_session
from realtime.trace import Trace

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
CLIP_FRAMES = 150
Row = dict[str, Any]
GOALS: list[Row] = [
    *({"tier": tier, "size": "720p", "pace": False, "fps": 30} for tier in ("tiny", "small", "base")),
    {"tier": "small", "size": "1080p", "pace": False, "fps": 30},
    {"tier": "small", "size": "720p", "pace": True, "fps": 30},
    {"tier": "small", "size": "720p", "pace": True, "fps": 60},
    {"tier": "small", "size": "1080p", "pace": True, "fps": 30},
]
THREADS: list[Row] = [
    {"tier": tier, "size": "720p", "pace": True, "fps": 30, "threads": threads}
    for tier in ("small", "base")
    for threads in (1, 2)
]
PRECISIONS: list[Row] = [
    {"tier": tier, "size": "720p", "pace": False, "fps": 30, "precision": precision}
    for tier in ("tiny", "small", "base")
    for precision in ("f32", "bf16", "int8")
]
CASES = {"goals": GOALS, "threads": THREADS, "precision": PRECISIONS}


class Memory:
    """Resident size after each swapped frame, in megabytes (empty where there is no /proc), and the process's work.

    Of nothing in the first ``warm_s`` seconds of frames; ``trace`` begins anew after them.
    """

    def __init__(self, warm_s: float = 0.0) -> None:
        self.sizes: list[float] = []
        self.trace = Trace(cpu=True)
        self._warm_until_s: float | None = None
        self._warm_s = warm_s
        self._begun: tuple[float, float] | None = None
        self._last = (0.0, 0.0)

    def core_percent(self) -> float:
        """Of one core, between the first swapped frame and the last: all threads, start-up left out."""
        if self._begun is None or self._last[0] <= self._begun[0]:
            return 0.0
        return round(100 * (self._last[1] - self._begun[1]) / (self._last[0] - self._begun[0]), 1)

    def watch(self, frame: Frame, swap: Swap) -> None:
        """Called after each swapped frame, in the thread that records the trace."""
        del swap
        if self._begun is None:
            now = time.perf_counter()
            if self._warm_until_s is None:
                self._warm_until_s = now + self._warm_s
            if now < self._warm_until_s:
                return
            self.trace.restart()
        self._last = time.perf_counter(), time.process_time()
        self._begun = self._begun or self._last
        statm = Path("/proc/self/statm")
        if frame.index % 10 == 0 and statm.exists():
            self.sizes.append(int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)

    def growth_mb(self) -> float | None:
        """Mean of the last tenth minus mean of the second tenth: what start-up leaves behind does not count."""
        n = len(self.sizes) // 10
        if n == 0:
            return None
        return round(sum(self.sizes[-n:]) / n - sum(self.sizes[n : 2 * n]) / n, 2)


def camera_clip(size: str, fps: int) -> Path:
    """The shipped clip as JPEG pictures of ``size``, as USB cameras send them; made once."""
    folder = Path(platformdirs.user_cache_dir("personacam", appauthor=False)) / "bench"
    path = folder / f"wearer-{size}-{fps}.mkv"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.mkv")
    width, height = SIZES[size]
    with av.open(str(demo_clip())) as source, av.open(str(part), "w") as clip:
        track = clip.add_stream("mjpeg", rate=fps, options={"qmin": "3", "qmax": "3"})
        track.width, track.height, track.pix_fmt = width, height, "yuvj422p"
        for index, picture in enumerate(source.decode(video=0)):
            if index == CLIP_FRAMES:
                break
            fitted = picture.reformat(width, height, "yuvj422p", dst_color_range="JPEG")
            fitted.pts, fitted.time_base = index, Fraction(1, fps)
            clip.mux(track.encode(fitted))
        clip.mux(track.encode(None))
    part.replace(path)
    return path


def measure(
    arguments: argparse.Namespace, memory: Memory, *, frames: int | None, seconds: float | None, sink: str, pace: bool
) -> Result:
    """One run of the real session. Ends the program when it failed."""
    settings = Settings(
        source=arguments.source,
        persona=arguments.persona,
        sink=(sink,),
        pace="on" if pace else "off",
        runtime=arguments.runtime,
        precision=arguments.precision,
        threads=arguments.threads,
        governor=arguments.governor,
        loop=True,
        frames=frames,
        seconds=seconds,
    )
    result = run_session(settings, say=lambda _: None, watch=memory.watch, trace=memory.trace)
    if result.error is not None:
        sys.exit(str(result.error))
    return result


def one(arguments: argparse.Namespace) -> tuple[Row, Result]:
    """Warm up, run, and add what only the outside of a run shows."""
    weights = "its own"
    if arguments.tier is not None:
        arguments.persona, weights = persona_of(arguments.tier)
        arguments.source = str(camera_clip(arguments.size, arguments.fps))
    measure(arguments, Memory(), frames=60, seconds=None, sink="null", pace=False)
    memory = Memory(arguments.warm)
    seconds = None if arguments.frames else arguments.seconds + arguments.warm
    result = measure(
        arguments, memory, frames=arguments.frames, seconds=seconds, sink=arguments.sink, pace=arguments.pace
    )
    report = result.report | {
        "benchmark": {
            "name": "pipeline",
            "tier": arguments.tier,
            "size": arguments.size if arguments.tier else None,
            "fps": arguments.fps if arguments.tier else None,
            "weights": weights,
            "paced": arguments.pace,
            "threads": arguments.threads,
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
            "core_percent": memory.core_percent(),
            "resident_mb": round(max(memory.sizes), 1) if memory.sizes else None,
            "growth_mb": memory.growth_mb(),
        }
    }
    return report, result


def matrix(arguments: argparse.Namespace) -> None:
    """Every case so many rounds, in turn, each in a process of its own."""
    rows: dict[int, list[Row]] = {}
    cases = CASES[arguments.cases]
    for turn in range(arguments.rounds):
        for number, case in enumerate(cases):
            print(f"round {turn + 1}, {_title(case)}", file=sys.stderr, flush=True)
            rows.setdefault(number, []).append(_apart(case, arguments.seconds))
    table = Table("case", "frames/s", "p50", "p99", "loop cpu", "core %", "RSS MB", "drops", "runs in")
    lines = []
    for number, case in enumerate(cases):
        runs = rows[number]
        line = {"benchmark": "pipeline", "case": {"precision": "int8", "threads": 1} | case} | summary(runs)
        lines.append(line)
        figures = ("fps", "p50_ms", "p99_ms", "loop_cpu_ms", "core_percent", "resident_mb", "dropped_percent")
        table.add_row(_title(case), *(_shown(line[name]) for name in figures), line["precision"])
    Console(stderr=True, width=150).print(table)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with arguments.out.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    if arguments.json:
        for line in lines:
            print(json.dumps(line))


def summary(runs: list[Row]) -> Row:
    """[median, least, most] of each figure over the rounds."""

    def of(pick: Any) -> list[float]:
        values = [float(pick(run)) for run in runs]
        return [round(float(np.median(values)), 2), round(min(values), 2), round(max(values), 2)]

    last = runs[-1]
    return {
        "fps": of(lambda run: run["fps"]),
        "p50_ms": of(lambda run: run["latency_ms"]["p50"]),
        "p99_ms": of(lambda run: run["latency_ms"]["p99"]),
        "dropped_percent": of(lambda run: 100 * run["frames"]["dropped"] / max(run["frames"]["captured"], 1)),
        "loop_cpu_ms": of(lambda run: sum(stage["p50"] for stage in run["cpu_ms"].values())),
        "stages_cpu_ms": {name: of(lambda run, name=name: run["cpu_ms"][name]["p50"]) for name in last["cpu_ms"]},
        "core_percent": of(lambda run: run["benchmark"]["core_percent"]),
        "resident_mb": of(lambda run: run["benchmark"]["resident_mb"] or 0.0),
        "growth_mb": of(lambda run: run["benchmark"]["growth_mb"] or 0.0),
        "load": of(lambda run: run["benchmark"]["load"] or 0.0),
        "precision": last["precision"], "runtime": last["runtime"], "weights": last["benchmark"]["weights"],
        "rounds": len(runs), "cores": last["benchmark"]["cores"], "machine": machine(),
    }  # fmt: skip


def machine() -> str:
    """The processor by name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _apart(case: Row, seconds: float) -> Row:
    flags = [
        "--json",
        "--seconds",
        str(seconds),
        "--tier",
        case["tier"],
        "--size",
        case["size"],
        "--fps",
        str(case["fps"]),
    ]
    flags += ["--precision", case.get("precision", "int8"), "--threads", str(case.get("threads", 1))]
    flags += ["--pace"] if case["pace"] else []
    done = subprocess.run([sys.executable, __file__, *flags], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def _title(case: Row) -> str:
    how = f"at {case['fps']} fps" if case["pace"] else "unpaced"
    extra = "".join(f", {key} {case[key]}" for key in ("precision", "threads") if key in case)
    return f"{case['tier']} {case['size']} {how}{extra}"


def _shown(values: list[float]) -> str:
    return f"{values[0]:g} ({values[1]:g}-{values[2]:g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="demo", help="video file, or demo")
    parser.add_argument("--persona", default="vera")
    parser.add_argument("--tier", choices=["tiny", "small", "base"], help="instead of source and persona")
    parser.add_argument("--size", default="720p", choices=list(SIZES), help="with --tier")
    parser.add_argument("--fps", type=int, default=30, help="with --tier: rate of the clip")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--frames", type=int, help="so many frames instead of seconds, those of --warm among them")
    parser.add_argument("--warm", type=float, default=4.0, help="seconds at the beginning that are not counted")
    parser.add_argument("--sink", default="null", help="null, or FILE.mp4 to add the encoder")
    parser.add_argument("--runtime", default="auto", choices=get_args(Settings.model_fields["runtime"].annotation))
    parser.add_argument("--precision", default="auto", choices=["auto", "f32", "bf16", "int8"])
    parser.add_argument("--threads", type=int, default=1, help="of each inference session")
    parser.add_argument("--governor", default="off", choices=["auto", "off"])
    parser.add_argument("--pace", action="store_true", help="at the clip's own rate, dropping what comes too late")
    parser.add_argument("--matrix", action="store_true", help="all cases in turn")
    parser.add_argument("--cases", default="goals", choices=list(CASES), help="with --matrix")
    parser.add_argument("--rounds", type=int, default=3, help="with --matrix")
    parser.add_argument("--out", type=Path, help="with --matrix: add JSON lines to this file")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    if arguments.matrix:
        matrix(arguments)
        return
    report, result = one(arguments)
    console = Console(stderr=True)
    frames, own = report["frames"], report["benchmark"]
    console.print(result.trace.table())
    console.print(
        f"{frames['sent']} frames, {frames['swapped']} swapped, {frames['dropped']} dropped, {report['fps']} a second, "
        f"{report['runtime']} {report['precision']}, frame loop "
        f"{sum(stage['p50'] for stage in report['cpu_ms'].values()):.1f} ms cpu, {own['core_percent']} % of a core, "
        f"resident {own['resident_mb']} MB, grown by {own['growth_mb']} MB",
        highlight=False,
    )
    if arguments.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
