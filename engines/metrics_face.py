"""Whether the swap is the right face in the right state: landmarks, identity, agreement of openings. numpy only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.errors import SettingsError
from engines.types import F64

SAME_PERSON = 0.6
"""Distance of dlib's embeddings below which its author calls two pictures the same person."""
_INNER = slice(17, 68)
_OUTER_CORNERS = (36, 45)


def nme_pct(points: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Normalised mean error of the inner 51 of (68, 2) iBUG points, in % of the inter-ocular distance.

    The distance of the truth's outer eye corners in the picture, the norm of the 300-W benchmark (Sagonas et al. 2016).
    Raises SettingsError when they fall together.
    """
    found, wanted = np.asarray(points, np.float64), np.asarray(truth, np.float64)
    eyes = float(np.linalg.norm(wanted[_OUTER_CORNERS[0]] - wanted[_OUTER_CORNERS[1]]))
    if not eyes > 0:
        raise SettingsError("the eye corners fall together", hint="score frames that show a face")
    return 100 * float(np.linalg.norm(found[_INNER] - wanted[_INNER], axis=1).mean()) / eyes


def correlation(found: NDArray[np.floating], wanted: NDArray[np.floating]) -> float | None:
    """Pearson's r of two rows of numbers; None for fewer than three, or where one of them does not vary."""
    a, b = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    if len(a) < 3 or min(a.std(), b.std()) < 1e-9:
        return None
    return float(np.corrcoef(a, b)[0, 1])


@dataclass(frozen=True, slots=True)
class IdentityScore:
    """Shares in % of the results, and mean distances."""

    retrieval_pct: float
    """The nearest persona of the gallery is the right one."""
    leakage_pct: float
    """Nearer to the wearer than SAME_PERSON, and nearer to the wearer than to the persona: their face shows."""
    near_wearer_pct: float
    """Nearer to the wearer than SAME_PERSON at all. Invented people are near one another: compare with the truth's."""
    to_persona: float
    to_wearer: float


def identity_score(
    results: NDArray[np.floating],
    personas: NDArray[np.integer],
    wearers: NDArray[np.floating],
    gallery: NDArray[np.floating],
) -> IdentityScore:
    """Of embeddings of ``results`` (N, D) that should show rows ``personas`` (N,) of ``gallery`` (P, D), worn by
    ``wearers`` (N, D). Distances are Euclidean. Raises SettingsError without results.
    """
    if not len(results):
        raise SettingsError("there are no faces to recognise", hint="score more frames")
    to_gallery: F64 = np.linalg.norm(np.asarray(results, np.float64)[:, None] - gallery[None], axis=2)
    to_wearer: F64 = np.linalg.norm(np.asarray(results, np.float64) - wearers, axis=1)
    own = to_gallery[np.arange(len(results)), personas]
    near = to_wearer < SAME_PERSON
    return IdentityScore(
        retrieval_pct=100 * float(np.mean(to_gallery.argmin(axis=1) == personas)),
        leakage_pct=100 * float(np.mean(near & (to_wearer < own))),
        near_wearer_pct=100 * float(np.mean(near)),
        to_persona=float(own.mean()),
        to_wearer=float(to_wearer.mean()),
    )


def mean_or_none(values: list[float]) -> float | None:
    """The mean of the finite ones; None if there are none."""
    finite = [v for v in values if math.isfinite(v)]
    return sum(finite) / len(finite) if finite else None
