"""A program for the test of memory: a run of the demo clip in a process of its own.

    python -m tests.realtime.resident_size 1001

Prints resident sizes in megabytes, one after every ``EVERY`` frames, as a JSON list. In the process of the tests the
size also moves with what a thousand other tests left behind.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from engines.types import Frame, Swap
from realtime.config import Settings
from realtime.session import run_session

EVERY = 20
STATM = Path("/proc/self/statm")


def resident_sizes(frames: int) -> list[float]:
    """Run so many frames of the looped clip into the null sink, and look at this process meanwhile."""
    sizes: list[float] = []

    def watch(frame: Frame, swap: Swap) -> None:
        if frame.index % EVERY == 0:
            sizes.append(int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)

    result = run_session(
        Settings(source="demo", sink=("null",), loop=True, frames=frames), say=lambda _: None, watch=watch
    )
    if result.error is not None:
        raise result.error
    return sizes


if __name__ == "__main__":
    print(json.dumps(resident_sizes(int(sys.argv[1]))))
