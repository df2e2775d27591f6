"""From settings to a running pipeline and back to a report: opens everything, closes everything, whatever happens."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import platformdirs

from engines.errors import PersonacamError, SettingsError
from engines.persona import Persona, read_persona
from engines.runtimes import DEFAULT_ORDER, open_runtime
from engines.runtimes.base import LiveRuntime, Runtime
from engines.runtimes.onnx import OnnxRuntime
from engines.types import F32, U8, Frame, Swap
from realtime import kernels
from realtime.blend import BlendConfig, Blender
from realtime.capture import CaptureThread, Source, SourceConfig, open_source
from realtime.check_crops import demo_crops
from realtime.config import Settings
from realtime.detect import Detector, InsightDetector, MeshDetector
from realtime.engine_plan import live_runtime
from realtime.engine_switch import EngineSwitch
from realtime.models import default_insightface_folder, locate_insightface
from realtime.pipeline import Limits, Pipeline, Stages
from realtime.policy import FailurePolicy, PolicyGate
from realtime.provenance import Label, resolve_label
from realtime.reconnect import SteadyCamera
from realtime.sink import NullSink, RecorderSink, Sink, open_sink
from realtime.store import TieredStore
from realtime.swap import Swapper
from realtime.trace import Trace
from realtime.track import Tracker, TrackerConfig

_log = logging.getLogger("personacam")
Say = Callable[[str], None]
Watch = Callable[[Frame, Swap], None]


def data_folder() -> Path:
    """Where imported personas and fetched models live on this user's machine."""
    return Path(platformdirs.user_data_dir("personacam", appauthor=False))


def demo_clip() -> Path:
    """The shipped clip of an invented wearer; its truth lies beside it as .npz."""
    return Path(str(resources.files("realtime").joinpath("demo", "wearer.mp4")))


def persona_store() -> TieredStore:
    """The shipped gallery first, then what the user imported."""
    return TieredStore([Path(str(resources.files("realtime").joinpath("personas"))), data_folder() / "personas"])


@dataclass(frozen=True)
class Result:
    """What a run did."""

    report: dict[str, Any]
    """The JSON object of DESIGN.md."""
    trace: Trace
    error: PersonacamError | None
    """Why it ended early, if it did; the report still holds what happened before."""


def _detector(settings: Settings) -> Detector:
    if settings.detector == "insightface":
        pack = settings.insightface_pack or locate_insightface(default_insightface_folder())
        return InsightDetector(pack)
    return MeshDetector.load(threads=settings.threads)


def open_swap_runtime(persona: Persona, settings: Settings) -> Runtime:
    """Load the persona's network in the wanted runtime, or the first working one, which engines fall back to."""
    prefer = [name for name in DEFAULT_ORDER if name == settings.runtime] or None
    return open_runtime(persona.swap_onnx, prefer=prefer, precision=settings.precision, threads=settings.threads)


def wearer_crops(size: int) -> tuple[U8, F32]:
    """Real crops (N, S, S, 3) and mesh points to compare a new engine on: of the shipped clip."""
    source, detector = open_source(str(demo_clip()), SourceConfig()), MeshDetector.load()
    try:
        return demo_crops(source, detector, size)
    finally:
        source.close()
        detector.close()


def _is_offline(source: Source, sinks: list[Sink]) -> bool:
    return not source.live and all(isinstance(sink, (RecorderSink, NullSink)) for sink in sinks)


class Signals:
    """Ctrl-C, SIGTERM and a closed terminal.

    While frames run, the first one ends the loop after the frame at hand. Before that, and the second time, it
    interrupts whatever is going on (KeyboardInterrupt); files are finished and devices released on the way out as well.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self.running = False

    def handle(self, *_: object) -> None:
        """The handler itself."""
        if not self.running or self._stop.is_set():
            raise KeyboardInterrupt
        self._stop.set()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Outside the main thread Python allows no handlers; the caller then sets ``stop`` itself."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        before = {number: signal.signal(number, self.handle) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _wear(settings: Settings, stack: ExitStack, say: Say) -> tuple[Persona, LiveRuntime, Stages]:
    """Persona, its runtime and all stages; ``stack`` closes the networks."""
    persona = read_persona(persona_store().find(settings.persona, settings.tier))
    labelled = resolve_label(settings.label, persona.manifest.kind)
    portable = open_swap_runtime(persona, settings)
    stack.callback(portable.close)
    if isinstance(portable, OnnxRuntime) and portable.fell_back is not None:
        say(portable.fell_back)
    size = persona.manifest.crop_size
    runtime = live_runtime(persona, settings, portable, say=say, crops=lambda: wearer_crops(size))
    stack.callback(runtime.close)
    detector = _detector(settings)
    stack.callback(detector.close)
    until = " until the engine is ready" if isinstance(runtime, EngineSwitch) else ""
    say(f"persona {persona.manifest.title} ({persona.manifest.kind}), {runtime.name} {runtime.precision}{until}")
    swapper = Swapper(persona, runtime)
    blend = BlendConfig(settings.erode, settings.feather, colour_strength=settings.colour_strength)
    compiled = kernels.warm_up()
    if compiled > 1:
        say(f"kernels compiled in {compiled:.1f} s; the next start is quicker")
    stages = Stages(
        Tracker(detector, TrackerConfig(smooth=settings.smooth)),
        kernels.crop_face,
        swapper,
        Blender(blend, swapper.swap_size),
        Label(position=settings.label_position) if labelled else None,
    )
    return persona, runtime, stages


def run_session(
    settings: Settings, *, say: Say, stop: threading.Event | None = None, watch: Watch | None = None
) -> Result:
    """Open source, persona, networks and sinks, run until the end, close all.

    Raises PersonacamError when something cannot be opened. A failure while running is returned in the result, after
    everything was finished. ``say`` gets lines for people.
    """
    stop = stop or threading.Event()
    with ExitStack() as stack:
        signals = Signals(stop)
        stack.enter_context(signals.installed())
        persona, runtime, stages = _wear(settings, stack, say)
        config = SourceConfig(
            (settings.width, settings.height), settings.fps, loop=settings.loop, controls=settings.camera_controls()
        )
        sinks = [open_sink(spec) for spec in settings.sink]
        source = open_source(settings.source, config, {"demo": demo_clip()})
        paced = settings.pace == "on" or (settings.pace == "auto" and not _is_offline(source, sinks))
        capture = CaptureThread(source, "newest" if paced or source.live else "lossless", pace=paced)
        stack.callback(capture.stop)
        _refuse_own_source(settings, source)
        gate = PolicyGate(settings.policy, hold_s=settings.hold_s, card=settings.card, size=source.size)
        if settings.policy is FailurePolicy.PASSTHROUGH:
            say("policy passthrough: frames without a swap show YOUR OWN FACE")
        for sink in sinks:
            stack.callback(_close_quietly, sink)
            sink.open(source.size, source.fps)
            say(sink.report)
        say(source.report)
        trace = Trace()
        pipeline = Pipeline(
            capture.latest,
            stages,
            gate,
            sinks,
            size=source.size,
            limits=_limits(settings, in_time=paced or source.live),
            trace=trace,
            watch=watch,
            sent=_Negotiation(source, say).look,
        )
        if isinstance(runtime, EngineSwitch):
            runtime.start()
            if not (paced or source.live):
                runtime.wait()  # a recording at any rate has the time, and then one runtime makes all of it
        capture.start()
        signals.running = True
        error = _run(pipeline, stop)
        if not capture.stop():
            say(f"{source.name} does not answer; it is released when the program ends")
        finishing = _finish(sinks, say)
        error = error or finishing
        report = _report(settings, persona, runtime, source, capture, pipeline)
        if isinstance(runtime, EngineSwitch):
            report["engine"] = runtime.report()
        if isinstance(source, SteadyCamera):
            report["camera"] = source.as_dict()
        report["error"] = None if error is None else {"message": error.message, "hint": error.hint}
    return Result(report, trace, error)


class _Negotiation:
    """Prints a camera's report again when it changes: the rate fell, it was unplugged, it is back."""

    def __init__(self, source: Source, say: Say) -> None:
        self._source, self._say, self._said = source, say, source.report

    def look(self, frame: Frame) -> None:  # noqa: ARG002 - the pipeline gives it
        """After each frame that was sent."""
        if self._source.live and self._source.report != self._said:
            self._said = self._source.report
            self._say(self._said)


def _refuse_own_source(settings: Settings, source: Source) -> None:
    """A recording that replaces the file that is being read would destroy it."""
    if source.live or "://" in settings.source:
        return
    own = Path(settings.source).expanduser().resolve()
    for spec in settings.sink:
        if Path(spec).expanduser().resolve() == own:
            raise SettingsError(f"{spec} is both source and sink", hint="give the recording another name")


def _limits(settings: Settings, *, in_time: bool) -> Limits:
    """``in_time``: pictures come at their own rate, so they can be late or fail to come."""
    if not in_time:
        return Limits(settings.frames, settings.seconds, deadline_ms=None, stall_s=None)
    return Limits(settings.frames, settings.seconds, settings.deadline_ms)


def _run(pipeline: Pipeline, stop: threading.Event) -> PersonacamError | None:
    try:
        pipeline.run(stop)
    except PersonacamError as error:
        return error
    return None


def _finish(sinks: list[Sink], say: Say) -> PersonacamError | None:
    """Close every sink, even when one of them fails."""
    failure: PersonacamError | None = None
    for sink in sinks:
        try:
            sink.close()
        except PersonacamError as error:
            failure = failure or error
        say(sink.report)
    return failure


def _close_quietly(sink: Sink) -> None:
    """For the way out of a failure that is reported already: finish what can be finished."""
    try:
        sink.close()
    except PersonacamError as error:
        _log.warning("%s", error)


def _report(
    settings: Settings,
    persona: Persona,
    runtime: LiveRuntime,
    source: Source,
    capture: CaptureThread,
    pipeline: Pipeline,
) -> dict[str, Any]:
    counts, summary = pipeline.counts, pipeline.trace.summary()
    return {
        "frames": {
            "captured": capture.captured,
            "sent": counts.sent,
            "swapped": counts.swapped,
            "policy": counts.policy,
            "dropped": capture.dropped,
        },
        "fps": summary["fps"],
        "latency_ms": summary["latency_ms"],
        "stages_ms": summary["stages_ms"],
        "persona": {"name": persona.manifest.name, "sha256": persona.sha256, "kind": persona.manifest.kind},
        "runtime": runtime.name,
        "precision": runtime.precision,
        "source": settings.source,
        "size": list(source.size),
        "sink": ",".join(settings.sink),
        "policy": settings.policy.value,
        "policy_reasons": counts.reasons,
        "errors": counts.first_errors,
    }
