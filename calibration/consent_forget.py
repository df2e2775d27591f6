"""Forgetting a person: everything that was made of their face on this machine is found, shown and removed.

Found are the persona files in the user's folder, calibrations that hold something of the person, and whatever the audit
log says was written under the name: face sets with the coverage maps beside them, runs of training with their reports,
and exported files, each only if it still says itself that it is of this person, so that nothing else is removed that
lies at the same place now. What an interruption left goes too. Engines built from a persona's network hold its weights
and go too.

What stays: the footage, which belongs to whom it belongs; the signed records and revocations, which prove what was
allowed and what was not; the log, which gets a line more. None of them holds a face.
"""

from __future__ import annotations

import glob
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from calibration.consent import SignedRecord
from calibration.consent_gates import TIER_FOLDERS, shown_only
from calibration.consent_store import ConsentStore
from calibration.profile_store import held_of
from engines.build import model_digest
from engines.cache import PlanCache
from engines.errors import DataError, PersonacamError
from engines.faceset import GATHERED, MANIFEST, read_index
from engines.files import read_limited
from engines.folder_lock import LOCK
from engines.persona import SUFFIX, Persona, read_persona
from engines.strict_json import strict_object

Kind = Literal["persona", "face set", "coverage", "run", "engine", "profile"]
_MAX_JSON = 16 << 20
_SETTINGS = "config.json"
_FACES, _COVERAGE = "faces", ("coverage.png", "coverage.json")
"""As calibration.enrollment writes them."""
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

    standing = [store.home / "personas" / tier / f"{name}{SUFFIX}" for tier in TIER_FOLDERS]
    exported = [path for path in said["out"] if path.suffix == SUFFIX and path not in standing]
    personas = [path for path in standing if path.is_file()]
    personas += [path for path in exported if _shows(path, name, consents)]
    found = [_file("persona", path) for path in personas]
    for folder in said["folder"]:
        files = _faceset_files(folder, name, consents)
        if files:
            found.append(_folder_of_files("face set", folder, files))
            found += _coverage(folder)
    runs = [path for path in said["out"] if path.is_dir()]
    found += [_run(path, name) for path in runs if _learned_from(path, consents, sets) or _just_begun(path)]
    found += [Derived("profile", held.path, held.bytes, held.remove) for held in held_of(store.home, name)]
    if cache is not None:
        found += _engines(personas, cache)
    return found


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


def _shows(path: Path, name: str, consents: set[str]) -> bool:
    """Whether a file elsewhere still is this person's."""
    persona = _read(path)
    chain = persona.manifest.chain if persona else None
    return persona is not None and persona.manifest.name == name and chain is not None and chain.consent in consents


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
    files = [path for path in (faces.parent / name for name in _COVERAGE) if path.is_file()]
    return [_folder_of_files("coverage", faces.parent, files)] if files else []


def _folder_of_files(kind: Kind, folder: Path, files: list[Path]) -> Derived:
    def remove() -> None:
        for path in files:
            path.unlink(missing_ok=True)
        _remove_if_empty(folder)  # else the user put something there
        if folder.name == _FACES:
            _remove_if_empty(folder.parent)  # made for one person, and nothing was trained yet

    return Derived(kind, folder, sum(path.stat().st_size for path in files), remove)


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


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
            shutil.rmtree(folder)
            _remove_if_empty(folder.parent)  # what one command made lies in one folder

        return Derived("run", folder, size, remove)
    own = [*folder.glob(f"decoder-{name}.*"), *folder.glob("state/*"), *folder.glob("*.jpg"), *folder.glob("*.png")]
    return _folder_of_files("run", folder, [path for path in own if path.is_file()])


def _engines(personas: Iterable[Path], cache: PlanCache) -> list[Derived]:
    models = {model_digest(persona.swap_onnx) for persona in map(_read, personas) if persona is not None}
    return [_file("engine", entry.path) for entry in cache.entries() if entry.key.model_sha256 in models]
