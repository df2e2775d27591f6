"""Film mode: a file through the pipeline at full quality, every picture, its sound kept.

    look at the index -> (find the chosen face) -> segments, in one process or many -> join, without encoding again

Segments lie in a folder beside the film until all are finished, so that an interruption costs at most what was begun.
What leaves where there is no swap is the named policy, as in a live run; with a chosen face that is every picture in
which that face is not found, whoever else may be in it. Other people beside a swapped face stay as they are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any, Protocol

import av

from engines.blazeface import Candidate, load_blazeface
from engines.errors import DetectorError, MissingDependencyError, SettingsError, SinkError
from engines.facemesh import FaceMesh, load_facemesh, roi_from_candidate, roi_from_mesh
from engines.geometry import points_68
from engines.persona import Persona
from engines.types import F64, Frame
from realtime.admission import admitted, log_end
from realtime.config import Settings
from realtime.mark_keys import own_key
from realtime.policy import FailurePolicy
from realtime.provenance import resolve_label
from realtime.render_clip import Clip, ClipReader, examine
from realtime.render_faces import ANY_FACE, Embeds, FaceChoice, Guide, look_through
from realtime.render_join import FILM_SUFFIXES, check_tracks, join
from realtime.render_pool import Executor
from realtime.render_segment import disk_error
from realtime.render_work import Segment, SegmentCounts, WorkFolder, cut, digest_of, room_for_join
from realtime.render_worker import Progress, Task
from realtime.run_files import RunFiles
from realtime.session import data_folder, persona_store
from realtime.store import LARGER_TIERS, SMALLEST_TIER

Say = Callable[[str], None]
TASKS_A_WORKER = 3
"""So that workers end at about the same time."""
_COUNTED = (
    "policy", "hold_s", "card", "label", "label_position", "detector", "precision", "colour_strength", "morph",
    "strength", "sharpen", "erode", "feather", "smooth", "smoothing",
)  # fmt: skip
"""Settings that make other pictures."""


class Shows(Protocol):
    """A progress bar."""

    def begin(self, what: str, total: int) -> None:
        """A new part of the work, of ``total`` pictures."""
        ...

    def advance(self, frames: int) -> None:
        """So many pictures more."""
        ...


class Quiet:
    """Shows nothing."""

    def begin(self, what: str, total: int) -> None:
        """Nothing."""

    def advance(self, frames: int) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class FilmWishes:
    """What film mode asks besides ``Settings``."""

    out: Path
    face: FaceChoice = ANY_FACE
    crf: int = 16
    """x264's constant rate factor: 0 loses nothing, 16 is hardly seen, 23 is small."""
    segment_s: float = 10.0
    """An interruption costs at most so much film for each worker."""
    force: bool = False
    """Replace an existing film, and the beginnings of another one."""

    def __post_init__(self) -> None:
        """Raises SettingsError."""
        if self.out.suffix.lower() not in FILM_SUFFIXES:
            raise SettingsError(f"a film cannot be a {self.out.suffix or 'nameless'} file", hint="name it .mp4 or .mkv")
        if not 0 <= self.crf <= 40:
            raise SettingsError(f"a crf of {self.crf}", hint="choose one from 0 to 40; 16 is hardly seen")
        if not 0.5 <= self.segment_s <= 600.0:
            raise SettingsError(f"segments of {self.segment_s:g} s", hint="choose from 0.5 to 600; 10 is usual")


@dataclass
class _Run:
    """What is known while a film is made."""

    settings: Settings
    wishes: FilmWishes
    clip: Clip
    persona: Persona
    work: WorkFolder
    say: Say
    show: Shows
    files: RunFiles
    done: dict[int, SegmentCounts] = field(default_factory=dict)
    runtime: str = ""

    def heard(self, progress: Progress) -> None:
        """What a worker says."""
        self.runtime = progress.runtime or self.runtime
        self.show.advance(progress.frames)
        if progress.segment is not None and progress.counts is not None:
            self.work.keep_counts(progress.segment, progress.counts)
            self.done[progress.segment.number] = progress.counts


def render(
    settings: Settings,
    wishes: FilmWishes,
    make_executor: Callable[[], Executor],
    *,
    say: Say,
    show: Shows | None = None,
    stop: threading.Event | None = None,
    embedder: Callable[[], Embeds | None] | None = None,
) -> dict[str, Any]:
    """Make ``wishes.out`` from the file ``settings.source``. Returns the report; "finished" is False when ``stop`` was
    set before the end. Raises PersonacamError; what is finished stays for the next time, and ``out`` is whole or not
    there.
    """
    began = time.monotonic()
    stop = stop or threading.Event()
    source, out = _check_paths(settings, wishes)
    settings = settings.model_copy(update={"source": str(source), "sink": (str(out),), "purpose": "film"})
    clip = _writable(examine(source), out)
    if clip.depth > 8:
        say(f"{source.name} has {clip.depth} bits a colour; the film has 8")
    path = best_tier(settings.persona, settings.tier)
    persona = admitted(data_folder(), path, settings.sink, "film", settings.territory, say)
    resolve_label(settings.label, persona.manifest.kind)
    if settings.policy is FailurePolicy.PASSTHROUGH:
        say("policy passthrough: pictures without a swap show WHO WAS FILMED")
    work = WorkFolder(out)
    files = RunFiles(settings, data_folder(), say, lambda: None)
    run = _Run(settings, wishes, clip, persona, work, say, show or Quiet(), files)
    try:
        return _made(run, make_executor, stop, embedder or _embedder, began)
    finally:
        work.close()
        total = reduce(lambda a, b: a + b, run.done.values(), SegmentCounts())
        frames = {"sent": total.frames, "swapped": total.swapped, "policy": total.policy}
        log_end(data_folder(), persona, frames, say)


def _made(
    run: _Run,
    make_executor: Callable[[], Executor],
    stop: threading.Event,
    embedder: Callable[[], Embeds | None],
    began: float,
) -> dict[str, Any]:
    clip, work, out = run.clip, run.work, run.wishes.out
    resumed = work.open(_plan(run), afresh=run.wishes.force)
    tracks, lost = check_tracks(clip, work.path, out.suffix.lower())
    for name in lost:
        run.say(f"left out, {out.suffix} files cannot hold it: {name}")
    segments = cut(clip, run.wishes.segment_s)
    run.files.session_id = work.session_id(run.files.session_id)
    for segment in segments:
        counts = work.finished(segment)
        if counts is not None:
            run.done[segment.number] = counts
    missing = [segment for segment in segments if segment.number not in run.done]
    if resumed:
        run.say(f"going on: {len(run.done)} of {len(segments)} segments are finished")
    guide = None
    if missing and run.wishes.face.kind != "only":
        guide = _guide(run, stop, embedder)
    made = 0
    if missing and not stop.is_set():
        executor = make_executor()
        run.show.begin("rendering", sum(segment.end - segment.first for segment in missing))
        before = len(run.done)
        executor.run(_tasks(run, missing, guide, executor.workers), run.heard, stop)
        made = len(run.done) - before
    finished = len(run.done) == len(segments)
    if finished:
        run.show.begin("joining", 0)
        with run.files.begun(run.persona, clip.size, float(clip.rate), live=False):
            _finish(run, segments, tracks)
            run.files.end(sum(counts.swapped for counts in run.done.values()))
    return _report(run, segments, finished=finished, resumed=resumed, made=made, took_s=time.monotonic() - began)


def best_tier(name: str, tier: str | None) -> Path:
    """The file of the largest tier, unless one is asked for: a film has the time. Raises PersonaNotFoundError."""
    store = persona_store()
    if tier is not None:
        return store.find(name, tier)
    first = store.find(name)
    tiers = store.tiers(name)
    order = (*reversed(LARGER_TIERS), SMALLEST_TIER)
    return next((tiers[one] for one in order if one in tiers), first)


def _check_paths(settings: Settings, wishes: FilmWishes) -> tuple[Path, Path]:
    source, out = Path(settings.source).expanduser(), wishes.out
    if not source.is_file():
        raise SettingsError(f"there is no file {source}", hint="film mode reads a video file; check the path")
    if source.resolve() == out.resolve():
        raise SettingsError(f"{out} is both the original and the film", hint="give the film another name")
    if not out.parent.is_dir():
        raise SinkError(f"there is no folder {out.parent}", hint="make it, or give another path")
    if out.exists() and not wishes.force:
        raise SettingsError(f"there is a file {out} already", hint="give another name, or --force to replace it")
    if out.is_dir():
        raise SettingsError(f"{out} is a folder", hint="name a file in it")
    return source, out


def _writable(clip: Clip, out: Path) -> Clip:
    """Where the turn cannot be noted down in the file, pictures are stored upright."""
    if out.suffix.lower() == ".mkv" or not hasattr(av.VideoStream, "set_display_rotation"):
        return replace(clip, quarters=0)
    return clip


def _plan(run: _Run) -> dict[str, Any]:
    """All that decides about the pictures."""
    settings = run.settings.model_dump(mode="json", include=set(_COUNTED))
    choice = run.wishes.face
    return {
        "source": digest_of(run.clip.path),
        "persona": {"name": run.persona.manifest.name, "sha256": run.persona.sha256},
        "settings": settings,
        "face": [choice.kind, choice.number, choice.x, choice.y],
        "crf": run.wishes.crf,
        "segment_s": run.wishes.segment_s,
        "upright": run.clip.quarters == 0,
    }


def _tasks(run: _Run, missing: list[Segment], guide: Guide | None, workers: int) -> list[Task]:
    """Stretches of segments that follow each other; for one worker as long as possible."""
    most = len(missing) if workers == 1 else max(1, -(-len(missing) // (workers * TASKS_A_WORKER)))
    stretches: list[list[Segment]] = []
    for segment in missing:
        if stretches and len(stretches[-1]) < most and stretches[-1][-1].number + 1 == segment.number:
            stretches[-1].append(segment)
        else:
            stretches.append([segment])
    key = own_key(data_folder())
    return [
        Task(
            run.settings, run.clip, tuple(stretch), run.work.path.resolve(), run.persona.path.resolve(),
            run.persona.sha256, run.persona.valid_until, guide, run.wishes.crf, 2 if workers == 1 else 1,
            key, run.files.session_id,
        )
        for stretch in stretches
    ]  # fmt: skip


def _guide(run: _Run, stop: threading.Event, embedder: Callable[[], Embeds | None]) -> Guide:
    """Where the chosen face is; found out once."""
    known = run.work.guide()
    if known is not None:
        return known
    if run.settings.detector != "mesh":
        raise SettingsError("a face is chosen by the mesh detector only", hint="leave --detector out")
    blazeface, facemesh = load_blazeface(), load_facemesh()
    embeds = embedder()
    if embeds is None:
        run.say("people are told apart by where they are; pip install 'personacam[identity]' knows them again")
    try:
        run.show.begin("looking for the face", len(run.clip.ticks))
        frames = ClipReader(run.clip).read(0, len(run.clip.ticks))

        def seen(_: Frame) -> None:
            run.show.advance(1)
            if stop.is_set():
                raise KeyboardInterrupt

        guide = look_through(
            frames, lambda pixels: blazeface.find(pixels, tiles=False), run.wishes.face, seconds=run.clip.seconds,
            embed=lambda frame, face: _vector(embeds, facemesh, frame, face), seen=seen,
        )  # fmt: skip
    finally:
        blazeface.close()
        facemesh.close()
    run.work.keep_guide(guide)
    there = sum(place.box is not None for place in guide.places)
    run.say(
        f"the chosen face is there in {there} of {len(guide.places)} looks; elsewhere the policy covers the picture"
    )
    return guide


def _vector(embeds: Embeds | None, facemesh: FaceMesh, frame: Frame, face: Candidate) -> F64 | None:
    if embeds is None:
        return None
    try:
        rough, _, _ = facemesh.landmarks(frame.pixels, roi_from_candidate(face))
        mesh, _, score = facemesh.landmarks(frame.pixels, roi_from_mesh(rough))
        return embeds.embed(frame.pixels, points_68(mesh, "mesh468")) if score > 0.5 else None
    except DetectorError:
        return None


def _embedder() -> Embeds | None:
    from calibration.embedding import Embedder

    try:
        return Embedder()
    except MissingDependencyError:
        return None


def _finish(run: _Run, segments: tuple[Segment, ...], tracks: tuple[int, ...]) -> None:
    """Join, and only then replace what stood there."""
    out, work = run.wishes.out, run.work
    room_for_join(work, segments)
    joined = work.path / f"joining{out.suffix.lower()}"
    join(joined, run.clip, [(work.segment(segment.number), segment.first) for segment in segments], tracks)
    run.say(f"{out.name}: {run.files.seal(joined, out)}")
    try:
        joined.replace(out)
    except OSError as error:
        raise disk_error(out, error) from error
    work.remove()


def _report(
    run: _Run, segments: tuple[Segment, ...], *, finished: bool, resumed: bool, made: int, took_s: float
) -> dict[str, Any]:
    total = reduce(lambda a, b: a + b, run.done.values(), SegmentCounts())
    manifest = run.persona.manifest
    return {
        "finished": finished,
        "resumed": resumed,
        "frames": {
            "total": len(run.clip.ticks), "sent": total.frames, "swapped": total.swapped, "policy": total.policy,
            "damaged": total.damaged,
        },
        "segments": {"all": len(segments), "finished": len(run.done), "made_now": made},
        "took_s": round(took_s, 3),
        "persona": {"name": manifest.name, "sha256": run.persona.sha256, "kind": manifest.kind, "tier": manifest.tier},
        "runtime": run.runtime,
        "source": run.settings.source,
        "out": str(run.wishes.out),
        "size": list(run.clip.size),
        "policy": run.settings.policy.value,
        "policy_reasons": dict(total.reasons),
        "errors": dict(total.errors),
    }  # fmt: skip
