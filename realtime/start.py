"""How a run begins and is interrupted: signals, the line about the first frame, the garbage collector."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2

from engines.types import Frame
from realtime.memory import give_back_memory
from realtime.pipeline import Pipeline
from realtime.source import Source

Say = Callable[[str], None]
PATIENCE_S = 1.5


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


class Start:
    """Says that loading takes a while, when it does, and when the first swapped frame went out."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._began = time.perf_counter()
        self.took_s: float | None = None
        self._patience = threading.Timer(PATIENCE_S, say, ["loading; the first start compiles, the next is quicker"])
        self._patience.daemon = True
        self._patience.start()

    def loaded(self) -> None:
        """Also when loading failed."""
        self._patience.cancel()

    def look(self, pipeline: Pipeline) -> None:
        """After each frame."""
        if self.took_s is None and pipeline.counts.swapped:
            self.took_s = round(time.perf_counter() - self._began, 3)
            self._say(f"first swapped frame {self.took_s:.1f} s after loading began")


class Negotiation:
    """Prints a camera's report again when it changes: the rate fell, it was unplugged, it is back."""

    def __init__(self, source: Source, say: Say) -> None:
        self._source, self._say, self._said = source, say, source.report

    def look(self, frame: Frame) -> None:  # noqa: ARG002 - the pipeline gives it
        """After each frame that was sent."""
        if self._source.live and self._source.report != self._said:
            self._said = self._source.report
            self._say(self._said)


@contextmanager
def undisturbed() -> Iterator[None]:
    """While frames run: few collections of garbage, and no helpers of OpenCV."""
    with few_collections(), undivided_opencv():
        yield


@contextmanager
def undivided_opencv() -> Iterator[None]:
    """OpenCV works in the thread that calls it. Its helpers would take the other core from capture or from the frame
    loop, for functions of a millisecond: on two busy cores shrinking a 720p picture took more than 7.7 ms in one case
    of ten with them, and more than 1.9 ms without.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


@contextmanager
def few_collections() -> Iterator[None]:
    """The garbage collector never looks again at what start-up made (about 300,000 objects, 50 ms and more a look)."""
    gc.collect()
    give_back_memory()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
