"""Memory that loading needed and running does not."""

from __future__ import annotations

import ctypes
import sys


def give_back_memory() -> bool:
    """Return what was freed to the system; whether this C library can.

    Reading and compiling networks frees about 170 MB in small pieces, which glibc keeps for later requests of the same
    thread: a filter that runs for hours beside a game would hold them for ever. Takes milliseconds, without the
    interpreter lock; not for the thread of the frames.
    """
    if not sys.platform.startswith("linux"):  # elsewhere the system's allocators do so by themselves
        return False
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # musl
        return False
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    trim(0)
    return True
