"""The programs that read the camera, each with what it found: numbers, colours, rate and latency."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.vm.guest import framecode
from tests.vm.guest.tape import SIZE

_WIDTH, _HEIGHT = SIZE
_PIXELS = _WIDTH * _HEIGHT
_FILE = Path("/tmp/client.raw")


def judge(numbers: list[int | None], colours: list[Any] | None = None) -> dict[str, Any]:
    """What a row of numbers read from successive pictures says; None is a picture without a readable number."""
    read = [number for number in numbers if number is not None]
    steps = framecode.steps(read)
    found: dict[str, Any] = {
        "frames": len(numbers),
        "unread": len(numbers) - len(read),
        "distinct": len(set(read)),
        "backwards": sum(step < 0 for step in steps),
        "repeats": sum(step == 0 for step in steps),
        "lost": sum(step - 1 for step in steps if step > 1),
    }
    if colours is not None:
        found["colour_error"] = round(framecode.colour_error(colours), 1)
        found["colours"] = [[round(float(value)) for value in patch] for patch in colours]
    return found


def latencies(numbers: list[int | None], seen: list[float], sent: Any) -> list[float]:
    """Milliseconds from the moment at which the webcam gave a picture away to the moment at which it was seen.

    ``sent`` is the webcam's log; a number stands for its last use before it was seen.
    """
    found = []
    total = int(sent.count.value)
    log = np.frombuffer(sent.times, np.float64)
    for number, moment in zip(numbers, seen, strict=True):
        if number is None:
            continue
        uses = log[np.arange(number, total, framecode.COUNT) % len(log)]
        earlier = uses[uses <= moment]
        if len(earlier):
            found.append((moment - float(earlier[-1])) * 1000.0)
    return found


def spread(milliseconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    if not milliseconds:
        return {}
    p50, p95 = np.percentile(milliseconds, (50, 95))
    return {"p50": round(float(p50), 1), "p95": round(float(p95), 1)}


def v4l2_ctl(device: str, count: int, limit_s: float) -> dict[str, Any]:
    """Memory-mapped streaming, as most programs do it."""
    _call(["v4l2-ctl", "-d", device, "--stream-mmap", f"--stream-count={count}", f"--stream-to={_FILE}"], limit_s)
    return _judge_i420()


def ffmpeg(device: str, count: int, limit_s: float) -> dict[str, Any]:
    """FFmpeg's own V4L2 input."""
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-f", "v4l2", "-i", device, "-frames:v", str(count)]
    _call([*command, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-y", str(_FILE)], limit_s)
    return _judge_i420()


def gstreamer(device: str, count: int, limit_s: float) -> dict[str, Any]:
    """GStreamer's, as in Cheese."""
    source = f"v4l2src device={device} num-buffers={count} ! video/x-raw,format=I420"
    _call(["gst-launch-1.0", "-q", *f"{source} ! filesink location={_FILE}".split()], limit_s)
    return _judge_i420()


def _judge_i420() -> dict[str, Any]:
    """Of the pictures in ``_FILE``; colours by BT.601 in full precision, the clients' own converters are coarser."""
    data, size = np.fromfile(_FILE, np.uint8), _PIXELS * 3 // 2
    pictures = [data[start : start + size] for start in range(0, len(data) - size + 1, size)]
    numbers = [framecode.read_number(picture[:_PIXELS].reshape(_HEIGHT, _WIDTH)) for picture in pictures]
    return judge(numbers, framecode.read_colours(framecode.i420_to_rgb(pictures[-1], _WIDTH, _HEIGHT)))


def opencv(device: str, count: int, limit_s: float, sent: Any = None) -> dict[str, Any]:
    """OpenCV, with rate and latency: it sees each picture as soon as it is there."""
    import cv2

    capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
    numbers: list[int | None] = []
    seen: list[float] = []
    picture = None
    deadline = time.monotonic() + limit_s
    while len(numbers) < count and time.monotonic() < deadline:
        good, pixels = capture.read()
        if not good:
            break
        seen.append(time.time())
        numbers.append(framecode.read_number(pixels[:, :, 1]))
        picture = pixels
    capture.release()
    if picture is None:
        raise RuntimeError("OpenCV reads nothing")
    found = judge(numbers, framecode.read_colours(picture[:, :, ::-1]))
    found["fps"] = round((len(seen) - 1) / max(seen[-1] - seen[0], 1e-6), 1)
    if sent is not None:
        found["latency_ms"] = spread(latencies(numbers, seen, sent))
    return found


def hold(device: str, seconds: float) -> dict[str, Any]:
    """OpenCV keeps the device open and reads on, whatever the other side does: pictures and failures over time."""
    import cv2

    capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
    numbers: list[int | None] = []
    failures = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        good, pixels = capture.read()
        if good:
            numbers.append(framecode.read_number(pixels[:, :, 1]))
        else:
            failures += 1
    return judge(numbers) | {"failures": failures}


def apart(work: Callable[..., Any], *arguments: Any) -> Callable[[float], Any]:
    """Begin ``work`` in a process of its own. Returns what waits so many seconds for its result."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        status = 1
        try:
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(work(*arguments), pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)

    def result(limit_s: float) -> Any:
        import select

        with os.fdopen(reading, "rb") as pipe:
            ready = select.select([pipe], [], [], limit_s)[0]
            data = pipe.read() if ready else b""
        if not ready:
            os.kill(pid, 9)
        os.waitpid(pid, 0)
        if not data:
            raise RuntimeError(f"{getattr(work, '__name__', work)} gave no result within {limit_s:.0f} s")
        return pickle.loads(data)

    return result


def _call(command: list[str], limit_s: float) -> str:
    """Its output. Raises RuntimeError with what it said."""
    if shutil.which(command[0]) is None:
        raise RuntimeError(f"{command[0]} is not installed")
    _FILE.unlink(missing_ok=True)
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{command[0]} was not done within {limit_s:.0f} s") from None
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-500:]}")
    return done.stdout
