"""What one process renders: some segments that follow each other, through the same pipeline as the live path.

Before its first picture a worker looks at those of WARM_S seconds before: tracking, colour and the policy are then what
they would be if one process had rendered everything, and no seam shows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from engines.blazeface import load_blazeface
from engines.errors import ConsentExpiredError, WeightsTamperedError
from engines.facemesh import load_facemesh
from engines.persona import Claim, Persona, read_persona
from engines.types import U8, Frame
from realtime import compile_apart, kernels
from realtime.blend import Blender
from realtime.config import Settings
from realtime.detect import Detector, MeshDetector
from realtime.engine_plan import live_runtime
from realtime.engine_switch import EngineSwitch
from realtime.latest import Latest
from realtime.live_settings import CurrentSettings, blend_config, tracker_config
from realtime.mark import Marker
from realtime.pipeline import Limits, Pipeline, Stages
from realtime.policy import PolicyGate, Reason
from realtime.provenance import Label, resolve_label
from realtime.render_clip import Clip, ClipReader
from realtime.render_faces import ChosenDetector, Guide
from realtime.render_segment import SegmentWriter
from realtime.render_smooth import AHEAD_S, LookAhead
from realtime.render_work import Segment, SegmentCounts
from realtime.session import open_swap_runtime, wearer_crops
from realtime.swap import Swapper
from realtime.trace import Trace
from realtime.track import Tracker, TrackerConfig

WARM_S = 3.0
"""Six times the time constant of the colour match, the slowest thing that is remembered."""


@dataclass(frozen=True, slots=True)
class Task:
    """Segments that follow each other, and all that is needed to render them; may be sent to another machine."""

    settings: Settings
    clip: Clip
    segments: tuple[Segment, ...]
    folder: Path
    """Where finished segments go."""
    persona: Path
    persona_sha256: str
    valid_until: float | None
    """Of a real person's consent, seconds since 1970. Whether it holds was decided before any worker began."""
    guide: Guide | None
    crf: int
    encoder_threads: int
    mark_key: bytes = field(repr=False)
    """Of the invisible mark; a secret of this computer."""
    session_id: int
    """What the mark says, in all segments."""
    persona_data: bytes | None = field(default=None, repr=False)
    """The file's bytes for a machine that does not have it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a worker says: pictures since it last said something, or a segment that is finished."""

    frames: int = 0
    segment: Segment | None = None
    counts: SegmentCounts | None = None
    runtime: str = ""


Heard = Callable[[Progress], None]


def render_task(task: Task, heard: Heard, stopped: Callable[[], bool]) -> None:
    """Render until the end or until ``stopped``. Raises PersonacamError; finished segments stay."""
    with ExitStack() as stack:
        persona = _persona(task, stack)
        runtime = live_runtime(
            persona, task.settings, open_swap_runtime(persona, task.settings), say=lambda _: None,
            crops=lambda: wearer_crops(persona.manifest.crop_size),
        )  # fmt: skip
        stack.callback(runtime.close)
        if isinstance(runtime, EngineSwitch):
            runtime.start()
            runtime.wait()
        detector = _detector(task)
        stack.callback(detector.close)
        compile_apart.warm_up()
        swapper = Swapper(persona, runtime)
        if task.settings.morph is not None:
            swapper.morph(task.settings.morph)
        swapper.express(task.settings.strength)
        heard(Progress(runtime=f"{runtime.name} {runtime.precision}"))
        _Stretch(task, persona, swapper, detector).run(heard, stopped)


def _persona(task: Task, stack: ExitStack) -> Persona:
    """The very file that the gate let pass. Raises WeightsTamperedError for another one."""
    path = task.persona
    if task.persona_data is not None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="personacam-")))
        path = folder / task.persona.name
        path.write_bytes(task.persona_data)
    persona = read_persona(path, admit=_decided)
    if persona.sha256 != task.persona_sha256:
        raise WeightsTamperedError(f"{task.persona} was changed while the film was made", hint="start again")
    return replace(persona, valid_until=task.valid_until)


def _decided(_claim: Claim) -> None:
    """An ``Admit`` for what the gate let pass before: the sha256 of the whole file is compared afterwards."""


def _detector(task: Task) -> Detector:
    threads = task.settings.threads
    if task.guide is not None:
        return ChosenDetector(load_blazeface(threads=threads), load_facemesh(threads=threads), task.guide)
    return MeshDetector.load(threads=threads)


class _Stretch:
    """A ``Sink`` that knows its segments, and the loop that fills it."""

    name = "film"
    report = ""

    def __init__(self, task: Task, persona: Persona, swapper: Swapper, detector: Detector) -> None:
        settings, clip = task.settings, task.clip
        self._task, self._waiting = task, list(task.segments)
        self._writer: SegmentWriter | None = None
        self._reader = ClipReader(clip)
        tracker = Tracker(detector, TrackerConfig(smooth=False))
        self._ahead = LookAhead(tracker, swapper.crop_size, smooth=tracker_config(settings).smooth)
        labelled = resolve_label(settings.label, persona.manifest.kind)
        self._now = 0
        self._pipeline = Pipeline(
            Latest(),
            Stages(
                self._ahead, kernels.FaceCropper(), swapper,
                Blender(blend_config(settings), swapper.swap_size, swapper.square),
                Label(position=settings.label_position) if labelled else None,
                CurrentSettings(settings).calm(),
            ),
            PolicyGate(settings.policy, hold_s=settings.hold_s, card=settings.card, size=clip.size),
            [self],
            size=clip.size,
            limits=Limits(stall_s=None),
            trace=Trace(),
            mark=Marker(task.mark_key, task.session_id, clip.size),
            clock=lambda: self._now,  # the film's own time: how long a picture is held does not depend on the machine
        )  # fmt: skip
        self._begun = SegmentCounts()

    def run(self, heard: Heard, stopped: Callable[[], bool]) -> None:
        """Render the task. Raises PersonacamError."""
        clip, segments = self._task.clip, self._task.segments
        first = clip.at(max(0.0, clip.seconds(segments[0].first) - WARM_S))
        last = min(len(clip.ticks), clip.at(clip.seconds(segments[-1].end - 1) + AHEAD_S) + 1)
        frames = self._reader.read(first, last)
        try:
            ended = False
            while not ended and self._waiting and not stopped():
                frame = next(frames, None)
                ended = frame is None
                if frame is not None:
                    self._ahead.feed(frame)
                for ready in self._ahead.ready(ended=ended):
                    self._step(ready, heard)
        finally:
            frames.close()
            if self._writer is not None:
                self._writer.abandon()
                self._writer = None

    def _step(self, frame: Frame, heard: Heard) -> None:
        if not self._waiting:
            return
        segment = self._waiting[0]
        self._now = frame.timestamp_ns
        self._pipeline.step(replace(frame, captured_ns=frame.timestamp_ns))
        self._check_consent()
        if frame.index < segment.first:
            self._begun = self._counts()
            return
        heard(Progress(frames=1))
        if frame.index + 1 >= segment.end:
            self._finish(segment, heard)

    def _check_consent(self) -> None:
        if self._pipeline.counts.reasons.get(Reason.CONSENT.value):
            raise ConsentExpiredError(
                "the consent of the person who is shown is over",
                hint="personacam consent request asks for a new record",
            )

    def _finish(self, segment: Segment, heard: Heard) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        counts, before = self._counts(), self._begun
        self._begun = counts
        reasons = {k: v - before.reasons.get(k, 0) for k, v in counts.reasons.items()}
        own = SegmentCounts(
            counts.frames - before.frames, counts.swapped - before.swapped, counts.policy - before.policy,
            counts.damaged - before.damaged, {k: v for k, v in reasons.items() if v}, counts.errors,
        )  # fmt: skip
        self._waiting.pop(0)
        heard(Progress(segment=segment, counts=own))

    def _counts(self) -> SegmentCounts:
        counts = self._pipeline.counts
        return SegmentCounts(
            counts.sent, counts.swapped, counts.policy, self._reader.damaged, dict(counts.reasons),
            dict(counts.first_errors),
        )  # fmt: skip

    # ---- Sink --------------------------------------------------------------------------------------------------------

    def open(self, size: tuple[int, int], fps: float) -> None:
        """Each segment opens its own file."""

    def send(self, pixels: U8, frame: Frame) -> None:
        """A picture of the segment at hand; those of the warming up go nowhere. Raises SinkError."""
        segment = self._waiting[0]
        if frame.index < segment.first:
            return
        if self._writer is None:
            path = self._task.folder / f"{segment.number:05d}.mp4"
            self._writer = SegmentWriter(path, self._task.clip, self._task.crf, self._task.encoder_threads)
        self._writer.write(pixels, frame.index)

    def close(self) -> None:
        """Segments are closed by ``run``."""


__all__ = ["Heard", "Progress", "Task", "render_task"]
