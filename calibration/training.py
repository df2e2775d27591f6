"""From a plan to persona files: render, train, export, compare, package. Every step continues after an interruption."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.dataset import build_dataset
from calibration.people.identity import RENDERER_VERSION, cast
from calibration.people.portrait import portrait
from calibration.people.render import Renderer
from calibration.plan import Plan
from engines import checkpoint
from engines.errors import DataError
from engines.export import ExportedSwap, export_swap
from engines.faceset import FaceSet, read_faceset
from engines.geometry import CROP_CENTRE_DM, CROP_SIDE_DM
from engines.network import NetworkConfig
from engines.pairs import PairedSet
from engines.persona import Crop, Manifest, write_persona
from engines.train import Progress, TrainConfig, train_first

EXPORT_CROPS = 24
PLAN = "plan.json"
TITLES = {
    "vera": "Vera, an invented young woman with auburn hair and freckles",
    "kofi": "Kofi, an invented man in his sixties with brown skin and grey stubble",
}


@dataclass(frozen=True)
class Hooks:
    """Who wants to hear of progress."""

    rendering: Callable[[int, int], None] | None = None
    training: Callable[[Progress], None] | None = None
    say: Callable[[str], None] | None = None


def run_training(plan: Plan, config: TrainConfig, out: Path, *, jobs: int, hooks: Hooks) -> dict[str, Any]:
    """Everything: data in ``out/data``, the run in ``out/run``, files in ``out/personas``. Returns the report."""
    build_dataset(plan, out / "data", jobs=jobs, progress=hooks.rendering)
    (out / PLAN).write_text(json.dumps(asdict(plan), indent=1))
    faceset = read_faceset(out / "data")
    if hooks.say:
        hooks.say(f"{sum(len(f.states) for f in faceset.faces.values())} faces of {len(faceset.faces)} people")
    result = train_first(config, faceset, out / "run", hooks.training, personas=plan.personas)
    report: dict[str, Any] = {"stopped": result.stopped, "steps": result.step, "seconds": round(result.seconds, 1)}
    if result.stopped == "interrupted":
        return report
    return report | {"personas": package(plan, faceset, out)}


def export_run(out: Path) -> list[dict[str, Any]]:
    """Export and package a run that ``run_training`` made, from its latest weights. Raises DataError without one."""
    try:
        values = json.loads((out / PLAN).read_text())
        plan = Plan(**values | {"personas": tuple(values["personas"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{out} holds no training run: {error}", hint="personacam train makes one") from error
    return package(plan, read_faceset(out / "data"), out)


def package(plan: Plan, faceset: FaceSet, out: Path) -> list[dict[str, Any]]:
    """Export and write one file per persona. Raises ExportError when a graph does not agree with its network."""
    run = out / "run"
    encoder, _ = checkpoint.load_encoder(run / "encoder")
    encoder_sha256 = hashlib.sha256((run / "encoder.safetensors").read_bytes()).hexdigest()
    crops = held_out_crops(faceset, plan.personas, encoder.sizes.input_size)
    (out / "personas").mkdir(parents=True, exist_ok=True)
    rows = []
    with Renderer() as renderer:
        for name in plan.personas:
            stem = run / f"decoder-{name}"
            decoder, _ = checkpoint.load_decoder(stem)
            exported = export_swap(encoder, decoder, crops)
            facts = training_facts(plan, faceset, run, exported, name)
            path = out / "personas" / f"{name}.persona"
            write_persona(
                path,
                _manifest(name, encoder.sizes, encoder_sha256),
                swap_onnx=exported.onnx,
                decoder=half_precision(stem),
                preview=_webp(portrait(renderer, cast()[name])),
                report=facts,
            )
            rows.append({"name": name, "path": str(path), "bytes": path.stat().st_size, **facts["validation"]})
    return rows


def _manifest(name: str, sizes: NetworkConfig, encoder_sha256: str) -> Manifest:
    return Manifest(
        name=name,
        title=TITLES.get(name, f"{name}, an invented person"),
        kind="invented",
        tier=sizes.tier,
        network="bottleneck-autoencoder-1",
        encoder_sha256=encoder_sha256,
        crop=Crop(side_dm=CROP_SIDE_DM, centre_dm=CROP_CENTRE_DM),
        crop_size=sizes.input_size,
        output_size=sizes.output_size,
        code_size=sizes.code_size,
        mesh_points=sizes.mesh_points,
        code_calibration=True,
        seed=cast()[name].seed,
        created_by=f"personacam {metadata.version('personacam')}",
    )


def held_out_crops(faceset: FaceSet, personas: Sequence[str], size: int) -> NDArray[np.uint8]:
    """(24, size, size, 3) BGR: wearers of the validation split, cut as the live path would cut them."""
    pairs = PairedSet(faceset, personas, "val")
    states, wearers = zip(*pairs.every(EXPORT_CROPS), strict=True)
    stored = pairs.gather(states, wearers).inputs
    inner = round(faceset.info.size / faceset.info.margin)
    edge = (faceset.info.size - inner) // 2
    cut = [c[edge : edge + inner, edge : edge + inner] for c in stored]
    while len(cut) < EXPORT_CROPS:  # tiny sets have few faces; the comparison wants enough of them
        cut += cut[: EXPORT_CROPS - len(cut)]
    return np.stack([np.asarray(cv2.resize(c, (size, size), interpolation=cv2.INTER_AREA), np.uint8) for c in cut])


def training_facts(plan: Plan, faceset: FaceSet, run: Path, exported: ExportedSwap, name: str) -> dict[str, Any]:
    """The persona's report.json: how it came to be and how good it is, on wearers and states never trained."""
    try:
        result = json.loads((run / "report.json").read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"the run {run} is not finished: {error}", hint="run personacam train to its end") from error
    return {
        "validation": result["scores"][name],
        "validation_note": "held-out wearers in held-out states, against the persona's true render, inside its mask",
        "plan": asdict(plan),
        "renderer_version": RENDERER_VERSION,
        "training": json.loads((run / "config.json").read_text()),
        "data_sha256": faceset.digest,
        "steps": result["step"],
        "seconds": round(result["seconds"], 1),
        "loss": result["loss"],
        "export": {
            "opset": exported.opset,
            "float32": asdict(exported.f32),
            "weights": exported.weights,
            "shipped": asdict(exported.shipped),
        },
        "machine": {"python": platform.python_version(), "processor": platform.machine()},
    }


def half_precision(stem: Path) -> bytes:
    """A decoder's weights as float16 safetensors, the start of further training."""
    from safetensors.torch import save

    return bytes(
        save({name: tensor.half().contiguous() for name, tensor in checkpoint.load(stem, "decoder").tensors.items()})
    )


def _webp(pixels: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, 88])[1])
