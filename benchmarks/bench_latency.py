"""From the moment a picture is captured to the moment a consumer has it, read off the pictures themselves.

    python benchmarks/bench_latency.py --tier small --seconds 20
    python benchmarks/bench_latency.py --tier small --device /dev/video10     through a v4l2loopback device
    python benchmarks/bench_latency.py --tier small --compare 5               other ways to wait, five rounds each

Each frame of the clip carries its number as black and white squares along its lower edge, far from the face. The clip
is played at its own rate; when a frame is released is noted. The consumer reads the number off what comes out and
looks at its clock. Without ``--device`` the consumer sits where a virtual camera's driver would; with it, another
thread opens the device as any video program does, and the driver's hand-over is included. A frame that never comes out
counts as dropped, one that comes twice or out of order as a fault. "core" is what the whole process took, decoding
included, in percent of one core. The first seconds are left out (``--warm``): float32 computes until the faster
arithmetic has loaded beside it. The last line is JSON; ``--compare`` (``latency_trials.py``) prints a line a trial,
medians over its rounds, which take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import platformdirs
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from latency_trials import TRIALS, under
from tier_personas import persona_of

from engines.types import U8, Frame, Swap
from realtime import session
from realtime.config import Settings
from realtime.pacing import now_ns
from realtime.session import demo_clip, run_session
from realtime.sink import Sink

BITS = 12
SIDE = 24
CLIP_FRAMES = 300


def draw_number(pixels: U8, number: int) -> None:
    """BITS squares from the left at the lower edge, the lowest bit first."""
    for bit in range(BITS):
        pixels[-SIDE:, bit * SIDE : (bit + 1) * SIDE] = 235 if number >> bit & 1 else 20


def read_number(pixels: U8) -> int:
    """What ``draw_number`` drew, after any compression that leaves a picture."""
    row = pixels[-SIDE + 6 : -6, : BITS * SIDE].mean(axis=(0, 2)).reshape(BITS, SIDE)[:, 6:-6].mean(axis=1)
    return int(sum(1 << bit for bit in range(BITS) if row[bit] > 127))


def coded_clip(fps: int) -> Path:
    """The shipped clip with numbers, as JPEG pictures; made once into the cache folder."""
    folder = Path(platformdirs.user_cache_dir("personacam", appauthor=False)) / "bench"
    path = folder / f"coded-{fps}.mkv"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.mkv")
    with av.open(str(demo_clip())) as source, av.open(str(part), "w") as clip:
        stream = source.streams.video[0]
        track = clip.add_stream("mjpeg", rate=fps, options={"qmin": "3", "qmax": "3"})
        track.width, track.height, track.pix_fmt = stream.width, stream.height, "yuvj422p"
        for index, picture in enumerate(source.decode(stream)):
            if index == CLIP_FRAMES:
                break
            pixels = picture.to_ndarray(format="bgr24")
            draw_number(pixels, index)
            coded = av.VideoFrame.from_ndarray(pixels, "bgr24").reformat(format="yuvj422p", dst_color_range="JPEG")
            coded.pts, coded.time_base = index, Fraction(1, fps)
            clip.mux(track.encode(coded))
        clip.mux(track.encode(None))
    part.replace(path)
    return path


class Reader:
    """A sink that notes when each picture was there, and hands it on to the one behind it."""

    def __init__(self, behind: Sink, seen: list[tuple[int, int, int]], *, read: bool) -> None:
        self.name, self.report = behind.name, behind.report
        self._behind, self._seen, self._read = behind, seen, read
        self.captured: dict[int, int] = {}
        """Number -> when it was captured last; for a consumer that sees pictures only."""

    def open(self, size: tuple[int, int], fps: float) -> None:
        """As the sink behind."""
        self._behind.open(size, fps)
        self.report = self._behind.report

    def send(self, pixels: U8, frame: Frame) -> None:
        """Look at the number and the clock."""
        number = read_number(pixels)
        self.captured[number] = frame.captured_ns
        self._behind.send(pixels, frame)
        if self._read:
            self._seen.append((number, frame.captured_ns, now_ns()))

    def close(self) -> None:
        """As the sink behind."""
        self._behind.close()


def consume(device: str, reader: Reader, seen: list[tuple[int, int, int]], over: threading.Event) -> None:
    """As a video program: open the device, read, look."""
    camera = cv2.VideoCapture(device)
    while not over.is_set():
        good, pixels = camera.read()
        at = now_ns()
        if good:
            number = read_number(np.asarray(pixels, np.uint8))
            captured = reader.captured.get(number)
            if captured is not None:
                seen.append((number, captured, at))
    camera.release()


def summary(seen: list[tuple[int, int, int]]) -> dict[str, Any]:
    """Latency in milliseconds, frames dropped and out of order."""
    firsts = [row for k, row in enumerate(seen) if k == 0 or row[0] != seen[k - 1][0]]
    steps = np.diff([number for number, _, _ in firsts]) % CLIP_FRAMES
    latency_ms = np.array([(at - captured) / 1e6 for _, captured, at in firsts])
    p50, p95, p99 = (round(float(value), 2) for value in np.percentile(latency_ms, (50, 95, 99)))
    return {
        "frames": len(firsts), "p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "max_ms": round(float(latency_ms.max()), 2),
        "dropped": int((steps[steps < CLIP_FRAMES // 2] - 1).sum()),
        "out_of_order": int((steps >= CLIP_FRAMES // 2).sum()),
    }  # fmt: skip


def measure(arguments: argparse.Namespace, persona: str, weights: str, seconds: float) -> dict[str, Any]:
    """One paced run; the program ends when it fails."""
    seen: list[tuple[int, int, int]] = []
    readers: list[Reader] = []
    opened = session.open_sink

    def open_reader(spec: str) -> Reader:
        readers.append(Reader(opened(spec), seen, read=arguments.device is None))
        return readers[-1]

    over = threading.Event()

    def watch() -> None:
        while not readers and not over.wait(0.05):
            pass
        if readers:
            consume(arguments.device, readers[0], seen, over)

    if arguments.device:
        threading.Thread(target=watch, daemon=True).start()
    session.open_sink = open_reader  # type: ignore[assignment]  # the one seam that a consumer needs
    work = Work(arguments.warm)
    try:
        result = play(arguments, persona, work, pace="on", seconds=seconds + arguments.warm)
    finally:
        session.open_sink = opened
        over.set()
    seen = [row for row in seen if row[1] >= seen[0][1] + arguments.warm * 1e9]
    if not seen:
        sys.exit("the consumer saw no picture")
    return {
        "benchmark": "latency", "tier": arguments.tier, "weights": weights, "fps": arguments.fps,
        "through": arguments.device or "sink", "precision": result.report["precision"], "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "core_percent": work.core_percent(),
    } | summary(seen)  # fmt: skip


class Work:
    """The process's time between the first swapped frame after ``warm_s`` seconds and the last."""

    def __init__(self, warm_s: float = 0.0) -> None:
        self._warm_s = warm_s
        self._from_s: float | None = None
        self._first: tuple[float, float] | None = None
        self._last = (0.0, 0.0)

    def watch(self, frame: Frame, swap: Swap) -> None:  # noqa: ARG002 - the pipeline gives them
        """Called after each swapped frame."""
        self._last = time.perf_counter(), time.process_time()
        self._from_s = self._last[0] + self._warm_s if self._from_s is None else self._from_s
        if self._last[0] >= self._from_s:
            self._first = self._first or self._last

    def core_percent(self) -> float:
        """Of one core."""
        if self._first is None or self._last[0] <= self._first[0]:
            return 0.0
        return round(100 * (self._last[1] - self._first[1]) / (self._last[0] - self._first[0]), 1)


def play(arguments: argparse.Namespace, persona: str, work: Work, **how: Any) -> session.Result:
    """The coded clip through the product."""
    sink = f"virtualcam:{arguments.device}" if arguments.device else "null"
    settings = Settings(
        source=str(coded_clip(arguments.fps)), persona=persona, sink=(sink,), loop=True,
        precision=arguments.precision, governor="off", **how,
    )  # fmt: skip
    result = run_session(settings, say=lambda _: None, watch=work.watch)
    if result.error is not None:
        sys.exit(str(result.error))
    return result


def compare(arguments: argparse.Namespace, persona: str, weights: str) -> list[dict[str, Any]]:
    """Each trial in turn, so many rounds: medians over the rounds, and the range of p99."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TRIALS}
    for turn in range(arguments.compare):
        for name, trial in TRIALS.items():
            print(f"round {turn + 1}, {name}", file=sys.stderr, flush=True)
            with under(trial, arguments.fps):
                rows[name].append(measure(arguments, persona, weights, arguments.seconds))
    lines = []
    for name, runs in rows.items():
        middle = {
            key: round(float(np.median([run[key] for run in runs])), 2)
            for key in ("p50_ms", "p95_ms", "p99_ms", "max_ms", "core_percent", "dropped", "load")
        }
        spread = [min(run["p99_ms"] for run in runs), max(run["p99_ms"] for run in runs)]
        lines.append(runs[-1] | {"trial": name, "rounds": len(runs), "p99_range_ms": spread} | middle)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", default="small", choices=["tiny", "small", "base"])
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--warm", type=float, default=4.0, help="seconds before them that are not counted")
    parser.add_argument("--precision", default="int8", choices=["auto", "f32", "bf16", "int8"])
    parser.add_argument("--device", help="a v4l2loopback device, for example /dev/video10")
    parser.add_argument("--compare", type=int, metavar="ROUNDS", help="other ways to wait, beside the plain one")
    parser.add_argument("--out", type=Path, help="add the JSON lines to this file")
    arguments = parser.parse_args()
    persona, weights = persona_of(arguments.tier)
    play(arguments, persona, Work(), pace="off", frames=60)
    if arguments.compare:
        lines = compare(arguments, persona, weights)
    else:
        lines = [measure(arguments, persona, weights, arguments.seconds)]
    table = Table(*(lines[0].keys() & {"trial"}), "p50 ms", "p95", "p99", "max", "dropped", "core %", "load")
    for line in lines:
        figures = ("trial", "p50_ms", "p95_ms", "p99_ms", "max_ms", "dropped", "core_percent", "load")
        table.add_row(*(str(line[name]) for name in figures if name in line))
    Console(stderr=True, width=120).print(table)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with arguments.out.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    for line in lines:
        print(json.dumps(line))


if __name__ == "__main__":
    main()
