"""Recording while the pictures run: an encoder with a thread of its own, and what starts and stops it.

    pipeline thread -> queue of at most ``QUEUE`` pictures -> encoder thread -> file

The thread of the frames hands over a reference and goes on; a picture that finds the queue full is left out and
counted. Encoding, writing, sound and signing are the other thread's. A full disk ends the recording, not the stream.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import platformdirs

from engines.errors import PersonacamError, SinkError
from engines.types import U8, Frame
from realtime.pacing import Clock, now_ns
from realtime.recorder import RecorderSink

_log = logging.getLogger("personacam")
QUEUE = 30
"""Pictures that may wait for the encoder: a second, 80 MB at 720p, and none of them while it keeps up."""
_LISTEN_S = 0.05
_LATENCIES = 31
Say = Callable[[str], None]
RecordingPhase = Literal["idle", "recording", "finishing"]
"""finishing: the file is copied into its final form and signed; a new recording may begin meanwhile."""


@dataclass(frozen=True, slots=True)
class RecordingState:
    """What the control page and the terminal show."""

    phase: RecordingPhase = "idle"
    path: Path | None = None
    """Of the recording that runs, or else the last one; where it is, or will be when ``phase`` is idle."""
    seconds: float = 0.0
    frames: int = 0
    """Written."""
    dropped: int = 0
    """Left out, because encoder or disk were too slow."""
    bytes: int = 0
    """Of the file so far."""
    microphone: str | None = None
    """Its name, or what is wrong with it; None: without sound."""
    message: str | None = None
    """How the last recording ended, in plain words."""
    failed: bool = False
    """Whether it ended by itself, for example on a full disk."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"path": None if self.path is None else str(self.path)}


class Recording(Protocol):
    """Starts and stops recordings of a running stream; from any thread."""

    @property
    def state(self) -> RecordingState:
        """Now; costs microseconds."""
        ...

    def start(self, path: Path | None = None) -> None:
        """Begin. ``None``: a new file in the user's folder of videos.

        May take seconds, because a real person's consent is asked for: not to be called in the thread of the frames.
        Raises SinkError (it runs already, the file cannot be made), ConsentError, SourceError (the microphone),
        MissingDependencyError.
        """
        ...

    def stop(self) -> Path:
        """End. Returns at once with the path at which the file will be; ``state`` says when it is finished.

        Raises SinkError when none runs.
        """
        ...


class BackgroundRecorder:
    """A recorder whose ``send`` returns at once. A sink.

    A failure, for example of a full disk, is raised by each later ``send``; what was written until then is kept.
    """

    name = "recorder"

    def __init__(self, recorder: RecorderSink, queue: int = QUEUE, clock: Clock = now_ns) -> None:
        self.recorder = recorder
        self.report = recorder.report
        self.dropped = 0
        """Pictures that found the queue full."""
        self.failure: PersonacamError | None = None
        """Why it ended by itself, if it did."""
        self._most, self._clock = queue, clock
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._waiting: deque[tuple[U8, Frame]] = deque()
        self._changed = threading.Condition()
        """Of ``_waiting`` and ``_closing``; never held while anything is encoded."""
        self._closing = self._told = False
        self._thread: threading.Thread | None = None

    def open(self, size: tuple[int, int], fps: float) -> None:
        """Begin the file. Raises as ``RecorderSink.open``."""
        self.close()
        self.recorder.open(size, fps)
        self.dropped, self.failure, self._closing, self._told = 0, None, False, False
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()
        self.report = self.recorder.report

    def send(self, pixels: U8, frame: Frame) -> None:
        """Hand a picture over; a reference keeps it (see ``PictureRing``). Raises the encoder's SinkError once."""
        failure = self.failure
        if failure is not None or self._thread is None:
            self._told = True
            raise failure or SinkError(f"the recording {self.recorder.path} is not open", hint="call open first")
        self._latencies.append((self._clock() - frame.captured_ns) / 1e6)
        if len(self._latencies) % 10 == 1:  # often in the beginning, then always, as the box stays full
            self.recorder.latency_ms = statistics.median(self._latencies)
        # The source's own picture shows the wearer's face and is not kept waiting.
        mine = replace(frame, pixels=pixels)
        with self._changed:
            if len(self._waiting) >= self._most:
                self.dropped += 1
                return
            self._waiting.append((pixels, mine))
            self._changed.notify()

    def end(self) -> None:
        """Let it finish what waits; does not wait for that."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def close(self) -> None:
        """Finish the file and wait for it. May be called twice. Raises what ended it, if nobody was told yet."""
        thread = self._thread
        if thread is None:
            return
        self.end()
        thread.join()
        self._thread = None
        if self.failure is not None and not self._told:
            self._told = True
            raise self.failure

    @property
    def finished(self) -> bool:
        """Whether the file is closed."""
        return self._thread is None or not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                if item:
                    self.recorder.send(*item)
                else:
                    self.recorder.listen()
        except PersonacamError as error:
            self.failure = error
        except Exception as error:  # noqa: BLE001 - a thread that just dies would look like a recording that runs
            self.failure = SinkError(f"the recording failed: {error}", hint="record again; report it if it repeats")
            self.failure.__cause__ = error
        try:
            self.recorder.close()
        except PersonacamError as error:
            self.failure = self.failure or error
        finally:
            self._waiting.clear()
            left_out = f"; {self.dropped} frames left out: encoder or disk were too slow" if self.dropped else ""
            self.report = self.recorder.report + left_out

    def _next(self) -> tuple[U8, Frame] | tuple[()] | None:
        """The next picture; () when none came for a moment; None at the end."""
        with self._changed:
            if not self._waiting and not self._closing:
                self._changed.wait(_LISTEN_S)
            if self._waiting:
                return self._waiting.popleft()
            return None if self._closing else ()


class RecordingControl:
    """Starts and stops recordings of a running stream. ``take`` is a tap of the pipeline (see ``Pipeline.tap``)."""

    def __init__(
        self,
        size: tuple[int, int],
        fps: float,
        make: Callable[[Path], RecorderSink],
        *,
        admit: Callable[[], None] = lambda: None,
        microphone: str | None = None,
        say: Say = lambda _: None,
    ) -> None:
        """``make`` gives a recorder for a path, not yet open. ``admit`` raises ConsentError when whoever is worn must
        not be recorded. ``say`` is told how each recording ended.
        """
        self._size, self._fps, self._make, self._admit, self._say = size, fps, make, admit, say
        self._microphone = microphone
        self._lock = threading.Lock()
        """Of starting and stopping, which may take seconds; never taken by the thread of the frames."""
        self._handing_over = threading.Lock()
        """Of ``_running`` becoming None; held for microseconds."""
        self._running: BackgroundRecorder | None = None
        self._ending: list[threading.Thread] = []
        self._last = RecordingState(microphone=microphone)
        self._first_ns: int | None = None
        self._latest_ns = 0

    @property
    def active(self) -> bool:
        """Whether pictures are being recorded."""
        running = self._running
        return running is not None and running.failure is None

    @property
    def state(self) -> RecordingState:
        """As ``Recording.state``."""
        running = self._running
        if running is None or running.failure is not None:
            finishing = any(thread.is_alive() for thread in self._ending)
            return replace(self._last, phase="finishing" if finishing else "idle")
        return self._seen(running, "recording")

    def start(self, path: Path | None = None) -> None:
        """As ``Recording.start``."""
        with self._lock:
            if self._running is not None:
                raise SinkError(f"{self._running.recorder.path} is being recorded", hint="stop it first")
            self._admit()
            target = new_recording() if path is None else path
            if target.exists():
                raise SinkError(f"there is a file {target} already", hint="give the recording another name")
            recorder = BackgroundRecorder(self._make(target))
            recorder.open(self._size, self._fps)
            self._first_ns, self._latest_ns = None, 0
            self._running = recorder
        self._say(recorder.report)

    def stop(self) -> Path:
        """As ``Recording.stop``."""
        with self._lock:
            running = self._running
            if running is None:
                raise SinkError("nothing is being recorded", hint="start a recording first")
            self._end(running)
            return running.recorder.path

    def take(self, pixels: U8, frame: Frame) -> None:
        """A picture that went out; in the thread of the frames. Does not raise."""
        running = self._running
        if running is None:
            return
        try:
            running.send(pixels, frame)
        except SinkError as error:
            self._end(running)
            _log.warning("the recording ended, the stream goes on: %s", error)
            return
        if self._first_ns is None:
            self._first_ns = frame.timestamp_ns
        self._latest_ns = frame.timestamp_ns

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until every recording that was stopped is finished. Whether it is."""
        for thread in tuple(self._ending):
            thread.join(timeout_s)
        return not any(thread.is_alive() for thread in self._ending)

    def close(self) -> None:
        """Stop and finish everything. May be called twice."""
        with self._lock:
            if self._running is not None:
                self._end(self._running)
        self.wait()

    def _end(self, running: BackgroundRecorder) -> None:
        """Once for each recording, whoever of page, terminal and the thread of the frames comes first."""
        with self._handing_over:
            if self._running is not running:
                return
            self._last = self._seen(running, "finishing")
            self._running = None
        running.end()
        thread = threading.Thread(target=self._finish, args=(running,), name="recording-end", daemon=True)
        self._ending = [t for t in self._ending if t.is_alive()] + [thread]
        thread.start()

    def _finish(self, running: BackgroundRecorder) -> None:
        with contextlib.suppress(PersonacamError):  # it is in ``failure``
            running.close()
        failure = running.failure
        message = running.report if failure is None else f"{failure.message}; {running.report}"
        if self._last.path == running.recorder.path:
            self._last = replace(
                self._seen(running, "idle"), seconds=self._last.seconds, message=message, failed=failure is not None
            )
        self._say(message)

    def _seen(self, running: BackgroundRecorder, phase: RecordingPhase) -> RecordingState:
        recorder = running.recorder
        file = recorder.path if phase == "idle" and recorder.path.exists() else recorder.part
        try:
            size = file.stat().st_size
        except OSError:
            size = 0
        seconds = 0.0 if self._first_ns is None else (self._latest_ns - self._first_ns) / 1e9
        problem = recorder.sound_problem
        return RecordingState(
            phase, recorder.path, seconds, recorder.frames, running.dropped, size, problem or self._microphone
        )


def new_recording(folder: Path | None = None, now: datetime | None = None) -> Path:
    """A file that is not there yet, named by date and time, in the user's folder of videos, which is made."""
    folder = folder or Path(platformdirs.user_videos_dir())
    stem = f"personacam {now or datetime.now():%Y-%m-%d %H-%M-%S}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"the folder {folder} cannot be made: {error.strerror}", hint="give a path") from error
    path, number = folder / f"{stem}.mp4", 2
    while path.exists():
        path, number = folder / f"{stem} {number}.mp4", number + 1
    return path
