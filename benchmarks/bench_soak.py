"""Hundreds of faults in the real pipeline: is the wearer ever seen, does everything recover, does anything leak?

    python benchmarks/bench_soak.py                                    100,000 frames, 330 faults
    python benchmarks/bench_soak.py --frames 4000 --faults 40 --seed 7 --log soak.jsonl --json

Real capture thread, reconnecting camera, tracker, alignment, blending, engine switch, policy, label and recorder; the
wearer, the detector and the persona's network stand in (benchmarks/soak_rig.py), so that the truth of every pixel is
known and a frame costs a millisecond. Every picture that leaves is searched for the code that the wearer's face
carries. realtime/faults.py says what can break. A fault that ends the run is followed by a new run at once, with
another policy and the other way of handing frames over (newest, lossless), as somebody would start it again.

``--log`` gets a JSON line for each fault: kind, frames, when it began, how long it lasted, how long until a frame left
swapped and in time again, how many frames were covered. The last line of --json is the report; the exit status is 1
when a promise was broken.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))

from soak_run import RUN_FRAMES, Findings, Soak, descriptors, resident_mb

from realtime import kernels
from realtime.faults import (
    ENDS_THE_RUN,
    KINDS,
    FaultKind,
    ThreadDeath,
    schedule,
)
from realtime.session import Signals


def soak(
    frames: int, faults: int, seed: int, folder: Path, kinds: Sequence[FaultKind] = KINDS, kept: Path | None = None
) -> dict[str, Any]:
    """Run it. The report: figures, every fault, and under "broken" each promise that was not kept."""
    kernels.warm_up()
    stop = threading.Event()
    before = {thread.name for thread in threading.enumerate()}
    hook, threading.excepthook = threading.excepthook, _expected_deaths(threading.excepthook)
    started = time.monotonic()
    whole = Soak(schedule(seed, frames, faults, kinds), folder, kept)
    whole.switch.start()
    whole.run_once(min(200, frames), stop, folder / "first.mp4")  # what is set up once, the encoder's threads too
    open_before = descriptors()
    try:
        while whole.findings.frames < frames or not whole.injector.done:
            if whole.findings.frames > 2 * frames:
                break
            ends = whole.findings.ends["frames"]
            whole.run_once(min(RUN_FRAMES, max(100, frames // 20)), stop)
            # Not after a fault, which has to recover soon: looking at the memory takes its time.
            memory = resident_mb() if whole.findings.ends["frames"] > ends else None
            if memory is not None:
                whole.findings.memory_mb.append(memory)
    finally:
        whole.switch.close()
        threading.excepthook = hook
    leaked = sorted({thread.name for thread in threading.enumerate()} - before)
    open_after = descriptors()
    report = _report(whole, seed, time.monotonic() - started)
    report["leaked"] = {
        "threads": leaked,
        "descriptors": None if open_before is None or open_after is None else max(0, open_after - open_before),
        "devices": whole.open_sources,
    }
    report["broken"] = broken(report, frames, faults)
    return report


def record_until_told(path: Path, seed: int) -> Findings:
    """One run with faults that do not end it, recorded until Ctrl-C or SIGTERM: what is left when a process ends?"""
    kernels.warm_up()
    stop = threading.Event()
    kinds = [kind for kind in KINDS if kind not in ENDS_THE_RUN and not kind.startswith(("second", "disk", "clock"))]
    whole = Soak(schedule(seed, 100_000, 5000, kinds), path.parent, None)
    whole.switch.start()
    signals = Signals(stop)
    with signals.installed():
        signals.running = True
        whole.run_once(1_000_000, stop, path)
    whole.switch.close()
    return whole.findings


def _expected_deaths(hook: Any) -> Any:
    return lambda args: None if args.exc_type is ThreadDeath else hook(args)


def _report(whole: Soak, seed: int, seconds: float) -> dict[str, Any]:
    findings, log = whole.findings, whole.injector.log
    rows = []
    for entry in log:
        ended = entry.ended_ns
        again = None if ended is None or entry.recovered_ns is None else max(0.0, (entry.recovered_ns - ended) / 1e6)
        rows.append({
            "kind": entry.fault.kind, "frame": entry.fault.frame, "length": entry.fault.length,
            "began_s": round((entry.began_ns - log[0].began_ns) / 1e9, 3),
            "lasted_ms": None if ended is None else round((ended - entry.began_ns) / 1e6, 2),
            "recovered_ms": None if again is None else round(again, 2), "covered": entry.covered,
        })  # fmt: skip
    latencies = findings.latencies_ms or [0.0]
    return {
        "frames": findings.frames, "swapped": findings.swapped, "policy": findings.covered, "dropped": findings.dropped,
        "runs": findings.runs, "seed": seed, "seconds": round(seconds, 1), "fps": round(findings.frames / seconds, 1),
        "faults": rows, "uncovered": findings.uncovered, "disorder": findings.disorder[:10],
        "not_the_persona": findings.not_the_persona, "ends": dict(findings.ends), "reasons": dict(findings.reasons),
        "latency_ms": {f"p{q}": round(float(np.percentile(latencies, q)), 2) for q in (50, 99)},
        "engine": whole.switch.report()["frames"], "memory_growth_mb": growth_mb(findings.memory_mb),
        "memory_mb": [round(size, 1) for size in findings.memory_mb],
    }  # fmt: skip


def growth_mb(sizes: Sequence[float]) -> float | None:
    """Median of the last fifth minus median of the second fifth: what warms up does not count."""
    n = len(sizes) // 5
    return round(float(np.median(sizes[-n:]) - np.median(sizes[n : 2 * n])), 2) if n else None


def broken(report: dict[str, Any], frames: int, faults: int) -> list[str]:
    """Each promise that was not kept, in words."""
    slow = [f["kind"] for f in report["faults"] if f["recovered_ms"] is None or f["recovered_ms"] > 1000]
    growth = report["memory_growth_mb"]
    found = {
        f"{len(report['uncovered'])} frames show the wearer: {report['uncovered'][:3]}": bool(report["uncovered"]),
        f"{report['not_the_persona']} swapped frames do not show the persona": bool(report["not_the_persona"]),
        f"the order was broken: {report['disorder'][:2]}": bool(report["disorder"]),
        f"{len(report['faults'])} faults instead of {faults}": len(report["faults"]) < faults,
        f"{report['frames']} frames instead of {frames}": report["frames"] < frames,
        f"not recovered within a second: {slow[:8]}": bool(slow),
        f"leaked: {report['leaked']}": any(report["leaked"].values()),
        f"memory grew by {growth} MB": growth is not None and growth > 5,
    }
    return [text for text, is_so in found.items() if is_so]


def table(report: dict[str, Any]) -> Table:
    """The faults by kind."""
    shown = Table(title=f"{report['frames']} frames, {len(report['faults'])} faults, {report['runs']} runs")
    for name in ("fault", "times", "covered", "lasted ms", "back after ms", "worst ms", "ends the run"):
        shown.add_column(name, justify="left" if name == "fault" else "right")
    for kind in KINDS:
        rows = [row for row in report["faults"] if row["kind"] == kind]
        if not rows:
            continue
        back = [row["recovered_ms"] for row in rows if row["recovered_ms"] is not None] or [float("nan")]
        lasted = [row["lasted_ms"] for row in rows if row["lasted_ms"] is not None] or [float("nan")]
        numbers = (np.median(lasted), np.median(back), max(back))
        cells = [str(len(rows)), str(sum(row["covered"] for row in rows)), *(f"{n:.1f}" for n in numbers)]
        shown.add_row(kind, *cells, "yes" if kind in ENDS_THE_RUN else "")
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--faults", type=int, default=330)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS), help="only these")
    parser.add_argument("--log", type=Path, help="a JSON line for each fault")
    parser.add_argument("--record", type=Path, help="instead: record one run with faults until Ctrl-C or SIGTERM")
    parser.add_argument("--keep", type=Path, help="a folder for pictures that show the wearer")
    parser.add_argument("--json", action="store_true", help="print the report as the last line")
    arguments = parser.parse_args()
    logging.getLogger("personacam").setLevel(logging.ERROR)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if arguments.record is not None:
        sys.exit(bool(record_until_told(arguments.record, arguments.seed).uncovered))
    with tempfile.TemporaryDirectory() as folder:
        report = soak(arguments.frames, arguments.faults, arguments.seed, Path(folder), arguments.kinds, arguments.keep)
    if arguments.log is not None:
        arguments.log.write_text("".join(f"{json.dumps(row)}\n" for row in report["faults"]))
    console = Console(stderr=True, width=110)
    console.print(table(report))
    facts = (
        "seconds",
        "fps",
        "swapped",
        "policy",
        "dropped",
        "reasons",
        "ends",
        "engine",
        "latency_ms",
        "leaked",
        "memory_growth_mb",
    )
    for name in facts:
        console.print(f"{name}: {report[name]}", highlight=False)
    console.print(f"uncovered frames: {len(report['uncovered'])}", highlight=False)
    for text in report["broken"]:
        console.print(f"BROKEN: {text}", highlight=False)
    if arguments.json:
        print(json.dumps(report))
    sys.exit(bool(report["broken"]))


if __name__ == "__main__":
    main()
