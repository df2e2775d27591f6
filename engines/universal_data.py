"""What the universal stage learns from: pairs of many people, disturbed and cut, with their mesh points and truths.

What a part of a batch holds depends on (seed, step, number of the part) alone: a run that continues, on another number
of processes too, sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engines.augment import NEUTRAL, AugmentConfig, Tensors, augment
from engines.faceset import FaceSetInfo
from engines.mesh_subset import MESH_SUBSET
from engines.network import NetworkConfig
from engines.pairs import Batch
from engines.torch_faceset import PairedFaces, Side, StoredFace
from engines.types import F32

OPEN_SHARDS = 400
"""Files that stay mapped; a process may usually have 1,024 open."""
_TRUTHS = ("expression", "gaze", "light")
_SAMPLED = 512
"""Faces from which means and spreads are taken."""
_GREY = 0.5


@dataclass(frozen=True, slots=True)
class PointsNoise:
    """How mesh points differ from their truth, and how often a modality is missing. Fractions of the crop's side."""

    jitter: float = 0.005
    """Standard deviation of each point."""
    shift: float = 0.005
    """Of all points together."""
    strong_chance: float = 0.1
    """Share of samples in which both are ``strong_factor`` times as large: a face that the mesh network lost."""
    strong_factor: float = 4.0
    drop_points: float = 0.3
    """Share of samples without points: the picture alone must do."""
    drop_picture: float = 0.15
    """Share of samples with a grey picture: pose and expression must survive pixels that look foreign."""


MILD_POINTS = PointsNoise(jitter=0.003, shift=0.003, strong_chance=0.05, drop_points=0.12, drop_picture=0.08)
"""For the end of a training, beside ``augment.MILD``."""


@dataclass(frozen=True, slots=True)
class Examples:
    """A part of a batch. Pictures are RGB float32 0..1, N always comes first."""

    inputs: Tensor
    """(N, 3, S, S) the wearer."""
    truths: Tensor
    """(N, 3, T, T) the persona in the wearer's state."""
    masks: Tensor
    """(N, 1, T, T)"""
    landmarks: Tensor
    """(N, 68, 2) of the persona, in pixels of the T x T picture."""
    personas: Tensor
    """(N,) int64 rows of the people's vectors."""
    wearers: Tensor
    """(N,) int64 numbers among all identities of the set."""
    points: Tensor | None = None
    """(N, P, 2) of the wearer, fractions of the crop's side."""
    present: Tensor | None = None
    """(N, 1) 1 where the points are there."""
    second: Tensor | None = None
    """(N, 3, S, S) the inputs with other disturbances."""
    second_points: Tensor | None = None
    second_present: Tensor | None = None
    targets: Tensor | None = None
    """(N, columns of all truths)"""

    def each(self, change: Callable[[Tensor], Tensor]) -> Examples:
        """The same with every tensor changed."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {name: None if t is None else change(t) for name, t in values.items()}
        return Examples(**changed)

    def on(self, device: torch.device) -> Examples:
        """The same on a device."""
        return self if device.type == "cpu" else self.each(lambda t: t.pin_memory().to(device, non_blocking=True))


def join(parts: Sequence[Examples]) -> Examples:
    """Parts of one batch, one behind the other."""
    if len(parts) == 1:
        return parts[0]
    found: dict[str, Any] = {}
    for f in fields(Examples):
        values = [getattr(part, f.name) for part in parts]
        found[f.name] = None if values[0] is None else torch.cat(values)
    return Examples(**found)


def state_size(info: FaceSetInfo) -> int:
    """How many numbers the truth of a state has in a set: pose, and what else the set knows of it."""
    return 3 + sum(int(np.prod(info.extra_shape(name))) for name in _TRUTHS if name in info.extras)


class UniversalPairs:
    """Draws parts of batches from one side of a set. Several threads may draw at once.

    Raises DataError as ``PairedFaces`` does, and for a set without ``mesh`` when the network takes points.
    """

    further: tuple[str, ...] = ()
    """Extras that are read too, where the set has them."""

    def __init__(
        self, folder: Path, side: Side, sizes: NetworkConfig, *, seed: int, held_out: float, truths: bool,
        wearers_too: float = 0.0, cache_bytes: int = 0,
    ) -> None:  # fmt: skip
        """``truths`` asks for the auxiliary truths that the set has; the others as ``PairedFaces``."""
        index_extras = PairedFaces(folder, "all", open_shards=1).info.extras
        self.truths = tuple(name for name in _TRUTHS if truths and name in index_extras)
        further = tuple(name for name in self.further if name in index_extras)
        extras = (*self.truths, *(("mesh",) if sizes.mesh_points else ()), *further)
        self.faces = PairedFaces(
            folder, side, seed=seed, held_out=held_out, wearers_too=wearers_too, extras=extras,
            open_shards=OPEN_SHARDS, cache_bytes=cache_bytes,
        )  # fmt: skip
        self.sizes = sizes
        self.seed = seed
        self.names = tuple(self.faces.identities[n] for n in self.faces.personas)
        """(K,) whose vectors are trained, in their order."""
        self._row = {identity: row for row, identity in enumerate(self.faces.personas)}

    @property
    def truth_widths(self) -> tuple[int, ...]:
        """Columns of each group of ``Examples.targets``: pose, then the set's further truths."""
        widths = (int(np.prod(self.faces.info.extra_shape(name))) for name in self.truths)
        return (3, *widths)

    def target(self, face: StoredFace) -> F32:
        """The truths of one face, concatenated."""
        parts = [face.pose, *(np.ravel(face.extras[name]) for name in self.truths)]
        return np.concatenate(parts).astype(np.float32)

    def sample_targets(self) -> Tensor:
        """(n, columns) truths of some faces, always the same ones: for their mean and spread."""
        return torch.from_numpy(np.stack([self.target(face) for face in self._some_faces()]))

    def mean_points(self) -> Tensor:
        """(P, 2) where the points lie on average, as fractions of the crop's side."""
        info = self.faces.info
        side = info.size / info.margin
        points = np.nanmean([face.extras["mesh"][MESH_SUBSET] for face in self._some_faces()], axis=0)
        return torch.from_numpy(((points + 0.5 - (info.size - side) / 2) / side).astype(np.float32))

    def _some_faces(self) -> Iterator[StoredFace]:
        rng = np.random.default_rng((self.seed, 7))
        for i in rng.integers(len(self.faces), size=min(_SAMPLED, len(self.faces))):
            wearer, _ = self.faces.choose(int(i), rng)
            yield self.faces.face(int(i), wearer)

    def draw(
        self, step: int, part: int, count: int, disturb: AugmentConfig, noise: PointsNoise, *,
        self_fraction: float, targets: bool, second: bool,
    ) -> Examples:  # fmt: skip
        """``count`` pairs; in ``self_fraction`` of them a persona is its own wearer. With ``second``, two views."""
        rng = np.random.default_rng((self.seed, step, part))
        drawn = []
        for i in rng.integers(len(self.faces), size=count):
            wearer, persona = self.faces.choose(int(i), rng)
            drawn.append((int(i), persona if rng.random() < self_fraction else wearer, persona))
        batch, truths = self._gather(drawn)
        cut = self._augment(batch, disturb, rng, second=second)
        # A code of points alone knows neither light nor gaze: beside it, consistency would drive them out of the other.
        missing = rng.random(count)
        drop_picture = 0.0 if second else noise.drop_picture
        if self.sizes.mesh_points:
            grey = (missing >= noise.drop_points) & (missing < noise.drop_points + drop_picture)
            cut.inputs[torch.from_numpy(grey)] = _GREY
        points, present = self._points(cut.points, noise, missing, rng)
        second_points, second_present = self._points(cut.second_points, noise, rng.random(count), rng)
        return Examples(
            cut.inputs, cut.truths[0], cut.masks[0], cut.landmarks[0], *self._who(drawn), points, present,
            cut.second, second_points, second_present, torch.from_numpy(truths) if targets else None,
        )  # fmt: skip

    def every(self, count: int) -> Examples:
        """``count`` undisturbed pairs, spread over the side, the same ones each time; each face as often as another."""
        rng = np.random.default_rng((self.seed, 8))
        items = np.resize(rng.permutation(len(self.faces)), count)
        drawn = [(int(i), *self.faces.choose(int(i), rng)) for i in items]
        batch, truths = self._gather(drawn)
        cut = self._augment(batch, NEUTRAL, rng, second=False)
        present = None if cut.points is None else _seen(cut.points)
        return Examples(
            cut.inputs, cut.truths[0], cut.masks[0], cut.landmarks[0], *self._who(drawn), cut.points, present,
            targets=torch.from_numpy(truths),
        )  # fmt: skip

    def _gather(self, drawn: Sequence[tuple[int, int, int]]) -> tuple[Batch, F32]:
        """Items with wearer and persona -> stored crops, and the wearers' truths."""
        wearers = [self.faces.face(i, a) for i, a, _ in drawn]
        personas = [self.faces.face(i, b) for i, _, b in drawn]
        mesh = np.stack([f.extras["mesh"][MESH_SUBSET] for f in wearers]) if self.sizes.mesh_points else None
        batch = Batch(
            states=np.array([i for i, *_ in drawn], np.int64),
            wearers=[self.faces.identities[a] for _, a, _ in drawn],
            inputs=np.stack([f.crop for f in wearers]),
            truths=np.stack([np.concatenate([f.crop, f.mask[:, :, None]], 2) for f in personas])[None],
            landmarks=np.stack([f.landmarks for f in personas])[None],
            points=mesh,
        )
        return batch, np.stack([self.target(f) for f in wearers])

    def _augment(self, batch: Batch, config: AugmentConfig, rng: np.random.Generator, *, second: bool) -> Tensors:
        sides = {"input_size": self.sizes.input_size, "output_size": self.sizes.output_size}
        return augment(batch, config, rng, margin=self.faces.info.margin, second=second, **sides)

    def _who(self, drawn: Sequence[tuple[int, int, int]]) -> tuple[Tensor, Tensor]:
        return torch.tensor([self._row[p] for *_, p in drawn]), torch.tensor([a for _, a, _ in drawn])

    @staticmethod
    def _points(
        points: Tensor | None, noise: PointsNoise, missing: np.ndarray, rng: np.random.Generator
    ) -> tuple[Tensor | None, Tensor | None]:
        """Points as a mesh network would find them, and (N, 1) whether they are there."""
        if points is None:
            return None, None
        count, many, _ = points.shape
        strength = np.where(rng.random((count, 1, 1)) < noise.strong_chance, noise.strong_factor, 1.0)
        error = rng.normal(0, 1, (count, many, 2)) * noise.jitter + rng.normal(0, 1, (count, 1, 2)) * noise.shift
        present = torch.from_numpy((missing >= noise.drop_points).astype(np.float32))[:, None] * _seen(points)
        return points + torch.from_numpy((error * strength).astype(np.float32)), present


def _seen(points: Tensor) -> Tensor:
    """(N, 1) 1 where Face Mesh saw the face; points (N, P, 2) of the others are NaN."""
    return torch.isfinite(points).flatten(1).all(dim=1, keepdim=True).to(points.dtype)


class Feeder:
    """Parts of batches, prepared by a pool a few steps ahead of where they are needed."""

    def __init__(
        self, pool: Executor, prepare: Callable[[int, int], Examples], parts: Sequence[int], ahead: int
    ) -> None:
        """``prepare`` (step, part) makes one part; ``parts`` are this process's."""
        self._pool, self._prepare, self._parts, self._ahead = pool, prepare, tuple(parts), ahead
        self._waiting: deque[tuple[int, list[Future[Examples]]]] = deque()

    def take(self, step: int) -> list[Examples]:
        """The parts of a step; steps must be asked for in order. Raises what ``prepare`` raised."""
        following = self._waiting[-1][0] + 1 if self._waiting else step
        for later in range(following, step + self._ahead + 1):
            futures = [self._pool.submit(self._prepare, later, part) for part in self._parts]
            self._waiting.append((later, futures))
        number, futures = self._waiting.popleft()
        if number != step:
            raise RuntimeError(f"step {step} after step {number - 1}")
        return [future.result() for future in futures]

    def close(self) -> None:
        """Drop what nobody will take."""
        for _, futures in self._waiting:
            for future in futures:
                future.cancel()
        self._waiting.clear()
