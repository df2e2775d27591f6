"""What survives of a swap when the input is foreign: which of picture, points, camera and calibration carries it.

    python benchmarks/score_gap.py --data runs/gallery/data --run runs/gallery/tiny/universal
    python benchmarks/score_gap.py --data runs/gallery/data --run runs/gallery/tiny/universal --persona vera --json

Every gallery persona on the set's validation wearers, in validation states, against the persona's true render inside
the true mask:

- with picture and mesh points, with each alone, and with points as far off as a detector that is nearly lost;
- the same on wearers and states that were trained on: what is missing there, no wearer's strangeness explains;
- through a poor camera: noise, blur, low resolution and codec at once, against a clean one;
- with the code calibrated to the wearer (``engines.wearer``): half of a wearer's frames calibrate, the other half are
  scored, with and without.

Each is also scored with its colours corrected, that is without the mean error of each picture's channels inside the
mask: the difference is what light and skin, judged wrongly, cost.

The result goes to ``benchmarks/results/gap_TIER.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from engines.augment import NEUTRAL, to_pictures
from engines.metrics import psnr_masked_db
from engines.network import PersonaDecoder
from engines.polish import codes, decoded, scored
from engines.polish_data import QUIET, PersonaPairs, WearerFaces
from engines.run_folder import load_universal
from engines.types import F32, U8
from engines.universal_bundle import sample_wearers
from engines.universal_data import Examples
from engines.wearer import calibrate_codes

RESULTS = Path(__file__).with_name("results")
_NEUTRAL = 3
_MEASURES = {"psnr_masked_db": "swap dB", "psnr_colours_corrected_db": "colours corrected dB", "mask_iou": "mask IoU"}
POOR = replace(NEUTRAL, blur_chance=1.0, low_resolution_chance=1.0, codec_chance=1.0, noise_chance=1.0, noise=10.0)
LOST = replace(QUIET, strong_chance=1.0, jitter=0.005, shift=0.005)


@dataclass(frozen=True)
class Reference:
    """What neutral codes of training wearers are like."""

    mean: F32
    spread: F32


def views(pairs: PersonaPairs, drawn: list[tuple[int, int, int]]) -> dict[str, Examples]:
    """The same pairs as seen in different ways."""
    rng = np.random.default_rng(0)
    plain = pairs.cut(drawn, NEUTRAL, QUIET, rng)
    found = {"picture and points": plain, "poor camera": pairs.cut(drawn, POOR, QUIET, rng)}
    if plain.points is not None and plain.present is not None:
        found["picture alone"] = replace(plain, present=torch.zeros_like(plain.present))
        found["points alone"] = replace(plain, inputs=torch.full_like(plain.inputs, 0.5))
        found["poor camera, picture alone"] = replace(found["poor camera"], present=torch.zeros_like(plain.present))
        found["points far off"] = pairs.cut(drawn, NEUTRAL, LOST, rng)
    return found


def calibrated(
    code: Tensor, wearers: Tensor, neutral_first: Mapping[int, list[int]], reference: Reference
) -> tuple[Tensor, Tensor]:
    """Codes (N, C) with each wearer's calibration from every second of their frames; and which rows (N,) are the other
    half.
    """
    out, scored_rows = code.clone(), torch.zeros(len(code), dtype=torch.bool)
    for wearer, rows in neutral_first.items():
        own = [r for r in rows if int(wearers[r]) == wearer]
        learn, rest = own[::2], own[1::2]
        numbers = code.numpy()
        found = calibrate_codes(numbers[learn[:_NEUTRAL]], reference.mean, reference.spread, numbers[learn])
        out[rest] = torch.from_numpy(found.apply(numbers[rest]))
        scored_rows[rest] = True
    return out, scored_rows


def colours_corrected(results: U8, truths: U8, masks: F32) -> F32:
    """(N, T, T, 3) results on the 0..255 scale without the mean error of each picture's channels inside its mask.

    ``results`` and ``truths`` (N, T, T, 3), ``masks`` (N, T, T) 0..1; a picture whose mask is empty stays as it is.
    """
    inside = (masks > 0.5)[..., None].astype(np.float32)
    error = results.astype(np.float32) - truths
    offset = (error * inside).sum(axis=(1, 2), keepdims=True) / np.maximum(inside.sum(axis=(1, 2), keepdims=True), 1.0)
    return np.asarray(results - offset, np.float32)


def score(decoder: PersonaDecoder, code: Tensor, faces: Examples) -> dict[str, float]:
    """PSNR, the same with the colours corrected, and IoU of what a decoder makes of codes."""
    face, mask = decoded(decoder, code)
    found = scored(face, mask, faces)
    truths, masks = to_pictures(faces.truths), faces.masks[:, 0].numpy()
    corrected = psnr_masked_db(colours_corrected(to_pictures(face), truths, masks), truths, masks)
    return {
        "psnr_masked_db": found.psnr_masked_db, "psnr_colours_corrected_db": corrected, "mask_iou": found.mask_iou,
    }  # fmt: skip


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All personas, all views."""
    universal = load_universal(options.run)
    encoder, sizes = universal.encoder, universal.encoder.sizes
    sides: dict[str, Any] = {"seed": options.seed, "held_out": options.held_out}
    samples = sample_wearers(options.data, encoder, **sides)
    reference = Reference(samples.code_mean, samples.code_spread)
    ruler = WearerFaces(options.data, "unseen", sizes, **sides)
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for name in options.persona or [n for n in universal.people.names if not n.startswith("wearer-")]:
        pairs = PersonaPairs(options.data, "unseen", sizes, name, **sides)
        drawn = [(int(item), int(wearer), pairs.persona) for item, wearer in pairs.items]
        decoder = universal.trunk.fold(universal.people.vectors[universal.people.names.index(name)])
        rows[name] = {}
        for what, faces in views(pairs, drawn).items():
            code = codes(encoder, faces)
            rows[name][what] = score(decoder, code, faces)
            if what == "picture and points":
                ahead = np.argsort(
                    ruler.distance_from_neutral(ruler.cut(drawn, NEUTRAL, QUIET, np.random.default_rng(0)))
                )
                order = {int(w): [int(r) for r in ahead if int(faces.wearers[r]) == int(w)] for w in faces.wearers}
                own, half = calibrated(code, faces.wearers, order, reference)
                some = faces.each(lambda t, half=half: t[half])  # type: ignore[misc]
                rows[name]["half of the frames"] = score(decoder, code[half], some)
                rows[name]["the same, calibrated"] = score(decoder, own[half], some)
        trained = PersonaPairs(options.data, "train", sizes, name, **sides).every_own(len(pairs.items))
        rows[name]["wearers trained on"] = score(decoder, codes(encoder, trained), trained)
    means = {
        what: {key: float(np.mean([r[what][key] for r in rows.values()])) for key in _MEASURES}
        for what in next(iter(rows.values()))
    }
    return {"tier": sizes.tier, "personas": list(rows), "mean": means, "per_persona": rows}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the set that the run learned from")
    parser.add_argument("--run", type=Path, required=True, help="a universal run")
    parser.add_argument("--persona", action="append", help="all of the gallery's unless named")
    parser.add_argument("--seed", type=int, default=0, help="the run's")
    parser.add_argument("--held-out", type=float, default=0.1, help="the run's")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    result = run(options)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"gap_{result['tier']}.json").write_text(json.dumps(result, indent=1) + "\n")
    if options.json:
        print(json.dumps(result))
        return
    table = Table("what the encoder sees", *_MEASURES.values())
    for what, found in result["mean"].items():
        table.add_row(what, *(f"{found[key]:.{3 if key == 'mask_iou' else 2}f}" for key in _MEASURES))
    Console().print(table)


if __name__ == "__main__":
    main()
