"""From footage to a persona: faces, training, report, persona file; every stage asks its gate and does what is missing.

    report = make_persona(gate, Making("ada", folder, out), extract, hooks)

    FOLDER/faces, coverage.*        what ``extract`` leaves (see ``calibration.enrollment``)
    FOLDER/run-TIER-DIGEST          the training, of these faces with these settings
    FOLDER/run-TIER-DIGEST/report   index.html, sheet.png and report.json
    OUT                             the persona

The same call goes on after Ctrl-C or a kill at any moment: finished faces are not cut again, the training continues
from its last checkpoint, and a report or a persona that is there already and of these weights is left alone. The
consent is asked for anew each time, also when nothing is left to do.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from calibration.consent_gates import Gatekeeper
from calibration.embedding import Embedder
from calibration.making_page import page, sheet
from calibration.making_report import look_at
from calibration.persona_export import export_enrolled, identity_of, is_exported, read_frames
from engines.course import Progress
from engines.enroll import OPERATIONAL, EnrollConfig, enroll
from engines.errors import DataError, MissingDependencyError
from engines.facemesh import load_facemesh
from engines.faceset import read_faceset, read_index
from engines.faceset_codec import encode_png
from engines.files import write_atomic
from engines.loop import write_json
from engines.run_folder import Universal, load_persona, load_universal
from engines.run_state import lasting_settings
from engines.universal_bundle import WearerSamples, load_bundle, shipped_universal

Stage = Literal["faces", "training", "report", "persona"]
STAGES: tuple[Stage, ...] = ("faces", "training", "report", "persona")
REPORT = "report"
PAGE, SHEET, FIGURES = "index.html", "sheet.png", "report.json"


@dataclass(frozen=True, slots=True)
class Making:
    """One persona to be made."""

    name: str
    folder: Path
    """Where faces, training and report go."""
    out: Path
    """The persona file."""
    universal: Path = field(default_factory=shipped_universal)
    """The universal networks to begin with; their tier is the persona's."""
    config: EnrollConfig = field(default_factory=EnrollConfig)
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """How far one stage is."""

    stage: Stage
    fraction: float
    """0..1"""
    eta_s: float | None
    """Of this stage alone; None: not known yet."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class MakingHooks:
    """Who wants to hear of progress."""

    step: Callable[[Step], None] = lambda _: None
    say: Callable[[str], None] = lambda _: None


Extract = Callable[[Callable[[Step], None]], Path | None]
"""Cuts the faces, as far as they are missing, through the gate; tells how far it is. Returns the face set's folder;
None: somebody asked to stop, and the same call goes on."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a call came to."""

    stopped: Literal["finished", "interrupted"]
    at: Stage
    """Where it was interrupted, or the last stage."""
    path: Path | None = None
    report: Path | None = None
    """The page."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Of this call, by stage."""


def make_persona(gate: Gatekeeper, making: Making, extract: Extract, hooks: MakingHooks = MakingHooks()) -> Made:
    """All stages, or what is missing of them.

    Raises ConsentError where a gate refuses, before the stage begins; otherwise what the stages raise. Ctrl-C while it
    trains ends it with a checkpoint and "interrupted"; elsewhere it is a KeyboardInterrupt, with what is finished kept.
    """
    clock = _Clock()
    faces = extract(hooks.step)
    clock.lap("faces")
    if faces is None:
        return Made("interrupted", "faces", seconds=clock.laps)
    hooks.step(Step("faces", 1.0, 0.0))
    universal = load_universal(making.universal)
    run = run_folder(making, faces)
    consent = gate.train(making.name, faces, run)
    if not _train(making, faces, run, universal, hooks):
        return Made("interrupted", "training", seconds=clock.laps)
    clock.lap("training")
    figures = _report(making, faces, run, hooks)
    clock.lap("report")
    _export(gate, making, faces, run, figures, hooks, consent)
    clock.lap("persona")
    return Made("finished", "persona", making.out, run / REPORT / PAGE, figures, clock.laps)


def run_folder(making: Making, faces: Path) -> Path:
    """Where these faces are learned with these settings: other faces or settings begin anew, beside the old run."""
    tier, trunk = tier_of_universal(making.universal), str(_json(making.universal / "trunk.json")["sha256"])
    what = [read_index(faces).digest, trunk, lasting_settings(making.config, OPERATIONAL)]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()
    return making.folder / f"run-{tier}-{digest[:8]}"


def tier_of_universal(folder: Path) -> str:
    """The tier of universal networks. Raises DataError where there are none."""
    try:
        return str(json.loads((folder / "encoder.json").read_bytes())["network"]["tier"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"there are no universal networks in {folder}: {error}"
        raise DataError(reason, hint="leave --universal out to use the shipped ones") from error


def _train(making: Making, faces: Path, run: Path, universal: Universal, hooks: MakingHooks) -> bool:
    """Learn until it ends by itself. False: interrupted."""
    if _is_trained(run, making.config):
        hooks.step(Step("training", 1.0, 0.0, "was finished before"))
        return True
    hooks.step(Step("training", 0.0, None, "preparing: other people are painted into the frames"))
    index = read_index(faces)
    identity = identity_of(index, making.name, faces)
    wanted = universal.encoder.sizes.mesh_points and "mesh" in index.info.extras
    faceset = read_faceset(faces, identities=[identity], extras=("mesh",) if wanted else ())

    def progress(p: Progress) -> None:
        scores = "" if not p.scores else f", {next(iter(p.scores.values())).psnr_masked_db:.1f} dB held out"
        hooks.step(Step("training", p.fraction, p.eta_s, f"step {p.step}, {p.images_per_s:.0f} faces/s{scores}"))

    result = enroll(
        making.config, faceset, identity, universal.encoder, universal.trunk, universal.people.vectors, run, progress
    )
    if result.stopped == "interrupted":
        return False
    hooks.step(Step("training", 1.0, 0.0, f"{result.score.psnr_masked_db:.1f} dB on held-out frames"))
    return True


def _is_trained(run: Path, config: EnrollConfig) -> bool:
    """Whether the run ended by itself with just these settings; then nothing is left to learn."""
    try:
        report = json.loads((run / "report.json").read_bytes())
        settings = json.loads((run / "config.json").read_bytes())
        asked = json.loads(json.dumps(asdict(config)))
        same = all(settings[key] == asked[key] for key in ("steps", "max_minutes", "patience"))
        return bool(same and report["stopped"] in {"finished", "early"} and (run / "decoder.json").exists())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _report(making: Making, faces: Path, run: Path, hooks: MakingHooks) -> dict[str, Any]:
    """Measure and write the pages, unless they are there and of these weights."""
    folder, decoder_sha256 = run / REPORT, str(_json(run / "decoder.json")["sha256"])
    try:
        before = _json(folder / FIGURES)
        if before["weights"] == decoder_sha256 and (folder / PAGE).exists():
            hooks.step(Step("report", 1.0, 0.0, "was finished before"))
            return dict(before["figures"])
    except (DataError, KeyError, TypeError, ValueError):
        pass
    hooks.step(Step("report", 0.0, None, "looking at held-out frames and at other wearers"))
    persona = load_persona(run, identity_of(read_index(faces), making.name, faces))
    facts = _json(run / "report.json")
    frames = read_frames(faces, persona.name, persona.encoder.sizes, making.config.held_out)
    facemesh = load_facemesh()
    try:
        looked = look_at(
            persona.encoder, persona.decoder, frames, _samples(making.universal), facemesh, _embedder(hooks)
        )
    finally:
        facemesh.close()
    hooks.step(Step("report", 0.8, 1.0, "drawing"))
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / SHEET, encode_png(sheet(looked)))
    text = page(making.name, looked, facts, coverage=making.folder / "coverage.png", command=command_of(making))
    write_atomic(folder / PAGE, text.encode())
    # Last: what says that the others are finished.
    write_json(folder / FIGURES, {"weights": decoder_sha256, "figures": looked.figures})
    hooks.step(Step("report", 1.0, 0.0))
    return looked.figures


def command_of(making: Making) -> str:
    """What puts the persona on."""
    where = making.name if making.out.parent.name in {"personas", "small", "base"} else str(making.out)
    return f"personacam run --persona {where}"


def _samples(universal: Path) -> WearerSamples | None:
    try:
        return load_bundle(universal).samples
    except DataError:  # a universal run without sample wearers
        return None


def _embedder(hooks: MakingHooks) -> Embedder | None:
    try:
        return Embedder()
    except MissingDependencyError as error:
        hooks.say(f"the likeness is not measured: {error.message}; {error.hint}")
        return None


def _export(
    gate: Gatekeeper, making: Making, faces: Path, run: Path, figures: Mapping[str, Any], hooks: MakingHooks,
    consent: str | None,
) -> None:  # fmt: skip
    if is_exported(making.out, faces, run, consent):
        hooks.step(Step("persona", 1.0, 0.0, "was finished before"))
        return
    hooks.step(Step("persona", 0.0, None, "exporting, and comparing the graph with the networks"))
    report = {key: value for key, value in figures.items() if value is not None}
    export_enrolled(
        gate, making.name, faces, run, making.out, universal=making.universal, title=making.title, report=report
    )
    hooks.step(Step("persona", 1.0, 0.0))


class _Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: Stage) -> None:
        now = time.monotonic()
        self.laps[stage] = now - self._last
        self._last = now


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}", hint="run the same command again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} is damaged", hint="delete it and run the same command again")
    return value
