"""Are the invented people seen as faces, are their truths true, and do they look like different people?

    python benchmarks/score_people.py --identities 200 --states 20 --jobs 2
    python benchmarks/score_people.py --identities 12 --states 6
    python benchmarks/score_people.py --identities 0 --identity-auc 100 10

Every identity is rendered in its own random states as an aligned crop with room around it. Checked on each: no empty
mask, all numbers finite, MediaPipe Face Mesh's score that there is a face (the live detector's threshold), and how far
its 51 inner points (iBUG 17..67) lie from the truth.

The distance is given in outer-eye-corner distances as seen from the front (the true 3D distance at the picture's scale,
so that a turned head is not judged by its shortened eyes). Face Mesh and iBUG mean slightly different points, so the
offset of each point, averaged over all counted frames in those units and in the crop's upright axes, is taken off
first. Counted are frames within 45 degrees of yaw in which nothing worn or held may hide a part of the face.

``--identity-auc N M`` embeds N people in M states without props with dlib's network (128-d, needs ``dlib-bin`` and
``face_recognition_models``) and compares all pairs: in all states, and in those within 45 and 30 degrees of yaw, since
the network was made for faces turned to the camera; once as the random webcams see them and once by a clean camera.
Chips are aligned by our own true landmarks.

Frames already in ``--work`` are kept, so an interrupted run continues. The result goes to
``benchmarks/results/people_score.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import rankdata

import calibration.people
from calibration.embedding import Embedder
from calibration.people.identity import RENDERER_VERSION, random_identity
from calibration.people.prepare.mesh468 import look_at
from calibration.people.render import Renderer, Shot
from calibration.people.state import State, random_state
from engines import geometry
from engines.facemesh import FaceMesh, load_facemesh
from realtime.detect import MIN_SCORE

RESULTS = Path(__file__).with_name("results") / "people_score.json"
PRESENT = MIN_SCORE
"""Face Mesh's score above which the live detector believes in a face."""
MOST_YAW = 45.0
INNER = slice(17, 68)
SIZE, MARGIN = 256, 1.8
_STATE_SEED, _AUC_STATE_SEED = 5_000_000, 6_000_000

Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One person's states still to do."""

    identity: int
    states: tuple[int, ...]
    props: bool = True
    clean: bool = False
    """Without the camera's blur, noise, low resolution and codec."""


_studio: list[tuple[Renderer, FaceMesh]] = []


def _open_studio() -> None:
    os.environ["LP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)
    _studio.append((Renderer(), load_facemesh()))


def _eyes_px(shot: Shot, state: State) -> float:
    """Distance between the outer eye corners, seen from the front, in pixels of the picture."""
    corners = shot.landmarks_3d[[36, 45]].astype(np.float64)
    depth = state.camera.position[2] - float(corners[:, 2].mean())
    scale = float(np.hypot(*shot.frame_to_picture[0, :2]))
    return float(np.linalg.norm(corners[0] - corners[1])) * state.camera.focal_px / depth * scale


def score_frames(job: Job) -> list[Row]:
    """One row a state."""
    renderer, facemesh = _studio[0]
    actor = renderer.actor(random_identity(job.identity))
    rows = []
    for seed in job.states:
        state = random_state(seed, props=job.props)
        shot = renderer.shoot(actor, state, crop_size=SIZE, margin=MARGIN)
        mesh, score = look_at(shot, facemesh)
        truth = shot.landmarks[INNER]
        off = (geometry.points_68(mesh[:, :2], "mesh468")[INNER] - truth) / _eyes_px(shot, state)
        rows.append(
            {
                "identity": job.identity, "state": seed, "yaw": state.yaw, "pitch": state.pitch,
                "occluded": state.props.occludes(), "mask": float(shot.mask.mean() / 255),
                "finite": bool(np.isfinite(shot.landmarks_3d).all() and np.isfinite(shot.mesh).all()),
                "score": score, "offsets": np.round(off, 4).tolist(),
            }
        )  # fmt: skip
    actor.close()
    return rows


def embed_frames(job: Job) -> list[Row]:
    """One row a state with dlib's 128 numbers."""
    renderer, _ = _studio[0]
    network = Embedder()
    actor = renderer.actor(random_identity(job.identity))
    rows = []
    for seed in job.states:
        state = random_state(seed, props=job.props)
        sensor = state.sensor.clean() if job.clean else None
        shot = renderer.shoot(actor, state, crop_size=SIZE, margin=MARGIN, sensor=sensor)
        vector = network.embed(shot.pixels, shot.landmarks)
        rows.append({"identity": job.identity, "state": seed, "yaw": state.yaw, "embedding": vector.round(5).tolist()})
    actor.close()
    return rows


def _read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    out = []
    for line in path.read_text().splitlines():
        try:
            out.append(json.loads(line))
        except json.JSONDecodeError:  # the last line of an interrupted run
            continue
    return out


def _sources_digest() -> str:
    """Of everything that draws people, so that no row of an older look enters the score."""
    root = Path(calibration.people.__file__).parent
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.suffix != ".pyc")
    return hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()[:12]


def collect(
    name: str, work: Path, wanted: dict[int, list[int]], jobs: int, *, props: bool, clean: bool = False
) -> list[Row]:
    """Rows of all wanted (identity, states), those on disk included; new ones are added to the file as they come."""
    path = work / f"people_{name}{'' if props else '_plain'}{'_clean' if clean else ''}_{_sources_digest()}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {(row["identity"], row["state"]): row for row in _read(path)}
    todo = [
        Job(who, tuple(s for s in states if (who, s) not in known), props, clean)
        for who, states in wanted.items()
        if any((who, s) not in known for s in states)
    ]
    function = {"frames": score_frames, "embeddings": embed_frames}[name]
    with path.open("a") as file:
        for rows in track(_results(function, todo, jobs), name, total=len(todo), console=Console(stderr=True)):
            for row in rows:
                known[row["identity"], row["state"]] = row
                file.write(json.dumps(row) + "\n")
            file.flush()
    return [known[who, state] for who, states in wanted.items() for state in states]


def _results(function: Any, todo: list[Job], jobs: int) -> Iterator[list[Row]]:
    if not todo:
        return
    if jobs == 1:
        if not _studio:
            _open_studio()
        yield from map(function, todo)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_open_studio) as pool:
        for future in as_completed([pool.submit(function, job) for job in todo]):
            yield future.result()


def summary(rows: list[Row]) -> Row:
    """Shares and distances, and the frames to look at."""
    counted = [r for r in rows if abs(r["yaw"]) <= MOST_YAW and not r["occluded"]]
    seen = [r for r in counted if r["score"] > PRESENT]
    out: Row = {
        "frames": len(rows),
        "empty_masks": sum(r["mask"] <= 0.001 for r in rows),
        "not_finite": sum(not r["finite"] for r in rows),
        "counted": len(counted),
        "face_present": round(len(seen) / max(len(counted), 1), 4),
        "face_present_all": round(sum(r["score"] > PRESENT for r in rows) / max(len(rows), 1), 4),
        "unseen": [[r["identity"], r["state"], round(r["yaw"], 1)] for r in counted if r["score"] <= PRESENT][:40],
    }
    if seen:
        offsets = np.array([r["offsets"] for r in seen])
        distance = np.linalg.norm(offsets - offsets.mean(0), axis=2)
        each = distance.mean(1)
        worst = np.argsort(-each)[:10]
        out["inner51"] = {
            "mean": round(float(distance.mean()), 4),
            "median": round(float(np.median(distance)), 4),
            "with_offsets": round(float(np.linalg.norm(offsets, axis=2).mean()), 4),
            "frontal": round(float(each[[abs(r["yaw"]) <= 15 for r in seen]].mean()), 4),
            "brows": round(float(distance[:, :10].mean()), 4),
            "nose": round(float(distance[:, 10:19].mean()), 4),
            "eyes": round(float(distance[:, 19:31].mean()), 4),
            "mouth": round(float(distance[:, 31:].mean()), 4),
            "worst": [[seen[i]["identity"], seen[i]["state"], round(float(each[i]), 3)] for i in worst],
        }
    return out


def auc(rows: list[Row]) -> Row:
    """Area under the curve of same- against different-identity pairs, by Euclidean distance (Mann-Whitney's U)."""
    vectors, who = np.array([r["embedding"] for r in rows]), np.array([r["identity"] for r in rows])
    first, second = np.triu_indices(len(rows), 1)
    square = (vectors**2).sum(1)
    distance = np.sqrt(np.maximum(square[:, None] + square - 2 * vectors @ vectors.T, 0))[first, second]
    same = who[first] == who[second]
    ranks = rankdata(distance)
    n, m = int(same.sum()), int((~same).sum())
    if not n or not m:
        return {"pairs": [n, m]}
    return {
        "faces": len(rows),
        "pairs": [n, m],
        "auc": round(1 - float((ranks[same].sum() - n * (n + 1) / 2) / (n * m)), 4),
        "same_median": round(float(np.median(distance[same])), 3),
        "different_median": round(float(np.median(distance[~same])), 3),
    }


def _show(result: Row) -> None:
    table = Table("what", "figure")
    for part, figures in result.items():
        for name, value in figures.items() if isinstance(figures, dict) else [("", figures)]:
            table.add_row(f"{part} {name}", str(value))
    Console(stderr=True).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=int, default=200)
    parser.add_argument("--states", type=int, default=20, help="of each identity, all different")
    parser.add_argument("--identity-auc", type=int, nargs=2, metavar=("N", "M"), help="N people in M states")
    parser.add_argument("--no-props", action="store_true", help="leave out what is worn or held, and count every frame")
    parser.add_argument("--first", type=int, default=0, help="seed of the first identity")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs") / "people_score", help="where finished frames lie")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    result: Row = {"benchmark": {"name": "people_score", "renderer_version": RENDERER_VERSION}}
    people = partial(range, arguments.first)
    if arguments.identities:
        each = arguments.states
        wanted = {
            i: [_STATE_SEED + i * each + k for k in range(each)] for i in people(arguments.first + arguments.identities)
        }
        result["frames"] = summary(
            collect("frames", arguments.work, wanted, arguments.jobs, props=not arguments.no_props)
        )
    if arguments.identity_auc:
        count, each = arguments.identity_auc
        wanted = {i: [_AUC_STATE_SEED + i * each + k for k in range(each)] for i in people(arguments.first + count)}
        for clean in (False, True):
            rows = collect("embeddings", arguments.work, wanted, arguments.jobs, props=False, clean=clean)
            for limit in (90, 45, 30):
                name = f"identity{', clean camera' if clean else ''}, within {limit} degrees"
                result[name] = auc([r for r in rows if abs(r["yaw"]) <= limit])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    _show(result)
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
