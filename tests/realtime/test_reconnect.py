"""A camera that goes away and comes back: by its name, under another number, frozen, black, of another size."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

from engines.errors import SourceBusyError, SourceError, SourceLostError
from engines.types import Frame
from realtime.camera_list import CameraInfo
from realtime.capture import CaptureThread, Closed
from realtime.reconnect import PictureWatch, SteadyCamera, match
from realtime.source import NoFrameYet

MS = 1_000_000
RNG = np.random.default_rng(0)


def picture(size: tuple[int, int] = (64, 48)) -> np.ndarray:
    return RNG.integers(30, 255, (size[1], size[0], 3), dtype=np.uint8)


DESK = CameraInfo(0, "/dev/video0", "HD Webcam", "usb-1")


def test_it_is_found_by_name_and_socket_under_any_number() -> None:
    back = CameraInfo(4, "/dev/video4", "HD Webcam", "usb-1")
    laptop = CameraInfo(0, "/dev/video0", "Integrated", "usb-7")
    assert match([laptop, back], DESK) == back, "what has the old number is another one"
    assert match([laptop], DESK) is None
    moved = CameraInfo(2, "/dev/video2", "HD Webcam", "usb-3")
    assert match([laptop, moved], DESK) == moved, "plugged into another socket"
    assert match([], DESK) is None


def test_an_equal_camera_that_was_there_before_is_not_taken_for_it() -> None:
    twin = CameraInfo(2, "/dev/video2", "HD Webcam", "usb-2")
    assert match([twin], DESK, [twin]) is None, "it may stand in another room"
    back = CameraInfo(5, "/dev/video5", "HD Webcam", "usb-1")
    assert match([twin, back], DESK, [twin]) == back
    assert match([twin, CameraInfo(5, "/dev/video5", "HD Webcam", "usb-9")], DESK, [twin]) is not None
    strangers = [CameraInfo(n, f"/dev/video{n}", "HD Webcam", f"usb-{n}") for n in (5, 6)]
    assert match(strangers, DESK) is None, "two of them: which one, nobody knows"


class Desk:
    """Cameras as they are opened one after the other, on a clock of 33 ms a picture."""

    def __init__(self) -> None:
        self.now = 0
        self.slept: list[float] = []
        self.there: int | None = 0
        self.opened: list[int | str] = []
        self.refusals: list[SourceError] = []
        self.next_camera = ScriptedCamera(self, "moving")
        self.first = ScriptedCamera(self, "moving")

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += round(seconds * 1e9)

    def reopen(self, target: int | str) -> ScriptedCamera:
        self.opened.append(target)
        if self.refusals:
            raise self.refusals.pop(0)
        return self.next_camera

    def steady(self) -> SteadyCamera:
        return SteadyCamera(self.first, self.reopen, lambda: self.there, clock=lambda: self.now, sleep=self.sleep)


class ScriptedCamera:
    """Gives moving, standing or black pictures; ``unplugged`` ends it."""

    name, size, fps, live = "camera 0", (64, 48), 30.0, True

    def __init__(self, desk: Desk, script: str, size: tuple[int, int] = (64, 48)) -> None:
        self.desk, self.script, self.index, self.closed = desk, script, 0, 0
        self.report = f"{script} camera"
        self.still = picture(size)
        self.pictures = size

    def read(self) -> Frame | None:
        self.desk.now += 33 * MS
        if self.script == "unplugged":
            raise SourceLostError("camera 0: it gives no more pictures", hint="plug it in")
        if self.script == "end":
            return None
        pixels = {"standing": self.still, "black": np.full_like(self.still, 16)}.get(self.script)
        if pixels is None:
            pixels = picture(self.pictures)
        self.index += 1
        return Frame(pixels.copy(), self.index - 1, self.desk.now, self.index - 1)

    def close(self) -> None:
        self.closed += 1


def some(source: SteadyCamera, count: int) -> list[Frame]:
    """What ``count`` reads give."""
    found = []
    for _ in range(count):
        try:
            frame = source.read()
        except NoFrameYet:
            continue
        assert frame is not None
        found.append(frame)
    return found


def test_unplugged_and_back_under_another_number() -> None:
    desk = Desk()
    source = desk.steady()
    frames = some(source, 3)
    desk.first.script, desk.there = "unplugged", None
    assert some(source, 5) == []
    assert desk.first.closed == 1
    assert desk.slept == [0.25] * 4, "nobody spins"
    assert source.as_dict()["away_s"] == 1.0
    assert "moving camera; it is away; waiting for it" in source.report
    desk.there = 4
    frames += some(source, 4)
    assert desk.opened == [4]
    assert "back again (1x)" in source.report
    assert [frame.index for frame in frames] == list(range(6)), "without gaps"
    assert all(late.timestamp_ns > early.timestamp_ns for early, late in itertools.pairwise(frames))
    assert frames[3].timestamp_ns - frames[2].timestamp_ns >= 1_000 * MS, "the gap is in the time stamps"
    assert source.as_dict() == {
        "lost": 1, "reopened": 1, "frozen": 0, "black": 0, "resized": 0, "away_s": 1.0,
    }  # fmt: skip


def test_a_camera_that_is_held_or_not_ready_is_tried_again() -> None:
    desk = Desk()
    source = desk.steady()
    desk.first.script = "unplugged"
    desk.refusals = [SourceBusyError("camera 0 is in use by zoom (pid 7)", hint="end it")] * 2
    assert some(source, 3) == []
    assert "in use by zoom" in source.report
    assert len(some(source, 3)) == 2
    assert len(desk.opened) == 3


def test_a_frozen_picture_is_withheld_and_the_camera_opened_again() -> None:
    desk = Desk()
    source = desk.steady()
    some(source, 2)
    desk.first.script = "standing"
    sent = some(source, 60)
    assert 30 <= len(sent) <= 60
    assert desk.first.closed == 1
    assert source.health.frozen == 1
    assert len(sent) < 60, "for a second at most the same picture was given out"
    assert len(some(source, 100)) == 100, "the camera that was opened instead moves"
    assert len(desk.opened) == 1


def test_a_picture_that_stays_still_is_believed_the_second_time() -> None:
    desk = Desk()
    desk.first.script = desk.next_camera.script = "standing"
    source = desk.steady()
    some(source, 100)
    assert len(some(source, 100)) == 100
    assert desk.opened == [0]
    assert "stands still" in source.report
    desk.next_camera.script = "moving"
    some(source, 3)
    assert "stands still" not in source.report
    desk.next_camera.script = "standing"
    some(source, 100)
    assert len(desk.opened) == 2, "and it is repaired again when it had moved meanwhile"


def test_black_pictures_are_named_and_given_out() -> None:
    desk = Desk()
    source = desk.steady()
    desk.first.script = "black"
    assert len(some(source, 100)) == 100
    assert "shutter" in source.report
    assert source.health.black == 1
    assert desk.opened == [], "a closed shutter is not frozen"
    desk.first.script = "moving"
    some(source, 2)
    assert "shutter" not in source.report


def test_another_size_is_fitted_in() -> None:
    desk = Desk()
    source = desk.steady()
    desk.first.pictures = (32, 48)
    (frame,) = some(source, 1)
    assert frame.pixels.shape == (48, 64, 3)
    assert not frame.pixels[:, :8].any()
    assert frame.pixels[:, 24:40].any()
    assert source.health.resized == 1
    assert source.size == (64, 48)


def test_after_a_sleep_one_old_picture_is_not_frozen() -> None:
    watch = PictureWatch()
    still = picture()
    assert watch.look(still, 0) == "good"
    for n in range(1, 5):
        assert watch.look(still.copy(), n * 900 * MS) == "good", "a slow camera needs five of them"
    assert watch.look(still.copy(), 5000 * MS) == "frozen"
    desk = Desk()
    source = desk.steady()
    desk.first.script = "standing"
    some(source, 20)
    desk.now += 3_600_000 * MS
    assert len(some(source, 20)) == 20


def test_a_single_byte_tells_pictures_apart() -> None:
    watch = PictureWatch()
    still = picture()
    looks = []
    for n in range(100):
        still = still.copy()
        still[7, 9, 1] = n  # not in the sample
        looks.append(watch.look(still, n * 33 * MS))
    assert set(looks) == {"good"}


def test_the_end_of_a_stream_is_its_end() -> None:
    desk = Desk()
    source = desk.steady()
    desk.first.script = "end"
    assert source.read() is None
    source.close()
    source.close()
    assert desk.first.closed == 1


def test_the_capture_thread_waits_for_it_and_can_be_stopped_meanwhile() -> None:
    desk = Desk()
    away = threading.Event()
    desk.sleep = lambda _seconds: away.set()  # type: ignore[method-assign]
    desk.first.script, desk.there = "unplugged", None
    thread = CaptureThread(desk.steady()).start()
    assert away.wait(5.0)
    assert thread.latest.get(0.01) is None, "nothing comes, and nothing has ended"
    assert thread.stop(5.0)
    with pytest.raises(Closed):
        thread.latest.get(0.0)


def test_a_clock_that_runs_backwards_does_not_stop_the_time_stamps() -> None:
    desk = Desk()
    source = desk.steady()
    frames = some(source, 3)
    desk.now -= 3_600_000 * MS
    frames += some(source, 3)
    steps = [late.timestamp_ns - early.timestamp_ns for early, late in itertools.pairwise(frames)]
    assert all(30 * MS < step < 40 * MS for step in steps), steps
