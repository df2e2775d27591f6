"""From settings to a running pipeline and back to a report: opens everything, closes everything, whatever happens."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from engines.errors import PersonacamError, SettingsError
from engines.persona import Persona
from engines.runtimes import DEFAULT_ORDER, open_runtime
from engines.runtimes.base import LiveRuntime, Runtime
from engines.runtimes.onnx import OnnxRuntime
from engines.types import F32, U8, Frame, Swap
from realtime import compile_apart, kernels
from realtime.admission import admitted, log_end
from realtime.blend import BlendConfig, Blender
from realtime.capture import CaptureThread, Source, SourceConfig, open_source
from realtime.check_crops import demo_crops
from realtime.config import Settings
from realtime.detect import Detector, InsightDetector, MeshDetector
from realtime.engine_plan import live_runtime
from realtime.engine_switch import EngineSwitch
from realtime.fast_precision import fastest
from realtime.governor import Governor, ladder
from realtime.models import default_insightface_folder, locate_insightface
from realtime.pipeline import Limits, Pipeline, Stages
from realtime.policy import FailurePolicy, PolicyGate
from realtime.provenance import Label, resolve_label
from realtime.quality import Quality, Worn
from realtime.reconnect import SteadyCamera
from realtime.sink import NullSink, RecorderSink, Sink, open_sink
from realtime.start import Signals, Start, few_collections
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
    # int8 is another graph, made of this one: see ``fast_precision``.
    precision = "auto" if settings.precision == "int8" else settings.precision
    return open_runtime(persona.swap_onnx, prefer=prefer, precision=precision, threads=settings.threads)


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


def _network(settings: Settings, path: Path, *, say: Say) -> tuple[Persona, LiveRuntime]:
    """A persona and what runs it. The caller closes the runtime."""
    persona = admitted(data_folder(), path, settings.sink, settings.purpose, settings.territory, say)
    portable = open_swap_runtime(persona, settings)
    if isinstance(portable, OnnxRuntime) and portable.fell_back is not None:
        say(portable.fell_back)
    size = persona.manifest.crop_size
    try:
        return persona, live_runtime(persona, settings, portable, say=say, crops=lambda: wearer_crops(size))
    except PersonacamError:
        portable.close()
        raise


def _put_on(persona: Persona, runtime: LiveRuntime, settings: Settings, *, live: bool, say: Say) -> Worn:
    """What swaps and blends this persona."""
    if not isinstance(runtime, EngineSwitch):
        runtime = fastest(persona, settings, runtime, live=live, say=say)
    swapper = Swapper(persona, runtime)
    if settings.morph is not None:
        swapper.morph(settings.morph)
    blend = BlendConfig(settings.erode, settings.feather, colour_strength=settings.colour_strength)
    return Worn(persona, runtime, swapper, Blender(blend, swapper.swap_size, swapper.square))


def _another_tier(settings: Settings, tier: str, *, say: Say) -> Worn:
    """Of a running persona, its engine ready and its buffers touched."""
    persona, network = _network(settings, persona_store().find(settings.persona, tier), say=lambda _: None)
    with ExitStack() as undo:  # what fails here is known to nobody else; runtimes may be closed twice
        undo.callback(network.close)
        worn = _put_on(persona, network, settings, live=True, say=say)
        undo.callback(worn.runtime.close)
        if isinstance(worn.runtime, EngineSwitch):
            worn.runtime.start()
            worn.runtime.wait(60.0)
        side = persona.manifest.crop_size
        worn.runtime.swap(np.zeros((side, side, 3), np.uint8), None)
        undo.pop_all()
    say(f"{persona.manifest.name}, tier {tier}, is ready: {worn.runtime.name} {worn.runtime.precision}")
    return worn


class _Loading:
    """Networks on their way while the camera opens: compiling them leaves the interpreter to others."""

    def __init__(self, settings: Settings, stack: ExitStack, say: Say) -> None:
        path = persona_store().find(settings.persona, settings.tier)  # a wrong name is told before anything starts
        pool = stack.enter_context(ThreadPoolExecutor(2, "load"))
        self._detector = pool.submit(_detector, settings)
        self._network = pool.submit(_network, settings, path, say=say)
        stack.callback(self._close)
        self._owned = True
        self._settings = settings

    def result(self, *, live: bool, say: Say) -> tuple[Worn, Tracker]:
        """Wait for both. Raises what loading raised."""
        compiled = compile_apart.warm_up()
        if compiled > 1:
            say(f"kernels compiled in {compiled:.1f} s; the next start is quicker")
        worn = _put_on(*self._network.result(), self._settings, live=live, say=say)
        tracker = Tracker(self._detector.result(), TrackerConfig(smooth=self._settings.smooth))
        manifest, runtime = worn.persona.manifest, worn.runtime
        until = " at first" if isinstance(runtime, EngineSwitch) else ""
        say(f"persona {manifest.title} ({manifest.kind}), {runtime.name} {runtime.precision}{until}")
        return worn, tracker

    def _close(self) -> None:
        """Whatever came of it; runtimes may be closed twice."""
        if self._detector.exception() is None:
            self._detector.result().close()
        if self._network.exception() is None:
            self._network.result()[1].close()


def _governor(settings: Settings, persona: Persona, source: Source, *, live: bool) -> Governor | None:
    """On for pictures that come at their own rate, unless it was switched off."""
    if settings.governor == "off" or not live:
        return None
    tiers = persona_store().larger_first(settings.persona, persona)
    if settings.tier is not None:  # what was asked for by name is the most that is worn
        tiers = tiers[tiers.index(persona.manifest.tier) :]
    levels = ladder(tiers)
    return Governor(levels, tiers.index(persona.manifest.tier), 1.0 / max(source.fps, 1.0))


def run_session(
    settings: Settings,
    *,
    say: Say,
    stop: threading.Event | None = None,
    watch: Watch | None = None,
    trace: Trace | None = None,
) -> Result:
    """Open source, persona, networks and sinks, run until the end, close all.

    Raises PersonacamError when something cannot be opened. A failure while running is returned in the result, after
    everything was finished. ``say`` gets lines for people. ``trace`` is one of the caller's own.
    """
    stop = stop or threading.Event()
    with ExitStack() as stack:
        signals = Signals(stop)
        stack.enter_context(signals.installed())
        start = Start(say)
        stack.callback(start.loaded)
        loading = _Loading(settings, stack, say)
        config = SourceConfig(
            (settings.width, settings.height), settings.fps, loop=settings.loop, controls=settings.camera_controls()
        )
        sinks = [open_sink(spec) for spec in settings.sink]
        source = open_source(settings.source, config, {"demo": demo_clip()})
        paced = settings.pace == "on" or (settings.pace == "auto" and not _is_offline(source, sinks))
        live = paced or source.live
        capture = CaptureThread(source, "newest" if live else "lossless", pace=paced)
        stack.callback(capture.stop)
        _refuse_own_source(settings, source)
        gate = PolicyGate(settings.policy, hold_s=settings.hold_s, card=settings.card, size=source.size)
        if settings.policy is FailurePolicy.PASSTHROUGH:
            say("policy passthrough: frames without a swap show YOUR OWN FACE")
        worn, tracker = loading.result(live=live, say=say)
        labelled = resolve_label(settings.label, worn.persona.manifest.kind)
        label = Label(position=settings.label_position) if labelled else None
        for sink in sinks:
            stack.callback(_close_quietly, sink)
            sink.open(source.size, source.fps)
            say(sink.report)
        say(source.report)
        trace = trace or Trace()
        pipeline = Pipeline(
            capture.latest,
            Stages(tracker, kernels.FaceCropper(), worn.swapper, worn.blender, label),
            gate,
            sinks,
            size=source.size,
            limits=_limits(settings, in_time=live),
            trace=trace,
            watch=watch,
        )
        quality = Quality(
            pipeline, tracker, worn, capture, governor=_governor(settings, worn.persona, source, live=live),
            load=lambda tier: _another_tier(settings, tier, say=say), say=say,
        )  # fmt: skip
        stack.callback(quality.close)
        pipeline.after_each(_Negotiation(source, say).look, quality.look, lambda _: start.look(pipeline))
        start.loaded()
        if isinstance(worn.runtime, EngineSwitch):
            worn.runtime.start()
            if not live:
                worn.runtime.wait()  # a recording at any rate has the time, and then one runtime makes all of it
        stack.enter_context(few_collections())
        capture.start()
        signals.running = True
        error = _run(pipeline, stop)
        if not capture.stop():
            say(f"{source.name} does not answer; it is released when the program ends")
        finishing = _finish(sinks, say)
        error = error or finishing
        report = _report(settings, quality, source, capture, pipeline)
        report["startup_s"] = start.took_s
        report["error"] = None if error is None else {"message": error.message, "hint": error.hint}
        log_end(data_folder(), quality.worn.persona, report["frames"], say)
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
    settings: Settings, quality: Quality, source: Source, capture: CaptureThread, pipeline: Pipeline
) -> dict[str, Any]:
    persona, runtime = quality.worn.persona, quality.worn.runtime
    counts, summary = pipeline.counts, pipeline.trace.summary()
    extra: dict[str, Any] = {"governor": quality.report()}
    if isinstance(runtime, EngineSwitch):
        extra["engine"] = runtime.report()
    if isinstance(source, SteadyCamera):
        extra["camera"] = source.as_dict()
    return {
        "frames": {
            "captured": capture.captured,
            "sent": counts.sent,
            "swapped": counts.swapped,
            "policy": counts.policy,
            "dropped": capture.dropped,
            "thinned": counts.thinned,
        },
        "fps": summary["fps"],
        "latency_ms": summary["latency_ms"],
        "stages_ms": summary["stages_ms"],
        "cpu_ms": summary["cpu_ms"],
        "persona": {"name": persona.manifest.name, "sha256": persona.sha256, "kind": persona.manifest.kind},
        "runtime": runtime.name,
        "precision": runtime.precision,
        "source": settings.source,
        "size": list(source.size),
        "sink": ",".join(settings.sink),
        "policy": settings.policy.value,
        "policy_reasons": counts.reasons,
        "errors": counts.first_errors,
    } | extra
