"""What an enrollment has gathered so far, on disk, and how it becomes a face set.

OUT/faces/manifest.json   made at once: it says whose consent this is, and ``personacam forget`` finds the folder
OUT/faces/gathered.npz    candidates of an unfinished enrollment; gone when the shards are written
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.face_reading import COLUMNS
from calibration.mesh_mask import mesh_mask
from calibration.quality_gates import Fault, Tally
from engines.errors import DataError
from engines.faceset import GATHERED, Faces, FaceSetInfo
from engines.faceset_codec import decode_colour, encode_png, npz_bytes, pack, read_npz, unpack
from engines.faceset_writer import FaceSetWriter, encode_shard
from engines.files import write_atomic
from engines.geometry import points_68
from engines.types import F32, F64, U8

ORIGIN = "enrollment 1; mesh as Face Mesh sees it, mask from its hull"
SHARD = 100
_FAULTS = tuple(Fault)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One face that may go into the set."""

    state: int
    """Number of its frame in the footage."""
    crop: bytes
    """PNG of (S, S, 3) BGR."""
    mesh: F32
    """(468, 2) pixels of the crop."""
    row: F64
    """Its reading, as ``calibration.face_reading.COLUMNS``."""


@dataclass
class Gathered:
    """Everything that a later call needs to go on."""

    candidates: list[Candidate] = field(default_factory=list)
    known: list[F64] = field(default_factory=list)
    """Embeddings (128,) of the first faces: who it is."""
    seen: int = 0
    """Frames of the footage that were looked at."""
    step: float = 0.0
    """How much two candidates have to differ; 0: as at the beginning."""
    skipped: Tally = field(default_factory=Counter)


def rows_of(candidates: Sequence[Candidate]) -> F64:
    """(N, 14) their readings."""
    return np.stack([c.row for c in candidates]) if candidates else np.zeros((0, len(COLUMNS)))


def encode(crop: U8) -> bytes:
    """As candidates hold crops."""
    return encode_png(crop)


def info_of(consent: str, footage: tuple[str, ...], size: int) -> FaceSetInfo:
    """The description of an enrolled set."""
    return FaceSetInfo(ORIGIN, consent, {}, size=size, footage=footage, extras=("mesh",))


def save(folder: Path, gathered: Gathered) -> None:
    """Write ``gathered`` into the face set's ``folder``. Raises DataError when the disk refuses."""
    found = gathered.candidates
    arrays: dict[str, NDArray[Any]] = {
        "states": np.array([c.state for c in found], np.int64),
        "mesh": np.stack([c.mesh for c in found]) if found else np.zeros((0, 468, 2), np.float32),
        "rows": rows_of(found),
        "known": np.stack(gathered.known) if gathered.known else np.zeros((0, 128)),
        "numbers": np.array([gathered.seen, gathered.step]),
        "skipped": np.array([gathered.skipped[fault] for fault in _FAULTS], np.int64),
        **pack("crops", [c.crop for c in found]),
    }
    try:
        write_atomic(folder / GATHERED, npz_bytes(arrays))
    except OSError as error:
        raise DataError(f"cannot write {folder / GATHERED}: {error.strerror}", hint="free some space") from error


def load(folder: Path) -> Gathered:
    """What an earlier call left; nothing if there was none. Raises DataError for a damaged file."""
    path = folder / GATHERED
    if not path.exists():
        return Gathered()
    try:
        arrays = read_npz(path.read_bytes())
        crops = [blob.tobytes() for blob in unpack("crops", arrays)]
        rows = arrays["rows"]
        if rows.shape[1:] != (len(COLUMNS),) or not len(crops) == len(rows) == len(arrays["mesh"]):
            raise ValueError(f"rows {rows.shape}, {len(crops)} crops")
        return Gathered(
            [
                Candidate(int(state), crop, mesh.copy(), row.copy())
                for state, crop, mesh, row in zip(arrays["states"], crops, arrays["mesh"], rows, strict=True)
            ],
            [row.copy() for row in arrays["known"]],
            int(arrays["numbers"][0]),
            float(arrays["numbers"][1]),
            Counter({fault: int(n) for fault, n in zip(_FAULTS, arrays["skipped"], strict=True) if n}),
        )
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged: {error}", hint="delete it; the footage is read again") from error


def write_faces(writer: FaceSetWriter, name: str, chosen: Sequence[Candidate]) -> None:
    """Write the candidates as the only identity of the set, all of them or, after an interruption, those that lack.

    Raises DataError as the writer does.
    """
    done, size = writer.finished(name), writer.info.size
    todo = sorted((c for c in chosen if c.state not in done), key=lambda c: c.state)
    for start in range(0, len(todo), SHARD):
        part = todo[start : start + SHARD]
        faces = Faces(
            name, "persona", "train", np.array([c.state for c in part], np.int64),
            crops=np.stack([decode_colour(np.frombuffer(c.crop, np.uint8)) for c in part]),
            masks=np.stack([mesh_mask(c.mesh, size) for c in part]),
            landmarks=np.stack([points_68(c.mesh, "mesh468") for c in part]).astype(np.float32),
            pose=np.stack([c.row[:3] for c in part]).astype(np.float32),
            extras={"mesh": np.stack([c.mesh for c in part])},
        )  # fmt: skip
        writer.put(encode_shard(writer.info, faces))
    (writer.folder / GATHERED).unlink(missing_ok=True)
