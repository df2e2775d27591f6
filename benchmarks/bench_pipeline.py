"""The whole live path on a clip, as fast as it goes: frames a second, and where the milliseconds go.

    python benchmarks/bench_pipeline.py --seconds 20
    python benchmarks/bench_pipeline.py --source clip.mp4 --persona kofi --runtime onnxruntime --json

The clip is decoded in the capture thread without pacing and without dropping, the sink counts frames and throws them
away, so the figure is throughput, and "capture to sink" contains the wait for the frame before. ``--pace`` feeds the
clip at its own rate instead, and latency is then what a viewer would see. ``--sink out.mp4`` adds the encoder. The
first run warms up (kernels, networks) and is not counted. Resident memory is read while it runs.
On a shared machine compare figures of one run only. The last line is the JSON object of ``personacam run --json`` with
``benchmark`` added.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import get_args

from rich.console import Console

from engines.types import Frame, Swap
from realtime.config import Settings
from realtime.session import Result, run_session


class Memory:
    """Resident size after each swapped frame, in megabytes; empty where there is no /proc."""

    def __init__(self) -> None:
        self.sizes: list[float] = []

    def watch(self, frame: Frame, swap: Swap) -> None:
        """Called after each swapped frame."""
        del swap
        statm = Path("/proc/self/statm")
        if frame.index % 10 == 0 and statm.exists():
            self.sizes.append(int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)

    def growth_mb(self) -> float | None:
        """Mean of the last tenth minus mean of the second tenth: what start-up leaves behind does not count."""
        n = len(self.sizes) // 10
        if n == 0:
            return None
        return round(sum(self.sizes[-n:]) / n - sum(self.sizes[n : 2 * n]) / n, 2)


def measure(
    arguments: argparse.Namespace, memory: Memory, *, frames: int | None, seconds: float | None, sink: str
) -> Result:
    """One run of the real session. Ends the program when it failed."""
    settings = Settings(
        source=arguments.source,
        persona=arguments.persona,
        sink=(sink,),
        pace="on" if arguments.pace else "off",
        runtime=arguments.runtime,
        precision=arguments.precision,
        loop=True,
        frames=frames,
        seconds=seconds,
    )
    result = run_session(settings, say=lambda _: None, watch=memory.watch)
    if result.error is not None:
        sys.exit(str(result.error))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="demo", help="video file, or demo")
    parser.add_argument("--persona", default="vera")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--frames", type=int, help="so many frames instead of seconds")
    parser.add_argument("--sink", default="null", help="null, or FILE.mp4 to add the encoder")
    parser.add_argument("--runtime", default="auto", choices=get_args(Settings.model_fields["runtime"].annotation))
    parser.add_argument("--precision", default="auto", choices=["auto", "f32", "bf16"])
    parser.add_argument("--pace", action="store_true", help="at the clip's own rate, dropping what comes too late")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    measure(arguments, Memory(), frames=60, seconds=None, sink="null")
    memory = Memory()
    seconds = None if arguments.frames else arguments.seconds
    result = measure(arguments, memory, frames=arguments.frames, seconds=seconds, sink=arguments.sink)
    report = result.report | {
        "benchmark": {
            "name": "pipeline",
            "paced": arguments.pace,
            "cores": os.cpu_count(),
            "resident_mb": round(max(memory.sizes), 1) if memory.sizes else None,
            "growth_mb": memory.growth_mb(),
        }
    }
    console = Console(stderr=True)
    frames = report["frames"]
    console.print(result.trace.table())
    console.print(
        f"{frames['sent']} frames, {frames['swapped']} swapped, {frames['dropped']} dropped, {report['fps']} a second, "
        f"{report['runtime']} {report['precision']}, resident {report['benchmark']['resident_mb']} MB, "
        f"grown by {report['benchmark']['growth_mb']} MB",
        highlight=False,
    )
    if arguments.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
