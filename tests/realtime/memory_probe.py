"""A program for the test of memory: a run of the demo clip in a process of its own.

    python -m tests.realtime.memory_probe 721

Prints two numbers after every ``EVERY`` frames, as a JSON list of pairs, both in megabytes: the resident size, and what
the C library has handed out and not got back. Resident size alone would not do: the heap of a run holds 90 MB of free
pieces, which a leak fills first, and in the process of the tests it moves with what a thousand other tests left behind.
Start it with PYTHONMALLOC=malloc, so that small objects are handed out by the C library too.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path

from engines.types import Frame, Swap
from realtime.config import Settings
from realtime.session import run_session

EVERY = 10
STATM = Path("/proc/self/statm")


class _Heap(ctypes.Structure):
    """``struct mallinfo2`` of malloc.h."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def can_measure() -> bool:
    """Linux with glibc 2.33 or newer."""
    return STATM.exists() and hasattr(ctypes.CDLL(None), "mallinfo2")


def memory_mb() -> tuple[float, float]:
    """Resident size, and bytes handed out: in arenas and in mappings of their own."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Heap
    heap = mallinfo2()
    resident = int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resident / 1e6, (heap.uordblks + heap.hblkhd) / 1e6


def run(frames: int) -> list[tuple[float, float]]:
    """So many frames of the looped clip into the null sink."""
    sizes: list[tuple[float, float]] = []

    def watch(frame: Frame, swap: Swap) -> None:
        if frame.index % EVERY == 0:
            sizes.append(memory_mb())

    settings = Settings(source="demo", sink=("null",), loop=True, frames=frames)
    result = run_session(settings, say=lambda _: None, watch=watch)
    if result.error is not None:
        raise result.error
    if len(sizes) != (frames - 1) // EVERY + 1:
        raise RuntimeError(f"not every frame was swapped: {result.report['policy_reasons']}")
    return sizes


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]))))
