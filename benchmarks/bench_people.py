"""How fast invented people are built and drawn.

    python benchmarks/bench_people.py
    python benchmarks/bench_people.py --jobs 2 --seconds 20 --json

Building an identity is timed several times; pictures are 256 x 256 aligned crops of people in random states as training
sees them (1.5 x supersampling, sensor and codec included), photographic with and without hair and drawn as anime, and
whole 720p frames. Times are medians: wall time, and CPU time of the process, which other work on the machine disturbs
less. Then the whole machine's rate: ``--jobs`` processes draw photographic crops at once. The first pictures of each
kind are not counted. The OpenGL renderer's name tells whether a GPU drew.

The result goes to ``benchmarks/results/people_speed.json``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("LP_NUM_THREADS", "1")  # Mesa's threads, before it is loaded: processes share the cores instead

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from calibration.people.actor import Actor
from calibration.people.anime import Style
from calibration.people.camera.pinhole import Camera
from calibration.people.identity import RENDERER_VERSION, random_identity
from calibration.people.render import Renderer
from calibration.people.state import random_state

RESULTS = Path(__file__).with_name("results") / "people_speed.json"
CROP, MARGIN = 256, 1.5
FRAME = Camera()
_WARM_UP = 3
_IDENTITIES, _STATES = 700, 7_000_000

Row = dict[str, Any]


def _milliseconds(task: Callable[[int], object], seconds: float, least: int = 5) -> Row:
    """Median wall and CPU time of ``task(i)`` over at least ``seconds``."""
    for i in range(_WARM_UP):
        task(i)
    wall: list[float] = []
    cpu: list[float] = []
    i, end = _WARM_UP, time.perf_counter() + seconds
    while time.perf_counter() < end or len(wall) < least:
        w, c = time.perf_counter(), time.process_time()
        task(i)
        wall.append(time.perf_counter() - w)
        cpu.append(time.process_time() - c)
        i += 1
    median = float(np.median(wall))
    return {
        "median_ms": round(median * 1e3, 1), "cpu_ms": round(float(np.median(cpu)) * 1e3, 1),
        "p90_ms": round(float(np.percentile(wall, 90)) * 1e3, 1), "per_s": round(1 / median, 2), "samples": len(wall),
    }  # fmt: skip


def building(renderer: Renderer, count: int) -> Row:
    """Medians over ``count`` people; the very first one in a process pays for what all share and is not counted."""
    wall, cpu = [], []
    for seed in range(_IDENTITIES, _IDENTITIES + count + 1):
        w, c = time.perf_counter(), time.process_time()
        renderer.actor(random_identity(seed)).close()
        wall.append(time.perf_counter() - w)
        cpu.append(time.process_time() - c)
    return {
        "median_s": round(float(np.median(wall[1:])), 2), "cpu_s": round(float(np.median(cpu[1:])), 2),
        "first_s": round(wall[0], 2), "samples": count,
    }  # fmt: skip


def _crops(renderer: Renderer, actors: list[Actor], *, hair: bool) -> Callable[[int], object]:
    return lambda i: renderer.shoot(
        actors[i % len(actors)], random_state(_STATES + i), crop_size=CROP, margin=MARGIN, hair=hair
    )


def drawing(renderer: Renderer, seconds: float, people: int) -> Row:
    """Times of one process, by kind of picture."""
    out: Row = {}
    styles: tuple[Style, ...] = ("photo", "anime")
    for style in styles:
        actors = [renderer.actor(random_identity(_IDENTITIES + k), style) for k in range(people)]
        out[f"{CROP} px crop, {style}"] = _milliseconds(_crops(renderer, actors, hair=True), seconds)
        if style == "photo":
            out[f"{CROP} px crop, {style}, no hair"] = _milliseconds(_crops(renderer, actors, hair=False), seconds)
            out["720p frame, photo"] = _milliseconds(
                lambda i, actors=actors: renderer.shoot(  # type: ignore[misc]
                    actors[i % len(actors)], random_state(_STATES + i), FRAME
                ),
                seconds,
            )
        for actor in actors:
            actor.close()
    return out


def _draw_alone(number: int, seconds: float, people: int, start: float) -> tuple[int, float]:
    """One process of the whole-machine run: crops drawn, and in how long."""
    cv2.setNumThreads(1)
    with Renderer() as renderer:
        actors = [renderer.actor(random_identity(_IDENTITIES + 10 * (number + 1) + k)) for k in range(people)]
        task = _crops(renderer, actors, hair=True)
        for i in range(_WARM_UP):
            task(i)
        time.sleep(max(0.0, start - time.time()))  # all are warm before any is measured
        begin, count = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            task(1000 * (number + 1) + count)
            count += 1
        took = time.perf_counter() - begin
        for actor in actors:
            actor.close()
    return count, took


def together(jobs: int, seconds: float, people: int, start_up: float) -> Row:
    """Crops a second of the whole machine with ``jobs`` processes."""
    start = time.time() + start_up
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        runs = [pool.submit(_draw_alone, k, seconds, people, start) for k in range(jobs)]
        done = [run.result() for run in runs]
    return {"processes": jobs, "crops": sum(n for n, _ in done), "per_s": round(sum(n / t for n, t in done), 2)}


def processor() -> str:
    """Its name, where the system tells."""
    path = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in path.read_text().splitlines() if line.startswith("model name")] \
        if path.exists() else []  # fmt: skip
    return names[0] if names else platform.processor() or platform.machine()


def _table(report: Row) -> Table:
    table = Table("what", "median", "CPU", "a second")
    built = report["building"]
    table.add_row(
        "identity built", f"{built['median_s']:.2f} s", f"{built['cpu_s']:.2f} s", f"{1 / built['median_s']:.2f}"
    )
    for name, row in report["drawing"].items():
        table.add_row(name, f"{row['median_ms']:.0f} ms", f"{row['cpu_ms']:.0f} ms", f"{row['per_s']:.1f}")
    for row in report["together"]:
        table.add_row(f"{CROP} px crops, {row['processes']} processes", "", "", f"{row['per_s']:.1f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each kind of picture")
    parser.add_argument("--people", type=int, default=3, help="how many take turns")
    parser.add_argument("--builds", type=int, default=5)
    parser.add_argument(
        "--jobs", type=int, nargs="*", default=[os.cpu_count() or 1], help="sizes of whole-machine runs"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    with Renderer() as renderer:
        report: Row = {
            "benchmark": {"name": "people_speed", "renderer_version": RENDERER_VERSION, "cores": os.cpu_count(),
                          "processor": processor(), "opengl": renderer.device},
            "building": building(renderer, arguments.builds),
            "drawing": drawing(renderer, arguments.seconds, arguments.people),
        }  # fmt: skip
    start_up = 6 + 3 * arguments.people * max(report["building"]["first_s"], report["building"]["median_s"])
    report["together"] = [together(n, arguments.seconds, arguments.people, start_up) for n in arguments.jobs]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    console = Console(stderr=True)
    console.print(_table(report))
    about = report["benchmark"]
    console.print(f"{about['opengl']}; {about['processor']}, {about['cores']} cores", highlight=False)
    if arguments.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
