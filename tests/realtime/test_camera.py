"""Cameras: the real OpenCV without a device, the wording of a wrong negotiation, a camera that is lost."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.errors import SourceBusyError, SourceFormatError, SourceLostError, SourceNotFoundError
from realtime.camera import CameraSource, _prepare_opencv, _wishes
from realtime.camera_list import (
    CameraInfo,
    camera_list_note,
    device_path,
    find_by_name,
    list_cameras,
    without_password,
)
from realtime.capture import open_source
from realtime.negotiate import Attempt
from realtime.source import SourceConfig
from realtime.v4l2_controls import ControlWishes
from realtime.v4l2_modes import Mode

MS = 1_000_000


@pytest.mark.parametrize("spec", ["97", "/dev/video97"])
def test_a_camera_that_is_not_there(spec: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceNotFoundError) as caught:
        open_source(spec, SourceConfig())
    assert "97" in caught.value.message
    assert "--source" in caught.value.hint
    assert capfd.readouterr().err == "", "OpenCV's own warning is kept quiet"


def test_an_address_that_nobody_serves() -> None:
    with pytest.raises(SourceNotFoundError) as caught:
        open_source("http://user:secret@127.0.0.1:9/stream.mjpg", SourceConfig())
    assert "secret" not in str(caught.value)


class FakeCapture:
    """What CameraSource needs of cv2.VideoCapture: ``good`` pictures ``every_ms``, then none."""

    def __init__(self, now: list[int], good: int, every_ms: float, fourcc: bytes, size: tuple[int, int]) -> None:
        self.now, self.good, self.every, self.fourcc, self.size = now, good, round(every_ms * MS), fourcc, size
        self.released = self.damaged = 0
        self.stamp_ms: float = 0.0

    def grab(self) -> bool:
        self.good -= 1
        self.now[0] += self.every if self.good >= 0 else 1000 * MS
        return self.good >= 0

    def retrieve(self) -> tuple[bool, object]:
        if self.damaged > 0:
            self.damaged -= 1
            return False, None
        return True, np.zeros((self.size[1], self.size[0], 3), np.uint8)

    def read(self) -> tuple[bool, object]:
        return self.retrieve() if self.grab() else (False, None)

    def get(self, key: int) -> float:
        if key == cv2.CAP_PROP_FOURCC:
            return float(int.from_bytes(self.fourcc, "little"))
        return self.stamp_ms if key == cv2.CAP_PROP_POS_MSEC else 30.0

    def release(self) -> None:
        self.released += 1


class Webcam:
    """A camera on a desk: what it offers, and what really comes of each format."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, modes: Sequence[Mode], slows: bool | None = None) -> None:
        self.now = [10_000 * MS]
        self.every_ms = {"MJPG": 33.0, "YUYV": 33.0}
        self.good = 1000
        self.opened: list[FakeCapture] = []
        self.asked: list[Attempt] = []
        self.knobs: list[tuple[str | None, ControlWishes]] = []
        monkeypatch.setattr("realtime.camera._open_capture", self.open)
        monkeypatch.setattr("realtime.camera.list_modes", lambda _path, _fourccs: tuple(modes))
        monkeypatch.setattr("realtime.camera.slows_in_dim_light", lambda _path: slows)
        monkeypatch.setattr(
            "realtime.camera.apply", lambda path, wishes: self.knobs.append((path, wishes)) or ["no focus"]
        )

    def open(self, _target: int | str, attempt: Attempt) -> FakeCapture:
        self.asked.append(attempt)
        fourcc = attempt.fourcc or "YUYV"
        capture = FakeCapture(self.now, self.good, self.every_ms[fourcc], fourcc.encode(), attempt.size or (640, 480))
        self.opened.append(capture)
        return capture

    def source(self, config: SourceConfig = SourceConfig()) -> CameraSource:
        return CameraSource(0, config, clock=lambda: self.now[0])


C920 = [
    Mode("YUYV", (1280, 720), (10.0, 5.0)),
    Mode("MJPG", (1280, 720), (30.0, 5.0)),
    Mode("MJPG", (640, 360), (30.0,)),
]


def test_a_good_camera_is_opened_once_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    webcam = Webcam(monkeypatch, C920)
    source = webcam.source()
    assert webcam.asked == [Attempt("MJPG", (1280, 720), 30.0, "as asked")]
    assert source.report == "camera 0: asked MJPG 1280x720@30, got MJPG 1280x720 at 30.3 fps; no focus"
    path = "/dev/video0" if sys.platform == "linux" else None
    assert webcam.knobs == [(path, ControlWishes())], "knobs are turned before measuring: exposure changes the rate"
    assert source.live
    frames = [source.read() for _ in range(5)]
    assert [frame.index for frame in frames if frame] == list(range(5))
    assert [frame.timestamp_ns for frame in frames if frame] == [n * 33 * MS for n in range(5)]
    source.close()
    source.close()
    assert webcam.opened[0].released == 2


def test_raw_pictures_that_come_too_slowly_give_way_to_the_next_size(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = [Mode("YUYV", (1280, 720), (30.0,)), Mode("YUYV", (640, 360), (30.0,))]
    webcam = Webcam(monkeypatch, modes)
    webcam.every_ms["YUYV"] = 100.0
    opened = webcam.open

    def open_faster_when_small(target: int, attempt: Attempt) -> FakeCapture:
        capture = opened(target, attempt)
        capture.every = 33 * MS if attempt.size == (640, 360) else 100 * MS
        return capture

    monkeypatch.setattr("realtime.camera._open_capture", open_faster_when_small)
    source = webcam.source()
    assert source.size == (640, 360)
    assert [capture.released for capture in webcam.opened] == [1, 0]
    assert "tried before: YUYV 1280x720@30 came at 10.0 fps" in source.report


def test_nothing_helps_so_the_first_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    webcam = Webcam(monkeypatch, C920, slows=False)
    webcam.every_ms = {"MJPG": 100.0, "YUYV": 100.0}
    source = webcam.source()
    assert len(webcam.asked) == 5, "four attempts, then the first again"
    assert webcam.asked[-1] == webcam.asked[0]
    assert source.size == (1280, 720)
    assert "busy USB hub" in source.report


def test_dim_light_is_not_cured_by_another_format(monkeypatch: pytest.MonkeyPatch) -> None:
    webcam = Webcam(monkeypatch, C920, slows=True)
    webcam.every_ms["MJPG"] = 66.0
    source = webcam.source()
    assert len(webcam.asked) == 1
    assert "--steady-rate" in source.report


def test_a_format_that_gives_no_picture_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    webcam = Webcam(monkeypatch, C920)
    opened = webcam.open

    def open_without_mjpg(target: int, attempt: Attempt) -> FakeCapture:
        capture = opened(target, attempt)
        if attempt.fourcc == "MJPG":
            capture.good = 0
        return capture

    monkeypatch.setattr("realtime.camera._open_capture", open_without_mjpg)
    monkeypatch.setattr("realtime.camera.explain", lambda *_: SourceFormatError("dead", hint="plug it in again"))
    source = webcam.source()
    assert "got YUYV" in source.report
    assert "MJPG 1280x720@30 gave no picture" in source.report
    monkeypatch.setattr("realtime.camera.explain", lambda *_: SourceBusyError("held by zoom", hint="end it"))
    asked = len(webcam.asked)
    with pytest.raises(SourceBusyError, match="zoom"):
        webcam.source()
    assert len(webcam.asked) == asked + 1, "what is busy is busy in every format"


def test_coming_back_takes_what_did_before_without_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    webcam = Webcam(monkeypatch, C920)
    known = Attempt("YUYV", (1280, 720), 10.0, "this size, as fast as it has it")
    source = CameraSource(0, SourceConfig(), clock=lambda: webcam.now[0], again=known)
    assert webcam.asked == [known]
    assert "rate not measured yet" in source.report
    for _ in range(20):
        source.read()
    assert source.measured_fps == pytest.approx(1000 / 33)


def test_the_rate_is_measured_again_and_told_when_it_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    webcam = Webcam(monkeypatch, C920)
    source = webcam.source()
    before = source.report
    for _ in range(200):
        source.read()
    assert source.report == before
    webcam.opened[0].every = 70 * MS
    for _ in range(200):
        source.read()
    assert source.measured_fps == pytest.approx(1000 / 70, rel=0.2)
    assert "the rate is low" in source.report


def test_damaged_pictures_are_passed_over_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    webcam = Webcam(monkeypatch, C920)
    opened = webcam.open

    def open_with_an_empty_first_picture(target: int | str, attempt: Attempt) -> FakeCapture:
        capture = opened(target, attempt)
        capture.damaged = 2
        return capture

    monkeypatch.setattr("realtime.camera._open_capture", open_with_an_empty_first_picture)
    source = webcam.source()
    webcam.opened[0].damaged = 5
    frame = source.read()
    assert frame is not None
    assert frame.index == 0
    webcam.opened[0].damaged = 1000
    with pytest.raises(SourceLostError):
        source.read()


def test_a_lost_camera_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    webcam = Webcam(monkeypatch, C920)
    source = webcam.source()
    webcam.opened[0].good = 0
    with pytest.raises(SourceLostError, match="no more pictures"):
        source.read()


@pytest.mark.skipif(sys.platform != "linux", reason="V4L2's time stamps")
def test_the_drivers_time_stamp_is_taken_when_it_can_be_true(monkeypatch: pytest.MonkeyPatch) -> None:
    webcam = Webcam(monkeypatch, C920)
    source = webcam.source()
    capture = webcam.opened[0]
    capture.stamp_ms = webcam.now[0] / MS + 20.0
    frame = source.read()
    assert frame is not None
    assert frame.captured_ns == pytest.approx(capture.stamp_ms * MS), "13 ms before it was read"
    for wrong in (0.0, float("nan"), 5.0, 1e12):  # none, wall clock, the future
        capture.stamp_ms = wrong
        frame = source.read()
        assert frame is not None
        assert frame.captured_ns == webcam.now[0]


@pytest.mark.skipif(sys.platform != "linux", reason="V4L2's time stamps")
def test_pictures_that_waited_in_the_driver_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    webcam = Webcam(monkeypatch, C920)
    source = webcam.source()
    capture = webcam.opened[0]
    waiting = [200, 167, 133, 100, 67, 33]  # how old each is when it is taken, in milliseconds

    def grab() -> bool:
        capture.stamp_ms = webcam.now[0] / MS - waiting.pop(0)
        return True

    capture.grab = grab  # type: ignore[method-assign]
    frame = source.read()
    assert frame is not None
    assert webcam.now[0] - frame.captured_ns == pytest.approx(67 * MS)
    assert waiting == [33], "the first that is young enough; asking for more could wait for the camera"
    assert source.read() is not None


def test_a_clock_that_jumps_back_leaves_time_stamps_growing(monkeypatch: pytest.MonkeyPatch) -> None:
    webcam = Webcam(monkeypatch, C920)
    source = webcam.source()
    stamps = []
    for jump in (0, 3600_000, -7200_000, 0, 0):
        webcam.now[0] += jump * MS
        frame = source.read()
        assert frame is not None
        stamps.append(frame.timestamp_ns)
    assert all(later > earlier for earlier, later in itertools.pairwise(stamps))


def test_small_parts() -> None:
    assert without_password("rtsp://me:pw@cam.local:554/a@b") == "rtsp://cam.local:554/a@b"
    assert without_password("/dev/video0") == "/dev/video0"
    assert camera_list_note("linux") is None
    assert "Linux only" in (camera_list_note("win32") or "")
    assert device_path(3, "linux") == "/dev/video3"
    assert device_path("rtsp://a/b", "linux") is None
    assert device_path(3, "win32") is None
    cameras = [CameraInfo(0, "/dev/video0", "Integrated Camera"), CameraInfo(4, "/dev/video4", "HD Pro Webcam C920")]
    assert find_by_name("c920", cameras).index == 4
    with pytest.raises(SourceNotFoundError, match="Integrated Camera, HD Pro"):
        find_by_name("Brio", cameras)


def test_what_opencv_is_asked_for_and_how_long_it_may_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    wishes = _wishes(Attempt("MJPG", (1280, 720), 29.97, ""))
    assert wishes == [(6, int.from_bytes(b"MJPG", "little")), (3, 1280), (4, 720), (5, 30)], "the format first"
    assert _wishes(Attempt(None, None, None, "")) == []
    monkeypatch.delenv("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", raising=False)
    _prepare_opencv()
    assert os.environ["OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"] == "1"


@pytest.mark.skipif(sys.platform != "linux", reason="sysfs is Linux's")
def test_cameras_are_listed_by_number(tmp_path: Path) -> None:
    assert list_cameras(tmp_path / "absent") == []
    for name, label in (("video10", "Ten"), ("video9", "Nine"), ("v4l-subdev0", "no camera")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(label + "\n")
    missing = [n for n in (9, 10) if not Path(f"/dev/video{n}").exists()]
    found = [(camera.index, camera.name) for camera in list_cameras(tmp_path) if camera.index in missing]
    assert found == [(n, {9: "Nine", 10: "Ten"}[n]) for n in missing]
