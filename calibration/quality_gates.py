"""Which frames are good enough to learn a face from: sharp, well exposed, whole, of one person.

Every gate is a number and a bound, set on rendered crops so that nearly all clean frames pass (see ``GateBounds``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.types import F64, U8


class Fault(str, Enum):
    """Why a frame is left out. The value is what people read."""

    NO_FACE = "no face was found"
    SEVERAL = "more than one face"
    SMALL = "the face is too small: come nearer"
    CUT_OFF = "the face leaves the picture"
    BLURRED = "blurred: hold still for a moment, or use more light"
    DARK = "too dark"
    BRIGHT = "too bright: the skin is burnt out"
    HIDDEN = "something hides the face"
    STRANGER = "somebody else"
    UNCERTAIN = "who it is could not be checked"
    ALIKE = "like a frame that is there already"
    SPARE = "more of what is there already"


class Verdict(Enum):
    """Who a face is."""

    SAME = "the person"
    UNSURE = "nobody knows yet"
    STRANGER = "somebody else"


@dataclass(frozen=True, slots=True)
class GateBounds:
    """What passes."""

    least_side_px: float = 96.0
    """Side of the family's crop in frame pixels; below, a crop is mostly made up."""
    margin: float = 0.02
    """The face's outline may stand out of the picture by this share of its size."""
    sharpness: float = 5.0
    """Of :func:`sharpness`. 300 rendered crops of 240 pixels: 99 % have more than 9.1, blurred by two pixels (sigma)
    95 % less than 5.8, seen by 96 pixels and enlarged 99 % more than 6.0."""
    clipped: float = 0.1
    """Share of the skin that may be burnt out."""
    darkest: float = 0.12
    """Mean luma of the skin, 0..1."""
    present: float = 0.9995
    """Face Mesh's own score that there is a face."""
    agreement: float = 0.09
    """Of :func:`disagreement`. Both together let 94 % of 194 free rendered faces pass, and 30 % of 23 of which over
    a fifth was hidden; the score alone tells the two apart with an AUC of 0.91, the disagreement with 0.87."""


@dataclass(frozen=True, slots=True)
class Quality:
    """The numbers of one frame."""

    side_px: float
    outside: float
    sharpness: float
    clipped: float
    luma: float
    present: float
    disagreement: float


_SHARPNESS_SIDE = 240


def judge(quality: Quality, bounds: GateBounds = GateBounds()) -> Fault | None:
    """The first bound that a frame breaks, or None."""
    checks = (
        (quality.side_px < bounds.least_side_px, Fault.SMALL),
        (quality.outside > bounds.margin, Fault.CUT_OFF),
        (quality.luma < bounds.darkest, Fault.DARK),
        (quality.clipped > bounds.clipped, Fault.BRIGHT),
        (quality.sharpness < bounds.sharpness, Fault.BLURRED),
        (quality.present < bounds.present or quality.disagreement > bounds.agreement, Fault.HIDDEN),
    )
    return next((fault for broken, fault in checks if broken), None)


def sharpness(crop: U8, mask: U8) -> float:
    """Energy of the finest detail over that of the next coarser one, in percent, inside ``mask`` (S, S).

    The variance of the Laplacian (Pech-Pacheco et al. 2000) depends on what is seen; its ratio between two octaves says
    how much of the fine one is missing, whoever it is and in any light. ``crop`` (S, S, 3) BGR at the stored size.
    """
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY).astype(np.float32)
    inside = cv2.erode(mask, np.ones((9, 9), np.uint8)) > 127
    if not inside.any():
        return 0.0
    fine = grey - cv2.GaussianBlur(grey, (0, 0), 1.0)
    coarse = cv2.GaussianBlur(grey, (0, 0), 2.0) - cv2.GaussianBlur(grey, (0, 0), 4.0)
    return 100 * float(np.square(fine[inside]).mean()) / (float(np.square(coarse[inside]).mean()) + 1.0)


def exposure(crop: U8, mask: U8) -> tuple[float, float]:
    """(mean luma 0..1, share of burnt-out pixels) inside ``mask``."""
    grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
    inside = mask > 127
    if not inside.any():
        return 0.0, 1.0
    # Not red: under a warm lamp it is at its end on every skin, and nothing is lost.
    burnt = (crop[..., 1] >= 252)[inside]
    return float(grey[inside].mean()) / 255, float(burnt.mean())


def outside(mesh: NDArray[np.floating], size: tuple[int, int]) -> float:
    """How far the mesh stands out of a picture of ``size`` (width, height), in shares of the face's longer side."""
    low, high = mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)
    over = max(0.0, *(-low).tolist(), *(high - (np.array(size) - 1)).tolist())
    return float(over / max(1e-6, float((high - low).max())))


def disagreement(looks: Sequence[NDArray[np.floating]]) -> float:
    """Largest root mean square distance between meshes (468, 2+) of one face, over its size.

    Face Mesh sees the same face in squares of other sizes and angles; what it makes up of a hidden part differs.
    """
    points = [np.asarray(look, np.float64)[:, :2] for look in looks]
    size = float(np.ptp(points[0], axis=0).max())
    pairs = [(a, b) for i, a in enumerate(points) for b in points[i + 1 :]]
    return max(float(np.sqrt(np.square(a - b).sum(axis=1).mean())) for a, b in pairs) / max(size, 1e-6)


class SamePerson:
    """Whether all footage shows one person, by dlib's embedding (128 numbers) of faces turned to the camera.

    The first faces say who it is. Later ones are compared with their mean, alone and as the mean of up to three of one
    track: that takes away half of what expression and light do to one face. Measured on 23 invented people, who are
    nearer to one another than real ones are (dlib's own bound for two photographs is 0.6, 99.4 % right on LFW): one
    face alone is at most 0.49 from its own mean, others' are 0.41 and more (99 %); three are at most 0.29, others' 0.37
    and more (99 %). Seven real people of photographs, each turned, relit, shrunk and blurred: at most 0.36 from their
    own mean, three at most 0.07; others' 0.58 and more.
    """

    BOUNDS = (0.5, 0.42, 0.4)
    """Largest distance of one, two, three faces of a track. 0.4 lies midway between what dlib's bound of 0.6 for two
    photographs comes to for these means (0.52) and the largest of one person here."""
    SURE_ALONE = 0.4
    """So near, one face is enough."""
    FIRST = 5
    """Faces that say who it is."""
    STRIKES = 3
    """Strangers in a row that end the enrollment; one alone is a bad frame."""

    def __init__(self, known: Sequence[F64] = ()) -> None:
        self.known = list(known)
        """Embeddings (128,) of the first faces."""
        self._recent: list[F64] = []
        self._strikes = 0

    def new_track(self) -> None:
        """What comes now may be somebody else."""
        self._recent.clear()

    def ask(self, embedding: F64) -> Verdict:
        """Who the next face of the track is: the person, maybe, or a stranger."""
        self._recent = [*self._recent[-2:], embedding]
        if not self.known:
            self.known.append(embedding)
            return Verdict.UNSURE
        away = float(np.linalg.norm(np.mean(self._recent, axis=0) - np.mean(self.known, axis=0)))
        if away >= self.BOUNDS[len(self._recent) - 1]:
            self._strikes += 1
            return Verdict.STRANGER
        self._strikes = 0
        if len(self.known) < self.FIRST:
            self.known.append(embedding)
        return Verdict.SAME if len(self._recent) > 1 or away < self.SURE_ALONE else Verdict.UNSURE

    @property
    def somebody_else(self) -> bool:
        """Whether it is certain that another person came."""
        return self._strikes >= self.STRIKES


Tally = Counter[Fault]
"""Frames left out, by reason."""
