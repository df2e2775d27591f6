"""From footage of one person to a face set: every frame is found, read and judged, and the best ones are kept.

    frame -> look (detect, cut, read) -> new? -> sharp, exposed, whole? -> one face? -> the same person? -> gathered
    end   -> choose the best of what was gathered -> face set, coverage.json, coverage.png

What costs little is asked first. The same code runs on files, on cameras and in tests: it takes ``Iterable[Frame]``.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from calibration import enroll_store
from calibration.consent_gates import Gatekeeper
from calibration.coverage import Coverage, Gathering, choose
from calibration.enroll_store import Candidate, Gathered, rows_of
from calibration.enrollment import (
    DEFAULTS,
    FACES,
    Enrollment,
    EnrollOptions,
    EnrollProgress,
    ProgressCallback,
    Stopped,
    describe,
    read_report,
    write_report,
)
from calibration.quality_gates import Fault, SamePerson, Verdict, judge
from engines.errors import DataError, DetectorError, NoFaceError, OtherPersonError, PersonacamError
from engines.faceset import GATHERED, MANIFEST, read_index
from engines.faceset_writer import FaceSetWriter
from engines.geometry import points_68
from engines.types import F32, F64, U8, Frame
from realtime.capture import open_source
from realtime.enroll_look import FrameLooker, Look
from realtime.source import SourceConfig

Embed = Callable[[U8, F32], F64]
"""(crop (S, S, 3) BGR, (68, 2) landmarks in it) -> (128,) who it is. Raises DetectorError."""
CANDIDATES = 3
"""Times as many frames as are wanted are gathered before the best are chosen."""
FACING_DEG = 30.0
"""Faces turned further do not say who they are."""
VOUCH_S = 0.5
"""A face that is followed is looked at again for who it is after so long; what lies between waits for the answer."""
SAVE_EVERY_S = 20.0
"""A kill loses no more than this."""
AGAIN = "going on: on the way to where it stopped"
"""``EnrollProgress.problem`` of frames that an earlier call looked at."""
_SKIPPED_AT_ONCE = 30


_BETTER: Mapping[Fault | None, str] = {
    None: "record half a minute in good light that shows the whole face",
    Fault.SEVERAL: "record half a minute in which nobody else is in the picture, posters and screens included",
    Fault.DARK: "record half a minute with a lamp or a window in front of the face",
    Fault.BRIGHT: "record half a minute with less light on the face, or a lower exposure of the camera",
    Fault.BLURRED: "wipe the lens, let the camera focus, and record half a minute in more light",
    Fault.SMALL: "record half a minute nearer to the camera",
}
"""What to do about footage that shows no usable face, by what is wrong with most of it."""


def _better(skipped: Counter[Fault]) -> str:
    return _BETTER.get(max(skipped, key=lambda fault: skipped[fault], default=None), _BETTER[None])


def enroll_footage(
    frames: Iterable[Frame],
    name: str,
    out: Path,
    *,
    consent: str,
    footage: tuple[str, ...] = (),
    options: EnrollOptions = DEFAULTS,
    progress: ProgressCallback | None = None,
    stop: threading.Event | None = None,
    embed: Embed | None = None,
) -> Enrollment:
    """The faces of one person in ``frames``, chosen by what they show, as a face set in ``out``/faces.

    ``consent`` and ``footage`` are what ``Gatekeeper.extract`` returned, or "invented:SEED" and nothing: this function
    asks no gate, ``enroll_files`` does. ``stop`` and KeyboardInterrupt end it with everything kept; the same call goes
    on where it stopped, and on a finished folder returns what is there. ``embed`` says who a face is; None takes dlib.
    Raises NoFaceError for footage with too few usable faces, OtherPersonError when somebody else comes,
    MissingDependencyError without dlib, DataError when ``out`` holds something else.
    """
    folder = out / FACES
    with FaceSetWriter(folder, enroll_store.info_of(consent, footage, options.size)) as writer:
        begun = bool(writer.finished(name))
        if begun and not (folder / GATHERED).exists():
            return read_report(out, name)
        with closing(_Session(folder, options, embed)) as session:
            # Killed while the shards were written: what was chosen must not change any more.
            stopped = session.verdict() if begun else session.run(frames, progress, stop)
            if stopped == "interrupted":
                return session.so_far(name, out)
            return session.finish(writer, name, out, stopped)


def enroll_files(
    paths: Sequence[Path],
    name: str,
    out: Path,
    gate: Gatekeeper,
    *,
    options: EnrollOptions = DEFAULTS,
    progress: ProgressCallback | None = None,
    stop: threading.Event | None = None,
    embed: Embed | None = None,
) -> Enrollment:
    """``enroll_footage`` on video files of a real person, one after the other, through the gates before and after.

    Raises ConsentError and SourceError besides.
    """
    folder = out / FACES
    consent, footage = gate.extract(name, paths, folder)  # from here on "forget" knows where faces of the person lie
    if (folder / MANIFEST).exists() and read_index(folder).info != enroll_store.info_of(consent, footage, options.size):
        raise DataError(
            f"{out} holds faces of other footage, of another size, or under another consent record",
            hint=f"personacam forget {name} removes them, or choose another folder; all files go into one call",
        )
    finished = _is_finished(folder, name)
    with closing(frames_of(paths)) as frames:
        done = enroll_footage(
            frames, name, out, consent=consent, footage=footage, options=options, progress=progress, stop=stop,
            embed=embed,
        )  # fmt: skip
    # A set that was finished before is not logged again: it may have been changed since, and the log shows that.
    if done.stopped != "interrupted" and not finished:
        gate.extracted(name, folder)
    return done


def _is_finished(folder: Path, name: str) -> bool:
    """Whether the face set is complete."""
    if not (folder / MANIFEST).exists() or (folder / GATHERED).exists():
        return False
    return any(shard.identity == name for shard in read_index(folder).shards)


def frames_of(paths: Sequence[Path]) -> Generator[Frame, None, None]:
    """All frames of files or folders of pictures as one footage: index and time go on. Raises SourceError."""
    index, after_ns = 0, 0
    for path in paths:
        with closing(open_source(str(path), SourceConfig())) as source:
            last_ns = 0
            while (frame := source.read()) is not None:
                last_ns = frame.timestamp_ns
                yield Frame(frame.pixels, index, frame.captured_ns, after_ns + last_ns)
                index += 1
            after_ns += last_ns + 1_000_000_000  # a second apart: nothing moved from one file's end to the next


def _dlib() -> Embed:
    from calibration.embedding import Embedder

    return Embedder().embed


@dataclass
class _Vouching:
    """Who the faces of one track are: those between two answers wait."""

    waiting: list[Candidate]
    vouched: bool = False
    """Whether this track was found to be the person."""
    asked_ns: int = 0

    def due(self, now_ns: int) -> bool:
        return not self.vouched or now_ns - self.asked_ns >= VOUCH_S * 1e9


class _Session:
    """One call: what an earlier one gathered, and what this one adds."""

    def __init__(self, folder: Path, options: EnrollOptions, embed: Embed | None) -> None:
        self._folder, self._options = folder, options
        self._gathered: Gathered = enroll_store.load(folder)
        self._gathering = Gathering(options.frames, CANDIDATES * options.frames)
        if self._gathered.candidates:
            self._gathering.resume(rows_of(self._gathered.candidates), self._gathered.step)
        self._embed = embed or _dlib()
        self._person = SamePerson(self._gathered.known)
        self._vouching = _Vouching([])
        self._looker: FrameLooker | None = None
        self._saved_s = time.monotonic()

    @property
    def coverage(self) -> Coverage:
        return self._gathering.coverage

    def close(self) -> None:
        if self._looker is not None:
            self._looker.close()

    # ---- the loop ----------------------------------------------------------------------------------------------------

    def run(self, frames: Iterable[Frame], progress: ProgressCallback | None, stop: threading.Event | None) -> Stopped:
        """Until the footage ends, everything is there, or somebody asks to stop: "end", "enough", "interrupted"."""
        try:
            for position, frame in enumerate(frames):
                if self._options.stop_when_enough and self.coverage.enough:
                    break
                if stop is not None and stop.is_set():
                    return self._interrupted()
                if position < self._gathered.seen:  # read again on the way to where an earlier call stopped
                    if progress is not None and position % _SKIPPED_AT_ONCE == 0:
                        progress(replace(self._progress(None), seen=position, problem=AGAIN))
                    continue
                fault = self._take(frame) if position % self._options.every == 0 else None
                self._gathered.seen = position + 1
                if fault is not None:
                    self._gathered.skipped[fault] += 1
                if progress is not None:
                    progress(self._progress(fault))
                if time.monotonic() - self._saved_s > SAVE_EVERY_S:
                    self._save()
        except KeyboardInterrupt:
            return self._interrupted()
        except PersonacamError:  # the source or a network failed: what was gathered is kept
            self._save()
            raise
        self._end_track()
        return self.verdict()

    def verdict(self) -> Stopped:
        """How it ends when nobody interrupts it."""
        return "enough" if self.coverage.enough else "end"

    def _take(self, frame: Frame) -> Fault | None:
        """One frame. Returns why it was left out."""
        if self._looker is None:
            self._looker = FrameLooker(self._options.size)
        look = self._looker.look(frame)
        if look is None:
            self._end_track()
            return Fault.NO_FACE
        if not look.same_track:
            self._end_track()
        row = look.reading.row()
        facing = abs(look.reading.yaw) <= FACING_DEG
        asks = facing and self._vouching.due(frame.timestamp_ns)
        wanted = self._gathering.wants(row)
        if not wanted and not (asks and self._vouching.waiting):
            return Fault.ALIKE
        quality = self._looker.quality(look)
        if (fault := judge(quality)) is not None:
            return fault
        quality, fault = self._looker.further(look, quality)
        if (fault := fault or judge(quality)) is not None:
            return fault
        verdict = self._who(look) if asks else Verdict.UNSURE
        if verdict is Verdict.STRANGER:
            return Fault.STRANGER
        if wanted:
            crop = enroll_store.encode(look.crop)
            self._vouching.waiting.append(Candidate(frame.index, crop, look.mesh.astype(np.float32), row))
        if verdict is Verdict.SAME:
            self._vouching.vouched, self._vouching.asked_ns = True, frame.timestamp_ns
            self._admit_waiting()
        return None if wanted else Fault.ALIKE

    def _who(self, look: Look) -> Verdict:
        """Ask who it is. A stranger's track is dropped with all that waits; several in a row end the enrollment.

        Raises OtherPersonError.
        """
        try:
            verdict = self._person.ask(self._embed(look.crop, points_68(look.mesh, "mesh468").astype(np.float32)))
        except DetectorError:
            return Verdict.UNSURE
        if verdict is Verdict.STRANGER:
            self._gathered.skipped[Fault.STRANGER] += len(self._vouching.waiting)
            self._vouching = _Vouching([])
            if self._person.somebody_else:
                raise OtherPersonError(
                    f"from frame {look.frame.index} on the footage shows somebody else",
                    hint="use footage of one person alone, or cut the others out",
                )
        return verdict

    def _end_track(self) -> None:
        """The face was lost: what waits is the person's if the track was once found to be."""
        if self._vouching.vouched:
            self._admit_waiting()
        elif self._vouching.waiting:
            self._gathered.skipped[Fault.UNCERTAIN] += len(self._vouching.waiting)
        self._vouching = _Vouching([])
        self._person.new_track()

    def _admit_waiting(self) -> None:
        for candidate in self._vouching.waiting:
            if not self._gathering.wants(candidate.row):
                self._gathered.skipped[Fault.ALIKE] += 1
                continue
            self._gathered.candidates.append(candidate)
            stay = self._gathering.add(candidate.row)
            if stay is not None:
                self._gathered.skipped[Fault.SPARE] += len(self._gathered.candidates) - len(stay)
                self._gathered.candidates = [self._gathered.candidates[i] for i in stay]
        self._vouching.waiting.clear()

    def _progress(self, fault: Fault | None) -> EnrollProgress:
        problem = "" if fault in {None, Fault.ALIKE} else fault.value
        prompts = self.coverage.prompts()
        return EnrollProgress(
            seen=self._gathered.seen, kept=len(self._gathered.candidates), share=self.coverage.share,
            prompt=prompts[0] if prompts else "", problem=problem,
        )  # fmt: skip

    # ---- the end -----------------------------------------------------------------------------------------------------

    def _interrupted(self) -> Stopped:
        self._end_track()
        self._save()
        return "interrupted"

    def _save(self) -> None:
        self._gathered.known, self._gathered.step = self._person.known, self._gathering.step
        enroll_store.save(self._folder, self._gathered)
        self._saved_s = time.monotonic()

    def so_far(self, name: str, out: Path) -> Enrollment:
        """What there is after an interruption; the face set is not written yet."""
        return describe(
            name, out, self.coverage, frames=len(self._gathered.candidates), seen=self._gathered.seen,
            stopped="interrupted", skipped=self._gathered.skipped,
        )  # fmt: skip

    def finish(self, writer: FaceSetWriter, name: str, out: Path, stopped: Stopped) -> Enrollment:
        """Choose, write the report and the set. Raises NoFaceError when there is too little."""
        found, skipped = self._gathered.candidates, self._gathered.skipped
        self._save()  # a kill while shards are written goes on from here
        if len(found) < self._options.least:
            why = ", ".join(f"{fault.value} ({n})" for fault, n in skipped.most_common(3) if n)
            raise NoFaceError(
                f"{len(found)} usable faces of {name} in {self._gathered.seen} frames, {self._options.least} are needed"
                f"; mostly: {why or 'there was no frame'}",
                hint=f"{_better(skipped)}; then personacam forget {name}, and enroll the new file",
            )
        chosen = [found[i] for i in choose(rows_of(found), self._options.frames)]
        self.coverage.count(rows_of(chosen))
        done = describe(
            name, out, self.coverage, frames=len(chosen), seen=self._gathered.seen, stopped=stopped,
            skipped=skipped + Counter({Fault.SPARE: len(found) - len(chosen)}),
        )  # fmt: skip
        write_report(done, self.coverage, rows_of(chosen))
        enroll_store.write_faces(writer, name, chosen)
        return done
