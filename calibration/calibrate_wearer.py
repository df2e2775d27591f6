"""A wearer's calibration from twenty seconds of guided expressions: what they are asked, and what is learned from it.

    guided = collect(frames, read)
    found = calibrate(guided, reference)

The same for a camera and a file: prompts follow the frames' own time stamps.

What can be put right is what the encoder sees. ``GuidedReference`` knows it from invented people who did the same
with and without a random bias of their face at rest (``calibration.guided_map``): a linear map from the codes of all
prompts to the shift that brings everyday codes nearest to those of the same person without the bias. The deviation of
a wearer's codes is taken for a bias only as far as people, lights and cameras do not deviate so anyway. The full
expressions count too: a face that already smiles at rest has less of a smile left.

The range, so that a full smile is full, is one gain around the neutral face, and only for those who move far less, or
far more, than others in every direction: one direction alone says little, and a gain that follows it made swaps worse.
Nor has anybody a gain whose face at rest is moved far: what is already there cannot move as far again. A shift of the
whole code to the mean of training's wearers (``engines.wearer.calibrate_codes``) was measured to make swaps worse: it
takes the wearer's light along.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from calibration.guided_map import DIRECTIONS, GuidedPerson, features, learn_map
from engines.errors import DataError
from engines.types import F32, F64, Frame
from engines.wearer import MAX_GAIN, WearerCalibration


@dataclass(frozen=True, slots=True)
class Prompt:
    """One thing that the wearer is asked to do."""

    name: str
    text: str
    seconds: float


GUIDE = (
    Prompt("neutral", "rest your face and look at the camera", 4.0),
    Prompt("smile", "smile as broadly as you can", 3.0),
    Prompt("rest", "rest your face again", 2.0),
    Prompt("open", "open your mouth wide", 3.0),
    Prompt("neutral", "rest your face, turn your head a little", 4.0),
    Prompt("smile", "smile broadly once more", 2.0),
    Prompt("open", "open your mouth once more", 2.0),
)
"""Twenty seconds. "rest" gives the face time to come back and does not count."""
REACTION_S = 0.8
"""Of each prompt: people read first."""
LEAST = {"neutral": 20, "smile": 10, "open": 10}
"""Frames with a face."""
USUAL_RANGE = (0.65, 1.5)
"""Of full expressions, shares of the average person's: within it there is no gain."""
NEARLY_NEUTRAL = 1.5
"""In spreads: what nine of ten people without a bias are moved less than."""
MOST_SHIFT = 12.0
"""In spreads: twice a full smile would be no face at rest."""


def prompt_at(seconds: float) -> tuple[Prompt, float] | None:
    """What is asked so long after the first frame, and for how long already; None after the end."""
    for prompt in GUIDE:
        if seconds < prompt.seconds:
            return prompt, seconds
        seconds -= prompt.seconds
    return None


def guide_seconds() -> float:
    """Of all prompts together."""
    return sum(prompt.seconds for prompt in GUIDE)


@dataclass(frozen=True, slots=True)
class Guided:
    """Codes (N, C) of each prompt's frames."""

    codes: Mapping[str, F32]
    seen: int
    """Frames that counted."""
    missed: int
    """Frames that should have counted and showed no face."""


def collect(
    frames: Iterable[Frame],
    read: Callable[[Frame], F32 | None],
    ask: Callable[[Prompt, float], None] = lambda _prompt, _left_s: None,
) -> Guided:
    """Look at frames for as long as the guide lasts. ``read`` gives the code (C,), or None without a face.

    ``ask`` is called at each frame with the prompt and the seconds that are left of it. Raises DataError when a prompt
    was seen in too few frames.
    """
    found: dict[str, list[F32]] = {name: [] for name in LEAST}
    missed, began = 0, None
    for frame in frames:
        began = frame.timestamp_ns if began is None else began
        at = prompt_at((frame.timestamp_ns - began) / 1e9)
        if at is None:
            break
        prompt, for_s = at
        ask(prompt, prompt.seconds - for_s)
        if prompt.name not in found or for_s < REACTION_S:
            read(frame)  # the face is followed through
            continue
        code = read(frame)
        if code is None:
            missed += 1
        else:
            found[prompt.name].append(code)
    return guided(found, missed)


def guided(found: Mapping[str, Sequence[F32]], missed: int = 0) -> Guided:
    """Of codes by prompt. Raises DataError when there are too few of one."""
    for name, least in LEAST.items():
        if len(found.get(name, ())) < least:
            raise DataError(
                f"{name}: the face was seen in {len(found.get(name, ()))} frames, {least} are needed",
                hint=f"light from the front, and {guide_seconds():.0f} seconds of video that follow the prompts",
            )
    codes = {name: np.stack(list(found[name])).astype(np.float32) for name in LEAST}
    return Guided(codes, sum(map(len, codes.values())), missed)


@dataclass(frozen=True, slots=True, eq=False)
class GuidedReference:
    """What guided expressions of many people look like to one encoder. Whitened: in spreads of training's codes."""

    encoder_sha256: str
    spread: F64
    """(C,) of training's codes."""
    axes: F64
    """(K, C) orthonormal, whitened: along smile, and along an opening mouth across it."""
    reach: F64
    """(K,) of the average person's full expression along its own axis."""
    usual: F64
    """(F,) mean features of people without a bias."""
    inward: F64
    """(F, R) of the map of features less usual, with ``outward``."""
    outward: F64
    """(R, C + K) to the shift that takes a bias away, whitened, and to the bias along the axes in shares of reach."""
    ridge: F64
    """() that left-out people chose."""

    def along(self, codes: F32) -> F64:
        """(N, K) of codes (N, C)."""
        return np.asarray(codes / self.spread @ self.axes.T, np.float64)

    def correction(self, codes: Mapping[str, F32]) -> tuple[F64, F64]:
        """From mean codes (C,) by prompt: what to add to every code (C,), and how far off the face at rest is (K,)."""
        found = (features(codes, self.spread) - self.usual) @ self.inward @ self.outward
        shift, rest = found[: len(self.spread)], found[len(self.spread) :]
        length = float(np.linalg.norm(shift))
        return shift * min(1.0, MOST_SHIFT / max(length, 1e-9)) * self.spread, rest

    def encode(self) -> bytes:
        """As a .npz."""
        file = io.BytesIO()
        arrays = {name: getattr(self, name).astype(np.float32) for name in _ARRAYS}
        np.savez_compressed(file, encoder_sha256=np.array(self.encoder_sha256), **arrays)
        return file.getvalue()


_ARRAYS = ("spread", "axes", "reach", "usual", "inward", "outward", "ridge")


def read_reference(path: Path) -> GuidedReference:
    """Raises DataError for a file that is missing or damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name], np.float64) for name in _ARRAYS}
            sha = str(file["encoder_sha256"])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"the reference {path.name} cannot be read: {error}", hint="reinstall personacam") from error
    return GuidedReference(sha, **arrays)


def shipped_reference(encoder_sha256: str) -> GuidedReference:
    """The reference that the package has for an encoder. Raises DataError when it has none."""
    models = Path(str(resources.files("engines").joinpath("models")))
    for path in sorted(models.glob("*/guided.npz")):
        found = read_reference(path)
        if found.encoder_sha256 == encoder_sha256:
            return found
    raise DataError(
        "what guided expressions look like to this persona's encoder is not known",
        hint="use a shipped persona, or make it: python -m calibration.guided_reference --help",
    )


def make_reference(encoder_sha256: str, spread: F32, people: Sequence[GuidedPerson]) -> GuidedReference:
    """From what people showed with and without a bias; ``spread`` (C,) of training's codes.

    Raises DataError for fewer than ten people, or people without a bias.
    """
    if len(people) < 10 or not any(person.biased for person in people):
        raise DataError(f"{len(people)} people are no reference", hint="take 80, each with a bias or two")
    moves = [[p.plain[name] - p.plain["neutral"] for p in people] for name in DIRECTIONS]
    mean_moves = np.array([np.mean(move, axis=0) for move in moves], np.float64) / spread
    q, r = np.linalg.qr(mean_moves.T)
    axes = (q * np.sign(np.diag(r))).T
    reach = np.abs(np.diag(r))
    white = np.asarray(spread, np.float64)
    usual, inward, outward, ridge = learn_map(people, white, axes / reach[:, None])
    return GuidedReference(encoder_sha256, white, axes, reach, usual, inward, outward, np.array(ridge))


@dataclass(frozen=True, slots=True)
class Found:
    """A wearer's calibration and what it says of them."""

    calibration: WearerCalibration
    rest: Mapping[str, float]
    """Direction -> how far the face at rest was along it, 1 is the average full expression."""
    range: Mapping[str, float]
    """Direction -> this wearer's full expression over the average one."""


def calibrate(seen: Guided, reference: GuidedReference) -> Found:
    """What brings this wearer's face at rest to neutral and their full expressions to the full range."""
    means = {name: codes.mean(axis=0, dtype=np.float64) for name, codes in seen.codes.items()}
    middle = means["neutral"]
    moved, rest = reference.correction({name: mean.astype(np.float32) for name, mean in means.items()})
    ranges = np.array([
        reference.along((means[name] - middle)[None].astype(np.float32))[0, k] / reference.reach[k]
        for k, name in enumerate(DIRECTIONS)
    ])  # fmt: skip
    gain = _gain(ranges) if np.linalg.norm(moved / reference.spread) < NEARLY_NEUTRAL else 1.0
    shift = middle + moved - gain * middle
    found = WearerCalibration(
        np.full(len(middle), gain, np.float32), shift.astype(np.float32), reference.encoder_sha256
    )
    told = [{name: round(float(v), 3) for name, v in zip(DIRECTIONS, some, strict=True)} for some in (rest, ranges)]
    return Found(found, *told)


def _gain(ranges: F64) -> float:
    """Of a wearer whose full expressions are all smaller, or all larger, than usual; by the one nearest to usual."""
    low, high = USUAL_RANGE
    if (ranges < low).all():
        return min(low / max(float(ranges.max()), 1e-3), MAX_GAIN)
    if (ranges > high).all():
        return max(high / float(ranges.min()), 1 / MAX_GAIN)
    return 1.0
