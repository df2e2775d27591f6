"""The measuring of delays, live: the code in a window or a clip, a camera that films it, a recording that is read."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from calibration.calibrate_delay import (
    AUDIO_RATE,
    CLIP_FPS,
    Delay,
    clicks_sound,
    delay_of,
    picture_late_by_s,
    schedule,
    sound_late_by_s,
    steps,
)
from calibration.time_code import SIZE, CodeReader, draw_code
from engines.errors import SinkError, SinkUnavailableError, SourceFormatError, SourceLostError
from engines.types import F32, U8
from realtime.pacing import Clock, now_ns
from realtime.sink import display_problem
from realtime.source import NoFrameYet, Source

WINDOW = "personacam delay"
Say = Callable[[str], None]
Shown = list[tuple[int, int]]


def film(source: Source, seconds: float, stop: threading.Event, *, clock: Clock = now_ns) -> Iterator[tuple[int, int]]:
    """(number, captured_ns) of each frame of ``source`` that shows the code, for so long."""
    reader = CodeReader()
    end = clock() + seconds * 1e9
    while not stop.is_set() and clock() < end:
        try:
            frame = source.read()
        except NoFrameYet:
            continue
        if frame is None:
            return
        number = reader.read(frame.pixels)
        if number is not None:
            yield number, frame.captured_ns


def measure_with_window(open_source: Callable[[], Source], seconds: float, *, say: Say) -> Delay:
    """Show the code in a window, film it, and say how late the camera is.

    The window belongs to this thread, the camera to another. Raises SinkUnavailableError without a display, what the
    source raises, DataError when the code was hardly read.
    """
    problem = display_problem()
    if problem:
        raise SinkUnavailableError(
            f"the code needs a window: {problem}",
            hint="--write code.mp4 makes a clip for a phone, --recording FILE reads a recording of it",
        )
    seen: list[tuple[int, int]] = []
    failed: list[Exception] = []
    stop, ready = threading.Event(), threading.Event()

    def camera() -> None:
        try:
            with closing(open_source()) as source:
                say(source.report)
                ready.set()
                seen.extend(film(source, seconds, stop))
        except Exception as error:  # noqa: BLE001 - raised again in the window's thread
            failed.append(error)
        finally:
            ready.set()
            stop.set()

    thread = threading.Thread(target=camera, name="film", daemon=True)
    thread.start()
    try:
        shown = show_code(stop, seconds + 10.0)
    finally:
        stop.set()
        thread.join(10.0)
    if failed:
        raise failed[0]
    if thread.is_alive():
        raise SourceLostError("the camera does not answer", hint="plug it in again")
    return delay_of(shown, seen)


def show_code(stop: threading.Event, seconds: float, *, clock: Clock = now_ns) -> Shown:
    """Numbers in a window until ``stop``; q closes it. Returns (number, ns) when each was handed to the screen."""
    shown: Shown = []
    cv2.namedWindow(WINDOW, cv2.WINDOW_NORMAL)
    cv2.resizeWindow(WINDOW, *SIZE)
    try:
        end = clock() + seconds * 1e9
        for number, ms in zip(itertools.count(1), steps(), strict=False):
            picture = draw_code(number)
            cv2.imshow(WINDOW, picture)
            key = cv2.waitKey(1)  # this draws it
            now = clock()
            shown.append((number, now))
            if stop.is_set() or now > end or key in {ord("q"), 27}:
                break
            time.sleep(max(0.0, ms / 1000 - (clock() - now) / 1e9))
    finally:
        cv2.destroyWindow(WINDOW)
    return shown


def write_clip(path: Path) -> None:
    """The code with its clicks as H.264 and AAC, half a minute, for a phone. Raises SinkError."""
    plan = schedule()
    sound = clicks_sound(plan)
    try:
        with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
            video = container.add_stream("libx264", rate=CLIP_FPS)
            video.width, video.height, video.pix_fmt = SIZE[0], SIZE[1], "yuv420p"
            video.options = {"crf": "20", "preset": "ultrafast"}
            audio = container.add_stream("aac", rate=AUDIO_RATE, layout="mono")
            picture: U8 = draw_code(0)
            last = -1
            for number in plan.numbers.tolist():
                if number != last:
                    picture, last = draw_code(number), number
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
            container.mux(video.encode())
            for start in range(0, len(sound), 1024):
                block = av.AudioFrame.from_ndarray(sound[None, start : start + 1024], format="fltp", layout="mono")
                block.sample_rate, block.pts, block.time_base = AUDIO_RATE, start, Fraction(1, AUDIO_RATE)
                container.mux(audio.encode(block))
            container.mux(audio.encode())
    except (av.FFmpegError, OSError) as error:
        path.unlink(missing_ok=True)
        raise SinkError(
            f"cannot write {path}: {error}", hint="give a name that ends in .mp4, and check the folder"
        ) from error


def measure_recording(path: Path) -> tuple[float, Delay]:
    """By how many milliseconds the picture of a recording of the clip comes later than its sound, and the spread.

    Raises SourceFormatError for a file without picture or sound, DataError where the code or the clicks are missing.
    """
    plan = schedule()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video or not container.streams.audio:
                raise SourceFormatError(f"{path} has no picture or no sound", hint="record both, as OBS does")
            seen = list(_numbers(container))
        with av.open(str(path)) as container:
            samples, rate, start = _sound(container)
    except (av.FFmpegError, OSError) as error:
        raise SourceFormatError(f"{path} cannot be read: {error}", hint="record it again as MP4 or MKV") from error
    picture_s, found = picture_late_by_s(seen, plan)
    sound_s = sound_late_by_s(samples, rate, plan) + start
    return 1000 * (picture_s - sound_s), found


def _numbers(container: av.container.InputContainer) -> Iterator[tuple[int, float]]:
    reader = CodeReader()
    rate = container.streams.video[0].average_rate
    half = 0.5 / float(rate) if rate else 0.0
    for frame in container.decode(video=0):
        number = reader.read(np.ascontiguousarray(frame.to_ndarray(format="bgr24"), np.uint8))
        if number is not None and frame.time is not None:
            # A frame stands until the next one: its middle is what is seen at the time that is heard.
            yield number, float(frame.time) + half


def _sound(container: av.container.InputContainer) -> tuple[F32, int, float]:
    """Samples (N,), their rate, and the time of the first one in seconds."""
    parts, start = [], None
    resampler = av.AudioResampler(format="flt", layout="mono", rate=AUDIO_RATE)
    for frame in container.decode(audio=0):
        if start is None:
            start = float(frame.time or 0.0)
        parts += [part.to_ndarray().ravel() for part in resampler.resample(frame)]
    samples: F32 = np.concatenate(parts or [np.zeros(1, np.float32)]).astype(np.float32)
    return samples, AUDIO_RATE, start or 0.0
