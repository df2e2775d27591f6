"""One face over time: when to search, when to follow, and an alignment that does not tremble."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engines.errors import DetectorError
from engines.geometry import frame_to_crop, invert
from engines.smoothing import StillOrMoving
from engines.types import F64, Detection, Frame
from realtime.detect import Detector


@dataclass(frozen=True)
class TrackerConfig:
    """How a face is followed."""

    smooth: bool = True
    """Smoothing of the alignment in time."""
    search_every: int = 1
    """Without a face, search in every n-th frame."""
    check_every: int = 30
    """After so many followed frames the whole frame is looked at: is the wearer's face still the one that is followed?
    Following alone would keep a wrong or drifted track for ever. One pass in 30 frames is less than 1 ms a frame, and
    it waits until the frame has gone out (``Tracker.settle``)."""
    denials: int = 3
    """So many checks in a row must deny a track before it ends, from the next frame on."""
    min_cutoff_hz: float = 0.4
    """Low-pass of a face that holds still. At 30 frames a second a twelfth of each new place."""
    noise: float = 0.012
    """Crop sides, logarithm of its size, radians: what differs by less from its average may be noise. In a camera's
    noise of 2 levels Face Mesh's square trembles by that much."""
    moved: float = 0.03
    """What differs by more moves, and is followed at once."""


@dataclass
class TrackCounts:
    """What the tracker did so far, in frames."""

    searched: int = 0
    followed: int = 0
    """Followed with success."""
    checked: int = 0
    """Followed frames in which the track was checked against the whole frame."""
    lost: int = 0
    """Tracks that ended, by themselves or by a check, found again in the same frame or not."""


_MOST_LAG = np.array([0.06, 0.06, 0.08, 0.12])
"""Smoothing may move the square by so much at the most: shares of its side, logarithm of its size, radians."""


class Tracker:
    """Keeps one track. Frames come in order; one thread at a time."""

    def __init__(self, detector: Detector, config: TrackerConfig = TrackerConfig()) -> None:
        if config.search_every < 1:
            raise DetectorError("search_every is below 1", hint="use 1 to search in every frame without a face")
        if config.check_every < 1:
            raise DetectorError("check_every is below 1", hint="use 30 to check a track about once a second")
        self._detector, self._config = detector, config
        self._filter = StillOrMoving(config.min_cutoff_hz, config.noise, config.moved)
        self.counts = TrackCounts()
        self._last: Detection | None = None
        self._angle = 0.0
        self._until_search = 0
        self._unchecked = 0
        self._denials = 0
        self._denied = False
        self._kept: object = None
        """The pixels that a check will look at: who holds a picture keeps it as it came."""

    def update(self, frame: Frame) -> Detection | None:
        """The face in ``frame``: followed from the last frame, else searched for in this one. None: there is none.

        A track that checks keep denying (``settle``) ends, and this frame counts as one without a face: what a search
        would find now may be somebody else, and the wearer would go out uncovered.

        Raises DetectorError and RuntimeFailure from the detector; the track has ended then.
        """
        last, self._last = self._last, None
        self._kept = None
        if self._denied:
            self.counts.lost += 1
            self.reset()
            return None
        if last is not None:
            found = self._detector.follow(frame, last)
            if found is not None:
                self.counts.followed += 1
                self._unchecked += 1
                self._last = found
                self._kept = frame.pixels if self._unchecked >= self._config.check_every else None
                return found
            self.counts.lost += 1
            self.reset()
        if self._until_search > 0:
            self._until_search -= 1
            return None
        self.counts.searched += 1
        self._unchecked = self._denials = 0
        self._filter.reset()
        self._last = self._detector.search(frame)
        if self._last is None:
            self._until_search = self._config.search_every - 1
        return self._last

    def settle(self, frame: Frame) -> None:
        """Call when ``frame``, the one of the last ``update``, has gone out: looks at all of it when a check is due.

        One check costs as much as half a small network. Before the frame was sent it would come late, so the check
        waits, and a denial counts from the very next frame on. What that can show is one frame more of a track that
        went out for ``check_every * denials`` frames already; Face Mesh saw a face under the swap in each of them, in
        this one too. One denial means little: BlazeFace misses a head in profile and sees the poster behind it.

        Raises DetectorError and RuntimeFailure from the detector; the track has ended then.
        """
        if self._last is None or self._kept is None:
            return
        found, self._last = self._last, None
        self._unchecked = 0
        self.counts.checked += 1
        self._denials = 0 if self._detector.confirm(frame, found) else self._denials + 1
        self._denied = self._denials >= self._config.denials
        self._last, self._kept = found, None

    @property
    def config(self) -> TrackerConfig:
        """What is in force."""
        return self._config

    def configure(self, config: TrackerConfig) -> None:
        """Other cadences and another filter from the next frame on. May be called from any thread."""
        self._config = config
        self._filter.tune(config.min_cutoff_hz, config.noise, config.moved)

    def align(self, detection: Detection, size: int, t_s: float) -> F64:
        """(2, 3) affine from pixels of a ``size`` x ``size`` crop to frame pixels, smoothed over the track.

        ``t_s`` is the frame's own time in seconds. Raises DetectorError when the landmarks span no face.
        """
        to_frame = invert(frame_to_crop(detection.landmarks, detection.layout, size))
        if not self._config.smooth:
            return to_frame
        return self._smoothed(to_frame, size, t_s)

    def _smoothed(self, to_frame: F64, size: int, t_s: float) -> F64:
        """Filter the square as centre, logarithm of its size, and angle; one unit of each is about one crop side.

        Filtering the affine's six numbers instead would shear the square during fast turns.
        """
        middle = (size - 1) / 2
        centre = to_frame[:, :2] @ np.array([middle, middle]) + to_frame[:, 2]
        step = math.hypot(to_frame[0, 0], to_frame[1, 0])
        side = step * size
        angle = math.atan2(to_frame[1, 0], to_frame[0, 0])
        # The filter must not see the jump from +pi to -pi.
        self._angle += math.remainder(angle - self._angle, 2 * math.pi)
        raw = np.array([centre[0], centre[1], math.log(step), self._angle])
        smooth = self._filter(raw, t_s, unit=np.array([side, side, 1.0, 1.0]))
        # Whatever the filter does, and after a time stamp that hardly grew it stands still: the square stays on the
        # face, or the wearer would look out beside it.
        lag = _MOST_LAG * (side, side, 1.0, 1.0)
        x, y, log_step, turn = np.clip(smooth, raw - lag, raw + lag)
        return _square(x, y, math.exp(log_step), turn, middle)

    def reset(self) -> None:
        """Forget the face: the next frame is searched, and its alignment passes unsmoothed."""
        self._last = None
        self._until_search = 0
        self._unchecked = 0
        self._denied = False
        self._kept = None
        self._filter.reset()


def _square(x: float, y: float, step: float, angle: float, middle: float) -> F64:
    """The affine whose pixel (``middle``, ``middle``) falls on (x, y)."""
    cos, sin = math.cos(angle) * step, math.sin(angle) * step
    return np.array([[cos, -sin, x - (cos - sin) * middle], [sin, cos, y - (sin + cos) * middle]])
