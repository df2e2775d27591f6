"""How long it takes to put a swapped face into a frame, beside the ways in which others do it.

    python benchmarks/bench_blend.py [--json] [--size 1280x720] [--face 400] [--swap 128] [--seconds 10]

Five questions, answered in one run on one core with the methods taking turns, so that a busy machine slows all alike:

* paste: a finished mask is given; the swap is rotated by 8 degrees, scaled to the face and blended into the frame.
* whole: the mask is also eroded and feathered, and the swap's colours are matched to the wearer's mean and contrast.
* crop: the wearer's face out of the frame, and as the network's float tensor.
* output: the finished frame into what virtual cameras take as it is.
* chain: everything between decoder and camera that is no network: crop, tensors to and from the network, whole with the
  wearer's features covered, label, I420; in place, as the pipeline does it with a frame that nobody else holds.

The methods:

    ours paste / whole    realtime.paste.paste and realtime.blend.Blender.paste (vector code, the mask's reach only)
    numpy frame           warp to the size of the frame, blend all of it in float32 (what a first version looks like)
    opencv region         warp into the face's rectangle, blend in uint8 with cv2.multiply and cv2.add
    + soften              the same for "whole": Gaussian feather, mean and deviation inside the mask
    seamless clone        cv2.seamlessClone of the warped face: Poisson blending (it matches colour by itself)
    ours crop             realtime.crop, averaged where the face is larger than the crop
    opencv crop           cv2.warpAffine, one sample, and cv2.dnn.blobFromImage
    ours I420 / NV12      realtime.planes; chroma is the mean of 2 x 2 pixels
    opencv I420 / NV12    cv2.cvtColor, chroma of one of the pixels; NV12: interleaved by numpy

Shown are CPU and wall time per frame in milliseconds (median, and 10th and 90th percentile as spread), how many times
longer than ours of the same question, and for paste and whole the mean difference in grey levels from ours inside the
face's rectangle: small where the same work is done, larger where the method's result differs by design. Everything runs
a few times before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from engines.geometry import crop_corners, invert, rescale_crop
from engines.types import F64, U8, AlignedFace, Swap
from realtime import kernels
from realtime.blend import BlendConfig, Blender
from realtime.planes import PixelFormat, buffer_for, convert
from realtime.provenance import Label

CROP = 128
WARM_UP_ROUNDS = 3


@dataclass(frozen=True)
class Scene:
    """One frame and the swap that belongs into it."""

    frame: U8
    swap: Swap
    soft: U8
    """The softened mask that "paste" is given."""
    swap_to_frame: F64
    box: tuple[int, int, int, int]
    """x0, y0, x1, y1 of the face's square in the frame."""


def make_scene(width: int, height: int, face: int, side: int, blender: Blender) -> Scene:
    """Smooth random pictures with a little noise, seeded; an oval mask."""
    rng = np.random.default_rng(0)

    def picture(w: int, h: int, seed_cells: int) -> U8:
        cells = rng.integers(30, 226, (seed_cells, seed_cells, 3), dtype=np.uint8)
        smooth = cv2.resize(cells, (w, h), interpolation=cv2.INTER_CUBIC).astype(np.float64)
        return np.clip(smooth + rng.normal(0, 2, smooth.shape), 0, 255).astype(np.uint8)

    frame, pixels = picture(width, height, 12), picture(side, side, 6)
    mask = np.zeros((side, side), np.uint8)
    cv2.ellipse(mask, (side // 2, side // 2), (int(side * 0.36), int(side * 0.44)), 0, 0, 360, 255, -1)
    scale, angle = face / CROP, math.radians(8)
    linear = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle = np.array([(CROP - 1) / 2, (CROP - 1) / 2])
    to_frame = np.column_stack([linear, np.array([width / 2, height / 2]) - linear @ middle])
    crop = np.zeros((CROP, CROP, 3), np.uint8)
    kernels.crop_face(frame, to_frame, crop)
    swap_to_frame = rescale_crop(to_frame, CROP, side)
    corners = crop_corners(swap_to_frame, side)
    low = np.clip(np.floor(corners.min(axis=0)) - 1, 0, (width, height)).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)) + 2, 0, (width, height)).astype(int)
    swap = Swap(AlignedFace(0, crop, to_frame), pixels, mask)
    box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
    return Scene(frame, swap, blender.soften(mask).copy(), swap_to_frame, box)


def ours_paste(scene: Scene) -> Callable[[U8], None]:
    """Buffers and the affine are made before, as the blender has them."""
    buffers, gain, offset = kernels.PasteBuffers(len(scene.soft)), np.ones(3), np.zeros(3)
    frame_to_swap = np.ascontiguousarray(invert(scene.swap_to_frame))

    def run(out: U8) -> None:
        kernels.paste(out, scene.swap.pixels, scene.soft, frame_to_swap, gain, offset, buffers, scene.box)

    return run


def numpy_frame(out: U8, pixels: U8, soft: U8, swap_to_frame: F64) -> None:
    """Everything at the size of the frame, float32."""
    size = (out.shape[1], out.shape[0])
    warped = cv2.warpAffine(pixels.astype(np.float32), swap_to_frame, size)
    alpha = cv2.warpAffine(soft.astype(np.float32) / 255.0, swap_to_frame, size)[:, :, None]
    out[:] = (out.astype(np.float32) * (1.0 - alpha) + warped * alpha + 0.5).astype(np.uint8)


def opencv_region(out: U8, scene: Scene, pixels: U8, soft: U8) -> None:
    """The face's rectangle only, uint8."""
    x0, y0, x1, y1 = scene.box
    affine = scene.swap_to_frame.copy()
    affine[:, 2] -= (x0, y0)
    size = (x1 - x0, y1 - y0)
    warped = cv2.warpAffine(pixels, affine, size, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.cvtColor(cv2.warpAffine(soft, affine, size), cv2.COLOR_GRAY2BGR)
    region = out[y0:y1, x0:x1]
    kept = cv2.multiply(region, cv2.bitwise_not(alpha), scale=1 / 255)
    cv2.add(kept, cv2.multiply(warped, alpha, scale=1 / 255), dst=region)


def gaussian_feather(mask: U8, config: BlendConfig) -> U8:
    """Eroded, then a Gaussian of the variance that the two boxes of ours have together."""
    size = 2 * config.erode_px + 1
    eroded = cv2.erode(mask, np.ones((size, size), np.uint8), borderValue=(0,))
    radii = (config.feather_px // 2, config.feather_px - config.feather_px // 2)
    sigma = math.sqrt(sum(((2 * r + 1) ** 2 - 1) / 12 for r in radii))
    return np.asarray(cv2.GaussianBlur(eroded, (0, 0), sigma), np.uint8)


def opencv_region_whole(out: U8, scene: Scene, config: BlendConfig) -> None:
    """Soften and match colour in uint8, then opencv_region."""
    soft = gaussian_feather(scene.swap.mask, config)
    inside = cv2.threshold(soft, 127, 255, cv2.THRESH_BINARY)[1]
    wearer = cv2.resize(scene.swap.face.pixels, soft.shape[::-1])
    mean, std = cv2.meanStdDev(scene.swap.pixels, mask=inside)
    wearer_mean, wearer_std = cv2.meanStdDev(wearer, mask=inside)
    gain = np.clip(wearer_std / std, 0.5, 2.0).ravel()
    offset = wearer_mean.ravel() - mean.ravel() * gain
    strength = config.colour_strength
    levels = np.arange(256)[:, None] * (1 + strength * (gain - 1)) + strength * offset
    table = np.clip(levels + 0.5, 0, 255).astype(np.uint8)[:, None]
    opencv_region(out, scene, np.asarray(cv2.LUT(scene.swap.pixels, table), np.uint8), soft)


def numpy_frame_whole(out: U8, scene: Scene, config: BlendConfig) -> None:
    """Soften and match colour in float32, then numpy_frame."""
    soft = gaussian_feather(scene.swap.mask, config)
    inside = soft > 127
    pixels = scene.swap.pixels.astype(np.float32)
    wearer = cv2.resize(scene.swap.face.pixels, soft.shape[::-1]).astype(np.float32)
    gain = np.clip(wearer[inside].std(axis=0) / pixels[inside].std(axis=0), 0.5, 2.0)
    mean = pixels[inside].mean(axis=0)
    matched = (pixels - mean) * gain + mean + np.clip(wearer[inside].mean(axis=0) - mean, -60, 60)
    mixed = np.clip(pixels + config.colour_strength * (matched - pixels), 0, 255)
    numpy_frame(out, (mixed + 0.5).astype(np.uint8), soft, scene.swap_to_frame)


def seamless_clone(out: U8, scene: Scene) -> None:
    """Poisson blending inside the mask's rectangle."""
    x0, y0, x1, y1 = scene.box
    affine = scene.swap_to_frame.copy()
    affine[:, 2] -= (x0, y0)
    size = (x1 - x0, y1 - y0)
    warped = cv2.warpAffine(scene.swap.pixels, affine, size, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(scene.swap.mask, affine, size)
    # The clone is centred on the rectangle of the mask that is not 0.
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    centre = (x0 + int(columns[0] + columns[-1] + 1) // 2, y0 + int(rows[0] + rows[-1] + 1) // 2)
    out[:] = cv2.seamlessClone(warped, out, alpha, centre, cv2.NORMAL_CLONE)


@dataclass(frozen=True)
class Method:
    """One row: what it answers, and the call that is timed (it works on a copy of the frame, in place)."""

    name: str
    question: str
    run: Callable[[U8], object]


def paste_methods(scene: Scene, blender: Blender) -> list[Method]:
    """Ours first in each question, here and below."""
    swap, config = scene.swap, blender.config
    return [
        Method("ours paste", "paste", ours_paste(scene)),
        Method("opencv region", "paste", lambda out: opencv_region(out, scene, swap.pixels, scene.soft)),
        Method("numpy frame", "paste", lambda out: numpy_frame(out, swap.pixels, scene.soft, scene.swap_to_frame)),
        Method("ours whole", "whole", lambda out: paste_whole(out, blender, swap)),
        Method("opencv region + soften", "whole", lambda out: opencv_region_whole(out, scene, config)),
        Method("numpy frame + soften", "whole", lambda out: numpy_frame_whole(out, scene, config)),
        Method("seamless clone", "whole", lambda out: seamless_clone(out, scene)),
    ]


def paste_whole(out: U8, blender: Blender, swap: Swap) -> None:
    """A swap that does not arrive would be quick."""
    if blender.paste(out, swap, 1 / 30) <= 0:
        raise SystemExit("the swap does not cover the face: choose a larger --face or --swap")


def frame_methods(scene: Scene, blender: Blender) -> list[Method]:
    """What happens to the whole frame, to the face that the network sees, and everything together."""
    height, width = scene.frame.shape[:2]
    side, to_frame = blender.swap_size, scene.swap.face.to_frame
    crop: U8 = np.zeros((CROP, CROP, 3), np.uint8)
    planar = np.zeros((1, 3, CROP, CROP), np.float32)
    rng = np.random.default_rng(1)
    swapped, swapped_mask = rng.random((1, 3, side, side), np.float32), rng.random((1, 1, side, side), np.float32)
    pixels, mask = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint8)
    planes = {name: buffer_for((width, height), PixelFormat(name)) for name in ("I420", "NV12")}
    turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    features = np.column_stack([64 + 36 * np.cos(turn), 62 + 30 * np.sin(turn)])
    worn = replace(scene.swap, face=replace(scene.swap.face, features=features))
    cropper, label, finished = kernels.FaceCropper(), Label(), np.zeros_like(scene.frame)

    def ours_crop(out: U8) -> None:
        cropper(out, to_frame, crop)
        kernels.bgr_to_planar(crop, planar)

    def opencv_crop(out: U8) -> None:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        face = cv2.warpAffine(out, to_frame, (CROP, CROP), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        cv2.dnn.blobFromImage(face, 1 / 255.0, swapRB=True)

    def opencv_nv12(out: U8) -> None:
        planar_chroma = cv2.cvtColor(out, cv2.COLOR_BGR2YUV_I420)
        planes["NV12"][:height] = planar_chroma[:height]
        pairs = planes["NV12"][height:].reshape(-1, 2)
        pairs[:, 0], pairs[:, 1] = planar_chroma[height:].reshape(2, -1)

    def chain(out: U8) -> None:
        ours_crop(out)
        kernels.planar_to_bgr(swapped, swapped_mask, pixels, mask)
        # As in the pipeline, in place: only a frame that somebody else holds is copied first.
        paste_whole(out, blender, worn)
        label.draw(out)
        convert(out, PixelFormat.I420, planes["I420"])

    return [
        Method("ours crop", "crop", ours_crop),
        Method("opencv crop", "crop", opencv_crop),
        Method("ours I420", "I420", lambda out: convert(out, PixelFormat.I420, planes["I420"])),
        Method("opencv I420", "I420", lambda out: cv2.cvtColor(out, cv2.COLOR_BGR2YUV_I420, dst=planes["I420"])),
        Method("ours NV12", "NV12", lambda out: convert(out, PixelFormat.NV12, planes["NV12"])),
        Method("opencv NV12", "NV12", opencv_nv12),
        Method("copy of the frame", "copy", lambda out: np.copyto(finished, out)),
        Method("ours chain", "chain", chain),
    ]


def spread(nanoseconds: list[int]) -> dict[str, float]:
    p10, median, p90 = np.percentile(nanoseconds, (10, 50, 90)) / 1e6
    return {"p10": round(float(p10), 4), "median": round(float(median), 4), "p90": round(float(p90), 4)}


def measure(scene: Scene, methods: list[Method], seconds: float) -> tuple[int, dict[str, dict[str, object]]]:
    """Rounds in which every method runs once. Returns (rounds, name -> times, ratio and difference)."""
    out = scene.frame.copy()
    cpu: dict[str, list[int]] = {method.name: [] for method in methods}
    wall: dict[str, list[int]] = {method.name: [] for method in methods}
    results: dict[str, U8] = {}
    rounds = -WARM_UP_ROUNDS
    end = math.inf
    while rounds < 5 or time.perf_counter() < end:
        for method in methods:
            np.copyto(out, scene.frame)
            wall_start, cpu_start = time.perf_counter_ns(), time.thread_time_ns()
            method.run(out)
            cpu_ns, wall_ns = time.thread_time_ns() - cpu_start, time.perf_counter_ns() - wall_start
            if rounds < 0:
                results[method.name] = out.copy()
                continue
            cpu[method.name].append(cpu_ns)
            wall[method.name].append(wall_ns)
        rounds += 1
        if rounds == 0:
            end = time.perf_counter() + seconds
    x0, y0, x1, y1 = scene.box
    first = {method.question: method.name for method in reversed(methods)}
    rows: dict[str, dict[str, object]] = {}
    for method in methods:
        ours = first[method.question]
        difference = results[method.name][y0:y1, x0:x1].astype(int) - results[ours][y0:y1, x0:x1]
        rows[method.name] = {
            "question": method.question,
            "cpu_ms": spread(cpu[method.name]),
            "wall_ms": spread(wall[method.name]),
            "times_ours": round(float(np.median(cpu[method.name]) / np.median(cpu[ours])), 2),
            "mean_difference_levels": round(float(np.abs(difference).mean()), 3),
            "ours": ours,
        }
    return rounds, rows


def show(rows: dict[str, dict[str, object]], title: str) -> None:
    table = Table(title=title)
    table.add_column("method", no_wrap=True)
    for name in ("CPU ms", "p10 .. p90", "wall ms", "x ours", "levels"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in rows.items():
        cpu, wall = row["cpu_ms"], row["wall_ms"]
        assert isinstance(cpu, dict)
        assert isinstance(wall, dict)
        table.add_row(
            name,
            f"{cpu['median']:.3f}",
            f"{cpu['p10']:.3f} .. {cpu['p90']:.3f}",
            f"{wall['median']:.3f}",
            f"{row['times_ours']:.1f}",
            f"{row['mean_difference_levels']:.2f}",
        )
    Console(width=100).print(table)


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1280x720", help="of the frame, WIDTHxHEIGHT")
    parser.add_argument("--face", type=int, default=400, help="side of the face's square in frame pixels")
    parser.add_argument("--swap", type=int, default=128, help="side of the swap in its own pixels")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to measure")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    try:
        width, height = (int(part) for part in options.size.split("x"))
    except ValueError:
        parser.error(f"--size {options.size}: write it like 1280x720")
    if min(width, height) < 64 or not 32 <= options.face <= 4096 or not 32 <= options.swap <= 1024:
        parser.error("the frame must have 64 pixels a side or more, --face lie in 32..4096, --swap in 32..1024")
    cv2.setNumThreads(1)
    # Full strength and no smoothing in time: the same frame gives the same picture in each round.
    blender = Blender(BlendConfig(colour_strength=1.0, colour_time_constant_s=0.0), options.swap)
    compiled_s = kernels.warm_up()
    scene = make_scene(width, height, options.face, options.swap, blender)
    rounds, rows = measure(scene, paste_methods(scene, blender) + frame_methods(scene, blender), options.seconds)
    title = f"{width} x {height}, face {options.face}, swap {options.swap}, one core, {rounds} rounds"
    show(rows, title)
    if options.json:
        report = {
            "benchmark": "blend",
            "size": [width, height],
            "face": options.face,
            "swap": options.swap,
            "rounds": rounds,
            "warm_up_s": round(compiled_s, 2),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "opencv": cv2.__version__,
            "methods": rows,
        }
        print(json.dumps(report))


if __name__ == "__main__":
    main()
