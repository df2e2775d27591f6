"""A camera's knobs: the kernel's bytes, the order in which they are turned, and what cannot be had."""

from __future__ import annotations

import struct
import sys

import pytest

from realtime import v4l2_controls as knobs
from realtime.v4l2_controls import Control, ControlWishes, apply, list_controls, parse_control, plan

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Video4Linux2 is Linux's")


def test_request_numbers_are_the_kernels() -> None:
    """As a C compiler prints them from <linux/videodev2.h>."""
    assert knobs.VIDIOC_QUERYCTRL == 0xC0445624
    assert knobs.VIDIOC_QUERYMENU == 0xC02C5625
    assert knobs.VIDIOC_G_CTRL == 0xC008561B
    assert knobs.VIDIOC_S_CTRL == 0xC008561C


def queryctrl(number: int, kind: int, name: bytes, low: int, high: int, flags: int = 0) -> bytes:
    return struct.pack("=II32siiiiI2I", number, kind, name, low, high, 1, low, flags, 0, 0)


def test_layout() -> None:
    answer = queryctrl(knobs.EXPOSURE_ABSOLUTE, 1, b"Exposure Time, Absolute", -3, 2047)
    assert len(answer) == 68
    assert parse_control(answer) == Control(
        0x009A0902, "Exposure Time, Absolute", "integer", -3, 2047, 1, -3, writable=True
    )
    locked = parse_control(queryctrl(1, 2, b"Privacy", 0, 1, flags=4))
    assert locked is not None
    assert not locked.writable
    assert parse_control(queryctrl(1, 6, b"User Controls", 0, 0)) is None, "a heading"
    assert parse_control(queryctrl(1, 1, b"Gain", 0, 9, flags=1)) is None, "disabled"


def control(number: int, kind: str = "integer", low: int = 0, high: int = 1, **more: object) -> Control:
    return Control(number, f"knob {number:x}", kind, low, high, more.pop("step", 1), low, **more)  # type: ignore[arg-type]


EXPOSURE_MENU = ((1, "Manual Mode"), (3, "Aperture Priority Mode"))
UVC = {
    one.id: one
    for one in (
        control(knobs.POWER_LINE, "menu", 0, 2, menu=((0, "Disabled"), (1, "50 Hz"), (2, "60 Hz")), value=2),
        control(knobs.EXPOSURE_AUTO, "menu", 0, 3, menu=EXPOSURE_MENU, value=3),
        control(knobs.EXPOSURE_ABSOLUTE, low=3, high=2047, value=250),
        control(knobs.EXPOSURE_PRIORITY, "boolean", value=1),
        control(knobs.FOCUS_ABSOLUTE, low=0, high=250, step=5, value=0),
        control(knobs.FOCUS_AUTO, "boolean", value=1),
    )
}


@pytest.mark.parametrize(
    ("wishes", "steps"),
    [
        (ControlWishes(), []),
        (ControlWishes(power_line="50"), [(knobs.POWER_LINE, 1)]),
        (ControlWishes(exposure=10.0), [(knobs.EXPOSURE_AUTO, 1), (knobs.EXPOSURE_ABSOLUTE, 100)]),
        (ControlWishes(exposure="auto"), [(knobs.EXPOSURE_AUTO, 3)]),
        (ControlWishes(focus=52), [(knobs.FOCUS_AUTO, 0), (knobs.FOCUS_ABSOLUTE, 50)]),
        (ControlWishes(focus="auto"), [(knobs.FOCUS_AUTO, 1)]),
        (ControlWishes(steady_rate=True), [(knobs.EXPOSURE_PRIORITY, 0)]),
        (ControlWishes(steady_rate=False), [(knobs.EXPOSURE_PRIORITY, 1)]),
    ],
)
def test_the_mode_comes_before_the_number_that_it_frees(wishes: ControlWishes, steps: list[tuple[int, int]]) -> None:
    assert plan(UVC, wishes) == (steps, [])


def test_what_cannot_be_had_is_said_and_the_rest_is_done() -> None:
    steps, faults = plan(UVC, ControlWishes(power_line="auto", exposure=900.0, focus=-1))
    assert steps == [
        (knobs.EXPOSURE_AUTO, 1), (knobs.EXPOSURE_ABSOLUTE, 2047), (knobs.FOCUS_AUTO, 0), (knobs.FOCUS_ABSOLUTE, 0),
    ]  # fmt: skip
    assert faults == [
        "this camera has no mains frequency auto, only Disabled, 50 Hz, 60 Hz",
        "the exposure goes from 0.3 to 204.7",
        "the focus goes from 0 to 250",
    ]
    bare = {knobs.FOCUS_ABSOLUTE: control(knobs.FOCUS_ABSOLUTE, high=10)}
    steps, faults = plan(bare, ControlWishes("50", 5.0, 3, steady_rate=True))
    assert steps == [(knobs.FOCUS_ABSOLUTE, 3)]
    assert len(faults) == 3


def test_elsewhere_it_says_so_and_only_when_asked() -> None:
    assert apply(None, ControlWishes()) == []
    assert "not supported on" in apply(None, ControlWishes(power_line="50"))[0]


class Driver:
    """Answers like uvcvideo."""

    def __init__(self, refuse: int = 0) -> None:
        self.set: list[tuple[int, int]] = []
        self.refuse = refuse

    def ask(self, _device: int, number: int, answer: bytearray) -> bool:
        (wanted,) = struct.unpack_from("=I", answer)
        if number == knobs.VIDIOC_QUERYCTRL:
            after = sorted(one for one in UVC if one > wanted & 0x7FFFFFFF)
            if not after:
                return False
            one = UVC[after[0]]
            kind = {"integer": 1, "boolean": 2, "menu": 3}[one.kind]
            answer[:] = queryctrl(one.id, kind, one.name.encode(), one.minimum, one.maximum)
            struct.pack_into("=i", answer, 48, one.step)
        elif number == knobs.VIDIOC_QUERYMENU:
            (index,) = struct.unpack_from("=I", answer, 4)
            names = dict(UVC[wanted].menu)
            if index not in names:
                return False
            struct.pack_into("=32s", answer, 8, names[index].encode())
        elif number == knobs.VIDIOC_G_CTRL:
            struct.pack_into("=i", answer, 4, UVC[wanted].value or 0)
        else:
            self.set.append(struct.unpack("=Ii", answer))
            return wanted != self.refuse
        return True


@LINUX
def test_listing_and_setting_through_the_drivers_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(refuse=knobs.FOCUS_ABSOLUTE)
    monkeypatch.setattr(knobs, "ask", driver.ask)
    assert {one.id: one for one in list_controls("/dev/null")} == UVC
    faults = apply("/dev/null", ControlWishes(exposure=10.0, focus=5))
    assert driver.set == [
        (knobs.EXPOSURE_AUTO, 1), (knobs.EXPOSURE_ABSOLUTE, 100), (knobs.FOCUS_AUTO, 0), (knobs.FOCUS_ABSOLUTE, 5),
    ]  # fmt: skip
    assert faults == [f"the camera refused knob {knobs.FOCUS_ABSOLUTE:x} = 5"]
    assert knobs.slows_in_dim_light("/dev/null") is True


@LINUX
def test_a_menu_of_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(_device: int, number: int, answer: bytearray) -> bool:
        (wanted,) = struct.unpack_from("=I", answer)
        if number == knobs.VIDIOC_QUERYCTRL:
            answer[:] = queryctrl(7, 9, b"Bias", 0, 1)
            return wanted == 0x80000000
        if number == knobs.VIDIOC_QUERYMENU:
            struct.pack_into("=q", answer, 8, -1 << 40)
        return number != knobs.VIDIOC_G_CTRL

    monkeypatch.setattr(knobs, "ask", ask)
    (bias,) = list_controls("/dev/null")
    assert bias.menu == ((0, str(-1 << 40)), (1, str(-1 << 40)))
    assert bias.value is None


@LINUX
def test_without_a_device() -> None:
    assert list_controls("/dev/video97") == ()
    assert apply("/dev/video97", ControlWishes(focus="auto"))[-1].startswith("its controls cannot be set")
    assert knobs.slows_in_dim_light("/dev/video97") is None
    assert knobs.slows_in_dim_light(None) is None
