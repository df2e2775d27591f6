"""A set of aligned faces on disk.

    FOLDER/manifest.json      what it is, from which seeds, which shards with which sha256; written last, atomically
    FOLDER/NAME-000.npz       a part of one identity's crops (JPEG or WebP), masks (PNG), states, landmarks, pose,
                              and the further truth that the manifest's ``extras`` name

A *state* is a number that stands for one pose, expression and light. Every identity rendered in state 17 looks the same
way, so the crop of persona B in state 17 is the exact truth of swapping any wearer in state 17 to B (see ``pairs``, and
``torch_faceset`` for sets that are larger than memory). Crops are stored with a margin around the family's crop so that
jitter has pixels to move in.

Version 2 of the format added extras, WebP, styles and names of shards that do not depend on the order of writing, so
that equal sets have equal manifests. Version 1 is still read.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import DataError
from engines.faceset_codec import I64, PictureFormat, decode_colour, decode_grey, read_npz, unpack
from engines.types import F32, U8

VERSION = 2
_READABLE = (1, 2)
MANIFEST = "manifest.json"
GATHERED = "gathered.npz"
"""Beside the manifest while an enrollment is unfinished: faces that may go into the set."""
DEFAULT_SIZE = 160
DEFAULT_MARGIN = 1.25
"""Side of the stored square over side of the family's crop: 160 stored pixels show 128 pixels of crop and 16 around."""
JPEG_QUALITY = 95

Role = Literal["wearer", "persona"]
Split = Literal["train", "val"]

EXTRAS: Mapping[str, tuple[tuple[int | str, ...], type[np.generic]]] = {
    "landmarks_3d": ((68, 3), np.float32),  # world decimetres
    "landmarks_visible": ((68,), np.bool_),  # in the crop and hidden by nothing
    "mesh": ((468, 2), np.float32),  # Face Mesh's points, pixels of the stored crop; NaN: no face
    "classes": (("size", "size"), np.uint8),  # what each pixel shows, 0 background; as PNG
    "expression": (("columns",), np.float32),  # face units, 0..1
    "gaze": ((2,), np.float32),  # of the eyes in the head, radians: to the person's left, up
    "light": (("columns",), np.float32),
    "camera": (("columns",), np.float32),
    "props": ((), np.bool_),  # something is worn or held, whether it hides the face or not
}
"""Optional truth: shape per face and type. "size" is the stored crop's, "columns" those that the manifest names."""
DAMAGED_HINT = "delete the folder and render the set again"


@dataclass(frozen=True, slots=True)
class FaceSetInfo:
    """Where a set comes from and how it is stored. A writer continues a folder only when this is equal."""

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
    style: str = "photo"
    """How the people are drawn."""
    picture: PictureFormat = "jpeg"
    quality: int = JPEG_QUALITY
    """Of the stored pictures, 1..100."""
    extras: tuple[str, ...] = ()
    """Names of EXTRAS that every shard has."""
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the columns of extras whose width is not fixed."""
    footage: tuple[str, ...] = ()
    """Sha256 of every file of a real person that faces were taken from."""

    def extra_shape(self, name: str) -> tuple[int, ...]:
        """Shape of one face's value of an extra. Raises DataError for an unknown one or one without columns."""
        if name not in EXTRAS or ("columns" in EXTRAS[name][0] and name not in self.columns):
            raise DataError(
                f"there is no extra truth {name!r} of known width", hint=f"extras are {', '.join(sorted(EXTRAS))}"
            )
        width = {"size": self.size, "columns": len(self.columns.get(name, ()))}
        return tuple(width[n] if isinstance(n, str) else n for n in EXTRAS[name][0])


@dataclass(frozen=True, slots=True)
class Faces:
    """All stored faces of one identity, in the order of its shards."""

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
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """(N, ...) of each of EXTRAS that was asked for."""


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


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """What the manifest says of one shard."""

    file: str
    identity: str
    role: Role
    split: Split
    states: tuple[int, ...]
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FaceSetIndex:
    """The manifest: what a set holds, without its pictures."""

    info: FaceSetInfo
    shards: tuple[ShardEntry, ...]
    digest: str
    """As in ``FaceSet``."""


def read_index(folder: Path) -> FaceSetIndex:
    """Read the manifest only. Raises DataError when it is missing, foreign or damaged."""
    if not (folder / MANIFEST).exists():
        raise DataError(f"there is no face set in {folder}", hint=f"make one: personacam people dataset --out {folder}")
    try:
        data = (folder / MANIFEST).read_bytes()
        manifest = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{folder} has no readable {MANIFEST}: {error}", hint="render the set again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != "personacam-faceset":
        raise DataError(f"{folder} is not a face set", hint="choose a folder made by the renderer or by enrollment")
    if manifest.get("version") not in _READABLE:
        raise DataError(
            f"{folder} has version {manifest.get('version')}, this reads {_READABLE}", hint="render it again"
        )
    try:
        shards = tuple(_entry(shard) for shard in manifest["shards"])
        info = _info(manifest)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"damaged manifest in {folder}: {error}", hint="render the set again") from error
    return FaceSetIndex(info, shards, hashlib.sha256(data).hexdigest())


def _entry(shard: dict[str, Any]) -> ShardEntry:
    if shard["role"] not in get_args(Role) or shard["split"] not in get_args(Split):
        raise ValueError(f"role {shard['role']}, split {shard['split']}")
    # A manifest may come from elsewhere: its names must not lead out of the folder.
    if Path(shard["file"]).name != shard["file"]:
        raise ValueError(f"file {shard['file']}")
    states = tuple(int(s) for s in shard["states"])
    if shard["count"] != len(states):
        raise ValueError(f"{shard['file']} counts {shard['count']} of {len(states)} states")
    return ShardEntry(
        file=str(shard["file"]),
        identity=str(shard["identity"]),
        role=shard["role"],
        split=shard["split"],
        states=states,
        bytes=int(shard["bytes"]),
        sha256=str(shard["sha256"]),
    )


def _info(manifest: dict[str, Any]) -> FaceSetInfo:
    old = FaceSetInfo("", "", {})  # version 1 had none of the later fields: their defaults describe it
    info = FaceSetInfo(
        origin=str(manifest["origin"]),
        consent=str(manifest["consent"]),
        seeds={str(k): int(v) for k, v in manifest["seeds"].items()},
        size=int(manifest["size"]),
        margin=float(manifest["margin"]),
        style=str(manifest.get("style", old.style)),
        picture=manifest.get("picture", old.picture),
        quality=int(manifest.get("quality", old.quality)),
        extras=tuple(str(name) for name in manifest.get("extras", ())),
        columns={str(k): tuple(str(c) for c in v) for k, v in manifest.get("columns", {}).items()},
        footage=tuple(str(digest) for digest in manifest.get("footage", ())),
    )
    if info.picture not in get_args(PictureFormat):
        raise ValueError(f"pictures are {info.picture}")
    if unknown := set(info.extras) - set(EXTRAS):
        raise ValueError(f"unknown extras {sorted(unknown)}")
    return info


def check_extras(folder: Path, info: FaceSetInfo, wanted: Sequence[str]) -> None:
    """Raise DataError when the set in ``folder`` lacks some of the ``wanted`` further truth."""
    if absent := sorted(set(wanted) - set(info.extras)):
        has = ", ".join(info.extras) or "none"
        raise DataError(f"{folder} has no extra truth {', '.join(absent)}", hint=f"it has {has}")


def read_faceset(
    folder: Path, *, identities: Sequence[str] | None = None, extras: Sequence[str] = (), workers: int = 2
) -> FaceSet:
    """Read a set, or some identities of it, into memory (about 100 kB a face at 160 pixels).

    Of the further truth only the named ``extras`` are read. Raises DataError when the set is missing, foreign,
    truncated, changed since it was written, or empty, or has no such identity or extra.
    """
    index = read_index(folder)
    check_extras(folder, index.info, extras)
    by_identity: dict[str, list[ShardEntry]] = {}
    for shard in index.shards:
        if identities is None or shard.identity in identities:
            by_identity.setdefault(shard.identity, []).append(shard)
    missing = sorted(set(identities or ()) - set(by_identity))
    if missing or not by_identity:
        raise DataError(f"{folder} has no faces of {missing or 'anyone'}", hint="render the set again")
    with ThreadPoolExecutor(workers) as pool:  # decoding and hashing release the interpreter lock
        faces = dict(
            pool.map(lambda item: (item[0], _read_identity(folder, index.info, item[1], extras)), by_identity.items())
        )
    return FaceSet(index.info, faces, index.digest)


def _read_identity(folder: Path, info: FaceSetInfo, shards: list[ShardEntry], extras: Sequence[str]) -> Faces:
    parts = [_read_shard(folder / shard.file, shard, info, extras) for shard in shards]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    further = {name: joined.pop(name) for name in extras}
    return Faces(shards[0].identity, shards[0].role, shards[0].split, **joined, extras=further)


def _read_shard(path: Path, entry: ShardEntry, info: FaceSetInfo, extras: Sequence[str]) -> dict[str, NDArray[Any]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}", hint=DAMAGED_HINT) from error
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise DataError(f"{path} is not the file that the manifest names (sha256 differs)", hint=DAMAGED_HINT)
    try:
        stored = read_npz(data)
        arrays: dict[str, NDArray[Any]] = {
            "states": stored["states"],
            "crops": np.stack([decode_colour(b) for b in unpack("crops", stored)]),
            "masks": np.stack([decode_grey(b) for b in unpack("masks", stored)]),
            "landmarks": stored["landmarks"],
            "pose": stored["pose"],
        }
        for name in extras:
            arrays[name] = (
                np.stack([decode_grey(b) for b in unpack(name, stored)]) if name == "classes" else stored[name]
            )
    except (ValueError, KeyError, OSError, zipfile.BadZipFile, cv2.error) as error:
        raise DataError(f"{path} is damaged: {error}", hint=DAMAGED_HINT) from error
    n, size = len(entry.states), info.size
    wanted = {"states": (n,), "crops": (n, size, size, 3), "masks": (n, size, size), "landmarks": (n, 68, 2)}
    wanted |= {"pose": (n, 3), **{name: (n, *info.extra_shape(name)) for name in extras}}
    found = {name: values.shape for name, values in arrays.items()}
    if found != wanted:
        raise DataError(f"{path} holds arrays of shapes {found}, not {wanted}", hint=DAMAGED_HINT)
    return arrays
