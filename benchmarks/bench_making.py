"""From footage of a new person to a persona to wear: how long it takes, and how good the persona is on other people.

    python benchmarks/bench_making.py
    python benchmarks/bench_making.py --files 1 --frames 120 --minutes 1 --json

A person whom no training saw is rendered as video files: they talk to the camera, turn, smile and look aside, each file
in a light of its own. They sign a consent record of just these files with a key made here. Then what ``personacam train
persona`` does is done and timed: faces through the gates, training, report, persona file; rendering is not counted.

What counts is the swap, as in bench_enroll: other people, just as new, in states of which nobody has footage, against
the true render of the person in those states, inside the true mask.

The result goes to ``benchmarks/results/making_TIER.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
from bench_coverage import recording
from bench_enroll import NewcomerPlan, swap_score
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from rich.console import Console

from calibration.consent import WORLD, ConsentRecord, Party, as_text, sign_record
from calibration.consent_gates import Gatekeeper, digest_file
from calibration.consent_keys import public_hex
from calibration.dataset import build_dataset
from calibration.enrollment import EnrollOptions
from calibration.making import Making, MakingHooks, Step, make_persona, tier_of_universal
from calibration.making_words import in_words
from calibration.people.clip import write_video
from calibration.people.render import Renderer
from calibration.persona_export import standing_place
from engines import checkpoint
from engines.enroll import EnrollConfig
from engines.run_folder import load_universal
from engines.universal_bundle import shipped_universal
from realtime.cli_making import extraction

RESULTS = Path(__file__).with_name("results")
NAME = "newcomer"
_SIZE = (640, 480)
_FPS = 7.5


def footage(folder: Path, seed: int, files: int, frames: int, say: Console) -> list[Path]:
    """Video files of the newcomer; those that are there already stay."""
    folder.mkdir(parents=True, exist_ok=True)
    who = NewcomerPlan(seed, 2).parts()[0].who
    paths = [folder / f"{NAME}-{k}.mp4" for k in range(files)]
    for k, path in enumerate(paths):
        if path.exists():
            continue

        def pictures(number: int = k) -> Iterator[NDArray[np.uint8]]:
            with Renderer() as renderer:
                for i, state in enumerate(recording(1000 * seed + number, frames)):
                    camera = replace(
                        state.camera, width=_SIZE[0], height=_SIZE[1],
                        focal_px=state.camera.focal_px * _SIZE[1] / state.camera.height,
                    )  # fmt: skip
                    say.print(f"\rfile {number + 1} of {files}, frame {i + 1} of {frames}", end="")
                    yield renderer.render(who, replace(state, camera=camera), supersample=1.5).pixels

        part = path.with_suffix(".part.mp4")
        write_video(part, pictures(), _FPS)
        part.replace(path)
    return paths


def consented(home: Path, paths: Sequence[Path]) -> Gatekeeper:
    """The gates of a machine on which the newcomer agreed to a persona of these files."""
    gate, now, key = Gatekeeper(home), datetime.now(timezone.utc), Ed25519PrivateKey.generate()
    if gate.store.record_of(NAME) is None:
        record = ConsentRecord(
            subject=Party(name="A newcomer", key=public_hex(key)),
            enroller=Party(name="bench_making", key=public_hex(gate.store.key())),
            persona=NAME, purposes=("research",), territory=(WORLD,), valid_from=as_text(now - timedelta(minutes=1)),
            valid_until=as_text(now + timedelta(days=30)), disclosure="AI MODIFIED", revocation=(),
            footage=tuple(digest_file(path) for path in paths), statement=None, asked=as_text(now),
            nonce=secrets.token_hex(16),
        )  # fmt: skip
        gate.store.add(sign_record(record, key))
    return gate


def run(options: argparse.Namespace) -> dict[str, Any]:
    say = Console(stderr=True)
    tier = tier_of_universal(options.universal)
    work = options.work / f"{tier}-{options.seed}-{options.files}x{options.frames}"
    paths = footage(options.work / f"footage-{options.seed}-{options.frames}", options.seed, options.files,
                    options.frames, say)  # fmt: skip
    data = options.work / f"truth-{options.seed}"
    build_dataset(NewcomerPlan(options.seed, 2), data, jobs=options.jobs)
    home = work / "home"
    gate = consented(home, paths)
    making = Making(
        NAME, work / "made", standing_place(home, NAME, tier), options.universal,
        EnrollConfig(seed=options.seed, max_minutes=options.minutes, mode=options.mode),
    )  # fmt: skip
    enrolled: dict[str, Any] = {}

    def step(p: Step) -> None:
        say.print(f"\r{p.stage} {p.fraction:.0%} {p.note:60.60}", end="")

    extract = extraction(gate, paths, making, EnrollOptions(frames=options.faces), found=enrolled.update)
    made = make_persona(gate, making, extract, MakingHooks(step, say.print))
    if made.report is None:
        raise SystemExit("interrupted; the same command continues")
    learned = json.loads((made.report.parent.parent / "report.json").read_bytes())
    decoder, _ = checkpoint.load_decoder(made.report.parent.parent / "decoder")
    return {
        "tier": tier, "seed": options.seed, "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "footage": {"files": options.files, "frames": options.files * options.frames, "size": list(_SIZE)},
        "faces": enrolled, "minutes": sum(made.seconds.values()) / 60, "seconds": dict(made.seconds),
        "training": {key: learned[key] for key in ("mode", "frames", "step", "stopped", "seconds")},
        "swap": swap_score(data, load_universal(options.universal), decoder),
        "report": {key: made.figures.get(key) for key in ("own", "worn")}, "page": str(made.report),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--universal", type=Path, default=shipped_universal("tiny"), help="a universal run or bundle")
    parser.add_argument("--work", type=Path, default=Path("runs/bench_making"), help="folder of everything")
    parser.add_argument("--seed", type=int, default=0, help="of the person, the recordings and the wearers")
    parser.add_argument("--files", type=int, default=3, help="recordings, each in its own light")
    parser.add_argument("--frames", type=int, default=300, help="of each recording")
    parser.add_argument("--faces", type=int, default=300, help="to be kept of all frames")
    parser.add_argument("--minutes", type=float, default=None, help="of training; as long as it gains if left out")
    parser.add_argument("--mode", choices=("auto", "film", "lora", "full"), default="auto", help="what may change")
    parser.add_argument("--jobs", type=int, default=2, help="rendering processes")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    result = run(options)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"making_{result['tier']}.json").write_text(json.dumps(result, indent=1) + "\n")
    if options.json:
        print(json.dumps(result))
        return
    stages = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in result["seconds"].items())
    swap = result["swap"]
    Console().print(
        f"{result['minutes']:.1f} minutes ({stages}); swap {swap['psnr_masked_db']:.2f} dB, mask IoU"
        f" {swap['mask_iou']:.3f}; {in_words(result['report'])}"
    )


if __name__ == "__main__":
    main()
