"""Cameras and network streams through OpenCV: ask for format, size and rate, then say what was really given.

Which format is asked for first, and what comes after it, is in ``negotiate.py``; coming back after the camera was
unplugged, and what a picture that stands still means, in ``reconnect.py``.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from engines.errors import SourceError, SourceFormatError, SourceLostError, SourceNotFoundError
from engines.types import U8, Frame
from realtime import v4l2
from realtime.camera_list import device_path, explain, without_password
from realtime.negotiate import READABLE, Attempt, Negotiation, Wish, another_may_do, attempts, best_of
from realtime.pacing import Clock, now_ns
from realtime.source import SourceConfig
from realtime.v4l2_controls import apply, slows_in_dim_light
from realtime.v4l2_modes import list_modes

MEASURED_FRAMES = 12
"""Intervals between frames over which the rate is measured when the camera is opened."""
LIVE_FRAMES = 90
"""Intervals over which it is measured again while running: light changes."""
_SETTLING_FRAMES = 3
"""Not measured: right after the start drivers give frames that were waiting."""
_MEASURE_NS = 2_500_000_000
"""Longest time for measuring a slow camera."""
_FIRST_PICTURE_NS = 6_000_000_000
"""Webcams take up to some seconds to their first picture: they wake up and set their exposure."""
_REFUSED_NS = 100_000_000
_URL_TIMEOUT_MS = 10_000
_OLDEST_STAMP_NS = 3_000_000_000
_STALE_INTERVALS = 2.5
"""So old, and newer pictures are waiting behind it: a driver has one ready every interval."""
_QUEUED = 4
"""Buffers that OpenCV gives the driver."""
_DAMAGED = 15
"""Pictures in a row that cannot be decoded, and the camera counts as lost."""
_OPENCV_ERRORS_ONLY = 2  # cv::utils::logging::LOG_LEVEL_ERROR


class CameraSource:
    """A camera by index or device path, or a stream by address. It ends when the camera goes away.

    Opening reads some pictures and throws them away: ``size`` is what really comes, ``measured_fps`` at which rate.
    A camera that is too slow for a reason that another format may cure is opened again with the next one (see
    ``negotiate.py``), at most ``MAX_ATTEMPTS`` times, and the best one is kept. ``report`` says what was given up.
    ``again`` is the ``attempt`` that did before: a camera that comes back is asked for that at once.
    """

    live = True

    def __init__(
        self, target: int | str, config: SourceConfig, clock: Clock = now_ns, again: Attempt | None = None
    ) -> None:
        self._url = isinstance(target, str) and "://" in target
        self.name = without_password(target) if isinstance(target, str) else f"camera {target}"
        self._target, self._config, self._clock = target, config, clock
        self._path = None if self._url else device_path(target)
        self._index = 0
        self._first_ns = 0
        self._last_ns = -1
        self._taken = 0
        """Pictures that the driver gave, with those that were passed over."""
        self._measure_from: tuple[int, int] = (0, 0)
        self.notes: tuple[str, ...] = ()
        """What of the controls could not be set."""
        self._length = 0
        self.attempt: Attempt | None = None
        """What it was opened with."""
        if self._url:
            self._capture = _open_url(str(target))
            size = _first_picture(self._capture, target, clock)
            self._length = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
            self._result = Negotiation("", None, None, "", size, None)
        else:
            self._capture, self._result = self._negotiate(again)
        self.size = self._result.size
        nominal = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(nominal) if np.isfinite(nominal) and 1.0 <= nominal <= 1000.0 else config.fps or 30.0

    @property
    def measured_fps(self) -> float | None:
        """Frames a second that really come; None for a stream before its first frames."""
        return self._result.fps

    @property
    def negotiation(self) -> Negotiation:
        """What was asked, what came."""
        return self._result

    @property
    def report(self) -> str:
        """One line: asked, got, and what is wrong with it."""
        if self._url:
            rate = "" if self.measured_fps is None else f", measured {self.measured_fps:.1f} fps"
            return f"{self.name}: {self.size[0]}x{self.size[1]}{rate}"
        return "; ".join([f"{self.name}: {self._result}", *self.notes])

    def read(self) -> Frame | None:
        """The next picture, of any size. Raises SourceLostError when none comes any more: at once when the camera was
        unplugged, after about a second when it hangs.
        """
        picture = self._next_picture()
        if picture is None:
            if self._url and 0 < self._length <= self._index + 1:  # an address of a file, at its end
                return None
            raise self._lost()
        arrived_ns = self._clock()
        captured_ns = arrived_ns if self._path is None else self._stamp(arrived_ns)
        if self._index == 0:
            self._first_ns = captured_ns
        self._measure_again(arrived_ns)
        self._last_ns = max(captured_ns - self._first_ns, self._last_ns + 1)
        frame = Frame(picture, self._index, captured_ns, self._last_ns)
        self._index += 1
        return frame

    def close(self) -> None:
        """Release the camera. May be called twice."""
        self._capture.release()

    def _next_picture(self) -> U8 | None:
        """(H, W, 3), or None when the camera gives none. Pictures that cannot be decoded are passed over: webcams send
        damaged ones now and then, and often an empty first one.
        """
        for _ in range(_DAMAGED):
            try:
                if not self._grab_newest():
                    return None
                picture = _retrieve(self._capture)
            except cv2.error:
                return None
            if picture is not None:
                return picture
        return None

    def _grab_newest(self) -> bool:
        """Take the next picture from the driver. Where this thread was late, several wait there: all but the newest are
        passed over without being decoded, as nobody would see them.
        """
        good = self._capture.grab()
        self._taken += 1
        if self._path is None:
            return bool(good)
        stale_ns = _STALE_INTERVALS * 1e9 / (self.measured_fps or self.fps)
        for _ in range(_QUEUED):
            now = self._clock()
            if not good or now - self._stamp(now) < stale_ns:
                break
            good = self._capture.grab()
            self._taken += 1
        return bool(good)

    def _stamp(self, arrived_ns: int) -> int:
        """When the driver had the picture, before it waited for us and was decoded. Drivers that keep another clock
        than the monotonic one are not believed.
        """
        stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        if not 0.0 < stamp < np.inf or not 0.0 < arrived_ns - stamp * 1e6 < _OLDEST_STAMP_NS:
            return arrived_ns
        return int(stamp * 1e6)

    def _measure_again(self, arrived_ns: int) -> None:
        count, since_ns = self._measure_from
        enough = MEASURED_FRAMES if self.measured_fps is None else LIVE_FRAMES
        if self._taken <= _SETTLING_FRAMES or arrived_ns - since_ns > 10 * _MEASURE_NS:  # the computer slept
            self._measure_from = (self._taken, arrived_ns)
        elif self._taken - count >= enough:
            fps = (self._taken - count) * 1e9 / max(arrived_ns - since_ns, 1)
            before = self._result
            after = replace(before, fps=fps)
            # Said again only when it matters: the line is printed whenever it changes.
            if before.fps is None or after.slow != before.slow:
                self._result = after
            self._measure_from = (self._taken, arrived_ns)

    def _negotiate(self, again: Attempt | None) -> tuple[cv2.VideoCapture, Negotiation]:
        """Open the camera with the best that works. Raises the reason why not."""
        if again is not None:
            with contextlib.suppress(SourceFormatError):  # it came back as something else: ask for everything anew
                return self._try(again, (), measure=False)
        config = self._config
        modes = () if self._path is None else list_modes(self._path, READABLE)
        results: list[tuple[Attempt, Negotiation]] = []
        failure: SourceError | None = None
        tried: list[str] = []
        for attempt in attempts(modes, Wish(config.fourcc, config.size, config.fps)):
            try:
                capture, result = self._try(attempt, tried)
            except SourceFormatError as error:  # another format may do; a camera that is busy or absent stays so
                failure = error
                tried.append(f"{_asked(attempt)} gave no picture")
                continue
            if not another_may_do(result):
                return capture, result
            results.append((attempt, result))
            capture.release()
            tried.append(f"{_asked(attempt)} came at {result.fps or 0.0:.1f} fps")
        if not results:
            raise failure or explain(self._target, "it cannot be opened")
        return self._try(results[best_of([result for _, result in results])][0], tried)

    def _try(
        self, attempt: Attempt, tried: Sequence[str], *, measure: bool = True
    ) -> tuple[cv2.VideoCapture, Negotiation]:
        """Open it as ``attempt`` says and measure its rate."""
        config, clock = self._config, self._clock
        self.attempt = attempt
        capture = _open_capture(self._target, attempt)
        self.notes = tuple(apply(self._path, config.controls))
        size = _first_picture(capture, self._target, clock)
        fps = _measure(capture, self._target, clock) if measure else None
        fourcc = v4l2.fourcc_name(_code(capture.get(cv2.CAP_PROP_FOURCC)))
        slows = slows_in_dim_light(self._path)
        return capture, Negotiation(config.fourcc, config.size, config.fps, fourcc, size, fps, slows, tuple(tried))

    def _lost(self) -> SourceLostError:
        what = "the stream stopped" if self._url else "it gives no more pictures"
        hint = "check the network and the sender" if self._url else "plug the camera in again"
        return SourceLostError(f"{self.name}: {what}", hint=hint)


def _asked(attempt: Attempt) -> str:
    size = "" if attempt.size is None else f" {attempt.size[0]}x{attempt.size[1]}"
    rate = "" if attempt.rate is None else f"@{attempt.rate:g}"
    return f"{attempt.fourcc or 'any format'}{size}{rate}"


def _retrieve(capture: cv2.VideoCapture) -> U8 | None:
    """The picture that was grabbed, (H, W, 3); None when it is damaged."""
    try:
        good, pixels = capture.retrieve()
    except cv2.error:
        return None
    if not good or pixels is None or pixels.ndim != 3 or not pixels.size:
        return None
    return cast("U8", np.ascontiguousarray(pixels))


def _first_picture(capture: cv2.VideoCapture, target: int | str, clock: Clock) -> tuple[int, int]:
    """(width, height) of what really comes. Raises why nothing does, after releasing the camera."""
    deadline_ns = clock() + _FIRST_PICTURE_NS
    while True:
        began_ns = clock()
        grabbed = capture.grab()
        picture = _retrieve(capture) if grabbed else None
        if picture is not None:
            return int(picture.shape[1]), int(picture.shape[0])
        now = clock()
        refused = not grabbed and now - began_ns < _REFUSED_NS  # waiting longer does not help
        if refused or now > deadline_ns:
            capture.release()  # before asking who holds it: that would be us
            raise explain(target, "it was opened but gives no picture")


def _measure(capture: cv2.VideoCapture, target: int | str, clock: Clock) -> float:
    """Frames a second, over a dozen of them. Raises SourceFormatError when it stops meanwhile, after releasing it."""
    began_ns = start_ns = clock()
    for number in range(_SETTLING_FRAMES + MEASURED_FRAMES):
        if not capture.grab():  # not decoded: only their number counts
            capture.release()
            raise explain(target, "it stopped after its first pictures")
        now = clock()
        if number == _SETTLING_FRAMES - 1:
            start_ns = now
        elif number > _SETTLING_FRAMES and now - began_ns > _MEASURE_NS:
            return (number + 1 - _SETTLING_FRAMES) * 1e9 / (now - start_ns)
    return MEASURED_FRAMES * 1e9 / max(clock() - start_ns, 1)


def _open_url(address: str) -> cv2.VideoCapture:
    _prepare_opencv()
    timeouts = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        _URL_TIMEOUT_MS,
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        _URL_TIMEOUT_MS,
    ]
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, timeouts)
    if not capture.isOpened():
        raise SourceNotFoundError(
            f"nothing can be read from {without_password(address)}",
            hint="check the address, user name and password, and that the sender is running",
        )
    return capture


def _open_capture(target: int | str, attempt: Attempt) -> cv2.VideoCapture:
    """An opened capture with format, size and rate asked for. Raises the reason why not."""
    _prepare_opencv()
    path = device_path(target)
    if path is not None and not Path(path).exists():
        raise explain(target, "there is no such device")
    wishes = _wishes(attempt)
    for backend in _backends():
        capture = cv2.VideoCapture(target, backend, [number for wish in wishes for number in wish])
        if capture.isOpened():
            return capture
        capture.release()
        # Some back ends refuse to open at all when one wish cannot be met: open first, then ask for each.
        capture = cv2.VideoCapture(target, backend)
        if capture.isOpened():
            for key, value in wishes:
                capture.set(key, value)
            return capture
        capture.release()
    raise explain(target, "it cannot be opened")


def _wishes(attempt: Attempt) -> list[tuple[int, int]]:
    """Properties in the order in which drivers want them: the format decides which sizes and rates there are."""
    wishes = []
    if attempt.fourcc is not None:
        wishes.append((cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*attempt.fourcc)))
    if attempt.size is not None:
        wishes += [(cv2.CAP_PROP_FRAME_WIDTH, attempt.size[0]), (cv2.CAP_PROP_FRAME_HEIGHT, attempt.size[1])]
    if attempt.rate is not None:
        wishes.append((cv2.CAP_PROP_FPS, round(attempt.rate)))
    return wishes


def _backends(platform: str = sys.platform) -> tuple[int, ...]:
    """OpenCV back ends to try. DirectShow before Media Foundation, which can take a minute to open a camera."""
    if platform == "linux":
        return (cv2.CAP_V4L2,)
    if platform == "win32":
        return (cv2.CAP_DSHOW, cv2.CAP_MSMF)
    if platform == "darwin":
        return (cv2.CAP_AVFOUNDATION,)
    return (cv2.CAP_ANY,)


def _prepare_opencv() -> None:
    """No warnings by OpenCV about devices that cannot be opened or read: our errors say the same with the repair. And
    a camera that hangs is noticed after one second instead of ten; OpenCV reads the variable once, at its first read.

    Both stay so, because a camera that is unplugged later warns too.
    """
    cv2.utils.logging.setLogLevel(_OPENCV_ERRORS_ONLY)
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")


def _code(value: float) -> int:
    """OpenCV's number of a format as the kernel's; 0 when the back end does not say."""
    return int(value) & 0xFFFFFFFF if np.isfinite(value) else 0
