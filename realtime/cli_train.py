"""The training verbs. Everything heavy (torch, the renderer) is imported when a verb runs, not before."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from engines.errors import MissingDependencyError, SettingsError
from realtime.console import console, errors_explained, print_json, say

if TYPE_CHECKING:
    from calibration.plan import Plan
    from engines.train import Progress, TrainConfig


def need_packages(what: str, packages: Sequence[str], *, extra: str = "train") -> None:
    """Raise MissingDependencyError when ``what`` needs one of an extra's packages that is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        hint = f"in the folder of personacam: pip install '.[{extra}]'"
        raise MissingDependencyError(f"{what} needs {', '.join(missing)}", hint=hint)


def _need_training_extra() -> None:
    need_packages("training", ("torch", "moderngl", "safetensors", "scipy"))


class _Board:
    """Two progress bars: rendering, then training."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._render = bars.add_task("rendering", total=None, note="")
        self._train = bars.add_task("training", total=None, note="")

    def rendering(self, done: int, total: int) -> None:
        self._bars.update(self._render, completed=done, total=total, note="crops")

    def training(self, p: Progress) -> None:
        note = f"step {p.step}  {p.images_per_s:.0f} images/s  loss {p.loss.get('total', float('nan')):.3f}"
        if p.scores:
            note += "  " + "  ".join(f"{name} {s.psnr_masked_db:.1f} dB" for name, s in p.scores.items())
        self._bars.update(self._train, completed=round(1000 * p.fraction), total=1000, note=note)
        if p.scores:
            self._bars.console.print(f"checkpoint: {note}", highlight=False)


train_app = typer.Typer(invoke_without_command=True)


@train_app.callback()
def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder of the run; the same folder continues.")] = Path("runs/first"),
    seed: Annotated[int, typer.Option(help="Of people, states and weights.")] = 0,
    personas: Annotated[list[str] | None, typer.Option("--persona", help="vera or kofi; both unless named.")] = None,
    wearers: Annotated[int, typer.Option(min=1, help="Invented people to learn from.")] = 40,
    states: Annotated[int, typer.Option(min=1, help="Poses, expressions and lights.")] = 2400,
    steps: Annotated[int, typer.Option(min=1, help="Length of the schedule, in batches.")] = 5706,
    max_minutes: Annotated[
        float | None, typer.Option(help="Length of the schedule in time, if that is shorter.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Rendering processes.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done and stop.")] = False,
) -> None:
    """Your own persona: personacam train persona NAME --source FILE.

    Without a verb: render invented people, train encoder and persona decoders on them, export and package.

    With a verb: one stage of the universal encoder and of what builds on it.

    Ctrl-C saves; the same command continues. The defaults are the recipe of the shipped personas: about half an hour
    of rendering and 50 minutes of training on two cores.

    Examples:
        personacam train --out runs/first

        personacam train --out runs/try --wearers 4 --states 60 --steps 40

        personacam train enroll --data data/nia --identity nia --universal runs/universal --out runs/nia

    """
    if context.invoked_subcommand is not None:
        _refuse_stray_options(context)
        return
    with errors_explained(as_json=as_json):
        _need_training_extra()
        from calibration.plan import Plan
        from engines.train import TrainConfig

        plan = Plan(
            seed=seed,
            personas=tuple(personas or ("vera", "kofi")),
            wearers=wearers,
            states=states,
            states_per_wearer=min(75, states),
            # The same shares as the defaults', so that a small trial is small.
            validation_wearers=max(1, round(wearers * 6 / 40)),
            validation_states=max(4, round(states * 90 / 2400)),
        )
        config = TrainConfig(seed=seed, steps=steps, max_minutes=max_minutes)
        if dry_run:
            print_json({"out": str(out), "plan": asdict(plan), "training": asdict(config)})
            return
        report = _train(plan, config, out, jobs)
    _report(report, as_json=as_json)
    if report["stopped"] == "interrupted":
        raise kept()


def _refuse_stray_options(context: typer.Context) -> None:
    """Options before a verb would be ignored silently."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    stray = [name.replace("_", "-") for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    with errors_explained():
        if stray:
            verb = context.invoked_subcommand
            raise SettingsError(f"options stand before the verb {verb}: {', '.join(stray)}",
                                hint=f"put them after it; personacam train {verb} --help lists its own")  # fmt: skip


def _train(plan: Plan, config: TrainConfig, out: Path, jobs: int) -> dict[str, Any]:
    """Run with two progress bars; Ctrl-C leaves with status 130 and everything kept."""
    from calibration.training import Hooks, run_training

    columns = (
        TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    try:
        with Bars(*columns, console=console) as bars:
            board = _Board(bars)
            return run_training(plan, config, out, jobs=jobs, hooks=Hooks(board.rendering, board.training, say))
    except KeyboardInterrupt:
        raise kept() from None


def export(
    run: Annotated[Path, typer.Option(help="Folder of a finished training run.")] = Path("runs/first"),
    data: Annotated[Path | None, typer.Option(help="An enrolled run: the face set that it learned from.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="An enrolled run: the .persona file; its name is the persona's.")
    ] = None,
    universal: Annotated[
        Path | None, typer.Option(help="An enrolled run: what it began with.", show_default="the shipped networks")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Export a finished run's personas: ONNX, compared with torch, packed as .persona files.

    A real person's needs their consent record, which goes into the file; this machine's key signs it.

    Examples:
        personacam export --run runs/first

        personacam export --run runs/ada --data data/ada --out ada.persona

    """
    with errors_explained(as_json=as_json):
        _need_training_extra()
        if (run / "decoder.json").exists():
            if data is None or out is None or out.suffix != ".persona":
                raise SettingsError(f"{run} is an enrolled run: its face set and the file to write are missing",
                                    hint="add --data FOLDER --out NAME.persona")  # fmt: skip
            from realtime.cli_making import export_enrolled_run

            export_enrolled_run(run, data, out, universal, as_json=as_json)
            return
        from calibration.training import export_run

        _report({"personas": export_run(run)}, as_json=as_json)


def kept() -> typer.Exit:
    """What Ctrl-C leaves behind."""
    say("stopped; everything finished so far is kept, the same command continues")
    return typer.Exit(130)


def _report(report: dict[str, Any], *, as_json: bool) -> None:
    for row in report.get("personas", []):
        say(
            f"{row['path']}: {row['bytes'] / 1e6:.2f} MB, {row['psnr_masked_db']:.2f} dB in the mask,"
            f" mask IoU {row['mask_iou']:.3f}"
        )
    if as_json:
        print_json(report)
