"""Whether a persona runs as a TensorRT engine on this machine, and how its plan comes about while frames run.

Without a card, or without the package for it, the runtime of any graph does all the work. With both it begins, and an
``EngineSwitch`` changes over when the plan is ready: kept from last time, or built and compared.
"""

from __future__ import annotations

import contextlib
import importlib.util
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from engines.build import BACKENDS, Backend, PlanPrecision, available_backends
from engines.cache import PlanCache, default_folder, driver_release
from engines.errors import BuildError, DeviceError, MissingDependencyError, RuntimeFailure, SettingsError
from engines.persona import Persona
from engines.plan_check import opened_plan
from engines.ready_plan import Crops, ReadyPlan, Target, plan_key, ready_plan
from engines.runtimes.base import LivePrecision, LiveRuntime, Runtime
from engines.runtimes.cuda import Card, Cuda, find_card
from engines.runtimes.tensorrt import MODULES, TensorRtRuntime, import_tensorrt
from realtime.config import Settings
from realtime.engine_switch import EngineSwitch, Opener, Say
from realtime.swap import PlanarRuntime

RTX_COMPUTE = frozenset({(7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1)})
"""Compute capabilities that TensorRT-RTX 1.7 builds for; data-centre Hopper and Blackwell are not among them."""
PROGRESS_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Choice:
    """What will run the plan."""

    backend: Backend
    card: Card


def choose(wanted: str, card: Card | None) -> Choice | str:
    """The back end for ``wanted`` (``auto``, or one by name) on ``card``, or why there is none."""
    if card is None:
        return "there is no NVIDIA card that can be used"
    reasons = []
    for backend in BACKENDS if wanted == "auto" else [name for name in BACKENDS if name == wanted]:
        if backend == "tensorrt-rtx" and card.compute not in RTX_COMPUTE:
            reasons.append(f"tensorrt-rtx does not build for SM {card.sm}")
        elif importlib.util.find_spec(MODULES[backend]) is None:
            extra = "rtx" if backend == "tensorrt-rtx" else "tensorrt"
            reasons.append(f"{backend} is not installed: pip install 'personacam[{extra}]'")
        else:
            return Choice(backend, card)
    return "; ".join(reasons)


def live_runtime(
    persona: Persona,
    settings: Settings,
    fallback: Runtime,
    *,
    say: Say,
    crops: Crops,
    card: Callable[[], Card | None] = find_card,
) -> LiveRuntime:
    """What swaps ``persona``: ``fallback``, or an ``EngineSwitch`` over it, not started. Closes ``fallback`` too.

    ``crops`` are what a plan is compared on when it has to be built. Raises SettingsError, DeviceError or
    MissingDependencyError when TensorRT was asked for by name and cannot run here.
    """
    plain = PlanarRuntime(persona.manifest, fallback)
    by_name = settings.runtime in BACKENDS
    if settings.runtime != "auto" and not by_name:
        return plain
    if settings.precision == "bf16":
        if by_name:
            raise SettingsError("TensorRT plans are not built in bf16", hint="--precision auto is f16, or choose f32")
        return plain
    found = card()
    choice = choose(settings.runtime, found)
    if isinstance(choice, str):
        if not by_name:
            return plain
        if found is None:
            hint = "personacam doctor; --runtime openvino runs without a card"
            raise DeviceError(choice, hint=hint, kind="missing")
        raise MissingDependencyError(choice, hint="install it, or use --runtime auto")
    precision: PlanPrecision = "fp32" if settings.precision == "f32" else "fp16"
    with contextlib.suppress(MissingDependencyError):  # the opener says so
        # Loading the libraries holds the interpreter: now, while no frame waits for it.
        import_tensorrt(choice.backend)
    return EngineSwitch(plain, plan_opener(persona, choice, precision, crops, say), say=say)


def plan_opener(
    persona: Persona,
    choice: Choice,
    precision: PlanPrecision,
    crops: Crops,
    say: Say,
    *,
    cache: PlanCache | None = None,
    graph: bool = True,
) -> Opener:
    """For ``EngineSwitch``: find or build the plan of ``persona``, then load it."""
    kept = PlanCache(default_folder(), say=say) if cache is None else cache
    manifest = persona.manifest

    def open_engine(stop: threading.Event) -> LiveRuntime:
        target = _target(choice)
        progress = _Progress(manifest.name, stop, say)

        def ready() -> ReadyPlan:
            plan = ready_plan(
                persona.swap_onnx, target, kept, crops, precision=precision, name=manifest.name, open_plan=opened_plan,
                say=say, progress=progress,
            )  # fmt: skip
            progress.check()
            if not plan.kept:
                took = f"{plan.info['seconds']:.1f} s, {len(plan.data) >> 20} MiB"
                say(f"the engine of {manifest.name} was built in {took}")
            return plan

        plan = ready()
        try:
            return _loaded(plan, choice, say, graph=graph)
        except RuntimeFailure as error:
            # The card's own errors say nothing about the plan; a new plan that cannot be loaded would not be better.
            if isinstance(error, DeviceError) or not plan.kept:
                raise
            kept.discard(plan_key(persona.swap_onnx, target, precision), f"cannot be loaded ({error.message})")
        return _loaded(ready(), choice, say, graph=graph)

    return open_engine


def _loaded(plan: ReadyPlan, choice: Choice, say: Say, *, graph: bool) -> TensorRtRuntime:
    precision: LivePrecision = "f16" if plan.precision == "fp16" else "f32"
    runtime = TensorRtRuntime(plan.data, choice.backend, precision=precision, cuda=Cuda(), graph=graph)
    if runtime.engine.graph_refused is not None:
        say(f"{choice.backend} runs without a CUDA graph: {runtime.engine.graph_refused}")
    return runtime


def _target(choice: Choice) -> Target:
    """The card at hand, with the versions of what runs on it. Raises BuildError."""
    for info in available_backends():
        if info.name == choice.backend:
            if info.version is None:
                raise BuildError(f"{info.name}: {info.reason}", hint="reinstall it, or use --runtime openvino")
            card = choice.card
            driver = f"{driver_release()} (CUDA {card.driver})"
            return Target(choice.backend, info.version, card.compute, card.name, driver)
    raise BuildError(f"{choice.backend} is not known", hint=f"choose one of {', '.join(BACKENDS)}")


class _Progress:
    """A line now and then while a plan is built, and the way to stop it."""

    def __init__(self, name: str, stop: threading.Event, say: Say, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._stop, self._say, self._clock = name, stop, say, clock
        self._next: float | None = None

    def __call__(self, elapsed_s: float, typical_s: float) -> None:
        """Called by the builder a few times a second. Raises RuntimeFailure to end the build."""
        self.check()
        now = self._clock()
        if self._next is None or now >= self._next:
            self._next = now + PROGRESS_EVERY_S
            self._say(f"building the engine of {self._name}: {elapsed_s:.0f} s, usually about {typical_s:.0f} s")

    def check(self) -> None:
        """Raises RuntimeFailure when the run is over."""
        if self._stop.is_set():
            raise RuntimeFailure("the build was stopped", hint="start again; it begins anew")
