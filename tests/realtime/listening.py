"""A microphone and a stream whose clocks the test sets: claps are heard at the moment at which flashes are seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from engines.types import F32, U8, Frame
from realtime.sound import SoundBlock

BASE_NS = 987_654_321_000
"""What the clock shows when the first picture is captured."""
CLAP_S = 0.001


class FakeMicrophone:
    """Hears a clap, a short bell, at each of ``claps`` (seconds after BASE_NS).

    ``drift``: its clock is fast by this part. ``jitter_s``: of the times that it says. ``late_s``: how long after its
    last sample a block can be read. ``deaf``: (from, until) seconds of which nothing comes. ``now_s`` is set from
    outside.
    """

    name = "fake"
    channels = 1

    def __init__(
        self,
        claps: Sequence[float],
        *,
        rate: int = 48_000,
        drift: float = 0.0,
        jitter_s: float = 0.0,
        late_s: float = 0.03,
        begin_s: float = -0.2,
        deaf: tuple[float, float] | None = None,
        block_s: float = 0.02,
    ) -> None:
        self.rate, self.now_s = rate, begin_s
        self.claps, self._late_s, self._jitter_s, self._deaf, self._begin_s = claps, late_s, jitter_s, deaf, begin_s
        self._true_rate = rate * (1.0 + drift)
        self._count = round(rate * block_s)
        self._heard = 0
        self._rng = np.random.default_rng(1)
        self.problem: str | None = None
        self.open = False

    def start(self) -> None:
        self.open = True

    def close(self) -> None:
        self.open = False

    def read(self) -> list[SoundBlock]:
        blocks = []
        while (end := self._time(self._heard + self._count)) + self._late_s <= self.now_s:
            begin = self._time(self._heard)
            if self._deaf is None or not self._deaf[0] <= begin < self._deaf[1]:
                said = begin + self._rng.uniform(-self._jitter_s, self._jitter_s)
                blocks.append(SoundBlock(self._samples(begin), BASE_NS + round(said * 1e9)))
            self._heard += self._count
            assert end > begin
        return blocks

    def _time(self, sample: int) -> float:
        return self._begin_s + sample / self._true_rate

    def _samples(self, begin: float) -> F32:
        out = np.zeros((self._count, self.channels), np.float32)
        length_s = self._count / self._true_rate
        for clap in self.claps:
            if begin - 0.02 < clap < begin + length_s + 0.02:
                t = begin + np.arange(self._count) / self._true_rate
                out += (0.8 * np.exp(-(((t - clap) / CLAP_S) ** 2)))[:, None].astype(np.float32)
        return out


def flashing(index: int, flashes: Sequence[int]) -> U8:
    """Dark, and bright in the frames ``flashes``."""
    return np.full((48, 64, 3), 235 if index in flashes else 16, np.uint8)


def captured(index: int, fps: float, pixels: U8, stamp_ns: int = 0) -> Frame:
    """Captured ``index`` / ``fps`` seconds after BASE_NS; its time stamp began at ``stamp_ns``."""
    at = round(index * 1e9 / fps)
    return Frame(pixels, index, BASE_NS + at, stamp_ns + at)


def seen_and_heard(path: Path) -> tuple[list[float], list[float]]:
    """Seconds of all flashes and of all claps in a file, as a player that honours its edit lists has them."""
    with av.open(str(path)) as container:
        flashes = [f.time for f in container.decode(video=0) if f.to_ndarray(format="gray").mean() > 120]
    with av.open(str(path)) as container:
        at, parts = [], []
        for sound in container.decode(audio=0):
            at.append(sound.time)
            parts.append(np.abs(sound.to_ndarray()).mean(axis=0))
    claps, rate = [], 48_000
    track = np.zeros(round((at[-1] + 1.0) * rate))
    for start, part in zip(at, parts, strict=True):
        first = round(start * rate)
        cut = max(0, -first)
        track[first + cut : first + len(part)] = part[cut:]
    where = np.flatnonzero(track > 0.3)
    for group in np.split(where, np.flatnonzero(np.diff(where) > rate // 10) + 1):
        if len(group):
            claps.append(float(np.average(group, weights=track[group])) / rate)
    return flashes, claps
