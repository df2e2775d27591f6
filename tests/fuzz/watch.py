"""One case at a time, watched: what it raises, writes, opens, connects to, and how much time and memory it takes."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from engines.errors import PersonacamError
from tests.fuzz.targets import Case, Target

MEMORY_BYTES = 1 << 30
"""Address space that the cases may take on top of what the program itself needs."""
_FORBIDDEN = (
    "socket.connect",
    "socket.bind",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "pickle.find_class",
)
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate", "shutil.move")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """Runs cases in a folder of their own. One per process: an audit hook cannot be taken away again."""

    def __init__(self, *, limit_memory: bool = False) -> None:
        self._folder: Path | None = None
        self._seen: list[str] = []
        readable = {sys.prefix, sys.base_prefix, "/usr", "/lib", "/proc", "/sys", "/dev", "/etc/ld", *sys.path}
        self._readable = tuple(str(Path(p or ".").resolve()) for p in readable)
        sys.addaudithook(self._audit)
        if limit_memory:
            status = Path("/proc/self/status").read_text()
            now = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmSize"))
            resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))

    def _audit(self, event: str, args: tuple[object, ...]) -> None:
        if self._folder is None:
            return
        if event == "pickle.find_class" and str(args[0]).startswith(("numba.", "copyreg", "builtins", "numpy")):
            return  # numba's kernels come out of its cache
        if event in _FORBIDDEN:
            self._seen.append(f"{event} {args[:2]!r:.200}")
        elif event in _CHANGES:
            self._look(event, args[0], writing=True)
        elif event == "open" and isinstance(args[0], (str, bytes)):
            flags = args[2] if isinstance(args[2], int) else 0
            self._look("open", args[0], writing=bool(flags & _WRITING))

    def _look(self, event: str, name: object, *, writing: bool) -> None:
        path = os.path.realpath(os.fsdecode(name)) if isinstance(name, (str, bytes, os.PathLike)) else str(name)
        inside = path.startswith(f"{self._folder}{os.sep}") or path == str(self._folder)
        if not inside and (writing or not path.startswith(self._readable)):
            self._seen.append(f"{event} of {path} for {'writing' if writing else 'reading'}")

    def run(self, target: Target, case: Case) -> str | None:
        """None when the reader behaved, or what it did, with the traceback that belongs to it."""
        place = Path(tempfile.mkdtemp(prefix="personacam-fuzz-")).resolve()
        # Deeper than the case: "../x" must not hit other cases' folders.
        folder = place / "in" / "case"
        folder.mkdir(parents=True)
        for name, data in case.items():
            (folder / name).write_bytes(data)
        self._seen.clear()
        started = time.process_time()
        self._folder = folder
        found: str | None = None
        try:
            target.read(folder)
        except PersonacamError as error:
            if not (error.message and error.hint):
                found = f"an error without message or hint: {error!r}"
        except BaseException as error:  # that is the question
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            found = "".join(traceback.format_exception(error)[-12:])
        finally:
            self._folder = None
        spent = time.process_time() - started
        if found is None and self._seen:
            found = "; ".join(self._seen[:4])
        if found is None and spent > target.seconds:
            found = f"slow: {spent:.1f} s of processor time"
        stray = [p for p in place.rglob("*") if p not in {folder, folder.parent} and folder not in p.parents]
        if found is None and stray:
            found = f"wrote {stray[:3]}"
        shutil.rmtree(place, ignore_errors=True)
        if found is not None:
            gc.collect()
        return found
