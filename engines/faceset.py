"""A set of aligned faces on disk.

    FOLDER/manifest.json      what it is, from which seeds, which shards with which sha256; written last, atomically
    FOLDER/shard_0000.npz     one identity's crops (JPEG), masks (PNG), states, landmarks, pose

A *state* is a number that stands for one pose, expression and light. Every identity rendered in state 17 looks the same
way, so the crop of persona B in state 17 is the exact truth of swapping any wearer in state 17 to B (see ``pairs``).
Crops are stored with a margin around the family's crop so that jitter has pixels to move in.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import DataError
from engines.types import F32, U8

VERSION = 1
MANIFEST = "manifest.json"
JPEG_QUALITY = 95
DEFAULT_SIZE = 160
DEFAULT_MARGIN = 1.25
"""Side of the stored square over side of the family's crop: 160 stored pixels show 128 pixels of crop and 16 around."""

Role = Literal["wearer", "persona"]
Split = Literal["train", "val"]
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FaceSetInfo:
    """Where a set comes from. A writer continues a folder only when this is equal."""

    origin: str
    """What made the crops and its version, for example "people-renderer 1"."""
    consent: str
    """Digest of the consent record of a real person, or "invented:SEED"."""
    seeds: Mapping[str, int]
    """Everything needed to make the set again."""
    size: int = DEFAULT_SIZE
    """Side of the stored crops in pixels."""
    margin: float = DEFAULT_MARGIN
    """Side of the stored square over side of the family's crop."""


@dataclass(frozen=True, slots=True)
class Faces:
    """All stored faces of one identity, in the order they were added."""

    identity: str
    role: Role
    split: Split
    states: I64
    """(N,) state numbers, each at most once."""
    crops: U8
    """(N, size, size, 3) BGR."""
    masks: U8
    """(N, size, size): 0 keeps the frame, 255 is the face that a swap replaces."""
    landmarks: F32
    """(N, 68, 2) xy, iBUG 68 layout, pixels of the stored crop."""
    pose: F32
    """(N, 3) yaw, pitch, roll in degrees."""


@dataclass(frozen=True, slots=True)
class FaceSet:
    """A set in memory."""

    info: FaceSetInfo
    faces: Mapping[str, Faces]
    digest: str
    """sha256 of the manifest, which names the sha256 of every shard: equal digests are equal data."""

    def named(self, role: Role, split: Split | None = None) -> list[str]:
        """Identities of a role, sorted; of one split, or of both."""
        return sorted(n for n, f in self.faces.items() if f.role == role and split in (None, f.split))


class FaceSetWriter:
    """Appends identities to a folder. Finished shards survive a kill; opening the folder again continues it.

    Raises DataError when the folder holds a set of other origin, seeds or size, or a damaged manifest.
    """

    def __init__(self, folder: Path, info: FaceSetInfo) -> None:
        self.folder = folder
        self.info = info
        self._shards: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / MANIFEST).exists():
            manifest, _ = _read_manifest(folder)
            found = _info(manifest, folder)
            if found != info:
                raise DataError(
                    f"{folder} holds another face set ({found}, wanted {info})",
                    hint="choose an empty folder",
                )
            self._shards = list(manifest["shards"])
        else:
            self._write_manifest()

    def finished(self, identity: str) -> set[int]:
        """States of an identity that are safely on disk."""
        return {int(s) for shard in self._shards if shard["identity"] == identity for s in shard["states"]}

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
    ) -> Path:
        """Write one shard; when this returns, it is on disk and in the manifest. Arrays as in ``Faces``.

        Raises DataError for arrays of the wrong shape, or states that this identity already has.
        """
        numbers = np.asarray(states, np.int64)
        self._check(identity, role, split, numbers, crops, masks, landmarks, pose)
        path = self.folder / f"shard_{len(self._shards):04d}.npz"
        blob = io.BytesIO()
        crop_bytes, crop_offsets = _pack([_jpeg(c) for c in crops])
        mask_bytes, mask_offsets = _pack([_png(m) for m in masks])
        np.savez(
            blob,
            states=numbers,
            landmarks=np.asarray(landmarks, np.float32),
            pose=np.asarray(pose, np.float32),
            crops=crop_bytes,
            crops_offsets=crop_offsets,
            masks=mask_bytes,
            masks_offsets=mask_offsets,
        )
        data = blob.getvalue()
        _write_atomic(path, data)
        self._shards.append(
            {
                "file": path.name,
                "identity": identity,
                "role": role,
                "split": split,
                "count": len(numbers),
                "states": numbers.tolist(),
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        )
        self._write_manifest()
        return path

    def _check(
        self,
        identity: str,
        role: Role,
        split: Split,
        states: I64,
        crops: U8,
        masks: U8,
        landmarks: NDArray[np.floating],
        pose: NDArray[np.floating],
    ) -> None:
        n, size = len(states), self.info.size
        shapes = (crops.shape, masks.shape, landmarks.shape, pose.shape)
        if n == 0 or shapes != ((n, size, size, 3), (n, size, size), (n, 68, 2), (n, 3)):
            raise DataError(f"shapes {shapes} do not fit {n} states of size {size}", hint="see the fields of Faces")
        if crops.dtype != np.uint8 or masks.dtype != np.uint8:
            raise DataError("crops and masks must be uint8", hint="convert them before adding")
        repeated = self.finished(identity) & set(states.tolist())
        if repeated or len(set(states.tolist())) != n:
            raise DataError(f"{identity} already has states {sorted(repeated)[:5]}", hint="skip what finished() names")
        for shard in self._shards:
            if shard["identity"] == identity and (shard["role"], shard["split"]) != (role, split):
                raise DataError(f"{identity} was added as {shard['role']}/{shard['split']}", hint="keep role and split")

    def _write_manifest(self) -> None:
        people = {s["identity"]: {"role": s["role"], "split": s["split"], "count": 0} for s in self._shards}
        for shard in self._shards:
            people[shard["identity"]]["count"] += shard["count"]
        manifest = {
            "format": "personacam-faceset",
            "version": VERSION,
            **asdict(self.info),
            "seeds": dict(self.info.seeds),
            "identities": people,
            "count": sum(s["count"] for s in self._shards),
            "shards": self._shards,
        }
        _write_atomic(self.folder / MANIFEST, json.dumps(manifest, indent=1).encode())


def read_faceset(folder: Path, *, identities: Sequence[str] | None = None, workers: int = 2) -> FaceSet:
    """Read a set, or some identities of it, into memory (about 100 kB a face at 160 pixels).

    Raises DataError when it is missing, foreign, truncated, changed since it was written, or empty.
    """
    manifest, digest = _read_manifest(folder)
    info = _info(manifest, folder)
    by_identity: dict[str, list[dict[str, Any]]] = {}
    for shard in manifest["shards"]:
        if identities is None or shard["identity"] in identities:
            by_identity.setdefault(shard["identity"], []).append(shard)
    missing = sorted(set(identities or ()) - set(by_identity))
    if missing or not by_identity:
        raise DataError(f"{folder} has no faces of {missing or 'anyone'}", hint="render the set again")
    with ThreadPoolExecutor(workers) as pool:  # decoding and hashing release the interpreter lock
        faces = dict(pool.map(lambda item: (item[0], _read_identity(folder, info, *item)), by_identity.items()))
    return FaceSet(info, faces, digest)


def _read_manifest(folder: Path) -> tuple[dict[str, Any], str]:
    try:
        data = (folder / MANIFEST).read_bytes()
        manifest = json.loads(data)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} has no readable {MANIFEST}: {error}", hint="render the set again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != "personacam-faceset":
        raise DataError(f"{folder} is not a face set", hint="choose a folder made by the renderer or by enrollment")
    if manifest.get("version") != VERSION:
        raise DataError(f"{folder} has version {manifest.get('version')}, this reads {VERSION}", hint="render it again")
    return manifest, hashlib.sha256(data).hexdigest()


def _info(manifest: dict[str, Any], folder: Path) -> FaceSetInfo:
    try:
        for shard in manifest["shards"]:
            if shard["role"] not in get_args(Role) or shard["split"] not in get_args(Split):
                raise ValueError(f"role {shard['role']}, split {shard['split']}")
            # A manifest may come from elsewhere: its names must not lead out of the folder.
            if Path(shard["file"]).name != shard["file"]:
                raise ValueError(f"file {shard['file']}")
            _ = shard["identity"], shard["count"], shard["sha256"], shard["states"]
        return FaceSetInfo(
            origin=str(manifest["origin"]),
            consent=str(manifest["consent"]),
            seeds={str(k): int(v) for k, v in manifest["seeds"].items()},
            size=int(manifest["size"]),
            margin=float(manifest["margin"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"damaged manifest in {folder}: {error}", hint="render the set again") from error


def _read_identity(folder: Path, info: FaceSetInfo, identity: str, shards: list[dict[str, Any]]) -> Faces:
    parts = [_read_shard(folder / shard["file"], shard, info.size) for shard in shards]
    states, crops, masks, landmarks, pose = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Faces(identity, shards[0]["role"], shards[0]["split"], states, crops, masks, landmarks, pose)


def _read_shard(path: Path, entry: dict[str, Any], size: int) -> tuple[I64, U8, U8, F32, F32]:
    hint = "delete the folder and render the set again"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}", hint=hint) from error
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise DataError(f"{path} is not the file that the manifest names (sha256 differs)", hint=hint)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            crops = np.stack([_decode(b, cv2.IMREAD_COLOR) for b in _unpack("crops", arrays)])
            masks = np.stack([_decode(b, cv2.IMREAD_GRAYSCALE) for b in _unpack("masks", arrays)])
            states, landmarks, pose = arrays["states"], arrays["landmarks"], arrays["pose"]
    except (ValueError, KeyError, OSError, zipfile.BadZipFile, cv2.error) as error:
        raise DataError(f"{path} is damaged: {error}", hint=hint) from error
    n = entry["count"]
    shapes = (states.shape, crops.shape, masks.shape, landmarks.shape, pose.shape)
    if shapes != ((n,), (n, size, size, 3), (n, size, size), (n, 68, 2), (n, 3)):
        raise DataError(f"{path} holds arrays of shapes {shapes}", hint=hint)
    return states, crops, masks, landmarks, pose


def _pack(blobs: list[bytes]) -> tuple[U8, I64]:
    """Encoded pictures as one byte array with offsets: npz without pickles has no lists of bytes."""
    return np.frombuffer(b"".join(blobs), np.uint8), np.cumsum([0, *map(len, blobs)], dtype=np.int64)


def _unpack(name: str, arrays: Mapping[str, NDArray[Any]]) -> list[U8]:
    data, offsets = arrays[name], arrays[f"{name}_offsets"]
    if offsets[0] != 0 or offsets[-1] != len(data) or (np.diff(offsets) <= 0).any():
        raise ValueError(f"offsets of {name} do not fit")
    return [data[a:b] for a, b in itertools.pairwise(offsets)]


def _jpeg(crop: U8) -> bytes:
    # Full colour resolution: at 160 pixels, halved chroma would blur lips and irises.
    flags = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    flags += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return bytes(cv2.imencode(".jpg", crop, flags)[1])


def _png(mask: U8) -> bytes:
    return bytes(cv2.imencode(".png", mask)[1])


def _decode(blob: U8, flag: int) -> U8:
    picture = cv2.imdecode(blob, flag)
    if picture is None:
        raise ValueError("a stored picture cannot be decoded")
    return picture.astype(np.uint8, copy=False)


def _write_atomic(path: Path, data: bytes) -> None:
    """Either the old file or the whole new one, even when killed in between."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
