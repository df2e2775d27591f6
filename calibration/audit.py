"""What was done with personas of real people: an append-only log that shows if it was changed.

    FOLDER/log.jsonl    one canonical JSON object a line: seq, time, event, persona, details, previous, hash
    FOLDER/head.json    seq and hash of the last line, and the latest time that this machine ever showed

``hash`` is the sha256 of the line without it, ``previous`` the hash of the line before, so that no line can be changed,
removed or put in between unseen; the head shows when lines at the end are gone. A line that a crash tore is cut off at
the next append, and a line ``repair`` says so. Whoever may write to the folder can make a new log from nothing; then
the personas are older than their log.

Names are of personas, not of people, and stay when everything else of a persona is forgotten.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from calibration.consent import as_text, when
from engines.errors import AuditError
from engines.files import write_atomic
from engines.folder_lock import FolderLock
from engines.strict_json import canonical, strict_object

LOG = "log.jsonl"
HEAD = "head.json"
FIRST = "0" * 64
LOCK_S = 10.0
MAX_LINE = 64 << 10
_POLL_S = 0.02
_FIELDS = {"seq", "time", "event", "persona", "details", "previous", "hash"}

Event = Literal[
    "consent", "renew", "extract", "train", "export", "import", "run", "revoke", "forget", "repair", "clock", "restart"
]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line."""

    seq: int
    time: str
    event: str
    persona: str
    details: Mapping[str, Any]
    previous: str
    hash: str

    def fields(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "seq": self.seq, "time": self.time, "event": self.event, "persona": self.persona,
            "details": dict(self.details), "previous": self.previous, "hash": self.hash,
        }  # fmt: skip

    def true_hash(self) -> str:
        """What ``hash`` must be."""
        return hashlib.sha256(canonical({k: v for k, v in self.fields().items() if k != "hash"})).hexdigest()


@dataclass(frozen=True, slots=True)
class Head:
    """What the log ended with."""

    seq: int
    hash: str
    latest: str | None
    """The latest time ever shown; None: nothing was logged yet."""


_EMPTY = Head(-1, FIRST, None)


class AuditLog:
    """A folder's log. Any number of processes may append."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = folder / LOG
        self._head = folder / HEAD

    def append(self, event: Event, persona: str, details: Mapping[str, Any], now: datetime) -> Entry:
        """Add a line; on disk when this returns. Raises AuditError when it cannot be written or the log was changed."""
        with self._locked():
            return self._append(event, persona, details, as_text(now))

    def latest(self) -> datetime | None:
        """The latest time that any line or head shows. Raises AuditError when the end of the log was changed."""
        head = self._read_head()
        self._tail(head)
        return when(head.latest) if head.latest else None

    def entries(self) -> list[Entry]:
        """All lines, checked. Raises AuditError that names the first that is wrong. A torn last line is left out."""
        head = self._read_head()  # before the lines: others may append meanwhile
        entries: list[Entry] = []
        previous = FIRST
        for number, line in enumerate(self._lines()):
            if not line.endswith(b"\n"):
                break  # torn by a crash; the next append repairs it
            entry = _parse(line, number + 1)
            if entry.seq != number or entry.previous != previous or entry.hash != entry.true_hash():
                raise self._changed(f"line {number + 1} does not follow from the one before")
            previous = entry.hash
            entries.append(entry)
        self._check_end(entries, head)
        return entries

    def set_clock(self, now: datetime) -> Entry:
        """Let the clock begin again at ``now``, because it was wrong before. Leaves a line that says so."""
        with self._locked():
            head = self._read_head()
            details = {"was": head.latest}
            self._write_head(replace(head, latest=as_text(now)))
            return self._append("clock", "", details, as_text(now), latest=as_text(now))

    def restart(self, now: datetime) -> Path | None:
        """Put a changed log aside and begin a new one that says so. The latest time stays. Returns the old file."""
        with self._locked():
            try:
                head = self._read_head()
            except AuditError:
                head = _EMPTY
            old = None
            if self._log.exists():
                old = self._log.with_name(f"log-{now:%Y%m%d-%H%M%S}.jsonl")
                self._log.replace(old)
            latest = max(filter(None, (head.latest, as_text(now))))
            self._write_head(Head(-1, FIRST, latest))
            self._append("restart", "", {"old": old.name if old else None}, as_text(now))
        return old

    # ---- inside ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time, across processes; waits a little for others."""
        deadline = time.monotonic() + LOCK_S
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            while True:
                try:
                    lock = FolderLock(self.folder)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise AuditError(
                            f"another program holds the log {self.folder} for {LOCK_S:.0f} s",
                            hint="end it and try again",
                        ) from None
                    time.sleep(_POLL_S)
            try:
                yield
            finally:
                lock.release()
        except OSError as error:
            raise AuditError(
                f"the log {self._log} cannot be written: {error.strerror or error}",
                hint="free some space and check the rights of the folder; without the log nothing is let pass",
            ) from error

    def _append(
        self, event: Event, persona: str, details: Mapping[str, Any], text: str, latest: str | None = None
    ) -> Entry:
        head = self._read_head()
        last, torn = self._tail(head)
        if torn:
            last = self._repair(last, torn, text)
        entry = _chained(last, text, event, persona, details)
        self._write(entry)
        times = [t for t in (head.latest, text) if t]
        self._write_head(Head(entry.seq, entry.hash, latest or max(times)))
        return entry

    def _write(self, entry: Entry) -> None:
        line = canonical(entry.fields()) + b"\n"
        if len(line) > MAX_LINE:
            raise AuditError(f"a line of {len(line)} bytes is too long for the log", hint="log less")
        with self._log.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _repair(self, last: Entry | None, torn: bytes, text: str) -> Entry:
        """Cut a torn line off and note it."""
        with self._log.open("r+b") as file:
            file.truncate(self._log.stat().st_size - len(torn))
        details = {"torn_bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}
        entry = _chained(last, text, "repair", "", details)
        self._write(entry)
        return entry

    def _lines(self) -> Iterator[bytes]:
        try:
            with self._log.open("rb") as file:
                while line := file.readline(MAX_LINE + 1):
                    if len(line) > MAX_LINE:
                        raise self._changed("a line is too long")
                    yield line
        except FileNotFoundError:
            return

    def _tail(self, head: Head) -> tuple[Entry | None, bytes]:
        """The last whole line, checked against the head, and what a crash left after it."""
        try:
            with self._log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 3 * MAX_LINE))
                end = file.read()
        except FileNotFoundError:
            end = b""
        *lines, torn = end.split(b"\n")
        last = _parse(lines[-1] + b"\n", "last") if lines else None
        if last is not None and last.hash != last.true_hash():
            raise self._changed("its last line was changed")
        before = last.seq if last else -1
        # A crash between the line and the head leaves the head behind (two lines, when the first was a repair).
        if before < head.seq or (before == head.seq and last is not None and last.hash != head.hash):
            raise self._changed(f"it ends with line {before + 1}, but {head.seq + 1} were written")
        return last, torn

    def _check_end(self, entries: list[Entry], head: Head) -> None:
        if len(entries) <= head.seq:
            raise self._changed(f"it ends with line {len(entries)}, but {head.seq + 1} were written")
        if head.seq >= 0 and entries[head.seq].hash != head.hash:
            raise self._changed(f"line {head.seq + 1} is not the one that was written")

    def _read_head(self) -> Head:
        try:
            value = strict_object(self._head.read_bytes())
            head = Head(int(value["seq"]), str(value["hash"]), value["latest"])
            if head.latest is not None:
                when(head.latest)
        except FileNotFoundError:
            if self._log.exists() and self._log.stat().st_size:
                first = next(self._lines())
                if first.endswith(b"\n") and _parse(first, 1).seq == 0 and len(list(self._lines())) <= 2:
                    return _EMPTY  # a crash after the very first line
                raise self._changed(f"{HEAD} is gone") from None
            return _EMPTY
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._changed(f"{HEAD} is damaged") from error
        return head

    def _write_head(self, head: Head) -> None:
        write_atomic(self._head, canonical({"seq": head.seq, "hash": head.hash, "latest": head.latest}))

    def _changed(self, how: str) -> AuditError:
        return AuditError(
            f"the log {self._log} was changed or damaged: {how}",
            hint="put back a copy, or begin a new one, which says so: personacam audit restart",
        )


def _chained(last: Entry | None, text: str, event: Event, persona: str, details: Mapping[str, Any]) -> Entry:
    previous = last.hash if last else FIRST
    plain = json.loads(json.dumps(details))  # what a reader will see, so that the hash fits
    entry = Entry(last.seq + 1 if last else 0, text, event, persona, plain, previous, "")
    return replace(entry, hash=entry.true_hash())


def _parse(line: bytes, number: int | str) -> Entry:
    try:
        value = strict_object(line)
        if value.keys() != _FIELDS or type(value["seq"]) is not int or canonical(value) + b"\n" != line:
            raise ValueError("other fields")
        entry = Entry(**value)
        when(entry.time)
    except (ValueError, TypeError) as error:
        raise AuditError(
            f"line {number} of the audit log is damaged: {error}",
            hint="put back a copy, or begin a new one, which says so: personacam audit restart",
        ) from error
    return entry
