"""A wearer's calibration from twenty seconds of guided expressions: what they are asked, and what is learned from it.

    guided = collect(frames, read)
    found = calibrate(guided, reference)

The same for a camera and a file: prompts follow the frames' own time stamps.

What can be put right is what the encoder sees. ``GuidedReference`` knows, of many invented people, the directions of
the code in which smiling and opening the mouth move it, and where along them a neutral face lies, given the rest of its
code (light, pose and the shape of the face shift it too). Brows and lids have no direction: the tiny encoder hardly
sees them, so neither does a bias of them reach the persona. A wearer whose face at rest lies elsewhere is moved there:

    want  = expected - found, along each direction
    shift = want * want^2 / (want^2 + (DOUBT * sd)^2)

with sd what neutral people differ by anyway: small deviations are hardly touched, large ones almost wholly. The range,
so that a full smile is full, is one gain around the neutral face, and only for those who move far less, or far more,
than others in every direction: one direction alone says little (a face that smiles at rest cannot smile much more), and
a gain that follows it made swaps worse. A shift of the whole code to the mean of training's
wearers (``engines.wearer.calibrate_codes``) was measured to make swaps worse: it takes the wearer's light along.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

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
DIRECTIONS = ("smile", "open")
RIDGE = 30.0
"""Of what is expected, on codes in spreads of training; measured on people that were left out."""
DOUBT = 1.5
"""Measured: at 1 unbiased wearers are moved half as much again, at 2 strong biases stay a tenth larger."""
USUAL_RANGE = (0.65, 1.5)
"""Of full expressions, shares of the average person's: within it there is no gain."""
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
    middle: F64
    """(C,) mean of neutral codes across the axes, whitened."""
    slope: F64
    """(C, K) what is expected along the axes, from a code across them."""
    level: F64
    """(K,) mean of neutral codes along the axes."""
    sd: F64
    """(K,) by which neutral people differ from what is expected of them; people left out of the slope."""

    def along(self, codes: F32) -> F64:
        """(N, K) of codes (N, C)."""
        return np.asarray(codes / self.spread @ self.axes.T, np.float64)

    def expected(self, codes: F32) -> F64:
        """(N, K) where neutral faces with codes (N, C) would lie."""
        white = codes / self.spread
        across = white - (white @ self.axes.T) @ self.axes
        return np.asarray((across - self.middle) @ self.slope + self.level, np.float64)

    def encode(self) -> bytes:
        """As a .npz."""
        file = io.BytesIO()
        arrays = {name: getattr(self, name).astype(np.float32) for name in _ARRAYS}
        np.savez_compressed(file, encoder_sha256=np.array(self.encoder_sha256), **arrays)
        return file.getvalue()


_ARRAYS = ("spread", "axes", "reach", "middle", "slope", "level", "sd")


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


def make_reference(
    encoder_sha256: str, spread: F32, neutral: Sequence[F32], people: Sequence[int], moves: Mapping[str, Sequence[F32]]
) -> GuidedReference:
    """From mean neutral codes (C,) of sessions, whose (numbers) they are, and full expressions less neutral (C,).

    Raises DataError for fewer than ten people.
    """
    who, white = np.array(people), np.array(neutral, np.float64) / spread
    if len(set(people)) < 10:
        raise DataError(f"{len(set(people))} people are no reference", hint="take 60")
    mean_moves = np.array([np.mean(moves[name], axis=0) for name in DIRECTIONS], np.float64) / spread
    q, r = np.linalg.qr(mean_moves.T)
    signs = np.sign(np.diag(r))
    axes = (q * signs).T
    along = white @ axes.T
    across = white - along @ axes
    left_out = np.concatenate([
        along[who == one] - _predict(*_ridge(across[who != one], along[who != one]), across[who == one])
        for one in sorted(set(people))
    ])  # fmt: skip
    middle, slope, level = _ridge(across, along)
    reach = np.abs(np.diag(r))
    return GuidedReference(
        encoder_sha256, np.asarray(spread, np.float64), axes, reach, middle, slope, level, left_out.std(axis=0)
    )


def _ridge(x: F64, y: F64) -> tuple[F64, F64, F64]:
    """Middle (C,), slope (C, K) and level (K,) of y on x."""
    middle, level = x.mean(axis=0), y.mean(axis=0)
    away = x - middle
    weights = np.linalg.solve(away @ away.T + RIDGE * np.eye(len(away)), y - level)
    return middle, away.T @ weights, level


def _predict(middle: F64, slope: F64, level: F64, x: F64) -> F64:
    return np.asarray((x - middle) @ slope + level, np.float64)


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
    neutral = seen.codes["neutral"].astype(np.float64)
    middle = neutral.mean(axis=0)
    row = middle[None].astype(np.float32)
    want = (reference.expected(row) - reference.along(row))[0]
    moved = np.clip(want * want**2 / (want**2 + (DOUBT * reference.sd) ** 2), -MOST_SHIFT, MOST_SHIFT)
    ranges = np.array([
        (reference.along(seen.codes[name]).mean(axis=0)[k] - reference.along(row)[0, k]) / reference.reach[k]
        for k, name in enumerate(DIRECTIONS)
    ])  # fmt: skip
    gain = _gain(ranges)
    shift = middle + (moved @ reference.axes) * reference.spread - gain * middle
    found = WearerCalibration(
        np.full(len(middle), gain, np.float32), shift.astype(np.float32), reference.encoder_sha256
    )
    at_rest = {name: round(float(-want[k] / reference.reach[k]), 3) for k, name in enumerate(DIRECTIONS)}
    return Found(found, at_rest, {name: round(float(r), 3) for name, r in zip(DIRECTIONS, ranges, strict=True)})


def _gain(ranges: F64) -> float:
    """Of a wearer whose full expressions are all smaller, or all larger, than usual; by the one nearest to usual."""
    low, high = USUAL_RANGE
    if (ranges < low).all():
        return min(low / max(float(ranges.max()), 1e-3), MAX_GAIN)
    if (ranges > high).all():
        return max(high / float(ranges.min()), 1 / MAX_GAIN)
    return 1.0
