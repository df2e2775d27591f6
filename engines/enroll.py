"""Enrollment: a persona from some frames of one person, on a finished encoder and trunk, in minutes.

    encoder, trunk, people = ...                                   # of a universal run
    result = enroll(EnrollConfig(), faceset, "vera", encoder, trunk, people, Path("runs/vera"))
    decoder, _ = checkpoint.load_decoder(result.decoder)           # a plain PersonaDecoder

Nobody has pictures of a real person in another person's states, so the input is a crop of the person, or that crop with
somebody painted over it whom the trunk knows (see ``stand_ins``), and the truth is the crop. The encoder stays as it
is; what it leaves of the wearer in the code, the decoder learns to ignore. Relighting and jitter hit both alike,
everything that a camera spoils hits the input alone (see ``augment``).

How much may change depends on the number of frames (see ``adapt``). The held-out frames decide when it is enough: every
few steps the averaged weights are scored on them, the best are kept, and when several checks in a row bring nothing,
it ends. A folder is a run, as in ``train``: config.json, history.json (all checks), state/, encoder, decoder (the best
so far), sheet.png and report.json. The same call on the same folder continues.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from engines.adapt import Adaptation, Mode, best_start, check_people, mode_for
from engines.augment import AugmentConfig
from engines.checks import BestSoFar, Check, checks_in_vain
from engines.course import Course, ProgressCallback
from engines.distributed import interruptible
from engines.enroll_learner import Frames, LearnConfig, Learner, usable_frames
from engines.errors import SettingsError, TrainingError
from engines.faceset import FaceSet
from engines.film import FilmDecoder
from engines.loop import check_finite, claim_run, keep_freed_memory, set_rate, shard_threads, take_step, write_json
from engines.losses import LossWeights
from engines.network import UniversalEncoder
from engines.run_state import SHEET, STATE, digest, lasting_settings, new_run, resume_run, save_run
from engines.validation import Score


@dataclass(frozen=True, slots=True)
class EnrollConfig:
    """One enrollment."""

    mode: Literal["auto", "film", "lora", "full"] = "auto"
    """What may change; "auto" decides by the number of frames."""
    seed: int = 0
    """Decides every batch and the first low-rank factors."""
    steps: int | None = None
    """Length of the schedule in batches; None is the mode's own."""
    max_minutes: float | None = None
    """Length of the schedule in time, counted over interruptions; whichever of the two ends first ends the run."""
    batch: int = 16
    """Faces per step."""
    learning_rate: float | None = None
    """AdamW's rate after the warm-up, falling to 0 on a half cosine; None is the mode's own."""
    warmup_steps: int = 10
    """Steps of linear rise at the beginning."""
    ema: float = 0.98
    """Decay of the running average of what learns, which is what is scored and kept."""
    clip_norm: float = 5.0
    """Largest norm of the gradient; larger ones are scaled down."""
    rank: int = 8
    """Of the low-rank change in mode "lora"."""
    start: Literal["best", "mean"] = "best"
    """The vector to start from: of the people the one that reconstructs a few frames best, or their mean."""
    start_candidates: int = 64
    """At most so many people are tried, evenly chosen."""
    start_frames: int = 4
    """On so many frames."""
    held_out: float = 0.125
    """Share of the frames that decides when to stop, in blocks."""
    validation_faces: int = 24
    """At most so many of them are scored."""
    check_every: int = 25
    """Steps between two checks on the held-out frames."""
    patience: int = 6
    """Checks in a row without a gain after which it ends."""
    losses: LossWeights = field(default_factory=LossWeights)
    """How much each term counts; the term of codes has no effect here."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How the crops are disturbed."""
    points_hidden: float = 0.1
    """Share of faces whose mesh points the encoder does not get, where it takes any."""
    stand_in_share: float = 0.5
    """Share of faces that somebody else wears, painted by the trunk: see ``stand_ins``. 0: the person alone."""
    checkpoint_minutes: float = 0.5
    """Time between checkpoints, each with a contact sheet."""
    report_seconds: float = 1.0
    """Time between progress reports."""
    shards: int = 2
    """Parts of a batch that are learned side by side, one thread each; changing it changes the batches."""
    threads: int | None = None
    """How many of them at once; None is the number of processors."""
    device: str = "cpu"
    """Where networks run: "cpu" or "cuda"."""

    def __post_init__(self) -> None:
        if not 0 <= self.stand_in_share <= 1:
            raise SettingsError(f"{self.stand_in_share} of the faces worn by others", hint="use 0 to 1, about 0.5")
        if not 0 < self.held_out <= 0.5:
            raise SettingsError(f"cannot hold out {self.held_out} of the frames", hint="use about 0.1, at most 0.5")
        if min(self.check_every, self.patience, self.shards, self.validation_faces, self.start_frames) < 1:
            raise SettingsError("checks, patience, shards and numbers of frames are at least 1", hint="raise them")
        if self.batch < self.shards:
            raise SettingsError(f"{self.shards} shards of {self.batch} faces", hint="use a batch of at least one each")
        if self.steps is not None and self.steps < 1:
            raise SettingsError(f"{self.steps} steps", hint="train one or more, or leave steps out")


OPERATIONAL = (
    "steps", "max_minutes", "patience", "checkpoint_minutes", "report_seconds", "threads", "device",
)  # fmt: skip
"""Fields of EnrollConfig that may differ when a run is continued."""


@dataclass(frozen=True, slots=True)
class EnrollPlan:
    """What a config comes to for a number of frames."""

    mode: Mode
    steps: int
    learning_rate: float
    warmup_steps: int
    max_minutes: float | None


_OWN: Mapping[Mode, tuple[int, float]] = {"film": (200, 1e-2), "lora": (400, 5e-3), "full": (1000, 1e-3)}
"""Steps and rate of each mode."""


def plan_for(config: EnrollConfig, frames: int) -> EnrollPlan:
    """Mode, length and rate for so many usable frames."""
    mode: Mode = mode_for(frames) if config.mode == "auto" else config.mode
    steps, rate = _OWN[mode]
    return EnrollPlan(
        mode=mode,
        steps=config.steps if config.steps is not None else steps,
        learning_rate=config.learning_rate if config.learning_rate is not None else rate,
        warmup_steps=config.warmup_steps,
        max_minutes=config.max_minutes,
    )


Stopped = Literal["finished", "early", "interrupted"]


@dataclass(frozen=True, slots=True)
class EnrollResult:
    """How an enrollment ended. ``encoder`` and ``decoder`` are stems for ``checkpoint``."""

    stopped: Stopped
    """"early": the held-out frames had nothing more to gain."""
    identity: str
    mode: Mode
    frames: int
    """Usable ones."""
    held_out: int
    """Those of them that were never trained on."""
    start: int | None
    """Row of ``people`` that it started from; None for their mean, or for zero where there were none."""
    step: int
    best_step: int
    """Whose weights were kept."""
    seconds: float
    """Training time, checks included, summed over interruptions."""
    images_per_s: float
    score: Score
    """Of what was kept, on the held-out frames."""
    history: Sequence[Check]
    """Every check, the first one before anything was learned."""
    encoder: Path
    decoder: Path
    sheet: Path


def enroll(
    config: EnrollConfig,
    faceset: FaceSet,
    identity: str,
    encoder: UniversalEncoder,
    trunk: FilmDecoder,
    people: Tensor | None,
    out_dir: Path,
    progress: ProgressCallback | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> EnrollResult:
    """A decoder for ``identity`` from its frames in the set, with the trunk's people (K, F) to start from.

    An encoder that takes mesh points gets them where the set was read with extra "mesh". Continues the run in
    ``out_dir`` if there is one. SIGINT, SIGTERM and KeyboardInterrupt end the run with a checkpoint after the step.
    Encoder, trunk and people stay as they are. Raises DataError for too few usable frames or a damaged checkpoint,
    TrainingError for networks that do not fit each other, another run's folder and divergence (the last checkpoint
    stays), SettingsError for vectors of another trunk.
    """
    if encoder.sizes != trunk.sizes:
        raise TrainingError(f"the encoder is {encoder.sizes.tier}, the trunk {trunk.sizes.tier}, and sizes differ",
                            hint="take both from one universal run")  # fmt: skip
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise TrainingError("this machine has no usable NVIDIA GPU", hint='use the device "cpu"')
    if people is not None:
        check_people(trunk, people)
    frames = usable_frames(faceset, identity, config.held_out)
    plan = plan_for(config, frames.count)
    keep_freed_memory()
    torch.set_num_threads(1)
    run = _Enrollment(config, plan, frames, encoder, trunk, people, out_dir)
    run.resume(_run_identity(config, plan, faceset, identity, people, run.learner))
    return run.train(progress, clock)


class _Enrollment:
    """One run: what learns, what was best so far, and the folder that keeps both."""

    def __init__(
        self, config: EnrollConfig, plan: EnrollPlan, frames: Frames, encoder: UniversalEncoder, trunk: FilmDecoder,
        people: Tensor | None, out_dir: Path,
    ) -> None:  # fmt: skip
        self.config, self.plan, self.frames, self.out_dir = config, plan, frames, out_dir
        settings = {f.name: getattr(config, f.name) for f in fields(LearnConfig)}
        self.learner = learner = Learner(LearnConfig(**settings), frames, encoder, trunk, people)
        start, self.start = best_start(
            learner.trunk, people, learner.few_frames_loss(config.start_frames),
            _spread(0 if people is None or config.start == "mean" else people.shape[0], config.start_candidates),
        )  # fmt: skip
        person = Adaptation(plan.mode, learner.trunk, start, rank=config.rank, seed=config.seed)
        optimizer = torch.optim.AdamW(
            person.parameters(), lr=plan.learning_rate, weight_decay=0.0, fused=True, betas=(0.9, 0.99)
        )
        self.run = new_run(person, optimizer)
        self.best = BestSoFar(out_dir)
        self.identity: Mapping[str, Any] = {}

    def resume(self, identity: Mapping[str, Any]) -> None:
        """Continue what the folder holds; or start, with a first check."""
        self.identity = identity
        resume_run(self.run, self.out_dir / STATE, identity)
        if self.run.step:
            claim_run(self.out_dir, None)
            self.best.resume(self.run.step, torch.device(self.config.device))
            return
        claim_run(self.out_dir, {**asdict(self.config), "plan": asdict(self.plan)})
        self.check()

    def check(self) -> Check:
        """Score the averaged weights on the held-out frames and remember them if they are the best."""
        decoder = self.run.average.fold(self.learner.trunk)
        check = self.learner.check(decoder, self.run.step, self.run.seconds)
        check_finite([check.loss], self.run.step, self.out_dir)
        self.best.history.append(check)
        if self.best.check is None or check.loss < self.best.check.loss:
            self.best.keep(check, decoder)
        return check

    def keep(self) -> Path:
        """Write everything that continues the run, and the best decoder so far. Returns the contact sheet."""
        about = {
            "persona": self.frames.identity, "consent": self.frames.consent, "data": self.frames.digest,
            "mode": self.plan.mode, "frames": self.frames.count,
        }  # fmt: skip
        decoder = self.best.write(self.learner.encoder, about)
        self.learner.sheet(decoder, self.out_dir / SHEET)
        # Last: a kill before this line leaves the older state, and what is newer is written once more.
        save_run(self.run, self.out_dir / STATE, self.identity)
        return self.out_dir / SHEET

    def train(self, progress: ProgressCallback | None, clock: Callable[[], float]) -> EnrollResult:
        """Learn until the schedule or the patience is over."""
        config, run = self.config, self.run
        with shard_threads(config.threads) as pool, interruptible() as asked:
            course = Course(self.plan, config, run, clock, progress, asked)
            while (stopped := course.ended() or self._patience_over()) is None:
                set_rate(run.optimizer, course.next_rate())
                course.stepped(self._step(pool))
                check = self.check() if run.step % config.check_every == 0 or course.fraction >= 1 else None
                sheet = course.checkpoint_if_due(self.keep)
                course.report({self.frames.identity: check.score} if check else None, sheet)
        return self._finish(stopped, course)

    def _step(self, pool: ThreadPoolExecutor) -> dict[str, float]:
        """One step of the optimiser; the mean of the loss terms over the shards."""
        person = self.run.networks
        terms = self.learner.learn(person, pool, self.run.step)
        take_step(self.run, list(person.parameters()), terms["total"], self.config, self.out_dir)
        return terms

    def _patience_over(self) -> Literal["early"] | None:
        return "early" if checks_in_vain(self.best.history) >= self.config.patience else None

    def _finish(self, stopped: Stopped, course: Course) -> EnrollResult:
        """Write the last checkpoint and the report."""
        self.keep()
        check, _ = self.best.kept()
        result = EnrollResult(
            stopped=stopped, identity=self.frames.identity, mode=self.plan.mode, frames=self.frames.count,
            held_out=len(self.frames.held_out), start=self.start, step=self.run.step, best_step=check.step,
            seconds=self.run.seconds, images_per_s=course.images_per_s, score=check.score,
            history=tuple(self.best.history), encoder=self.out_dir / "encoder", decoder=self.out_dir / "decoder",
            sheet=self.out_dir / SHEET,
        )  # fmt: skip
        write_json(self.out_dir / "report.json", {**asdict(result), "unusable_frames": self.frames.unusable})
        return result


def _spread(count: int, most: int) -> Sequence[int]:
    """At most ``most`` of ``count`` rows, evenly chosen."""
    return range(0, count, max(1, -(-count // max(1, most))))


def _run_identity(
    config: EnrollConfig, plan: EnrollPlan, faceset: FaceSet, identity: str, people: Tensor | None, learner: Learner
) -> dict[str, Any]:
    """What must not change between the parts of a run."""
    return {
        "stage": "enroll",
        "data": faceset.digest,
        "identity": identity,
        "points": learner.frames.points is not None,
        "mode": plan.mode,
        "encoder": digest(learner.encoder.state_dict().values()),
        "trunk": digest(learner.trunk.state_dict().values()),
        "people": None if people is None else digest([people]),
        "config": lasting_settings(config, OPERATIONAL),
    }
