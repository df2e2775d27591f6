"""Polishing: the decoder that a persona's vector folds to, tuned on the persona's own exact swap pairs.

    run = load_universal(Path("runs/universal"))
    result = polish(PolishConfig(), Path("data"), "vera", run, Path("runs/vera"))
    decoder, _ = checkpoint.load_decoder(result.decoder)

The trunk is one for everybody; a decoder of one's own has all its weights for one face. Encoder and vector stay as they
are. A sample is a wearer in state s, disturbed as in the universal stage, and the render of the persona in state s. The
averaged weights are scored on held-out wearers in held-out states every few steps, and the best are kept: in the
held-out loss, and only where neither masked PSNR nor mask IoU is below the fold's. So the result is never worse than
what it started from.

A folder is a run: config.json, history.json (all checks), state/, encoder, decoder (the best so far), sheet.png and
report.json. The same call on the same folder continues.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engines import losses
from engines.augment import AugmentConfig, Tensors
from engines.checks import BestSoFar, Check
from engines.course import Course, ProgressCallback, Stopped
from engines.distributed import interruptible
from engines.errors import SettingsError, TrainingError
from engines.loop import (
    channels_last,
    check_finite,
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
from engines.network import PersonaDecoder, UniversalEncoder
from engines.polish_data import PersonaPairs
from engines.run_folder import Universal, check_named
from engines.run_state import SHEET, STATE, Run, lasting_settings, resume_run, save_run
from engines.universal_data import Examples, PointsNoise, join
from engines.universal_networks import persona_decoder
from engines.validation import Score, score_faces, write_sheet

_AT_ONCE = 32
"""Faces that are scored together."""


@dataclass(frozen=True, slots=True)
class PolishConfig:
    """One persona's polish."""

    seed: int = 0
    """Decides every batch; in a set that marks nobody as held out also who is, then it must be the universal run's."""
    steps: int = 4000
    """Length of the schedule in batches."""
    max_minutes: float | None = None
    """Length of the schedule in time, counted over interruptions; whichever of the two ends first ends the run."""
    batch: int = 32
    """Pairs per step."""
    learning_rate: float = 5e-4
    """AdamW's rate after the warm-up, falling to 0 on a half cosine; half of the universal stage's: it begins good."""
    warmup_steps: int = 50
    """Steps of linear rise at the beginning."""
    weight_decay: float = 0.0
    """AdamW's decay; towards zero would be away from the trunk."""
    ema: float = 0.995
    """Decay of the running average of the weights, which is what is scored and kept."""
    clip_norm: float = 5.0
    """Largest norm of the gradient; larger ones are scaled down."""
    self_fraction: float = 0.1
    """Share of pairs in which the persona is its own wearer."""
    losses: LossWeights = field(default_factory=lambda: LossWeights(code=0.0))
    """The terms of the swap loss; ``code`` has no effect."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How the crops are disturbed; never mirrored."""
    points: PointsNoise = field(default_factory=PointsNoise)
    """How the mesh points are disturbed, and how often points or picture are missing."""
    held_out: float = 0.1
    """Share of people and of states for validation only, where the set marks none; then the universal run's."""
    validation_faces: int = 128
    """At most so many held-out pairs are scored."""
    check_every: int = 200
    """Steps between two checks on them."""
    checkpoint_minutes: float = 2.0
    """Time between checkpoints, each with a contact sheet."""
    report_seconds: float = 1.0
    """Time between progress reports."""
    shards: int = 2
    """Parts of a batch that are learned side by side, one thread each; changing it changes the batches."""
    threads: int | None = None
    """How many of them at once; None is the number of processors."""
    cache_gib: float = 1.0
    """Memory for decoded pictures: 3,000 of side 240 fit into 0.7."""
    device: str = "cpu"
    """Where networks run: "cpu" or "cuda"."""

    def __post_init__(self) -> None:
        if self.augment.flip_chance:
            raise SettingsError("polishing learns no mirror images", hint="set augment.flip_chance to 0")
        if min(self.steps, self.shards, self.check_every, self.validation_faces) < 1:
            raise SettingsError("steps, shards, checks and validation faces are at least 1", hint="raise them")
        if self.batch < 1 or self.batch % self.shards:
            raise SettingsError(
                f"a batch of {self.batch} cannot be cut into {self.shards} equal parts",
                hint="make batch a multiple of shards",
            )


OPERATIONAL = ("steps", "max_minutes", "checkpoint_minutes", "report_seconds", "threads", "cache_gib", "device")
"""Fields of PolishConfig that may differ when a run is continued."""


@dataclass(frozen=True, slots=True)
class PolishResult:
    """How a polish ended. ``encoder`` and ``decoder`` are stems for ``checkpoint``."""

    stopped: Stopped
    persona: str
    step: int
    best_step: int
    """Whose weights were kept; 0 is the fold itself."""
    seconds: float
    """Training time, checks included, summed over interruptions."""
    images_per_s: float
    start: Score
    """Of the fold, on held-out wearers in held-out states."""
    score: Score
    """Of what was kept, on the same pairs."""
    history: Sequence[Check]
    """Every check, the first one before anything was learned."""
    encoder: Path
    decoder: Path
    sheet: Path


def polish(
    config: PolishConfig,
    faceset_folder: Path,
    persona: str,
    universal: Universal,
    out_dir: Path,
    progress: ProgressCallback | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> PolishResult:
    """Tune the decoder of one trained persona of a universal run, on the set that the run learned from.

    Continues the run in ``out_dir`` if there is one. SIGINT, SIGTERM and KeyboardInterrupt end it with a checkpoint
    after the step. Raises DataError for a persona that run or set do not have or a damaged checkpoint, TrainingError
    for another run's folder, a missing GPU, and divergence (the last checkpoint stays).
    """
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise TrainingError("this machine has no usable NVIDIA GPU", hint='use the device "cpu"')
    check_named(persona, universal.people.names, faceset_folder)
    if config.device == "cpu":
        keep_freed_memory()
    torch.set_num_threads(1)
    run = _Polish(config, faceset_folder, persona, universal, out_dir)
    run.resume()
    return run.train(progress, clock)


class _Polish:
    """One run: what learns, what was best so far, and the folder that keeps both."""

    def __init__(self, config: PolishConfig, folder: Path, persona: str, universal: Universal, out_dir: Path) -> None:
        self.config, self.persona, self.out_dir = config, persona, out_dir
        self.device = torch.device(config.device)
        sizes = universal.encoder.sizes
        sides: dict[str, Any] = {"seed": config.seed, "held_out": config.held_out}
        cache_bytes = round(config.cache_gib * 2**30)
        self.pairs = PersonaPairs(folder, "train", sizes, persona, **sides, cache_bytes=cache_bytes)
        unseen = PersonaPairs(folder, "unseen", sizes, persona, **sides)
        self.held_out = unseen.every_own(config.validation_faces)
        self.encoder = _frozen(universal.encoder).to(self.device)
        vector = universal.people.vectors[universal.people.names.index(persona)]
        decoder = persona_decoder(universal.trunk, vector).requires_grad_().to(self.device)
        channels_last(self.encoder)
        channels_last(decoder)
        self.learning = list(decoder.parameters())
        optimizer = torch.optim.AdamW(
            self.learning, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True, betas=(0.9, 0.99)
        )
        self.run = Run(decoder, _frozen(decoder), optimizer)
        self.codes = codes(self.encoder, self.held_out)
        self.best = BestSoFar(out_dir)
        self.identity: dict[str, Any] = {
            "stage": "polish", "data": self.pairs.faces.digest, "persona": persona,
            "trunk": universal.people.meta.get("trunk_sha256"), "people": universal.people.meta.get("sha256"),
            "config": lasting_settings(config, OPERATIONAL),
        }  # fmt: skip

    def resume(self) -> None:
        """Continue what the folder holds; or start, with a check of the fold."""
        resume_run(self.run, self.out_dir / STATE, self.identity)
        claim_run(self.out_dir, asdict(self.config))
        if self.run.step:
            self.best.resume(self.run.step, self.device)
        else:
            self.check()

    def check(self) -> Check:
        """Score the averaged weights on the held-out pairs, and remember them if they are the best."""
        face, mask = decoded(self.run.average, self.codes)
        loss = float(self._terms(face, mask, self.held_out)["total"])
        score = scored(face, mask, self.held_out)
        check_finite([loss], self.run.step, self.out_dir)
        check = Check(self.run.step, self.run.seconds, loss, **asdict(score))
        self.best.history.append(check)
        if self.best.check is None or self._better(check, self.best.check):
            self.best.keep(check, _frozen(self.run.average))
        return check

    def _better(self, check: Check, best: Check) -> bool:
        fold = self.best.history[0]
        no_worse = check.psnr_masked_db >= fold.psnr_masked_db and check.mask_iou >= fold.mask_iou
        return check.loss < best.loss and no_worse

    def keep(self) -> Path:
        """Write everything that continues the run, and the best decoder so far. Returns the contact sheet."""
        decoder = self.best.write(self.encoder, {"persona": self.persona, "data": self.pairs.faces.digest})
        face, mask = decoded(decoder, self.codes)
        write_sheet(self.out_dir / SHEET, [(face, torch.sigmoid(mask))], _truths(self.held_out))
        # Last: a kill before this line leaves the older state, and what is newer is written once more.
        save_run(self.run, self.out_dir / STATE, self.identity)
        return self.out_dir / SHEET

    def train(self, progress: ProgressCallback | None, clock: Callable[[], float]) -> PolishResult:
        """Learn until the schedule is over."""
        config, run = self.config, self.run
        with shard_threads(config.threads) as pool, interruptible() as asked:
            course = Course(config, config, run, clock, progress, asked)
            while (stopped := course.ended()) is None:
                set_rate(run.optimizer, course.next_rate())
                course.stepped(self._step(pool))
                check = self.check() if run.step % config.check_every == 0 or course.fraction >= 1 else None
                sheet = course.checkpoint_if_due(self.keep)
                course.report({self.persona: check.score} if check else None, sheet)
        return self._finish(stopped, course)

    def _step(self, pool: ThreadPoolExecutor) -> dict[str, float]:
        """One step of the optimiser; the mean of the loss terms over the shards."""
        parts = range(self.config.shards)
        if self.device.type == "cpu":
            # Each thread does a part from cutting crops to gradients on its own: see ``shard_threads``.
            learned = list(pool.map(lambda part: self._learn(self._draw(part), 1 / self.config.shards), parts))
        else:
            learned = [self._learn(join(list(pool.map(self._draw, parts))).on(self.device), 1.0)]
        sum_shards(self.learning, [gradients for gradients, _ in learned])
        terms = mean_terms([terms for _, terms in learned])
        take_step(self.run, self.learning, terms["total"], self.config, self.out_dir)
        return terms

    def _finish(self, stopped: Stopped, course: Course) -> PolishResult:
        """Write the last checkpoint and the report."""
        self.keep()
        check, _ = self.best.kept()
        result = PolishResult(
            stopped=stopped, persona=self.persona, step=self.run.step, best_step=check.step, seconds=self.run.seconds,
            images_per_s=course.images_per_s, start=self.best.history[0].score, score=check.score,
            history=tuple(self.best.history), encoder=self.out_dir / "encoder", decoder=self.out_dir / "decoder",
            sheet=self.out_dir / SHEET,
        )  # fmt: skip
        write_json(self.out_dir / "report.json", asdict(result))
        return result

    def _draw(self, part: int) -> Examples:
        config = self.config
        return self.pairs.draw_own(
            self.run.step, part, config.batch // config.shards, config.augment, config.points,
            self_fraction=config.self_fraction,
        )  # fmt: skip

    def _learn(self, batch: Examples, share: float) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Gradients and terms of ``share`` of the batch."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            face, mask = self.run.networks(codes(self.encoder, batch))
        terms = self._terms(face.float(), mask.float(), batch)
        gradients = torch.autograd.grad(terms["total"] * share, self.learning)
        return gradients, {name: term.detach() for name, term in terms.items()}

    def _terms(self, face: Tensor, mask: Tensor, batch: Examples) -> dict[str, Tensor]:
        regions = losses.region_weights(batch.landmarks, batch.truths.shape[-1])
        # The losses are element-wise and faster on plain layout; the copy costs less than it saves.
        return losses.swap_losses(
            face.contiguous(), mask.contiguous(), batch.truths, batch.masks, regions, self.config.losses
        )


@torch.no_grad()
def codes(encoder: UniversalEncoder, faces: Examples) -> Tensor:
    """(N, C) codes of the wearers, on the encoder's device."""
    device = next(encoder.parameters()).device
    found = []
    for start in range(0, len(faces.inputs), _AT_ONCE):
        some = faces.each(lambda t, a=start: t[a : a + _AT_ONCE].to(device))  # type: ignore[misc]
        inputs = some.inputs.contiguous(memory_format=torch.channels_last)
        found.append(encoder(inputs, some.points, some.present))
    return torch.cat(found)


@torch.no_grad()
def decoded(decoder: PersonaDecoder, code: Tensor) -> tuple[Tensor, Tensor]:
    """Faces (N, 3, T, T) and mask logits (N, 1, T, T) of codes (N, C), on the processor."""
    parts = [decoder(some) for some in torch.split(code, _AT_ONCE)]
    faces, masks = (torch.cat([part.cpu().contiguous() for part in side]) for side in zip(*parts, strict=True))
    return faces, masks


def scored(face: Tensor, mask_logits: Tensor, faces: Examples) -> Score:
    """How good results of ``decoded`` are, against the truths of ``faces``."""
    return score_faces(face, torch.sigmoid(mask_logits), _truths(faces), 0)


def _truths(faces: Examples) -> Tensors:
    return Tensors(faces.inputs, faces.truths[None], faces.masks[None], faces.landmarks[None])


def _frozen(network: Any) -> Any:
    """A copy that does not learn."""
    return copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
