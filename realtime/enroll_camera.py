"""A guided recording: the camera goes into a file while the person is told what is missing. Nothing is cut from it.

The consent record names the footage by its digest, so the recording comes first and the faces after the signature.
What is read from the frames here (turns, openings, light) stays in memory and ends with the recording.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from calibration.coverage import Coverage, Gathering
from calibration.enrollment import EnrollOptions, EnrollProgress, ProgressCallback
from calibration.guide import Guide
from calibration.quality_gates import Fault, judge
from engines.errors import NoFaceError, SinkError
from engines.types import U8, Frame
from realtime.capture import CaptureThread, Closed, Source
from realtime.enroll_look import FrameLooker
from realtime.recorder import RecorderSink
from realtime.sink import Sink, StopRequested

CANDIDATES = 3
LOST_S = 30.0
"""Without a usable face for so long the recording ends: something is wrong that more of it does not mend."""
_WAIT_S = 0.2
_SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Recording:
    """What a guided recording left."""

    path: Path
    frames: int
    seconds: float
    coverage: Coverage
    complete: bool
    """Everything was seen, or asked for often enough."""


def free_name(path: Path) -> Path:
    """``path``, or the next of NAME-2, NAME-3 that is not there."""
    if not path.exists():
        return path
    numbered = (path.with_name(f"{path.stem}-{k}{path.suffix}") for k in range(2, 1000))
    found = next((other for other in numbered if not other.exists()), None)
    if found is None:
        raise SinkError(f"there are a thousand recordings beside {path}", hint="choose another name")
    return found


def record_guided(
    source: Source,
    path: Path,
    options: EnrollOptions,
    *,
    progress: ProgressCallback | None = None,
    preview: Sink | None = None,
    stop: threading.Event | None = None,
    most_s: float = 300.0,
    clock: Callable[[], float] = time.monotonic,
) -> Recording:
    """Record ``source`` into ``path`` until everything was shown, ``most_s`` are over, ``stop`` or Ctrl-C.

    The recording is kept however it ends. ``preview`` shows the mirrored picture with the prompt. Closes the source.
    Raises NoFaceError after LOST_S without a usable face, SinkError, SourceError.
    """
    recorder, capture = RecorderSink(path), CaptureThread(source)
    loop = _Loop(options, progress, preview, clock)
    recorder.open(source.size, source.fps)
    try:
        if preview is not None:
            preview.open(source.size, source.fps)
        with closing(FrameLooker(options.size)) as looker:
            capture.start()
            while not (stop is not None and stop.is_set()) and loop.seconds < most_s:
                frame = _next(capture)
                if frame is not None:
                    recorder.send(frame.pixels, frame)
                    if loop.take(looker, frame):
                        break
    except (KeyboardInterrupt, StopRequested, Closed):
        pass
    finally:
        capture.stop()
        if preview is not None:
            preview.close()
        recorder.close()
    return Recording(path, recorder.frames, loop.seconds, loop.coverage, loop.complete)


def _next(capture: CaptureThread) -> Frame | None:
    """The newest frame; None when none came for now. Raises Closed and the source's errors."""
    return capture.latest.get(_WAIT_S)


class _Loop:
    """What happens to each frame beside the recording."""

    def __init__(
        self, options: EnrollOptions, progress: ProgressCallback | None, preview: Sink | None,
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._options, self._say, self._preview, self._clock = options, progress, preview, clock
        self._gathering = Gathering(options.frames, CANDIDATES * options.frames)
        self._guide = Guide(self._gathering.coverage)
        self._began = self._good_at = clock()
        self._seen = 0
        self.complete = False

    @property
    def coverage(self) -> Coverage:
        """Of what was recorded so far."""
        return self._gathering.coverage

    @property
    def seconds(self) -> float:
        """Since the first frame was awaited."""
        return self._clock() - self._began

    def take(self, looker: FrameLooker, frame: Frame) -> bool:
        """Look, count, tell. True: nothing is left to ask."""
        now = self._clock()
        self._seen += 1
        fault = self._judge(looker, frame)
        if fault is None:
            self._good_at = now
        elif now - self._good_at > LOST_S:
            raise NoFaceError(
                f"no usable face for {LOST_S:.0f} seconds: {fault.value}",
                hint="sit in front of the camera in good light, alone; the recording so far is kept",
            )
        prompt = self._guide.next(now)
        if not prompt and self.seconds > _SETTLE_S:
            self.complete = True
        told = EnrollProgress(
            self._seen, self.coverage.total, self.coverage.share, prompt, fault.value if fault else ""
        )
        if self._preview is not None:
            self._preview.send(annotated(frame.pixels, told), frame)
        if self._say is not None:
            self._say(told)
        return self.complete

    def _judge(self, looker: FrameLooker, frame: Frame) -> Fault | None:
        """Count the frame if it is good and new."""
        look = looker.look(frame)
        if look is None:
            return Fault.NO_FACE
        row = look.reading.row()
        fault = judge(looker.quality(look))
        if fault is None and self._gathering.wants(row):
            self._gathering.add(row)
        return fault


def annotated(pixels: U8, told: EnrollProgress) -> U8:
    """(H, W, 3) a mirrored copy with a bar and the prompt at the bottom, for the person themselves."""
    shown = np.ascontiguousarray(pixels[:, ::-1])
    height, width = shown.shape[:2]
    strip = max(24, height // 10)
    shown[-strip:] //= 4
    done = int(told.share * width)
    shown[-max(4, strip // 10) :, :done] = (107, 157, 31)
    text, scale = told.problem or told.prompt or "thank you: that is all", strip / 48
    (across, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 2)
    scale *= min(1.0, 0.94 * width / max(across, 1))
    (across, up), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 2)
    place = ((width - across) // 2, height - strip + (strip + up) // 2 - strip // 20)
    cv2.putText(shown, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 2, cv2.LINE_AA)
    return shown
