"""The whole live path on a clip, as fast as it goes: frames a second, and where the milliseconds go.

    python benchmarks/bench_pipeline.py --seconds 20
    python benchmarks/bench_pipeline.py --source clip.mp4 --persona kofi --runtime onnxruntime --json

The clip is decoded in the capture thread without pacing and without dropping, the sink counts frames and throws them
away, so the figure is throughput; ``--pace`` feeds the clip at its own rate instead, and latency is then what a viewer
would see. The first run warms up (kernels, networks) and is not counted. On a shared machine compare figures of one run
only. The last line is the JSON object of ``personacam run --json`` with ``benchmark`` added.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys

from rich.console import Console

from realtime.config import Settings
from realtime.session import Result, run_session


def measure(arguments: argparse.Namespace, *, frames: int | None, seconds: float | None) -> Result:
    """One run of the real session."""
    settings = Settings(
        source=arguments.source,
        persona=arguments.persona,
        sink=("null",),
        pace="on" if arguments.pace else "off",
        runtime=arguments.runtime,
        precision=arguments.precision,
        loop=True,
        frames=frames,
        seconds=seconds,
    )
    return run_session(settings, say=lambda _: None)


def memory_mb() -> float:
    """Largest resident size so far. Linux counts in kilobytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 if sys.platform != "darwin" else 1024**2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="demo", help="video file, or demo")
    parser.add_argument("--persona", default="vera")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--runtime", default="auto", choices=["auto", "openvino", "onnxruntime"])
    parser.add_argument("--precision", default="auto", choices=["auto", "f32", "bf16"])
    parser.add_argument("--pace", action="store_true", help="at the clip's own rate, dropping what comes too late")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    measure(arguments, frames=60, seconds=None)
    before_mb = memory_mb()
    result = measure(arguments, frames=None, seconds=arguments.seconds)
    report = result.report | {
        "benchmark": {
            "name": "pipeline",
            "seconds": arguments.seconds,
            "paced": arguments.pace,
            "cores": os.cpu_count(),
            "peak_mb": round(memory_mb(), 1),
            "peak_growth_mb": round(memory_mb() - before_mb, 1),
        }
    }
    console = Console(stderr=True)
    frames = report["frames"]
    console.print(result.trace.table())
    console.print(
        f"{frames['sent']} frames, {frames['swapped']} swapped, {frames['dropped']} dropped, {report['fps']} a second, "
        f"{report['runtime']} {report['precision']}, peak {memory_mb():.0f} MB",
        highlight=False,
    )
    if arguments.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
