"""Sound that fits the pictures: placed by when it was heard, whatever the sound card's own clock does.

A microphone gives blocks of samples with the time at which the first of them was heard. Pictures are placed by when
they were captured, on the same clock, so sound comes out delayed by exactly what the pictures took on their way; what
happened before a picture's time stamp, inside the camera, is a delay of the user's choice.

    blocks -> times smoothed (``SmoothTimes``) -> resampled to fit them (libswresample) -> AAC

The sound card's clock and the computer's differ by some 100 millionths, a third of a second in an hour. Nothing is cut
for that: the sound is resampled by as much, which nobody hears. Lost samples become silence of their length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import BlockingIOError as NothingYet
from av.error import EOFError as Ended
from av.packet import Packet

from engines.types import F32

RATE = 48_000
"""Of the recording's sound."""
_BITS_PER_CHANNEL = 96_000
_FRAME = 1024
"""AAC's."""
_MICROSECOND = Fraction(1, 1_000_000)
_WAKING_HZ, _STEADY_HZ, _WAKING_S = 1.0, 0.1, 5.0
"""How quickly smoothed times follow measured ones: fast in the beginning, then calmly."""
_OUTLIER_S = 0.02
_JUMP_S = 0.06
_BELIEVED_S = 0.5
_MOST_DRIFT = 0.02
_LAG_S = 1.0
"""A microphone that is this late is silent for now: pictures must not wait for it."""


@dataclass(frozen=True, slots=True)
class SoundBlock:
    """Consecutive samples."""

    samples: F32
    """(n, channels), -1 .. 1."""
    captured_ns: int
    """When the first of them was heard, on the clock of ``Frame.captured_ns``."""
    lost: bool = False
    """Whether samples were lost right before it."""


class SoundSource(Protocol):
    """A microphone. Opened by ``start``; used from one thread."""

    name: str
    rate: int
    """Nominal samples a second."""
    channels: int
    """1 or 2."""

    @property
    def problem(self) -> str | None:
        """Why no more sound comes, in plain words; None while all is well."""
        ...

    def start(self) -> None:
        """Begin to listen. Raises SourceError and its kinds, MissingDependencyError."""
        ...

    def read(self) -> list[SoundBlock]:
        """What was heard since the last call, in order; does not wait."""
        ...

    def close(self) -> None:
        """Stop listening. May be called twice."""
        ...


class SmoothTimes:
    """When each block really began: measured times jitter by milliseconds, samples come evenly.

    A delay-locked loop of second order, which follows a card whose rate is off without a lasting error (Adriaensen,
    "Using a DLL to filter time", 2005). Measured times that stay away from the expected ones mean that samples were
    lost, and are believed after half a second.
    """

    def __init__(self, rate: int) -> None:
        self._nominal_s = self._period_s = 1.0 / rate
        self._next_s: float | None = None
        self._age_s = self._away_s = 0.0

    def place(self, measured_s: float, count: int, *, lost: bool = False) -> float:
        """When a block of ``count`` samples began, in seconds, of when it seems to have begun."""
        if self._next_s is None or lost or self._away_s > _BELIEVED_S:
            begin, self._age_s, self._away_s = measured_s, 0.0, 0.0
            self._next_s = begin + count * self._period_s
            return begin
        begin, error = self._next_s, measured_s - self._next_s
        length_s = count * self._nominal_s
        self._away_s = self._away_s + length_s if abs(error) > _JUMP_S else 0.0
        error = min(max(error, -_OUTLIER_S), _OUTLIER_S)
        hertz = _WAKING_HZ if self._age_s < _WAKING_S else _STEADY_HZ
        omega = 2.0 * math.pi * hertz * length_s
        self._age_s += length_s
        self._next_s = begin + math.sqrt(2.0) * omega * error + count * self._period_s
        period_s = self._period_s + omega * omega * error / count
        self._period_s = min(max(period_s, self._nominal_s * (1 - _MOST_DRIFT)), self._nominal_s * (1 + _MOST_DRIFT))
        return begin


class SoundTrack:
    """The AAC track of one recording; its time 0 is the recording's."""

    def __init__(self, container: OutputContainer, rate: int, channels: int) -> None:
        """Adds the track to ``container``, before anything is written. ``rate`` and ``channels`` of the source."""
        self._layout = "mono" if channels == 1 else "stereo"
        self._rate = rate
        self._times = SmoothTimes(rate)
        self._stream: AudioStream = container.add_stream("aac", rate=RATE, layout=self._layout)
        self._stream.bit_rate = _BITS_PER_CHANNEL * channels
        self._fitter = _fitter(rate, self._layout)
        self.written_s = 0.0
        """Sound there is up to this time."""
        self._pushed_s = 0.0
        self._silent = False
        """Whether ``fill`` came in between."""

    def push(self, block: SoundBlock, measured_s: float) -> Iterator[Packet[AudioStream]]:
        """Encode a block that began at ``measured_s`` of the recording; what lies before 0 is left out."""
        count = len(block.samples)
        begin_s = self._times.place(measured_s, count, lost=block.lost or self._silent)
        self._silent = False
        if begin_s + count / self._rate > 0.0:
            yield from self._fit(block.samples, begin_s)

    def fill(self, until_s: float) -> Iterator[Packet[AudioStream]]:
        """Silence, if the sound is over a second behind the pictures; what comes later for that time is dropped."""
        while until_s - self._pushed_s > _LAG_S:
            length_s = min(until_s - self._pushed_s - _LAG_S / 2, _LAG_S)
            silence = np.zeros((round(length_s * self._rate), 1 if self._layout == "mono" else 2), np.float32)
            self._silent = True
            yield from self._fit(silence, self._pushed_s)

    def finish(self) -> Iterator[Packet[AudioStream]]:
        """The rest."""
        self._fitter.push(None)
        yield from self._drain()
        yield from self._stream.encode(None)

    def _fit(self, samples: F32, begin_s: float) -> Iterator[Packet[AudioStream]]:
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples.reshape(1, -1)), "flt", self._layout)
        frame.sample_rate = self._rate
        frame.time_base, frame.pts = _MICROSECOND, round(begin_s * 1e6)
        self._pushed_s = max(self._pushed_s, begin_s + len(samples) / self._rate)
        self._fitter.push(frame)
        yield from self._drain()

    def _drain(self) -> Iterator[Packet[AudioStream]]:
        while True:
            try:
                fitted = self._fitter.pull()
            except (NothingYet, Ended):
                return
            if not isinstance(fitted, AudioFrame) or fitted.pts is None:
                continue
            self.written_s = (fitted.pts + fitted.samples) / RATE
            yield from self._stream.encode(fitted)


def _fitter(rate: int, layout: str) -> av.filter.Graph:
    """Samples and their times in, evenly ``RATE`` samples a second out, beginning at 0.

    ``async``: at most so many samples a second more or fewer, half a percent; a millisecond is corrected softly in a
    second, more than 20 ms by silence or by a cut.
    """
    graph = av.filter.Graph()
    chain = [
        graph.add("abuffer", f"sample_rate={rate}:sample_fmt=flt:channel_layout={layout}:time_base={_MICROSECOND}"),
        graph.add("aresample", f"{RATE}:async={RATE // 200}:min_comp=0.001:min_hard_comp=0.02:first_pts=0"),
        graph.add("aformat", f"sample_fmts=fltp:channel_layouts={layout}"),
        graph.add("asetnsamples", f"{_FRAME}:pad=0"),
        graph.add("abuffersink"),
    ]
    graph.link_nodes(*chain).configure()
    return graph
