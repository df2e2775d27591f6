"""Guided enrollment: record yourself while you are told what is missing, or take a file; faces through the gates."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column

from engines.errors import ConsentFootageError, ConsentMissingError, SettingsError
from realtime.cli_consent import gatekeeper, quoted
from realtime.cli_train import kept
from realtime.console import console, duration, errors_explained, print_json, say
from realtime.persona_names import proper_name

if TYPE_CHECKING:
    from calibration.consent_gates import Gatekeeper
    from calibration.enrollment import Enrollment, EnrollOptions, EnrollProgress
    from realtime.enroll_pace import Pace

EXAMPLES = """Examples:

    personacam enroll ada --source 0                       record, guided; then the consent, then the next line

    personacam enroll ada --source ada.mp4                 faces from a recording, as fast as it goes

    personacam enroll ada --source ada.mp4 --consent ada.consent.json

    personacam enroll ada --source monday.mp4 --source tuesday.mp4 --frames 500 --whole

    personacam train persona ada --source ada.mp4          goes on to the finished persona"""

_CALM_S = 0.7
"""The line changes no more often: somebody has to read it while they move."""
_BLOCKS = "·▁▂▃▄▅▆▇█"
_LOG_STEP = 0.1
_MOST_NAMED = 8
_LITTLE = 0.5
"""Of what is wanted; below it there is a warning."""


def enroll(
    name: Annotated[str, typer.Argument(help="Of the persona; the consent record names it too.")],
    source: Annotated[
        list[str],
        typer.Option("--source", "-s", help="A camera (0, /dev/video0, camera:NAME) or a video file; repeat files."),
    ],
    consent: Annotated[
        Path | None, typer.Option(help="The person's signed record, brought in first.", show_default="what is here")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the result.", show_default="the user's enrolled/NAME")
    ] = None,
    frames: Annotated[int, typer.Option(min=8, help="Faces to keep; 8 give a likeness, 300 a good one.")] = 300,
    size: Annotated[int, typer.Option(min=64, max=1024, help="Side of the stored pictures, pixels.")] = 240,
    every: Annotated[int, typer.Option(min=1, help="Files: look at every n-th frame.")] = 1,
    whole: Annotated[bool, typer.Option("--whole", help="Files: look at all of it, and take the best.")] = False,
    record: Annotated[
        Path | None, typer.Option(help="Camera: the file to record into.", show_default="NAME.mp4")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, max=60, help="Camera: at most so long.")] = 5.0,
    preview: Annotated[
        bool | None,
        typer.Option("--preview/--no-preview", help="Camera: a window.", show_default="if it can be"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done and stop.")] = False,
) -> None:
    """Take the faces of a consenting person from footage: the beginning of their persona.

    A camera is recorded into a file while you are told what is missing; the consent record then names that file, and
    the same command with the file takes the faces. Left and right are yours, as you sit. Ctrl-C loses nothing: the
    same command goes on.
    """
    with errors_explained(as_json=as_json):
        from calibration.enrollment import EnrollOptions
        from realtime.session import data_folder

        proper_name(name)
        options = EnrollOptions(frames=frames, size=size, every=every, stop_when_enough=not whole)
        folder = out or data_folder() / "enrolled" / name
        cameras = [spec for spec in source if _is_camera(spec)]
        if cameras and len(source) > 1:
            raise SettingsError("one camera, or files: not both", hint="record first, then name all files")
        if dry_run:
            print_json({"persona": name, "source": source, "out": str(folder), "options": asdict(options)})
            return
        gate = gatekeeper()
        if consent is not None:
            bring_in(gate, consent)
        if cameras:
            _record(name, cameras[0], record or Path(f"{name}.mp4"), options, minutes, preview, as_json=as_json)
        else:
            _extract(name, [Path(spec).expanduser() for spec in source], folder, gate, options, as_json=as_json)


def _is_camera(spec: str) -> bool:
    text = spec.strip()
    return text.isdecimal() or text.startswith(("camera:", "/dev/")) or "://" in text


def bring_in(gate: Gatekeeper, file: Path) -> None:
    """Take a signed record in, as ``consent import`` does."""
    from calibration.consent_gates import utc_now

    try:
        signed = gate.store.add(file.read_bytes())
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}", hint="check the path") from error
    gate.store.log.append("consent", signed.record.persona, {"consent": signed.digest}, utc_now())


# ---- files ---------------------------------------------------------------------------------------------------------


def _extract(
    name: str, paths: Sequence[Path], folder: Path, gate: Gatekeeper, options: EnrollOptions, *, as_json: bool
) -> None:
    from realtime.enroll_pace import Pace, frames_in
    from realtime.enroll_session import enroll_files

    try:
        with _board("faces", Pace(frames_in(paths))) as progress:
            done = enroll_files(paths, name, folder, gate, options=options, progress=progress)
    except (ConsentMissingError, ConsentFootageError) as error:
        raise type(error)(error.message, hint=ask_for_it(name, paths)) from error
    _tell(done, paths)
    if as_json:
        print_json(asdict(done))
    if done.stopped == "interrupted":
        raise kept()


def ask_for_it(name: str, paths: Sequence[Path]) -> str:
    """The commands that bring the missing consent, ready to be copied."""
    footage = " ".join(f"--footage {quoted(path)}" for path in paths)
    key = f"{name}.pem"
    return (
        "the person who is shown has to agree, you yourself too:\n"
        f"       personacam consent key {key}        (their key, behind a passphrase; once)\n"
        f"       personacam consent request {name} --subject NAME --enroller YOU --purpose stream --purpose recording"
        f" {footage}\n"
        f"       personacam consent sign {name}.request.json --key {key}\n"
        f"       personacam consent import {name}.consent.json"
    )


def _tell(done: Enrollment, paths: Sequence[Path]) -> None:
    """What there is, what is missing, and what comes next."""
    if done.stopped == "interrupted":
        say(f"{done.frames} faces gathered from {done.seen} frames, {done.share:.0%} of what is wanted")
        return
    for line in coverage_lines(json.loads(done.report.read_bytes())["bins"]):
        say(line)
    left_out = ", ".join(f"{n} {why}" for why, n in sorted(done.skipped.items(), key=lambda item: -item[1])[:4])
    say(f"{done.frames} faces of {done.seen} frames; left out: {left_out or 'none'}")
    if done.missing:
        say(f"hardly seen: {some_of(done.missing)}; the persona will be weakest there", "yellow")
    say_if_little(done)
    say(f"{done.picture}: the coverage as a picture")
    sources = " ".join(f"--source {quoted(path)}" for path in paths)
    say(f"next: personacam train persona {done.name} {sources}", "bold")


def some_of(missing: Sequence[str]) -> str:
    """The first ones, and how many more: a list that is read to its end."""
    more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
    return ", ".join(missing[:_MOST_NAMED]) + more


def say_if_little(done: Enrollment) -> None:
    """Before minutes of training: footage that shows too little makes a persona that disappoints."""
    if done.share >= _LITTLE:
        return
    why = max(done.skipped, key=lambda fault: done.skipped[fault], default="")
    mostly = f"; most frames were left out: {why}" if done.skipped and done.skipped[why] > done.seen / 2 else ""
    say(
        f"this is little, {done.share:.0%} of what is wanted{mostly}. A better recording is worth more than training:"
        f" personacam enroll {done.name} --source 0 tells you what is missing while you record", "yellow",
    )  # fmt: skip


def coverage_lines(bins: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each axis: a block for each bin, as high as it is full."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for one in bins:
        lines.setdefault(one["axis"], []).append(one)
    return [
        f"{axis:>9} "
        + "  ".join(f"{_BLOCKS[min(8, 8 * b['frames'] // max(1, b['wanted']))]} {b['bin']}" for b in members)
        for axis, members in lines.items()
    ]


# ---- camera --------------------------------------------------------------------------------------------------------


def _record(
    name: str, spec: str, path: Path, options: EnrollOptions, minutes: float, preview: bool | None, *, as_json: bool
) -> None:
    from realtime.capture import open_source
    from realtime.enroll_camera import free_name, record_guided
    from realtime.sink import PreviewSink, display_problem
    from realtime.source import SourceConfig

    target = free_name(path)
    shown = preview if preview is not None else display_problem() is None
    source = open_source(spec, SourceConfig())
    say(f"{source.report}; recording to {target} until everything was seen, at most {duration(60 * minutes)}")
    say("sit as you usually do and follow the line below; left and right are your own; Ctrl-C ends it")
    with _board("covered") as progress:
        made = record_guided(
            source, target, options, progress=progress, preview=PreviewSink(f"personacam: {name}") if shown else None,
            most_s=60 * minutes,
        )  # fmt: skip
    missing = [b.prompt for _, b in made.coverage.missing()]
    say(f"{target}: {made.frames} frames, {duration(made.seconds)}, {made.coverage.share:.0%} of what is wanted")
    if missing:
        say(f"still missing: {'; '.join(missing)}. Record once more for more, or go on", "yellow")
    say(f"now {ask_for_it(name, [target])}\n       personacam train persona {name} --source {quoted(target)}", "bold")
    if as_json:
        print_json(
            {"recording": str(target), "frames": made.frames, "seconds": round(made.seconds, 1),
             "share": made.coverage.share, "missing": missing, "complete": made.complete}
        )  # fmt: skip


@contextmanager
def _board(what: str, pace: Pace | None = None) -> Iterator[Callable[[EnrollProgress], None]]:
    """One bar, and beside it one line that stays long enough to be read; in a log a line for every tenth.

    ``pace``: of files; then the line has the rate and the time left.
    """
    columns = (
        TextColumn("{task.description:8}"), BarColumn(bar_width=24), TaskProgressColumn(),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
    )  # fmt: skip
    changed, logged = 0.0, -1.0
    bars = Bars(*columns, console=console)
    task = bars.add_task(what, total=1.0, note="", visible=False)
    try:

        def progress(p: EnrollProgress) -> None:
            nonlocal changed, logged
            bars.start()  # not before the first frame: a refusal leaves no empty line
            now = time.monotonic()
            speed = "" if pace is None else _speed(*pace.at(p.seen))
            if now - changed >= _CALM_S:
                changed = now
                want = p.problem or (f"wanted: {p.prompt}" if pace is not None and p.prompt else p.prompt)
                note = f"{p.kept} kept of {p.seen} frames  {speed}{want}"
                bars.update(task, visible=True, completed=p.share, note=note)
            if not console.is_terminal and p.share >= logged + _LOG_STEP:
                logged = p.share
                say(f"{p.share:.0%}: {p.kept} kept of {p.seen} frames; {speed}{p.problem or p.prompt}")

        yield progress
    finally:
        if bars.live.is_started:  # stopping what never began prints an empty line too
            bars.stop()


def _speed(rate: float | None, left_s: float | None) -> str:
    """For the line beside the bar; nothing while it is not known."""
    if rate is None:
        return ""
    left = "" if left_s is None else f"at most {duration(left_s)} left, "
    return f"{rate:.0f} frames/s, {left}"
