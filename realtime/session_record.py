"""What a run leaves behind: its number, whom was worn from when to when, and the recordings that it made.

    FOLDER/0123456789abcdef.json      one record per session, named by its 64-bit number

The number is random. The invisible mark carries it in every swapped frame and the content credentials name it, so
that ``personacam verify`` can say on this machine: this picture left in that session. A record holds no picture, no
sound and no folder names. Whoever may write to the folder can write a record: it helps to recognise, it proves nothing
to others.
"""

from __future__ import annotations

import importlib.metadata
import secrets
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError

from engines.errors import DataError
from engines.files import read_limited, write_atomic
from engines.strict_json import canonical, strict_object

if TYPE_CHECKING:
    from engines.persona import Persona

FORMAT = "personacam-session"
VERSION = 1
FOLDER = "sessions"
"""Under the user's data folder."""
MAX_BYTES = 1 << 20
MOST_PERSONAS = 1000
"""Changes of persona that one record keeps; later ones are only counted."""


@dataclass(frozen=True, slots=True)
class WornPersona:
    """A persona, from ``since`` on."""

    name: str
    sha256: str
    """Of the persona's file."""
    kind: Literal["invented", "person"]
    consent: str | None
    """Digest of the consent record (``ConsentRecord.digest``); None for invented people."""
    since: str


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """A finished recording."""

    name: str
    """Without its folder."""
    sha256: str
    credentials: bool
    """Whether content credentials were written into it."""


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One run. Times are UTC to the second, "2026-01-31T12:00:00Z"."""

    session: str
    """The 64-bit number as 16 hexadecimal digits."""
    software: str
    """ "personacam 0.1.0"."""
    started: str
    ended: str | None
    """None: it runs, or it was killed."""
    personas: tuple[WornPersona, ...]
    """In the order in which they were worn; at least one."""
    recordings: tuple[RecordedFile, ...]
    swapped: int | None
    """Swapped frames sent; None until the end."""

    @property
    def session_id(self) -> int:
        """The number itself, 1 .. 2^64 - 1: what the invisible mark carries."""
        return int(self.session, 16)


_ADAPTER = TypeAdapter(SessionRecord)


def new_session_id() -> int:
    """Random, 1 .. 2^64 - 1."""
    return secrets.randbelow((1 << 64) - 1) + 1


def session_text(session_id: int) -> str:
    """16 hexadecimal digits. Raises ValueError outside 1 .. 2^64 - 1."""
    if not 0 < session_id < 1 << 64:
        raise ValueError(f"a session's number has 64 bits and is not 0: {session_id}")
    return f"{session_id:016x}"


def software() -> str:
    """Name and version of this program."""
    try:
        return f"personacam {importlib.metadata.version('personacam')}"
    except importlib.metadata.PackageNotFoundError:  # run from a folder that was never installed
        return "personacam unknown"


def utc_text(now: datetime | None = None) -> str:
    """UTC, to the second."""
    return (now or datetime.now(timezone.utc)).strftime("%Y-%m-%dT%H:%M:%SZ")


def worn(persona: Persona, now: datetime | None = None) -> WornPersona:
    """What a record keeps of a persona."""
    chain = persona.manifest.chain
    return WornPersona(
        persona.manifest.name,
        persona.sha256,
        persona.manifest.kind,
        chain.consent if chain else None,
        utc_text(now),
    )


class SessionStore:
    """The records of this machine, one file each."""

    def __init__(self, folder: Path) -> None:
        """``folder`` need not be there."""
        self.folder = folder

    def save(self, record: SessionRecord) -> None:
        """Write or replace a record. Raises DataError."""
        value = {"format": FORMAT, "version": VERSION, "record": asdict(record)}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self._path(record.session), canonical(value) + b"\n")
        except OSError as error:
            raise DataError(
                f"the session cannot be recorded in {self.folder}: {error.strerror or error}",
                hint="free some space and check the rights of the folder",
            ) from error

    def find(self, session_id: int) -> SessionRecord | None:
        """The record of a number; None when there is none here. Raises DataError for a damaged one."""
        path = self._path(session_text(session_id))
        return self._read(path) if path.is_file() else None

    def all(self) -> Iterator[SessionRecord]:
        """Every record, in no order; damaged ones are left out."""
        if not self.folder.is_dir():
            return
        for path in self.folder.glob("*.json"):
            try:
                yield self._read(path)
            except DataError:
                continue

    def find_file(self, sha256: str) -> SessionRecord | None:
        """The session that wrote exactly this file."""
        return next((r for r in self.all() if any(file.sha256 == sha256 for file in r.recordings)), None)

    def _path(self, session: str) -> Path:
        return self.folder / f"{session}.json"

    def _read(self, path: Path) -> SessionRecord:
        try:
            value = strict_object(read_limited(path, MAX_BYTES))
            if value.get("format") != FORMAT or value.get("version") != VERSION:
                raise ValueError("another format or version")
            record = _ADAPTER.validate_python(value["record"])
            if record.session != path.stem or not record.personas or session_text(record.session_id) != record.session:
                raise ValueError("its number is not its name, or nobody is in it")
        except (OSError, ValueError, KeyError, ValidationError) as error:
            raise DataError(f"the session record {path} is damaged: {error}", hint="delete it") from error
        return record


class Session:
    """The record of the run that is going on; it may be told things from any thread, and saves each at once."""

    def __init__(self, store: SessionStore, first: WornPersona, session_id: int | None = None) -> None:
        """Saves the beginning. Raises DataError when it cannot."""
        self._store = store
        self._lock = threading.Lock()
        self._record = SessionRecord(
            session_text(session_id or new_session_id()), software(), first.since, None, (first,), (), None
        )
        store.save(self._record)

    @property
    def record(self) -> SessionRecord:
        """As it is now."""
        with self._lock:
            return self._record

    @property
    def session_id(self) -> int:
        """For the invisible mark."""
        return self._record.session_id

    def wear(self, persona: WornPersona) -> None:
        """Another persona from now on. Raises DataError when it cannot be saved."""
        with self._lock:
            last = self._record.personas[-1]
            if last.sha256 == persona.sha256 or len(self._record.personas) >= MOST_PERSONAS:
                return
            self._save({"personas": (*self._record.personas, persona)})

    def recorded(self, file: RecordedFile) -> None:
        """A recording is finished. Raises DataError when it cannot be saved."""
        with self._lock:
            self._save({"recordings": (*self._record.recordings, file)})

    def end(self, swapped: int, now: datetime | None = None) -> None:
        """The run is over. Raises DataError when it cannot be saved."""
        with self._lock:
            self._save({"ended": utc_text(now), "swapped": swapped})

    def _save(self, changes: Mapping[str, Any]) -> None:
        self._record = replace(self._record, **changes)  # kept even if the disk is full: the next save has it too
        self._store.save(self._record)
