"""Built plans on disk: one file each, whole or not there, shared by processes, the least recently used ones removed.

    FOLDER/<sha256 of the key>.plan    MAGIC, length of the header in 8 bytes, header (JSON), plan
    FOLDER/<sha256 of the key>.lock    empty; held by the one who builds

The header holds the key, the plan's sha256, and what the builder wants to remember. A file that does not say the key
that it is asked for, or whose plan is not the one that was written, is removed and built again. Beside these files the
folder may hold anything: nothing else is touched.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from engines.errors import CacheError
from engines.files import write_atomic

_log = logging.getLogger("personacam")

MAGIC = b"personacam plan 1\n"
LIMIT_BYTES = 2 << 30
"""Of all plans together. Those of the largest tier have 100 MB."""
MAX_HEADER_BYTES = 1 << 20
STALE_S = 600.0
"""Age of a half-written file whose writer is gone for certain."""
POLL_S = 0.1
_HINT = "personacam engines clear, or choose another folder: --cache, or PERSONACAM_CACHE"


@dataclass(frozen=True, slots=True)
class PlanKey:
    """Everything that makes a plan useless when it changes."""

    model_sha256: str
    """``build.model_digest`` of the persona's network."""
    gpu_name: str
    compute_capability: str
    """For example "8.9"."""
    driver: str
    backend: str
    backend_version: str
    precision: str
    """That was asked for."""
    shapes: str
    """Input names and shapes, for example "crop 1x128x128x3, points 1x127x2"."""

    def digest(self) -> str:
        """Name of the file."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class CachedPlan:
    """What was put."""

    data: bytes
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, as its header says; the plan itself is not looked at."""

    path: Path
    size: int
    used: float
    """Seconds since 1970."""
    key: PlanKey
    info: Mapping[str, Any] = field(default_factory=dict)


class _BrokenError(Exception):
    """The file is not what was written; the text says how."""


class PlanCache:
    """A folder of plans. Any number of processes and threads may use it at once."""

    def __init__(
        self, folder: Path, limit_bytes: int = LIMIT_BYTES, *, say: Callable[[str], None] = _log.warning
    ) -> None:
        """``say`` gets one line for each file that is removed because it is broken or foreign."""
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._say = say

    def path(self, key: PlanKey) -> Path:
        """Where the plan of ``key`` lies, if it is there."""
        return self.folder / f"{key.digest()}.plan"

    def get(self, key: PlanKey) -> bytes | None:
        """The plan, or None when it has to be built."""
        found = self.find(key)
        return None if found is None else found.data

    def find(self, key: PlanKey) -> CachedPlan | None:
        """The plan and what was remembered with it; counts as a use. A broken or foreign file is removed."""
        path = self.path(key)
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._say(f"{path.name} cannot be read ({error.strerror}); the plan is built again")
            return None
        try:
            header, start = _header(raw)
            if header["key"] != asdict(key):
                raise _BrokenError("is of another key")
            data = raw[start:]
            if hashlib.sha256(data).hexdigest() != header["sha256"]:
                raise _BrokenError("is damaged")
        except _BrokenError as error:
            self._drop(path, str(error))
            return None
        with suppress(OSError):  # a read-only folder still serves
            os.utime(path)
        return CachedPlan(data, header["info"])

    def put(self, key: PlanKey, data: bytes, info: Mapping[str, Any] | None = None) -> Path:
        """Write a plan, then remove the least recently used others beyond the limit.

        The file appears whole or not at all. Raises CacheError when it cannot be written, above all when the disk is
        full; what was there stays.
        """
        head = {"key": asdict(key), "sha256": hashlib.sha256(data).hexdigest(), "info": dict(info or {})}
        header = json.dumps(head, sort_keys=True).encode()
        path = self.path(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_stale()
            write_atomic(path, MAGIC + len(header).to_bytes(8, "little") + header + data)
        except OSError as error:
            what = "the disk is full" if error.errno in {errno.ENOSPC, errno.EDQUOT} else error.strerror
            raise CacheError(f"the plan cannot be kept in {self.folder}: {what}", hint=_HINT) from error
        self._shrink(keep=path)
        return path

    def discard(self, key: PlanKey, why: str) -> None:
        """Remove a plan that turned out to be useless, for example "cannot be loaded", with a line that says so."""
        path = self.path(key)
        if path.exists():
            self._drop(path, why)

    @contextmanager
    def lock(self, key: PlanKey, waiting: Callable[[], None] | None = None) -> Iterator[bool]:
        """Hold the right to build ``key``; gives whether it had to be waited for, so look with :meth:`get` again.

        ``waiting`` is called once when another process holds it. A process that dies lets go. Not to be taken twice by
        one thread. Raises CacheError when the folder cannot be written.
        """
        waited = False
        while True:
            file = self._open_lock(key)
            if _try_lock(file):
                break
            file.close()
            if not waited and waiting is not None:
                waiting()
            waited = True
            time.sleep(POLL_S)
        with file:
            try:
                yield waited
            finally:
                _unlock(file)

    def _open_lock(self, key: PlanKey) -> IO[bytes]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return (self.folder / f"{key.digest()}.lock").open("a+b")
        except OSError as error:
            raise CacheError(f"{self.folder} cannot be used: {error.strerror}", hint=_HINT) from error

    def entries(self) -> list[Entry]:
        """All plans, the most recently used first. Broken files are removed."""
        found = []
        for path in self._plans():
            try:
                status = path.stat()
                with path.open("rb") as file:
                    header, _ = _header(file.read(len(MAGIC) + 8 + MAX_HEADER_BYTES), whole=False)
                key = PlanKey(**header["key"])
                if path != self.path(key):
                    raise _BrokenError("is of another key")
            except OSError:  # removed by another process meanwhile, or not readable
                continue
            except (_BrokenError, TypeError) as error:
                self._drop(path, str(error) if isinstance(error, _BrokenError) else "is of another version")
                continue
            found.append(Entry(path, status.st_size, status.st_mtime, key, header["info"]))
        return sorted(found, key=lambda entry: -entry.used)

    def clear(self) -> tuple[int, int]:
        """Remove all plans, half-written ones, and locks that nobody holds. Returns how many plans, and bytes."""
        count = size = 0
        for path in self._plans():
            with suppress(OSError):
                bytes_there = path.stat().st_size
                path.unlink()
                count, size = count + 1, size + bytes_there
        self._remove_stale(age_s=0.0)
        for path in self.folder.glob("*.lock") if self.folder.is_dir() else ():
            if _is_ours(path):
                _remove_free_lock(path)
        return count, size

    def _plans(self) -> list[Path]:
        return [p for p in self.folder.glob("*.plan") if _is_ours(p)] if self.folder.is_dir() else []

    def _drop(self, path: Path, how: str) -> None:
        with suppress(OSError):
            path.unlink()
        self._say(f"the kept plan {path.name[:12]}… {how}; it was removed and is built again when it is needed")

    def _remove_stale(self, age_s: float = STALE_S) -> None:
        """Half-written files of writers that were killed."""
        for path in self.folder.glob(".*.plan.*.tmp") if self.folder.is_dir() else ():
            with suppress(OSError):
                if time.time() - path.stat().st_mtime >= age_s:
                    path.unlink()

    def _shrink(self, keep: Path) -> None:
        """The newest plan stays even if it is alone beyond the limit: it is about to be used."""
        rows = []
        for path in self._plans():
            with suppress(OSError):
                status = path.stat()
                rows.append((path == keep, status.st_mtime, status.st_size, path))
        total = sum(size for _, _, size, _ in rows)
        for is_kept, _, size, path in sorted(rows):
            if total <= self.limit_bytes or is_kept:
                break
            with suppress(OSError):  # Windows: another process reads it
                path.unlink()
                total -= size


def _is_ours(path: Path) -> bool:
    return len(path.stem) == 64 and set(path.stem) <= set("0123456789abcdef")


def _header(raw: bytes, *, whole: bool = True) -> tuple[dict[str, Any], int]:
    """(header, where the plan begins). Raises _BrokenError."""
    begin = len(MAGIC) + 8
    if not raw.startswith(MAGIC):
        raise _BrokenError("is no plan of this program")
    length = int.from_bytes(raw[len(MAGIC) : begin], "little")
    if length > MAX_HEADER_BYTES or begin + length > len(raw):
        raise _BrokenError("is damaged")
    try:
        header = json.loads(raw[begin : begin + length])
        if not (isinstance(header["key"], dict) and isinstance(header["info"], dict)):
            raise _BrokenError("is damaged")
        if whole and not isinstance(header["sha256"], str):
            raise _BrokenError("is damaged")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _BrokenError("is damaged") from error
    return header, begin + length


# ---- locks between processes -----------------------------------------------------------------------------------------

if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

    def _remove_free_lock(path: Path) -> None:
        with suppress(OSError):  # refused while somebody has it open
            path.unlink()

else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES, errno.EINTR}:
                return False
            raise CacheError(f"{file.name} cannot be locked: {error.strerror}", hint=_HINT) from error
        try:  # clear() may have removed it between opening and locking: then nobody else finds this one
            return os.path.samestat(os.fstat(file.fileno()), Path(file.name).stat())
        except OSError:
            return False

    def _unlock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)

    def _remove_free_lock(path: Path) -> None:
        with suppress(OSError, CacheError), path.open("a+b") as file:
            if _try_lock(file):
                path.unlink(missing_ok=True)


# ---- keys ------------------------------------------------------------------------------------------------------------


def driver_release() -> str:
    """The NVIDIA driver's release, for example "580.95.05", or "none". Asked of NVML, which every driver brings."""
    try:
        name = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
        nvml = getattr(ctypes, "WinDLL", ctypes.CDLL)(name)
    except OSError:
        return "none"
    release = ctypes.create_string_buffer(96)
    if nvml.nvmlInit_v2() != 0:
        return "none"
    found = nvml.nvmlSystemGetDriverVersion(release, len(release)) == 0
    nvml.nvmlShutdown()
    return release.value.decode(errors="replace") if found else "none"


def default_folder() -> Path:
    """PERSONACAM_CACHE, or the user's cache folder."""
    import platformdirs

    named = os.environ.get("PERSONACAM_CACHE")
    own = Path(named) if named else Path(platformdirs.user_cache_dir("personacam", appauthor=False))
    return own / "engines"
