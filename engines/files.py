"""Files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

from engines.errors import DataError


def claim_folder(folder: Path, own: str) -> None:
    """Make ``folder`` if it is not there; it may hold something only if that includes the file or folder ``own``.

    Raises DataError for a folder of something else, a file in its place, or one that cannot be made.
    """
    try:
        if folder.is_dir() and not (folder / own).exists() and any(folder.iterdir()):
            raise DataError(f"{folder} holds something else: it has no {own}", hint="choose an empty folder")
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{folder} is a file", hint="name a folder")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {folder}: {error.strerror}", hint="choose another folder") from error


def write_atomic(path: Path, data: bytes) -> None:
    """Either the old file or the whole new one, even when killed in between.

    Raises OSError, and then leaves nothing beside ``path``.
    """
    # With the process's number, so that two that write the same file do not write into one another's.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_limited(path: Path, most: int) -> bytes:
    """All bytes of a file. Raises OSError, and ValueError when there are more than ``most``."""
    with path.open("rb") as file:
        # Python takes the memory that it is asked to read beforehand, however little there is to read.
        size = os.fstat(file.fileno()).st_size
        data = file.read(min(size, most) + 1)
    if len(data) > most:
        raise ValueError(f"{path.name} has more than {most} bytes")
    return data
