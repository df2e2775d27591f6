"""What an input is: one method that gives the next picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np

from engines.types import U8, Frame
from realtime.v4l2_controls import ControlWishes


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """What is asked of an input when it is opened. Files and folders have their own size and rate."""

    size: tuple[int, int] | None = (1280, 720)
    """(width, height) asked of a camera or of the pattern; None takes the device's default."""
    fps: float | None = 30.0
    """Rate asked of a camera, and that of the pattern and of picture folders. None: the camera's default; the pattern
    then runs as fast as it is read."""
    fourcc: str = "MJPG"
    """Pixel format asked of a camera. Raw YUYV does not fit through USB 2 at 720p and 30 fps; MJPG does."""
    loop: bool = False
    """Files and folders begin again at their end; time stamps go on growing."""
    controls: ControlWishes = field(default_factory=ControlWishes)
    """Knobs of a camera: mains frequency, exposure, focus."""


class NoFrameYet(Exception):  # noqa: N818 - a state, not an error
    """Nothing came for now: the input is away and expected back. Ask again; its ``report`` says what is going on."""


class Source(Protocol):
    """An input. Used from one thread: whoever reads it also closes it.

    ``read`` gives frames whose ``index`` counts from 0 without gaps and whose ``timestamp_ns`` grows strictly from 0.
    The pixels are a fresh array each time, which the caller may keep.
    """

    name: str
    size: tuple[int, int]
    """(width, height) of every frame, in pixels."""
    fps: float
    """Nominal rate; a file with a variable rate says its average."""
    live: bool
    """True: pictures arrive by themselves at their own rate. False: they can be read at any rate."""

    @property
    def report(self) -> str:
        """One line for people on what was opened. A camera's gets its measured rate after some twenty frames."""
        ...

    def read(self) -> Frame | None:
        """The next frame, waiting for it; None at the end of the input. Raises SourceError and its kinds, and
        NoFrameYet, after at most about a second, when the input is away and may come back.
        """
        ...

    def close(self) -> None:
        """Release the device or file. May be called twice."""
        ...


def letterbox(pixels: U8, size: tuple[int, int]) -> U8:
    """Fit (H, W, 3) uint8 into ``size`` (width, height) without distortion, centred, with black bars."""
    height, width = pixels.shape[:2]
    if (width, height) == size:
        return pixels
    scale = min(size[0] / width, size[1] / height)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    out = np.zeros((size[1], size[0], 3), np.uint8)
    x, y = (size[0] - new_width) // 2, (size[1] - new_height) // 2
    out[y : y + new_height, x : x + new_width] = cv2.resize(pixels, (new_width, new_height), interpolation=method)
    return out
