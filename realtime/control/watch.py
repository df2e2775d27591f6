"""What a live run looks like from outside, a few times a second: one small ``LiveState``."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import get_args

from realtime.config import Settings
from realtime.control.desk import Desk, Parts
from realtime.control.state import (
    LOG_LINES,
    Counted,
    Knob,
    KnobLimits,
    LiveState,
    Phase,
    RecordingNow,
    Timing,
    Value,
    WornNow,
    limits_of,
)
from realtime.pacing import Clock, now_ns
from realtime.recording import Recording

KNOBS: tuple[Knob, ...] = get_args(Knob)
SPAN_S = 2.0
"""Rates are counted over the newest so many seconds."""
MANY_DROPS = 0.1
REASONS = {
    "no_face": "no face is seen",
    "detector_error": "the face detection failed",
    "runtime_error": "the persona's network failed",
    "bad_output": "the persona's network gave nonsense",
    "empty_mask": "the swap would not cover the face",
    "late": "the picture came too late",
    "source_lost": "the camera gives no pictures",
    "consent": "the person's consent is over",
    "veiled": "you asked for the veil",
    "standby": "the stream is stopped",
}
INSTEAD = {
    "veil": "viewers see a blur",
    "hold": "viewers see the last good picture, then a blur",
    "card": "viewers see a still picture",
    "passthrough": "viewers see YOUR OWN FACE",
}


def knob_limits() -> dict[Knob, KnobLimits]:
    """Of every knob, as ``Settings`` declares them."""
    schema = Settings.model_json_schema()
    return {knob: limits_of(schema, knob) for knob in KNOBS}


class Log:
    """The newest lines for people, numbered. From any thread."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, str]] = deque(maxlen=LOG_LINES)
        self.count = 0
        """Lines so far."""
        self._lock = threading.Lock()

    def add(self, text: str) -> None:
        """One more."""
        with self._lock:
            self.count += 1
            self._lines.append((self.count, text[:400]))

    def lines(self) -> tuple[tuple[int, str], ...]:
        """(number, text), the oldest first."""
        with self._lock:
            return tuple(self._lines)


class Watcher:
    """Makes the state. ``state`` belongs to the thread of the frames and takes about 0.2 ms."""

    def __init__(
        self,
        parts: Parts,
        desk: Desk,
        log: Log,
        *,
        source: str,
        source_fps: float,
        dropped: Callable[[], int],
        clock: Clock = now_ns,
    ) -> None:
        self._parts, self._desk, self._log = parts, desk, log
        self._source, self._source_fps, self._dropped, self._clock = source, source_fps, dropped, clock
        self._past: deque[tuple[int, int, int, int]] = deque()
        """(time, sent, swapped, dropped), the oldest first."""
        self._reasons: dict[str, int] = {}
        self._covered: str | None = None
        self._worn: tuple[int, tuple[str, ...]] | None = None

    def covered(self) -> bool:
        """Whether the newest picture shows no swap, as far as is known."""
        return self._covered is not None or self._parts.pipeline.held is not None

    def state(self, *, ended: bool = False) -> LiveState:
        """Now."""
        parts, settings, counts = self._parts, self._desk.settings, self._parts.pipeline.counts
        dropped = self._dropped()
        now = self._clock()
        self._past.append((now, counts.sent, counts.swapped, dropped))
        while len(self._past) > 2 and now - self._past[1][0] > SPAN_S * 1e9:
            self._past.popleft()
        then = self._past[0]
        span_s = (now - then[0]) / 1e9
        fps = (counts.sent - then[1]) / span_s if span_s > 0.2 else 0.0
        recent = parts.pipeline.trace.recent()
        covered = self._why_covered()
        by_hand: Phase = "standby" if self._desk.standby else "veiled" if self._desk.veiled else "running"
        lost = dropped - then[3]
        return LiveState(
            phase="ended" if ended else by_hand,
            source=self._source,
            sink=", ".join(settings.sink),
            size=parts.size,
            fps=round(fps, 1),
            source_fps=round(self._source_fps, 1),
            latency=_timing("total", recent.get("total", (0.0, 0.0))),
            stages=tuple(_timing(name, both) for name, both in recent.items() if name != "total"),
            frames=Counted(sent=counts.sent, swapped=counts.swapped, covered=counts.policy, dropped=dropped),
            covered_now=covered,
            persona=self._persona(),
            changing=self._desk.changing,
            policy=settings.policy.value,
            knobs={knob: _value(getattr(settings, knob)) for knob in KNOBS} | {"morph": self._morph(settings)},
            knobs_fixed=self._fixed(),
            confirm=self._desk.question,
            recording=recording_now(parts.recording),
            level=None if parts.quality.governor is None else str(parts.quality.governor.level),
            warnings=tuple(self._warnings(settings, covered, lost, counts.sent - then[1])),
            log=self._log.lines(),
            error=self._desk.error,
        )

    def _why_covered(self) -> str | None:
        """By what has been counted since the last state."""
        counts = self._parts.pipeline.counts
        held = self._parts.pipeline.held
        if held is not None:
            self._covered = held.value
        elif self._past[-1][2] > (self._past[-2][2] if len(self._past) > 1 else 0):
            self._covered = None
        else:
            grown = {name: count - self._reasons.get(name, 0) for name, count in counts.reasons.items()}
            most = max(grown, key=lambda name: grown[name], default=None)
            if most is not None and grown[most] > 0:
                self._covered = most
        self._reasons = dict(counts.reasons)
        return self._covered

    def _persona(self) -> WornNow:
        worn = self._parts.quality.worn
        manifest = worn.persona.manifest
        if self._worn is None or self._worn[0] != id(worn):
            self._worn = id(worn), tuple(self._parts.tiers(manifest.name)) or (manifest.tier,)
        return WornNow(
            name=manifest.name, title=manifest.title, kind=manifest.kind, tier=manifest.tier, tiers=self._worn[1],
            runtime=worn.runtime.name, precision=worn.runtime.precision,
        )  # fmt: skip

    def _morph(self, settings: Settings) -> float | None:
        """None: the worn persona has none."""
        begun = self._parts.quality.worn.persona.manifest.morph
        return begun if begun is None or settings.morph is None else settings.morph

    def _fixed(self) -> dict[Knob, str]:
        fixed: dict[Knob, str] = {}
        if self._parts.quality.worn.persona.manifest.code_reference is None:
            fixed["strength"] = "This persona's file does not know its neutral face"
        if self._parts.pipeline.stages.label is None:
            fixed["label_position"] = "The label is off: --label"
        if not self._desk.settings.smooth:
            fixed["smoothing"] = "Smoothing is off: --smooth"
        return fixed

    def _warnings(self, settings: Settings, covered: str | None, lost: int, sent: int) -> list[str]:
        found = []
        if covered is not None and covered not in {"veiled", "standby"}:
            why = REASONS.get(covered, covered)
            found.append(f"{why[0].upper()}{why[1:]}: {INSTEAD[settings.policy.value]}.")
        if settings.policy.value == "passthrough":
            found.append("Without a swap viewers see YOUR OWN FACE. Choose another policy to stop that.")
        if sent > 10 and lost > MANY_DROPS * (lost + sent):
            share = 10 * round(10 * lost / (lost + sent))  # a warning whose number changes is read aloud each time
            found.append(f"This computer is too slow for every picture: about {share} of 100 are left out.")
        now = recording_now(self._parts.recording)
        if now.failed and now.message:
            found.append(f"The recording ended: {now.message}.")
        return found


def recording_now(recording: Recording | None) -> RecordingNow:
    """What a page shows of the recorder."""
    if recording is None:
        return RecordingNow()
    now = recording.state
    return RecordingNow(
        available=True, phase=now.phase, seconds=round(now.seconds, 1), message=now.message, failed=now.failed,
        path=None if now.path is None else str(now.path), microphone=now.microphone,
    )  # fmt: skip


def _timing(stage: str, both: tuple[float, float]) -> Timing:
    return Timing(stage=stage, p50=round(both[0], 2), p99=round(both[1], 2))


def _value(value: object) -> Value:
    return value if value is None or isinstance(value, bool | str) else float(str(value))
