"""Whether a camera's JPEG should be decoded to planes, so that only the face's region ever becomes BGR.

    python benchmarks/bench_decode.py [--size 1280x720] [--face 400] [--rounds 60] [--json]

Two ways from one compressed picture (4:2:2, quality 85, as webcams send it) to what a virtual camera takes (I420) and
what detection, crop and blend need (BGR), on one core with the methods taking turns:

    bgr     cv2.imdecode of the whole picture, a copy to blend into, all of it into I420 at the end (realtime.planes)
    planes  PyAV (libavcodec, one thread) to planes; luma into the limited range that cameras have and chroma halved
            for I420; 1.4 times the face's square into BGR, and that region back into I420 after blending

Neither contains detection, networks or blending, which are the same. Shown is CPU time per picture: median, and 10th to
90th percentile.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import av
import cv2
import numpy as np

from engines.types import U8
from realtime.planes import PixelFormat, buffer_for, convert

REGION = 1.4
WARM_UP = 3


def jpeg(width: int, height: int) -> bytes:
    """A smooth picture with a sensor's noise, 4:2:2."""
    rng = np.random.default_rng(0)
    cells = rng.integers(30, 226, (24, 40, 3), dtype=np.uint8)
    smooth = cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float64)
    picture = np.clip(smooth + rng.normal(0, 2, smooth.shape), 0, 255).astype(np.uint8)
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422]
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85, *sampling])[1])


def bgr_way(data: bytes) -> Callable[[], None]:
    encoded = np.frombuffer(data, np.uint8)
    first = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert first is not None
    out = np.zeros_like(first, np.uint8)
    planes = buffer_for((out.shape[1], out.shape[0]), PixelFormat.I420)

    def run() -> None:
        frame = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        assert frame is not None
        np.copyto(out, frame)
        convert(out, PixelFormat.I420, planes)

    return run


def planes_way(data: bytes, size: tuple[int, int], face: int) -> Callable[[], None]:
    codec = av.CodecContext.create("mjpeg", "r")
    codec.thread_count = 1
    packet = av.Packet(data)
    width, height = size
    side = min(int(face * REGION), height) // 2 * 2
    x0, y0 = (width - side) // 4 * 2, (height - side) // 4 * 2
    region_planes = buffer_for((side, side), PixelFormat.I420)
    planes = buffer_for(size, PixelFormat.I420)
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    luma_table = np.rint(16 + np.arange(256) * 219 / 255).astype(np.uint8)
    colour_table = np.rint(128 + (np.arange(256) - 128.0) * 224 / 255).astype(np.uint8)

    def run() -> None:
        (picture,) = codec.decode(packet)
        full = [np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size) for plane in picture.planes]
        luma, blue, red = full[0][:height, :width], full[1][:height, : width // 2], full[2][:height, : width // 2]
        cv2.LUT(luma, luma_table, dst=planes[:height])
        for plane, target in zip((blue, red), chroma, strict=True):
            cv2.LUT(cv2.addWeighted(plane[::2], 0.5, plane[1::2], 0.5, 0.0), colour_table, dst=target)
        rows, halves = slice(y0, y0 + side), slice(x0 // 2, (x0 + side) // 2)
        wide = [cv2.resize(plane[rows, halves], (side, side)) for plane in (red, blue)]
        region: U8 = np.asarray(cv2.cvtColor(cv2.merge([luma[rows, x0 : x0 + side], *wide]), cv2.COLOR_YCrCb2BGR))
        convert(region, PixelFormat.I420, region_planes)
        planes[rows, x0 : x0 + side] = region_planes[:side]
        chroma[:, y0 // 2 : (y0 + side) // 2, halves] = region_planes[side:].reshape(2, side // 2, side // 2)

    return run


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1280x720", help="of the picture, WIDTHxHEIGHT, even")
    parser.add_argument("--face", type=int, default=400, help="side of the face's square in pixels")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    width, height = (int(part) for part in options.size.split("x"))
    cv2.setNumThreads(1)
    data = jpeg(width, height)
    methods = {"bgr": bgr_way(data), "planes": planes_way(data, (width, height), options.face)}
    times: dict[str, list[int]] = {name: [] for name in methods}
    for turn in range(-WARM_UP, options.rounds):
        for name, method in methods.items():
            start = time.thread_time_ns()
            method()
            if turn >= 0:
                times[name].append(time.thread_time_ns() - start)
    rows = {}
    for name, values in times.items():
        p10, median, p90 = (round(float(v), 3) for v in np.percentile(values, (10, 50, 90)) / 1e6)
        rows[name] = {"p10": p10, "median": median, "p90": p90}
        print(f"{name:8} {median:8.3f} ms   {p10:.3f} .. {p90:.3f}")
    if options.json:
        print(json.dumps({"benchmark": "decode", "size": [width, height], "jpeg_bytes": len(data), "cpu_ms": rows}))


if __name__ == "__main__":
    main()
