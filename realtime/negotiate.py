"""Which format, size and rate to ask a camera for, in which order, and whether what it gave will do. Asks nothing.

The order in which it is tried, each only where the camera offers it:

1. the asked format at the asked size and rate,
2. another format at the asked size and rate,
3. the next size that has the rate: of the same shape before others, smaller before larger; the asked format first,
4. the asked size at the highest rate that it has,
5. whatever the camera does by itself.

A camera that does not say what it offers is asked for 1, the same size in any format, 640x480, and 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from realtime.v4l2_modes import Mode

ENOUGH = 0.8
"""Of the asked rate: a camera of Europe's 25 frames a second, or of the cinema's 24, is as good as one of 30."""
MAX_ATTEMPTS = 4
READABLE = ("MJPG", "JPEG", "NV12", "NV21", "YU12", "YV12", "YUYV", "YVYU", "UYVY", "BGR3", "RGB3")
"""What OpenCV turns into pixels, by what it costs on the cable."""
RAW_FOURCCS = frozenset(READABLE[2:]) | {"YUY2"}
_USB2_BYTES_PER_S = 24_000_000  # what one isochronous endpoint may carry: 3 x 1024 bytes every 125 us
_BYTES_PER_PIXEL = {"NV12": 1.5, "NV21": 1.5, "YU12": 1.5, "YV12": 1.5, "BGR3": 3.0, "RGB3": 3.0}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user asks for. ``None``: the camera's own."""

    fourcc: str
    size: tuple[int, int] | None
    fps: float | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one opening of the camera asks for."""

    fourcc: str | None
    """None: any."""
    size: tuple[int, int] | None
    rate: float | None
    why: str
    """For people: "as asked", or what is given up."""


def attempts(modes: Sequence[Mode], wish: Wish) -> tuple[Attempt, ...]:
    """What to ask for, best first, at most ``MAX_ATTEMPTS``; never empty."""
    readable = [mode for mode in modes if mode.fourcc in READABLE]
    found = _listed(readable, wish, wish.size) if readable and wish.size is not None else _blind(wish)
    found.append(Attempt(None, None, None, "the camera's own choice"))
    different: dict[tuple[object, ...], Attempt] = {}
    for attempt in found:
        different.setdefault((attempt.fourcc, attempt.size, attempt.rate), attempt)
    return tuple(different.values())[:MAX_ATTEMPTS]


def _blind(wish: Wish) -> list[Attempt]:
    found = [Attempt(wish.fourcc, wish.size, wish.fps, "as asked")]
    if wish.size is not None:
        found.append(Attempt(None, wish.size, wish.fps, f"not in {wish.fourcc}"))
        found.append(Attempt(wish.fourcc, (640, 480), wish.fps, "a smaller picture"))
    return found


def _listed(modes: list[Mode], wish: Wish, asked: tuple[int, int]) -> list[Attempt]:
    modes = sorted(modes, key=lambda mode: (mode.fourcc != wish.fourcc, READABLE.index(mode.fourcc)))
    found = []
    for mode in modes:
        if mode.size == asked and _has_rate(mode, wish.fps):
            why = "as asked" if mode.fourcc == wish.fourcc else f"it has no {wish.fourcc} at this size and rate"
            found.append(Attempt(mode.fourcc, mode.size, _nearest(mode, wish.fps), why))
    found = found[:2]  # raw formats cost about the same on the cable: rather a smaller size than a third of them
    others = [mode for mode in modes if mode.size != asked and _has_rate(mode, wish.fps)]
    best: dict[tuple[int, int], Mode] = {}
    for mode in others:  # the list is in the order of formats
        best.setdefault(mode.size, mode)
    nearest = sorted(best.values(), key=lambda mode: _distance(mode.size, asked))[:2]
    why = "the nearest size that has the rate"
    found += [Attempt(mode.fourcc, mode.size, _nearest(mode, wish.fps), why) for mode in nearest]
    slow = [mode for mode in modes if mode.size == asked and mode.rates and not _has_rate(mode, wish.fps)]
    if slow:
        mode = max(slow, key=lambda mode: mode.rates[0])
        found.append(Attempt(mode.fourcc, mode.size, mode.rates[0], "this size, as fast as it has it"))
    return found


def _has_rate(mode: Mode, fps: float | None) -> bool:
    """Whether it offers at least nearly the rate; a mode that tells no rates may."""
    return fps is None or not mode.rates or mode.rates[0] >= ENOUGH * fps


def _nearest(mode: Mode, fps: float | None) -> float | None:
    """The lowest rate that is enough, so that a camera of 60 gives 30 when 30 are asked."""
    if fps is None or not mode.rates:
        return fps
    return min((rate for rate in mode.rates if rate >= fps - 0.5), default=mode.rates[0])


def _distance(size: tuple[int, int], asked: tuple[int, int]) -> tuple[bool, bool, int]:
    """Sort key: the same shape first, then what is smaller, then the nearest number of pixels."""
    same_shape = abs(size[0] * asked[1] - size[1] * asked[0]) < 0.02 * size[0] * asked[1]
    pixels, wanted = size[0] * size[1], asked[0] * asked[1]
    return not same_shape, pixels > wanted, abs(pixels - wanted)


@dataclass(frozen=True, slots=True)
class Negotiation:
    """What was asked of a camera and what it gives. ``None`` in what was asked: its default."""

    asked_fourcc: str
    asked_size: tuple[int, int] | None
    asked_fps: float | None
    fourcc: str
    size: tuple[int, int]
    fps: float | None
    """Measured; None until enough frames came."""
    slows: bool | None = None
    """Whether the camera may lower its rate in dim light, as far as it says."""
    tried: tuple[str, ...] = ()
    """What was asked for before and did not do."""

    @property
    def slow(self) -> bool:
        """Whether the measured rate is well below the asked one."""
        return self.fps is not None and self.asked_fps is not None and self.fps < ENOUGH * self.asked_fps

    @property
    def cable(self) -> bool:
        """Whether raw pictures of this size and rate are too much for USB 2."""
        bytes_per_s = self.size[0] * self.size[1] * _BYTES_PER_PIXEL.get(self.fourcc, 2.0) * (self.asked_fps or 30.0)
        return self.fourcc in RAW_FOURCCS and bytes_per_s > _USB2_BYTES_PER_S

    def faults(self) -> list[str]:
        """Each way in which the camera gives less than was asked, with the likely cause."""
        found = []
        if self.fourcc and self.fourcc != self.asked_fourcc:
            found.append(f"the format is {self.fourcc}, not {self.asked_fourcc}")
        if self.asked_size is not None and self.size != self.asked_size:
            found.append("the size differs; this camera may not have it")
        if self.slow:
            found.append(f"the rate is low ({self._cause()})")
        return found

    def _cause(self) -> str:
        if self.cable:
            return "raw pictures this large do not fit through USB 2; try a smaller size"
        if self.slows:
            return "the camera slows down in dim light; more light, or --steady-rate, keeps the rate"
        if self.slows is False:
            return "more than this camera can, or a busy USB hub; try a smaller size"
        return "often dim light, or more than this camera can"

    def __str__(self) -> str:
        size = "default size" if self.asked_size is None else f"{self.asked_size[0]}x{self.asked_size[1]}"
        rate = "" if self.asked_fps is None else f"@{self.asked_fps:g}"
        rate_got = "rate not measured yet" if self.fps is None else f"at {self.fps:.1f} fps"
        got = f"{self.fourcc or 'an unnamed format'} {self.size[0]}x{self.size[1]} {rate_got}"
        notes = self.faults() + [f"tried before: {', '.join(self.tried)}"] * bool(self.tried)
        return f"asked {self.asked_fourcc} {size}{rate}, got {got}" + (": " + "; ".join(notes) if notes else "")


def another_may_do(got: Negotiation) -> bool:
    """Whether a slow camera is worth another attempt: not where dim light is the likely reason, which costs nothing
    less in another format.
    """
    return got.slow and (got.fourcc in RAW_FOURCCS or got.slows is False)


def best_of(results: Sequence[Negotiation]) -> int:
    """Index of the result to keep when none was good: the fastest, and of equals (within a tenth) the first."""
    rates = [min(result.fps or 0.0, result.asked_fps or 1e9) for result in results]
    return next(index for index, rate in enumerate(rates) if rate >= 0.9 * max(rates))
