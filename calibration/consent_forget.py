"""Forgetting a person: everything that was made of their face on this machine is found, shown and removed.

Found are the persona files in the user's folder, calibrations that hold something of the person, and whatever the audit
log says was written under the name: face sets with the coverage maps beside them, runs of training with their reports,
and exported or renewed files, each only if it still says itself that it is of this person, so that nothing else is
removed that lies at the same place now. What lies in the user's enrolled/NAME is of this person even if it is too
damaged to say so. What an interruption left goes too. Engines hold a persona's weights and go too, those of earlier
trainings included: they remember the name.

What stays, and why, is for ``left_of`` in calibration.consent_left.
"""

from __future__ import annotations

import glob
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from calibration.consent import SignedRecord
from calibration.consent_gates import TIER_FOLDERS, shown_only
from calibration.consent_store import ConsentStore
from calibration.profile_store import held_of
from engines.build import model_digest
from engines.cache import STALE_S, PlanCache
from engines.errors import DataError, PersonacamError
from engines.faceset import GATHERED, MANIFEST, read_index
from engines.files import read_limited
from engines.folder_lock import LOCK, FolderLock
from engines.persona import SUFFIX, Persona, read_persona
from engines.strict_json import strict_object

Kind = Literal["persona", "face set", "coverage", "run", "engine", "profile"]
_MAX_JSON = 16 << 20
_SETTINGS = "config.json"
_FACES, _COVERAGE = "faces", ("coverage.png", "coverage.json")
"""As calibration.enrollment writes them."""
_HALF = ".{}.*.tmp"
"""What a kill leaves of a file; see engines.files.write_atomic."""
_TORN = ("{}-[0-9][0-9][0-9].npz", ".{}-[0-9][0-9][0-9].npz.*.tmp")


@dataclass(frozen=True, slots=True)
class Derived:
    """One thing that would be removed."""

    kind: Kind
    path: Path
    bytes: int
    remove: Callable[[], None]


def derived_of(store: ConsentStore, name: str, cache: PlanCache | None = None) -> list[Derived]:
    """Everything of the persona ``name`` that is still there. Raises AuditError when the log was changed."""
    events = [entry for entry in store.log.entries() if entry.persona == name]
    consents = {str(entry.details["consent"]) for entry in events if "consent" in entry.details}
    consents |= {r.digest for _, r in store.records() if isinstance(r, SignedRecord) and r.record.persona == name}
    sets = {str(entry.details["faceset"]) for entry in events if "faceset" in entry.details}
    said = {key: _paths(e.details.get(key) for e in events) for key in ("folder", "out", "file")}

    standing = standing_places(store, name)
    renewed = _paths(e.details.get("file") for e in events if e.event == "renew")
    exported = [path for path in (*said["out"], *renewed) if path.suffix == SUFFIX and path not in standing]
    exported += Path(tempfile.gettempdir()).glob(f"personacam-*/{name}{SUFFIX}")  # of a killed worker of a film
    personas = [path for path in standing if path.is_file()]
    personas += [path for path in dict.fromkeys(exported) if shows(path, name, consents)]
    found = [_file("persona", path) for path in personas]
    found += [_file("persona", half) for path in (*standing, *exported) for half in _halves(path)]
    for folder in said["folder"]:
        files = _faceset_files(folder, name, consents)
        if files:
            found.append(_folder_of_files("face set", folder, files))
            found += _coverage(folder)
    runs = [path for path in said["out"] if path.is_dir()]
    found += [_run(path, name) for path in runs if _learned_from(path, consents, sets) or _just_begun(path)]
    found += _rest(store.home.resolve() / "enrolled" / name, name, {thing.path for thing in found})
    found += [Derived("profile", held.path, held.bytes, held.remove) for held in held_of(store.home, name)]
    if cache is not None:
        found += _engines(name, personas, cache)
    return found


def standing_places(store: ConsentStore, name: str) -> list[Path]:
    """Where persona files of the name lie or would lie, one for each tier."""
    return [store.home / "personas" / tier / f"{name}{SUFFIX}" for tier in TIER_FOLDERS]


def forget(store: ConsentStore, name: str, things: Iterable[Derived], now: datetime) -> list[str]:
    """Remove ``things`` and log it. Returns what could not be removed, one line each."""
    failures, removed = [], 0
    for thing in things:
        try:
            thing.remove()
            removed += 1
        except (OSError, PersonacamError) as error:
            failures.append(f"{thing.kind} {thing.path}: {error}")
    store.log.append("forget", name, {"removed": removed, "failed": len(failures)}, now)
    return failures


def _paths(values: Iterable[object]) -> list[Path]:
    return [Path(text) for text in dict.fromkeys(v for v in values if isinstance(v, str))]


def _file(kind: Kind, path: Path) -> Derived:
    return Derived(kind, path, path.stat().st_size, lambda: path.unlink(missing_ok=True))


def _read(path: Path) -> Persona | None:
    try:
        return read_persona(path, admit=shown_only)
    except PersonacamError:
        return None


def _halves(path: Path) -> list[Path]:
    return sorted(path.parent.glob(_HALF.format(glob.escape(path.name)))) if path.parent.is_dir() else []


def shows(path: Path, name: str, consents: set[str]) -> bool:
    """Whether the file ``path`` is a persona of this name under one of the records ``consents`` (digests)."""
    persona = _read(path)
    chain = persona.manifest.chain if persona else None
    return (
        persona is not None
        and persona.manifest.name == name
        and chain is not None
        and not consents.isdisjoint({chain.consent, *chain.earlier})
    )


def _faceset_files(folder: Path, name: str, consents: set[str]) -> list[Path]:
    """What a face set of one of these records consists of; nothing for another or a damaged one."""
    try:
        index = read_index(folder)
    except DataError:
        return []
    if index.info.consent not in consents:
        return []
    names = [shard.file for shard in index.shards] + [MANIFEST, LOCK, GATHERED]
    files = [path for path in (folder / name for name in names) if path.is_file()]
    # A kill leaves a shard that no manifest names, or half of one.
    people = {shard.identity for shard in index.shards} | {name}
    torn = [path for who in people for pattern in _TORN for path in folder.glob(pattern.format(glob.escape(who)))]
    torn += [path for name in (GATHERED, MANIFEST) for path in folder.glob(f".{name}.*.tmp")]
    return list(dict.fromkeys([*files, *torn]))


def _coverage(faces: Path) -> list[Derived]:
    """What enrollment drew and wrote beside a face set of this person."""
    if faces.name != _FACES:
        return []
    whole = [path for path in (faces.parent / name for name in _COVERAGE) if path.is_file()]
    files = whole + [half for name in _COVERAGE for half in _halves(faces.parent / name)]
    return [_folder_of_files("coverage", faces.parent, files)] if files else []


def _folder_of_files(kind: Kind, folder: Path, files: list[Path]) -> Derived:
    def remove() -> None:
        _refuse_in_use(folder)
        for path in files:
            path.unlink(missing_ok=True)
        _remove_if_empty(folder)  # else the user put something there
        if folder.name == _FACES:
            _remove_if_empty(folder.parent)  # made for one person, and nothing was trained yet

    return Derived(kind, folder, sum(path.stat().st_size for path in files), remove)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _refuse_in_use(folder: Path) -> None:
    """Raise DataError while another process writes there: it would go on, and make again what was removed."""
    if not folder.is_dir():
        return
    try:
        FolderLock(folder).release()
    except BlockingIOError:
        raise DataError("another process writes there", hint="end it, and forget again") from None
    (folder / LOCK).unlink(missing_ok=True)  # Windows has one now


def _rest(folder: Path, name: str, known: set[Path]) -> list[Derived]:
    """What was made for this person alone and cannot say so any more: damaged, or its record is gone."""
    found: list[Derived] = []
    faces = folder / _FACES
    if faces.is_dir() and faces not in known:
        own = [path for path in faces.iterdir() if path.suffix in {".npz", ".tmp"} or path.name in {MANIFEST, LOCK}]
        if own:
            found.append(_folder_of_files("face set", faces, own))
    if folder not in known:
        found += _coverage(faces)
    runs = sorted(folder.glob("run-*")) if folder.is_dir() else []
    return found + [_run(path, name) for path in runs if path.is_dir() and path not in known]


def _learned_from(folder: Path, consents: set[str], sets: set[str]) -> bool:
    """Whether any JSON of a run names one of these records or face sets."""
    for path in [*folder.glob("*.json"), *folder.glob("state/*.json")]:
        try:
            value = strict_object(read_limited(path, _MAX_JSON))
        except (OSError, ValueError):
            continue
        inner = value.get("identity")
        for facts in (value, inner if isinstance(inner, dict) else {}):
            if facts.get("consent") in consents or facts.get("data") in sets:
                return True
    return False


def _just_begun(folder: Path) -> bool:
    """Whether an interruption left a run that had claimed its folder and written nothing else."""
    return {path.name for path in folder.iterdir()} - {LOCK} == {_SETTINGS}


def _run(folder: Path, name: str) -> Derived:
    """All of a run, or of one that several people share only this persona's decoder and what continues the run."""
    decoders = {path.stem.removeprefix("decoder-") for path in folder.glob("decoder-*.json")}
    if decoders <= {name}:
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

        def remove() -> None:
            _refuse_in_use(folder)
            shutil.rmtree(folder)
            _remove_if_empty(folder.parent)  # what one command made lies in one folder

        return Derived("run", folder, size, remove)
    own = [*folder.glob(f"decoder-{name}.*"), *folder.glob("state/*"), *folder.glob("*.jpg"), *folder.glob("*.png")]
    return _folder_of_files("run", folder, [path for path in own if path.is_file()])


def _engines(name: str, personas: Sequence[Path], cache: PlanCache) -> list[Derived]:
    models = {model_digest(persona.swap_onnx) for persona in map(_read, personas) if persona is not None}
    own = [e.path for e in cache.entries() if e.key.model_sha256 in models or e.info.get("name") == name]
    # Of a builder that was killed, and nobody knows of whom; nothing can use them.
    halves = list(cache.folder.glob(".*.plan.*.tmp")) if cache.folder.is_dir() else []
    return [_file("engine", path) for path in (*own, *(half for half in halves if _is_old(half)))]


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime >= STALE_S
    except OSError:  # just finished
        return False
