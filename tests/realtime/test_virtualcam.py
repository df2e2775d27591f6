"""The virtual camera: the real pyvirtualcam, with a back end in memory and with no device at all."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import pyvirtualcam

from engines.errors import SinkError, SinkUnavailableError
from realtime import v4l2
from realtime.planes import PixelFormat, buffer_for, convert
from realtime.virtualcam import VirtualCameraSink, repair
from tests.realtime.footage import frame


class MemoryCamera:
    """A pyvirtualcam back end that keeps what it is sent."""

    opened: list[MemoryCamera]
    refusals: list[str]
    stuck = False
    native: int | None = None

    def __init__(self, *, width: int, height: int, fps: float, fourcc: int, device: str | None, **_: Any) -> None:
        if self.refusals:
            raise RuntimeError(self.refusals.pop(0))
        self.fps, self.fourcc, self.name = fps, fourcc, device or "mem0"
        self.sent: list[Any] = []
        self.closed = 0
        self.opened.append(self)

    def send(self, flat: Any) -> None:
        self.sent.append(flat.copy())

    def close(self) -> None:
        self.closed += 1
        if self.stuck and self.closed == 1:  # pyvirtualcam calls it once more when the camera is collected
            raise RuntimeError("device is stuck")

    def device(self) -> str:
        return self.name

    def native_fourcc(self) -> int | None:
        return self.native


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> type[MemoryCamera]:
    kind = type("FreshMemoryCamera", (MemoryCamera,), {"opened": [], "refusals": []})
    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", dict(pyvirtualcam.camera.BACKENDS))
    pyvirtualcam.register_backend("mem", kind)
    return kind


def test_bgr_pixels_arrive_unchanged(memory: type[MemoryCamera]) -> None:
    sink = VirtualCameraSink(backend="mem")
    sink.open((6, 4), 30.0)
    assert "mem0" in sink.report
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (4, 6, 3), dtype=np.uint8) for _ in range(3)]
    for index, picture in enumerate(pictures):
        sink.send(picture, frame(index, index))
    turned = np.ascontiguousarray(pictures[0][:, ::-1])[:, ::-1]  # not contiguous
    sink.send(turned, frame(3, 3))
    sink.close()
    sink.close()
    camera = memory.opened[0]
    assert camera.fourcc == int.from_bytes(b"24BG", "little"), "BGR"
    assert all(
        np.array_equal(got, want.reshape(-1)) for got, want in zip(camera.sent, [*pictures, pictures[0]], strict=True)
    )
    assert camera.closed == 1


def fourcc(letters: str) -> int:
    return int.from_bytes(letters.encode(), "little")


@pytest.mark.parametrize(
    ("letters", "pixel_format"),
    [
        ("I420", PixelFormat.I420),
        ("NV12", PixelFormat.NV12),
        ("UYVY", PixelFormat.UYVY),
        ("raw ", PixelFormat.RGB),
        ("ABGR", PixelFormat.RGBA),
    ],
)
def test_a_camera_gets_its_native_format_so_that_nobody_converts_again(
    memory: type[MemoryCamera], letters: str, pixel_format: PixelFormat
) -> None:
    memory.native = fourcc(letters)
    sink = VirtualCameraSink(backend="mem")
    sink.open((6, 4), 30.0)
    picture = np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    sink.send(picture, frame(0, 0))
    sink.close()
    assert sink.pixel_format is pixel_format
    camera = memory.opened[-1]
    assert camera.fourcc == fourcc(letters)
    wanted = buffer_for((6, 4), pixel_format)
    convert(picture, pixel_format, wanted)
    np.testing.assert_array_equal(camera.sent[0], wanted.reshape(-1))
    assert [camera.closed for camera in memory.opened] == [1] * len(memory.opened)


@pytest.mark.parametrize(("letters", "size"), [("I420", (6, 3)), ("NV12", (5, 4)), ("J400", (6, 4))])
def test_what_cannot_be_made_stays_bgr(memory: type[MemoryCamera], letters: str, size: tuple[int, int]) -> None:
    memory.native = fourcc(letters)
    sink = VirtualCameraSink(backend="mem")
    sink.open(size, 30.0)
    assert sink.pixel_format is PixelFormat.BGR
    sink.send(np.zeros((size[1], size[0], 3), np.uint8), frame(0, 0))
    sink.close()
    assert len(memory.opened) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="v4l2loopback is Linux's")
def test_v4l2loopback_is_opened_once_in_i420(memory: type[MemoryCamera], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {"v4l2loopback": memory})
    memory.native = fourcc("I420")
    sink = VirtualCameraSink()
    sink.open((64, 48), 30.0)
    sink.close()
    assert [camera.fourcc for camera in memory.opened] == [fourcc("I420")]


def test_wrong_pictures_and_a_closed_camera_are_refused(memory: type[MemoryCamera]) -> None:
    sink = VirtualCameraSink(backend="mem")
    with pytest.raises(SinkError, match="not open"):
        sink.send(np.zeros((4, 6, 3), np.uint8), frame(0, 0))
    sink.open((6, 4), 30.0)
    with pytest.raises(SinkError, match="unexpected frame shape"):
        sink.send(np.zeros((5, 6, 3), np.uint8), frame(0, 0))
    sink.close()


def test_a_camera_that_does_not_close_is_a_sink_error(
    memory: type[MemoryCamera], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.stuck = True
    sink = VirtualCameraSink(backend="mem")
    sink.open((6, 4), 30.0)
    with pytest.raises(SinkError, match="device is stuck") as caught:
        sink.close()
    assert caught.value.hint
    assert "stuck" in sink.report
    sink.close()
    monkeypatch.setattr(v4l2, "output_size", lambda _path: (640, 480))
    if sys.platform == "linux":  # the fault that made it close is told, not the one of closing
        with pytest.raises(SinkError, match="640x480"):
            VirtualCameraSink("/dev/video97", backend="mem").open((1280, 720), 30.0)


@pytest.mark.skipif(sys.platform != "linux", reason="asks v4l2loopback")
def test_without_a_device_the_repair_is_named() -> None:
    sink = VirtualCameraSink("/dev/video97")
    with pytest.raises(SinkUnavailableError, match=r"/dev/video97 does not exist") as caught:
        sink.open((640, 480), 30.0)
    assert caught.value.hint.startswith("sudo modprobe v4l2loopback devices=1 exclusive_caps=1 card_label=personacam")
    sink.close()
    with pytest.raises(SinkUnavailableError) as caught:
        VirtualCameraSink("/dev/null").open((640, 480), 30.0)
    assert "no video device" in caught.value.hint


def test_an_unknown_back_end() -> None:
    with pytest.raises(SinkUnavailableError, match="nonsense"):
        VirtualCameraSink(backend="nonsense").open((64, 48), 30.0)


@pytest.mark.skipif(sys.platform != "linux", reason="a fault of v4l2loopback 0.12.7")
@pytest.mark.parametrize("driver", ["v4l2 loopback", "vivid"])
def test_a_loopback_that_lost_its_output_is_reset_and_tried_once_more(
    memory: type[MemoryCamera], monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {"v4l2loopback": memory})
    memory.refusals.append("Device /dev/video97 is not a video output device.")
    reset: list[str] = []
    monkeypatch.setattr(v4l2, "query", lambda _path: v4l2.Capability(driver, "Cam", captures=True, outputs=False))
    monkeypatch.setattr(v4l2, "reset_output", reset.append)
    sink = VirtualCameraSink("/dev/video97")
    if driver == "vivid":
        with pytest.raises(SinkUnavailableError):
            sink.open((64, 48), 30.0)
        assert reset == []
        return
    sink.open((64, 48), 30.0)
    sink.close()
    assert reset == ["/dev/video97"]
    assert len(memory.opened) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="a fault of v4l2loopback 0.12.7")
def test_a_loopback_that_another_program_feeds_is_left_alone(
    memory: type[MemoryCamera], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {"v4l2loopback": memory})
    memory.refusals.append("Device /dev/video97 is not a video output device.")
    reset: list[str] = []
    monkeypatch.setattr(
        v4l2, "query", lambda _path: v4l2.Capability("v4l2 loopback", "Cam", captures=True, outputs=False)
    )
    monkeypatch.setattr(v4l2, "holders", lambda _path, *, writers: ("other (pid 7)",) if writers else ())
    monkeypatch.setattr(v4l2, "reset_output", reset.append)
    with pytest.raises(SinkUnavailableError, match=r"fed by other \(pid 7\) already"):
        VirtualCameraSink("/dev/video97").open((64, 48), 30.0)
    assert reset == []


@pytest.mark.skipif(sys.platform != "linux", reason="a fault of v4l2loopback 0.12.7")
def test_a_device_that_keeps_another_size_is_refused(
    memory: type[MemoryCamera], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(v4l2, "output_size", lambda _path: (640, 480))
    sink = VirtualCameraSink("/dev/video97", backend="mem")
    with pytest.raises(SinkError, match="640x480"):
        sink.open((1280, 720), 30.0)
    assert memory.opened[0].closed == 1
    sink.open((640, 480), 30.0)
    sink.close()


def test_every_system_has_its_own_repair() -> None:
    assert "OBS Studio 28" in repair("", "win32")
    assert "system extension" in repair("", "darwin")
    assert "usermod" in repair("Could not access /dev/video0 due to missing permissions.", "linux")
    assert "modprobe -r" in repair("Device /dev/video10 is not a video output device.", "linux")
    assert repair("No v4l2 loopback device found", "linux").startswith("sudo modprobe v4l2loopback")


@pytest.mark.skipif(sys.platform != "linux", reason="asks v4l2loopback")
def test_the_last_picture_is_repeated_and_a_size_that_changes_is_noticed(
    memory: type[MemoryCamera], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = VirtualCameraSink("/dev/video97", backend="mem")
    with pytest.raises(SinkError, match="not open"):
        sink.repeat()
    sink.check()
    sink.open((6, 4), 30.0)
    sink.send(np.full((4, 6, 3), 9, np.uint8), frame(0, 0))
    sink.repeat()
    first, second = memory.opened[-1].sent
    assert np.array_equal(first, second)
    sink.check()
    monkeypatch.setattr(v4l2, "output_size", lambda _path: (640, 480))
    with pytest.raises(SinkError, match="640x480"):
        sink.check()
    assert memory.opened[-1].closed == 1
