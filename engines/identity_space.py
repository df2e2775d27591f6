"""The space of people: principal components and a Gaussian over the vectors of a trained trunk's people.

    space = fit(vectors)                                    # (K, F) of the people of the universal stage
    decoder = trunk.fold(space.sample(seed=7))              # a face that belongs to nobody, at once animatable
    slider = space.coordinates(vector); slider[0] += 1      # one standard deviation along the first component
    decoder = trunk.fold(space.vector(slider))

A vector is mean + sum_r c_r d_r e_r with orthonormal components e_r, the standard deviations d_r of the people along
them, and coordinates c_r, which over the people have mean 0 and variance 1 (Pearson 1901; as Blanz and Vetter 1999 did
for shapes and textures of heads). Drawing c_r from the standard normal distribution draws from the Gaussian that has
the people's mean and, in the kept components, their covariance. It says nothing of the directions in which the people
do not differ: vectors made here stay within the span of the people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engines import checkpoint
from engines.errors import DataError, SettingsError

KEEP = 0.995
"""Share of the people's variance that the kept components have together; the rest is mostly the noise of training."""


@dataclass(frozen=True, slots=True)
class IdentitySpace:
    """A Gaussian over the vectors (F,) of a trunk, in R <= min(F, K - 1) components with the largest first."""

    mean: Tensor
    """(F,) float32, of the people."""
    components: Tensor
    """(R, F) float32, orthonormal rows. Of the two signs the one whose largest number is positive."""
    deviations: Tensor
    """(R,) float32 > 0: standard deviation of the people along each component, falling."""
    people: int
    """K: how many people it was fitted on."""
    variance: float
    """Of the people over all F directions together, kept or not."""

    @property
    def size(self) -> int:
        """R, the number of coordinates."""
        return self.deviations.shape[0]

    @property
    def explained(self) -> Tensor:
        """(R,) share of the people's variance along each component, 0..1, falling."""
        return self.deviations.square() / self.variance

    def sample(self, seed: int, spread: float = 1.0) -> Tensor:
        """A new vector (F,): coordinates from the standard normal distribution, times ``spread``.

        The same seed is always the same face, and a smaller spread brings it nearer to the mean one: 0 is the mean,
        1 as varied as the people, more than 1 more extreme than most of them. Raises SettingsError for a negative or
        infinite spread.
        """
        if not (0 <= spread < np.inf):
            raise SettingsError(f"the spread {spread} makes no sense", hint="use 0 (the mean face) to about 1.5")
        drawn = np.random.default_rng(seed).standard_normal(self.size)
        return self.vector(torch.from_numpy(drawn * spread))

    def coordinates(self, vector: Tensor) -> Tensor:
        """(R,) coordinates of a vector (F,) in standard deviations, float32; what lies outside the span is lost.

        Raises SettingsError for a vector of another trunk.
        """
        if vector.shape != self.mean.shape:
            raise SettingsError(f"a vector of shape {tuple(vector.shape)} is none of this space",
                                hint=f"use one of {self.mean.shape[0]} numbers, of the same trunk")  # fmt: skip
        centred = vector.double() - self.mean.double()
        return (self.components.double() @ centred / self.deviations.double()).float()

    def vector(self, coordinates: Tensor) -> Tensor:
        """The vector (F,) float32 at ``coordinates`` (r,), r <= R, in standard deviations; the others are 0.

        Raises SettingsError for more coordinates than there are components, and for numbers that are not finite.
        """
        count = coordinates.shape[0] if coordinates.ndim == 1 else -1
        if not 0 <= count <= self.size:
            raise SettingsError(f"coordinates of shape {tuple(coordinates.shape)} do not fit this space",
                                hint=f"give a list of at most {self.size} numbers")  # fmt: skip
        if not bool(torch.isfinite(coordinates).all()):
            raise SettingsError("coordinates hold numbers that are not finite", hint="sliders go from about -3 to 3")
        scaled = coordinates.double() * self.deviations[:count].double()
        return (self.mean.double() + scaled @ self.components[:count].double()).float()

    def save(self, stem: Path, about: Mapping[str, Any]) -> Path:
        """Write STEM.safetensors and STEM.json with ``about`` in it (JSON; name the trunk); returns the JSON's path."""
        tensors = {"mean": self.mean, "components": self.components, "deviations": self.deviations}
        facts = {**about, "people": self.people, "variance": self.variance}
        return checkpoint.save(stem, "identity-space", tensors, facts)


def fit(vectors: Tensor, *, keep: float = KEEP, most: int | None = None) -> IdentitySpace:
    """The space of people's vectors (K, F).

    Keeps as few components as have the share ``keep`` (0..1) of the variance, and no more than ``most``. Raises
    DataError for fewer than two different people or numbers that are not finite, SettingsError for a senseless
    ``keep`` or ``most``.
    """
    if not 0 < keep <= 1 or (most is not None and most < 1):
        raise SettingsError(f"cannot keep a share of {keep} in {most} components", hint="keep 0..1, most 1 or more")
    if vectors.ndim != 2 or vectors.shape[0] < 2:
        raise DataError(f"no space can be fitted to vectors of shape {tuple(vectors.shape)}",
                        hint="give at least two people's vectors, one a row")  # fmt: skip
    people = vectors.detach().to("cpu", torch.float64)
    if not bool(torch.isfinite(people).all()):
        raise DataError("the people's vectors hold numbers that are not finite", hint="use an earlier checkpoint")
    count = people.shape[0]
    mean = people.mean(dim=0)
    # The right singular vectors of the centred people are the eigenvectors of their covariance.
    singular, components = torch.linalg.svd(people - mean, full_matrices=False)[1:]
    variances = singular.square() / (count - 1)
    variance = float(variances.sum())
    distinct = int((singular > singular[0] * 1e-6).sum()) if variance > 0 else 0
    if not distinct:
        raise DataError("all people have the same vector", hint="train the universal stage longer, or fit to others")
    share = variances.cumsum(0) / variance
    enough = int((share < keep).sum()) + 1
    size = min(enough, distinct, count - 1, most or count)
    components = components[:size]
    largest = components.gather(1, components.abs().argmax(dim=1, keepdim=True))
    return IdentitySpace(
        mean=mean.float(),
        components=(components * largest.sign()).float(),
        deviations=variances[:size].sqrt().float(),
        people=count,
        variance=variance,
    )


def load(stem: Path) -> tuple[IdentitySpace, checkpoint.Meta]:
    """The space and its JSON. Raises DataError when the pair is missing, damaged, foreign or makes no sense."""
    stored = checkpoint.load(stem, "identity-space")
    try:
        mean, components, deviations = (stored.tensors[name] for name in ("mean", "components", "deviations"))
        people, variance = int(stored.meta["people"]), float(stored.meta["variance"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{stem} is no complete identity space: {error}", hint="fit it again") from error
    shapes = mean.ndim == 1 and deviations.ndim == 1 and components.shape == (deviations.shape[0], mean.shape[0])
    finite = all(bool(torch.isfinite(t).all()) for t in (mean, components, deviations))
    if not shapes or not finite or not bool((deviations > 0).all()) or not 0 < variance < np.inf:
        raise DataError(f"{stem} holds numbers that are no identity space", hint="fit it again")
    return IdentitySpace(mean, components, deviations, people, variance), stored.meta
