"""Layouts of the kernel's structures, and who holds a device, asked of a real process."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from realtime import v4l2

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Video4Linux2 is Linux's")


def test_request_numbers_are_the_kernels() -> None:
    assert v4l2.VIDIOC_QUERYCAP == 0x80685600
    assert v4l2.VIDIOC_REQBUFS == 0xC0145608
    assert v4l2.VIDIOC_STREAMON == 0x40045612
    if struct.calcsize("P") == 8:
        assert v4l2.VIDIOC_G_FMT == 0xC0D05604


def capability(capabilities: int, device_caps: int) -> bytes:
    return struct.pack("=16s32s32s6I", b"uvcvideo", b"A Webcam", b"usb-1", 6, capabilities, device_caps, 0, 0, 0)


def test_a_webcams_two_nodes_are_told_apart() -> None:
    picture = v4l2.parse_capability(capability(0x84A00001, 0x04200001))
    assert (picture.driver, picture.card, picture.captures, picture.outputs) == ("uvcvideo", "A Webcam", True, False)
    assert picture.bus == "usb-1"
    metadata = v4l2.parse_capability(capability(0x84A00001, 0x04A00000))
    assert not metadata.captures
    old = v4l2.parse_capability(capability(0x00000003, 0))  # a driver that does not tell its nodes apart
    assert old.captures
    assert old.outputs


def test_formats_have_letters() -> None:
    code = int.from_bytes(b"MJPG", "little")
    assert v4l2.fourcc_name(code) == v4l2.fourcc_name(code | 1 << 31) == "MJPG", "bit 31 says big endian"
    assert v4l2.fourcc_name(int.from_bytes(b"Y16 ", "little")) == "Y16"
    assert v4l2.fourcc_name(0) == ""


def test_what_is_no_video_device_has_no_answers() -> None:
    for path in ("/dev/null", "/dev/video97"):
        assert v4l2.query(path) is None
        assert v4l2.output_size(path) is None
        assert not v4l2.is_streaming(path)
        v4l2.reset_output(path)


def test_the_holder_of_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "device"
    path.write_bytes(b"")
    assert v4l2.holders(str(path)) == ()
    program = f"import sys; f = open({str(path)!r}); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        (tmp_path / "alias").symlink_to(path)
        for name in ("device", "alias"):
            users = v4l2.holders(str(tmp_path / name))
            assert len(users) == 1
            assert f"(pid {process.pid})" in users[0]
        process.stdin.close()
    assert v4l2.holders(str(path)) == ()
    assert v4l2.holders(str(path), tmp_path / "no proc") == ()


@pytest.mark.parametrize(("mode", "writes"), [("wb", True), ("rb", False), ("r+b", False)])
def test_who_only_writes_is_told_from_readers(tmp_path: Path, mode: str, writes: bool) -> None:
    path = tmp_path / "device"
    path.write_bytes(b"")
    program = f"import sys; f = open({str(path)!r}, {mode!r}); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"ready\n"
        assert len(v4l2.holders(str(path))) == 1
        assert len(v4l2.holders(str(path), writers=True)) == writes
        process.stdin.close()
