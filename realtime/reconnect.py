"""A camera that is expected back: after it was unplugged, hung, or the computer slept.

While it is away nothing is given out, so the pipeline's failure policy covers the picture after its stall time. It is
found again by its name and its socket, not by its number, which changes with every replug.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from engines.errors import SourceError
from engines.types import U8, Frame
from realtime.camera import CameraSource
from realtime.camera_list import CameraInfo, list_cameras
from realtime.pacing import Clock, Sleep, now_ns
from realtime.source import NoFrameYet, Source, SourceConfig, letterbox

_log = logging.getLogger("personacam")
FROZEN_NS = 1_000_000_000
"""So long the same bytes, and the picture is frozen. A sensor's noise changes every picture."""
_FROZEN_PICTURES = 5
"""At least, so that two slow pictures are not taken for it."""
BLACK_LEVEL = 16
"""The brightest sample of a black picture: what a closed shutter gives, noise included (limited range black is 16)."""
_SAMPLE = 16
_RETRY_S = 0.25
_SLEPT_NS = 5_000_000_000
Look = Literal["good", "frozen", "black"]


def match(cameras: Sequence[CameraInfo], lost: CameraInfo, others: Sequence[CameraInfo] = ()) -> CameraInfo | None:
    """The camera that ``lost`` came back as; None while it is away.

    The same name in the same socket; or the same name in another socket, if there is exactly one that was not there
    before. ``others`` were there beside it: of two equal cameras, the other one must not be shown instead.
    """
    alike = [camera for camera in cameras if camera.name == lost.name]
    for camera in alike:
        if camera.bus == lost.bus:
            return camera
    known = {(camera.name, camera.bus) for camera in others}
    new = [camera for camera in alike if (camera.name, camera.bus) not in known]
    return new[0] if len(new) == 1 else None


class PictureWatch:
    """Tells a picture that stands still, byte for byte, and one that is black.

    Keeps the last picture only while one in 256 of its pixels stand still: held, a picture could not be swapped in
    place. The first picture that looks the same is believed, those after it are compared as a whole.
    """

    def __init__(self) -> None:
        self._sample: U8 | None = None
        self._last: U8 | None = None
        self._same_since_ns = 0
        self._same = 0
        self.moved = False
        """Whether the last picture differed from one before it."""
        self._black_since_ns: int | None = None

    def look(self, pixels: U8, now: int) -> Look:
        """Judge the next picture (H, W, 3), which arrived at ``now``. About 0.1 ms at 1280x720, 2 ms for equal ones."""
        sample = pixels[::_SAMPLE, ::_SAMPLE].copy()
        before, self._sample = self._sample, sample
        alike = before is not None and np.array_equal(before, sample)
        last, self._last = self._last, pixels if alike else None
        same = alike and (last is None or np.array_equal(last, pixels))
        self.moved = before is not None and not same
        if same:
            self._same += 1
        else:
            self._same, self._same_since_ns = 0, now
        if int(sample.max(initial=0)) > BLACK_LEVEL:
            self._black_since_ns = None
        elif self._black_since_ns is None:
            self._black_since_ns = now
        if self._black_since_ns is not None:  # a closed shutter gives the same bytes for ever, and is not frozen
            return "black" if now - self._black_since_ns >= FROZEN_NS else "good"
        if self._same >= _FROZEN_PICTURES and now - self._same_since_ns >= FROZEN_NS:
            return "frozen"
        return "good"

    def forget(self) -> None:
        """Begin again: another camera, or a gap."""
        self._sample = self._last = None
        self._same, self._black_since_ns = 0, None


@dataclass
class Health:
    """What happened to the camera. For the report."""

    lost: int = 0
    """How often it went away or hung."""
    reopened: int = 0
    frozen: int = 0
    """Pictures that stood still, counted once each."""
    black: int = 0
    """Times that it turned black."""
    resized: int = 0
    """Pictures that had another size than the first and were fitted in."""
    away_s: float = 0.0


class SteadyCamera:
    """A camera or a stream that is opened again when it is lost. Its size and rate stay those of the first opening.

    - Unplugged, hung (no picture for about a second), suspended: closed, looked for four times a second, opened again.
      A device that is held by another program or not yet allowed is tried again as well.
    - The same bytes for a second: withheld, and the camera is opened once again; if that does not help, the picture is
      taken to be a still one and given out.
    - Black pictures are given out and named in ``report``: no face is found in them, so the failure policy covers them.
    - Pictures of another size are fitted into the first one's size, with black bars.

    Belongs to one thread, as every source; ``report`` may be read from others. ``find`` names the target to open, or
    None while there is none.
    """

    live = True

    def __init__(
        self,
        first: Source,
        reopen: Callable[[int | str], Source],
        find: Callable[[], int | str | None],
        *,
        clock: Clock = now_ns,
        sleep: Sleep = time.sleep,
    ) -> None:
        self.name, self.size, self.fps = first.name, first.size, first.fps
        self.health = Health()
        self._source: Source | None = first
        self._reopen, self._find = reopen, find
        self._clock, self._sleep = clock, sleep
        self._watch = PictureWatch()
        self._state = ""
        self._told = first.report
        self._index = 0
        self._first_ns: int | None = None
        self._last_ns = -1
        self._seen_ns = 0
        self._away_since_ns = 0
        self._still_is_meant = False
        self._reopened_for_still = False

    @property
    def report(self) -> str:
        """What was opened, and what is wrong with it now."""
        source = self._source
        if source is not None:
            self._told = source.report
        return self._told + self._state

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the time that it is away now counts."""
        away_s = (self._clock() - self._away_since_ns) / 1e9 if self._source is None and self.health.lost else 0.0
        return asdict(self.health) | {"away_s": round(self.health.away_s + away_s, 3)}

    def read(self) -> Frame | None:
        """The next picture; None at the end of a stream that has one. Raises NoFrameYet while the camera is away."""
        source = self._source
        if source is None:
            self._look_for_it()
            raise NoFrameYet
        try:
            frame = source.read()
        except SourceError as error:
            self._lose(error.message)
            raise NoFrameYet from error
        return None if frame is None else self._checked(frame)

    def close(self) -> None:
        """Release the camera. May be called twice."""
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def _checked(self, frame: Frame) -> Frame:
        now = frame.captured_ns
        if now - self._seen_ns > _SLEPT_NS:
            self._watch.forget()
        self._seen_ns = now
        look = self._watch.look(frame.pixels, now)
        if look == "frozen" and not self._still_is_meant:
            self._freeze()
            raise NoFrameYet
        self._name_state(look)
        pixels = frame.pixels
        if (pixels.shape[1], pixels.shape[0]) != self.size:
            self.health.resized += 1
            pixels = letterbox(pixels, self.size)
        if self._first_ns is None:
            self._first_ns = now
        if now - self._first_ns <= self._last_ns:
            # The clock ran backwards (a suspended guest): count on from here at the nominal rate. Time stamps that
            # crawl until it has caught up would freeze whatever is smoothed over time, and spoil recordings.
            self._first_ns = now - self._last_ns - round(1e9 / self.fps)
        self._last_ns = now - self._first_ns
        self._index += 1
        return replace(frame, pixels=pixels, index=self._index - 1, timestamp_ns=self._last_ns)

    def _name_state(self, look: Look) -> None:
        state = ""
        if look == "black":
            state = "; the picture is black: is its shutter closed? It is covered by the policy like any without a face"
        elif look == "frozen":
            state = "; the picture stands still, and opening the camera again did not help"
        elif self.health.reopened:
            state = f"; back again ({self.health.reopened}x)"
        if look == "black" and "black" not in self._state:
            self.health.black += 1
        if look == "good" and self._watch.moved:
            self._still_is_meant = self._reopened_for_still = False
        self._state = state

    def _freeze(self) -> None:
        """The first time it is opened again, the second time it is believed."""
        if self._reopened_for_still:
            self._still_is_meant = True
            return
        self.health.frozen += 1
        self._reopened_for_still = True
        self._lose(f"{self.name} gives the same picture again and again")

    def _lose(self, why: str) -> None:
        _log.warning("%s; the policy's picture goes out until it is back", why)
        self.health.lost += 1
        self._away_since_ns = self._clock()
        self._state = f"; {why}; waiting for it"
        _ = self.report  # keeps what was last known
        self.close()
        self._watch.forget()

    def _look_for_it(self) -> None:
        """Open it if it is there; otherwise wait a moment, so that nobody spins."""
        why = "it is away"
        target = self._find()
        if target is not None:
            try:
                self._source = self._reopen(target)
            except SourceError as error:  # held by somebody, not yet allowed, not yet ready
                why = error.message
        if self._source is None:
            self._state = f"; {why}; waiting for it"
            self._sleep(_RETRY_S)
            return
        self.health.reopened += 1
        self.health.away_s += (self._clock() - self._away_since_ns) / 1e9
        self._state = f"; back again ({self.health.reopened}x)"
        _log.warning("%s is back", self._source.name)


def open_camera(target: int | str, config: SourceConfig) -> SteadyCamera:
    """Open a camera by number or path, or a stream by address, that is looked for when it is lost.

    Raises SourceNotFoundError, SourceBusyError or SourceFormatError when it does not open the first time.
    """
    first = CameraSource(target, config)
    if isinstance(target, str) and "://" in target:
        return SteadyCamera(first, lambda address: CameraSource(address, config), lambda: target)

    def reopen(place: int | str) -> CameraSource:
        return CameraSource(place, config, again=first.attempt)

    cameras = list_cameras()
    own = next((camera for camera in cameras if target in (camera.index, camera.path)), None)
    if own is None:  # a link under /dev/v4l/by-id, which follows the camera by itself, or not Linux
        return SteadyCamera(first, reopen, lambda: target)
    others = [camera for camera in cameras if camera != own]

    def find() -> int | str | None:
        camera = match(list_cameras(), own, others)
        return None if camera is None else camera.path

    return SteadyCamera(first, reopen, find)
