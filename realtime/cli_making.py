"""From footage to a persona in one command: faces, training, report, persona file. Heavy imports wait until it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bars

from engines.errors import ConsentFootageError, ConsentMissingError, SettingsError
from realtime.cli_consent import gatekeeper
from realtime.cli_enroll import ask_for_it, bring_in, say_if_little, some_of
from realtime.cli_train import kept, need_packages
from realtime.cli_train_stages import Device, DeviceName, JsonFlag, Minutes, ModeName, Seed, Steps, device_of
from realtime.console import console, duration, errors_explained, print_json, say
from realtime.persona_names import proper_name

if TYPE_CHECKING:
    from calibration.consent_gates import Gatekeeper
    from calibration.enrollment import EnrollOptions, EnrollProgress
    from calibration.making import Extract, Made, Making, MakingHooks, Step

EXAMPLES = """Examples:

    personacam train persona ada --source ada.mp4

    personacam train persona ada --source ada.mp4 --consent ada.consent.json

    personacam train persona ada --source monday.mp4 --source tuesday.mp4 --minutes 5

    personacam train persona ada --source ada.mp4 --dry-run

    personacam run --persona ada"""

_GUESS_S: Mapping[str, float] = {"training": 360.0, "report": 20.0, "persona": 10.0}
"""Of stages that have not begun, on two cores: training ends earlier where held-out frames gain nothing more."""


@dataclass(frozen=True, slots=True)
class Learning:
    """What the training is asked for."""

    minutes: float | None = None
    steps: int | None = None
    mode: ModeName = ModeName.AUTO
    seed: int = 0
    device: DeviceName = DeviceName.AUTO
    universal: Path | None = None
    """None: the shipped networks."""


def add_verb(train: typer.Typer) -> None:
    """Add ``train persona``."""
    train.command("persona", epilog=EXAMPLES)(persona)


def persona(
    name: Annotated[str, typer.Argument(help="Of the persona; the consent record names it too.")],
    source: Annotated[list[Path], typer.Option("--source", "-s", help="A video file of the person; repeat it.")],
    consent: Annotated[
        Path | None,
        typer.Option(help="The person's signed record, brought in first.", show_default="the one brought in before"),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where faces, training and report go.", show_default="the user's enrolled/NAME")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The persona file.", show_default="the user's personas: run --persona NAME")
    ] = None,
    frames: Annotated[int, typer.Option(min=8, help="Faces to learn from; 8 give a likeness, 300 a good one.")] = 300,
    minutes: Minutes = None,
    steps: Steps = None,
    mode: Annotated[ModeName, typer.Option(help="What may change; auto: by the number of faces.")] = ModeName.AUTO,
    seed: Seed = 0,
    device: Device = DeviceName.AUTO,
    universal: Annotated[
        Path | None, typer.Option(help="Universal networks of train universal.", show_default="the shipped ones")
    ] = None,
    as_json: JsonFlag = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done and stop.")] = False,
) -> None:
    """From footage of a consenting person to a persona to wear: faces, training, report, persona file.

    Needs the person's signed consent record of just these files (personacam consent). Ctrl-C or a kill loses nothing:
    the same command goes on, and skips what is finished.
    """
    with errors_explained(as_json=as_json):
        from calibration.enrollment import EnrollOptions

        if consent is not None and not dry_run:
            bring_in(gatekeeper(), consent)
        make(
            name, source, folder=folder, out=out, options=EnrollOptions(frames=frames),
            learning=Learning(minutes, steps, mode, seed, device, universal), as_json=as_json, dry_run=dry_run,
        )  # fmt: skip


def export_enrolled_run(run: Path, data: Path, out: Path, universal: Path | None, *, as_json: bool) -> None:
    """``personacam export`` of what ``train enroll`` left. Raises what the export gate and the export raise."""
    from calibration.persona_export import export_enrolled

    exported = export_enrolled(gatekeeper(), out.stem, data, run, out, universal=universal)
    manifest = exported.manifest
    kind = "a real person, with the consent record inside" if manifest.chain else "an invented person"
    say(f"{out}: {out.stat().st_size / 1e6:.2f} MB, {manifest.tier}, {kind}")
    say(f"wear it: personacam run --persona {out}", "bold")
    if as_json:
        print_json({"persona": manifest.name, "path": str(out), "kind": manifest.kind, "tier": manifest.tier})


def make(
    name: str, sources: Sequence[Path], *, folder: Path | None = None, out: Path | None = None,
    options: EnrollOptions | None = None, learning: Learning = Learning(), as_json: bool = False, dry_run: bool = False,
) -> None:  # fmt: skip
    """All stages with bars, and what to do next. Raises PersonacamError; typer.Exit 130 after Ctrl-C."""
    need_packages("making a persona", ("torch", "safetensors"))
    from calibration.enrollment import EnrollOptions

    making = _making(name, folder, out, learning)
    options = options or EnrollOptions()
    if dry_run:
        _say_plan(making, sources, options)
        return
    gate = gatekeeper()
    try:
        with _board(making) as hooks:
            from calibration.making import make_persona

            made = make_persona(gate, making, extraction(gate, sources, making, options), hooks)
    except (ConsentMissingError, ConsentFootageError) as error:
        raise type(error)(error.message, hint=ask_for_it(name, sources)) from error
    except KeyboardInterrupt:
        raise kept() from None
    if made.stopped == "interrupted":
        if as_json:
            print_json({"stopped": made.stopped, "at": made.at})
        raise kept()
    _say_made(making, made)
    if as_json:
        print_json({"persona": name, **asdict(made)})


def _making(name: str, folder: Path | None, out: Path | None, learning: Learning) -> Making:
    from calibration.making import Making, tier_of_universal
    from calibration.persona_export import standing_place
    from engines.enroll import EnrollConfig
    from engines.persona import SUFFIX
    from engines.universal_bundle import shipped_universal
    from realtime.session import data_folder

    proper_name(name)
    if out is not None and (out.suffix != SUFFIX or out.stem != name):
        raise SettingsError(f"{out} is no file of the persona {name}", hint=f"call it {name}{SUFFIX}")
    universal = learning.universal or shipped_universal()
    home = data_folder()
    config = EnrollConfig(
        mode=learning.mode.value, steps=learning.steps, max_minutes=learning.minutes, seed=learning.seed,
        device=device_of(learning.device),
    )  # fmt: skip
    place = out or standing_place(home, name, tier_of_universal(universal))
    return Making(name, folder or home / "enrolled" / name, place, universal, config)


def extraction(
    gate: Gatekeeper, sources: Sequence[Path], making: Making, options: EnrollOptions,
    found: Callable[[Mapping[str, Any]], None] | None = None,
) -> Extract:  # fmt: skip
    """The first stage: frames of the files, judged and cut, through the gate. ``found`` hears what came of it."""

    def extract(tell: Callable[[Step], None]) -> Path | None:
        from calibration.making import Step
        from realtime.enroll_pace import Pace, frames_in
        from realtime.enroll_session import enroll_files

        pace = Pace(frames_in(sources))

        def progress(p: EnrollProgress) -> None:
            rate, left_s = pace.at(p.seen)
            wanted = f"wanted: {p.prompt}" if p.prompt else ""
            speed = "" if rate is None else f", {rate:.0f} frames/s"
            note = f"{p.kept} kept of {p.seen} frames{speed}  {p.problem or wanted}"
            # It ends when everything wanted was seen or with the footage, whatever comes first.
            tell(Step("faces", min(max(p.share, pace.done(p.seen)), 0.99), left_s, note))

        done = enroll_files(sources, making.name, making.folder, gate, options=options, progress=progress)
        if done.stopped == "interrupted":
            return None
        missing = f"; hardly seen: {some_of(done.missing)}" if done.missing else ""
        say(f"faces: {done.frames} kept of {done.seen} frames, {done.share:.0%} of what is wanted{missing}")
        say(f"{done.picture}: what was seen, as a picture")
        say_if_little(done)
        if found is not None:
            found({"kept": done.frames, "seen": done.seen, "share": done.share, "missing": list(done.missing)})
        return done.faceset

    return extract


@contextmanager
def _board(making: Making) -> Iterator[MakingHooks]:
    """A bar for each stage, and the time left of all."""
    from calibration.making import STAGES, MakingHooks

    columns = (
        TextColumn("{task.description:9}"), BarColumn(bar_width=24), TaskProgressColumn(),
        TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    bars = Bars(*columns, console=console)
    try:
        tasks: dict[str, TaskID] = {}
        finished: set[str] = set()

        def step(p: Step) -> None:
            if not tasks:  # not before: a refused consent leaves no empty bars
                bars.start()
                tasks.update({stage: bars.add_task(stage, total=1.0, note="") for stage in STAGES})
            done = p.fraction >= 1
            eta_s = _GUESS_S.get(p.stage) if p.eta_s is None else p.eta_s
            # First: a narrow window cuts the end of the line off.
            left = "" if eta_s is None else f"about {duration(_later(p.stage, making) + eta_s)} left in all  "
            bars.update(tasks[p.stage], completed=p.fraction, note=p.note if done else f"{left}{p.note}")
            if done and p.stage not in finished:
                finished.add(p.stage)
                if not console.is_terminal:  # a log shows no bars
                    say(f"{p.stage}: done{', ' + p.note if p.note else ''}")

        yield MakingHooks(step, say)
    finally:
        if bars.live.is_started:  # stopping what never began prints an empty line too
            bars.stop()


def _later(stage: str, making: Making) -> float:
    """Seconds that the stages after this one may take."""
    from calibration.making import STAGES

    guess = dict(_GUESS_S)
    if making.config.max_minutes is not None:
        guess["training"] = min(guess["training"], 60 * making.config.max_minutes)
    return sum(guess.get(later, 0.0) for later in STAGES[STAGES.index(stage) + 1 :])


def _say_plan(making: Making, sources: Sequence[Path], options: EnrollOptions) -> None:
    print_json(
        {
            "persona": making.name, "footage": [str(path) for path in sources], "folder": str(making.folder),
            "out": str(making.out), "universal": str(making.universal), "faces": asdict(options),
            "training": asdict(making.config),
        }
    )  # fmt: skip


def _say_made(making: Making, made: Made) -> None:
    from calibration.making_words import in_words

    say(in_words(made.figures))
    took = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in made.seconds.items() if seconds >= 1)
    say(f"{made.path}: the persona{f' ({took})' if took else ''}", "bold")
    say(f"{made.report}: how good it is, with pictures to look at")
    from calibration.making import command_of

    say(f"wear it: {command_of(making)}", "bold")
