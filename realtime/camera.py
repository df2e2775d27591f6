"""Cameras and network streams through OpenCV: ask for format, size and rate, then say what was really given."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from engines.errors import SourceBusyError, SourceError, SourceFormatError, SourceLostError, SourceNotFoundError
from engines.types import U8, Frame
from realtime import v4l2
from realtime.pacing import Clock, now_ns
from realtime.source import SourceConfig

MEASURED_FRAMES = 20
"""Intervals between frames over which the real rate is measured."""
_SETTLING_FRAMES = 3
"""Not measured: right after the start drivers give frames that were waiting."""
_URL_TIMEOUT_MS = 10_000
_RAW_FOURCCS = frozenset({"YUYV", "YUY2", "UYVY"})
_USB2_BYTES_PER_S = 24_000_000  # what one isochronous endpoint may carry: 3 x 1024 bytes every 125 us
_OPENCV_ERRORS_ONLY = 2  # cv::utils::logging::LOG_LEVEL_ERROR


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """One camera of this computer."""

    index: int
    """What ``--source`` takes."""
    path: str
    name: str


def list_cameras(sysfs: Path = v4l2.SYSFS) -> list[CameraInfo]:
    """The cameras that Linux knows and that give pictures. Empty elsewhere: see ``camera_list_note``.

    A device that may not be asked (no rights, or held alone by another program) is listed, because it may be one.
    """
    found = []
    for index, path, name in v4l2.nodes(sysfs):
        capability = v4l2.query(path)
        if capability is None or capability.captures:
            found.append(CameraInfo(index, path, name))
    return found


def camera_list_note(platform: str = sys.platform) -> str | None:
    """Why ``list_cameras`` cannot list here; None where it can."""
    if platform == "linux":
        return None
    return "cameras are listed on Linux only; elsewhere try --source 0, then 1, 2, …"


@dataclass(frozen=True, slots=True)
class Negotiation:
    """What was asked of a camera and what it gives. ``None`` in what was asked: its default."""

    asked_fourcc: str
    asked_size: tuple[int, int] | None
    asked_fps: float | None
    fourcc: str
    size: tuple[int, int]
    fps: float | None
    """Measured; None until enough frames came."""

    def faults(self) -> list[str]:
        """Each way in which the camera gives less than was asked, with the likely cause."""
        found = []
        if self.fourcc and self.fourcc != self.asked_fourcc:
            found.append(f"the format is {self.fourcc}, not {self.asked_fourcc}")
        if self.asked_size is not None and self.size != self.asked_size:
            found.append("the size differs; this camera may not have it")
        if self.fps is not None and self.asked_fps is not None and self.fps < 0.85 * self.asked_fps:
            bytes_per_s = self.size[0] * self.size[1] * 2 * self.asked_fps
            if self.fourcc in _RAW_FOURCCS and bytes_per_s > _USB2_BYTES_PER_S:
                cause = "raw pictures this large do not fit through USB 2; try a smaller size"
            else:
                cause = "often dim light, or more than this camera can"
            found.append(f"the rate is low ({cause})")
        return found

    def __str__(self) -> str:
        size = "default size" if self.asked_size is None else f"{self.asked_size[0]}x{self.asked_size[1]}"
        rate = "" if self.asked_fps is None else f"@{self.asked_fps:g}"
        rate_got = "rate not measured yet" if self.fps is None else f"at {self.fps:.1f} fps"
        got = f"{self.fourcc or 'an unnamed format'} {self.size[0]}x{self.size[1]} {rate_got}"
        faults = self.faults()
        verdict = ": " + "; ".join(faults) if faults else ""
        return f"asked {self.asked_fourcc} {size}{rate}, got {got}{verdict}"


class CameraSource:
    """A camera by index or device path, or a stream by address.

    The first picture is read and thrown away when opening, so ``size`` is what really comes. ``report`` names a
    negotiation that went wrong; the measured rate appears in it after some twenty frames, as in ``measured_fps``.
    """

    live = True

    def __init__(self, target: int | str, config: SourceConfig, clock: Clock = now_ns) -> None:
        self._url = isinstance(target, str) and "://" in target
        self.name = _without_password(target) if isinstance(target, str) else f"camera {target}"
        self.measured_fps: float | None = None
        self._config = config
        self._clock = clock
        self._index = 0
        self._first_ns = 0
        self._last_ns = -1
        self._measure_from_ns = 0
        self._capture = _open_capture(target, config, url=self._url)
        self.size = self._first_picture(target)
        self._fourcc = _fourcc_name(self._capture.get(cv2.CAP_PROP_FOURCC))
        self._length = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)) if self._url else 0
        nominal = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(nominal) if np.isfinite(nominal) and 1.0 <= nominal <= 1000.0 else config.fps or 30.0

    @property
    def negotiation(self) -> Negotiation:
        """What was asked, what came."""
        config = self._config
        return Negotiation(config.fourcc, config.size, config.fps, self._fourcc, self.size, self.measured_fps)

    @property
    def report(self) -> str:
        """One line: asked, got, and what is wrong with it."""
        if self._url:
            rate = "" if self.measured_fps is None else f", measured {self.measured_fps:.1f} fps"
            return f"{self.name}: {self.size[0]}x{self.size[1]}{rate}"
        return f"{self.name}: {self.negotiation}"

    def read(self) -> Frame | None:
        """The next picture, waiting at most some ten seconds. Raises SourceLostError when none comes any more."""
        try:
            good, pixels = self._capture.read()
        except cv2.error as error:
            raise self._lost() from error
        arrived_ns = self._clock()
        if not good or pixels is None:
            if self._url and 0 < self._length <= self._index + 1:  # an address of a file, at its end
                return None
            raise self._lost()
        picture = cast("U8", np.ascontiguousarray(pixels))
        if (picture.shape[1], picture.shape[0]) != self.size or picture.ndim != 3:
            raise SourceLostError(f"{self.name} changed its picture size", hint="start again")
        if self._index == 0:
            self._first_ns = arrived_ns
        self._measure(arrived_ns)
        self._last_ns = max(arrived_ns - self._first_ns, self._last_ns + 1)
        frame = Frame(picture, self._index, arrived_ns, self._last_ns)
        self._index += 1
        return frame

    def close(self) -> None:
        """Release the camera. May be called twice."""
        self._capture.release()

    def _measure(self, arrived_ns: int) -> None:
        if self._index == _SETTLING_FRAMES:
            self._measure_from_ns = arrived_ns
        elif self._index == _SETTLING_FRAMES + MEASURED_FRAMES and arrived_ns > self._measure_from_ns:
            self.measured_fps = MEASURED_FRAMES * 1e9 / (arrived_ns - self._measure_from_ns)

    def _first_picture(self, target: int | str) -> tuple[int, int]:
        good, pixels = self._capture.read()
        if not good or pixels is None or pixels.ndim != 3:
            self._capture.release()  # before asking who holds it: that would be us
            raise _explain(target, "it was opened but gives no picture")
        return int(pixels.shape[1]), int(pixels.shape[0])

    def _lost(self) -> SourceLostError:
        what = "the stream stopped" if self._url else "it gives no more pictures"
        hint = "check the network and the sender" if self._url else "plug the camera in again, then start again"
        return SourceLostError(f"{self.name}: {what}", hint=hint)


def _open_capture(target: int | str, config: SourceConfig, *, url: bool) -> cv2.VideoCapture:
    """An opened capture with format, size and rate asked for. Raises the reason why not."""
    _quiet_opencv()
    if url:
        timeouts = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            _URL_TIMEOUT_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            _URL_TIMEOUT_MS,
        ]
        capture = cv2.VideoCapture(str(target), cv2.CAP_FFMPEG, timeouts)
        if not capture.isOpened():
            raise SourceNotFoundError(
                f"nothing can be read from {_without_password(str(target))}",
                hint="check the address, user name and password, and that the sender is running",
            )
        return capture
    if sys.platform == "linux":
        path = f"/dev/video{target}" if isinstance(target, int) else target
        if not Path(path).exists():
            raise _explain(target, "there is no such device")
    wishes = _wishes(config)
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
    raise _explain(target, "it cannot be opened")


def _wishes(config: SourceConfig) -> list[tuple[int, int]]:
    """Properties in the order in which drivers want them: the format decides which sizes and rates there are."""
    wishes = [(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*config.fourcc))]
    if config.size is not None:
        wishes += [(cv2.CAP_PROP_FRAME_WIDTH, config.size[0]), (cv2.CAP_PROP_FRAME_HEIGHT, config.size[1])]
    if config.fps is not None:
        wishes.append((cv2.CAP_PROP_FPS, round(config.fps)))
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


def _explain(target: int | str, problem: str) -> SourceError:
    """Why a camera does not work: absent, held by somebody, forbidden, or no camera at all."""
    name = f"camera {target}" if isinstance(target, int) else target
    note = camera_list_note()
    if note is not None:
        return SourceNotFoundError(
            f"{name}: {problem}",
            hint=f"close programs that use it and allow camera access in the system's privacy settings; {note}",
        )
    path = f"/dev/video{target}" if isinstance(target, int) else target
    if not Path(path).exists():
        cameras = ", ".join(f"{camera.index} ({camera.name})" for camera in list_cameras())
        there = f"there are: {cameras}" if cameras else "this computer shows no camera; plug one in"
        return SourceNotFoundError(
            f"{name}: there is no such device; {there}", hint="choose one with --source, or try --source pattern"
        )
    if not os.access(path, os.R_OK | os.W_OK):
        return SourceError(
            f"{name}: {path} may not be opened by this user",
            hint="sudo usermod -a -G video $USER, then log in again",
        )
    capability = v4l2.query(path)
    if capability is not None and not capability.captures:
        return SourceFormatError(
            f"{name}: {path} ({capability.card}) is no camera: nothing can be read from it",
            hint="choose another one; personacam doctor lists them",
        )
    users = v4l2.holders(path)
    if v4l2.is_streaming(path) or users:
        who = ", ".join(users) if users else "another program, of another user"
        return SourceBusyError(f"{name} is in use by {who}", hint="end that program or its video, then start again")
    return SourceFormatError(
        f"{name}: {problem}", hint="plug it in again, or try another size, for example --width 640 --height 480"
    )


def _quiet_opencv() -> None:
    """No warnings by OpenCV about devices that cannot be opened or read: our errors say the same with the repair.

    It stays so, because a camera that is unplugged later warns too.
    """
    cv2.utils.logging.setLogLevel(_OPENCV_ERRORS_ONLY)


def _fourcc_name(value: float) -> str:
    """Turn OpenCV's number into its four letters, "MJPG"; empty when the back end does not say."""
    code = int(value) & 0xFFFFFFFF if np.isfinite(value) else 0
    letters = "".join(chr((code >> shift) & 0xFF) for shift in (0, 8, 16, 24)).strip()
    return letters if letters.isprintable() and letters.isascii() and len(letters) >= 3 else ""


def _without_password(address: str) -> str:
    """An address without its user name and password: it is printed and logged."""
    scheme, separator, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"
