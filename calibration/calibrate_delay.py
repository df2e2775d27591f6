"""How late a picture is: a code on a screen, filmed, says when what the camera saw was shown.

Two ways to ask. Where this computer shows the code itself, it knows when: a frame's time stamp less that time is the
camera's latency. Where a phone plays the clip of ``schedule``, nobody's clocks agree, but the clip clicks too: a
recording of both says by how much the picture comes later than the sound, whatever lies in between; to within half a
refresh of the phone's screen (8 ms at 60 Hz) where camera and screen are exactly in step.

Each number is shown for another while, so that a camera in step with the screen does not see the same phase of it in
every frame; a number stands, on average, for the middle of its time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.time_code import COUNT
from engines.errors import DataError
from engines.types import F32, F64

LEAST_READ = 40
"""Fewer frames with a readable code are no measurement: their mean is off by more than a millisecond or two."""
MOST_DELAY_MS = 2000.0
CLIP_FPS = 60
CLIP_S = 30.0
CLICK_HZ = 1500.0
CLICK_S = 0.008
AUDIO_RATE = 48_000
_SEED = 20
_HINT = "fill more of the camera's picture with the code, without reflections, and hold still"


@dataclass(frozen=True, slots=True)
class Delay:
    """In milliseconds."""

    ms: float
    """Mean of the frames' delays, without outliers."""
    spread_ms: float
    """Standard deviation of single frames, of which the code's own steps are a part."""
    frames: int
    """So many were read."""

    @property
    def error_ms(self) -> float:
        """Standard error of the mean."""
        return self.spread_ms / math.sqrt(max(self.frames, 1))


def delay_of(shown: Sequence[tuple[int, int]], seen: Iterable[tuple[int, int]]) -> Delay:
    """The time from a number's being shown to the time stamp of the frame that shows it.

    ``shown`` are (number, ns) in order, ``seen`` (number, captured_ns) by the same clock. A camera's long exposure
    counts by its middle, and so does a rolling shutter by the code's middle row. Raises DataError for too few frames.
    """
    starts: dict[int, list[tuple[int, int]]] = {}
    for (number, start), (_, end) in itertools.pairwise(shown):
        starts.setdefault(number % COUNT, []).append((start, end))
    found = []
    for number, captured_ns in seen:
        delays = [(captured_ns - (a + b) / 2) / 1e6 for a, b in starts.get(number, ())]
        # The code begins again after some time: the latest showing that can be meant.
        fitting = [ms for ms in delays if -50.0 < ms < MOST_DELAY_MS]
        if fitting:
            found.append(min(fitting))
    return _mean(found)


def _mean(found: Sequence[float]) -> Delay:
    """Without outliers: frames that waited somewhere, and misread numbers."""
    values = np.array(found, np.float64)
    if len(values) >= LEAST_READ:
        middle = float(np.median(values))
        width = max(10.0, 4.0 * float(np.median(np.abs(values - middle))))
        values = values[np.abs(values - middle) <= width]
    if len(values) < LEAST_READ:
        raise DataError(f"the code was read in {len(values)} frames, {LEAST_READ} are needed", hint=_HINT)
    return Delay(float(values.mean()), float(values.std()), len(values))


def steps(seed: int = _SEED, *, least_ms: float = 24.0, most_ms: float = 60.0) -> Iterable[float]:
    """How long each number stays, in milliseconds, for ever."""
    rng = np.random.default_rng(seed)
    while True:
        yield float(rng.uniform(least_ms, most_ms))


@dataclass(frozen=True, slots=True)
class Schedule:
    """What the clip shows and clicks."""

    numbers: NDArray[np.int64]
    """(frames,) of each picture, at CLIP_FPS."""
    clicks_s: F64
    """When it clicks: irregularly, so that there is one way only to lay them over a recording."""


def schedule() -> Schedule:
    """Always the same: a recording is read by it later."""
    rng = np.random.default_rng(_SEED)
    frames = round(CLIP_S * CLIP_FPS)
    change = np.zeros(frames, np.int64)
    at = 0
    while at < frames:
        change[at] = 1
        at += int(rng.integers(2, 5))
    clicks = np.cumsum(rng.uniform(0.35, 0.95, 80)) + 0.5
    return Schedule(np.cumsum(change), clicks[clicks < CLIP_S - 0.5])


def clicks_sound(plan: Schedule) -> F32:
    """(samples,) -1..1 at AUDIO_RATE: short bursts that begin at ``clicks_s``."""
    out = np.zeros(round(CLIP_S * AUDIO_RATE), np.float32)
    t = np.arange(round(CLICK_S * AUDIO_RATE)) / AUDIO_RATE
    burst = (0.8 * np.sin(2 * np.pi * CLICK_HZ * t)).astype(np.float32)
    for at in plan.clicks_s:
        start = round(at * AUDIO_RATE)
        out[start : start + len(burst)] = burst
    return out


def sound_late_by_s(samples: F32, rate: int, plan: Schedule) -> float:
    """Where the clip begins in a recording's sound, in seconds (negative: before the recording).

    ``samples`` (N,) -1..1. The onsets of the click's tone are laid over the schedule. Raises DataError where the clicks
    are not to be heard.
    """
    onsets = _onsets(samples, rate)
    lags = np.arange(-round((CLIP_S - 3.0) * 1000), len(onsets))
    hits = np.zeros(len(lags))
    for at in plan.clicks_s:
        index = lags + round(at * 1000)
        inside = (index >= 0) & (index < len(onsets))
        hits[inside] += onsets[index[inside]]
    best = int(hits.argmax())
    apart = np.abs(np.arange(len(lags)) - best) > 30
    heard = int(sum(0 <= lags[best] / 1000 + at < len(onsets) / 1000 for at in plan.clicks_s))
    if heard < 5 or hits[best] < 0.5 * heard or hits[best] < 1.5 * hits[apart].max(initial=0.0):
        raise DataError(
            "the clicks are not to be heard in the recording", hint="turn the phone louder, near the microphone"
        )
    return float(lags[best]) / 1000


def _onsets(samples: F32, rate: int) -> F64:
    """(milliseconds,) 0..1: where the click's tone begins, louder than before and than what usually goes on."""
    t = np.arange(len(samples)) / rate
    # Mixed down to 0 Hz and averaged over 4 ms: what is left is how loud the tone is.
    mixed = np.asarray(samples, np.float64) * np.exp(-2j * np.pi * CLICK_HZ * t)
    width = max(1, round(0.004 * rate))
    sums = np.concatenate([[0], np.cumsum(mixed)])
    at = np.arange(round(len(samples) / rate * 1000)) * rate / 1000
    # A window begins at its millisecond; half of it must lie in the burst to count half.
    first = np.minimum(at.astype(np.int64), len(samples))
    last = np.minimum(first + width, len(samples))
    level: F64 = np.abs(sums[last] - sums[first]) / width
    padded = np.concatenate([np.zeros(16), level])
    before = np.maximum.reduce([padded[16 - k : len(padded) - k] for k in (8, 12, 16)])
    rise = np.clip(level - before, 0.0, None)
    peak = float(np.percentile(rise, 99.5)) if len(rise) else 0.0
    return np.clip(rise / peak, 0.0, 1.0) if peak > 1e-5 else np.zeros(len(rise))


def picture_late_by_s(seen: Iterable[tuple[int, float]], plan: Schedule) -> tuple[float, Delay]:
    """Where the clip begins in a recording's pictures, in seconds, from (number, time in the recording in seconds).

    Also the same as a ``Delay``, for its spread. Raises DataError for too few frames.
    """
    middles: Mapping[int, float] = {
        int(n): float(np.flatnonzero(plan.numbers == n).mean() + 0.5) / CLIP_FPS for n in np.unique(plan.numbers)
    }
    found = _mean([(at - middles[number]) * 1000 for number, at in seen if number in middles])
    return found.ms / 1000, found
