"""THE MAIN PATH.

    capture thread -> newest frame -> detect -> align -> swap -> blend into the frame -> mark and label -> sinks

One thread does it all after capture, because the stages together fit into one frame's time. Every frame that comes in
goes out exactly once and in order: swapped, or covered by the failure policy. Whatever detection, alignment, swap or
blending raise, the frame is covered; if mark, label or policy themselves fail, the run ends and nothing is sent. No
path sends the wearer's own pixels unless the policy ``passthrough`` was asked for by name.

What comes out of the box belongs to this loop: where nobody else holds a frame's pixels, they become the outgoing
picture; else a copy of them does. Everything large is allocated at the start; what a frame allocates are a few small
arrays and objects (landmarks, affines: about 30 kB, freed with it). No lock is held while a stage runs.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from engines import geometry
from engines.errors import ConsentError, DetectorError, PersonacamError, RuntimeFailure, SinkError
from engines.mesh_subset import MESH_SUBSET, crop_points
from engines.types import F32, F64, U8, AlignedFace, Detection, Frame, Swap
from realtime.latest import Closed, Latest
from realtime.pacing import Clock, now_ns
from realtime.policy import PolicyGate, Reason
from realtime.ring import UNSHARED, PictureRing
from realtime.sink import Sink, StopRequested
from realtime.stages import Draws, OwnSquare, Stages, Swaps
from realtime.trace import Trace

__all__ = ["Counts", "Limits", "Pipeline", "Stages"]

_log = logging.getLogger("personacam")
_POLL_S = 0.1


@dataclass(frozen=True)
class Limits:
    """When to stop, and when a frame is too late."""

    frames: int | None = None
    seconds: float | None = None
    deadline_ms: float | None = None
    """None: frames are never too late (files)."""
    stall_s: float | None = 1.0
    """So long without a frame, and the policy's picture is sent instead. None: never (files read at any rate)."""


@dataclass
class Counts:
    """What became of the frames."""

    sent: int = 0
    swapped: int = 0
    policy: int = 0
    thinned: int = 0
    """Frames left out to halve the rate (see ``Pipeline.send_every``); nothing was sent for them."""
    reasons: dict[str, int] = field(default_factory=dict)
    first_errors: dict[str, str] = field(default_factory=dict)


class Pipeline:
    """Runs until the input ends, ``stop`` is set, a limit is reached or a sink fails.

    ``watch`` is called after each swap with the frame and its raw swap, before blending; it is for measuring only.
    ``sent`` is called after each frame that went out.
    """

    def __init__(
        self,
        frames: Latest[Frame],
        stages: Stages,
        gate: PolicyGate,
        sinks: Sequence[Sink],
        *,
        size: tuple[int, int],
        limits: Limits,
        trace: Trace,
        clock: Clock = now_ns,
        watch: Callable[[Frame, Swap], None] | None = None,
        sent: Callable[[Frame], None] | None = None,
        mark: Draws | None = None,
    ) -> None:
        self._frames, self._stages, self._sinks = frames, stages, list(sinks)
        self.gate = gate
        """What covers frames without a swap. To be set by ``before_each`` looks only."""
        self._limits, self.trace, self._clock, self._watch, self._mark = limits, trace, clock, watch, mark
        self._after: tuple[Callable[[Frame], None], ...] = () if sent is None else (sent,)
        self._taps: tuple[Callable[[U8, Frame], None], ...] = ()
        self._before: tuple[Callable[[], None], ...] = ()
        self.held: Reason | None = None
        """Why every picture is covered, by the user's wish. May be set by any thread: the next one to leave obeys."""
        self.prepare: Callable[[Frame], Frame] | None = None
        """What is done to each frame first, for example to mirror it. To be set by ``before_each`` looks only."""
        self.counts = Counts()
        self.send_every = 1
        """Only every so many-th frame of the source is worked on; may be set by any thread between frames."""
        self.cost_ns = 0
        """What the last frame took, from the box to the last sink, and settling it."""
        self._lock = threading.Lock()
        """Of ``_following``; never held while a stage runs."""
        self._following: tuple[Stages, Callable[[], None]] | None = None
        self._ring = PictureRing(size)
        self._out: U8 = self._ring.next()
        self._crop: U8 = np.zeros((stages.swap.crop_size, stages.swap.crop_size, 3), np.uint8)
        self._square = _own_square(stages.swap)
        self._points: F32 = np.zeros((len(MESH_SUBSET), 2), np.float32)
        self._last_ns: int | None = None
        self._last_frame: Frame | None = None
        self._unsettled: Exception | None = None
        """What settling the frame before raised: it covers the next one."""

    def run(self, stop: threading.Event) -> None:
        """Process frames. Raises SourceError when the input fails, SinkError when an output does; both after the
        policy's picture went out.
        """
        started = self._clock()
        waiting_since = started
        while not stop.is_set() and not self._finished(started):
            try:
                frame = self._frames.get(_POLL_S)
            except Closed:
                return
            except PersonacamError:
                self._cover_loss()
                raise
            now = self._clock()
            if frame is None:
                waiting_since = min(waiting_since, now)  # a clock that ran backwards must not hide a stall
                if self._limits.stall_s is not None and now - waiting_since > self._limits.stall_s * 1e9:
                    self._cover_loss()
                    waiting_since = now
                continue
            waiting_since = now
            if frame.index % self.send_every:
                self.counts.thinned += 1
                continue
            try:
                self.step(frame, own=True)
            except StopRequested:
                return

    def before_each(self, *looks: Callable[[], None]) -> None:
        """Call these before each frame, in the thread of the frames: what they change counts for it; before ``run``."""
        self._before += looks

    def after_each(self, *looks: Callable[[Frame], None]) -> None:
        """Call these too after each frame that went out, in the thread of the frames; before ``run``."""
        self._after += looks

    def tap(self, *taps: Callable[[U8, Frame], None]) -> None:
        """Give these each picture that goes out, after the sinks, in the thread of the frames; before ``run``.

        They take microseconds, do not raise and write to nothing; a reference keeps the picture (``PictureRing``).
        """
        self._taps += taps

    @property
    def stages(self) -> Stages:
        """What runs now."""
        return self._stages

    def restage(self, change: Callable[[Stages], Stages]) -> None:
        """Change the stages at hand, and those that wait for the next frame; to be called by ``before_each`` looks."""
        with self._lock:
            self._stages = change(self._stages)
            if self._following is not None:
                self._following = change(self._following[0]), self._following[1]

    def exchange(self, stages: Stages, exchanged: Callable[[], None]) -> None:
        """Other stages from the next frame on; whatever they need was loaded before. May be called from any thread.

        ``exchanged`` is called in the thread of the frames, when the stages before are no longer used. Raises
        RuntimeFailure when an exchange is waiting already.
        """
        with self._lock:
            if self._following is not None:
                raise RuntimeFailure("other stages are waiting for the next frame already", hint="wait for it")
            self._following = stages, exchanged

    def _exchange(self) -> None:
        with self._lock:
            following, self._following = self._following, None
        if following is None:
            return
        self._stages, exchanged = following
        side = self._stages.swap.crop_size
        if side != len(self._crop):
            self._crop = np.zeros((side, side, 3), np.uint8)
        self._square = _own_square(self._stages.swap)
        exchanged()

    def step(self, frame: Frame, *, own: bool = False) -> None:
        """One frame, from arrival to the sinks. ``own``: its pixels may be written to, if nobody holds the array."""
        started = self._clock()
        for before in self._before:
            before()
        if self._following is not None:
            self._exchange()
        if self.prepare is not None:
            frame = self.prepare(frame)
        self._last_frame = frame
        # Given back before another is asked for: the ring sees who holds a picture.
        del self._out
        self._out = self._ring.next()
        reason, swap = (self.held, None) if self.held is not None else self._swap_into_out(frame, own=own)
        reason = self.held or reason  # asked for while the frame was worked on, it counts for this one
        now = self._clock()
        late = self._limits.deadline_ms
        if reason is None and late is not None and now - frame.captured_ns > late * 1e6:
            reason = Reason.LATE
        if reason is None:
            with self.trace.stage("mark"):
                if self._mark is not None:
                    self._mark.draw(self._out)
                if self._stages.label is not None:
                    self._stages.label.draw(self._out)
            self.gate.remember(self._out, now)
        else:
            if self._out is frame.pixels:
                self._out = self._ring.next()
            self._cover(frame, reason, now)
        self._send(frame)
        self._settle(frame)
        self.cost_ns = self._clock() - started
        self.counts.swapped += reason is None
        for look in self._after:
            look(frame)
        if self._watch is not None and swap is not None and reason is None:
            self._watch(frame, swap)

    def _swap_into_out(self, frame: Frame, *, own: bool) -> tuple[Reason | None, Swap | None]:
        """Fill the output with the swapped frame. Returns why not, if not; the output is then not fit to be sent."""
        stages, trace = self._stages, self.trace
        reason = Reason.DETECTOR_ERROR
        try:
            with trace.stage("detect"):
                if self._unsettled is not None:
                    raise self._unsettled
                detection = stages.track.update(frame)
            if detection is None:
                _forget(stages)
                return Reason.NO_FACE, None
            with trace.stage("align"):
                to_frame = stages.track.align(detection, len(self._crop), frame.timestamp_ns / 1e9)
                if self._square is not None:
                    to_frame = geometry.compose(to_frame, self._square)
                features = geometry.features(detection.landmarks, detection.layout, to_frame)
                points = self._crop_points(detection, to_frame)
                stages.crop(frame.pixels, to_frame, self._crop)
                if stages.calm is not None:
                    stages.calm(self._crop, points, frame.timestamp_ns / 1e9)
            reason = Reason.RUNTIME_ERROR
            with trace.stage("swap"):
                swap = stages.swap.swap(AlignedFace(frame.index, self._crop, to_frame, features, points))
            with trace.stage("blend"):
                if own and self._nobody_holds(frame):
                    self._out = frame.pixels
                else:
                    np.copyto(self._out, frame.pixels)
                pasted = stages.blend.paste(self._out, swap, self._dt_s(frame))
        except Exception as error:  # noqa: BLE001 - whatever a stage raises, the policy covers the frame
            return self._note(error, reason), None
        if pasted <= 0:
            # The mask does not cover this face: perhaps it is none, so it is searched for again.
            self._start_afresh()
            return Reason.EMPTY_MASK, None
        return None, swap

    def _nobody_holds(self, frame: Frame) -> bool:
        """Whether the frame's pixels can become the outgoing picture: copying them costs 0.3 to 0.5 ms, because after
        the network no cache holds them. Neither the source, nor the tracker, which looks again at the frame before a
        check, nor a view keeps the array then; CPython knows, as for the ring's pictures.
        """
        if sys.getrefcount(frame.pixels) > UNSHARED:  # before anything here holds it, as its flags would
            return False
        flags = frame.pixels.flags
        return flags.owndata and flags.writeable and flags.c_contiguous and frame.pixels.shape == self._out.shape

    def _settle(self, frame: Frame) -> None:
        """After the frame went out, in the time that is left before the next one."""
        try:
            with self.trace.stage("settle"):
                self._stages.track.settle(frame)
        except Exception as error:  # noqa: BLE001 - whatever it raises, the policy covers the next frame
            self._unsettled = error

    def _crop_points(self, detection: Detection, to_frame: F64) -> F32 | None:
        """The mesh in the square that the pixels are cut from, so that both follow the same smoothed alignment."""
        if detection.layout != "mesh468":
            return None
        return crop_points(detection.landmarks, to_frame, len(self._crop), out=self._points)

    def _note(self, error: Exception, stage_reason: Reason) -> Reason:
        """Count a failure, tell the user the first time, and start the track afresh."""
        reason = stage_reason
        if isinstance(error, ConsentError):
            reason = Reason.CONSENT
        elif isinstance(error, DetectorError):
            reason = Reason.DETECTOR_ERROR
        elif isinstance(error, RuntimeFailure):
            reason = Reason.BAD_OUTPUT if getattr(error, "kind", "") == "bad_output" else Reason.RUNTIME_ERROR
        if reason.value not in self.counts.first_errors:
            text = str(error) if isinstance(error, PersonacamError) else f"{type(error).__name__}: {error}"
            self.counts.first_errors[reason.value] = text
            _log.warning("a frame was covered by the policy: %s", text)
        self._unsettled = None
        self._start_afresh()
        return reason

    def _start_afresh(self) -> None:
        self._stages.track.reset()
        _forget(self._stages)

    def _dt_s(self, frame: Frame) -> float:
        """Seconds since the last swapped frame, by the frames' own time."""
        last, self._last_ns = self._last_ns, frame.timestamp_ns
        return 0.0 if last is None else max(0.0, (frame.timestamp_ns - last) / 1e9)

    def _cover(self, frame: Frame, reason: Reason, now: int) -> None:
        self.gate.apply(self._out, frame, reason, now)
        self.counts.policy += 1
        self.counts.reasons[reason.value] = self.counts.reasons.get(reason.value, 0) + 1

    def _cover_loss(self) -> None:
        """The input stopped: send the policy's picture, so that nobody looks at a frozen last frame unknowingly."""
        if self._last_frame is None:
            return
        now = self._clock()
        # A time stamp of its own, after the last frame's: recordings must not go backwards.
        step = max(1, now - self._last_frame.captured_ns)
        frame = replace(self._last_frame, captured_ns=now, timestamp_ns=self._last_frame.timestamp_ns + step)
        self._last_frame = frame
        del self._out
        self._out = self._ring.next()
        self._cover(frame, Reason.SOURCE_LOST, now)
        self._send(frame)
        for look in self._after:
            look(frame)

    def _send(self, frame: Frame) -> None:
        with self.trace.stage("send"):
            for sink in list(self._sinks):
                try:
                    sink.send(self._out, frame)
                except StopRequested:
                    raise
                except SinkError as error:
                    self._drop(sink, error)
                except Exception as error:  # noqa: BLE001 - whatever a driver throws, the other outputs go on
                    self._drop(sink, SinkError(f"{sink.name} failed: {error}", hint="start again; report it"), error)
            for tap in self._taps:
                tap(self._out, frame)
        self.counts.sent += 1
        self.trace.add("total", self._clock() - frame.captured_ns)

    def _drop(self, sink: Sink, error: SinkError, cause: Exception | None = None) -> None:
        """A recording on a full disk must not end the call: go on with the others, unless there are none."""
        if len(self._sinks) == 1:
            raise error from cause
        self._sinks.remove(sink)
        self.counts.first_errors[f"sink {sink.name}"] = str(error)
        _log.warning("%s ended, the other outputs go on: %s", sink.name, error)

    def _finished(self, started: int) -> bool:
        limits = self._limits
        if limits.frames is not None and self.counts.sent >= limits.frames:
            return True
        return limits.seconds is not None and self._clock() - started > limits.seconds * 1e9


def _forget(stages: Stages) -> None:
    """The next face is another one, or in another place."""
    stages.blend.reset()
    if stages.calm is not None:
        stages.calm.reset()


def _own_square(swap: Swaps) -> F64 | None:
    """Pixels of the swap's own square -> of the standard one; None: it is that."""
    if not isinstance(swap, OwnSquare) or swap.square.standard:
        return None
    return swap.square.to_standard(swap.crop_size)
