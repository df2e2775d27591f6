"""Does it matter which frames a persona learns from? Chosen by coverage against as many at random.

    python benchmarks/bench_coverage.py --no-training
    python benchmarks/bench_coverage.py --frames 60 --minutes 0.6 --seeds 3 --json

A person whom no training saw is rendered as one recording: most of it they sit and talk to the camera, for a part of it
they do what the guide asks. From these frames, ``calibration.coverage.choose`` takes some by what Face Mesh and the
picture say, and chance takes as many. Held out are states that a stream brings, in the recording's light.

Cheap: how far each held-out state is from the nearest chosen frame, by the *true* pose, expression and gaze, in steps
of 12, 8 and 8 degrees, a quarter of an expression unit and 0.2 rad of gaze; and how many bins were reached. Full: both
sets are enrolled alike, and the results are held against the held-out frames: masked PSNR and, by Face Mesh, landmarks
(NME). A quarter of the held-out states, those furthest from the middle of the recording, is scored apart.

The result goes to ``benchmarks/results/coverage.json``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from calibration.coverage import BINS, Coverage, choose, membership, neutral_of
from calibration.face_reading import COLUMNS, read_moment
from calibration.people.face.expression import look as look_with_eyes
from calibration.people.face.expression import random_expression
from calibration.people.footage import CropOptions, CropTruth, extra_columns, shoot_crops
from calibration.people.identity import RENDERER_VERSION, random_identity
from calibration.people.motion import motion
from calibration.people.props.worn import Props
from calibration.people.state import State, random_state
from engines.errors import DetectorError
from engines.facemesh import load_facemesh, look
from engines.faceset import FaceSet, FaceSetInfo, read_faceset
from engines.faceset_writer import FaceSetWriter
from engines.geometry import points_68
from engines.metrics_face import nme_pct

RESULTS = Path(__file__).with_name("results")
NEW, HELD_OUT = "newcomer", "held-out"
_SEEDS = (1 << 59) + 500_000
_EXTRAS = ("mesh", "expression", "gaze")
_SIZE = 160
_TALKING = 0.8
"""Of the recording; in the rest the guide is followed."""
_EVERY = 4
"""Of the motion's 30 frames a second one is rendered."""
_FAR = 0.25
_MOST_YAW = 45.0
"""On faces turned further, Face Mesh's own error is the larger one."""
_STEPS = {"yaw": 12.0, "pitch": 8.0, "roll": 8.0, "expression": 0.25, "gaze": 0.2}


def recording(seed: int, frames: int) -> list[State]:
    """Somebody who mostly talks to the camera, and for a while turns, smiles, shuts the eyes and looks aside."""
    rng = np.random.default_rng([seed, 110])
    moments = motion(seed + 7, frames * _EVERY)[::_EVERY]
    talking = round(_TALKING * frames)
    out = [replace(s, yaw=0.35 * s.yaw, pitch=0.4 * s.pitch, roll=0.4 * s.roll) for s in moments[:talking]]
    for s in moments[talking:]:
        expression, gaze = random_expression(rng), (float(rng.uniform(-0.4, 0.4)), float(rng.uniform(-0.2, 0.2)))
        look_with_eyes(expression, gaze)
        yaw, pitch, roll = (float(v) for v in rng.uniform((-45, -20, -15), (45, 20, 15)))
        out.append(replace(s, yaw=yaw, pitch=pitch, roll=roll, expression=expression, gaze=gaze))
    return out


def held_out(seed: int, count: int, like: Sequence[State]) -> list[State]:
    """What a stream brings, in the recording's light and before its camera."""
    states = []
    for k in range(count):
        s, scene = random_state(_SEEDS + 1000 * seed + k), like[(k * 37) % len(like)]
        states.append(
            replace(s, light=scene.light, room=scene.room, camera=scene.camera, sensor=scene.sensor, props=Props())
        )
    return states


def _shoot(job: tuple[int, list[State]]) -> list[CropTruth]:
    from calibration.people.render import Renderer

    who = random_identity(_SEEDS + job[0])
    options = CropOptions(_SIZE, clean=True, extras=_EXTRAS)
    with Renderer() as renderer, closing(load_facemesh()) as facemesh:
        shots = []
        for shot in shoot_crops(renderer, who, job[1], as_persona=False, options=options):
            found = look(facemesh, shot.pixels, shot.extras["mesh"])
            mesh = np.full((468, 2), np.nan) if found is None else found[:, :2]
            shots.append(replace(shot, extras={**shot.extras, "mesh": mesh.astype(np.float32)}))
        return shots


def rendered(folder: Path, seed: int, states: dict[str, list[State]], jobs: int) -> FaceSet:
    """Both parts as one face set; what is there already is read."""
    info = FaceSetInfo(
        f"people-renderer {RENDERER_VERSION}; bench_coverage 1", f"invented:{seed}",
        {"seed": seed} | {name: len(some) for name, some in states.items()}, size=_SIZE, extras=_EXTRAS,
        columns={"expression": extra_columns()["expression"]},
    )  # fmt: skip
    os.environ |= {"LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    context = multiprocessing.get_context("spawn")
    with FaceSetWriter(folder, info) as writer, ProcessPoolExecutor(jobs, mp_context=context) as pool:
        todo = [
            (name, list(part), [some[i] for i in part])
            for name, some in states.items()
            for part in np.array_split(np.arange(len(some)), -(-len(some) // 40))
            if not writer.finished(name) >= set(part.tolist())
        ]
        shots = pool.map(_shoot, [(seed, some) for _, _, some in todo])
        for (name, numbers, _), taken in zip(todo, shots, strict=True):
            writer.add(
                name, "persona", "train", numbers, np.stack([t.pixels for t in taken]),
                np.stack([t.mask for t in taken]), np.stack([t.landmarks for t in taken]),
                np.array([t.pose for t in taken]),
                {extra: np.stack([t.extras[extra] for t in taken]) for extra in _EXTRAS},
            )  # fmt: skip
    return read_faceset(folder, extras=_EXTRAS)


def readings(faceset: FaceSet) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows of the recording in which Face Mesh sees a face, and what is read there, as in an enrollment."""
    faces, still = faceset.faces[NEW], np.array([[1.0, 0, 0], [0, 1, 0]])
    rows, found = [], []
    with closing(load_facemesh()) as facemesh:
        for i, (crop, mesh) in enumerate(zip(faces.crops, faces.extras["mesh"], strict=True)):
            seen = look(facemesh, crop, mesh) if np.isfinite(mesh).all() else None
            if seen is None:
                continue
            try:
                row = read_moment(crop, seen, still, _SIZE).row()
            except DetectorError:  # an eye in profile
                continue
            row[COLUMNS.index("roll")] = faces.pose[i, 2]  # an enrollment reads it in the frame
            rows.append(i)
            found.append(row)
    return np.array(rows), np.stack(found)


def truths(faceset: FaceSet, name: str) -> NDArray[np.float64]:
    """(N, 57) what each face does, by the renderer, in steps."""
    faces = faceset.faces[name]
    pose = faces.pose / [_STEPS["yaw"], _STEPS["pitch"], _STEPS["roll"]]
    expression, gaze = faces.extras["expression"], faces.extras["gaze"]
    return np.concatenate([pose, expression / _STEPS["expression"], gaze / _STEPS["gaze"]], axis=1).astype(np.float64)


def cheap(
    chosen: NDArray[np.int64], rows: NDArray[np.int64], found: NDArray[np.float64], faceset: FaceSet
) -> dict[str, float]:
    """Distances of held-out states to the nearest chosen frame, and bins with at least a third of what they want."""
    have, want = truths(faceset, NEW)[rows[chosen]], truths(faceset, HELD_OUT)
    nearest = np.linalg.norm(want[:, None] - have[None], axis=2).min(axis=1)
    coverage = Coverage(len(chosen))
    coverage.count(found[chosen])
    shown = membership(found[chosen], neutral_of(found)).sum(axis=0) >= np.maximum(1, coverage.wanted / 3)
    return {
        "nearest_mean": float(nearest.mean()), "nearest_p90": float(np.quantile(nearest, 0.9)),
        "nearest_far": float(nearest[far_states(faceset)].mean()), "bins": int(shown.sum()),
    }  # fmt: skip


def far_states(faceset: FaceSet) -> NDArray[np.int64]:
    """The quarter of the held-out states furthest from the middle of the recording, by truth."""
    middle = np.median(truths(faceset, NEW), axis=0)
    away = np.linalg.norm(truths(faceset, HELD_OUT) - middle, axis=1)
    return np.argsort(-away)[: round(_FAR * len(away))]


def trained(faceset: FaceSet, chosen: NDArray[np.int64], out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Enroll on these frames alone, and score on the held-out states."""
    from engines import checkpoint
    from engines.enroll import EnrollConfig, enroll
    from engines.run_folder import load_universal

    faces = faceset.faces[NEW]
    fewer = replace(
        faces, states=faces.states[chosen], crops=faces.crops[chosen], masks=faces.masks[chosen],
        landmarks=faces.landmarks[chosen], pose=faces.pose[chosen],
        extras={name: values[chosen] for name, values in faces.extras.items()},
    )  # fmt: skip
    universal = load_universal(options.universal)
    config = EnrollConfig(seed=options.seed, steps=options.steps, max_minutes=options.minutes)
    # Another digest for other frames: the run's folder must not be continued with them.
    digest = f"{faceset.digest}:{','.join(map(str, chosen.tolist()))}"
    result = enroll(
        config, replace(faceset, faces={NEW: fewer}, digest=digest), NEW, universal.encoder, universal.trunk,
        universal.people.vectors, out,
    )  # fmt: skip
    decoder, _ = checkpoint.load_decoder(result.decoder)
    scores = score(faceset, universal.encoder, decoder)
    return scores | {"steps": result.step, "mode": result.mode, "minutes": result.seconds / 60}


def score(faceset: FaceSet, encoder: Any, decoder: Any) -> dict[str, Any]:
    """PSNR in the true mask and NME on held-out states: all of them, and the far ones."""
    import torch

    from engines.augment import NEUTRAL, augment, to_pictures
    from engines.enroll_learner import usable_frames
    from engines.metrics import psnr_masked_db

    frames = usable_frames(faceset, HELD_OUT, 0.1)
    far = np.isin(frames.faces.states, faceset.faces[HELD_OUT].states[far_states(faceset)])
    batch = frames.batch(np.arange(frames.count), with_points=encoder.sizes.mesh_points > 0)
    size = encoder.sizes.output_size
    cut = augment(batch, NEUTRAL, np.random.default_rng(0), margin=frames.margin,
                  input_size=encoder.sizes.input_size, output_size=size)  # fmt: skip
    with torch.no_grad():
        if cut.points is None:
            code = encoder(cut.inputs)
        else:
            there = torch.isfinite(cut.points).flatten(1).all(dim=1, keepdim=True).float()
            code = encoder(cut.inputs, torch.nan_to_num(cut.points), there)
        made = to_pictures(decoder(code)[0])
    true, masks = to_pictures(cut.truths[0]), cut.masks[0, :, 0].numpy()
    errors = landmark_errors(frames.faces.crops, made, true, masks, frames.faces.landmarks)
    errors[np.abs(frames.faces.pose[:, 0]) > _MOST_YAW] = np.nan
    out: dict[str, Any] = {}
    for name, which in (("", np.ones(len(far), bool)), ("_far", far)):
        each = [psnr_masked_db(made[i], true[i], masks[i]) for i in np.flatnonzero(which)]
        out[f"psnr_db{name}"] = float(np.mean(each))
        out[f"nme_pct{name}"] = float(np.nanmean(errors[which]))
    return out


def landmark_errors(
    crops: NDArray[np.uint8], made: NDArray[np.uint8], true: NDArray[np.uint8],
    masks: NDArray[np.float32], near: NDArray[np.float32],
) -> NDArray[np.float64]:  # fmt: skip
    """(N,) NME of Face Mesh on the result, laid into the stored picture, against it on the truth; NaN: not seen."""
    size, stored = made.shape[1], crops.shape[1]
    edge = (stored - size) // 2
    errors = []
    with closing(load_facemesh()) as facemesh:
        for crop, result, truth, mask, points in zip(crops, made, true, masks, near, strict=True):
            views = []
            for picture in (result, truth):
                whole = crop.copy()
                inner = whole[edge : edge + size, edge : edge + size]
                inner[:] = np.where(mask[..., None] > 0.5, picture, inner)
                views.append(look(facemesh, whole, points))
            found, wanted = views
            errors.append(
                np.nan if found is None or wanted is None
                else nme_pct(points_68(found[:, :2], "mesh468"), points_68(wanted[:, :2], "mesh468"))
            )  # fmt: skip
    return np.array(errors)


def run(options: argparse.Namespace) -> dict[str, Any]:
    say = Console(stderr=True).print
    began = time.perf_counter()
    states = {NEW: recording(options.seed, options.recorded)}
    states[HELD_OUT] = held_out(options.seed, options.held_out, states[NEW])
    faceset = rendered(options.work / f"data-{options.seed}-{options.recorded}", options.seed, states, options.jobs)
    rows, found = readings(faceset)
    say(f"{len(rows)} of {options.recorded} frames read after {time.perf_counter() - began:.0f} s")
    count = min(options.frames, len(rows))
    trials = {"guided": choose(found, count)}
    for k in range(options.random):
        chance = np.random.default_rng([options.seed, k]).choice(len(rows), count, replace=False)
        trials[f"random-{k}"] = np.sort(chance)
    report: dict[str, Any] = {
        "seed": options.seed, "recorded": len(rows), "frames": count, "held_out": options.held_out, "bins": len(BINS),
        "cheap": {name: cheap(chosen, rows, found, faceset) for name, chosen in trials.items()},
    }  # fmt: skip
    if options.training:
        named = ["guided", *(f"random-{k}" for k in range(options.seeds))]
        report |= {"minutes_allowed": options.minutes, "steps_allowed": options.steps, "trained": {}}
        for name in named:
            out = options.work / f"run-{options.seed}-{count}-{options.steps}-{options.minutes:g}-{name}"
            report["trained"][name] = trained(faceset, rows[trials[name]], out, options)
            say(f"{name}: {report['trained'][name]}")
    report["seconds"] = round(time.perf_counter() - began, 1)
    return report


def table(report: dict[str, Any]) -> Table:
    """Guided beside the mean and the best of the random choices."""
    rows: list[tuple[str, dict[str, dict[str, Any]], str, bool]] = [
        ("mean distance to a held-out state, steps", report["cheap"], "nearest_mean", False),
        ("the same, nine of ten are nearer", report["cheap"], "nearest_p90", False),
        ("the same, far states", report["cheap"], "nearest_far", False),
        ("bins shown", report["cheap"], "bins", True),
    ]
    if "trained" in report:
        for key, text, high in (("psnr_db", "masked PSNR, dB", True), ("nme_pct", "landmark NME, %", False)):
            rows.append((text, report["trained"], key, high))
            rows.append((f"{text}, far states", report["trained"], f"{key}_far", high))
    out = Table("measure", "guided", "random, mean", "best random")
    for text, values, key, high in rows:
        chance = [v[key] for name, v in values.items() if name != "guided"]
        best = max(chance) if high else min(chance)
        out.add_row(text, *(f"{v:.2f}" for v in (values["guided"][key], float(np.mean(chance)), best)))
    return out


def main() -> None:
    from engines.universal_bundle import shipped_universal

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--universal", type=Path, default=shipped_universal("tiny"), help="a universal run or bundle")
    parser.add_argument("--work", type=Path, default=Path("runs/bench_coverage"), help="folder for frames and runs")
    parser.add_argument("--seed", type=int, default=0, help="of the person, the recording and the held-out states")
    parser.add_argument("--recorded", type=int, default=400, help="frames of the recording")
    parser.add_argument("--held-out", type=int, default=80, help="states to score on")
    parser.add_argument("--frames", type=int, default=60, help="to choose")
    parser.add_argument("--random", type=int, default=20, help="random choices for the cheap measure")
    parser.add_argument("--seeds", type=int, default=3, help="random choices to train on")
    parser.add_argument("--minutes", type=float, default=0.6, help="of training, each")
    parser.add_argument("--steps", type=int, default=None, help="of training, each; else the mode's own")
    parser.add_argument("--training", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--jobs", type=int, default=2, help="rendering processes")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    report = run(options)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "coverage.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report)) if options.json else Console().print(table(report))


if __name__ == "__main__":
    main()
