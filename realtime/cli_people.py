"""The verbs of invented people. Everything heavy (the renderer) is imported when a verb runs, not before."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from engines.errors import SettingsError
from realtime.cli_train import need_packages
from realtime.console import console, duration, errors_explained, print_json, say

if TYPE_CHECKING:
    from calibration.people.identity import Identity
    from calibration.plan import PeoplePlan

people_app = typer.Typer(
    help="People who do not exist: pictures, clips and data sets with exact truth.", no_args_is_help=True
)


class Style(str, Enum):
    """How people are drawn."""

    PHOTO = "photo"
    ANIME = "anime"


class Picture(str, Enum):
    """How crops are stored."""

    JPEG = "jpeg"
    WEBP = "webp"


StyleOption = Annotated[Style, typer.Option(help="As a webcam shows them, or cel-shaded.")]
_MOST_SEED = 1 << 31
_MOST_PIXELS = 1 << 28
"""Of a sheet: beyond, writing it takes gigabytes."""
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done and stop.")]


@contextmanager
def _rendering(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with the time left and the rate; yields its progress callback."""
    columns = (
        TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Bars(*columns, console=console) as bars:
        task = bars.add_task(what, total=None, note="")
        first: list[tuple[int, float]] = []

        def progress(done: int, total: int) -> None:
            now = time.monotonic()
            if not first:
                first.append((done, now))
            rate = (done - first[0][0]) / max(now - first[0][1], 1e-6)
            note = f"{rate:.1f} {unit}/s" if done > first[0][0] else ""
            bars.update(task, completed=done, total=total, note=note)

        yield progress


def _interrupted(kept: str) -> typer.Exit:
    say(f"stopped; {kept}")
    return typer.Exit(130)


def _need_renderer() -> None:
    need_packages("rendering people", ("moderngl", "scipy"))


def _takes_files(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _writable(out: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse before an hour of rendering what could not be written after it."""
    if out.suffix.lower() not in suffixes:
        raise SettingsError(f"cannot write {out}", hint=f"name a file that ends with {' or '.join(suffixes)}")
    if out.is_dir():
        raise SettingsError(f"{out} is a folder", hint="name a file")
    there = next(folder for folder in out.absolute().parents if folder.exists())
    # Asking is not enough: to the administrator everything is writable, even /proc.
    if not there.is_dir() or not os.access(there, os.W_OK) or not _takes_files(there):
        raise SettingsError(f"cannot write {out}: no files can be made in {there}", hint="choose another folder")


@people_app.command(
    epilog="""Examples:

    personacam people sheet --seed 7 --count 24 --out people.png

    personacam people sheet --seed 7 --count 4 --state-seed 1 --states 6 --out states.png

    personacam people sheet --count 6 --style anime --out drawn.png"""
)
def sheet(
    out: Annotated[Path, typer.Option(help="The picture to write: .png, .jpg or .webp.")] = Path("people.png"),
    seed: Annotated[int, typer.Option(min=0, max=_MOST_SEED, help="Of the first person; the next ones follow.")] = 0,
    count: Annotated[int, typer.Option(min=1, max=1000, help="People.")] = 12,
    size: Annotated[int, typer.Option(min=64, max=1024, help="Side of each picture in pixels.")] = 256,
    state_seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=_MOST_SEED, help="Of the first state: pose, face, light.", show_default="a friendly one"
        ),
    ] = None,
    states: Annotated[int, typer.Option(min=1, max=100, help="States of each person, one column each.")] = 1,
    style: StyleOption = Style.PHOTO,
    hair: Annotated[bool, typer.Option("--hair/--no-hair", help="Without: as a persona is trained.")] = True,
    as_json: JsonFlag = False,
    dry_run: DryRun = False,
) -> None:
    """A contact sheet of random people, each with the seed that makes them again."""
    seeds = list(range(seed, seed + count))
    first = 0 if state_seed is None and states > 1 else state_seed
    report = {
        "out": str(out),
        "seeds": seeds,
        "first_state": first,
        "states": states,
        "size": size,
        "style": style.value,
    }
    with errors_explained(as_json=as_json):
        _writable(out, (".png", ".jpg", ".webp"))
        if dry_run:
            print_json(report)
            return
        _need_renderer()
        _holds(out, count, states, size)
        try:
            _sheet(out, seeds, first, states, size=size, style=style, hair=hair)
        except KeyboardInterrupt:
            raise _interrupted("nothing was written") from None
    say(f"{out}: {count} people in {states} state{'s' if states > 1 else ''}")
    if as_json:
        print_json(report)


def _holds(out: Path, people: int, states: int, size: int) -> None:
    """Refuse a sheet that its file format or the memory cannot hold. Raises SettingsError."""
    from calibration.people.sheet import sheet_size

    width, height = sheet_size(people, states, size)
    most = {".webp": 16383, ".jpg": 65500}.get(out.suffix.lower(), 1 << 20)
    if max(width, height) > most or width * height > _MOST_PIXELS:
        raise SettingsError(
            f"a sheet of {width}x{height} pixels is too large for {out.suffix}", hint="show fewer or smaller pictures"
        )


def _sheet(out: Path, seeds: list[int], first: int | None, count: int, *, size: int, style: Style, hair: bool) -> None:
    import cv2

    from calibration.people.identity import random_identity
    from calibration.people.portrait import FRIENDLY
    from calibration.people.render import Renderer
    from calibration.people.sheet import contact_sheet
    from calibration.people.state import random_state
    from engines.files import write_atomic

    shown = [FRIENDLY] if first is None else [random_state(first + k) for k in range(count)]
    people = [random_identity(s) for s in seeds]
    with Renderer() as renderer, _rendering("rendering", "pictures") as progress:
        picture = contact_sheet(renderer, people, shown, size=size, style=style.value, hair=hair, progress=progress)
    data = cv2.imencode(out.suffix.lower(), picture)[1].tobytes()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out, data)
    except OSError as error:
        raise SettingsError(f"cannot write {out}: {error}", hint="choose another folder") from error


@people_app.command(
    epilog="""Examples:

    personacam people clip --identity-seed 7 --state-seed 1 --frames 90 --out seven.mp4

    personacam people clip --identity vera --frames 300 --size 640x360 --out vera.mp4

    personacam run -s seven.mp4 -o swapped.mp4"""
)
def clip(
    out: Annotated[Path, typer.Option(help="The video to write; its truth goes beside it as .npz.")] = Path("clip.mp4"),
    identity_seed: Annotated[
        int | None, typer.Option(min=0, max=_MOST_SEED, help="Who; see people sheet.", show_default="0")
    ] = None,
    identity: Annotated[str | None, typer.Option(help="Who, by name: vera, kofi or tomo.")] = None,
    state_seed: Annotated[int, typer.Option(min=0, max=_MOST_SEED, help="Of the motion, expression and light.")] = 0,
    frames: Annotated[int, typer.Option(min=1, help="Length.")] = 300,
    size: Annotated[str, typer.Option(help="WIDTHxHEIGHT in pixels, even.")] = "1280x720",
    fps: Annotated[float, typer.Option(min=1, max=240, help="Frames a second.")] = 30.0,
    style: StyleOption = Style.PHOTO,
    props: Annotated[bool, typer.Option("--props", help="With glasses, headphones, a hand or the like.")] = False,
    supersample: Annotated[float, typer.Option(min=1, max=4, help="Drawn so many times larger, for edges.")] = 1.5,
    as_json: JsonFlag = False,
    dry_run: DryRun = False,
) -> None:
    """A clip of somebody who talks and looks around, with the exact truth of every frame beside it."""
    with errors_explained(as_json=as_json):
        _writable(out, (".mp4", ".mkv", ".mov"))
        width, height = _pixels(size)
        _need_renderer()
        from calibration.people.clip import Clip, write_clip
        from calibration.people.render import Renderer

        who = _identity(identity_seed, identity)
        wanted = Clip(who, identity or "", state_seed, frames, width, height, fps, style.value, supersample, props)
        report: dict[str, Any] = {
            "out": str(out), "truth": str(out.with_suffix(".npz")),
            "identity_seed": None if identity else who.seed, "identity": identity,
            "state_seed": state_seed, "frames": frames, "size": [width, height], "fps": fps, "style": style.value,
            "props": props,
        }  # fmt: skip
        if dry_run:
            print_json(report)
            return
        started = time.monotonic()
        try:
            with Renderer() as renderer, _rendering("rendering", "frames") as progress:
                write_clip(renderer, wanted, out, progress=progress)
        except KeyboardInterrupt:
            raise _interrupted("nothing was written") from None
    report |= {"bytes": out.stat().st_size, "seconds": round(time.monotonic() - started, 2)}
    say(f"{out}: {frames} frames, {report['bytes'] / 1e6:.1f} MB; the truth is in {report['truth']}")
    if as_json:
        print_json(report)


def _pixels(size: str) -> tuple[int, int]:
    """Of "1280x720". Raises SettingsError."""
    parts = size.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise SettingsError(f"{size!r} is no size", hint="write WIDTHxHEIGHT, for example 1280x720")
    return int(parts[0]), int(parts[1])


def _identity(seed: int | None, name: str | None) -> Identity:
    """Of the command line's two ways to say who. Raises SettingsError."""
    from calibration.people.identity import cast, random_identity

    if name is None:
        return random_identity(seed or 0)
    if seed is not None:
        raise SettingsError("--identity and --identity-seed both say who", hint="leave one of them out")
    people = cast()
    if name not in people:
        raise SettingsError(f"nobody is called {name!r}", hint=f"choose among: {', '.join(sorted(people))}")
    return people[name]


@people_app.command(
    epilog="""Examples:

    personacam people dataset --identities 200 --states 100 --dry-run

    personacam people dataset --identities 200 --states 100 --out data/people

    personacam people dataset --seed 1 --identities 50 --states 40 --style anime --format webp --out data/drawn"""
)
def dataset(
    out: Annotated[Path, typer.Option(help="Folder of the set; the same folder continues.")] = Path("data/people"),
    seed: Annotated[int, typer.Option(min=0, help="Of people and states; sets of other seeds share nobody.")] = 0,
    identities: Annotated[int, typer.Option(min=1, help="People.")] = 100,
    states: Annotated[
        int, typer.Option(min=1, help="Poses, expressions and lights; everybody is in all of them.")
    ] = 100,
    size: Annotated[int, typer.Option(help="Side of the stored crops in pixels, margin included.")] = 256,
    margin: Annotated[float, typer.Option(help="Side of the stored crop over side of the face's crop.")] = 1.25,
    jobs: Annotated[int, typer.Option(min=0, help="Rendering processes; 0 takes one per core.")] = 0,
    style: StyleOption = Style.PHOTO,
    clean: Annotated[bool, typer.Option("--clean", help="Without the camera's noise, blur and codec.")] = False,
    picture: Annotated[Picture, typer.Option("--format", help="How crops are stored.")] = Picture.JPEG,
    quality: Annotated[int, typer.Option(help="Of the stored crops, 1 to 100.")] = 95,
    as_json: JsonFlag = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate size and time here, and stop.")] = False,
) -> None:
    """A data set of people, every one in every state, so that any two are a pair, with all truth.

    Ctrl-C keeps what is finished; the same command continues. The seeds make the set: rendered again on the same
    machine it is the same to the byte, with any number of processes.
    """
    with errors_explained(as_json=as_json):
        _need_renderer()
        from calibration.plan import PeoplePlan

        plan = PeoplePlan(seed, identities, states, size, margin, style.value, clean, picture.value, quality)
        if dry_run:
            _estimate(plan, out, jobs, as_json=as_json)
            return
        report = _dataset(plan, out, jobs)
    say(
        f"{out}: {report['crops']} crops of {identities} people in {states} states, {report['bytes'] / 1e6:.1f} MB"
        f" (manifest {report['digest'][:12]})"
    )
    if as_json:
        print_json(report)


def _estimate(plan: PeoplePlan, out: Path, jobs: int, *, as_json: bool) -> None:
    """Render a few crops and say what all of them would take."""
    from dataclasses import asdict

    from calibration.dataset import cores, estimate

    say("rendering a few crops to estimate")
    found = estimate(plan, jobs=jobs)
    processes = jobs or cores()
    say(
        f"{out}: {plan.identities} people in {plan.states} states, {found.crops} crops of {plan.size} pixels as"
        f" {plan.picture} ({plan.style}, seed {plan.seed})"
    )
    say(
        f"about {found.bytes / 1e6:.0f} MB and {duration(found.seconds)} with {processes}"
        f" process{'es' if processes > 1 else ''} ({found.crops_per_s:.1f} crops/s); nothing was written"
    )
    if as_json:
        print_json({"out": str(out), "jobs": processes, "plan": asdict(plan), "estimate": asdict(found)})


def _dataset(plan: PeoplePlan, out: Path, jobs: int) -> dict[str, Any]:
    """Render with a progress bar; Ctrl-C leaves with status 130 and everything finished kept."""
    from calibration.dataset import build_dataset
    from engines.faceset import read_index

    started = time.monotonic()
    try:
        with _rendering("rendering", "crops") as progress:
            build_dataset(plan, out, jobs=jobs, progress=progress)
    except KeyboardInterrupt:
        raise _interrupted("everything finished so far is kept, the same command continues") from None
    index = read_index(out)
    return {
        "out": str(out),
        "crops": sum(len(s.states) for s in index.shards),
        "identities": len({s.identity for s in index.shards}),
        "bytes": sum(s.bytes for s in index.shards),
        "seconds": round(time.monotonic() - started, 2),
        "digest": index.digest,
    }
