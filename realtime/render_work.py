"""The work folder of a film, beside the file that it becomes: what is finished stays finished, whatever happens.

    OUT.mp4.render/
      plan.json           what is rendered, and how it is cut into segments
      session.json        what the invisible mark says
      faces.json          where the chosen face is (with --face)
      00012.mp4, .json    a finished segment, and what became of its pictures
      *.part              begun and not finished: thrown away

A segment appears under its name when it is whole. A folder of another film, or of other settings, is not gone on with.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engines.errors import SettingsError, SinkError, SourceNotFoundError
from engines.files import read_limited, write_atomic
from engines.folder_lock import LOCK, FolderLock
from engines.strict_json import strict_object
from realtime.render_clip import Clip
from realtime.render_faces import Guide, Place
from realtime.render_segment import disk_error

VERSION = 1
"""Changes when the same settings would make other pictures: what was begun before is then begun anew."""
_MAX_BYTES = 64 << 20
_SAMPLE = 1 << 20


@dataclass(frozen=True, slots=True)
class Segment:
    """Pictures ``first`` .. ``end`` - 1 of the clip."""

    number: int
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class SegmentCounts:
    """What became of a segment's pictures."""

    frames: int = 0
    swapped: int = 0
    policy: int = 0
    damaged: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)

    def __add__(self, other: SegmentCounts) -> SegmentCounts:
        reasons = Counter(self.reasons) + Counter(other.reasons)
        return SegmentCounts(
            self.frames + other.frames, self.swapped + other.swapped, self.policy + other.policy,
            self.damaged + other.damaged, dict(reasons), {**other.errors, **self.errors},
        )  # fmt: skip


def cut(clip: Clip, segment_s: float) -> tuple[Segment, ...]:
    """The whole clip in segments of ``segment_s`` seconds; the last one may be up to half as long again."""
    edges = [0]
    length = clip.seconds(len(clip.ticks) - 1) + clip.last * float(clip.time_base)
    count = max(1, int(length / segment_s + 0.5))
    for number in range(1, count):
        edge = clip.at(number * segment_s)
        if edges[-1] < edge < len(clip.ticks):
            edges.append(edge)
    edges.append(len(clip.ticks))
    return tuple(Segment(i, a, b) for i, (a, b) in enumerate(itertools.pairwise(edges)))


def digest_of(path: Path) -> dict[str, Any]:
    """Enough of a file to know it again: size, and the sha256 of its beginning, middle and end."""
    try:
        size = path.stat().st_size
        digest = hashlib.sha256()
        with path.open("rb") as file:
            for at in sorted({0, max(0, size // 2 - _SAMPLE), max(0, size - _SAMPLE)}):
                file.seek(at)
                digest.update(file.read(_SAMPLE))
    except OSError as error:
        raise SourceNotFoundError(f"{path} cannot be read: {error.strerror}", hint="check the path") from error
    return {"bytes": size, "sha256": digest.hexdigest()}


class WorkFolder:
    """Of one film; locked while it is open."""

    def __init__(self, out: Path) -> None:
        self.path = out.with_name(out.name + ".render")
        self._lock: FolderLock | None = None

    def open(self, plan: Mapping[str, Any], *, afresh: bool) -> bool:
        """Begin, or go on where the same plan was left. Returns whether there was something.

        ``afresh``: another plan's work is thrown away; otherwise SettingsError says that it is there. Raises SinkError
        when another process renders into it, or it cannot be made.
        """
        text = json.dumps(dict(plan) | {"version": VERSION}, indent=1, sort_keys=True, default=str).encode()
        try:
            self.path.mkdir(exist_ok=True)
            self._lock = FolderLock(self.path)
        except BlockingIOError:
            raise SinkError(f"{self.path} is rendered into already", hint="wait for it, or stop it first") from None
        except OSError as error:
            raise disk_error(self.path, error) from error
        file = self.path / "plan.json"
        if file.exists() and file.read_bytes() == text:
            self._sweep()
            return any(self.path.glob("[0-9]*.mp4"))
        mine = {"plan.json", "faces.json", "session.json", LOCK}
        found = [entry for entry in self.path.iterdir() if entry.name not in mine]
        if found and not afresh:
            raise SettingsError(
                f"{self.path} holds the beginning of another film, or of this one with other settings",
                hint="use the settings of before to go on with it, or --force to throw it away",
            )
        if found and not file.exists():
            raise SettingsError(f"{self.path} is not a folder of this program", hint="move it away")
        self._clear()
        self._write(file, text)
        return False

    def close(self) -> None:
        """Let others in."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def segment(self, number: int) -> Path:
        """Where it is when it is finished."""
        return self.path / f"{number:05d}.mp4"

    def finished(self, segment: Segment) -> SegmentCounts | None:
        """What became of its pictures; None: it is still to be made."""
        try:
            value = strict_object(read_limited(self.segment(segment.number).with_suffix(".json"), _MAX_BYTES))
            counts = SegmentCounts(**value)
        except (OSError, ValueError, TypeError):
            return None
        return counts if self.segment(segment.number).is_file() else None

    def keep_counts(self, segment: Segment, counts: SegmentCounts) -> None:
        """Written last: with it the segment is finished."""
        self._write(self.segment(segment.number).with_suffix(".json"), json.dumps(asdict(counts)).encode())

    def session_id(self, new: int) -> int:
        """Of the film, for its invisible mark: that of the first time, or ``new``, kept from now on."""
        file = self.path / "session.json"
        try:
            return int(strict_object(read_limited(file, _MAX_BYTES))["session"], 16)
        except (OSError, ValueError, TypeError, KeyError):
            self._write(file, json.dumps({"session": f"{new:016x}"}).encode())
            return new

    def guide(self) -> Guide | None:
        """Where the chosen face is, if that was found out before."""
        try:
            rows = strict_object(read_limited(self.path / "faces.json", _MAX_BYTES))["places"]
            return Guide.of(Place(int(at), None if box is None else tuple(map(float, box))) for at, box in rows)  # type: ignore[arg-type]
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def keep_guide(self, guide: Guide) -> None:
        """For workers, and for going on."""
        rows = [[place.ordinal, place.box] for place in guide.places]
        self._write(self.path / "faces.json", json.dumps({"places": rows}).encode())

    def remove(self) -> None:
        """The film is finished."""
        self._clear()
        (self.path / "plan.json").unlink(missing_ok=True)
        self.close()
        (self.path / LOCK).unlink(missing_ok=True)
        try:
            self.path.rmdir()
        except OSError:
            return  # somebody put something in; it stays

    def _clear(self) -> None:
        self._sweep()
        for pattern in ("[0-9]*.mp4", "[0-9]*.json", "faces.json", "session.json"):
            for file in self.path.glob(pattern):
                file.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """What a killed process left."""
        for pattern in ("*.part", "probe.*", "joining*", ".*.tmp"):
            for file in self.path.glob(pattern):
                file.unlink(missing_ok=True)

    def _write(self, path: Path, data: bytes) -> None:
        try:
            write_atomic(path, data)
        except OSError as error:
            raise disk_error(path, error) from error


def room_for_join(work: WorkFolder, segments: Sequence[Segment]) -> None:
    """Raises SinkError when the finished film would not fit beside its segments."""
    needed = sum(work.segment(segment.number).stat().st_size for segment in segments)
    free = shutil.disk_usage(work.path).free
    if free < needed:
        raise SinkError(
            f"the film needs {needed >> 20} MiB more on {work.path.parent}, {free >> 20} are free",
            hint="free some space, then start the same command again: all segments are finished",
        )
