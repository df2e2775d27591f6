"""What a camera says it can give: its formats, their sizes, and the rates of each size.

Layouts of ``v4l2_fmtdesc``, ``v4l2_frmsizeenum`` and ``v4l2_frmivalenum`` in <linux/videodev2.h>.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from realtime.v4l2 import ask, fourcc_name, opened, request

VIDIOC_ENUM_FMT = request("rw", 2, 64)
VIDIOC_ENUM_FRAMESIZES = request("rw", 74, 44)
VIDIOC_ENUM_FRAMEINTERVALS = request("rw", 75, 52)

_BUF_CAPTURE = 1
_DISCRETE = 1
_ENTRIES = 256
"""A driver that never ends its list must not hold us for ever."""
COMMON_SIZES = (
    (320, 240), (640, 360), (640, 480), (800, 600), (960, 540), (1024, 576), (1280, 720), (1280, 960), (1600, 1200),
    (1920, 1080), (2560, 1440), (3840, 2160),
)  # fmt: skip
"""What is listed of a camera that names only the smallest and the largest size."""
COMMON_RATES = (5.0, 10.0, 15.0, 20.0, 24.0, 25.0, 30.0, 50.0, 60.0, 90.0, 120.0)


@dataclass(frozen=True, slots=True)
class Mode:
    """One format at one size."""

    fourcc: str
    size: tuple[int, int]
    """(width, height) in pixels."""
    rates: tuple[float, ...]
    """Frames a second that it offers, highest first. Empty: it does not say."""


def list_modes(path: str, fourccs: Collection[str] | None = None) -> tuple[Mode, ...]:
    """Everything that the camera at ``path`` offers, in its own order; only in the formats ``fourccs``, if given.

    Empty when it cannot be asked.
    """
    try:
        with opened(path) as device:
            return tuple(
                Mode(fourcc_name(code), size, tuple(sorted(set(_rates(device, code, size)), reverse=True)))
                for code in _formats(device)
                if fourccs is None or fourcc_name(code) in fourccs
                for size in _sizes(device, code)
            )
    except OSError:
        return ()


def _formats(device: int) -> Iterator[int]:
    for index in range(_ENTRIES):
        answer = bytearray(64)
        struct.pack_into("=II", answer, 0, index, _BUF_CAPTURE)
        if not ask(device, VIDIOC_ENUM_FMT, answer):
            return
        yield parse_format(answer)


def parse_format(answer: bytes | bytearray) -> int:
    """The pixel format's number in a ``struct v4l2_fmtdesc`` (64 bytes)."""
    return int(struct.unpack_from("=I", answer, 44)[0])


def _sizes(device: int, code: int) -> Iterable[tuple[int, int]]:
    found: dict[tuple[int, int], None] = {}  # some webcams list a size twice
    for index in range(_ENTRIES):
        answer = bytearray(44)
        struct.pack_into("=II", answer, 0, index, code)
        if not ask(device, VIDIOC_ENUM_FRAMESIZES, answer):
            break
        sizes = parse_sizes(answer)
        found.update(dict.fromkeys(sizes))
        if len(sizes) != 1:
            break
    return found


def parse_sizes(answer: bytes | bytearray) -> tuple[tuple[int, int], ...]:
    """Read a ``struct v4l2_frmsizeenum`` (44 bytes): one size, or the common ones within a range."""
    kind, width, height = struct.unpack_from("=III", answer, 8)
    if kind == _DISCRETE:
        return ((int(width), int(height)),)
    low_w, high_w, step_w, low_h, high_h, step_h = (int(n) for n in struct.unpack_from("=6I", answer, 12))
    within = [
        (w, h)
        for w, h in COMMON_SIZES
        if low_w <= w <= high_w and low_h <= h <= high_h
        if (w - low_w) % max(step_w, 1) == 0 and (h - low_h) % max(step_h, 1) == 0
    ]
    return tuple(dict.fromkeys([(low_w, low_h), *within, (high_w, high_h)]))


def _rates(device: int, code: int, size: tuple[int, int]) -> Iterator[float]:
    for index in range(_ENTRIES):
        answer = bytearray(52)
        struct.pack_into("=IIII", answer, 0, index, code, *size)
        if not ask(device, VIDIOC_ENUM_FRAMEINTERVALS, answer):
            return
        rates = parse_rates(answer)
        yield from rates
        if len(rates) != 1:
            return


def parse_rates(answer: bytes | bytearray) -> tuple[float, ...]:
    """Read a ``struct v4l2_frmivalenum`` (52 bytes): one rate, or the common ones within a range. Frames a second.

    The kernel speaks of the time of a frame, so its shortest interval is the highest rate.
    """
    kind, *numbers = struct.unpack_from("=7I", answer, 16)
    if kind == _DISCRETE:
        rate = _rate(numbers[0], numbers[1])
        return () if rate is None else (rate,)
    high, low = _rate(numbers[0], numbers[1]), _rate(numbers[2], numbers[3])
    if high is None or low is None:
        return ()
    return tuple(sorted({low, high, *(rate for rate in COMMON_RATES if low <= rate <= high)}))


def _rate(numerator: int, denominator: int) -> float | None:
    """Frames a second of an interval; None for one of zero or for ever."""
    return round(denominator / numerator, 3) if numerator > 0 and denominator > 0 else None
