"""The universal stage: one encoder for every wearer, one trunk for every persona, learned from many invented people.

    result = train_universal(UniversalConfig(), Path("data/people"), Path("runs/universal"))
    torchrun --nproc-per-node 8 ...    the same, one process per GPU (see ``distributed``)

A sample is a wearer A in state s, the code of their picture, and what the trunk makes of it with the vector of persona
B, compared with the render of B in state s. A folder is a run: config.json, state/ (everything needed to continue),
encoder, trunk and people (averaged weights, see ``universal_networks``), sheet.png and report.json. The same call on
the same folder continues. Read ``_fit`` and ``_Universal.learn``.
"""

from __future__ import annotations

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
from engines.augment import MILD_ENCODER, AugmentConfig
from engines.course import Course, ProgressCallback, Stopped
from engines.distributed import Team, interruptible, joined
from engines.errors import SettingsError
from engines.loop import (
    channels_last,
    claim_run,
    keep_freed_memory,
    set_rate,
    shard_threads,
    sum_shards,
    take_step,
    write_json,
)
from engines.losses import LossWeights
from engines.mesh_subset import MESH_SUBSET
from engines.network import NetworkConfig, config
from engines.run_folder import load_universal
from engines.run_state import SHEET, STATE, lasting_settings, new_run, resume_run, save_run
from engines.universal_data import MILD_POINTS, Examples, Feeder, PointsNoise, UniversalPairs, join
from engines.universal_losses import NO_WEIGHTS, UniversalWeights, universal_losses
from engines.universal_networks import (
    People,
    UniversalNetworks,
    load_people,
    load_trunk,
    persona_decoder,
    save_universal,
)
from engines.universal_validation import validate_universal
from engines.validation import Score
from engines.warm_start import begin_with

__all__ = [
    "People",
    "UniversalConfig",
    "UniversalResult",
    "load_people",
    "load_trunk",
    "mildly",
    "persona_decoder",
    "train_universal",
]
Device = Literal["cpu", "cuda"]
Learned = tuple[tuple[Tensor, ...], dict[str, Tensor]]
"""Gradients of all weights, and the terms of the loss."""


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
    frozen_encoder: bool = False
    """The encoder stays as the run that this one starts from has it, and only trunk and people learn: a further tier
    for the codes of a finished one. All of ``weights`` are then 0, what they teach is the encoder's."""
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
        if self.frozen_encoder and self.weights != NO_WEIGHTS:
            raise SettingsError(
                "a frozen encoder learns nothing", hint="set all weights to 0, or frozen_encoder to False"
            )
        if self.network.state_size and not (self.weights.auxiliary or self.frozen_encoder):
            raise SettingsError("nothing teaches the code its state", hint="set weights.auxiliary above 0")


OPERATIONAL = (
    "steps", "max_minutes", "checkpoint_minutes", "report_seconds", "shards", "threads", "ahead", "device",
    "validation_faces", "cache_gib",
)  # fmt: skip
"""Fields of UniversalConfig that may differ when a run is continued."""


def on_top(usual: UniversalConfig) -> UniversalConfig:
    """The same for a trunk on the encoder of a finished run, which stays as it is."""
    return replace(mildly(usual), weights=NO_WEIGHTS, frozen_encoder=True)


def mildly(usual: UniversalConfig) -> UniversalConfig:
    """The same for the end of a training, on the weights of a run at the usual strengths: see ``augment.MILD_ENCODER``.

    Checks of the code are dear and have done their work; more of the pairs are of personas.
    """
    return replace(
        usual, augment=MILD_ENCODER, points=MILD_POINTS, learning_rate=0.6 * usual.learning_rate, wearers_too=0.15,
        cycle_every=8, consistency_every=8, losses=replace(usual.losses, contrast=0.5),
    )  # fmt: skip


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
    start_from: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> UniversalResult:
    """Train encoder, trunk and people on a set of many identities in shared states.

    Continues the run in ``out_dir`` if there is one. A new run begins with what the one in ``start_from`` learned (see
    ``warm_start``), or with nothing. Under torchrun each process calls this with the same arguments;
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
        stage = _Universal(universal_config, faceset_folder, out_dir, team, start_from)
        return _fit(stage, progress, clock, asked)


def _fit(
    stage: _Universal, progress: ProgressCallback | None, clock: Callable[[], float], asked: threading.Event
) -> UniversalResult:
    cfg, run, team, out_dir = stage.cfg, stage.run, stage.team, stage.out_dir
    with shard_threads(cfg.threads) as pool:
        course = Course(cfg, cfg, run, clock, progress if team.leads else None, asked)
        feeder = Feeder(pool, stage.prepare, stage.own, cfg.ahead)
        try:
            while (ended := _ended(stage, course, asked)) is None:
                reversal = reversal_strength(cfg.weights.adversary, course.fraction)
                set_rate(run.optimizer, course.next_rate())
                learned = stage.learn_all(pool, feeder, reversal)  # forward, losses, backward
                sum_shards(stage.learning, [gradients for gradients, _ in learned])
                terms = _agree(team, stage.learning, [terms for _, terms in learned])
                take_step(run, stage.learning, terms["total"], cfg, out_dir)
                course.stepped(terms)
                scores = course.checkpoint_if_due(stage.keep) if team.leads else None
                course.report(scores, out_dir / SHEET if scores is not None else None)
        finally:
            feeder.close()
    scores = stage.keep() if team.leads else {}
    team.told([0.0])  # nobody leaves before everything is written
    result = UniversalResult(
        stopped=ended,
        step=run.step,
        seconds=run.seconds,
        images_per_s=course.images_per_s,
        loss=course.loss,
        scores=scores,
        encoder=out_dir / "encoder",
        trunk=out_dir / "trunk",
        people=out_dir / "people",
        sheet=out_dir / SHEET,
    )
    if team.leads:
        write_json(out_dir / "report.json", asdict(result))
    return result


class _Universal:
    """One run as one process has it: what learns, what it learns from, and the folder that keeps it."""

    def __init__(
        self, cfg: UniversalConfig, folder: Path, out_dir: Path, team: Team, start_from: Path | None = None
    ) -> None:
        self.cfg, self.out_dir, self.team = cfg, out_dir, team
        sides: dict[str, Any] = {
            "seed": cfg.seed, "held_out": cfg.held_out, "truths": bool(cfg.weights.auxiliary),
            "wearers_too": cfg.wearers_too,
        }  # fmt: skip
        self.pairs = UniversalPairs(folder, "train", cfg.network, **sides, cache_bytes=round(cfg.cache_gib * 2**30))
        self.held_out = UniversalPairs(folder, "unseen", cfg.network, **sides).every(cfg.validation_faces)
        torch.set_num_threads(1)
        networks = _networks(cfg, self.pairs)
        self.identity = _identity(cfg, self.pairs, team.world * cfg.shards)
        if cfg.frozen_encoder and start_from is None:
            raise SettingsError("a frozen encoder has to come from a run", hint="name the run in start_from")
        if start_from is not None:
            before = load_universal(start_from)
            begin_with(networks, self.pairs.names, before)
            self.identity["start"] = before.people.meta["trunk_sha256"]
        networks = networks.to(team.device)
        channels_last(networks)
        networks.encoder.requires_grad_(not cfg.frozen_encoder)
        self.learning = [w for w in networks.parameters() if w.requires_grad]
        vectors = networks.people.weight
        others = [w for w in self.learning if w is not vectors]
        groups: list[dict[str, Any]] = [{"params": others}, {"params": [vectors], "pace": cfg.pace}]
        optimizer = torch.optim.AdamW(groups, lr=cfg.learning_rate, weight_decay=cfg.weight_decay, fused=True)
        self.run = new_run(networks, optimizer)
        self.parts = team.world * cfg.shards
        self.own = range(team.rank * cfg.shards, (team.rank + 1) * cfg.shards)
        resume_run(self.run, out_dir / STATE, self.identity)
        team.check_equal(self.run.step, "the step that the run continues from")
        if team.leads:  # the others would find a folder that is half claimed
            claim_run(out_dir, asdict(cfg))

    def prepare(self, step: int, part: int) -> Examples:
        """One part of the batch of a step."""
        cfg = self.cfg
        second = _due(step, cfg.consistency_every, cfg.weights.consistency, 2)
        return self.pairs.draw(
            step, part, cfg.batch // self.parts, cfg.augment, cfg.points, self_fraction=cfg.self_fraction,
            targets=self.run.networks.auxiliary is not None, second=second,
        )  # fmt: skip

    def learn(self, batch: Examples, share: float, reversal: float) -> Learned:
        """Gradients and terms of ``share`` of the batch of this step."""
        cfg, run = self.cfg, self.run
        cycle = _due(run.step, cfg.cycle_every, cfg.weights.cycle, 0)
        terms = universal_losses(run.networks, batch, cfg.losses, cfg.weights, cycle=cycle, reversal=reversal)
        gradients = torch.autograd.grad(terms["total"] * share, self.learning)
        return gradients, {name: term.detach() for name, term in terms.items()}

    def learn_all(self, pool: ThreadPoolExecutor, feeder: Feeder, reversal: float) -> list[Learned]:
        """The parts of the batch of this step that are this process's."""
        step, device = self.run.step, self.team.device
        if device.type == "cuda":
            return [self.learn(join(feeder.take(step)).on(device), 1 / self.team.world, reversal)]
        # Each thread does a part from cutting crops to gradients on its own: see ``shard_threads``.
        return list(pool.map(lambda part: self.learn(self.prepare(step, part), 1 / self.parts, reversal), self.own))

    def keep(self) -> Mapping[str, Score]:
        """Write a checkpoint; returns what it scores."""
        run = self.run
        save_run(run, self.out_dir / STATE, self.identity)
        scores = validate_universal(run.average, self.held_out, self.out_dir / SHEET)
        about = {"step": run.step, "data": self.pairs.faces.digest, "score": asdict(scores["swap"])}
        save_universal(self.out_dir, run.average, self.pairs.names, about)
        return scores


def _ended(stage: _Universal, course: Course, asked: threading.Event) -> Stopped | None:
    """Whether the run ends here, and why: all processes must leave at the same step, so one clock counts."""
    (stage.run.seconds,) = stage.team.told([stage.run.seconds])
    if stage.team.anyone(here=asked.is_set()):
        return "interrupted"
    return "finished" if course.fraction >= 1 else None


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
    settings = lasting_settings(cfg, OPERATIONAL)
    return {"stage": "universal", "data": pairs.faces.digest, "parts": parts, "config": settings}
