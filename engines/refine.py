"""The GAN stage: finished decoders become as sharp as the truth. Read ``refine`` and ``_Game.learn``.

Reconstruction alone answers uncertainty with the mean of what is possible, and a mean of textures is smooth. A critic
that sees the true picture of the same person in the same state (``discriminator``) asks for what averages away; the
reconstruction keeps the face where it is. The encoder stays as it is, so all personas still share it.

The run's folder is that of ``train``, with discriminator.{safetensors,json} beside the decoders. Weights are on disk
from the beginning (the ones that came in), and replaced only by ones that passed the checks of ``collapse``.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engines.augment import AugmentConfig, augment
from engines.collapse import CollapseLimits, remember_start, start_psnr_db, watch_scores, watch_step
from engines.course import Course, ProgressCallback, Stopped
from engines.discriminator import build_discriminator, discriminator_config, save_discriminator
from engines.errors import SettingsError
from engines.faceset import FaceSet
from engines.gan_losses import GanWeights
from engines.gan_step import Gradients, play
from engines.loop import (
    channels_last,
    check_finite,
    claim_run,
    keep_freed_memory,
    mean_terms,
    set_rate,
    shard_threads,
    sum_shards,
    write_json,
)
from engines.losses import LossWeights
from engines.network import PersonaDecoder, UniversalEncoder
from engines.pairs import PairedSet
from engines.run_state import (
    SHEET,
    STATE,
    Companion,
    SwapNetworks,
    digest,
    lasting_settings,
    new_run,
    resume_run,
    save_run,
    update_average,
)
from engines.train import write_weights
from engines.validation import Score, validate, validation_tensors

CRITIC = "discriminator"

STILL = AugmentConfig(
    shift_px=0, turn_deg=0, scale=0, input_shift_px=0, input_turn_deg=0, input_scale=0, occluder_chance=0
)
"""Nothing moves: a warp interpolates, and a blurred truth would teach blur. Light, noise and codec stay."""


@dataclass(frozen=True, slots=True)
class RefineConfig:
    """One run of the GAN stage. The networks' sizes come with the networks."""

    seed: int = 0
    """Decides the discriminator's first weights and every batch."""
    steps: int = 4000
    """Length of the schedule in batches."""
    max_minutes: float | None = None
    """Length of the schedule in time, counted over interruptions; whichever of the two ends first ends the run."""
    batch: int = 16
    """Input faces per step; each is decoded once per persona."""
    learning_rate: float = 2e-4
    """The decoders' rate after the warm-up; falls to 0 on a half cosine."""
    discriminator_rate: float = 4e-4
    """The critic's, on the same curve. Faster than the decoders', so that it is near its optimum (TTUR, Heusel et al.
    2017, arXiv 1706.08500)."""
    warmup_steps: int = 100
    """Steps of linear rise of both rates."""
    adversarial_warmup_steps: int = 400
    """Steps of linear rise of the adversarial weight: a fresh critic has nothing to say yet."""
    weight_decay: float = 1e-4
    """AdamW's decay of the decoders."""
    ema: float = 0.998
    """Decay of the running average of the decoders' weights, which is what is shipped."""
    clip_norm: float = 5.0
    """Largest norm of the decoders' gradient; larger ones are scaled down. Not of the critic's: a gradient penalty that
    comes every 16 steps has to be 16 times as loud."""
    self_fraction: float = 0.1
    """Share of inputs that show a persona itself instead of a wearer."""
    points_hidden: float = 0.1
    """Share of faces whose mesh points the encoder does not get, where it takes any."""
    losses: LossWeights = field(default_factory=LossWeights)
    """How much each term of the reconstruction counts."""
    gan: GanWeights = field(default_factory=GanWeights)
    """How much each term of the game counts."""
    collapse: CollapseLimits = field(default_factory=CollapseLimits)
    """When the game is lost."""
    augment: AugmentConfig = STILL
    """How the crops are disturbed."""
    spectral_norm: bool = False
    """Spectral normalisation of the critic, beside its gradient penalties."""
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
    device: str = "cpu"
    """Where the networks learn: "cpu", "cuda" or "cuda:1". On CUDA in bfloat16, best with one shard."""

    def __post_init__(self) -> None:
        if self.batch % self.shards or self.gan.penalty_every < 1 or self.learning_rate <= 0:
            raise SettingsError(
                f"a batch of {self.batch} in {self.shards} shards, penalties every {self.gan.penalty_every} steps,"
                f" learning rate {self.learning_rate}",
                hint="the batch must be a multiple of the shards, penalty_every at least 1, the rate above 0",
            )


OPERATIONAL = ("steps", "max_minutes", "checkpoint_minutes", "report_seconds", "threads", "validation_faces", "device")
"""Fields of RefineConfig that may differ when a run is continued."""


@dataclass(frozen=True, slots=True)
class RefineResult:
    """How a run ended. ``encoder``, ``decoders`` and ``discriminator`` are stems of weights."""

    stopped: Stopped
    step: int
    seconds: float
    """Training time, summed over interruptions."""
    images_per_s: float
    loss: Mapping[str, float]
    """Terms and total, smoothed."""
    start_psnr_masked_db: Mapping[str, float]
    """By persona, before the stage."""
    scores: Mapping[str, Score]
    """By persona, after it."""
    encoder: Path
    decoders: Mapping[str, Path]
    discriminator: Path
    sheet: Path


def refine(
    config: RefineConfig,
    faceset: FaceSet,
    encoder: UniversalEncoder,
    decoders: Mapping[str, PersonaDecoder],
    out_dir: Path,
    progress: ProgressCallback | None = None,
    *,
    people: Mapping[str, Tensor] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> RefineResult:
    """Train the personas' decoders against a discriminator; all are copied, none is changed.

    ``decoders`` are by the names of their personas in ``faceset``, whose crops are the true pictures. Without wearers
    in the set (an enrolled person), a persona's own crops are the input as well. An encoder that takes mesh points gets
    them where the set was read with the extra "mesh". ``people`` are the vectors (F,) that tell the critic who is
    meant, for example FiLM's; without them it gets a one-hot number.

    Continues the run in ``out_dir`` if there is one. KeyboardInterrupt ends the run with a checkpoint. Raises
    TrainingError when the game collapses or a loss is no longer a number (the last good weights stay in the folder) or
    the folder holds another run, SettingsError for decoders or vectors that do not fit, DataError when the set lacks
    faces or the checkpoint is damaged.
    """
    game = _Game(config, faceset, encoder, decoders, people, out_dir)
    cfg, run = config, game.run
    if not start_psnr_db(run.facts):
        game.keep()
    course = Course(cfg, cfg, run, clock, progress)
    stopped: Stopped = "finished"
    with shard_threads(cfg.threads) as pool:
        try:
            while course.fraction < 1:
                rate = course.next_rate()
                set_rate(run.optimizer, rate)
                set_rate(game.critic_optimizer, rate * cfg.discriminator_rate / cfg.learning_rate)
                game.critic.advance()
                shards = list(pool.map(game.learn, range(cfg.shards)))  # forward, losses, backward, of both players
                terms = mean_terms([shard.values for shard in shards])
                game.step(shards, terms)
                course.stepped(terms)
                scores = course.checkpoint_if_due(game.keep)
                course.report(scores, out_dir / SHEET if scores is not None else None)
        except KeyboardInterrupt:
            stopped = "interrupted"
    scores = game.keep()
    result = RefineResult(
        stopped=stopped,
        step=run.step,
        seconds=run.seconds,
        images_per_s=course.images_per_s,
        loss=course.loss,
        start_psnr_masked_db=start_psnr_db(run.facts),
        scores=scores,
        encoder=out_dir / "encoder",
        decoders={name: out_dir / f"decoder-{name}" for name in game.personas},
        discriminator=out_dir / CRITIC,
        sheet=out_dir / SHEET,
    )
    write_json(out_dir / "report.json", asdict(result))
    return result


class _Game:
    """One run: both players, what they are shown, and the folder that keeps them."""

    def __init__(
        self, cfg: RefineConfig, faceset: FaceSet, encoder: UniversalEncoder, decoders: Mapping[str, PersonaDecoder],
        people: Mapping[str, Tensor] | None, out_dir: Path,
    ) -> None:  # fmt: skip
        self.cfg, self.out_dir, self.sizes, self.data = cfg, out_dir, encoder.sizes, faceset.digest
        self.personas = personas = list(decoders)
        self.persons = _persons(personas, people).to(cfg.device)
        _check_sizes(encoder, decoders)
        source = _with_wearers(faceset, personas)
        split: dict[str, Any] = {
            "held_out_every": cfg.held_out_every, "state_block": cfg.state_block,
            "mesh_points": _uses_mesh(faceset, encoder),
        }  # fmt: skip
        self.pairs = PairedSet(source, personas, "train", **split)
        self.held_out = validation_tensors(
            PairedSet(source, personas, "val", **split), encoder.sizes, cfg.validation_faces
        )
        keep_freed_memory()
        torch.set_num_threads(1)
        networks = copy.deepcopy(SwapNetworks(encoder, list(decoders.values()))).to(cfg.device)
        networks.encoder.requires_grad_(requires_grad=False)
        networks.decoders.requires_grad_(requires_grad=True)
        critic_sizes = discriminator_config(encoder.sizes, self.persons.shape[1], spectral_norm=cfg.spectral_norm)
        self.critic = build_discriminator(critic_sizes, seed=cfg.seed).to(cfg.device)
        channels_last(networks)
        channels_last(self.critic)
        self.learning = list(networks.decoders.parameters())
        self.judging = list(self.critic.parameters())
        optimizer = torch.optim.AdamW(
            self.learning, lr=cfg.learning_rate, betas=(0.5, 0.99), weight_decay=cfg.weight_decay, fused=True
        )
        # No momentum: the critic answers the decoders of now, not of ten steps ago.
        self.critic_optimizer = torch.optim.AdamW(
            self.judging, lr=cfg.discriminator_rate, betas=(0.0, 0.99), weight_decay=0, fused=True
        )
        self.run = new_run(networks, optimizer, {CRITIC: Companion(self.critic, self.critic_optimizer)})
        self.identity = _identity(cfg, faceset, decoders, encoder, self.persons)
        resume_run(self.run, out_dir / STATE, self.identity)
        claim_run(out_dir, asdict(cfg))

    def learn(self, shard: int) -> Gradients:
        """Gradients and terms of one part of the batch of this step."""
        cfg, step = self.cfg, self.run.step
        # It depends on seed, step and shard alone, so a continued run sees what an uninterrupted one would have seen.
        rng = np.random.default_rng((cfg.seed, step, shard))
        drawn = self.pairs.draw(rng, cfg.batch // cfg.shards, self_fraction=cfg.self_fraction)
        batch = augment(
            drawn, cfg.augment, rng, margin=self.pairs.faceset.info.margin,
            input_size=self.sizes.input_size, output_size=self.sizes.output_size,
        )  # fmt: skip
        if batch.points is not None:
            batch.points[torch.from_numpy(rng.random(len(batch.points)) < cfg.points_hidden)] = torch.nan
        return play(
            self.run.networks, self.critic, batch, self.persons, cfg.losses, cfg.gan, shards=cfg.shards,
            rise=min(1.0, step / max(1, cfg.adversarial_warmup_steps)), penalise=step % cfg.gan.penalty_every == 0,
        )  # fmt: skip

    def step(self, shards: Sequence[Gradients], terms: Mapping[str, float]) -> None:
        """Move both players at once. Raises TrainingError, before they move, for no numbers or a lost game."""
        cfg, run = self.cfg, self.run
        sum_shards(self.learning, [shard.decoders for shard in shards])
        sum_shards(self.judging, [shard.critic for shard in shards])
        clips = ((self.learning, cfg.clip_norm), (self.judging, math.inf))
        norms = [float(nn.utils.clip_grad_norm_(weights, largest)) for weights, largest in clips]
        check_finite((*terms.values(), *norms), run.step, self.out_dir)
        watch_step(run.facts, terms["discriminator"], terms["variety"], cfg.collapse)
        self.critic_optimizer.step()
        run.optimizer.step()
        run.step += 1
        update_average(run, cfg.ema)

    def keep(self) -> Mapping[str, Score]:
        """Write a checkpoint; returns what it scores. That comes first: a collapsed state replaces nothing."""
        run = self.run
        average = copy.deepcopy(run.average).cpu()
        scores = validate(average, self.held_out, self.personas, self.out_dir / SHEET)
        psnr_db = {name: score.psnr_masked_db for name, score in scores.items()}
        remember_start(run.facts, psnr_db)
        watch_scores(run.facts, psnr_db, self.cfg.collapse)
        save_run(run, self.out_dir / STATE, self.identity)
        about = {"step": run.step, "data": self.data, "stage": "refine"}
        write_weights(average, self.out_dir, self.personas, scores, about)
        save_discriminator(self.out_dir / CRITIC, self.critic, {**about, "personas": self.personas})
        return scores


def _persons(personas: Sequence[str], people: Mapping[str, Tensor] | None) -> Tensor:
    """(K, F) vectors in the order of the personas."""
    if not personas:
        raise SettingsError("there is no decoder to refine", hint="give at least one persona's decoder")
    if people is None:
        return torch.eye(len(personas))
    shapes = {tuple(people[name].shape) for name in personas if name in people}
    if not set(personas) <= set(people) or len(shapes) != 1 or len(next(iter(shapes))) != 1:
        raise SettingsError(
            f"the vectors of {', '.join(sorted(people))} do not serve {', '.join(personas)}",
            hint="give every persona one vector (F,), all of one length",
        )
    return torch.stack([people[name].detach().float() for name in personas])


def _check_sizes(encoder: UniversalEncoder, decoders: Mapping[str, PersonaDecoder]) -> None:
    for name, decoder in decoders.items():
        # The mesh points are the encoder's business: a decoder sees the code only.
        if replace(decoder.sizes, mesh_points=encoder.sizes.mesh_points) != encoder.sizes:
            raise SettingsError(
                f"the decoder of {name} is {decoder.sizes.tier}, the encoder {encoder.sizes.tier}",
                hint="use decoders that were trained on this encoder",
            )


def _uses_mesh(faceset: FaceSet, encoder: UniversalEncoder) -> bool:
    """Whether the encoder takes points and the set was read with them; the picture alone will do too."""
    return encoder.sizes.mesh_points > 0 and all("mesh" in faces.extras for faces in faceset.faces.values())


def _with_wearers(faceset: FaceSet, personas: Sequence[str]) -> FaceSet:
    """The set itself, or, where it has no wearers, with the personas' own crops as wearers."""
    if faceset.named("wearer"):
        return faceset
    present = [p for p in personas if p in faceset.faces]
    own = {f"{p} (own)": replace(faceset.faces[p], role="wearer", split="train") for p in present}
    return replace(faceset, faces={**faceset.faces, **own})


def _identity(
    cfg: RefineConfig,
    faceset: FaceSet,
    decoders: Mapping[str, PersonaDecoder],
    encoder: UniversalEncoder,
    persons: Tensor,
) -> dict[str, Any]:
    """What must not change between the parts of a run."""
    weights = [t for network in (encoder, *decoders.values()) for t in network.state_dict().values()]
    return {
        "data": faceset.digest, "personas": list(decoders), "start": digest([persons, *weights]),
        "config": lasting_settings(cfg, OPERATIONAL),
    }  # fmt: skip
