"""Pairs that somebody chose: of one persona, for polishing; of wearers alone, for what is known of their codes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from engines.augment import NEUTRAL, AugmentConfig
from engines.errors import DataError
from engines.network import NetworkConfig
from engines.torch_faceset import Side
from engines.types import F64
from engines.universal_data import Examples, PointsNoise, UniversalPairs

GREY = 0.5
"""A picture that says nothing."""
QUIET = PointsNoise(jitter=0, shift=0, strong_chance=0, drop_points=0, drop_picture=0)
"""Points where they are, and none missing."""
_EVERY = 9
"""Of the generator that spreads validation pairs."""
_DIM = 0.15
"""And so is a picture that is so much darker or brighter than mid grey."""
_FRONTAL_DEG = 15.0
"""A head turned so far is as far from neutral as one face unit at its end."""


class ChosenPairs(UniversalPairs):
    """``UniversalPairs`` whose pairs the caller names."""

    def cut(
        self, drawn: Sequence[tuple[int, int, int]], disturb: AugmentConfig, noise: PointsNoise,
        rng: np.random.Generator,
    ) -> Examples:  # fmt: skip
        """Items with wearer and persona (rows of the set's identities), disturbed and cut, with the wearers' truths."""
        batch, truths = self._gather(drawn)
        cut = self._augment(batch, disturb, rng, second=False)
        missing = rng.random(len(drawn))
        if self.sizes.mesh_points:
            grey = (missing >= noise.drop_points) & (missing < noise.drop_points + noise.drop_picture)
            cut.inputs[torch.from_numpy(grey)] = GREY
        points, present = self._points(cut.points, noise, missing, rng)
        wearers = torch.tensor([wearer for _, wearer, _ in drawn])
        personas = torch.tensor([persona for *_, persona in drawn])
        return Examples(
            cut.inputs, cut.truths[0], cut.masks[0], cut.landmarks[0], personas, wearers, points, present,
            targets=torch.from_numpy(truths),
        )  # fmt: skip


class PersonaPairs(ChosenPairs):
    """Exact swap pairs of one persona. Several threads may draw at once."""

    def __init__(
        self, folder: Path, side: Side, sizes: NetworkConfig, persona: str, *, seed: int, held_out: float,
        cache_bytes: int = 0,
    ) -> None:  # fmt: skip
        """Raises DataError as ``UniversalPairs`` does, and when the side has no pairs of the persona.

        In a set that marks nobody as held out, ``seed`` and ``held_out`` must be the universal run's: they decide.
        """
        super().__init__(folder, side, sizes, seed=seed, held_out=held_out, truths=False, cache_bytes=cache_bytes)
        known = self.faces.identities
        self.persona = known.index(persona) if persona in known else -1
        """Its row of the set's identities; ``Examples.personas`` are such rows here."""
        self.items = self.faces.items_showing(self.persona) if persona in self.names else np.empty((0, 2), np.int64)
        """(n, 2) items and their wearers' rows."""
        if not len(self.items):
            raise DataError(
                f"{folder} has no pairs of {persona!r} for {side!r}",
                hint=f"it has those of {', '.join(self.names[:10])}",
            )

    def draw_own(
        self, step: int, part: int, count: int, disturb: AugmentConfig, noise: PointsNoise, *, self_fraction: float
    ) -> Examples:
        """``count`` disturbed pairs; in ``self_fraction`` of them the persona is its own wearer."""
        rng = np.random.default_rng((self.seed, step, part))
        drawn = [
            (item, self.persona if rng.random() < self_fraction else wearer, self.persona)
            for item, wearer in self.items[rng.integers(len(self.items), size=count)].tolist()
        ]
        return self.cut(drawn, disturb, noise, rng)

    def every_own(self, count: int) -> Examples:
        """At most ``count`` undisturbed pairs, spread over the side, the same ones each time and none twice."""
        rng = np.random.default_rng((self.seed, _EVERY))
        some = rng.permutation(len(self.items))[:count]
        drawn = [(item, wearer, self.persona) for item, wearer in self.items[some].tolist()]
        return self.cut(drawn, NEUTRAL, QUIET, rng)


class WearerFaces(ChosenPairs):
    """The wearers of one side, undisturbed."""

    further = ("props",)

    def __init__(self, folder: Path, side: Side, sizes: NetworkConfig, *, seed: int, held_out: float) -> None:
        """Raises DataError as ``UniversalPairs`` does."""
        super().__init__(folder, side, sizes, seed=seed, held_out=held_out, truths=True)

    def of(self, wearer: int, most: int) -> Examples:
        """At most ``most`` faces of one wearer (a row of ``faces.wearers``), evenly chosen; the truth is their own.

        None with anything worn or held, where the set tells and has others.
        """
        items = self.faces.items_of(wearer)
        if "props" in self.faces.info.extras:
            bare = np.array([not self.faces.face(int(i), wearer).extras["props"] for i in items])
            items = items[bare] if bare.any() else items
        some = items[np.linspace(0, len(items) - 1, min(most, len(items))).astype(int)]
        return self.cut([(int(i), wearer, wearer) for i in some], NEUTRAL, QUIET, np.random.default_rng(0))

    def distance_from_neutral(self, faces: Examples) -> F64:
        """(N,) 0 for a face that looks straight ahead in good light with all face units at rest; else larger."""
        if faces.targets is None:
            raise RuntimeError("faces of this class have targets")
        pose, *others = np.split(faces.targets.numpy().astype(np.float64), np.cumsum(self.truth_widths)[:-1], axis=1)
        distance = np.abs(pose).sum(axis=1) / _FRONTAL_DEG
        distance += np.abs(faces.inputs.mean(dim=(1, 2, 3)).numpy().astype(np.float64) - GREY) / _DIM
        for name, values in zip(self.truths, others, strict=True):
            if name in ("expression", "gaze"):
                distance += np.abs(values).sum(axis=1)
        return np.asarray(distance, np.float64)
