"""The live process's side of the page, the terminal view and the hotkeys.

The frames' thread polls a queue before each frame, reduces a picture for whoever looks at one, and makes a small state
four times a second, twice while the frames need all the time there is. Two further threads sleep on the pipes of the
companion process, which does all the rest: Python that holds the interpreter lock beside the frame loop was measured to
cost up to 5 ms a call.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from engines.errors import PersonacamError
from engines.types import U8, Frame
from realtime.control.desk import Desk, Parts
from realtime.control.effort import Effort
from realtime.control.guard import kept_token
from realtime.control.ring import PreviewWriter
from realtime.control.state import MAX_LINE_BYTES, Event, Hello, LiveState, parse_command
from realtime.control.watch import Log, Watcher, knob_limits
from realtime.latest import Closed, Latest
from realtime.pacing import Clock, now_ns

_log = logging.getLogger("personacam")
STATE_EVERY_NS = 250_000_000
BUSY_STATE_EVERY_NS = 500_000_000
_WAIT_S = 1.0
_JOIN_S = 3.0
Say = Callable[[str], None]


class Voice:
    """Lines for people: said, and also shown on the page; in the terminal above its table, while there is one."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.log = Log()
        self.drawn = False
        """Somebody else prints the log's lines."""

    def __call__(self, text: str) -> None:
        """One line."""
        self.log.add(text)
        if not self.drawn:
            self._say(text)


class Companion:
    """The other process: a writer thread that sends it the newest line, a reader thread that hears commands."""

    def __init__(self, hello: Hello, heard: Callable[[bytes], None]) -> None:
        """Starts it; ``heard`` gets each line that it says, in a thread. Raises OSError."""
        root = str(Path(__file__).resolve().parents[2])
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, *(path for path in sys.path if path)])}
        # One thread: it must not take the cores that the frames need.
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "realtime.control.companion"], env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),
        )  # fmt: skip
        self._heard = heard
        self._hello = hello
        self._next: Latest[LiveState] = Latest()
        self._threads = [
            threading.Thread(target=work, name="companion", daemon=True) for work in (self._write, self._read)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def send(self, state: LiveState) -> None:
        """The newest wins."""
        self._next.put(state)

    def close(self, last: LiveState | None = None) -> None:
        """Tell it the last state, and wait for its end; a deaf one is killed. May be called twice."""
        if last is not None:
            self.send(last)
        self._next.close()
        self._threads[0].join(_JOIN_S)
        try:
            self._process.wait(_JOIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._threads[1].join(_JOIN_S)

    def _write(self) -> None:
        pipe = self._process.stdin
        if pipe is None:
            return
        message: Hello | LiveState | None = self._hello
        try:
            while True:
                if message is not None:
                    pipe.write(message.model_dump_json().encode() + b"\n")
                    pipe.flush()
                message = self._next.get(_WAIT_S)
        except (Closed, OSError):  # the end; or it has ended
            pass
        finally:
            with contextlib.suppress(OSError):
                pipe.close()

    def _read(self) -> None:
        pipe = self._process.stdout
        if pipe is None:
            return
        with pipe:
            while line := pipe.readline(MAX_LINE_BYTES):
                self._heard(line)


class Panel:
    """The page, the terminal view and the hotkeys of one run, from ``start`` to ``close``.

    ``look``, ``tap`` and ``after`` are the pipeline's hooks, in the thread of the frames.
    """

    def __init__(
        self, parts: Parts, watcher: Watcher, desk: Desk, voice: Voice, *, terminal: bool, clock: Clock = now_ns
    ) -> None:
        """``terminal``: draw the table on standard error."""
        self.desk, self.address = desk, ""
        """``address`` of the page, once it is served."""
        self.ready = threading.Event()
        """The page is served, or never will be."""
        self._parts, self._watcher, self._voice, self._clock, self._terminal = parts, watcher, voice, clock, terminal
        self._companion: Companion | None = None
        self._previews: PreviewWriter | None = None
        self._next_ns = 0
        """When a state is due; 0: at once, because something was asked for."""
        self._effort = Effort()

    def start(self, token_file: Path) -> None:
        """Start the companion. Whatever fails is said, and the run goes on without it."""
        settings = self._parts.current.value
        page = self._terminal if settings.control is None else settings.control
        if not page and not self._terminal:
            return
        try:
            self._previews = PreviewWriter(self._parts.size) if page else None
            self.desk.incoming.seen = self._see if page else None
            hello = Hello(
                token=kept_token(token_file) if page else "-" * 20,
                port=settings.control_port,
                page=page,
                terminal=self._terminal,
                hotkeys=page and settings.hotkeys,
                memory=None if self._previews is None else self._previews.name,
                gallery=tuple(self._parts.files()),
                knobs=knob_limits() if page else {},
                said=self._voice.log.count,
            )
            self._voice.drawn = self._terminal
            self._companion = Companion(hello, self._heard)
        except (OSError, PersonacamError) as error:
            self._voice.drawn = False
            self._voice(f"no control page: {error}")
            self.ready.set()

    def close(self) -> None:
        """Say goodbye to pages, end the companion, free the shared memory. May be called twice."""
        if self._companion is not None:
            self._companion.close(self._watcher.state(ended=True))
            self._companion = None
        self.desk.incoming.seen = None
        self._voice.drawn = False
        if self._previews is not None:
            self._previews.close()
            self._previews = None

    def _see(self, frame: Frame) -> None:
        """What the camera sees, before the swap is put into the same pixels."""
        if self._previews is not None and self._previews.wanted(self._clock()):
            self._previews.offer_before(frame.pixels, frame.index)

    def tap(self, pixels: U8, frame: Frame) -> None:
        """A picture went out: a preview of it, if one is asked for."""
        previews = self._previews
        if previews is not None:
            now = self._clock()
            if previews.wanted(now):
                covered = self._watcher.covered()
                previews.offer(pixels, frame.index, now, covered=covered)

    def after(self, frame: Frame) -> None:  # noqa: ARG002 - the pipeline gives it
        """A few times a second, the state."""
        self._effort.frame(self._parts.pipeline.cost_ns)
        now = self._clock()
        if self._companion is None or now < self._next_ns:
            return
        state = self._watcher.state()
        busy = self._effort.busy(now, state.frames.dropped)
        if self._previews is not None:
            self._previews.hurry(busy=busy)
        self._next_ns = now + (BUSY_STATE_EVERY_NS if busy else STATE_EVERY_NS)
        self._companion.send(state)

    def _heard(self, line: bytes) -> None:
        """In the reading thread."""
        if line.startswith(b'{"event"'):
            try:
                event = Event.model_validate_json(line)
            except ValidationError as error:
                _log.warning("the companion said something else: %s", error)
                return
            if event.event == "ready":
                self.address = event.text
                self.ready.set()
                self._voice(f"control page: {event.text}")
            else:
                self._voice(event.text)
                if event.event == "failed":
                    self.ready.set()
            return
        try:
            self.desk.submit(parse_command(line.strip()))
            self._next_ns = 0
        except ValueError as error:
            _log.warning("the companion asked for something else: %s", error)
