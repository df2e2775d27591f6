"""From the moment a picture is captured to the moment a consumer has it, read off the pictures themselves.

    python benchmarks/bench_latency.py --tier small --seconds 20
    python benchmarks/bench_latency.py --tier small --device /dev/video10     through a v4l2loopback device

Each frame of the clip carries its number as black and white squares along its lower edge, far from the face. The clip
is played at its own rate; when a frame is released is noted. The consumer reads the number off what comes out and
looks at its clock. Without ``--device`` the consumer sits where a virtual camera's driver would; with it, another
thread opens the device as any video program does, and the driver's hand-over is included. A frame that never comes out
counts as dropped, one that comes twice or out of order as a fault. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import platformdirs
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tier_personas import persona_of

from engines.types import U8, Frame
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", default="small", choices=["tiny", "small", "base"])
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--precision", default="int8", choices=["auto", "f32", "bf16", "int8"])
    parser.add_argument("--device", help="a v4l2loopback device, for example /dev/video10")
    parser.add_argument("--out", type=Path, help="add the JSON line to this file")
    arguments = parser.parse_args()
    persona, weights = persona_of(arguments.tier)
    seen: list[tuple[int, int, int]] = []
    readers: list[Reader] = []
    opened = session.open_sink

    def open_reader(spec: str) -> Reader:
        readers.append(Reader(opened(spec), seen, read=arguments.device is None))
        return readers[-1]

    def run(pace: str, **limit: Any) -> session.Result:
        sink = f"virtualcam:{arguments.device}" if arguments.device else "null"
        settings = Settings(
            source=str(coded_clip(arguments.fps)), persona=persona, sink=(sink,), pace=pace, loop=True,
            precision=arguments.precision, governor="off", **limit,
        )  # fmt: skip
        result = run_session(settings, say=lambda _: None)
        if result.error is not None:
            sys.exit(str(result.error))
        return result

    session.open_sink = open_reader  # type: ignore[assignment]  # the one seam that a consumer needs
    run("off", frames=60)
    seen.clear()
    over = threading.Event()
    if arguments.device:
        readers.clear()

        def watch() -> None:
            while not readers and not over.wait(0.05):
                pass
            if readers:
                consume(arguments.device, readers[0], seen, over)

        threading.Thread(target=watch, daemon=True).start()
    result = run("on", seconds=arguments.seconds)
    over.set()
    if not seen:
        sys.exit("the consumer saw no picture")
    line = {
        "benchmark": "latency", "tier": arguments.tier, "weights": weights, "fps": arguments.fps,
        "through": arguments.device or "sink", "precision": result.report["precision"], "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    } | summary(seen)  # fmt: skip
    Console(stderr=True).print(line)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with arguments.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    print(json.dumps(line))


if __name__ == "__main__":
    main()
