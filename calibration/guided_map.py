"""How a biased face at rest is read from guided expressions: a linear map, learned from people with and without a bias.

A wearer's features are their mean codes at rest and what each prompt changes of them, in spreads of training's codes.
Features of a biased wearer are those of the same wearer without the bias, n, plus what the bias adds, d; the wanted
correction y belongs to d alone. n varies with face, light and camera and says nothing of y. So over all pairs of an n
and a d, whoever they are of,

    W = (E[n n'] + E[d d'] + ridge)^-1 E[d y'],    correction = (features - E[n]) W

is the best linear estimate: every person's n meets every bias's d, far more examples than were rendered. d is not
centred: no bias is the usual case. The ridge is chosen by people that were left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engines.types import F32, F64

DIRECTIONS = ("smile", "open")
"""Prompts besides "neutral" that features are made of."""
RIDGES = (0.1, 0.3, 1.0, 2.0, 4.0)
"""In squared spreads: the noise of features that is believed in."""
FOLDS = 5
MOST_RANK = 24
_KEPT = 0.999
"""Of the estimates' energy."""


@dataclass(frozen=True, slots=True, eq=False)
class GuidedPerson:
    """What one person showed; codes (C,) are means over frames."""

    plain: Mapping[str, F32]
    """Prompt -> code, without a bias."""
    biased: Sequence[tuple[Mapping[str, F32], F32]]
    """Of each bias: prompt -> code, and the mean over everyday frames of the code without the bias less that with."""


def features(codes: Mapping[str, F32], spread: F64) -> F64:
    """(F,) of mean codes (C,) by prompt; F = C * (1 + number of DIRECTIONS)."""
    neutral = codes["neutral"] / spread
    return np.concatenate([neutral, *(codes[name] / spread - neutral for name in DIRECTIONS)])


def learn_map(people: Sequence[GuidedPerson], spread: F64, readers: F64) -> tuple[F64, F64, F64, float]:
    """The usual features (F,), the map as two factors (F, R) and (R, C + K), and the ridge that was chosen.

    The first C numbers that the map gives are the correction, in spreads; the others how far the bias moves the neutral
    code along each of ``readers`` (K, C).
    """
    plain = np.array([features(person.plain, spread) for person in people])
    who = np.array([i for i, person in enumerate(people) for _ in person.biased])
    added = np.array([features(codes, spread) for person in people for codes, _ in person.biased]) - plain[who]
    wanted = np.array([wanted / spread for person in people for _, wanted in person.biased])
    at_rest = added[:, : len(spread)] @ readers.T
    ridge = min(RIDGES, key=lambda one: _left_out(plain, added, wanted, who, one))
    usual, weights = _solve(plain, added, np.hstack([wanted, at_rest]), ridge)
    estimates = np.concatenate([plain - usual, plain[who] + added - usual]) @ weights
    _, sizes, rows = np.linalg.svd(estimates, full_matrices=False)
    energy = np.cumsum(sizes**2) / np.sum(sizes**2)
    rank = min(int(np.searchsorted(energy, _KEPT)) + 1, MOST_RANK)
    return usual, weights @ rows[:rank].T, rows[:rank], ridge


def _solve(plain: F64, added: F64, wanted: F64, ridge: float) -> tuple[F64, F64]:
    usual = plain.mean(axis=0)
    away = plain - usual
    spread = away.T @ away / len(plain) + added.T @ added / len(added)
    return usual, np.linalg.solve(spread + ridge * np.eye(len(usual)), added.T @ wanted / len(added))


def _left_out(plain: F64, added: F64, wanted: F64, who: F64, ridge: float) -> float:
    """Mean square of what is left of the biases of people that the map did not learn from."""
    left = 0.0
    fold = np.arange(len(plain)) % FOLDS
    for one in range(FOLDS):
        out, of_out = fold == one, fold[who] == one
        usual, weights = _solve(plain[~out], added[~of_out], wanted[~of_out], ridge)
        estimate = (plain[who[of_out]] + added[of_out] - usual) @ weights
        left += float(((wanted[of_out] - estimate) ** 2).sum()) / len(added)
    return left
