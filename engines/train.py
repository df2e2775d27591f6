"""Training. Read ``_fit`` and ``_Training.learn``: both entries only decide what they may change.

    train_first    encoder and one decoder per persona together, on rendered pairs (exact swap loss)
    train_decoder  decoders for new personas on a finished encoder, which stays as it is

A folder is a run: it holds config.json, state/ (everything needed to continue), encoder and decoders (averaged weights,
written with every checkpoint), sheet.png (look at it) and report.json. The same call on the same folder continues.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engines import checkpoint, losses
from engines.augment import AugmentConfig, Tensors, augment
from engines.course import Course, Progress, ProgressCallback, Stopped
from engines.errors import TrainingError
from engines.faceset import FaceSet
from engines.loop import (
    channels_last,
    claim_run,
    keep_freed_memory,
    mean_terms,
    set_rate,
    shard_threads,
    sum_shards,
    take_step,
    write_json,
)
from engines.losses import LossWeights
from engines.network import NetworkConfig, PersonaDecoder, UniversalEncoder, build_decoder, build_encoder, config
from engines.pairs import PairedSet
from engines.run_state import SHEET, STATE, SwapNetworks, digest, lasting_settings, new_run, resume_run, save_run
from engines.validation import Score, validate, validation_tensors

__all__ = [
    "OPERATIONAL",
    "Progress",
    "ProgressCallback",
    "TrainConfig",
    "TrainResult",
    "train_decoder",
    "train_first",
    "write_weights",
]


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One training run."""

    network: NetworkConfig = field(default_factory=lambda: config("tiny"))
    """Sizes of encoder and decoders."""
    seed: int = 0
    """Decides the first weights and every batch."""
    steps: int = 8000
    """Length of the schedule in batches."""
    max_minutes: float | None = None
    """Length of the schedule in time, counted over interruptions; whichever of the two ends first ends the run."""
    batch: int = 32
    """Input faces per step; each is decoded once per persona."""
    learning_rate: float = 1e-3
    """AdamW's rate after the warm-up; falls to 0 on a half cosine."""
    warmup_steps: int = 150
    """Steps of linear rise at the beginning."""
    weight_decay: float = 1e-4
    """AdamW's decay; small, the data are the regulariser."""
    ema: float = 0.998
    """Decay of the running average of the weights, which is what is shipped."""
    clip_norm: float = 5.0
    """Largest norm of the gradient; larger ones are scaled down."""
    self_fraction: float = 0.1
    """Share of inputs that show a persona itself instead of a wearer."""
    consistency_every: int = 4
    """Every n-th step encodes the inputs twice, disturbed differently, for the code term; 0 never."""
    losses: LossWeights = field(default_factory=LossWeights)
    """How much each term counts."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How the crops are disturbed."""
    held_out_every: int = 16
    """One block of states in this many is for validation only."""
    state_block: int = 8
    """Neighbouring states in a block."""
    validation_faces: int = 64
    """Faces of the validation split that are scored."""
    checkpoint_minutes: float = 3.0
    """Time between checkpoints, each with validation and contact sheet."""
    report_seconds: float = 2.0
    """Time between progress reports."""
    shards: int = 2
    """Parts of a batch that are learned side by side, one thread each; changing it changes the batches."""
    threads: int | None = None
    """How many of them at once; None is the number of processors."""


OPERATIONAL = ("steps", "max_minutes", "checkpoint_minutes", "report_seconds", "threads", "validation_faces")
"""Fields of TrainConfig that may differ when a run is continued."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended. Weights: ``encoder`` and ``decoders`` are stems for ``checkpoint.load_encoder/load_decoder``."""

    stopped: Stopped
    step: int
    seconds: float
    """Training time, summed over interruptions."""
    images_per_s: float
    loss: Mapping[str, float]
    scores: Mapping[str, Score]
    encoder: Path
    decoders: Mapping[str, Path]
    sheet: Path


def train_first(
    train_config: TrainConfig,
    faceset: FaceSet,
    out_dir: Path,
    progress: ProgressCallback | None = None,
    *,
    personas: Sequence[str] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TrainResult:
    """Train encoder and decoders together; ``personas`` are all of the set unless named.

    Continues the run in ``out_dir`` if there is one. KeyboardInterrupt ends the run with a checkpoint.
    Raises TrainingError when the loss diverges (the last checkpoint stays) or the folder holds another run, DataError
    when the set lacks faces or the checkpoint is damaged.
    """
    names = _personas(faceset, personas)
    encoder = build_encoder(train_config.network, seed=train_config.seed)
    decoders = [build_decoder(train_config.network, seed=train_config.seed + 1 + i) for i in range(len(names))]
    training = _Training(train_config, faceset, names, encoder, decoders, out_dir, encoder_learns=True)
    return _fit(training, progress, clock)


def train_decoder(
    train_config: TrainConfig,
    faceset: FaceSet,
    encoder: UniversalEncoder,
    out_dir: Path,
    progress: ProgressCallback | None = None,
    *,
    personas: Sequence[str] | None = None,
    start_from: PersonaDecoder | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TrainResult:
    """Train decoders for ``personas`` on a finished encoder, from ``start_from``'s weights or from scratch.

    Another persona's decoder is a much shorter way. Everything else as in ``train_first``.
    """
    if encoder.sizes != train_config.network:
        raise TrainingError(
            f"the encoder is {encoder.sizes.tier}, the run {train_config.network.tier}",
            hint="set TrainConfig.network to encoder.sizes",
        )
    names = _personas(faceset, personas)
    if start_from is not None:
        decoders = [copy.deepcopy(start_from) for _ in names]
    else:
        decoders = [build_decoder(encoder.sizes, seed=train_config.seed + 1 + i) for i in range(len(names))]
    frozen = copy.deepcopy(encoder)
    training = _Training(train_config, faceset, names, frozen, decoders, out_dir, encoder_learns=False)
    return _fit(training, progress, clock)


class _Training:
    """One run: what learns, what it learns from, and the folder that keeps it."""

    def __init__(
        self, cfg: TrainConfig, faceset: FaceSet, personas: Sequence[str], encoder: UniversalEncoder,
        decoders: Sequence[PersonaDecoder], out_dir: Path, *, encoder_learns: bool,
    ) -> None:  # fmt: skip
        self.cfg, self.personas, self.out_dir, self.encoder_learns = cfg, personas, out_dir, encoder_learns
        split: dict[str, Any] = {"held_out_every": cfg.held_out_every, "state_block": cfg.state_block}
        self.pairs = PairedSet(faceset, personas, "train", **split)
        self.held_out = validation_tensors(
            PairedSet(faceset, personas, "val", **split), cfg.network, cfg.validation_faces
        )
        keep_freed_memory()
        torch.set_num_threads(1)
        encoder.requires_grad_(encoder_learns)
        networks = SwapNetworks(encoder, decoders)
        channels_last(networks)
        self.learning = [p for p in networks.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(self.learning, lr=cfg.learning_rate, weight_decay=cfg.weight_decay, fused=True)
        self.run = new_run(networks, optimizer)
        self.identity = _identity(cfg, faceset, personas, encoder if not encoder_learns else None)
        resume_run(self.run, out_dir / STATE, self.identity)
        claim_run(out_dir, asdict(cfg))

    def learn(self, shard: int) -> tuple[tuple[Tensor, ...], dict[str, float]]:
        """Gradients and terms of one part of the batch of this step."""
        cfg, run = self.cfg, self.run
        # It depends on seed, step and shard alone, so a continued run sees what an uninterrupted one would have seen.
        rng = np.random.default_rng((cfg.seed, run.step, shard))
        twice = self.encoder_learns and cfg.consistency_every > 0 and run.step % cfg.consistency_every == 0
        drawn = self.pairs.draw(rng, cfg.batch // cfg.shards, self_fraction=cfg.self_fraction)
        sides = {"input_size": cfg.network.input_size, "output_size": cfg.network.output_size}
        batch = augment(drawn, cfg.augment, rng, margin=self.pairs.faceset.info.margin, second=twice, **sides)
        terms = _losses(run.networks, batch, cfg, encoder_learns=self.encoder_learns)
        gradients = torch.autograd.grad(terms["total"] / cfg.shards, self.learning)
        return gradients, {name: float(term.detach()) for name, term in terms.items()}

    def keep(self) -> Mapping[str, Score]:
        """Write a checkpoint; returns what it scores."""
        run = self.run
        save_run(run, self.out_dir / STATE, self.identity)
        scores = validate(run.average, self.held_out, self.personas, self.out_dir / SHEET)
        about = {"step": run.step, "data": self.pairs.faceset.digest}
        write_weights(run.average, self.out_dir, self.personas, scores, about)
        return scores


def _fit(training: _Training, progress: ProgressCallback | None, clock: Callable[[], float]) -> TrainResult:
    cfg, run, out_dir = training.cfg, training.run, training.out_dir
    course = Course(cfg, cfg, run, clock, progress)
    stopped: Stopped = "finished"
    with shard_threads(cfg.threads) as pool:
        try:
            while course.fraction < 1:
                set_rate(run.optimizer, course.next_rate())
                shards = list(pool.map(training.learn, range(cfg.shards)))  # forward, loss, backward
                sum_shards(training.learning, [gradients for gradients, _ in shards])
                terms = mean_terms([terms for _, terms in shards])
                take_step(run, training.learning, terms["total"], cfg, out_dir)
                course.stepped(terms)
                scores = course.checkpoint_if_due(training.keep)
                course.report(scores, out_dir / SHEET if scores is not None else None)
        except KeyboardInterrupt:
            stopped = "interrupted"
    scores = training.keep()
    result = TrainResult(
        stopped=stopped,
        step=run.step,
        seconds=run.seconds,
        images_per_s=course.images_per_s,
        loss=course.loss,
        scores=scores,
        encoder=out_dir / "encoder",
        decoders={name: out_dir / f"decoder-{name}" for name in training.personas},
        sheet=out_dir / SHEET,
    )
    write_json(out_dir / "report.json", asdict(result))
    return result


def _losses(networks: SwapNetworks, batch: Tensors, cfg: TrainConfig, *, encoder_learns: bool) -> dict[str, Tensor]:
    """Terms averaged over personas, the code term where the batch has second views, and ``total``."""
    with torch.set_grad_enabled(encoder_learns):
        code: Tensor = networks.encoder(batch.inputs.contiguous(memory_format=torch.channels_last))
    per_persona = []
    for k, (face, mask) in enumerate(networks.decode(code)):
        regions = losses.region_weights(batch.landmarks[k], cfg.network.output_size)
        per_persona.append(
            # The losses are element-wise and faster on plain layout; the copy costs less than it saves.
            losses.swap_losses(
                face.contiguous(), mask.contiguous(), batch.truths[k], batch.masks[k], regions, cfg.losses
            )
        )
    terms = {name: torch.stack([t[name] for t in per_persona]).mean() for name in per_persona[0]}
    if batch.second is not None and cfg.losses.code:
        other = networks.encoder(batch.second.contiguous(memory_format=torch.channels_last))
        terms["code"] = losses.code_consistency(code, other)
        terms["total"] = terms["total"] + cfg.losses.code * terms["code"]
    return terms


def _identity(
    cfg: TrainConfig, faceset: FaceSet, personas: Sequence[str], fixed_encoder: UniversalEncoder | None
) -> dict[str, Any]:
    """What must not change between the parts of a run."""
    weights = None if fixed_encoder is None else digest(fixed_encoder.state_dict().values())
    settings = lasting_settings(cfg, OPERATIONAL)
    if not cfg.network.mesh_points:  # runs that began before there was the field continue
        settings["network"] = {k: v for k, v in settings["network"].items() if k != "mesh_points"}
    return {"data": faceset.digest, "personas": list(personas), "fixed_encoder": weights, "config": settings}


def write_weights(
    networks: SwapNetworks, out_dir: Path, personas: Sequence[str], scores: Mapping[str, Score], about: dict[str, Any]
) -> None:
    """Encoder and decoders, each a file of its own; a decoder names the encoder that it belongs to."""
    path = checkpoint.save_encoder(out_dir / "encoder", networks.encoder, about)
    encoder_sha256 = json.loads(path.read_bytes())["sha256"]
    for k, name in enumerate(personas):
        facts = {**about, "persona": name, "encoder_sha256": encoder_sha256, "score": asdict(scores[name])}
        checkpoint.save_decoder(out_dir / f"decoder-{name}", networks.decoder(k), facts)


def _personas(faceset: FaceSet, wanted: Sequence[str] | None) -> list[str]:
    names = list(wanted) if wanted is not None else faceset.named("persona")
    if not names:
        raise TrainingError("the face set has no persona", hint="render at least one identity with the role persona")
    return names
