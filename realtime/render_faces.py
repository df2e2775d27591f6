"""Which of several faces a film swaps, and where that one is all through the clip.

The whole clip is looked through once before anything is rendered, some pictures a second: all faces are found, the
chosen one is followed by place and size, and where it was lost it is taken up again only by who it is (its embedding,
where the ``identity`` extra is installed) or by coming back to where it went. The result is a list of places; each
worker then knows the face from any picture on, and where the list says nothing, no face is swapped and the named policy
covers the picture: it is never somebody else's turn.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from engines.blazeface import BlazeFace, Candidate
from engines.errors import SettingsError, SourceFormatError
from engines.facemesh import FaceMesh, roi_from_candidate, roi_from_mesh
from engines.types import F32, F64, U8, Detection, Frame
from realtime.detect import MIN_SCORE, plausible

LOOKS_PER_SECOND = 6.0
MIN_OVERLAP = 0.15
"""Of two boxes a look apart (intersection over union) that are one face."""
REACH = 0.8
"""A face may have moved by so much of its own side between two looks."""
BACK_S = 3.0
"""Seconds after which a face that was lost is no more known by its place."""
SAME_PERSON = 0.55
"""Distance of embeddings below which two faces are one person's; dlib's own threshold is 0.6, and a mistake here shows
somebody who should be covered."""


@dataclass(frozen=True, slots=True)
class FaceChoice:
    """What ``--face`` says."""

    kind: Literal["only", "number", "left", "right", "largest", "at"] = "only"
    """only: the live path's rule, which needs no list."""
    number: int = 1
    """From 1: from left to right in the first picture that shows so many faces."""
    x: float = 0.0
    y: float = 0.0
    """Pixels of the upright picture, or fractions of it when both are at most 1."""


ANY_FACE = FaceChoice()


def parse_choice(text: str | None) -> FaceChoice:
    """Read ``--face``. Raises SettingsError."""
    if text is None:
        return FaceChoice()
    plain = text.strip().lower()
    if plain in {"left", "right", "largest"}:
        return FaceChoice(plain)  # type: ignore[arg-type]
    if plain.isdecimal() and int(plain) >= 1:
        return FaceChoice("number", int(plain))
    try:
        x, y = (float(part) for part in plain.removeprefix("at").strip().split(","))
    except ValueError:
        x = y = -1.0
    if 0.0 <= x < 1e6 and 0.0 <= y < 1e6:
        return FaceChoice("at", x=x, y=y)
    raise SettingsError(
        f"there is no face {text[:40]!r}", hint="say left, right, largest, a number from the left (1, 2, …), or X,Y"
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where the chosen face was at one look; ``box`` None: it was not there."""

    ordinal: int
    box: tuple[float, float, float, float] | None


@dataclass(frozen=True, slots=True)
class Guide:
    """The chosen face's places all through the clip, by ordinal."""

    places: tuple[Place, ...]
    ordinals: tuple[int, ...] = field(default=())

    @classmethod
    def of(cls, places: Iterable[Place]) -> Guide:
        """From places in order."""
        known = tuple(places)
        return cls(known, tuple(place.ordinal for place in known))

    def near(self, ordinal: int) -> tuple[F32, ...]:
        """Where it may be in picture ``ordinal``, likeliest first; nothing: it is not there.

        Between the looks before and after, where they fit; at either of them where they do not, as at a cut. A look
        without the face does not end it by itself when the other one has it: searches miss turned heads.
        """
        if not self.places:
            return ()
        after = bisect_left(self.ordinals, ordinal)
        pair = [self.places[i] for i in (after - 1, after) if 0 <= i < len(self.places)]
        known = [(place.ordinal, np.array(place.box, np.float32)) for place in pair if place.box is not None]
        if len(known) < 2:
            return tuple(box for _, box in known)
        (first, a), (second, b) = known
        if not _fits(a, b, REACH * float(max(a[2] - a[0], a[3] - a[1]))):
            return a, b
        share = (ordinal - first) / max(1, second - first)
        return (np.asarray(a + (b - a) * np.float32(share), np.float32),)


class Embeds(Protocol):
    """Tells people apart; see ``calibration.embedding.Embedder``."""

    def embed(self, pixels: U8, landmarks: Any) -> F64:
        """Of one face, a vector whose distance to another one says how alike two people are."""
        ...


def look_through(
    frames: Iterable[Frame],
    find: Callable[[U8], list[Candidate]],
    choice: FaceChoice,
    *,
    seconds: Callable[[int], float],
    embed: Callable[[Frame, Candidate], F64 | None] = lambda _frame, _face: None,
    seen: Callable[[Frame], None] = lambda _: None,
) -> Guide:
    """Follow the chosen face through all ``frames``. ``seconds``: when an ordinal is shown. ``seen``: for progress.

    Before the choice can be made (nobody at X,Y yet, fewer faces than the number), the face is not there. Raises
    SourceFormatError when it never can.
    """
    follower = _Follower(choice, embed)
    places: list[Place] = []
    next_s = -1.0
    for frame in frames:
        seen(frame)
        now = seconds(frame.index)
        if now < next_s:
            continue
        next_s = now + 1.0 / LOOKS_PER_SECOND
        places.append(Place(frame.index, follower.look(frame, find(frame.pixels), now)))
    if all(place.box is None for place in places):
        raise SourceFormatError(
            f"the face {choice.kind} is nowhere in the clip; at most {follower.most} faces were seen at once",
            hint="choose another: --face left, largest, 1, or X,Y of the first picture in which it shows",
        )
    return Guide.of(places)


Box = tuple[float, float, float, float]


class _Follower:
    def __init__(self, choice: FaceChoice, embed: Callable[[Frame, Candidate], F64 | None]) -> None:
        self._choice, self._embed = choice, embed
        self.most = 0
        self._box: F32 | None = None
        self._at_s = 0.0
        self._who: F64 | None = None

    def look(self, frame: Frame, faces: list[Candidate], now: float) -> Box | None:
        """The chosen face among those of one picture."""
        self.most = max(self.most, len(faces))
        first = self._box is None
        chosen = choose(faces, self._choice, frame.size) if first else self._again(frame, faces, now)
        if chosen is None:
            return None
        self._box, self._at_s = chosen.box, now
        if self._who is None:
            self._who = self._embed(frame, chosen)
        x0, y0, x1, y1 = (float(v) for v in chosen.box)
        return x0, y0, x1, y1

    def _again(self, frame: Frame, faces: list[Candidate], now: float) -> Candidate | None:
        """By place while it is fresh, nearest first; by who it is where that can be told."""
        box = self._box
        if box is None:
            return None
        gap = now - self._at_s
        side = float(max(box[2] - box[0], box[3] - box[1]))
        slack = 1.0 if gap <= 2.5 / LOOKS_PER_SECOND else 1.5
        near = sorted(
            (face for face in faces if _fits(box, face.box, REACH * slack * side)), key=lambda f: _far(box, f.box)
        )
        if gap <= 2.5 / LOOKS_PER_SECOND and near:
            # Two that cross: who is nearer may be the other one.
            if len(near) > 1 and _far(box, near[1].box) < 2.0 * _far(box, near[0].box) + 0.2 * side:
                return self._by_person(frame, near) or (near[0] if self._who is None else None)
            return near[0]
        if self._who is not None:
            return self._by_person(frame, faces)
        return near[0] if near and gap <= BACK_S and len(near) == 1 else None

    def _by_person(self, frame: Frame, faces: list[Candidate]) -> Candidate | None:
        if self._who is None:
            return None
        best: tuple[float, Candidate] | None = None
        for face in faces:
            vector = self._embed(frame, face)
            if vector is None:
                continue
            distance = float(np.linalg.norm(vector - self._who))
            if distance < SAME_PERSON and (best is None or distance < best[0]):
                best = distance, face
        return best[1] if best else None


def choose(faces: list[Candidate], choice: FaceChoice, size: tuple[int, int]) -> Candidate | None:
    """The chosen one of a picture's faces, if it can be said."""
    if not faces:
        return None
    by_x = sorted(faces, key=lambda face: float(face.box[0] + face.box[2]))
    if choice.kind == "number":
        return by_x[choice.number - 1] if len(by_x) >= choice.number else None
    if choice.kind in {"left", "right"}:
        return by_x[0 if choice.kind == "left" else -1]
    if choice.kind == "at":
        scale = np.array(size, np.float32) if max(choice.x, choice.y) <= 1.0 else np.ones(2, np.float32)
        point = np.array([choice.x, choice.y], np.float32) * scale
        for face in sorted(faces, key=lambda f: _area(f.box)):
            if bool((point >= face.box[:2]).all() and (point <= face.box[2:]).all()):
                return face
        return None
    return max(faces, key=lambda face: _area(face.box))


def _area(box: F32) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def overlap(a: F32, b: F32) -> float:
    """Intersection over union of two boxes (4,)."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    common = float(np.prod(np.clip(high - low, 0, None)))
    return common / max(_area(a) + _area(b) - common, 1e-6)


def _far(a: F32, b: F32) -> float:
    return float(np.linalg.norm((a[:2] + a[2:] - b[:2] - b[2:]) / 2))


def _fits(before: F32, now: F32, reach: float) -> bool:
    ratio = _area(now) / max(_area(before), 1e-6)
    return 0.3 < ratio < 3.3 and (overlap(before, now) >= MIN_OVERLAP or _far(before, now) <= reach)


def _is_there(place: F32, box: F32) -> bool:
    """Whether a face that was found is the one at ``place``."""
    side = float(max(place[2] - place[0], place[3] - place[1]))
    return overlap(place, box) >= MIN_OVERLAP and _far(place, box) <= 0.6 * side


class ChosenDetector:
    """A ``detect.Detector`` that finds and follows the guide's face, and nobody else's."""

    name = "mesh"

    def __init__(self, blazeface: BlazeFace, facemesh: FaceMesh, guide: Guide) -> None:
        self._blazeface, self._facemesh, self._guide = blazeface, facemesh, guide

    def search(self, frame: Frame) -> Detection | None:
        """The face that lies where the guide says."""
        places = self._guide.near(frame.index)
        if not places:
            return None
        faces = self._blazeface.find(frame.pixels)
        for place in places:
            there = [face for face in faces if _is_there(place, face.box)]
            if not there:
                continue
            best = max(there, key=lambda face: overlap(place, face.box))
            rough = self._look(frame, roi_from_candidate(best))
            found = None if rough is None else self._look(frame, roi_from_mesh(rough.landmarks))
            return found if found is not None and _is_there(place, found.box) else None
        return None

    def follow(self, frame: Frame, last: Detection) -> Detection | None:
        """Face Mesh in the square around the last mesh, as long as it agrees with the guide."""
        found = self._look(frame, roi_from_mesh(last.landmarks))
        return found if found is not None and self._agrees(frame, found.box) else None

    def confirm(self, frame: Frame, detection: Detection) -> bool:
        """Whether the guide agrees."""
        return self._agrees(frame, detection.box)

    def _agrees(self, frame: Frame, box: F32) -> bool:
        return any(_is_there(place, box) for place in self._guide.near(frame.index))

    def _look(self, frame: Frame, roi: Any) -> Detection | None:
        mesh, _, score = self._facemesh.landmarks(frame.pixels, roi)
        box: F32 = np.concatenate([mesh.min(axis=0), mesh.max(axis=0)]).astype(np.float32)
        if score < MIN_SCORE or not plausible(box, frame.size):
            return None
        return Detection(frame.index, box, mesh, "mesh468", score)

    def close(self) -> None:
        """Free both networks."""
        self._blazeface.close()
        self._facemesh.close()
