"""Preview pictures between the live process and its companion: shared memory, three slots, the newest wins.

Whoever looks asks for a picture by counting ``WANTED`` up; the live process makes one at the next frame, and about
RATE_HZ times a second at most, half as often while the frames need all the time there is. So nothing is computed while
nobody looks, and a slow viewer asks less often.

    header   8 numbers: wanted, view, newest slot + 1, width, height, milliseconds between pictures, …
    slot     8 numbers: begun, finished, frame index, view, covered, … ; the wearer's picture, the outgoing one
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.types import U8

RATE_HZ = 10.0
BUSY_RATE_HZ = 5.0
_EARLY = 0.9
"""A picture is due after so much of the time between two: every third frame of 30 a second, though some come early."""
_ASK_EARLY_S = 0.03
"""A frame before it is due, so that the one that is due has been asked for."""
MAX_SIZE = (960, 540)
"""A preview is the picture halved until it fits."""
SLOTS = 3
View = Literal["after", "split"]
"""after: what leaves. split: what the camera sees as well."""
VIEWS: tuple[View, ...] = ("after", "split")
_NUMBERS = 8
_WANTED, _VIEW, _NEWEST, _WIDTH, _HEIGHT, _EVERY_MS = range(6)
_BEGUN, _FINISHED, _INDEX, _SLOT_VIEW, _COVERED = range(5)


@dataclass(frozen=True, slots=True)
class Preview:
    """One picture, a copy."""

    index: int
    """Of the frame."""
    covered: bool
    """It shows no swap."""
    after: U8
    before: U8 | None
    """What the camera saw; only under the view "split"."""


def preview_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of previews of pictures of ``size``."""
    width, height = size
    while width > MAX_SIZE[0] or height > MAX_SIZE[1]:
        width, height = max(1, width // 2), max(1, height // 2)
    return width, height


def halved(pixels: U8, into: U8 | None = None) -> U8:
    """The mean of each 2 x 2 samples of (H, W, 3); an odd last row or column is left out.

    OpenCV averages by two in 0.3 ns a byte, by three or four at once in 0.8 to 1.9: on a camera's picture of 1080 rows
    that is 12 ms. So previews are made by halving again and again.
    """
    height, width = max(1, pixels.shape[0] // 2), max(1, pixels.shape[1] // 2)
    even = pixels[: 2 * height, : 2 * width]
    return cv2.resize(even, (width, height), dst=into, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _reduce(pixels: U8, into: U8) -> None:
    """To the size of ``into``, which is the preview's."""
    while pixels.shape[1] // 2 > into.shape[1] or pixels.shape[0] // 2 > into.shape[0]:
        pixels = halved(pixels)
    if pixels.shape == into.shape:
        np.copyto(into, pixels)
    else:
        halved(pixels, into)


def _bytes(size: tuple[int, int]) -> int:
    return 8 * _NUMBERS + SLOTS * (8 * _NUMBERS + 2 * 3 * size[0] * size[1])


class _Shared:
    """The arrays over one block of shared memory."""

    def __init__(self, memory: SharedMemory, size: tuple[int, int] | None) -> None:
        self.memory = memory
        self.head: NDArray[np.int64] = np.ndarray((_NUMBERS,), np.int64, memory.buf)
        if size is not None:
            self.head[:] = (0, 0, 0, size[0], size[1], _EARLY * 1e3 / RATE_HZ, 0, 0)
        width, height = int(self.head[_WIDTH]), int(self.head[_HEIGHT])
        if width < 1 or height < 1 or _bytes((width, height)) > memory.size:
            raise ValueError(f"shared memory of {memory.size} bytes is too small for {width} x {height}")
        self.slots: list[tuple[NDArray[np.int64], U8, U8]] = []
        at, picture = 8 * _NUMBERS, 3 * width * height
        for _ in range(SLOTS):
            numbers: NDArray[np.int64] = np.ndarray((_NUMBERS,), np.int64, memory.buf, at)
            at += 8 * _NUMBERS
            pair: U8 = np.ndarray((2, height, width, 3), np.uint8, memory.buf, at)
            at += 2 * picture
            self.slots.append((numbers, pair[0], pair[1]))

    def close(self) -> None:
        # The arrays look into the memory, which cannot be unmapped before they are gone.
        del self.head, self.slots
        self.memory.close()


class PreviewWriter:
    """The live process's side; owns the memory. ``offer`` belongs to the thread of the frames."""

    def __init__(self, size: tuple[int, int]) -> None:
        """``size`` (width, height) of the pictures that will be offered. Raises OSError without shared memory."""
        self.size = preview_size(size)
        memory = SharedMemory(create=True, size=_bytes(self.size))
        self._memory: SharedMemory | None = memory
        self._shared = _Shared(memory, self.size)
        self.name = memory.name
        self._served, self._slot, self._next_ns = 0, 0, 0
        self._before: U8 = np.zeros((self.size[1], self.size[0], 3), np.uint8)
        self._before_index = -1
        self.made = 0
        """Pictures made so far."""

    def wanted(self, now_ns: int) -> bool:
        """Whether a picture was asked for and is due."""
        return int(self._shared.head[_WANTED]) != self._served and now_ns >= self._next_ns

    def hurry(self, *, busy: bool) -> None:
        """``busy``: the frames need all the time there is."""
        self._shared.head[_EVERY_MS] = _EARLY * 1e3 / (BUSY_RATE_HZ if busy else RATE_HZ)

    def offer_before(self, pixels: U8, index: int) -> None:
        """What the camera sees, (H, W, 3), if somebody looks at it; ``offer`` of the same frame follows."""
        if VIEWS[int(self._shared.head[_VIEW])] == "split":
            _reduce(pixels, self._before)
            self._before_index = index

    def offer(self, after: U8, index: int, now_ns: int, *, covered: bool) -> None:
        """Reduce the (H, W, 3) picture that leaves into the next slot."""
        head = self._shared.head
        view = int(head[_VIEW])
        if VIEWS[view] == "split" and self._before_index != index:
            return  # asked for while this frame was worked on: the next one has both
        self._served, self._next_ns = int(head[_WANTED]), now_ns + int(head[_EVERY_MS]) * 1_000_000
        numbers, small_before, small_after = self._shared.slots[self._slot]
        was_split = VIEWS[int(numbers[_SLOT_VIEW])] == "split"
        self.made += 1
        numbers[_BEGUN] = self.made
        _reduce(after, small_after)
        if VIEWS[view] == "split":
            np.copyto(small_before, self._before)
        elif was_split:  # the wearer's picture does not stay in the memory
            small_before.fill(0)
        numbers[_INDEX], numbers[_SLOT_VIEW], numbers[_COVERED] = index, view, covered
        numbers[_FINISHED] = self.made
        head[_NEWEST] = self._slot + 1
        self._slot = (self._slot + 1) % SLOTS

    def close(self) -> None:
        """Free the memory. May be called twice."""
        if self._memory is None:
            return
        self._shared.close()
        self._memory.unlink()
        self._memory = None


class PreviewReader:
    """The companion's side."""

    def __init__(self, name: str) -> None:
        """Raises FileNotFoundError when the live process is gone, ValueError for memory of another kind."""
        self._shared = _Shared(_attach(name), None)
        self._seen, self._seen_s = 0, 0.0

    def due_s(self) -> float:
        """Seconds until it is time to ask for another picture than the newest that was given out."""
        every_s = float(self._shared.head[_EVERY_MS]) / 1e3
        return max(0.0, self._seen_s + every_s - _ASK_EARLY_S - time.monotonic())

    def ask(self, view: View) -> None:
        """A newer picture, please."""
        self._shared.head[_VIEW] = VIEWS.index(view)
        self._shared.head[_WANTED] += 1

    def newest(self) -> Preview | None:
        """A picture that was not given out before, or None."""
        slot = int(self._shared.head[_NEWEST]) - 1
        if not 0 <= slot < SLOTS:
            return None
        numbers, before, after = self._shared.slots[slot]
        number = int(numbers[_FINISHED])
        if number <= self._seen or int(numbers[_BEGUN]) != number:
            return None
        split = VIEWS[int(numbers[_SLOT_VIEW])] == "split"
        found = Preview(int(numbers[_INDEX]), bool(numbers[_COVERED]), after.copy(), before.copy() if split else None)
        if int(numbers[_BEGUN]) != number:  # written over meanwhile, which takes two further pictures
            return None
        self._seen, self._seen_s = number, time.monotonic()
        return found

    def close(self) -> None:
        """Let go of the memory; the live process frees it."""
        self._shared.close()


def _attach(name: str) -> SharedMemory:
    """The memory of another process. Before Python 3.13 a process that only looks would free it at its own end."""
    if sys.version_info >= (3, 13):
        return SharedMemory(name, track=False)
    memory = SharedMemory(name)
    if os.name == "posix":
        from multiprocessing import resource_tracker

        resource_tracker.unregister(memory._name, "shared_memory")  # type: ignore[attr-defined]
    return memory
