"""The recipe of the shipped gallery: render, train the universal stage, polish every persona, package.

    report = train_gallery(recipe("tiny", seed=0, minutes=90, polish_minutes=3), Path("runs/gallery"), jobs=2)

    OUT/data                         the face set of a GalleryPlan, for all tiers
    OUT/TIER/first                   the universal stage's first stretch, at full disturbance
    OUT/TIER/universal               its last, mild one: encoder, trunk and people
    OUT/TIER/polish-TRUNK/NAME       the decoder of one persona, tuned; TRUNK is the trunk's sha256, shortened
    OUT/TIER/personas/NAME.persona   what ships
    OUT/TIER/universal-TIER          what ships of the universal stage, for personas that are invented later

Every step continues after an interruption, and what is finished is not done again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from calibration.dataset import build_dataset
from calibration.gallery import gallery
from calibration.gallery_files import export_facts, half_precision, machine_facts, manifest_of, webp
from calibration.people.identity import RENDERER_VERSION
from calibration.people.portrait import portrait
from calibration.people.render import Renderer
from calibration.people.truth import expression_columns, light_columns
from calibration.plan import GalleryPlan
from engines import checkpoint
from engines.augment import MILD
from engines.errors import DataError
from engines.export import export_swap
from engines.faceset import FaceSetInfo, read_index
from engines.loop import write_json
from engines.mesh_subset import MESH_SUBSET
from engines.network import PersonaDecoder, Tier, config, with_state
from engines.persona import write_persona
from engines.polish import PolishConfig, codes, decoded, polish, scored
from engines.polish_data import PersonaPairs
from engines.run_folder import Universal, load_universal
from engines.sharpen import sharpen
from engines.train import Progress
from engines.universal import UniversalConfig, mildly, on_top, train_universal
from engines.universal_bundle import sample_wearers, save_bundle
from engines.universal_data import MILD_POINTS
from engines.universal_networks import persona_decoder

STATE = 3 + len(expression_columns()) + 2 + len(light_columns())
"""Numbers of a state in this gallery's sets: pose, expression, gaze, light."""
_SCORED = 1000
"""At most so many held-out pairs of a persona are scored; a gallery has a few hundred."""
_SHARPENED = 96
"""Training pairs that a head is solved on."""
_SHORT_SHA = 8
_BY_TIME = 1_000_000
"""Steps of a schedule that time ends."""
MINUTES: Mapping[Tier, tuple[float, float]] = {"tiny": (150, 3), "small": (600, 8), "base": (2400, 20)}
"""Of the universal stage, and of each persona's polish."""
_FIRST = 0.6
"""Share of the universal stage's time with crops that are disturbed at full strength."""
_IRRELEVANT = {"checkpoint_minutes", "report_seconds", "threads", "cache_gib", "ahead", "device"}
"""Settings that change nothing about what a finished run has learned."""


@dataclass(frozen=True)
class GalleryRecipe:
    """Everything that decides the shipped weights of one tier."""

    tier: str
    plan: GalleryPlan
    universal: UniversalConfig
    """The last stretch of the universal stage, and what ships; all of it where there is no ``first``."""
    polish: PolishConfig
    first: UniversalConfig | None = None
    """What goes before, with larger disturbances of the crops."""


@dataclass(frozen=True)
class GalleryHooks:
    """Who wants to hear of progress."""

    rendering: Callable[[int, int], None] | None = None
    training: Callable[[str, Progress], None] | None = None
    """With the step's name: "first stretch", "universal", or a persona's."""
    say: Callable[[str], None] | None = None


def recipe(
    tier: Tier, *, seed: int = 0, minutes: float | None = None, polish_minutes: float | None = None,
    plan: GalleryPlan | None = None, device: str = "cpu", frozen_encoder: bool = False,
) -> GalleryRecipe:  # fmt: skip
    """The recipe of a tier; ``minutes`` and ``polish_minutes`` (each persona's) change the schedules' lengths.

    With ``frozen_encoder`` all of the universal stage's time is the trunk's, on the encoder of the run that
    ``train_gallery`` starts from.
    """
    on_gpu = device.startswith("cuda")
    usual_minutes, own_minutes = MINUTES[tier]
    universal_minutes = minutes or usual_minutes
    first = UniversalConfig(
        network=with_state(config(tier), mesh_points=len(MESH_SUBSET), state_size=STATE), seed=seed, steps=_BY_TIME,
        max_minutes=_FIRST * universal_minutes, batch=64 if on_gpu else 16, warmup_steps=300, self_fraction=0.1,
        checkpoint_minutes=5.0, device="cuda" if on_gpu else "cpu",
    )  # fmt: skip
    last = on_top(first) if frozen_encoder else mildly(first)
    return GalleryRecipe(
        tier,
        plan or GalleryPlan(seed=seed),
        replace(last, max_minutes=universal_minutes if frozen_encoder else (1 - _FIRST) * universal_minutes),
        PolishConfig(
            seed=seed, steps=_BY_TIME, max_minutes=polish_minutes or own_minutes, batch=32 if on_gpu else 16,
            augment=MILD, points=MILD_POINTS, device=device,
        ),
        None if frozen_encoder else first,
    )  # fmt: skip


def train_gallery(
    what: GalleryRecipe, out: Path, *, jobs: int, hooks: GalleryHooks = GalleryHooks(), decoders: bool = False,
    keep_universal: bool = False, start_from: Path | None = None, sharpen_loss_db: float = 0.0,
) -> dict[str, Any]:  # fmt: skip
    """All steps, or what is missing of them; ``decoders`` ship inside the files for further training.

    Where ``sharpen_loss_db`` is above 0, what ships is sharpened for at most so much masked PSNR (see ``sharpen``).

    A run in ``start_from`` takes the place of the recipe's first stretch. ``keep_universal`` takes data and universal
    run as they are, however they were made.

    Returns a report; "stopped" is "interrupted" when Ctrl-C ended a training, and then nothing is packaged. Raises
    what the steps raise.
    """
    data, run = out / "data", out / what.tier / "universal"
    if not keep_universal:
        build_dataset(what.plan, data, jobs=jobs, progress=hooks.rendering)
    if not keep_universal and not _finished(run, what.universal):
        if what.first is not None and start_from is None:
            start_from = out / what.tier / "first"
            if not _finished(start_from, what.first):
                begun = train_universal(what.first, data, start_from, _named(hooks, "first stretch"))
                if begun.stopped == "interrupted":
                    return {"stopped": "interrupted", "tier": what.tier, "at": "first stretch"}
        result = train_universal(what.universal, data, run, _named(hooks, "universal"), start_from=start_from)
        if result.stopped == "interrupted":
            return {"stopped": "interrupted", "tier": what.tier, "at": "universal"}
    universal = load_universal(run)
    folder = _polish_folder(out, what.tier, universal)
    for name in _personas(what.plan):
        if not _finished(folder / name, what.polish):
            polished = polish(what.polish, data, name, universal, folder / name, _named(hooks, name))
            _say(hooks, f"{name}: {polished.start.psnr_masked_db:.2f} -> {polished.score.psnr_masked_db:.2f} dB")
            if polished.stopped == "interrupted":
                return {"stopped": "interrupted", "tier": what.tier, "at": name}
    return package_gallery(out, what.tier, hooks=hooks, decoders=decoders, sharpen_loss_db=sharpen_loss_db)


def package_gallery(
    out: Path, tier: str, *, hooks: GalleryHooks = GalleryHooks(), decoders: bool = False, sharpen_loss_db: float = 0.0
) -> dict[str, Any]:
    """Export and write the files of what a finished or interrupted run has; who was not polished ships as folded.

    Raises DataError when there is no universal run or no gallery set, ExportError when a graph does not agree with its
    network.
    """
    data, run = out / "data", out / tier / "universal"
    index = read_index(data)
    plan = plan_of(index.info)
    universal = load_universal(run)
    settings = _json(run / "config.json")
    sides: dict[str, Any] = {"seed": int(settings["seed"]), "held_out": float(settings["held_out"])}
    samples = sample_wearers(data, universal.encoder, **sides)
    encoder_sha256 = str(universal.people.meta["encoder_sha256"])
    polished = _polish_folder(out, tier, universal)
    shared: dict[str, Any] = {
        "command": _command(out, tier, plan, settings, polished)
        + (f" --sharpen-loss {sharpen_loss_db:g}" if sharpen_loss_db else ""),
        "plan": asdict(plan),
        "data_sha256": index.digest,
        "renderer_version": RENDERER_VERSION,
        "universal": _run_facts(run, settings),
        "machine": machine_facts(),
    }
    bundle = out / tier / f"universal-{tier}"
    save_bundle(bundle, universal, samples, {k: shared[k] for k in ("command", "data_sha256", "renderer_version")})
    files = out / tier / "personas"
    files.mkdir(parents=True, exist_ok=True)
    rows = []
    with Renderer() as renderer:
        for name in (n for n in _personas(plan) if n in universal.people.names):
            who = gallery()[name]
            decoder, tuned = _decoder(polished / name, name, universal)
            sharpened = None
            if sharpen_loss_db:
                decoder, sharpened = _sharper(data, name, universal, decoder, sides, sharpen_loss_db)
            exported = export_swap(universal.encoder, decoder, samples.crops, samples.points)
            facts = {
                "validation": _validation(data, name, universal, decoder, sides),
                "validation_note": "unseen wearers in unseen states against the persona's true render, inside its mask;"
                " the best polished weights were chosen on some of these pairs",
                **shared, "polish": tuned, "sharpened": sharpened, "export": export_facts(exported),
            }  # fmt: skip
            path = files / f"{name}.persona"
            write_persona(
                path,
                manifest_of(name, who.title, who.who.seed, universal.encoder.sizes, encoder_sha256, samples),
                swap_onnx=exported.onnx,
                decoder=half_precision(decoder) if decoders else None,
                preview=webp(portrait(renderer, who.who, style=who.style)),
                report=facts,
            )
            rows.append(
                {"name": name, "path": str(path), "bytes": path.stat().st_size, "polished": tuned is not None,
                 **facts["validation"]["swap"]}
            )  # fmt: skip
            _say(hooks, f"{path}: {path.stat().st_size / 1e6:.2f} MB, {rows[-1]['psnr_masked_db']:.2f} dB in the mask")
    report = {"stopped": "finished", "tier": tier, "universal": str(bundle), "personas": rows}
    write_json(out / tier / "report.json", report | {"shared": shared})
    return report


def plan_of(info: FaceSetInfo) -> GalleryPlan:
    """The plan that a gallery set was rendered from. Raises DataError for a set of another kind."""
    marker = "; gallery "
    try:
        if marker not in info.origin:
            raise ValueError(f"its origin is {info.origin!r}")
        names = tuple(info.origin.split(marker)[1].split())
        personas = () if names == tuple(gallery()) else names
        plan = GalleryPlan(personas=personas, size=info.size, **{k: int(v) for k, v in info.seeds.items()})
    except (TypeError, ValueError) as error:
        raise DataError(f"this is no gallery's face set: {error}", hint="personacam train gallery makes one") from error
    return plan


def _personas(plan: GalleryPlan) -> tuple[str, ...]:
    return plan.personas or tuple(gallery())


def _named(hooks: GalleryHooks, name: str) -> Callable[[Progress], None] | None:
    training = hooks.training
    return None if training is None else lambda progress: training(name, progress)


def _say(hooks: GalleryHooks, text: str) -> None:
    if hooks.say:
        hooks.say(text)


def _finished(run: Path, wanted: UniversalConfig | PolishConfig) -> bool:
    """Whether the folder holds a run that ended by itself, with these settings."""
    try:
        done = json.loads((run / "report.json").read_bytes())["stopped"] == "finished"
        settings = json.loads((run / "config.json").read_bytes())
        asked = json.loads(json.dumps(asdict(wanted)))
        return bool(done and all(settings[key] == asked[key] for key in asked.keys() - _IRRELEVANT))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _polish_folder(out: Path, tier: str, universal: Universal) -> Path:
    """Polished decoders fit one trunk: those of a universal run that went on are others."""
    sha256 = str(universal.people.meta["trunk_sha256"])
    return out / tier / f"polish-{sha256[:_SHORT_SHA]}"


def _decoder(folder: Path, name: str, universal: Universal) -> tuple[PersonaDecoder, dict[str, Any] | None]:
    """The polished decoder with how it came to be, or the fold of the persona's vector and None."""
    if not (folder / "decoder.json").exists():
        vector = universal.people.vectors[universal.people.names.index(name)]
        return persona_decoder(universal.trunk, vector), None
    decoder, meta = checkpoint.load_decoder(folder / "decoder")
    if (meta.get("persona"), meta.get("encoder_sha256")) != (name, universal.people.meta.get("encoder_sha256")):
        raise DataError(f"{folder} was polished for another run", hint="delete the folder and polish again")
    facts = {"config": _json(folder / "config.json"), "best_step": meta["step"], "check": meta["check"]}
    if (folder / "report.json").exists():
        result = _json(folder / "report.json")
        facts |= {key: result[key] for key in ("stopped", "step", "seconds", "start")}
    return decoder, facts


def _sharper(
    data: Path, name: str, universal: Universal, decoder: PersonaDecoder, sides: dict[str, Any], most_loss_db: float
) -> tuple[PersonaDecoder, dict[str, Any]]:
    """The decoder with its head solved for sharpness on training pairs, and what that did there."""
    faces = PersonaPairs(data, "train", universal.encoder.sizes, name, **sides).every_own(_SHARPENED)
    code = codes(universal.encoder, faces)
    found = sharpen(decoder, code, faces.truths, faces.masks, most_loss_db=most_loss_db)
    facts = {"strength": found.strength, "gains": found.gains, "most_loss_db": most_loss_db}
    return found.decoder, {**facts, "before": asdict(found.before), "after": asdict(found.after)}


def _validation(
    data: Path, name: str, universal: Universal, decoder: PersonaDecoder, sides: dict[str, Any]
) -> dict[str, Any]:
    """Scores of the swap on all held-out pairs: with picture and points, and with each alone."""
    faces = PersonaPairs(data, "unseen", universal.encoder.sizes, name, **sides).every_own(_SCORED)
    shown = {"swap": faces}
    if faces.points is not None and faces.present is not None:
        shown["picture_alone"] = replace(faces, present=0 * faces.present)
        shown["points_alone"] = replace(faces, inputs=0 * faces.inputs + 0.5)
    found: dict[str, Any] = {"pairs": len(faces.inputs), "wearers": len(set(faces.wearers.tolist()))}
    for key, some in shown.items():
        found[key] = asdict(scored(*decoded(decoder, codes(universal.encoder, some)), faces))
    return found


def _run_facts(run: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """How the universal stage came to be; a run that goes on has no report yet."""
    facts: dict[str, Any] = {"config": settings}
    if (run / "report.json").exists():
        result = _json(run / "report.json")
        facts |= {key: result[key] for key in ("stopped", "step", "seconds", "scores")}
    return facts


def _command(out: Path, tier: str, plan: GalleryPlan, universal: dict[str, Any], polished: Path) -> str:
    """What makes all this from seeds; what differs from the defaults otherwise stands in the plan."""
    words = ["personacam train gallery", f"--tier {tier}", f"--seed {plan.seed}", f"--out {out.name}"]
    first = out / tier / "first" / "config.json"
    configs = sorted(polished.glob("*/config.json"))
    stretches = [universal, *([_json(first)] if first.exists() else [])]
    for option, parts in (("--minutes", stretches), ("--polish-minutes", [_json(c) for c in configs[:1]])):
        if minutes := sum(part.get("max_minutes") or 0 for part in parts):
            words.append(f"{option} {minutes:g}")
    usual = GalleryPlan()
    for option, field in (("--wearers", "wearers"), ("--states", "states")):
        if (value := getattr(plan, field)) != getattr(usual, field):
            words.append(f"{option} {value}")
    return " ".join([*words, *(f"--persona {name}" for name in plan.personas)])


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}", hint="restore it, or train again in a new folder") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no settings", hint="restore it, or train again in a new folder")
    return value
