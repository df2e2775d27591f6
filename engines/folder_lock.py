"""One process at a time in a folder that is written to.

The lock is the operating system's, so that a kill frees it. On POSIX it is on the folder itself and leaves nothing; on
Windows, which does not open folders, on an empty file LOCK in it.
"""

from __future__ import annotations

import errno
import os
import sys
import weakref
from pathlib import Path

LOCK = ".writing.lock"

if sys.platform == "win32":
    import msvcrt

    def _open(folder: Path) -> int:
        return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _open(folder: Path) -> int:
        return os.open(folder, os.O_RDONLY)

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FolderLock:
    """Held from now until ``release``, the object's end or the process's. Two in one process exclude each other too."""

    def __init__(self, folder: Path) -> None:
        """Raises BlockingIOError while somebody else holds it, OSError when the folder cannot be opened.

        Some network file systems know no such locks; there it is held by everybody.
        """
        descriptor = _open(folder)
        self._end = weakref.finalize(self, os.close, descriptor)
        try:
            _lock(descriptor)
        except OSError as error:
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}:
                self.release()
                raise BlockingIOError(error.errno, "somebody else holds the lock", str(folder)) from error

    def release(self) -> None:
        """Let others in; twice is once."""
        self._end()
