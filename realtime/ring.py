"""Outgoing pictures that are used again, but never while somebody still looks at one."""

from __future__ import annotations

import sys

import numpy as np

from engines.types import U8

PICTURES = 3
"""One that is made, one that a preview may still show, one that an encoder may still read."""
UNSHARED = 2
"""References to an array that one list or object holds, as ``sys.getrefcount`` counts: the holder, and its argument."""


class PictureRing:
    """Pictures of one size, handed out in turn. Belongs to one thread; who keeps a picture may be in any.

    A picture is free again when nobody holds the array or a view of it any more, which CPython knows at no cost: a
    sink that reads on after ``send`` keeps a reference, and lets go of it when it is done. Code that keeps a bare
    address must copy, as the contract of sinks says.
    """

    def __init__(self, size: tuple[int, int], count: int = PICTURES) -> None:
        """``size`` is (width, height). Everything is allocated here."""
        width, height = size
        self._shape = (height, width, 3)
        self._pictures: list[U8] = [np.zeros(self._shape, np.uint8) for _ in range(count)]
        self._turn = 0
        self.extra = 0
        """Pictures made beyond the ring, because all of it was held. They go when their holders let go."""

    def next(self) -> U8:
        """(H, W, 3) uint8 with anything in it. The caller's until its next call, and then whoever's keeps it."""
        for _ in range(len(self._pictures)):  # over the list, the loop itself would hold one
            self._turn = (self._turn + 1) % len(self._pictures)
            if sys.getrefcount(self._pictures[self._turn]) <= UNSHARED:
                return self._pictures[self._turn]
        self.extra += 1
        return np.zeros(self._shape, np.uint8)
