"""What an enrollment is asked for and what it leaves. ``realtime.enroll_session`` drives it; nothing here sees a frame.

OUT/faces/          the face set, with the consent record's digest and the footage's
OUT/coverage.json   what was covered, what is missing, what was left out and why
OUT/coverage.png    the same as a picture
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from calibration.coverage import BINS, Coverage
from calibration.coverage_picture import draw_map
from calibration.face_reading import COLUMNS
from calibration.quality_gates import Fault
from engines.errors import DataError, SettingsError
from engines.files import read_limited, write_atomic
from engines.strict_json import strict_object
from engines.types import F64

FACES, MAP, REPORT = "faces", "coverage.png", "coverage.json"
FORMAT = "personacam-coverage"
_MAX_REPORT = 16 << 20
Stopped = Literal["enough", "end", "interrupted"]
"""Everything wanted was seen; the footage was over before; somebody asked to stop (the same call goes on)."""


@dataclass(frozen=True, slots=True)
class EnrollOptions:
    """How much is wanted."""

    frames: int = 300
    """Faces in the set; 8 give a likeness, 300 a good one."""
    size: int = 240
    """Side of the stored crops in pixels: with the margin around it, the small tier's picture; 320 is base's."""
    least: int = 8
    """With fewer usable faces there is no enrollment."""
    every: int = 1
    """Only every n-th frame is looked at."""
    stop_when_enough: bool = True
    """False looks at all of the footage and takes the best of it."""

    def __post_init__(self) -> None:
        if not 4 <= self.least <= self.frames or not 64 <= self.size <= 1024 or self.every < 1:
            raise SettingsError(
                f"{self.frames} frames of {self.size} pixels, at least {self.least}, every {self.every}",
                hint="4 frames or more, of 64 to 1024 pixels, every 1 or more",
            )


DEFAULTS = EnrollOptions()


@dataclass(frozen=True, slots=True)
class EnrollProgress:
    """How far it is, after each frame. For a bar and a line."""

    seen: int
    """Frames looked at, those of earlier calls included."""
    kept: int
    """Faces worth keeping so far."""
    share: float
    """0..1 of what is wanted."""
    prompt: str
    """What the person should do next, in plain words; empty when nothing is missing."""
    problem: str
    """Why this frame could not be used; empty when it could."""


ProgressCallback = Callable[[EnrollProgress], None]


@dataclass(frozen=True, slots=True)
class Enrollment:
    """What an enrollment left in its folder."""

    name: str
    """Of the persona, and the identity's in the face set."""
    folder: Path
    faceset: Path
    """Folder of the face set: ``train enroll --data``. Extras: mesh, as Face Mesh saw it."""
    frames: int
    """Faces in it."""
    seen: int
    """Frames of footage that were looked at."""
    stopped: Stopped
    share: float
    """0..1 of what is wanted."""
    missing: tuple[str, ...]
    """What nearly nothing showed, as "turn: far left"; empty: all of it was seen."""
    skipped: Mapping[str, int]
    """Why frames were left out -> how many."""
    picture: Path
    report: Path


def describe(
    name: str, out: Path, coverage: Coverage, *, frames: int, seen: int, stopped: Stopped, skipped: Mapping[Fault, int]
) -> Enrollment:
    """The enrollment in ``out`` as its coverage stands."""
    return Enrollment(
        name=name, folder=out, faceset=out / FACES, frames=frames, seen=seen, stopped=stopped, share=coverage.share,
        missing=tuple(coverage.never_seen()), skipped={fault.value: n for fault, n in skipped.items() if n},
        picture=out / MAP, report=out / REPORT,
    )  # fmt: skip


def write_report(done: Enrollment, coverage: Coverage, rows: F64) -> None:
    """Write coverage.json and coverage.png for the chosen frames' (N, 14) ``rows``. Raises DataError."""
    report = {
        "format": FORMAT, "version": 1, "name": done.name, "frames": done.frames, "seen": done.seen,
        "stopped": done.stopped, "share": round(done.share, 4), "missing": list(done.missing),
        "skipped": dict(done.skipped), "bins": bins_of(coverage),
        "normal": {name: round(value, 4) for name, value in coverage.neutral.items()},
        "columns": list(COLUMNS), "readings": np.round(rows, 4).tolist(),
    }  # fmt: skip
    try:
        write_atomic(done.report, (json.dumps(report) + "\n").encode())
        write_atomic(done.picture, draw_map(coverage, rows, done.name))
    except OSError as error:
        raise DataError(f"cannot write {error.filename}: {error.strerror}", hint="free some space") from error


def bins_of(coverage: Coverage) -> list[dict[str, Any]]:
    """Every bin with what it has and wants."""
    return [
        {"axis": axis, "bin": b.name, "frames": int(has), "wanted": int(wants), "required": b.required}
        for (axis, b), has, wants in zip(BINS, coverage.counts, coverage.wanted, strict=True)
    ]


def read_report(out: Path, name: str) -> Enrollment:
    """What a finished enrollment said of itself. Raises DataError."""
    try:
        found = strict_object(read_limited(out / REPORT, _MAX_REPORT))
        if found.get("format") != FORMAT or found["name"] != name:
            raise ValueError(f"it is of {found.get('name')}")
        return Enrollment(
            name=name, folder=out, faceset=out / FACES, frames=int(found["frames"]), seen=int(found["seen"]),
            stopped=found["stopped"], share=float(found["share"]), missing=tuple(map(str, found["missing"])),
            skipped={str(why): int(n) for why, n in found["skipped"].items()}, picture=out / MAP, report=out / REPORT,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{out} has no readable {REPORT}: {error}", hint="enroll into a new folder; the footage is still there"
        ) from error
