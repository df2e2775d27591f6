"""What forgetting a person leaves, and why: some of it on purpose, some because it is out of reach."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from calibration.consent import SignedRecord
from calibration.consent_forget import shows, standing_places
from calibration.consent_store import ConsentStore
from calibration.profile_store import ProfileStore
from engines.errors import DataError
from engines.faceset import read_index
from engines.persona import SUFFIX

_MOST = 8


@dataclass(frozen=True, slots=True)
class Left:
    """One thing that stays."""

    what: str
    why: str
    items: tuple[str, ...] = ()
    """Names or paths of it, as far as they are known."""

    def line(self) -> str:
        """For people."""
        more = f" and {len(self.items) - _MOST} more" if len(self.items) > _MOST else ""
        named = f" ({', '.join(self.items[:_MOST])}{more})" if self.items else ""
        return f"{self.what}{named}: {self.why}"


def left_of(store: ConsentStore, name: str) -> list[Left]:
    """All that is known to stay of the persona ``name`` after ``forget``; nothing for a name that nobody had here.

    Raises AuditError when the log was changed.
    """
    events = [entry for entry in store.log.entries() if entry.persona == name]
    records = [r for _, r in store.records() if isinstance(r, SignedRecord) and r.record.persona == name]
    if not events and not records:
        return _unnamed_profiles(store)
    consents = {r.digest for r in records} | {str(e.details["consent"]) for e in events if "consent" in e.details}
    footage = dict.fromkeys(media.name for r in records for media in r.record.footage)
    found = [Left("the footage", "it is the person's, and was never copied", tuple(footage))] if footage else []
    if records:
        numbers = tuple(r.digest[:16] for r in records)
        found.append(Left("signed records and revocations", "they prove what was allowed; no face is in them", numbers))
    why = (
        "the persona's name, times, digests and folders, no face: each line holds the hash of the one before, and"
        " without one of them nobody could prove any more what was done, and what was forgotten"
    )
    found.append(Left("the audit log", why, (str(store.log.folder),)))
    brought = _paths(e.details.get("file") for e in events if e.event == "import")
    if given := tuple(str(path) for path in brought if shows(path, name, consents)):
        found.append(Left("files that the persona was imported from", "they were made elsewhere: delete them", given))
    standing = [path.resolve() for path in standing_places(store, name)]
    out = [path for path in _paths(e.details.get("out") for e in events) if path.suffix == SUFFIX]
    if moved := tuple(str(path) for path in out if path.resolve() not in standing and not path.exists()):
        found.append(
            Left("exported files that lie elsewhere now, or nowhere", "if they were moved, delete them", moved)
        )
    folders = _paths(e.details.get("folder") for e in events)
    if torn := tuple(str(path) for path in folders if _is_torn(path, name)):
        found.append(Left("face sets that are too damaged to say whose they are", "look, and delete them", torn))
    return [*found, *_unnamed_profiles(store)]


OUT_OF_REACH = Left(
    "whatever was copied or recorded",
    "copies of the persona on other machines and in backups, recordings and films with it, beginnings of films"
    " (FILE.render), pages of train report. A revocation stops copies where personacam runs: personacam consent revoke",
)


def _paths(values: Iterable[object]) -> list[Path]:
    return [Path(text) for text in dict.fromkeys(v for v in values if isinstance(v, str))]


def _is_torn(folder: Path, name: str) -> bool:
    """Whether faces lie there, and nothing can be read of whom."""
    if not any(folder.glob(f"{name}-*.npz")) and not any(folder.glob("gathered.npz")):
        return False
    try:
        read_index(folder)
    except DataError:
        return True
    return False


def _unnamed_profiles(store: ConsentStore) -> list[Left]:
    """Calibrations of a face that do not say whose: they may be this person's."""
    profiles, found = ProfileStore(store.home), []
    for name in profiles.names():
        try:
            profile = profiles.load(name)
        except DataError:
            continue
        if profile.wearer is not None and profile.person is None:
            found.append(name)
    if not found:
        return []
    why = "they do not say whose face was calibrated; if it is theirs: personacam calibrate edit PROFILE wearer=null"
    return [Left("profiles", why, tuple(found))]
