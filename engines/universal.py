"""The universal stage: one encoder for every wearer, one trunk for every persona, learned from many invented people.

    result = train_universal(UniversalConfig(), Path("data/people"), Path("runs/universal"))
    torchrun --nproc-per-node 8 ...    the same, one process per GPU (see ``distributed``)

A sample is a wearer A in state s, the code of their picture, and what the trunk makes of it with the vector of persona
B, compared with the render of B in state s. A folder is a run: config.json, state/ (everything needed to continue),
encoder, trunk and people (averaged weights, see ``universal_networks``), sheet.png and report.json. The same call on
the same folder continues. Read ``_fit`` from top to bottom.
"""

from __future__ import annotations

import copy
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from engines.adversary import reversal_strength
from engines.augment import AugmentConfig, Tensors
from engines.distributed import Team, interruptible, joined
from engines.errors import SettingsError, TrainingError
from engines.files import claim_folder
from engines.loop import (
    blend,
    channels_last,
    fraction_done,
    keep_freed_memory,
    rate_at,
    seconds_left,
    sum_into,
    write_json,
)
from engines.losses import LossWeights
from engines.mesh_subset import MESH_SUBSET
from engines.network import NetworkConfig, config
from engines.run_state import Run, resume_run, save_run, update_average
from engines.train import SHEET, STATE, Progress, ProgressCallback, Stopped
from engines.universal_data import Examples, Feeder, PointsNoise, UniversalPairs, join
from engines.universal_losses import UniversalWeights, universal_losses
from engines.universal_networks import (
    People,
    UniversalNetworks,
    load_people,
    load_trunk,
    persona_decoder,
    save_universal,
)
from engines.validation import Score, score_faces, write_sheet

__all__ = [
    "People",
    "UniversalConfig",
    "UniversalResult",
    "load_people",
    "load_trunk",
    "persona_decoder",
    "train_universal",
]
Device = Literal["cpu", "cuda"]
Learned = tuple[tuple[Tensor, ...], dict[str, Tensor]]
"""Gradients of all weights, and the terms of the loss."""
_SCORED_AT_ONCE = 32


def _universal_losses() -> LossWeights:
    return LossWeights(code=0.0)  # the universal stage has its own term


@dataclass(frozen=True, slots=True)
class UniversalConfig:
    """One universal run."""

    network: NetworkConfig = field(default_factory=lambda: replace(config("tiny"), mesh_points=len(MESH_SUBSET)))
    """Sizes of encoder and trunk; ``mesh_points`` is 0 or the length of MESH_SUBSET."""
    seed: int = 0
    """Decides the first weights, who is held out, and every batch."""
    steps: int = 100_000
    """Length of the schedule in batches."""
    max_minutes: float | None = None
    """Length of the schedule in time, counted over interruptions; whichever of the two ends first ends the run."""
    batch: int = 64
    """Pairs per step, over all processes."""
    learning_rate: float = 1e-3
    """AdamW's rate after the warm-up; falls to 0 on a half cosine."""
    pace: float = 3.0
    """Rate of the people's vectors over ``learning_rate``: each is in few of the pairs."""
    warmup_steps: int = 500
    """Steps of linear rise at the beginning."""
    weight_decay: float = 1e-4
    """AdamW's decay; small, the data are the regulariser."""
    ema: float = 0.999
    """Decay of the running average of the weights, which is what later stages get."""
    clip_norm: float = 5.0
    """Largest norm of the gradient; larger ones are scaled down."""
    self_fraction: float = 0.15
    """Share of pairs in which the persona is its own wearer."""
    wearers_too: float = 0.25
    """Share of pairs whose persona is one of the set's wearers, where it has roles: more people for the trunk."""
    cycle_every: int = 4
    """Every n-th step encodes what was decoded, for the cycle term; 0 never."""
    consistency_every: int = 4
    """Every n-th step (two after the cycle's) encodes two views, for the consistency term; 0 never."""
    losses: LossWeights = field(default_factory=_universal_losses)
    """The terms of the swap loss; ``code`` is not used."""
    weights: UniversalWeights = field(default_factory=UniversalWeights)
    """The terms beyond the swap."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How the crops are disturbed; never mirrored, the truths would not fit."""
    points: PointsNoise = field(default_factory=PointsNoise)
    """How the mesh points are disturbed, and how often points or picture are missing."""
    held_out: float = 0.1
    """Share of people and of states for validation only, where the set marks none."""
    validation_faces: int = 128
    """Held-out pairs that are scored: wearer and state never trained, persona trained."""
    checkpoint_minutes: float = 10.0
    """Time between checkpoints, each with validation and contact sheet."""
    report_seconds: float = 2.0
    """Time between progress reports."""
    shards: int = 2
    """Parts of the batch per process. On a processor each is learned by a thread of its own; on a GPU they are prepared
    in parallel and learned as one. Shards times processes may not change when a run is continued."""
    threads: int | None = None
    """How many of them at once; None is the number of processors."""
    ahead: int = 4
    """Steps that are prepared ahead of a GPU."""
    cache_gib: float = 4.0
    """Memory of each process for decoded pictures."""
    device: Device = "cpu"
    """Where the networks run; with torchrun, each process takes the GPU of its local rank."""

    def __post_init__(self) -> None:
        if self.augment.flip_chance:
            raise SettingsError("the universal stage learns no mirror images", hint="set augment.flip_chance to 0")
        if self.network.mesh_points not in (0, len(MESH_SUBSET)):
            raise SettingsError(
                f"{self.network.mesh_points} mesh points", hint=f"set network.mesh_points to 0 or {len(MESH_SUBSET)}"
            )


OPERATIONAL = (
    "steps", "max_minutes", "checkpoint_minutes", "report_seconds", "shards", "threads", "ahead", "device",
    "validation_faces", "cache_gib",
)  # fmt: skip
"""Fields of UniversalConfig that may differ when a run is continued."""


@dataclass(frozen=True, slots=True)
class UniversalResult:
    """How a run ended. ``encoder``, ``trunk`` and ``people`` are stems for ``load_encoder/load_trunk/load_people``."""

    stopped: Stopped
    step: int
    seconds: float
    """Training time, summed over interruptions."""
    images_per_s: float
    loss: Mapping[str, float]
    scores: Mapping[str, Score]
    """"swap", and for an encoder that takes points "picture_alone" and "points_alone"; empty but on rank 0."""
    encoder: Path
    trunk: Path
    people: Path
    sheet: Path


def train_universal(
    universal_config: UniversalConfig,
    faceset_folder: Path,
    out_dir: Path,
    progress: ProgressCallback | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> UniversalResult:
    """Train encoder, trunk and people on a set of many identities in shared states.

    Continues the run in ``out_dir`` if there is one. Under torchrun each process calls this with the same arguments;
    rank 0 writes and reports. SIGINT, SIGTERM and KeyboardInterrupt end the run with a checkpoint after the step.
    Raises TrainingError when the loss diverges (the last checkpoint stays) or the folder holds another run, DataError
    when the set lacks people, states or mesh points or a checkpoint is damaged, SettingsError for settings or a device
    that make no sense here.
    """
    with joined(universal_config.device) as team, interruptible() as asked:
        parts = team.world * universal_config.shards
        if parts < 1 or universal_config.batch % parts:
            raise SettingsError(
                f"a batch of {universal_config.batch} cannot be cut into {parts} equal parts",
                hint="make batch a multiple of shards times processes",
            )
        if team.device.type == "cpu":  # one arena would make the threads that prepare for a GPU wait for one another
            keep_freed_memory()
        return _fit(universal_config, faceset_folder, out_dir, progress, clock, team, asked)


def _fit(  # noqa: PLR0915 - the whole loop in one place, to be read from top to bottom
    cfg: UniversalConfig,
    folder: Path,
    out_dir: Path,
    progress: ProgressCallback | None,
    clock: Callable[[], float],
    team: Team,
    asked: threading.Event,
) -> UniversalResult:
    sides: dict[str, Any] = {
        "seed": cfg.seed, "held_out": cfg.held_out, "truths": bool(cfg.weights.auxiliary),
        "wearers_too": cfg.wearers_too,
    }  # fmt: skip
    training = UniversalPairs(folder, "train", cfg.network, **sides, cache_bytes=round(cfg.cache_gib * 2**30))
    held_out = UniversalPairs(folder, "unseen", cfg.network, **sides).every(cfg.validation_faces)

    torch.set_num_threads(1)
    networks = _networks(cfg, training).to(team.device)
    channels_last(networks)
    learning = list(networks.parameters())
    vectors = networks.people.weight
    optimizer = torch.optim.AdamW(
        [{"params": [w for w in learning if w is not vectors], "pace": 1.0}, {"params": [vectors], "pace": cfg.pace}],
        lr=cfg.learning_rate, weight_decay=cfg.weight_decay, fused=True,
    )  # fmt: skip
    run = Run(networks, copy.deepcopy(networks).requires_grad_(requires_grad=False), optimizer)
    parts, own = team.world * cfg.shards, range(team.rank * cfg.shards, (team.rank + 1) * cfg.shards)
    identity = _identity(cfg, training, parts)
    resume_run(run, out_dir / STATE, identity)
    team.check_equal(run.step, "the step that the run continues from")
    if team.leads:  # the others would find a folder that is half claimed
        claim_folder(out_dir, "config.json")
        write_json(out_dir / "config.json", asdict(cfg))

    def keep() -> Mapping[str, Score]:
        save_run(run, out_dir / STATE, identity)
        scores = validate_universal(run.average, held_out, out_dir / SHEET)
        about = {"step": run.step, "data": training.faces.digest, "score": asdict(scores["swap"])}
        save_universal(out_dir, run.average, training.names, about)
        return scores

    def prepare(step: int, part: int) -> Examples:
        second = _due(step, cfg.consistency_every, cfg.weights.consistency, 2)
        return training.draw(
            step, part, cfg.batch // parts, cfg.augment, cfg.points, self_fraction=cfg.self_fraction,
            targets=networks.auxiliary is not None, second=second,
        )  # fmt: skip

    def learn(batch: Examples, share: float, reversal: float) -> Learned:
        """Gradients and terms of ``share`` of the batch of this step."""
        cycle = _due(run.step, cfg.cycle_every, cfg.weights.cycle, 0)
        terms = universal_losses(networks, batch, cfg.losses, cfg.weights, cycle=cycle, reversal=reversal)
        gradients = torch.autograd.grad(terms["total"] * share, learning)
        return gradients, {name: term.detach() for name, term in terms.items()}

    def learn_all(pool: ThreadPoolExecutor, feeder: Feeder, reversal: float) -> list[Learned]:
        """The parts of the batch of this step that are this process's."""
        if team.device.type == "cuda":
            return [learn(join(feeder.take(run.step)).on(team.device), 1 / team.world, reversal)]
        # Each thread does a part from cutting crops to gradients on its own: see train._fit.
        return list(pool.map(lambda part: learn(prepare(run.step, part), 1 / parts, reversal), own))

    started, first_step, seconds_before = clock(), run.step, run.seconds
    last_report = last_checkpoint = started
    smooth: dict[str, float] = {}
    with ThreadPoolExecutor(cfg.threads or os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        feeder = Feeder(pool, prepare, own, cfg.ahead)
        try:
            while (ended := _ended(cfg, run, team, asked)) is None:
                fraction = fraction_done(cfg, run.step, run.seconds)
                rate = rate_at(cfg, run.step, fraction)
                for group in optimizer.param_groups:
                    group["lr"] = rate * group["pace"]
                reversal = reversal_strength(cfg.weights.adversary, fraction)

                learned = learn_all(pool, feeder, reversal)
                for weight, *gradients in zip(learning, *(gradients for gradients, _ in learned), strict=True):
                    sum_into(weight, gradients)
                values = _agree(team, learning, [terms for _, terms in learned])
                norm = nn.utils.clip_grad_norm_(learning, cfg.clip_norm)
                if not math.isfinite(values["total"]) or not math.isfinite(float(norm)):
                    raise TrainingError(
                        f"the loss is no longer a number at step {run.step}; the last checkpoint in {out_dir} is good",
                        hint="start in a new folder with a smaller learning_rate, or look for damaged crops",
                    )
                optimizer.step()
                run.step += 1
                update_average(run, cfg.ema)

                now = clock()
                run.seconds = seconds_before + now - started
                smooth = blend(smooth, values)
                scores = None
                if team.leads and now - last_checkpoint >= 60 * cfg.checkpoint_minutes:
                    scores = keep()
                    last_checkpoint = clock()
                if team.leads and progress and (scores is not None or now - last_report >= cfg.report_seconds):
                    last_report = now
                    step_s = max(now - started, 1e-9) / (run.step - first_step)
                    report = _report(cfg, run, smooth, rate, step_s, scores, out_dir)
                    _tell(progress, report, asked)
        finally:
            feeder.close()

    scores = keep() if team.leads else {}
    team.told([0.0])  # nobody leaves before everything is written
    result = UniversalResult(
        stopped=ended,
        step=run.step,
        seconds=run.seconds,
        images_per_s=(run.step - first_step) * cfg.batch / max(run.seconds - seconds_before, 1e-9),
        loss=smooth,
        scores=scores,
        encoder=out_dir / "encoder",
        trunk=out_dir / "trunk",
        people=out_dir / "people",
        sheet=out_dir / SHEET,
    )
    if team.leads:
        write_json(out_dir / "report.json", asdict(result))
    return result


def _ended(cfg: UniversalConfig, run: Run[UniversalNetworks], team: Team, asked: threading.Event) -> Stopped | None:
    """Whether the run ends here, and why: all processes must leave at the same step, so one clock counts."""
    (run.seconds,) = team.told([run.seconds])
    if team.anyone(here=asked.is_set()):
        return "interrupted"
    return "finished" if fraction_done(cfg, run.step, run.seconds) >= 1 else None


def _tell(progress: ProgressCallback, report: Progress, asked: threading.Event) -> None:
    """Report; a KeyboardInterrupt meanwhile ends the run after this step on all processes."""
    try:
        progress(report)
    except KeyboardInterrupt:
        asked.set()


def _report(
    cfg: UniversalConfig, run: Run[UniversalNetworks], loss: Mapping[str, float], rate: float, step_s: float,
    scores: Mapping[str, Score] | None, out_dir: Path,
) -> Progress:  # fmt: skip
    return Progress(
        step=run.step, fraction=fraction_done(cfg, run.step, run.seconds), loss=loss, learning_rate=rate,
        images_per_s=cfg.batch / step_s, eta_s=seconds_left(cfg, run.step, run.seconds, step_s), scores=scores,
        sheet=out_dir / SHEET if scores is not None else None,
    )  # fmt: skip


@torch.no_grad()
def validate_universal(networks: UniversalNetworks, faces: Examples, sheet: Path) -> Mapping[str, Score]:
    """Score the swap of held-out pairs, with all there is and with each modality alone; write the contact sheet."""
    grey = torch.full_like(faces.inputs, 0.5)
    found = {"swap": _results(networks, faces)}
    if faces.points is not None and faces.present is not None:
        found["picture_alone"] = _results(networks, replace(faces, present=torch.zeros_like(faces.present)))
        found["points_alone"] = _results(networks, replace(faces, inputs=grey))
    truth = Tensors(faces.inputs, faces.truths[None], faces.masks[None], faces.landmarks[None])
    write_sheet(sheet, [found["swap"]], truth)
    return {name: score_faces(*result, truth, 0) for name, result in found.items()}


def _results(networks: UniversalNetworks, faces: Examples) -> tuple[Tensor, Tensor]:
    """Faces (N, 3, T, T) and masks (N, 1, T, T) 0..1 on the processor."""
    device = networks.people.weight.device
    pictures, masks = [], []
    for start in range(0, len(faces.inputs), _SCORED_AT_ONCE):
        some = faces.each(lambda t, a=start: t[a : a + _SCORED_AT_ONCE].to(device))  # type: ignore[misc]
        picture, mask = networks.decode(networks.encoder(some.inputs, some.points, some.present), some.personas)
        pictures.append(picture.cpu().contiguous())
        masks.append(torch.sigmoid(mask).cpu())
    return torch.cat(pictures), torch.cat(masks)


def _networks(cfg: UniversalConfig, pairs: UniversalPairs) -> UniversalNetworks:
    """Fresh networks that know the set's means and spreads."""
    networks = UniversalNetworks(
        cfg.network,
        len(pairs.names),
        wearers=len(pairs.faces.identities) if cfg.weights.adversary else 0,
        truths=pairs.truth_widths if cfg.weights.auxiliary else (),
        seed=cfg.seed,
    )
    if networks.auxiliary is not None:
        networks.auxiliary.standardise(pairs.sample_targets())
    if networks.encoder.points is not None:
        networks.encoder.points.mean.copy_(pairs.mean_points())
    return networks


def _agree(team: Team, learning: list[nn.Parameter], parts: list[dict[str, Tensor]]) -> dict[str, float]:
    """Gradients summed and terms averaged over processes."""
    names = list(parts[0])
    here = torch.stack([torch.stack([terms[name].float() for name in names]) for terms in parts]).mean(dim=0)
    gradients = [weight.grad for weight in learning if weight.grad is not None]
    summed = team.sum(gradients, here / team.world)
    return dict(zip(names, summed.tolist(), strict=True))


def _due(step: int, every: int, weight: float, offset: int) -> bool:
    """Whether a term that is only evaluated on some steps is due."""
    return bool(weight) and every > 0 and (step - offset) % every == 0


def _identity(cfg: UniversalConfig, pairs: UniversalPairs, parts: int) -> dict[str, Any]:
    """What must not change between the parts of a run."""
    settings = {k: v for k, v in asdict(cfg).items() if k not in OPERATIONAL}
    return {"stage": "universal", "data": pairs.faces.digest, "parts": parts, "config": settings}
