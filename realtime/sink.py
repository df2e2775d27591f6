"""What an output is, and the two that need no device: a preview window and a black hole.

Several outputs at once are a list of sinks; each gets every frame. The virtual camera is in ``virtualcam.py``,
recordings in ``recorder.py``.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import cv2

from engines.errors import SettingsError, SinkError, SinkUnavailableError
from engines.types import U8, Frame
from realtime.recorder import RECORDING_SUFFIXES, RecorderSink
from realtime.steady import SteadySink
from realtime.virtualcam import VirtualCameraSink

__all__ = [
    "NullSink",
    "PreviewSink",
    "RecorderSink",
    "Sink",
    "StopRequested",
    "VirtualCameraSink",
    "display_problem",
    "open_sink",
]


class StopRequested(Exception):  # noqa: N818 - the user's wish, not an error
    """The user closed the preview or pressed q in it."""


class Sink(Protocol):
    """An output. ``open``, ``send`` and ``close`` are called from one thread.

    ``close`` finishes files and frees devices. It may be called twice, without ``open``, and after a failed ``open`` or
    ``send``: it belongs into a ``finally``.
    """

    name: str
    report: str
    """One line for people: which device or file, and after ``close`` what became of it."""

    def open(self, size: tuple[int, int], fps: float) -> None:
        """Get ready for frames of ``size`` (width, height) at about ``fps``. Raises SinkError and its kinds."""
        ...

    def send(self, pixels: U8, frame: Frame) -> None:
        """Hand over (H, W, 3) uint8 BGR pixels, valid during the call only; ``frame`` is what they were made from.

        Does not wait for the next frame's time: the caller keeps the rate. Raises SinkError; PreviewSink also
        StopRequested.
        """
        ...

    def close(self) -> None:
        """Finish and release. Raises SinkError only if the output could not be finished."""
        ...


def open_sink(spec: str) -> Sink:
    """The output that ``spec`` names; ``open`` it before sending. Raises SettingsError.

    "virtualcam", "virtualcam:DEVICE" (a path under /dev, or the device's name on Windows and macOS), "FILE.mp4" (also
    .mkv and .mov), "preview", "null".
    """
    kind, _, device = spec.partition(":")
    if kind == "virtualcam":
        return SteadySink(VirtualCameraSink(device or None))
    if spec == "preview":
        return PreviewSink()
    if spec == "null":
        return NullSink()
    path = Path(spec).expanduser()
    if path.suffix.lower() in RECORDING_SUFFIXES:
        return RecorderSink(path)
    raise SettingsError(
        f"there is no output {spec!r}",
        hint="give virtualcam, virtualcam:/dev/video10, a file ending .mp4, preview or null",
    )


class NullSink:
    """Takes every frame and keeps nothing."""

    name = "null"

    def __init__(self) -> None:
        self.report = "null: frames are counted and thrown away"
        self.frames = 0
        """Frames sent since the beginning."""

    def open(self, size: tuple[int, int], fps: float) -> None:
        """Nothing to open."""

    def send(self, pixels: U8, frame: Frame) -> None:  # noqa: ARG002 - the protocol gives it
        """Count the frame."""
        self.frames += 1

    def close(self) -> None:
        """Say how many there were."""
        self.report = f"null: {self.frames} frames"


class PreviewSink:
    """A window; q, Escape or closing it raises StopRequested. For the main thread only, as macOS and Qt demand."""

    name = "preview"

    def __init__(self, title: str = "personacam") -> None:
        self.report = f"preview: window {title!r}, q ends"
        self._title = title
        self._open = False

    def open(self, size: tuple[int, int], fps: float) -> None:  # noqa: ARG002 - the protocol gives it
        """Show the window. Raises SinkUnavailableError when there is no display."""
        problem = display_problem()
        if problem is not None:
            raise SinkUnavailableError(
                f"the preview needs a display: {problem}",
                hint="run it in a desktop session, or use --sink FILE.mp4 or --sink virtualcam",
            )
        try:
            cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_GUI_NORMAL)
            self._open = True
            cv2.resizeWindow(self._title, *size)
        except cv2.error as error:
            raise SinkUnavailableError(
                f"OpenCV cannot open a window: {error}",
                hint="pip uninstall opencv-python-headless, then pip install --force-reinstall opencv-python",
            ) from error

    def send(self, pixels: U8, frame: Frame) -> None:  # noqa: ARG002 - the protocol gives it
        """Show the picture and look at the keyboard (about a millisecond). Raises StopRequested."""
        if not self._open:
            raise SinkError("the preview is not open", hint="call open first")
        try:
            cv2.imshow(self._title, pixels)
            key = cv2.waitKey(1) & 0xFF
            gone = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error as error:
            raise SinkError(f"the preview window failed: {error}", hint="start again without the preview") from error
        if gone or key in (ord("q"), 27):
            raise StopRequested("the preview was closed")

    def close(self) -> None:
        """Close the window. May be called twice."""
        if self._open:
            self._open = False
            try:
                cv2.destroyWindow(self._title)
            except cv2.error:  # the user has closed it already
                return


def display_problem(platform: str = sys.platform, environment: Mapping[str, str] | None = None) -> str | None:
    """Why no window can be shown here; None when one can.

    A DISPLAY that nobody serves must be noticed before OpenCV's Qt tries it: Qt then ends the whole process.
    """
    if platform != "linux":
        return None
    variables = os.environ if environment is None else environment
    display = variables.get("DISPLAY", "")
    if not display:
        if variables.get("WAYLAND_DISPLAY"):
            return "Wayland without XWayland; OpenCV's windows need X11 (DISPLAY is not set)"
        return "neither DISPLAY nor WAYLAND_DISPLAY is set"
    sockets = Path("/tmp/.X11-unix")  # noqa: S108 - X11's fixed place, only looked at
    local = re.fullmatch(r"(?:unix)?:(\d+)(?:\.\d+)?", display)
    if local and not (sockets / f"X{local[1]}").exists():
        return f"nobody serves DISPLAY={display}"
    return None
