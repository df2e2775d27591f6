"""From the fallback to the engine and back, between two frames of a stream that goes on.

    starting    every frame on the fallback; a worker thread opens the engine (a plan may be built in another process)
    running     the engine is ready: the next frame is its own
    failing     the frame at hand raises, so the policy covers it; the next one is the fallback's, and the worker
                opens the engine again, a few times

Exchanges happen inside ``swap`` in the frame loop's own thread, so there is one order of frames, and a frame is
computed by one runtime or covered. Whatever takes long (opening, building, closing) happens in the worker.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from engines.errors import DeviceError, PersonacamError, RuntimeFailure
from engines.persona import Persona
from engines.runtimes.base import LiveName, LivePrecision, LiveRuntime, Morphs, Resettable
from engines.types import F32, U8
from realtime.swap import Swapper

_log = logging.getLogger("personacam")
Say = Callable[[str], None]
Opener = Callable[[threading.Event], LiveRuntime]
"""Opens the engine, however long it takes, and gives up with PersonacamError when the event is set."""
_JOIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Retries:
    """When an engine that failed is opened again."""

    count: int = 2
    """In the whole run; then the fallback stays."""
    wait_s: float = 5.0
    """Before the first of them; twice as long before each further one."""
    bad_outputs: int = 3
    """So many covered frames in a row without finite numbers are a failure of the engine."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What is remembered of an error. The error itself would keep its frames, and so the dead engine's memory."""

    message: str
    hint: str
    kind: str
    """Of RuntimeFailure and DeviceError, else "failed"."""


class EngineSwitch:
    """A ``LiveRuntime`` that is the fallback until the engine is there, and again when it is no more.

    Owns both. ``start`` begins, ``close`` (or ``retire``, which does not wait) ends it; both may be called twice.
    """

    def __init__(self, fallback: LiveRuntime, open_engine: Opener, *, say: Say, retries: Retries = Retries()) -> None:
        self.crop_size, self.swap_size = fallback.crop_size, fallback.swap_size
        self.frames: Counter[LiveName] = Counter()
        """Swaps by the runtime that computed them."""
        self.failures: list[Failure] = []
        """Of the engine, in order."""
        self._fallback = self._active = fallback
        self._open, self._say, self._retries = open_engine, say, retries
        self._ready: LiveRuntime | None = None
        self._bad = 0
        self._lock = threading.Lock()
        """Of who is calibrated, and who closes."""
        self._idle = True
        """No worker runs."""
        self._engine: LiveRuntime | None = None
        self._calibration: tuple[F32, F32] | None = None
        self._morph: float | None = None
        self._failed: queue.SimpleQueue[Failure | None] = queue.SimpleQueue()
        """The worker sleeps here while the engine runs; None ends it."""
        self._stop = threading.Event()
        self._settled = threading.Event()
        self._worker = threading.Thread(target=self._work, name="engine", daemon=True)

    @property
    def name(self) -> LiveName:
        """What computes now."""
        return self._active.name

    @property
    def precision(self) -> LivePrecision:
        """In what it computes."""
        return self._active.precision

    def start(self) -> None:
        """Open the engine beside the stream. May be called again."""
        if self._worker.ident is not None:
            return
        self._idle = False
        self._worker.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until the engine can take the next frame, or never will. Returns whether it can."""
        self._settled.wait(timeout_s)
        return self._engine is not None

    def report(self) -> dict[str, Any]:
        """For JSON: {"frames": {runtime: swaps}, "failures": [{"message", "hint", "kind"}]}."""
        return {"frames": dict(self.frames), "failures": [asdict(failure) for failure in self.failures]}

    # ---- the frame loop's side ---------------------------------------------------------------------------------------

    def swap(self, crop: U8, points: F32 | None) -> tuple[U8, U8]:
        """See ``LiveRuntime``. After a failure of the engine has been raised, the next swap is the fallback's."""
        if self._ready is not None:
            self._active, self._ready, self._bad = self._ready, None, 0
            self._say(f"{self._active.name} {self._active.precision} has taken over from {self._fallback.name}")
        active = self._active
        try:
            result = active.swap(crop, points)
        except Exception as error:
            if active is not self._fallback:
                self._give_up(error)
            raise
        self._bad = 0
        self.frames[active.name] += 1
        return result

    def _give_up(self, error: Exception) -> None:
        """Go on with the fallback, and let the worker see to the engine."""
        failure = _remembered(error)
        if failure.kind == "bad_output":
            self._bad += 1
            if self._bad < self._retries.bad_outputs:
                return
        self._say(f"{self._active.name} failed: {failure.message}; {self._fallback.name} goes on")
        self._active = self._fallback
        self.failures.append(failure)
        self._failed.put(failure)

    def calibrate(self, gain: F32, shift: F32) -> None:
        """See ``LiveRuntime``; engines that come later get it too."""
        with self._lock:
            self._calibration = gain, shift
            for runtime in (self._fallback, self._engine):
                if runtime is not None:
                    runtime.calibrate(gain, shift)

    def morph(self, value: float) -> None:
        """See ``Morphs``; engines that come later get it too."""
        with self._lock:
            self._morph = value
            both: tuple[object, object] = (self._fallback, self._engine)
            for runtime in both:
                if isinstance(runtime, Morphs):
                    runtime.morph(value)

    def retire(self) -> None:
        """Close everything soon, without waiting for it. No swap may follow."""
        with self._lock:
            if self._stop.is_set():
                return
            self._stop.set()
            idle = self._idle
        self._failed.put(None)
        if idle:
            self._close_both()

    def close(self) -> None:
        """Close everything; waits, but not for ever for a card that does not answer."""
        self.retire()
        if self._worker.ident is not None and self._worker is not threading.current_thread():
            self._worker.join(_JOIN_S)

    # ---- the worker's side -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            for attempt in range(self._retries.count + 1):
                if attempt and self._stop.wait(self._retries.wait_s * 2 ** (attempt - 1)):
                    return
                if not self._run_once():
                    return
            self._say(f"the engine failed {self._retries.count + 1} times; {self._fallback.name} stays")
        finally:
            with self._lock:
                self._idle = True
                stopped = self._stop.is_set()
            self._close_engine(None)
            if stopped:
                self._close_both()
            self._settled.set()

    def _run_once(self) -> bool:
        """Open the engine, and sleep until it fails. Returns whether to try again."""
        try:
            engine = self._open(self._stop)
        except Exception as error:  # noqa: BLE001 - the stream goes on without the engine whatever happened to it
            if self._stop.is_set():
                return False
            failure = _remembered(error)
            self.failures.append(failure)
            self._say(f"no engine: {failure.message} ({failure.hint}); {self._fallback.name} goes on")
            # A missing package or a plan that is refused will not be there in five seconds.
            return isinstance(error, DeviceError) and error.kind != "missing"
        with self._lock:
            self._engine = engine
            if self._calibration is not None:
                engine.calibrate(*self._calibration)
            if self._morph is not None and isinstance(engine, Morphs):
                engine.morph(self._morph)
        if (engine.crop_size, engine.swap_size) != (self.crop_size, self.swap_size):
            self._say(f"the engine is of another persona; {self._fallback.name} goes on")
            return False
        self._ready = engine
        self._settled.set()
        reported = self._failed.get()
        if reported is None:
            return False
        self._close_engine(reported)
        # Numbers that are not finite come from the plan, and would come again.
        return reported.kind != "bad_output"

    def _close_engine(self, failure: Failure | None) -> None:
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is None:
            return
        try:
            if failure is not None and failure.kind == "lost" and isinstance(engine, Resettable):
                engine.abandon()
            else:
                engine.close()
        except Exception as error:  # noqa: BLE001 - it is given up anyway
            _log.warning("closing %s: %s", engine.name, error)

    def _close_both(self) -> None:
        self._ready = None
        self._close_engine(None)
        self._fallback.close()


def _remembered(error: Exception) -> Failure:
    if isinstance(error, PersonacamError):
        return Failure(error.message, error.hint, getattr(error, "kind", "failed"))
    return Failure(f"{type(error).__name__}: {error}", "personacam doctor", "failed")


def change_persona(
    swapper: Swapper, persona: Persona, switch: EngineSwitch, before: EngineSwitch, *, wait_s: float = 60.0
) -> None:
    """Another persona without stopping the stream: its engine is prepared first, then exchanged between two frames.

    To be called outside the frame loop. ``switch`` is the new persona's and not started; ``before`` is closed after
    the exchange. An engine that needs longer than ``wait_s`` starts on its fallback. Raises RuntimeFailure when the
    sizes differ; ``switch`` is closed then, and the persona before stays on.
    """
    switch.start()
    switch.wait(wait_s)
    try:
        swapper.wear(persona, switch, before.retire)
    except RuntimeFailure:
        switch.close()
        raise
