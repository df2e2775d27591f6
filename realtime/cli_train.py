"""The training verbs. Everything heavy (torch, the renderer) is imported when a verb runs, not before."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from engines.errors import MissingDependencyError, PersonacamError

if TYPE_CHECKING:
    from engines.train import Progress

_err = Console(stderr=True)


def _need_training_extra() -> None:
    missing = [name for name in ("torch", "moderngl", "safetensors", "scipy") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(f"training needs {', '.join(missing)}", hint="pip install 'personacam[train]'")


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


def _explain(error: PersonacamError) -> typer.Exit:
    _err.print(f"[red]{escape(error.message)}[/red]\n  [bold]->[/bold] {escape(error.hint)}", highlight=False)
    return typer.Exit(1)


def train(
    out: Annotated[Path, typer.Option(help="Folder of the run; the same folder continues.")] = Path("runs/first"),
    seed: Annotated[int, typer.Option(help="Of people, states and weights.")] = 0,
    personas: Annotated[list[str] | None, typer.Option("--persona", help="vera, kofi; repeat it.")] = None,
    wearers: Annotated[int, typer.Option(help="Invented people to learn from.")] = 40,
    states: Annotated[int, typer.Option(help="Poses, expressions and lights.")] = 2400,
    steps: Annotated[int, typer.Option(help="Length of the schedule, in batches.")] = 8000,
    max_minutes: Annotated[
        float | None, typer.Option(help="Length of the schedule in time, if that is shorter.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Rendering processes.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done and stop.")] = False,
) -> None:
    """Render invented people, train encoder and persona decoders on them, export and package.

    Ctrl-C saves; the same command continues. The defaults are the recipe of the shipped personas: about half an hour
    of rendering and an hour of training on two cores.

    Examples:
        personacam train --out runs/first

        personacam train --out runs/try --wearers 4 --states 60 --steps 40

    """
    from dataclasses import asdict

    try:
        _need_training_extra()
        from calibration.plan import Plan
        from calibration.training import Hooks, run_training
        from engines.train import TrainConfig

        plan = Plan(
            seed=seed,
            personas=tuple(personas or ("vera", "kofi")),
            wearers=wearers,
            states=states,
            states_per_wearer=min(75, states),
        )
        config = TrainConfig(seed=seed, steps=steps, max_minutes=max_minutes)
        if dry_run:
            sys.stdout.write(json.dumps({"out": str(out), "plan": asdict(plan), "training": asdict(config)}) + "\n")
            return
        columns = (
            TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with Bars(*columns, console=_err) as bars:
            board = _Board(bars)
            hooks = Hooks(board.rendering, board.training, lambda text: bars.console.print(text, highlight=False))
            report = run_training(plan, config, out, jobs=jobs, hooks=hooks)
    except PersonacamError as error:
        raise _explain(error) from error
    except KeyboardInterrupt:
        _err.print("stopped; everything finished so far is kept, the same command continues")
        raise typer.Exit(130) from None
    _report(report, as_json=as_json)


def export(
    run: Annotated[Path, typer.Option(help="Folder of a finished training run.")] = Path("runs/first"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Export a finished run's personas again: ONNX, compared with torch, packed as .persona files.

    Example:
        personacam export --run runs/first

    """
    try:
        _need_training_extra()
        from calibration.training import export_run

        report = {"personas": export_run(run)}
    except PersonacamError as error:
        raise _explain(error) from error
    _report(report, as_json=as_json)


def _report(report: dict[str, Any], *, as_json: bool) -> None:
    for row in report.get("personas", []):
        _err.print(
            f"{row['path']}: {row['bytes'] / 1e6:.2f} MB, {row['psnr_masked_db']:.2f} dB in the mask,"
            f" mask IoU {row['mask_iou']:.3f}",
            highlight=False,
        )
    if as_json:
        sys.stdout.write(json.dumps(report, default=str) + "\n")
