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

from engines.errors import PersonacamError
from engines.persona import Persona
from engines.runtimes import DEFAULT_ORDER, open_runtime
from engines.runtimes.base import LiveRuntime, Runtime
from engines.runtimes.onnx import OnnxRuntime
from engines.types import F32, U8, Frame, Swap
from realtime import check_apart, compile_apart, kernels
from realtime.admission import admitted, log_end
from realtime.calibrated import put_on_profile
from realtime.capture import CaptureThread, Source, SourceConfig, open_source
from realtime.check_crops import demo_crops
from realtime.config import Settings
from realtime.control.attach import Run, attached
from realtime.control.bridge import Voice
from realtime.control.cards import card_of
from realtime.detect import Detector, InsightDetector, MeshDetector
from realtime.engine_plan import live_runtime
from realtime.engine_switch import EngineSwitch
from realtime.fast_precision import fastest
from realtime.governor import Governor, ladder
from realtime.live_settings import CurrentSettings, label_for, tracker_config
from realtime.mark_keys import marker
from realtime.models import default_insightface_folder, locate_insightface
from realtime.pipeline import Limits, Pipeline, Stages
from realtime.policy import FailurePolicy, PolicyGate
from realtime.provenance import Label, resolve_label
from realtime.quality import Quality, Worn
from realtime.reconnect import SteadyCamera
from realtime.run_files import RunFiles
from realtime.session_record import session_text
from realtime.sink import NullSink, RecorderSink, Sink, open_sink
from realtime.start import Negotiation, Signals, Start, undisturbed
from realtime.store import TieredStore
from realtime.swap import Swapper
from realtime.trace import Trace
from realtime.track import Tracker
from realtime.wardrobe import Wardrobe

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


def _admitted(settings: Settings, path: Path, *, say: Say, checked: str | None = None) -> Persona:
    return admitted(data_folder(), path, settings.sink, settings.purpose, settings.territory, say, checked=checked)


def _network(persona: Persona, settings: Settings, *, say: Say) -> tuple[Persona, LiveRuntime]:
    """A persona and what runs it. The caller closes the runtime."""
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
    return Worn(persona, runtime, swapper, put_on_profile(settings, persona, swapper, say))


def _another(settings: Settings, *, say: Say, engine: bool) -> Worn:
    """Of another persona or tier, its buffers touched; with ``engine`` its engine is ready too, else not started."""
    path = persona_store().find(settings.persona, settings.tier)
    persona = _admitted(settings, path, say=lambda _: None, checked=check_apart.digest_if_sound(path))
    persona, network = _network(persona, settings, say=lambda _: None)
    with ExitStack() as undo:  # what fails here is known to nobody else; runtimes may be closed twice
        undo.callback(network.close)
        worn = _put_on(persona, network, settings, live=True, say=say)
        undo.callback(worn.runtime.close)
        if isinstance(worn.runtime, EngineSwitch) and engine:
            worn.runtime.start()
            worn.runtime.wait(60.0)
        side = persona.manifest.crop_size
        worn.runtime.swap(np.zeros((side, side, 3), np.uint8), None)
        undo.pop_all()
    if engine:
        tier = persona.manifest.tier
        say(f"{persona.manifest.name}, tier {tier}, is ready: {worn.runtime.name} {worn.runtime.precision}")
    return worn


def _wardrobe(pipeline: Pipeline, say: Say) -> Wardrobe:
    def ended(worn: Worn) -> None:
        counts = pipeline.counts
        frames = {"sent": counts.sent, "swapped": counts.swapped, "policy": counts.policy}
        log_end(data_folder(), worn.persona, frames, say)

    return Wardrobe(lambda wanted: _another(wanted, say=say, engine=False), _is_invented, ended)


def _is_invented(settings: Settings) -> bool:
    """Read without wearing, so without the gate."""
    path = persona_store().find(settings.persona, settings.tier)
    return card_of(path).kind == "invented"


class _Loading:
    """Networks on their way while the camera opens: compiling them leaves the interpreter to others."""

    def __init__(self, settings: Settings, stack: ExitStack, say: Say) -> None:
        path = persona_store().find(settings.persona, settings.tier)  # a wrong name is told before anything starts
        pool = stack.enter_context(ThreadPoolExecutor(2, "load"))
        self._detector = pool.submit(_detector, settings)
        self._persona = pool.submit(_admitted, settings, path, say=say)
        self._network = pool.submit(lambda: _network(self._persona.result(), settings, say=say))
        stack.callback(self._close)
        self._settings = settings

    def result(self, *, live: bool, say: Say) -> tuple[Worn, Tracker]:
        """Wait for both. Raises what loading raised."""
        if not compile_apart.is_cached():
            self._persona.result()  # a refusal is told before the compiling, not after it
        compiled = compile_apart.warm_up()
        if compiled > 1:
            say(f"kernels compiled in {compiled:.1f} s; the next start is quicker")
        worn = _put_on(*self._network.result(), self._settings, live=live, say=say)
        tracker = Tracker(self._detector.result(), tracker_config(self._settings))
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
    terminal: bool = False,
) -> Result:
    """Open source, persona, networks and sinks, run until the end, close all.

    Raises PersonacamError when something cannot be opened. A failure while running is returned in the result, after
    everything was finished. ``say`` gets lines for people. ``trace`` is one of the caller's own. ``terminal``: a live
    run draws its table on standard error.
    """
    stop = stop or threading.Event()
    say = voice = Voice(say)
    current = CurrentSettings(settings)
    files = RunFiles(settings, data_folder(), say, lambda: current.value.mic_delay_ms)
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
        sinks = files.recorders(sinks, source, live=live)
        gate = PolicyGate(settings.policy, hold_s=settings.hold_s, card=settings.card, size=source.size)
        worn, tracker = loading.result(live=live, say=say)
        label = _label(settings, worn.persona, say)
        stack.enter_context(files.begun(worn.persona, source.size, source.fps, live=live))
        _open_all(sinks, source, stack, say)
        trace = trace or Trace()
        pipeline = Pipeline(
            capture.latest,
            Stages(tracker, kernels.FaceCropper(), worn.swapper, worn.blender, label, current.calm()),
            gate,
            sinks,
            size=source.size,
            limits=_limits(settings, in_time=live),
            trace=trace,
            watch=watch,
            mark=marker(data_folder(), files.session_id, source.size, say),
        )
        wardrobe = _wardrobe(pipeline, say)
        wardrobe.out(settings, worn)
        stack.callback(wardrobe.close)
        quality = Quality(
            pipeline, tracker, worn, capture, governor=_governor(settings, worn.persona, source, live=live),
            load=lambda tier: _another(current.value.model_copy(update={"tier": tier}), say=say, engine=True), say=say,
            release=wardrobe.put_back,
        )  # fmt: skip
        stack.callback(quality.close)
        pipeline.after_each(Negotiation(source, say).look, quality.look, lambda _: start.look(pipeline))
        pipeline.tap(lambda pixels, frame: files.take(pixels, frame, quality.worn.persona))
        start.loaded()
        if live or settings.control:
            stack.enter_context(attached(Run(
                current, pipeline, quality, wardrobe, capture, persona_store(),
                lambda now, on: _governor(now, on.persona, source, live=live), stop, data_folder() / "control-token",
                files.control,
            ), voice, terminal=terminal and live))  # fmt: skip
        _start_engine(worn.runtime, live=live)
        stack.enter_context(undisturbed())
        capture.start()
        signals.running = True
        error = _run(pipeline, stop)
        if not capture.stop():
            say(f"{source.name} does not answer; it is released when the program ends")
        error = _finish(sinks, say, error)
        report = _report(current.value, quality, source, capture, pipeline)
        report |= {"startup_s": start.took_s, "session": session_text(files.session_id)}
        report["error"] = None if error is None else {"message": error.message, "hint": error.hint}
        files.end(report["frames"]["swapped"])
        log_end(data_folder(), quality.worn.persona, report["frames"], say)
    return Result(report, trace, error)


def _label(settings: Settings, persona: Persona, say: Say) -> Label | None:
    """Raises SettingsError when it was switched off for a real person's persona. Also says what shows the wearer."""
    if settings.policy is FailurePolicy.PASSTHROUGH:
        say("policy passthrough: frames without a swap show YOUR OWN FACE")
    resolve_label(settings.label, persona.manifest.kind)
    return label_for(settings, persona.manifest.kind)


def _start_engine(runtime: LiveRuntime, *, live: bool) -> None:
    if isinstance(runtime, EngineSwitch):
        runtime.start()
        if not live:
            runtime.wait()  # a recording at any rate has the time, and then one runtime makes all of it


def _open_all(sinks: list[Sink], source: Source, stack: ExitStack, say: Say) -> None:
    for sink in sinks:
        stack.callback(_close_quietly, sink)
        sink.open(source.size, source.fps)
        say(sink.report)
    say(source.report)


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


def _finish(sinks: list[Sink], say: Say, failure: PersonacamError | None) -> PersonacamError | None:
    """Close every sink, even when one of them fails. The first failure, which may be there already."""
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
