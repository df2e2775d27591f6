"""The kernels, ready: from the cache, or, the first time ever, compiled by two processes at once.

    python -m realtime.compile_apart     the other process: fills the cache with its half

Compiling holds the interpreter, so threads would not help. Measured: 8.2 s of processor time for all, 4.0 and 4.2 for
the halves.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from realtime import kernels


def is_cached() -> bool:
    """Whether the costliest kernel lies in numba's cache, of whatever version; a wrong guess costs half a second."""
    from realtime.paste import paste_table

    compiled: Any = paste_table
    folder = compiled.stats.cache_path
    return folder is not None and any(Path(folder).glob("paste.paste_table-*.nbi"))


def warm_up() -> float:
    """Compile or load every kernel. Returns the seconds it took."""
    started = time.perf_counter()
    if (os.cpu_count() or 1) < 2 or is_cached():
        kernels.warm_up()
        return time.perf_counter() - started
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(_root()), *(path for path in sys.path if path)])}
    other = subprocess.Popen(
        [sys.executable, "-m", "realtime.compile_apart"], env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        kernels.warm_up_rest()
        other.wait()
    finally:
        if other.poll() is None:
            other.kill()
            other.wait()
    kernels.warm_up_paste()  # from the cache; or compiled here, if the other process could not
    return time.perf_counter() - started


def _root() -> Path:
    return Path(__file__).resolve().parents[1]


if __name__ == "__main__":
    kernels.warm_up_paste()
