"""From "--source X" to frames in a box: which input a text names, and the one thread that reads it.

Read ``realtime/source.py`` for what an input is. The inputs live in ``camera.py``, ``files.py`` and ``pattern.py``.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from engines.errors import PersonacamError, SourceLostError, SourceNotFoundError
from engines.types import Frame
from realtime.camera_list import CameraInfo, camera_list_note, find_by_name, list_cameras
from realtime.files import ImageFolderSource, VideoFileSource
from realtime.latest import Closed, Latest
from realtime.pacing import Clock, Sleep, now_ns
from realtime.pattern import PatternSource
from realtime.reconnect import open_camera
from realtime.source import NoFrameYet, Source, SourceConfig

__all__ = [
    "CameraInfo",
    "CaptureMode",
    "CaptureThread",
    "Closed",
    "Source",
    "SourceConfig",
    "camera_list_note",
    "list_cameras",
    "open_source",
]

CaptureMode = Literal["newest", "lossless"]
"""newest: the consumer gets the newest picture, the others are counted as dropped. lossless: the input waits."""

_WAIT_S = 0.1
_REANCHOR_NS = 1_000_000_000


def open_source(spec: str, config: SourceConfig, aliases: Mapping[str, Path] | None = None) -> Source:
    """Open the input that ``spec`` names.

    ``aliases`` name shipped files ("demo"). Then: "pattern"; a number, a path under /dev or "camera:PART OF ITS NAME"
    for a camera; an address with "://"; a folder of pictures; a video file. Raises SourceNotFoundError,
    SourceBusyError, SourceFormatError.
    """
    text = spec.strip()
    if aliases is not None and text in aliases:
        return VideoFileSource(aliases[text], config)
    if text == "pattern":
        return PatternSource(config)
    if text.isdecimal():
        return open_camera(int(text), config)
    if text.startswith("camera:"):
        return open_camera(find_by_name(text.removeprefix("camera:").strip(), list_cameras()).index, config)
    if "://" in text or text.startswith("/dev/"):
        return open_camera(text, config)
    path = Path(text).expanduser()
    if text and path.is_dir():
        return ImageFolderSource(path, config)
    if text and path.exists():
        return VideoFileSource(path, config)
    names = ", ".join(["pattern", *(aliases or {})])
    raise SourceNotFoundError(
        f"there is no file, folder or camera {spec!r}",
        hint=f"give a camera number (0, 1, …), a video file, a folder of pictures, an address, or one of: {names}",
    )


class CaptureThread:
    """Reads one source in one thread into ``latest``. The thread owns the source and closes it when it ends.

    When the input ends, ``latest.get`` gives out what is left and then raises ``Closed``; when it fails, the source's
    error. With ``pace``, a source that is not live is released at the rate of its time stamps, each deadline counted
    from the first frame; a frame's ``captured_ns`` is then the moment of its release, so latency does not contain the
    wait. If the source itself is late by more than a second, the deadlines move, so that what it held back is not
    raced through; a slow consumer only has its frames replaced.
    """

    def __init__(
        self,
        source: Source,
        mode: CaptureMode = "newest",
        *,
        pace: bool = True,
        clock: Clock = now_ns,
        sleep: Sleep | None = None,
    ) -> None:
        self.source = source
        self.mode: CaptureMode = mode
        self.latest: Latest[Frame] = Latest()
        self.captured = 0
        """Frames read from the source. Written by the capture thread only."""
        self.abandoned = False
        """True when ``stop`` gave up waiting for a read that blocks; the daemon thread ends with that read."""
        self._pace = pace and not source.live
        self._clock = clock
        self._stop = threading.Event()
        self._sleep: Sleep = self._stop.wait if sleep is None else sleep
        self._origin_ns: int | None = None
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    @property
    def dropped(self) -> int:
        """Frames that were replaced by newer ones before the consumer took them."""
        return self.latest.dropped

    def start(self) -> CaptureThread:
        """Begin reading. Returns itself."""
        self._thread.start()
        return self

    def stop(self, timeout_s: float = 1.0) -> bool:
        """End reading and wait at most ``timeout_s``. True when the source is closed, False when its read still blocks.

        May be called twice, from any thread, and before ``start``.
        """
        self._stop.set()
        self.latest.close()
        if self._thread.ident is None:  # never started
            self.source.close()
            return True
        self._thread.join(timeout_s)
        self.abandoned = self._thread.is_alive()
        return not self.abandoned

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end of the input. True when the thread has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        error: Exception | None = None
        try:
            self._pump()
        except PersonacamError as failure:
            error = failure
        # cv2.error and most of av.error.FFmpegError derive from nothing narrower. Whatever a driver or decoder throws
        # must reach the consumer: a thread that just dies looks like the input's normal end, and nothing is covered.
        except Exception as failure:  # noqa: BLE001
            error = self._failed(failure)
        except BaseException as failure:  # SystemExit in a library ends this thread: no reason to look like the end
            error = self._failed(failure)
            raise
        finally:
            try:
                self.source.close()
            finally:
                self.latest.close(error)

    def _failed(self, failure: BaseException) -> SourceLostError:
        why = str(failure) or type(failure).__name__
        error = SourceLostError(f"{self.source.name} failed: {why}", hint="start again; report it if it repeats")
        error.__cause__ = failure
        return error

    def _pump(self) -> None:
        while not self._stop.is_set():
            try:
                frame = self.source.read()
            except NoFrameYet:  # away and expected back: the consumer sees that nothing comes
                continue
            if frame is None:
                return
            self.captured += 1
            if self._pace:
                frame = self._release(frame)
            if self.mode == "newest":
                self.latest.put(frame)
                continue
            while not self._stop.is_set() and not self.latest.put_wait(frame, _WAIT_S):
                pass

    def _release(self, frame: Frame) -> Frame:
        """Wait for the frame's time, then stamp it."""
        now = self._clock()
        if self._origin_ns is None:
            self._origin_ns = now - frame.timestamp_ns
        early_ns = self._origin_ns + frame.timestamp_ns - now
        if early_ns > 0:
            self._sleep(early_ns / 1e9)
        elif -early_ns > _REANCHOR_NS:
            # The source was late (a stalled disk, a halted decoder): count on from here, without a burst.
            self._origin_ns = now - frame.timestamp_ns
        return replace(frame, captured_ns=self._clock())
