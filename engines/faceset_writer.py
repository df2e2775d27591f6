"""Writing a face set (see ``faceset`` for the format): shards first, each with the manifest that names it after it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import DataError
from engines.faceset import EXTRAS, MANIFEST, VERSION, Faces, FaceSetInfo, Role, ShardEntry, Split, read_index
from engines.faceset_codec import I64, encode_crop, encode_png, npz_bytes, pack
from engines.files import claim_folder, write_atomic
from engines.folder_lock import LOCK, FolderLock
from engines.types import U8

_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True, slots=True)
class EncodedShard:
    """One shard as bytes, ready to be written. Processes that render make it, the one that writes does not decode."""

    identity: str
    role: Role
    split: Split
    states: tuple[int, ...]
    part: int | None
    """Which part of the identity; None takes the next free number."""
    data: bytes


def encode_shard(info: FaceSetInfo, faces: Faces, part: int | None = None) -> EncodedShard:
    """Compress the pictures of ``faces`` and pack everything.

    Raises DataError for arrays of the wrong shape or type, or other extras than the set has.
    """
    _check_arrays(info, faces)
    arrays: dict[str, NDArray[Any]] = {
        "states": np.asarray(faces.states, np.int64),
        "landmarks": np.asarray(faces.landmarks, np.float32),
        "pose": np.asarray(faces.pose, np.float32),
    }
    arrays |= pack("crops", [encode_crop(c, info.picture, info.quality) for c in faces.crops])
    arrays |= pack("masks", [encode_png(m) for m in faces.masks])
    for name in info.extras:
        if name == "classes":
            arrays |= pack(name, [encode_png(c) for c in faces.extras[name]])
        else:
            arrays[name] = np.asarray(faces.extras[name], EXTRAS[name][1])
    states = tuple(int(s) for s in faces.states)
    return EncodedShard(faces.identity, faces.role, faces.split, states, part, npz_bytes(arrays))


def _check_arrays(info: FaceSetInfo, faces: Faces) -> None:
    n, size = len(faces.states), info.size
    shapes = (faces.crops.shape, faces.masks.shape, faces.landmarks.shape, faces.pose.shape)
    if n == 0 or shapes != ((n, size, size, 3), (n, size, size), (n, 68, 2), (n, 3)):
        raise DataError(f"shapes {shapes} do not fit {n} states of size {size}", hint="see the fields of Faces")
    if faces.crops.dtype != np.uint8 or faces.masks.dtype != np.uint8:
        raise DataError("crops and masks must be uint8", hint="convert them before adding")
    if set(faces.extras) != set(info.extras):
        raise DataError(
            f"the set has the extras {sorted(info.extras)}, these faces {sorted(faces.extras)}",
            hint="give every shard the same ones",
        )
    for name, values in faces.extras.items():
        wanted = (n, *info.extra_shape(name))
        if values.shape != wanted or not np.can_cast(values.dtype, EXTRAS[name][1], "same_kind"):
            raise DataError(
                f"{name} is {values.dtype} {values.shape}, not {EXTRAS[name][1].__name__} {wanted}",
                hint="see EXTRAS of engines.faceset",
            )


def _differences(there: FaceSetInfo, wanted: FaceSetInfo) -> str:
    """Of two descriptions, for people."""
    pairs = ((f.name, getattr(there, f.name), getattr(wanted, f.name)) for f in fields(FaceSetInfo))
    return "; ".join(f"{name} {is_!r:.120}, not {should!r:.120}" for name, is_, should in pairs if is_ != should)


class FaceSetWriter:
    """Adds identities to a folder. Finished shards survive a kill; opening the folder again continues it.

    Raises DataError when the folder holds another set or a damaged manifest, cannot be written, or while another
    writer has it: two that write into one folder would forget one another's shards. ``close`` lets the next one in, as
    do the end of a ``with`` block and of the writer.
    """

    def __init__(self, folder: Path, info: FaceSetInfo) -> None:
        self.folder = folder
        self.info = info
        self._shards: dict[str, ShardEntry] = {}
        self._of: dict[str, list[ShardEntry]] = {}
        for name in info.extras:
            info.extra_shape(name)
        try:
            claim_folder(folder, LOCK if (folder / LOCK).exists() else MANIFEST)
            self._lock = FolderLock(folder)
            if not (folder / MANIFEST).exists():
                self._write_manifest()
        except BlockingIOError as error:
            raise DataError(
                f"somebody else is writing to {folder}", hint="wait until that is done or end it; this goes on then"
            ) from error
        except OSError as error:
            raise DataError(f"cannot write to the folder {folder}: {error}", hint="choose another folder") from error
        index = read_index(folder)
        if index.info != info:
            raise DataError(
                f"{folder} holds another face set: {_differences(index.info, info)}", hint="choose an empty folder"
            )
        for shard in index.shards:
            self._remember(shard)

    def __enter__(self) -> FaceSetWriter:  # noqa: PYI034 - Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another writer in. Nothing must be added afterwards."""
        self._lock.release()

    def finished(self, identity: str) -> set[int]:
        """States of an identity that are safely on disk."""
        return {s for shard in self._of.get(identity, ()) for s in shard.states}

    def _remember(self, shard: ShardEntry) -> None:
        self._shards[shard.file.lower()] = shard  # some file systems do not tell capitals apart
        self._of.setdefault(shard.identity, []).append(shard)

    def add(
        self,
        identity: str,
        role: Role,
        split: Split,
        states: Sequence[int] | I64,
        crops: U8,
        masks: U8,
        landmarks: NDArray[np.floating],
        pose: NDArray[np.floating],
        extras: Mapping[str, NDArray[Any]] | None = None,
    ) -> Path:
        """Write one shard, the identity's next; arrays as in ``Faces``. Raises DataError as ``encode_shard``, ``put``.

        When this returns, the shard is on disk and in the manifest.
        """
        numbers = np.asarray(states, np.int64)
        points, angles = np.asarray(landmarks, np.float32), np.asarray(pose, np.float32)
        faces = Faces(identity, role, split, numbers, crops, masks, points, angles, extras or {})
        return self.put(encode_shard(self.info, faces))

    def put(self, shard: EncodedShard) -> Path:
        """Write a shard and the manifest.

        Raises DataError when the identity already has one of the states or another role or split, when its name is no
        file name, or when the disk refuses (full, read-only).
        """
        part = shard.part
        if part is None:
            part = len(self._of.get(shard.identity, ()))
        entry = ShardEntry(
            file=f"{shard.identity}-{part:03d}.npz",
            identity=shard.identity,
            role=shard.role,
            split=shard.split,
            states=shard.states,
            bytes=len(shard.data),
            sha256=hashlib.sha256(shard.data).hexdigest(),
        )
        self._check_entry(entry)
        path = self.folder / entry.file
        try:
            write_atomic(path, shard.data)
            self._remember(entry)
            self._write_manifest()
        except OSError as error:
            raise DataError(
                f"cannot write {path}: {error}", hint="free some space; what is finished is kept"
            ) from error
        return path

    def _check_entry(self, entry: ShardEntry) -> None:
        if not _NAME.fullmatch(entry.identity):
            raise DataError(f"{entry.identity!r} cannot name a file", hint="use letters, digits, '_', '-' and '.'")
        repeated = self.finished(entry.identity) & set(entry.states)
        if repeated or len(set(entry.states)) != len(entry.states):
            raise DataError(
                f"{entry.identity} already has states {sorted(repeated)[:5]}", hint="skip what finished() names"
            )
        for shard in self._of.get(entry.identity, ()):
            if (shard.role, shard.split) != (entry.role, entry.split):
                raise DataError(f"{entry.identity} was added as {shard.role}/{shard.split}", hint="keep role and split")
        if entry.file.lower() in self._shards:
            raise DataError(f"there is a shard {entry.file} already", hint="choose another name or part")

    def _write_manifest(self) -> None:
        # Sorted, so that the order in which processes finish leaves no trace.
        shards = sorted(self._shards.values(), key=lambda shard: shard.file)
        people: dict[str, dict[str, Any]] = {}
        for shard in shards:
            row = people.setdefault(shard.identity, {"role": shard.role, "split": shard.split, "count": 0})
            row["count"] += len(shard.states)
        head = {
            "format": "personacam-faceset",
            "version": VERSION,
            **asdict(self.info),
            "seeds": dict(self.info.seeds),
            "count": sum(len(s.states) for s in shards),
            "identities": people,
        }
        if not self.info.footage:
            del head["footage"]  # sets of invented people stay the same to the byte
        # One line a shard: with an indent, every state would have its own.
        lines = ",\n".join(json.dumps({**asdict(s), "count": len(s.states)}) for s in shards)
        text = f'{json.dumps(head, indent=1)[:-2]},\n "shards": [\n{lines}\n]}}\n'
        write_atomic(self.folder / MANIFEST, text.encode())
