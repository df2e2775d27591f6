"""Is the invisible mark found again, and is it found where there is none?

    python benchmarks/bench_mark.py --jobs 2                       about 8 minutes on two quiet cores
    python benchmarks/bench_mark.py --sessions 4 --wrong-keys 20   a short one
    python benchmarks/bench_mark.py --prepare                      only render and swap the clips (see mark_clips)

Each session has a key and a number of its own and marks 3 s of one of the clips, which is then attacked, encoded
(H.264, x264 veryfast, 30 frames a second) and read by the very code of ``personacam verify``. A session counts as
**identified** when its number comes out: "blind", with the key alone, and "known", when it is one of 1000 sessions
that this computer remembers. A wrong number is counted apart.

The background attack replaces everything outside the swap's mask, hair and shoulders too, which is harder than what
conferencing programs do. "Everything" is what a call with a virtual background does at worst; it is beyond what the
mark was asked to outlive.

False alarms: every attacked clip *without* a mark, or with the mark of another key, is read with ``--wrong-keys``
keys. Shown are the largest evidence (-log10 of the p-value's bound, unclipped), and where a Gumbel distribution fitted
to all of it (the limit law of maxima) puts the probability of a false alarm at the threshold.

Results are appended to ``--out`` as JSON lines, and what is there already is not done again.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
from mark_clips import Footage, load, prepare, write
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from engines.mark_detect import FOUND_P, Gathered, read
from engines.types import U8
from realtime.detect import MeshDetector
from realtime.mark import Marker, number_of
from realtime.verify_video import gather

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "mark.jsonl"
KNOWN = 1000
Pictures = tuple[list[U8], list[Any]]
Row = dict[str, Any]


def mirror(frames: list[U8], faces: list[Any]) -> Pictures:
    return [np.ascontiguousarray(f[:, ::-1]) for f in frames], [m[:, ::-1] for m in faces]


def crop(frames: list[U8], faces: list[Any]) -> Pictures:
    """5 % from every side, enlarged to the old size."""
    height, width = frames[0].shape[:2]
    y, x = round(0.05 * height), round(0.05 * width)
    cut = (slice(y, height - y), slice(x, width - x))
    return _resized([f[cut] for f in frames], [m[cut] for m in faces], (width, height), cv2.INTER_LINEAR)


def small(frames: list[U8], faces: list[Any]) -> Pictures:
    return _resized(frames, faces, (640, 360), cv2.INTER_AREA)


def background(frames: list[U8], faces: list[Any]) -> Pictures:
    """A still picture with structure at all sizes outside the face."""
    height, width = frames[0].shape[:2]
    rng, still = np.random.default_rng(5), np.zeros((height, width, 3))
    for cells, weight in ((6, 0.45), (24, 0.25), (90, 0.18), (300, 0.12)):
        noise = rng.integers(0, 256, (max(2, cells * height // width), cells, 3)).astype(np.uint8)
        still += weight * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    behind = np.clip(still, 0, 255).astype(np.uint8)
    return [np.where(m[:, :, None], f, behind) for f, m in zip(frames, faces, strict=True)], faces


def _resized(frames: list[Any], faces: list[Any], size: tuple[int, int], method: int) -> Pictures:
    masks = [cv2.resize(m.astype(np.uint8), size) > 0 for m in faces]
    return [np.asarray(cv2.resize(f, size, interpolation=method), np.uint8) for f in frames], masks


ATTACKS: dict[str, tuple[tuple[Callable[[list[U8], list[Any]], Pictures], ...], int]] = {
    "H.264 CRF 23": ((), 23),
    "H.264 CRF 28": ((), 28),
    "H.264 CRF 35": ((), 35),
    "640x360, CRF 28": ((small,), 28),
    "mirror, CRF 28": ((mirror,), 28),
    "5 % crop, CRF 28": ((crop,), 28),
    "background, CRF 23": ((background,), 23),
    "background, CRF 28": ((background,), 28),
    "mirror, crop, 360, CRF 28": ((mirror, crop, small), 28),
    "everything, CRF 28": ((background, mirror, crop, small), 28),
}
BEYOND = "everything, CRF 28"


def attacked(name: str, frames: list[U8], faces: list[Any]) -> tuple[Gathered, int]:
    """What the detector sees of it, and the bytes of the video."""
    steps, crf = ATTACKS[name]
    for step in steps:
        frames, faces = step(frames, faces)
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "attacked.mp4"
        write(video, frames, crf)
        size, detector = video.stat().st_size, MeshDetector.load()
        try:
            return next(gather(video, 3.0, detector, lambda _: None)), size
        finally:
            detector.close()


def session(seed: int, clip: Path, names: list[str]) -> list[Row]:
    """One session through all attacks."""
    cv2.setNumThreads(1)
    rng, footage = np.random.default_rng([seed, 88]), load(clip)
    secret, number = rng.bytes(32), int(rng.integers(1, 1 << 63)) << 1
    marked, psnr, cost = _marked(footage, secret, number)
    known = [number_of(number), *(int(n) for n in rng.integers(0, 1 << 32, KNOWN - 1))]
    rows = []
    for name in names:
        started = time.perf_counter()
        seen, size = attacked(name, marked, footage.faces)
        blind, remembered = (_first(read(seen, [secret], numbers)) for numbers in ((), known))
        rows.append(
            {
                "kind": "session", "seed": seed, "attack": name, "clip": footage.name, "hand_held": footage.hand_held,
                "blind": blind.number == number_of(number), "known": remembered.number == number_of(number),
                "found": remembered.found, "wrong": remembered.number not in {None, number_of(number)},
                "bits": blind.bits_matched, "log10_p": round(remembered.log_p / math.log(10), 2),
                "region": remembered.region, "size": round(remembered.size, 4), "psnr_db": psnr, "mark_ms": cost,
                "kbit_s": round(size * 8 / 3000), "seconds": round(time.perf_counter() - started, 1),
            }
        )  # fmt: skip
    return rows


def _first(reading: Any) -> Any:
    assert reading is not None
    return reading[0]


def _marked(footage: Footage, secret: bytes, number: int) -> tuple[list[U8], float, float]:
    height, width = footage.frames[0].shape[:2]
    marker = Marker(secret, number, (width, height))
    marked, errors, times = [], [], []
    for frame in footage.frames:
        out = frame.copy()
        started = time.perf_counter()
        marker.draw(out)
        times.append(time.perf_counter() - started)
        errors.append(float(np.square(out.astype(np.int16) - frame).mean()))
        marked.append(out)
    psnr = 10 * math.log10(255**2 / float(np.mean(errors)))
    return marked, round(psnr, 2), round(1e3 * float(np.median(times)), 3)


def false_alarms(seed: int, clip: Path, name: str, keys: int) -> list[Row]:
    """Evidence of ``keys`` keys on a video without their mark; every second clip has the mark of another key."""
    cv2.setNumThreads(1)
    rng, footage = np.random.default_rng([seed, 99]), load(clip)
    frames = footage.frames
    if seed % 2:
        frames = _marked(footage, rng.bytes(32), int(rng.integers(1, 1 << 63)))[0]
    seen, _ = attacked(name, frames, footage.faces)
    started = time.perf_counter()
    values = [round(_first(read(seen, [rng.bytes(32)])).log_p / math.log(10), 3) for _ in range(keys)]
    took = round(time.perf_counter() - started, 1)
    row = {"kind": "wrong", "seed": seed, "attack": name, "clip": footage.name, "marked": bool(seed % 2)}
    return [row | {"log10_p": values, "seconds": took}]


def table(rows: list[Row]) -> Table:
    shown = Table("attack", "sessions", "known", "blind", "wrong", "bits, median", "-log10 p, least", "kbit/s")
    for name in ATTACKS:
        some = [r for r in rows if r["kind"] == "session" and r["attack"] == name]
        if some:
            shown.add_row(
                name, str(len(some)), _share([r["known"] for r in some]), _share([r["blind"] for r in some]),
                str(sum(r["wrong"] for r in some)), f"{np.median([r['bits'] for r in some]):.0f}",
                f"{-max(r['log10_p'] for r in some):.1f}", f"{np.median([r['kbit_s'] for r in some]):.0f}",
            )  # fmt: skip
    return shown


def _share(hits: list[bool]) -> str:
    """Share, and the lower end of its 95 % interval (Wilson 1927)."""
    n, z = len(hits), 1.96
    p = sum(hits) / n
    low = (p + z * z / 2 / n - z * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)) / (1 + z * z / n)
    return f"{100 * p:.1f} % (>= {100 * max(low, 0.0):.0f})"


def summary(rows: list[Row]) -> Row:
    sessions = [r for r in rows if r["kind"] == "session"]
    asked = [r for r in sessions if r["attack"] != BEYOND]
    out: Row = {"trials": len(sessions)}
    if asked:
        out |= {
            "identified": round(float(np.mean([r["known"] for r in asked])), 4),
            "identified_blind": round(float(np.mean([r["blind"] for r in asked])), 4),
            "wrong_numbers": sum(r["wrong"] for r in sessions),
            "worst": min(
                (float(np.mean([r["known"] for r in asked if r["attack"] == name])), name)
                for name in {r["attack"] for r in asked}
            ),
            "psnr_db_least": min(r["psnr_db"] for r in sessions),
            "mark_ms_median": round(float(np.median([r["mark_ms"] for r in sessions])), 3),
        }
    evidence = np.array([-v for r in rows if r["kind"] == "wrong" for v in r["log10_p"]])
    if len(evidence) > 2:
        scale = float(evidence.std()) * math.sqrt(6) / math.pi
        mode = float(evidence.mean()) - 0.5772156649 * scale
        need = -math.log10(FOUND_P)
        out["false_alarms"] = {
            "readings": len(evidence), "found": int((evidence > need).sum()), "needed": need,
            "largest": round(float(evidence.max()), 2), "gumbel_mode": round(mode, 2), "gumbel_scale": round(scale, 3),
            "probability_by_fit": float(-math.expm1(-math.exp(-(need - mode) / scale))), "bound": FOUND_P,
        }  # fmt: skip
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=14)
    parser.add_argument("--wrong-keys", type=int, default=12, help="for each of the videos without their mark")
    parser.add_argument("--wearers", type=int, default=2, help="rendered people beside the demo's clip; even: standing")
    parser.add_argument("--attacks", nargs="*", default=list(ATTACKS), choices=list(ATTACKS), metavar="ATTACK")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/mark"), help="where the clips are kept")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--prepare", action="store_true", help="only make the clips")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    clips = prepare(arguments.work, arguments.wearers, console.print)
    if arguments.prepare:
        return
    rows = run(arguments, clips, console)
    console.print(table(rows))
    result = summary(rows)
    for key, value in result.items():
        console.print(f"{key}: {value}")
    if arguments.json:
        print(json.dumps(result))


def run(arguments: argparse.Namespace, clips: list[Path], console: Console) -> list[Row]:
    """All rows of ``--out`` with these seeds, the missing ones made now; Ctrl-C keeps what is finished."""
    out: Path = arguments.out
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    done = {(r["kind"], r["seed"], r["attack"]) for r in rows}
    seeds = range(arguments.seed, arguments.seed + arguments.sessions)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool, Progress(console=console) as bar:
        futures = []
        for seed in seeds:
            names = [name for name in arguments.attacks if ("session", seed, name) not in done]
            if names:
                futures.append(pool.submit(session, seed, clips[seed % len(clips)], names))
        for number, name in enumerate(arguments.attacks if arguments.wrong_keys else ()):
            seed = arguments.seed + number
            if ("wrong", seed, name) not in done:
                futures.append(pool.submit(false_alarms, seed, clips[seed % len(clips)], name, arguments.wrong_keys))
        task = bar.add_task("sessions and wrong keys", total=len(futures))
        try:
            for future in as_completed(futures):
                new = future.result()
                with out.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row) + "\n" for row in new)
                rows += new
                bar.advance(task)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    wanted = set(seeds)
    return [r for r in rows if r["seed"] in wanted and r["attack"] in arguments.attacks]


if __name__ == "__main__":
    main()
