"""What an enrollment is asked for and what it leaves. ``realtime.enroll_session`` drives it; nothing here sees a frame.

    OUT/faces/          the face set, with the consent record's digest and the footage's
    OUT/coverage.json   what was covered, what is missing, what was left out and why
    OUT/coverage.png    the same as a picture
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engines.errors import SettingsError

FACES, MAP, REPORT = "faces", "coverage.png", "coverage.json"
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
    """What nothing showed, in plain words; empty: all of it was seen."""
    skipped: Mapping[str, int]
    """Why frames were left out -> how many."""
    picture: Path
    report: Path
