"""Cameras: the real OpenCV without a device, the wording of a wrong negotiation, a camera that is lost."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from engines.errors import SourceLostError, SourceNotFoundError
from realtime.camera import (
    CameraSource,
    Negotiation,
    _fourcc_name,
    _without_password,
    camera_list_note,
    list_cameras,
)
from realtime.capture import open_source
from realtime.source import SourceConfig

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
    """What CameraSource needs of cv2.VideoCapture: ``good`` pictures, then none."""

    def __init__(self, good: int) -> None:
        self.good, self.released = good, 0

    def read(self) -> tuple[bool, object]:
        self.good -= 1
        return (True, np.zeros((24, 32, 3), np.uint8)) if self.good >= 0 else (False, None)

    def get(self, key: int) -> float:
        return float(int.from_bytes(b"YUYV", "little")) if key == 6 else 30.0

    def release(self) -> None:
        self.released += 1


def test_the_rate_is_measured_and_a_lost_camera_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    capture = FakeCapture(good=31)
    monkeypatch.setattr("realtime.camera._open_capture", lambda *_args, **_kw: capture)
    ticks = iter(range(0, 10_000 * MS, 102 * MS))
    source = CameraSource(0, SourceConfig(size=(1280, 720)), clock=lambda: next(ticks))
    assert source.size == (32, 24)
    assert source.live
    assert "rate not measured yet" in source.report
    frames = [source.read() for _ in range(30)]
    assert [frame.index for frame in frames if frame] == list(range(30))
    assert [frame.timestamp_ns for frame in frames if frame] == [n * 102 * MS for n in range(30)]
    assert source.measured_fps == pytest.approx(1000 / 102)
    assert source.report.startswith("camera 0: asked MJPG 1280x720@30, got YUYV 32x24 at 9.8 fps: ")
    with pytest.raises(SourceLostError, match="no more pictures"):
        source.read()
    source.close()
    source.close()
    assert capture.released == 2


def test_each_fault_of_a_negotiation_is_named() -> None:
    good = Negotiation("MJPG", (1280, 720), 30.0, "MJPG", (1280, 720), 29.6)
    assert good.faults() == []
    assert str(good) == "asked MJPG 1280x720@30, got MJPG 1280x720 at 29.6 fps"
    raw = Negotiation("MJPG", (1280, 720), 30.0, "YUYV", (1280, 720), 9.8)
    assert "YUYV, not MJPG" in str(raw)
    assert "USB 2" in str(raw)
    slow = Negotiation("MJPG", (640, 480), 30.0, "YUYV", (640, 480), 15.0)
    assert "USB 2" not in str(slow)
    dim = Negotiation("MJPG", (1280, 720), 30.0, "MJPG", (640, 480), 15.0)
    assert "size differs" in str(dim)
    assert "dim light" in str(dim)
    unknown = Negotiation("MJPG", None, None, "", (640, 480), None)
    assert unknown.faults() == []
    assert "default size" in str(unknown)


def test_small_parts() -> None:
    assert _fourcc_name(float(int.from_bytes(b"MJPG", "little"))) == "MJPG"
    assert _fourcc_name(0.0) == ""
    assert _fourcc_name(-1.0) == ""
    assert _fourcc_name(float("nan")) == ""
    assert _without_password("rtsp://me:pw@cam.local:554/a@b") == "rtsp://cam.local:554/a@b"
    assert _without_password("/dev/video0") == "/dev/video0"
    assert camera_list_note("linux") is None
    assert "Linux only" in (camera_list_note("win32") or "")


@pytest.mark.skipif(sys.platform != "linux", reason="sysfs is Linux's")
def test_cameras_are_listed_by_number(tmp_path: Path) -> None:
    assert list_cameras(tmp_path / "absent") == []
    for name, label in (("video10", "Ten"), ("video9", "Nine"), ("v4l-subdev0", "no camera")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(label + "\n")
    missing = [n for n in (9, 10) if not Path(f"/dev/video{n}").exists()]
    found = [(camera.index, camera.name) for camera in list_cameras(tmp_path) if camera.index in missing]
    assert found == [(n, {9: "Nine", 10: "Ten"}[n]) for n in missing]
