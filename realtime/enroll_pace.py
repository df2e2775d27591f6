"""How fast an enrollment reads its footage, and how long it takes at most: until the end of the footage."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import av

from engines.errors import PersonacamError
from realtime.files import PICTURE_SUFFIXES, _open_video

WINDOW_S = 12.0
"""Frames that show nothing new cost a tenth of the others: over so long it evens out."""
_SETTLED_S = 1.0


def frames_in(paths: Sequence[Path]) -> int | None:
    """About how many frames files and folders of pictures hold, without decoding them; None: one does not say.

    What cannot be read is not an error here: whoever reads it says so.
    """
    counts = [_frames_of(path) for path in paths]
    return sum(count for count in counts if count) if all(counts) else None


def _frames_of(path: Path) -> int | None:
    try:
        if path.is_dir():
            return sum(entry.suffix.lower() in PICTURE_SUFFIXES for entry in path.iterdir())
        container, stream = _open_video(path)
    except (PersonacamError, OSError):
        return None
    with container:
        if stream.frames:
            return int(stream.frames)
        rate, seconds = stream.average_rate, 0.0
        if stream.duration is not None and stream.time_base is not None:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            seconds = container.duration / av.time_base
        return round(seconds * float(rate)) if rate else None


class Pace:
    """Rate and time left of one call."""

    def __init__(self, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        """``total``: frames of the footage, as ``frames_in`` says."""
        self._total, self._clock = total, clock
        self._seen: deque[tuple[float, int]] = deque()

    def at(self, seen: int) -> tuple[float | None, float | None]:
        """(frames a second, seconds left at most), each None while it is not known; ``seen`` frames are behind."""
        now = self._clock()
        self._seen.append((now, seen))
        while len(self._seen) > 2 and now - self._seen[1][0] >= WINDOW_S:
            self._seen.popleft()
        began, before = self._seen[0]
        if now - began < _SETTLED_S or seen <= before:
            return None, None
        rate = (seen - before) / (now - began)
        return rate, None if self._total is None else max(self._total - seen, 0) / rate

    def done(self, seen: int) -> float:
        """0..1 of the footage; 0 when its length is not known."""
        return min(seen / self._total, 1.0) if self._total else 0.0
