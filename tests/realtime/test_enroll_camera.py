"""A guided recording of a source that plays a few frames of the shipped clip like a camera."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from calibration.coverage import BINS
from calibration.enrollment import EnrollOptions, EnrollProgress
from engines.errors import NoFaceError, SinkError
from engines.types import Frame
from realtime.enroll_camera import LOST_S, annotated, free_name, record_guided
from realtime.enroll_session import frames_of
from realtime.session import demo_clip
from realtime.sink import StopRequested
from tests.realtime.footage import read_video

OPTIONS = EnrollOptions(frames=8, size=96)


class Camera:
    """Frames one by one, each when the last one was looked at, then nothing more."""

    name, fps, live = "fake", 6.0, True
    report = "fake camera"

    def __init__(self, frames: list[Frame]) -> None:
        self.frames, self.size = frames, frames[0].size
        self.turn, self.closed = threading.Semaphore(1), False

    def read(self) -> Frame | None:
        self.turn.acquire(timeout=20)
        return self.frames.pop(0) if self.frames else None

    def close(self) -> None:
        self.closed = True


class Window:
    def __init__(self, after: int = 10**9) -> None:
        self.shown, self.after = [], after

    def open(self, size, fps) -> None:
        self.size = size

    def send(self, pixels, frame) -> None:
        self.shown.append(pixels)
        if len(self.shown) >= self.after:
            raise StopRequested("closed")

    def close(self) -> None:
        self.size = None


@pytest.fixture(scope="module")
def clip() -> list[Frame]:
    found = []
    for frame in frames_of([demo_clip()]):
        if frame.index % 10 == 0:
            found.append(Frame(frame.pixels, len(found), 0, frame.timestamp_ns))
        if len(found) == 5:
            break
    return found


def record(frames, path: Path, clock=lambda: 0.0, **more):
    camera, told = Camera(list(frames)), []

    def progress(p: EnrollProgress) -> None:
        told.append(p)
        camera.turn.release()

    return record_guided(camera, path, OPTIONS, progress=progress, clock=clock, **more), told, camera


def test_every_frame_is_recorded_and_the_person_is_told_what_is_missing(clip, tmp_path):
    window = Window()
    made, told, camera = record(clip, tmp_path / "ada.mp4", preview=window)
    assert made.frames == len(read_video(made.path)) == 5
    assert camera.closed
    assert window.size is None
    assert told[-1].prompt in {b.prompt for _, b in BINS}
    assert told[-1].seen == 5
    assert made.coverage.total == told[-1].kept >= 3
    assert not made.complete
    shown = window.shown[-1]
    assert (
        np.abs(shown[100:200, 100:200].astype(int) - clip[-1].pixels[100:200, ::-1][:, 100:200]).max() == 0
    )  # mirrored


def test_closing_the_window_or_the_time_ends_it_and_keeps_the_recording(clip, tmp_path):
    made, _, _ = record(clip, tmp_path / "ada.mp4", preview=Window(after=2))
    assert made.frames == len(read_video(made.path)) == 2
    ticks = iter(range(1000))
    made, _, _ = record(clip, tmp_path / "short.mp4", clock=lambda: float(next(ticks)), most_s=6.0)
    assert 0 < made.frames < 5
    assert made.path.exists()


def test_without_a_face_it_gives_up_with_the_reason(clip, tmp_path):
    grey = [Frame(np.full((120, 160, 3), 90, np.uint8), i, 0, i * 10**8) for i in range(6)]
    times = iter(LOST_S / 8 * k for k in range(1000))
    with pytest.raises(NoFaceError, match="no face was found"):
        record(grey, tmp_path / "ada.mp4", clock=lambda: next(times))
    assert (tmp_path / "ada.mp4").exists()


def test_a_recording_never_replaces_another(tmp_path, monkeypatch):
    path = tmp_path / "ada.mp4"
    assert free_name(path) == path
    path.touch()
    (tmp_path / "ada-2.mp4").touch()
    assert free_name(path).name == "ada-3.mp4"
    monkeypatch.setattr(Path, "exists", lambda _: True)
    with pytest.raises(SinkError):
        free_name(path)


def test_the_line_is_readable_and_the_bar_as_long_as_the_share(clip):
    told = EnrollProgress(1, 1, 0.5, "turn your head a little to the left and then far to the left", "")
    shown = annotated(clip[0].pixels, told)
    assert shown.shape == clip[0].pixels.shape
    bar = (shown[-2] == (107, 157, 31)).all(axis=1)
    assert bar.sum() == shown.shape[1] // 2
    letters = (shown[-70:-10] > 240).all(axis=2)
    assert letters.sum() > 500
    assert not letters[:, :20].any()
