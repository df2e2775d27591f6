"""One person's frames, and what a step of enrollment does with them: cut, encode, decode, compare, differentiate."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engines import losses
from engines.adapt import Adaptation
from engines.augment import NEUTRAL, AugmentConfig, Tensors, augment
from engines.checks import Check
from engines.errors import DataError
from engines.faceset import Faces, FaceSet
from engines.faceset_codec import I64
from engines.film import FilmDecoder
from engines.loop import channels_last, mean_terms
from engines.losses import LossWeights
from engines.mesh_subset import MESH_SUBSET
from engines.network import PersonaDecoder, UniversalEncoder
from engines.pairs import Batch
from engines.stand_ins import StandIns, paint
from engines.types import F32
from engines.validation import score_faces, write_sheet

LEAST_FRAMES = 4
"""Fewer usable frames cannot be split into some to learn from and some to stop by."""
LEAST_MASK = 0.02
"""A frame whose mask covers a smaller share of the crop shows no face."""
_AT_ONCE = 32
HELD_OUT_BLOCK = 8
"""Neighbouring frames of a clip look alike, so they are held out in blocks of about so many."""


@dataclass(frozen=True, slots=True)
class Frames:
    """The usable frames of one person, in the order of their states."""

    identity: str
    faces: Faces
    truths: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    """(N, size, size, 4): crops with their masks as fourth channel, so that one warp cuts both."""
    points: F32 | None
    """(N, P, 2) mesh points in pixels of the stored crops, where the set was read with them."""
    training: I64
    """Rows to learn from."""
    held_out: I64
    """Rows to stop by."""
    margin: float
    consent: str
    digest: str
    """Of the set."""
    unusable: int
    """Frames of the person that were left out: no face in the mask, or landmarks that are no numbers."""

    @property
    def count(self) -> int:
        """N"""
        return len(self.truths)

    def batch(self, rows: I64, *, with_points: bool) -> Batch:
        """These frames as inputs and as their own truths."""
        truths = self.truths[rows]
        return Batch(
            states=self.faces.states[rows],
            wearers=[self.identity] * len(rows),
            inputs=np.ascontiguousarray(truths[..., :3]),
            truths=truths[None],
            landmarks=self.faces.landmarks[rows][None],
            points=self.points[rows] if with_points and self.points is not None else None,
        )


def held_out_rows(count: int, share: float) -> I64:
    """Which of ``count`` consecutive frames are held out, rising: about ``share`` of them, never all.

    The frames are cut into sections so long that the share of one is a block, and of each the last ones are held out:
    every part of a recording is represented, and few held-out frames have a neighbour that is learned from.
    """
    sections = max(1, round(share * count / HELD_OUT_BLOCK))
    rows = [part[-max(1, round(share * len(part))) :] for part in np.array_split(np.arange(count), sections)]
    return np.concatenate(rows).astype(np.int64)


def usable_frames(faceset: FaceSet, identity: str, share: float) -> Frames:
    """The frames of one person, with ``share`` of them held out.

    Raises DataError when the set has no such person, or fewer than LEAST_FRAMES frames that show a face.
    """
    if identity not in faceset.faces:
        known = ", ".join(sorted(faceset.faces)[:8]) or "nobody"
        raise DataError(f"the face set has no frames of {identity!r}", hint=f"it shows {known}")
    stored = faceset.faces[identity]
    shows = (stored.masks > 127).mean(axis=(1, 2)) >= LEAST_MASK
    shows &= np.isfinite(stored.landmarks).all(axis=(1, 2))
    rows = np.flatnonzero(shows)[np.argsort(stored.states[shows], kind="stable")]
    if len(rows) < LEAST_FRAMES:
        of_all = "" if len(rows) == len(stored.states) else f" of {len(stored.states)}"
        raise DataError(
            f"{identity} has {len(rows)} usable frames{of_all}, enrollment needs at least {LEAST_FRAMES}",
            hint="record a few more frames that show the whole face; 8 give a likeness, 300 a good one",
        )
    mesh = stored.extras.get("mesh")
    faces = Faces(
        identity, stored.role, stored.split, stored.states[rows], stored.crops[rows], stored.masks[rows],
        stored.landmarks[rows], stored.pose[rows],
    )  # fmt: skip
    held_out = held_out_rows(len(rows), share)
    return Frames(
        identity=identity,
        faces=faces,
        truths=np.concatenate([faces.crops, faces.masks[..., None]], axis=3),
        points=None if mesh is None else mesh[rows][:, MESH_SUBSET].astype(np.float32),
        training=np.setdiff1d(np.arange(len(rows)), held_out).astype(np.int64),
        held_out=held_out,
        margin=faceset.info.margin,
        consent=faceset.info.consent,
        digest=faceset.digest,
        unusable=len(stored.states) - len(rows),
    )


@dataclass(frozen=True, slots=True)
class LearnConfig:
    """What decides a step's batch and its loss."""

    batch: int
    seed: int
    shards: int
    losses: LossWeights
    augment: AugmentConfig
    points_hidden: float
    """Share of faces whose mesh points the encoder does not get."""
    validation_faces: int
    """At most so many held-out frames are scored."""
    device: str
    stand_in_share: float = 0.0
    """Share of faces that somebody else wears: see ``stand_ins``."""


class Learner:
    """Frozen encoder and trunk, one plain decoder that takes the weights of the moment, and the frames.

    Encoder and trunk are copies. With ``people`` (K, F) of the trunk, they stand in for the person in some inputs.
    """

    def __init__(
        self, config: LearnConfig, frames: Frames, encoder: UniversalEncoder, trunk: FilmDecoder,
        people: Tensor | None = None,
    ) -> None:  # fmt: skip
        self.config, self.frames = config, frames
        self.device = torch.device(config.device)
        self.encoder = copy.deepcopy(encoder).eval().requires_grad_(requires_grad=False).to(self.device)
        self.trunk = copy.deepcopy(trunk).eval().requires_grad_(requires_grad=False).to(self.device)
        self.decoder = copy.deepcopy(self.trunk.trunk)
        channels_last(self.encoder)
        channels_last(self.decoder)
        self.sizes = encoder.sizes
        self._held_out: tuple[Tensors, Tensor] | None = None
        self._worn: tuple[Tensors, Tensor] | None = None
        self.stand_ins = None if people is None or not config.stand_in_share else self._paint(people.detach().float())

    def learn(self, person: Adaptation, pool: ThreadPoolExecutor, step: int) -> dict[str, float]:
        """Gradients of what learns, in its ``grad``, from the batch of a step; the mean of the terms over the shards.

        The batch depends on seed, step and shard alone, so a continued run sees what an uninterrupted one would have.
        """
        weights = person.weights(self.trunk)
        moving = [name for name, weight in weights.items() if weight.requires_grad]
        mine = dict(self.decoder.named_parameters())
        with torch.no_grad():
            for name, weight in weights.items():
                mine[name].copy_(weight).requires_grad = name in moving
        learned = [mine[name] for name in moving]
        if self.device.type == "cpu":
            # One operation on two threads waits at every end for the slower one: each thread does a part on its own.
            parts = list(pool.map(lambda shard: self._gradients(self._draw(step, shard), learned), self._shards()))
        else:
            drawn = pool.map(lambda shard: self._draw(step, shard), self._shards())
            parts = [self._gradients(faces, learned) for faces in drawn]

        sums = [
            torch.stack(gradients).sum(dim=0).contiguous() for gradients in zip(*(g for g, _ in parts), strict=True)
        ]
        person.zero_grad(set_to_none=True)
        torch.autograd.backward([weights[name] for name in moving], sums)
        return mean_terms([terms for _, terms in parts])

    def check(self, decoder: PersonaDecoder, step: int, seconds: float) -> Check:
        """Score a decoder on the held-out frames, undisturbed.

        The loss, which decides, is the mean of that on the frames themselves and on stand-ins in them, where there are
        any; the score is on the frames themselves.
        """
        faces, code = self._held_out_faces()
        face, mask = self._decode(decoder, code)
        loss = float(self._terms(face, mask, faces)["total"])
        if self.stand_ins is not None:
            worn, worn_code = self._worn_faces(self.stand_ins)
            loss = (loss + float(self._terms(*self._decode(decoder, worn_code), worn)["total"])) / 2
        score = score_faces(face, torch.sigmoid(mask), faces, 0)
        return Check(step, seconds, loss, score.psnr_masked_db, score.mask_iou, score.ssim, score.sharpness_ratio)

    def sheet(self, decoder: PersonaDecoder, path: Path) -> None:
        """Write the contact sheet of held-out frames: input, result, truth."""
        faces, code = self._held_out_faces()
        face, mask = self._decode(decoder, code)
        write_sheet(path, [(face, torch.sigmoid(mask))], faces)

    def few_frames_loss(self, count: int) -> Callable[[PersonaDecoder], float]:
        """A function that gives a decoder's loss on ``count`` frames that are learned from, evenly chosen."""
        training = self.frames.training
        rows = training[np.linspace(0, len(training) - 1, min(count, len(training))).astype(int)]
        faces, code = self._undisturbed(rows)
        return lambda decoder: float(self._terms(*self._decode(decoder, code), faces)["total"])

    def _shards(self) -> range:
        return range(self.config.shards)

    def _draw(self, step: int, shard: int) -> Tensors:
        config, frames = self.config, self.frames
        rng = np.random.default_rng((config.seed, step, shard))
        rows = frames.training[rng.integers(len(frames.training), size=config.batch // config.shards)]
        batch = frames.batch(rows, with_points=self.sizes.mesh_points > 0)
        if self.stand_ins is not None:
            worn = np.flatnonzero(rng.random(len(rows)) < config.stand_in_share)
            self.stand_ins.take(batch, worn, rows, rng.integers(self.stand_ins.each, size=len(rows)))
        faces = self._cut(batch, config.augment, rng)
        if faces.points is not None:
            hidden = rng.random(len(rows)) < config.points_hidden
            faces.points[torch.from_numpy(hidden)] = torch.nan
        return faces

    def _cut(self, batch: Batch, strengths: AugmentConfig, rng: np.random.Generator) -> Tensors:
        return augment(
            batch, strengths, rng, margin=self.frames.margin, input_size=self.sizes.input_size,
            output_size=self.sizes.output_size,
        )  # fmt: skip

    def _paint(self, people: Tensor) -> StandIns:
        """Other people in all frames."""
        everything = np.arange(self.frames.count)
        parts = np.array_split(everything, -(-len(everything) // _AT_ONCE))
        codes = torch.cat([self._undisturbed(rows)[1] for rows in parts])
        return paint(
            self.frames.faces.crops, self.frames.faces.landmarks, codes, self.trunk, people.to(self.device),
            margin=self.frames.margin, with_points=self.frames.points is not None and self.sizes.mesh_points > 0,
            seed=self.config.seed,
        )  # fmt: skip

    @torch.no_grad()
    def _encode(self, faces: Tensors) -> Tensor:
        """(N, C) codes. Points that are NaN are hidden from the encoder."""
        inputs = faces.inputs.to(self.device).contiguous(memory_format=torch.channels_last)
        if faces.points is None:
            code: Tensor = self.encoder(inputs)
            return code
        points = faces.points.to(self.device)
        present = torch.isfinite(points).flatten(1).all(dim=1, keepdim=True)
        with_points: Tensor = self.encoder(inputs, torch.nan_to_num(points), present.to(points.dtype))
        return with_points

    def _gradients(self, faces: Tensors, learned: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], dict[str, float]]:
        """Gradients and terms of one shard."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            face, mask = self.decoder(self._encode(faces))
        terms = self._terms(face.float(), mask.float(), faces)
        gradients = torch.autograd.grad(terms["total"] / self.config.shards, learned)
        return gradients, {name: float(term.detach()) for name, term in terms.items()}

    def _terms(self, face: Tensor, mask: Tensor, faces: Tensors) -> dict[str, Tensor]:
        regions = losses.region_weights(faces.landmarks[0], self.sizes.output_size)
        # The losses are element-wise and faster on plain layout; the copy costs less than it saves.
        return losses.swap_losses(
            face.contiguous(), mask.contiguous(), faces.truths[0].to(face.device), faces.masks[0].to(face.device),
            regions.to(face.device), self.config.losses,
        )  # fmt: skip

    def _held_out_faces(self) -> tuple[Tensors, Tensor]:
        """The held-out frames and their codes, which stay the same: the encoder does not learn."""
        if self._held_out is None:
            self._held_out = self._undisturbed(self._picked())
        return self._held_out

    def _worn_faces(self, stand_ins: StandIns) -> tuple[Tensors, Tensor]:
        """The same frames with somebody else in them, always the same one."""
        if self._worn is None:
            self._worn = self._undisturbed(self._picked(), stand_ins)
        return self._worn

    def _picked(self) -> I64:
        rows = self.frames.held_out
        picked: I64 = rows[np.linspace(0, len(rows) - 1, min(self.config.validation_faces, len(rows))).astype(int)]
        return picked

    def _undisturbed(self, rows: I64, stand_ins: StandIns | None = None) -> tuple[Tensors, Tensor]:
        batch = self.frames.batch(rows, with_points=self.sizes.mesh_points > 0)
        if stand_ins is not None:
            everyone = np.arange(len(rows))
            stand_ins.take(batch, everyone, rows, everyone % stand_ins.each)
        faces = self._cut(batch, NEUTRAL, np.random.default_rng(0))
        return faces, self._encode(faces)

    @torch.no_grad()
    def _decode(self, decoder: PersonaDecoder, code: Tensor) -> tuple[Tensor, Tensor]:
        """Face and mask logits on the CPU."""
        face, mask = decoder(code)
        return face.cpu().contiguous(), mask.cpu().contiguous()
