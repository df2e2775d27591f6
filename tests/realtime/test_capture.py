"""Which input a text names, and the thread that reads it: lossless or newest, paced, stopped, failed."""

from __future__ import annotations

import threading
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from engines.errors import SourceFormatError, SourceLostError, SourceNotFoundError
from engines.types import Frame
from realtime.capture import CaptureThread, Closed, SourceConfig, open_source
from realtime.files import ImageFolderSource, VideoFileSource
from realtime.pattern import PatternSource
from tests.realtime.footage import number_of, write_video

PIXELS = np.zeros((4, 4, 3), np.uint8)
MS = 1_000_000


class ListSource:
    """Gives ``count`` frames 40 ms apart, then ends or fails."""

    name, size, fps, live, report = "list", (4, 4), 25.0, False, "a list"

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count, self.error, self.index, self.closed = count, error, 0, 0

    def read(self) -> Frame | None:
        if self.index == self.count:
            if self.error is not None:
                raise self.error
            return None
        frame = Frame(PIXELS, self.index, 0, self.index * 40 * MS)
        self.index += 1
        return frame

    def close(self) -> None:
        self.closed += 1


def drain(thread: CaptureThread) -> list[Frame]:
    frames = []
    try:
        while True:
            frame = thread.latest.get(10.0)
            assert frame is not None
            frames.append(frame)
    except Closed:
        return frames


def test_lossless_gives_every_frame_in_order() -> None:
    source = ListSource(300)
    thread = CaptureThread(source, "lossless", pace=False).start()
    assert [frame.index for frame in drain(thread)] == list(range(300))
    assert thread.join(5.0)
    assert (thread.captured, thread.dropped, source.closed) == (300, 0, 1)


def test_newest_counts_what_the_consumer_did_not_take() -> None:
    thread = CaptureThread(ListSource(300), "newest", pace=False).start()
    assert thread.join(5.0)
    assert [frame.index for frame in drain(thread)] == [299]
    assert (thread.captured, thread.dropped) == (300, 299)


def test_pacing_releases_by_time_stamp_and_stamps_the_release() -> None:
    now = [1000 * MS]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += round(seconds * 1e9) + MS  # every sleep takes a millisecond too long

    thread = CaptureThread(ListSource(5), "lossless", clock=lambda: now[0], sleep=sleep).start()
    frames = drain(thread)
    assert slept == pytest.approx([0.040, 0.039, 0.039, 0.039]), "the excess does not add up"
    assert [frame.captured_ns // MS for frame in frames] == [1000, 1041, 1081, 1121, 1161]
    assert [frame.timestamp_ns for frame in frames] == [n * 40 * MS for n in range(5)]


def test_after_a_long_halt_the_deadlines_move() -> None:
    now = [0]
    slept: list[float] = []

    class HaltingSource(ListSource):
        def read(self) -> Frame | None:
            if self.index == 2:
                now[0] += 5000 * MS
            return super().read()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += round(seconds * 1e9)

    drain(CaptureThread(HaltingSource(5), "lossless", clock=lambda: now[0], sleep=sleep).start())
    assert slept == pytest.approx([0.040, 0.040, 0.040]), "frames 1, 3 and 4 wait; there is no race after the halt"


def test_the_sources_error_reaches_the_consumer_after_the_last_frame() -> None:
    source = ListSource(1, SourceLostError("unplugged", hint="plug it in"))
    thread = CaptureThread(source, "lossless").start()
    first = thread.latest.get(5.0)
    assert first is not None
    assert first.index == 0
    with pytest.raises(SourceLostError, match="unplugged"):
        thread.latest.get(5.0)
    assert thread.join(5.0)
    assert source.closed == 1


@pytest.mark.parametrize("kind", [RuntimeError, cv2.error, av.error.InvalidDataError, ZeroDivisionError])
def test_a_drivers_own_exception_becomes_a_source_error(kind: type[Exception]) -> None:
    """OpenCV's error, and most of FFmpeg's, are nothing narrower than Exception."""
    error = kind(1, "driver bug") if issubclass(kind, av.error.FFmpegError) else kind("driver bug")
    thread = CaptureThread(ListSource(0, error)).start()
    with pytest.raises(SourceLostError, match="driver bug"):
        thread.latest.get(5.0)
    thread.join(5.0)


def test_stop_does_not_wait_for_a_read_that_blocks() -> None:
    release, entered = threading.Event(), threading.Event()

    class BlockedSource(ListSource):
        live = True

        def read(self) -> Frame | None:
            entered.set()
            release.wait(30.0)
            return None

    source = BlockedSource(0)
    thread = CaptureThread(source).start()
    assert entered.wait(5.0)
    assert not thread.stop(timeout_s=0.05)
    assert thread.abandoned
    assert source.closed == 0, "closing a device under a read would crash its driver"
    with pytest.raises(Closed):
        thread.latest.get(0.0)
    release.set()
    assert thread.join(5.0)
    assert source.closed == 1
    assert thread.stop()
    assert not thread.abandoned


@pytest.mark.parametrize("pace", [True, False])
def test_stop_interrupts_pacing_and_a_full_slot(pace: bool) -> None:
    class SlowSource(ListSource):
        def read(self) -> Frame | None:
            frame = super().read()
            return None if frame is None else Frame(PIXELS, frame.index, 0, frame.index * 3_600_000 * MS)

    source = SlowSource(10)
    thread = CaptureThread(source, "lossless", pace=pace).start()
    assert thread.latest.get(5.0) is not None
    assert thread.stop(timeout_s=5.0)
    assert source.closed == 1


def test_stop_before_start_closes_the_source() -> None:
    source = ListSource(1)
    assert CaptureThread(source).stop()
    assert source.closed == 1


def test_a_real_file_through_the_thread(tmp_path: Path) -> None:
    source = open_source(str(write_video(tmp_path / "a.mp4", [3000 * n for n in range(50)])), SourceConfig())
    thread = CaptureThread(source, "lossless", pace=False).start()
    assert [number_of(frame.pixels) for frame in drain(thread)] == list(range(50))


def test_texts_name_inputs(tmp_path: Path) -> None:
    video = write_video(tmp_path / "demo.mp4", [0, 3000])
    config = SourceConfig(size=(32, 24))
    for spec, kind in (("pattern", PatternSource), (str(video), VideoFileSource), ("demo", VideoFileSource)):
        source = open_source(spec, config, {"demo": video})
        assert isinstance(source, kind)
        source.close()
    with pytest.raises(SourceNotFoundError) as caught:
        open_source("demo", config)
    assert "pattern" in caught.value.hint
    (tmp_path / "pictures").mkdir()
    with pytest.raises(SourceFormatError, match="no pictures"):
        open_source(str(tmp_path / "pictures"), config)
    assert ImageFolderSource.live is False
    with pytest.raises(SourceNotFoundError):
        open_source("", config)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_is_ended_from_within_is_not_the_end_of_the_input() -> None:
    """SystemExit in a library passes every ``except Exception``: it looked like a file that was over."""
    source = ListSource(0, SystemExit(3))  # type: ignore[arg-type]
    thread = CaptureThread(source).start()
    with pytest.raises(SourceLostError, match="failed: 3"):
        thread.latest.get(5.0)
    thread.join(5.0)
    assert source.closed == 1
