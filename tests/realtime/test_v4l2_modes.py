"""The kernel's lists of formats, sizes and rates, as bytes."""

from __future__ import annotations

import errno
import struct
import sys

import pytest

from realtime import v4l2_modes
from realtime.v4l2_modes import Mode, list_modes, parse_format, parse_rates, parse_sizes


def test_request_numbers_are_the_kernels() -> None:
    """As a C compiler prints them from <linux/videodev2.h>."""
    assert v4l2_modes.VIDIOC_ENUM_FMT == 0xC0405602
    assert v4l2_modes.VIDIOC_ENUM_FRAMESIZES == 0xC02C564A
    assert v4l2_modes.VIDIOC_ENUM_FRAMEINTERVALS == 0xC034564B


def code(letters: bytes) -> int:
    return int.from_bytes(letters, "little")


def fmtdesc(letters: bytes) -> bytes:
    return struct.pack("=III32sII3I", 0, 1, 1, b"Motion-JPEG", code(letters), 0, 0, 0, 0)


def one_size(width: int, height: int) -> bytes:
    return struct.pack("=III6I2I", 0, code(b"MJPG"), 1, width, height, 0, 0, 0, 0, 0, 0)


def one_rate(numerator: int, denominator: int) -> bytes:
    return struct.pack("=5I6I2I", 0, code(b"MJPG"), 640, 480, 1, numerator, denominator, 0, 0, 0, 0, 0, 0)


def rate_range(*numbers: int) -> bytes:
    return struct.pack("=5I6I2I", 0, code(b"MJPG"), 640, 480, 3, *numbers, 0, 0)


def test_layouts() -> None:
    assert (len(fmtdesc(b"MJPG")), len(one_size(1, 1)), len(one_rate(1, 1))) == (64, 44, 52)
    assert parse_format(fmtdesc(b"MJPG")) == code(b"MJPG")
    assert parse_sizes(one_size(1280, 720)) == ((1280, 720),)
    assert parse_rates(one_rate(1, 30)) == (30.0,)
    assert parse_rates(one_rate(1001, 30000)) == (29.97,)
    assert parse_rates(one_rate(0, 30)) == parse_rates(one_rate(1, 0)) == ()


def test_a_range_of_sizes_gives_the_common_ones_on_its_grid() -> None:
    stepwise = struct.pack("=III6I2I", 0, code(b"YUYV"), 3, 48, 1300, 4, 32, 750, 4, 0, 0)
    found = parse_sizes(stepwise)
    assert (found[0], found[-1]) == ((48, 32), (1300, 750))
    assert {(640, 480), (1280, 720), (640, 360)} <= set(found)
    assert (1920, 1080) not in found
    odd = struct.pack("=III6I2I", 0, code(b"YUYV"), 3, 30, 1300, 100, 32, 750, 4, 0, 0)
    assert (640, 480) not in parse_sizes(odd)
    whole = struct.pack("=III6I2I", 0, code(b"YUYV"), 2, 1, 8192, 0, 1, 8192, 0, 0, 0)  # a step of 0: anything
    assert (3840, 2160) in parse_sizes(whole)


def test_a_range_of_rates() -> None:
    assert parse_rates(rate_range(1, 60, 1, 20, 1, 1)) == (20.0, 24.0, 25.0, 30.0, 50.0, 60.0)
    assert parse_rates(rate_range(0, 0, 0, 0, 0, 0)) == ()


@pytest.mark.skipif(sys.platform != "linux", reason="Video4Linux2 is Linux's")
def test_the_whole_list(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """A driver that repeats a size, has a format without sizes, and one whose list never ends."""
    sizes = {b"MJPG": [(1280, 720), (640, 480), (1280, 720)], b"GREY": []}
    asked = [0]

    def ask(_device: int, number: int, answer: bytearray) -> bool:
        asked[0] += 1
        index, letters = struct.unpack_from("=I4s", answer)
        if number == v4l2_modes.VIDIOC_ENUM_FMT:
            if index < 2:
                answer[44:48] = [b"MJPG", b"GREY"][index]
            return bool(index < 2)
        if number == v4l2_modes.VIDIOC_ENUM_FRAMESIZES:
            if index < len(sizes[letters]):
                struct.pack_into("=III", answer, 8, 1, *sizes[letters][index])
            return bool(index < len(sizes[letters]))
        struct.pack_into("=III", answer, 16, 1, 1, 30 - index % 2 * 15)
        return True

    monkeypatch.setattr(v4l2_modes, "ask", ask)
    assert list_modes("/dev/null") == (Mode("MJPG", (1280, 720), (30.0, 15.0)), Mode("MJPG", (640, 480), (30.0, 15.0)))
    assert asked[0] < 600
    assert list_modes("/dev/null", {"YUYV"}) == ()


@pytest.mark.skipif(sys.platform != "linux", reason="Video4Linux2 is Linux's")
def test_what_is_no_camera_offers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list_modes("/dev/null") == ()
    assert list_modes("/dev/video97") == ()

    def gone(*_: object) -> bool:
        raise OSError(errno.ENODEV, "unplugged")

    monkeypatch.setattr(v4l2_modes, "ask", gone)
    assert list_modes("/dev/null") == ()
