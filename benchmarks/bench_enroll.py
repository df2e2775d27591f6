"""How soon a new person's persona is good: enrollment against the same enrollment with far more time.

    python benchmarks/bench_enroll.py
    python benchmarks/bench_enroll.py --universal runs/gallery/tiny/universal --reference-minutes 120 --json

A person whom the universal stage never saw is rendered once as their own footage (hair, lights, what they wear), which
is enrolled: all frames and eight of them, each with its time limit, and all frames with the reference's. What counts is
the swap: other people, just as new, in states of which no training had a frame, against the true render of the person
in those states, inside the true mask. The footage is the enrollment's only data.

The result goes to ``benchmarks/results/enroll_TIER.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from calibration.dataset import build_dataset
from calibration.people.footage import CropOptions, extra_columns
from calibration.people.identity import RENDERER_VERSION, random_identity
from calibration.plan import Part
from engines import checkpoint
from engines.adapt import mode_for
from engines.enroll import EnrollConfig, enroll, plan_for
from engines.faceset import FaceSet, FaceSetInfo, read_faceset
from engines.network import PersonaDecoder
from engines.polish import codes, decoded, scored
from engines.polish_data import PersonaPairs
from engines.run_folder import Universal, load_universal
from engines.universal_bundle import shipped_universal

RESULTS = Path(__file__).with_name("results")
NEW, TRUTH = "newcomer", "newcomer-truth"
EXTRAS = ("mesh", "expression", "gaze", "light", "props")
_SEEDS = 1 << 59
_SIZE = 240
_WEARERS, _STATES, _EACH = 6, 48, 24


@dataclass(frozen=True)
class NewcomerPlan:
    """A person's footage, and who wears them in which states afterwards."""

    seed: int
    frames: int

    def parts(self) -> Sequence[Part]:
        """The footage, the truth, and the wearers."""
        base = _SEEDS + self.seed * 10_000
        who = random_identity(base)
        held_out = base + 5_000 + np.arange(_STATES)
        rng = np.random.default_rng([self.seed, 109])
        wearers = [
            Part(f"unseen-{i}", "wearer", "val", random_identity(base + 1 + i),
                 np.sort(rng.choice(held_out, _EACH, replace=False)))
            for i in range(_WEARERS)
        ]  # fmt: skip
        footage = Part(NEW, "wearer", "train", who, base + np.arange(self.frames))
        # Nobody else is seen in training's states, but a set of pairs wants somebody.
        other = Part("bystander", "wearer", "train", random_identity(base + 9_999), base + np.arange(2))
        return [
            footage,
            other,
            Part(TRUTH, "persona", "train", who, np.concatenate([base + np.arange(2), held_out])),
            *wearers,
        ]

    def info(self) -> FaceSetInfo:
        """The set's description."""
        return FaceSetInfo(
            origin=f"people-renderer {RENDERER_VERSION}; newcomer", consent=f"invented:{self.seed}",
            seeds=asdict(self), size=_SIZE, extras=EXTRAS,
            columns={name: columns for name, columns in extra_columns().items() if name in EXTRAS},
        )  # fmt: skip

    def options(self) -> CropOptions:
        """Clean pictures: enrollment disturbs them itself."""
        return CropOptions(_SIZE, clean=True, extras=EXTRAS)


def some_frames(faceset: FaceSet, count: int) -> FaceSet:
    """The newcomer with so many frames, evenly chosen."""
    faces = faceset.faces[NEW]
    rows = np.linspace(0, len(faces.states) - 1, min(count, len(faces.states))).astype(int)
    fewer = replace(
        faces, states=faces.states[rows], crops=faces.crops[rows], masks=faces.masks[rows],
        landmarks=faces.landmarks[rows], pose=faces.pose[rows],
        extras={name: values[rows] for name, values in faces.extras.items()},
    )  # fmt: skip
    return replace(faceset, faces={NEW: fewer})


def swap_score(data: Path, universal: Universal, decoder: PersonaDecoder) -> dict[str, float]:
    """Of the newcomer's decoder on everybody else."""
    pairs = PersonaPairs(data, "unseen", universal.encoder.sizes, TRUTH, seed=0, held_out=0.1).every_own(1000)
    return asdict(scored(*decoded(decoder, codes(universal.encoder, pairs)), pairs))


def run(options: argparse.Namespace) -> dict[str, Any]:
    universal = load_universal(options.universal)
    data = options.work / f"data-{options.seed}-{options.frames}"
    say = Console(stderr=True)
    plan = NewcomerPlan(options.seed, options.frames)
    build_dataset(plan, data, jobs=options.jobs, progress=lambda a, b: say.print(f"\rframe {a} of {b}", end=""))
    everything = read_faceset(data, identities=[NEW], extras=("mesh",) if universal.encoder.sizes.mesh_points else ())
    trials = [("all", options.frames, options.minutes), ("eight", 8, options.minutes_of_eight)]
    if options.reference_minutes:
        trials.append(("reference", options.frames, options.reference_minutes))
    rows = []
    for name, frames, minutes in trials:
        config = EnrollConfig(seed=options.seed, max_minutes=minutes)
        if name == "reference":  # the same schedule, stretched, and no end before it
            config = replace(config, steps=1_000_000, patience=1_000_000)
        say.print(f"\n{name}: {frames} frames, {minutes} minutes at most, {mode_for(frames)}")
        result = enroll(
            config, some_frames(everything, frames), NEW, universal.encoder, universal.trunk,
            universal.people.vectors, options.work / f"{universal.encoder.sizes.tier}-{name}-{options.seed}",
            lambda p: say.print(f"\rstep {p.step}, {p.images_per_s:.0f} faces/s, loss {p.loss['total']:.2f}", end=""),
        )  # fmt: skip
        decoder, _ = checkpoint.load_decoder(result.decoder)
        rows.append(
            {"trial": name, "frames": result.frames, "mode": result.mode, "minutes_allowed": minutes,
             "minutes": result.seconds / 60, "steps": result.step, "stopped": result.stopped,
             "steps_planned": plan_for(config, frames).steps,
             "swap": swap_score(data, universal, decoder), "own_held_out_psnr_db": result.score.psnr_masked_db}
        )  # fmt: skip
    best = max(row["swap"]["psnr_masked_db"] for row in rows)
    for row in rows:
        row["below_best_db"] = best - row["swap"]["psnr_masked_db"]
    return {
        "tier": universal.encoder.sizes.tier, "seed": options.seed, "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(), "trials": rows,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--universal", type=Path, default=shipped_universal("tiny"), help="a universal run or bundle")
    parser.add_argument("--work", type=Path, default=Path("runs/bench_enroll"), help="folder for frames and runs")
    parser.add_argument("--seed", type=int, default=0, help="of the person, the wearers and all states")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all frames")
    parser.add_argument("--minutes-of-eight", type=float, default=2.0)
    parser.add_argument("--reference-minutes", type=float, default=120.0, help="0 leaves the reference out")
    parser.add_argument("--jobs", type=int, default=2, help="rendering processes")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    result = run(options)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"enroll_{result['tier']}.json").write_text(json.dumps(result, indent=1) + "\n")
    if options.json:
        print(json.dumps(result))
        return
    table = Table("trial", "frames", "mode", "minutes", "swap dB", "below the best", "mask IoU")
    for row in result["trials"]:
        table.add_row(
            row["trial"], str(row["frames"]), row["mode"], f"{row['minutes']:.1f}",
            f"{row['swap']['psnr_masked_db']:.2f}", f"{row['below_best_db']:.2f}", f"{row['swap']['mask_iou']:.3f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
