"""What calibration to wearer and light is worth: biased wearers who follow the guide, then everyday frames.

    python benchmarks/bench_calibrate.py
    python benchmarks/bench_calibrate.py --wearers 2 --frames 8 --out /tmp/short.json --json

Wearer: invented people whose face at rest already smiles, frowns, gapes ... (REST) follow the guide of
``calibration.calibrate_wearer``; they are in no other set, nor are the people of the shipped reference. On everyday
frames that the calibration never saw, in the same room, the result's expression is compared, through the shipped
runtime and a gallery persona: 23 points of brows, lids and lips that Face Mesh finds in the result, after a similarity
on points that no expression moves, in % of the inter-ocular distance,

- with the result of the same wearer without the bias in the same states, uncalibrated: what the bias alone does;
- with the persona's true render in the state that was intended: everything together, network included.

The same people without a bias are calibrated too: what is not wrong must not get worse.

Colour: a talking wearer with a hand before the face now and then; how far the match moves from frame to frame, and how
near the result is to the true render, without a match, matched per frame, and with the colours of a profile.

The result goes to ``benchmarks/results/calibrate.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from calibration.calibrate_colour import Colours, learn_light, linear_mean
from calibration.calibrate_wearer import LEAST, calibrate, guided, shipped_reference
from calibration.consent_gates import shown_only
from calibration.gallery import gallery
from calibration.guided_people import SeenFace, biased, everyday, moments, shoot
from calibration.guided_reference import code_of
from calibration.people.footage import CropOptions, shoot_crops
from calibration.people.identity import Identity, random_identity
from calibration.people.motion import motion
from calibration.people.render import Renderer
from calibration.people.state import State, random_state
from calibration.report_people import TRUTH_MARGIN, TrueFrame, middle
from engines.facemesh import FaceMesh, load_facemesh, look
from engines.geometry import fit_similarity, transform
from engines.metrics import psnr_masked_db
from engines.persona import Persona, read_persona
from engines.runtimes import Runtime, open_runtime
from engines.types import F64, U8, AlignedFace, Swap
from engines.wearer import WearerCalibration
from realtime.blend import BlendConfig, Blender
from realtime.light_blend import LightBlender
from realtime.session import persona_store
from realtime.swap import Swapper

RESULTS = Path(__file__).with_name("results")
_SEEDS = 1 << 57
STILL = [33, 133, 263, 362, 168, 6, 197, 195, 5, 4, 1, 98, 327, 10, 234, 454]
"""Corners of the eyes, nose, forehead, ears."""
PARTS = {
    "brows": [70, 63, 105, 66, 107, 300, 293, 334, 296, 336],
    "lids": [159, 145, 158, 153, 386, 374, 385, 380],
    "lips": [61, 291, 0, 17, 13, 14, 78, 308, 81, 311, 178, 402, 37, 267, 84, 314],
}
MOVING = [point for part in PARTS.values() for point in part]


def _both(**units: float) -> dict[str, float]:
    return {f"{name}{side}": value for name, value in units.items() for side in ("Left", "Right")}


REST = {
    "smiles, gapes": _both(mouthSmile=0.5, cheekSquint=0.3) | {"jawOpen": 0.35},
    "grins, brows up": _both(mouthSmile=0.85, cheekSquint=0.5, browOuterUp=0.6) | {"browInnerUp": 0.6},
    "frowns": _both(mouthFrown=0.9, mouthLowerDown=0.5, browDown=0.9) | {"jawOpen": 0.15},
    "gapes, lids low": _both(browOuterUp=0.6, eyeBlink=0.3) | {"jawOpen": 0.45, "browInnerUp": 0.9},
    "brows down": _both(browDown=0.8, eyeSquint=0.4, mouthPress=0.5),
    "half a smile": _both(mouthSmile=0.5, cheekSquint=0.2, eyeBlink=0.25),
}
"""Of wearers, in turn; the weights of ARKit's units that their face shows at rest."""


@dataclass(frozen=True)
class Bench:
    """What all parts use."""

    renderer: Renderer
    facemesh: FaceMesh
    persona: Persona
    runtime: Runtime

    def truths(self, states: Sequence[State]) -> list[TrueFrame]:
        """The persona itself in every state."""
        size = self.persona.manifest.output_size
        options = CropOptions(round(size * TRUTH_MARGIN), TRUTH_MARGIN)
        who = gallery()[self.persona.manifest.name].who
        shots = shoot_crops(self.renderer, who, states, as_persona=True, options=options)
        return [TrueFrame(s.pixels, middle(s.mask, size), s.landmarks) for s in shots]

    def swaps(self, faces: Sequence[SeenFace], calibration: WearerCalibration | None) -> list[Swap]:
        """Copies."""
        swapper = Swapper(self.persona, self.runtime)
        swapper.calibrate(calibration)
        found = []
        for i, face in enumerate(faces):
            swap = swapper.swap(AlignedFace(i, face.crop, np.array([[1.0, 0, 0], [0, 1.0, 0]]), points=face.points))
            found.append(replace(swap, pixels=swap.pixels.copy(), mask=swap.mask.copy()))
        return found

    def mesh(self, picture: U8, truth: TrueFrame) -> F64 | None:
        """(468, 2) of a face inside the true head, where Face Mesh looks for one."""
        head = truth.head.copy()
        size = len(picture)
        start = (len(head) - size) // 2
        inside = truth.mask[..., None] > 127
        part = head[start : start + size, start : start + size]
        part[:] = np.where(inside, picture, part)
        large = np.asarray(cv2.resize(head, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC), np.uint8)
        found = look(self.facemesh, large, truth.landmarks * 2 + 0.5)
        return None if found is None else found[:, :2]


def expression_error(found: F64 | None, wanted: F64 | None) -> float:
    """Mean distance of MOVING points in % of the inter-ocular distance; NaN where a mesh is missing."""
    if found is None or wanted is None:
        return float("nan")
    placed = transform(fit_similarity(found[STILL], wanted[STILL]), found)
    distance = np.linalg.norm(placed[MOVING] - wanted[MOVING], axis=1).mean()
    return float(100 * distance / np.linalg.norm(wanted[33] - wanted[263]))


def wearer_row(bench: Bench, seed: int, number: int, frames: int) -> dict[str, Any]:
    """One person with their bias, and the same without."""
    base = _SEEDS + seed * 1_000_000 + number * 1_000
    who, session = random_identity(base), random_state(base + 1, props=False)
    kind = list(REST)[number % len(REST)]
    rng = np.random.default_rng([seed, number, 111])
    asked = {name: moments(name, session, least, rng) for name, least in LEAST.items()}
    states = everyday(session, range(base + 10, base + 10 + frames))
    truths = bench.truths(states)
    wanted = [bench.mesh(truth.crop, truth) for truth in truths]
    size = bench.persona.manifest.crop_size
    reference = shipped_reference(bench.persona.manifest.encoder_sha256)
    row: dict[str, Any] = {"seed": seed, "wearer": number, "rest": kind}
    plain: list[F64 | None] = []
    for name, rest in (("unbiased", {}), ("biased", REST[kind])):
        codes = {
            prompt: [code_of(bench.persona, bench.runtime, face) for face in _shot(bench, who, some, rest, size)]
            for prompt, some in asked.items()
        }
        found = calibrate(guided(codes), reference)
        faces = _shot(bench, who, states, rest, size)
        for label, calibration in ((name, None), (f"{name}, calibrated", found.calibration)):
            swaps = bench.swaps(faces, calibration)
            meshes = [bench.mesh(s.pixels, t) for s, t in zip(swaps, truths, strict=True)]
            plain = meshes if label == "unbiased" else plain
            row[label] = {
                "of_bias": _mean(expression_error(a, b) for a, b in zip(meshes, plain, strict=True)),
                "of_all": _mean(expression_error(a, b) for a, b in zip(meshes, wanted, strict=True)),
                "psnr_db": _psnr(swaps, truths),
            }
        row[name]["found_rest"], row[name]["found_range"] = dict(found.rest), dict(found.range)
    return row


def _shot(bench: Bench, who: Identity, states: Sequence[State], rest: dict[str, float], size: int) -> list[SeenFace]:
    return shoot(bench.renderer, bench.facemesh, who, [biased(state, rest) for state in states], size)


def _mean(values: Any) -> float:
    found = np.array(list(values), np.float64)
    return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")


def _psnr(swaps: Sequence[Swap], truths: Sequence[TrueFrame]) -> float:
    pictures, masks = np.stack([s.pixels for s in swaps]), np.stack([t.mask / 255 for t in truths])
    return psnr_masked_db(pictures, np.stack([t.crop for t in truths]), masks)


def colour_row(bench: Bench, seed: int, number: int, frames: int) -> dict[str, Any]:
    """One talking wearer in one light: three ways to match."""
    base = _SEEDS + (1 << 40) + seed * 1_000_000 + number * 1_000
    who, session = random_identity(base), random_state(base + 1, props=False)
    size = bench.persona.manifest.crop_size
    learning = [s for name in LEAST for s in moments(name, session, 8, np.random.default_rng([seed, number, 112]))]
    faces = shoot(bench.renderer, bench.facemesh, who, learning, size)
    swaps = bench.swaps(faces, None)
    colours = [
        Colours(linear_mean(s.face.pixels, s.mask > 127), linear_mean(s.pixels, s.mask > 127))
        for s in swaps
        if (s.mask > 127).any()
    ]
    light = learn_light(colours, name="usual", persona=bench.persona.manifest.name)
    talk = [
        replace(m, light=session.light, room=session.room, sensor=session.sensor, camera=session.camera)
        for m in motion(base + 2, frames, 30.0, hand=True)
    ]
    shown = bench.swaps(shoot(bench.renderer, bench.facemesh, who, talk, size), None)
    truths = bench.truths(talk)
    config, side = BlendConfig(), bench.persona.manifest.output_size
    ways = {
        "none": Blender(replace(config, colour_strength=0.0), side),
        "per frame": Blender(config, side),
        "per frame, not smoothed": Blender(replace(config, colour_time_constant_s=0.0), side),
        "profile": LightBlender(config, side, lights=[light]),
    }
    row: dict[str, Any] = {"seed": seed, "wearer": number, "gain": light.gain}
    for name, blender in ways.items():
        levels, pictures = [], []
        for swap in shown:
            gain, offset = blender.match_colour(swap, blender.soften(swap.mask), 1 / 30)
            levels.append(gain * 128.0 + offset)
            pictures.append(np.clip(swap.pixels * gain + offset, 0, 255).astype(np.uint8))
        steps = np.abs(np.diff(np.array(levels), axis=0)).mean(axis=1)
        whole = [replace(s, pixels=p) for s, p in zip(shown, pictures, strict=True)]
        row[name] = {
            "step_levels": float(steps.mean()), "drift_levels": float(np.std(levels, axis=0).mean()),
            "psnr_db": _psnr(whole, truths),
        }  # fmt: skip
    return row


def run(options: argparse.Namespace, say: Console) -> dict[str, Any]:
    persona = read_persona(persona_store().find(options.persona), admit=shown_only)
    rows: dict[str, list[dict[str, Any]]] = {"wearers": [], "colours": []}
    with Renderer() as renderer:
        bench = Bench(renderer, load_facemesh(), persona, open_runtime(persona.swap_onnx))
        for seed in options.seeds:
            for number in range(options.wearers):
                rows["wearers"].append(wearer_row(bench, seed, number, options.frames))
                say.print(f"seed {seed}, wearer {number}: {_told(rows['wearers'][-1])}")
            for number in range(options.lights):
                rows["colours"].append(colour_row(bench, seed, number, 2 * options.frames))
                say.print(f"seed {seed}, light {number}")
    return {"persona": options.persona, "frames": options.frames, **rows, **summary(rows)}


def _told(row: dict[str, Any]) -> str:
    a, b = row["biased"], row["biased, calibrated"]
    return (
        f"{row['rest']}: {a['of_bias']:.2f} -> {b['of_bias']:.2f} of the bias, {a['of_all']:.2f} -> {b['of_all']:.2f}"
    )


def summary(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Means over all people."""
    out: dict[str, Any] = {}
    wearers, colours = rows["wearers"], rows["colours"]
    if wearers:
        labels = ("unbiased", "unbiased, calibrated", "biased", "biased, calibrated")
        out["wearer"] = {
            label: {key: _mean(row[label][key] for row in wearers) for key in ("of_bias", "of_all", "psnr_db")}
            for label in labels
        }
        before, after = out["wearer"]["biased"], out["wearer"]["biased, calibrated"]
        floor = out["wearer"]["unbiased"]["of_all"]
        out["bias_error_falls_pct"] = 100 * (1 - after["of_bias"] / before["of_bias"])
        out["whole_error_falls_pct"] = 100 * (1 - after["of_all"] / before["of_all"])
        out["excess_over_unbiased_falls_pct"] = 100 * (1 - (after["of_all"] - floor) / (before["of_all"] - floor))
    if colours:
        ways = [key for key in colours[0] if isinstance(colours[0][key], dict)]
        out["colour"] = {way: {key: _mean(r[way][key] for r in colours) for key in colours[0][way]} for way in ways}
    return out


def show(report: dict[str, Any], say: Console) -> None:
    for title in ("wearer", "colour"):
        if title in report:
            keys = list(next(iter(report[title].values())))
            table = Table(title, *keys)
            for label, row in report[title].items():
                table.add_row(label, *(f"{row[key]:.3f}" for key in keys))
            say.print(table)
    for key in ("bias_error_falls_pct", "whole_error_falls_pct", "excess_over_unbiased_falls_pct"):
        if key in report:
            say.print(f"{key}: {report[key]:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persona", default="noor")
    parser.add_argument("--wearers", type=int, default=6, help="of each seed")
    parser.add_argument("--lights", type=int, default=3, help="of each seed, for the colours")
    parser.add_argument("--frames", type=int, default=20, help="everyday frames of each wearer")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--out", type=Path, default=RESULTS / "calibrate.json")
    parser.add_argument("--json", action="store_true", help="print the result as the last line")
    options = parser.parse_args()
    say = Console(stderr=True)
    report = run(options, say)
    show(report, say)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    if options.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
