"""A synthetic input: a drifting gradient and a disc that circles with a turning spoke. The same every time."""

from __future__ import annotations

import math
import time

import cv2
import numpy as np

from engines.types import U8, Frame
from realtime.pacing import Clock, Sleep, Ticker, now_ns
from realtime.source import SourceConfig

_DEFAULT_SIZE = (1280, 720)
_DEFAULT_FPS = 30.0
_PERIOD = 120
"""Frames after which the motion repeats."""


def draw_pattern(index: int, size: tuple[int, int]) -> U8:
    """Frame ``index`` of the pattern, (H, W, 3) uint8 BGR. A pure function of its arguments."""
    width, height = size
    columns = np.arange(width, dtype=np.int64) * 256 // max(width, 1)
    rows = np.arange(height, dtype=np.int64)[:, None] * 256 // max(height, 1)
    out = np.empty((height, width, 3), np.uint8)
    out[..., 0] = (columns + 2 * index) % 256
    out[..., 1] = (rows + index) % 256
    out[..., 2] = 96
    turn = 2.0 * math.pi * (index % _PERIOD) / _PERIOD
    radius = max(2, min(width, height) // 8)
    orbit = min(width, height) / 4.0
    centre = (round(width / 2 + orbit * math.cos(turn)), round(height / 2 + orbit * math.sin(turn)))
    cv2.circle(out, centre, radius, (40, 200, 240), cv2.FILLED)
    tip = (round(centre[0] + radius * math.cos(-3.0 * turn)), round(centre[1] + radius * math.sin(-3.0 * turn)))
    cv2.line(out, centre, tip, (20, 20, 20), max(1, radius // 6))
    return out


class PatternSource:
    """The pattern at a steady rate; it never ends. With ``config.fps`` None it is not live and paces nothing."""

    name = "pattern"

    def __init__(self, config: SourceConfig, clock: Clock = now_ns, sleep: Sleep = time.sleep) -> None:
        self.size = config.size or _DEFAULT_SIZE
        self.fps = config.fps or _DEFAULT_FPS
        self.live = config.fps is not None
        self.report = f"moving pattern, {self.size[0]}x{self.size[1]} at {self.fps:g} fps"
        self._clock = clock
        self._ticker = Ticker(round(1e9 / self.fps), clock, sleep)
        self._index = 0

    def read(self) -> Frame:
        """The next frame, at its time. A reader that is late misses ticks, not indices: time stamps show the gap."""
        if self.live:
            self._ticker.wait()
        index = self._index
        self._index += 1
        slot = index + (self._ticker.skipped if self.live else 0)
        return Frame(draw_pattern(index, self.size), index, self._clock(), round(slot * 1e9 / self.fps))

    def close(self) -> None:
        """Nothing to release."""
