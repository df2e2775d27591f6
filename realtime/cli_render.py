"""``personacam render``: film mode."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from realtime.config import resolve
from realtime.console import console, duration, errors_explained, print_json, say
from realtime.policy import FailurePolicy

if TYPE_CHECKING:
    from realtime.render_pool import Executor

EXAMPLES = """Examples:

    personacam render talk.mp4 film.mp4 --persona vera                every picture, the largest tier, sound kept

    personacam render talk.mp4 film.mp4 -p vera --jobs 4              four processes; Ctrl-C loses at most a segment

    personacam render talk.mp4 film.mp4 -p vera --face left           two people: the left one is swapped

    personacam render talk.mp4 film.mp4 -p vera --cluster auto        the machines of a Ray cluster"""
_INTERRUPTED = 130


class _Bar:
    """Pictures done and time left, on standard error."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console,
            transient=True,
        )  # fmt: skip
        self._task: TaskID | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While the work is done."""
        with self._progress:
            yield

    def begin(self, what: str, total: int) -> None:
        """See ``render.Shows``."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(what, total=total or None)

    def advance(self, frames: int) -> None:
        """See ``render.Shows``."""
        if self._task is not None:
            self._progress.advance(self._task, frames)


def render(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A video file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The film: .mp4, .mov or .mkv.")],
    persona: Annotated[
        str | None, typer.Option("--persona", "-p", help="A persona's name or a .persona file.", show_default="vera")
    ] = None,
    tier: Annotated[str | None, typer.Option(help="tiny, small or base.", show_default="largest")] = None,
    face: Annotated[
        str | None, typer.Option(help="Of several: left, right, largest, 1, 2, … from the left, or X,Y.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Processes.")] = 1,
    cluster: Annotated[
        str | None, typer.Option(help="Ray: auto, ray://HOST:10001, or local; IN has the same path everywhere.")
    ] = None,
    policy: Annotated[
        FailurePolicy | None, typer.Option(help="What stands where there is no swap.", show_default="veil")
    ] = None,
    hold_s: Annotated[float | None, typer.Option(help="Policy hold: seconds before the veil.")] = None,
    card: Annotated[Path | None, typer.Option(help="Policy card: a picture.")] = None,
    label: Annotated[bool | None, typer.Option("--label/--no-label", help="The visible AI MODIFIED label.")] = None,
    label_position: Annotated[str | None, typer.Option(help="top-right, top-left, bottom-right, bottom-left.")] = None,
    territory: Annotated[str | None, typer.Option(help="Real people's personas: the country you are in: DE.")] = None,
    morph: Annotated[float | None, typer.Option(help="Imported AMP models: 0..1, how much of the persona.")] = None,
    colour_strength: Annotated[float | None, typer.Option(help="0 persona's colours .. 1 wearer's.")] = None,
    erode: Annotated[int | None, typer.Option(help="Mask, in swap pixels.")] = None,
    feather: Annotated[int | None, typer.Option(help="Mask, in swap pixels.")] = None,
    smooth: Annotated[bool | None, typer.Option("--smooth/--no-smooth", help="Smooth the alignment.")] = None,
    runtime: Annotated[
        str | None, typer.Option(help="auto, tensorrt, tensorrt-rtx, openvino, onnxruntime.", show_default="auto")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="auto, f32, bf16.", show_default="auto")] = None,
    threads: Annotated[int | None, typer.Option(help="Of each inference session.", show_default="1")] = None,
    crf: Annotated[int, typer.Option(help="Quality of the picture: 0 loses nothing, 23 is small.")] = 16,
    segment_s: Annotated[float, typer.Option(help="Seconds that an interruption costs at the most.")] = 10.0,
    profile: Annotated[Path | None, typer.Option(help="TOML file with options of personacam run.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT, and what was begun otherwise.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Film mode: a whole file at full quality, resumable; sound, times and rotation stay as they are."""
    own = {"source", "out", "face", "jobs", "cluster", "crf", "segment_s", "profile", "force", "as_json", "own"}
    flags = {name: value for name, value in locals().items() if name not in own}
    from realtime.render import FilmWishes
    from realtime.render import render as make
    from realtime.render_faces import parse_choice
    from realtime.start import Signals

    stop = threading.Event()
    signals, bar = Signals(stop), _Bar()
    with errors_explained(as_json=as_json), signals.installed(), bar.shown():
        signals.running = True
        settings = resolve(flags | {"source": str(source), "sink": (str(out),), "pace": "off"}, profile)
        wishes = FilmWishes(out.expanduser(), parse_choice(face), crf, segment_s, force)
        report = make(settings, wishes, lambda: _executor(jobs, cluster), say=say, show=bar, stop=stop)
    _tell(report)
    if as_json:
        print_json(report)
    if not report["finished"]:
        raise typer.Exit(_INTERRUPTED)


def _executor(jobs: int, cluster: str | None) -> Executor:
    from realtime.render_pool import InProcess, Processes, RayCluster

    if cluster is not None:
        return RayCluster(None if cluster == "local" else cluster, jobs)
    return Processes(jobs) if jobs > 1 else InProcess()


def _tell(report: dict[str, Any]) -> None:
    frames, segments = report["frames"], report["segments"]
    if not report["finished"]:
        say(
            f"stopped: {segments['finished']} of {segments['all']} segments are finished; the same command goes on",
            "yellow",
        )
        return
    reasons = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in report["policy_reasons"].items())
    covered = f", {frames['policy']} without a swap by the policy {report['policy']} ({reasons})"
    say(
        f"{report['out']}: {frames['sent']} pictures, {frames['swapped']} swapped"
        f"{covered if frames['policy'] else ''}, in {duration(report['took_s'])}"
    )
    if frames["damaged"]:
        say(f"{frames['damaged']} packets of the original were damaged; their pictures are missing", "yellow")
