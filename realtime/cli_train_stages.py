"""The stages of training, one verb each: universal, enroll, refine. Everything heavy is imported when a verb runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bars

from realtime.cli_consent import gatekeeper
from realtime.cli_train import kept, need_packages
from realtime.console import console, duration, errors_explained, print_json, say

if TYPE_CHECKING:
    from engines.enroll import EnrollResult
    from engines.faceset import FaceSetIndex
    from engines.network import NetworkConfig
    from engines.train import Progress


class TierName(str, Enum):
    """Families of networks; see engines.network."""

    TINY = "tiny"
    SMALL = "small"
    BASE = "base"


class ModeName(str, Enum):
    """What enrollment may change; see engines.adapt."""

    AUTO = "auto"
    FILM = "film"
    LORA = "lora"
    FULL = "full"


class DeviceName(str, Enum):
    """Where networks learn."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


Data = Annotated[Path, typer.Option(help="Folder of a face set: people dataset writes one.")]
Seed = Annotated[int, typer.Option(min=0, help="Of first weights and batches.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Length of the schedule, in batches.", show_default="own")]
Minutes = Annotated[float | None, typer.Option(min=0.01, help="Length of the schedule in time, if that is shorter.")]
Device = Annotated[DeviceName, typer.Option(help="auto takes an NVIDIA GPU if there is one.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done and stop.")]


def add_verbs(app: typer.Typer) -> None:
    """Add the stages to the group ``train``."""
    app.command("universal", epilog=_UNIVERSAL_EXAMPLES)(universal)
    app.command("enroll", epilog=_ENROLL_EXAMPLES)(enroll)
    app.command("refine", epilog=_REFINE_EXAMPLES)(refine)


_UNIVERSAL_EXAMPLES = """Examples:

    personacam people dataset --identities 200 --states 100 --out data/people

    personacam train universal --data data/people --out runs/universal --tier small

    personacam train universal --data data/people --out runs/try --tier tiny --minutes 10

    personacam train universal --data data/more --out runs/second --start-from runs/universal --mild

    personacam train universal --data data/people --out runs/small --tier small --start-from runs/tiny --frozen-encoder

    torchrun --nproc-per-node 8 -m realtime train universal --data data/people --out runs/universal --device cuda"""


def universal(
    data: Data = Path("data/people"),
    out: Annotated[Path, typer.Option(help="Folder of the run; the same folder continues.")] = Path("runs/universal"),
    tier: Annotated[TierName, typer.Option(help="Family of the networks.")] = TierName.SMALL,
    steps: Steps = None,
    minutes: Minutes = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Pairs per step.", show_default="own")] = None,
    seed: Seed = 0,
    mesh: Annotated[
        bool, typer.Option("--mesh/--no-mesh", help="The encoder takes face mesh points beside the picture.")
    ] = True,
    device: Device = DeviceName.AUTO,
    start_from: Annotated[
        Path | None,
        typer.Option(help="A universal run whose weights the new one begins with; of this tier or smaller."),
    ] = None,
    mild: Annotated[
        bool, typer.Option("--mild", help="For the end: crops are disturbed less, small features are learned.")
    ] = False,
    frozen_encoder: Annotated[
        bool,
        typer.Option(
            "--frozen-encoder", help="Only a trunk learns, on the encoder of --start-from, which may be smaller."
        ),
    ] = False,
    as_json: JsonFlag = False,
    dry_run: DryRun = False,
) -> None:
    """Train the universal encoder and the trunk of all personas on a set of many people.

    Ctrl-C saves; the same command continues. Under torchrun there is one process per GPU.
    """
    with _stage(as_json=as_json):
        from engines.network import config, with_state
        from engines.universal import UniversalConfig, mildly, on_top, train_universal
        from engines.universal_data import state_size

        change = on_top if frozen_encoder else mildly if mild else replace
        plain = change(UniversalConfig())
        index = _index(data)
        points = plain.network.mesh_points if mesh else 0
        chosen = replace(
            plain, network=with_state(config(tier.value), mesh_points=points, state_size=state_size(index.info)),
            seed=seed, steps=steps or plain.steps, max_minutes=minutes, batch=batch or plain.batch,
            device="cuda" if device_of(device) == "cuda" else "cpu",
        )  # fmt: skip
        if dry_run:
            print_json({"stage": "universal", "data": _summary(data, index), "out": str(out), "config": asdict(chosen)})
            return
        gatekeeper().train(None, data, out)
        with _bar("universal") as progress:
            result = train_universal(chosen, data, out, progress, start_from=start_from)
    if not _leads():
        return
    for name, score in result.scores.items():
        say(f"{name}: {score.psnr_masked_db:.2f} dB in the mask, mask IoU {score.mask_iou:.3f}, unseen wearers")
    _end(asdict(result), out, as_json=as_json)


_ENROLL_EXAMPLES = """Examples:

    personacam train enroll --data data/nia --identity nia --universal runs/universal --out runs/nia

    personacam train enroll --data data/nia --identity nia --universal runs/universal --out runs/nia-film --mode film

    personacam train enroll --data data/nia --identity nia --universal runs/universal --out runs/nia --dry-run"""


def enroll(
    data: Data,
    identity: Annotated[str, typer.Option(help="Whose frames; a name in the face set.")],
    universal_run: Annotated[Path, typer.Option("--universal", help="Folder of a universal run.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; the same folder continues.")],
    mode: Annotated[
        ModeName,
        typer.Option(help="What may change: a vector, that and a low-rank part, or all; auto: by frames."),
    ] = ModeName.AUTO,
    steps: Steps = None,
    minutes: Minutes = None,
    seed: Seed = 0,
    device: Device = DeviceName.AUTO,
    as_json: JsonFlag = False,
    dry_run: DryRun = False,
) -> None:
    """Make a persona of one person's frames, on a finished universal run, in minutes.

    Fewer than 20 frames change a vector, more than 500 the whole decoder. Held-out frames decide when it is enough, so
    it may end before the bar does. Ctrl-C saves; the same command continues.
    """
    with _stage(as_json=as_json):
        from engines.enroll import EnrollConfig, plan_for
        from engines.enroll import enroll as learn
        from engines.faceset import read_faceset
        from engines.run_folder import check_named, load_universal

        chosen = EnrollConfig(mode=mode.value, steps=steps, max_minutes=minutes, seed=seed, device=device_of(device))
        index = _index(data)
        check_named(identity, {s.identity for s in index.shards}, data)
        run = load_universal(universal_run)
        if dry_run:
            frames = sum(len(s.states) for s in index.shards if s.identity == identity)
            plan = asdict(plan_for(chosen, frames))
            print_json(
                {"stage": "enroll", "data": _summary(data, index), "identity": identity, "frames": frames,
                 "out": str(out), "plan": plan, "config": asdict(chosen)}
            )  # fmt: skip
            return
        gatekeeper().train(identity, data, out)
        faceset = read_faceset(data, identities=[identity], extras=_points_of(data, index, run.encoder.sizes))
        with _bar(identity) as progress:
            result = learn(chosen, faceset, identity, run.encoder, run.trunk, run.people.vectors, out, progress)
    _say_enrolled(result)
    _end({k: v for k, v in asdict(result).items() if k != "history"}, out, as_json=as_json)


def _say_enrolled(result: EnrollResult) -> None:
    say(
        f"{result.identity}: {result.score.psnr_masked_db:.2f} dB in the mask, mask IoU {result.score.mask_iou:.3f} on"
        f" {result.held_out} held-out frames of {result.frames} ({result.mode}, best after {result.best_step} of"
        f" {result.step} steps, {duration(result.seconds)})"
    )


_REFINE_EXAMPLES = """Examples:

    personacam train refine --data data/nia --run runs/nia --persona nia --out runs/nia-sharp

    personacam train refine --data data/people --run runs/first --persona vera --persona kofi --out runs/sharp"""


def refine(
    data: Data,
    run: Annotated[Path, typer.Option(help="Folder of a finished run that has the personas.")],
    personas: Annotated[list[str], typer.Option("--persona", help="A name in the run and the face set; repeat it.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; the same folder continues.")],
    steps: Steps = None,
    minutes: Minutes = None,
    seed: Seed = 0,
    device: Device = DeviceName.AUTO,
    as_json: JsonFlag = False,
    dry_run: DryRun = False,
) -> None:
    """Sharpen personas against a discriminator; the encoder stays as it is.

    Ctrl-C saves; the same command continues. If the discriminator wins, it stops and keeps the last good weights.
    """
    with _stage(as_json=as_json):
        from engines.faceset import read_faceset
        from engines.refine import RefineConfig
        from engines.refine import refine as sharpen
        from engines.run_folder import check_named, load_persona

        plain = RefineConfig()
        chosen = replace(plain, steps=steps or plain.steps, max_minutes=minutes, seed=seed, device=device_of(device))
        index = _index(data)
        names = list(dict.fromkeys(personas))
        for name in names:
            check_named(name, {s.identity for s in index.shards}, data)
        found = {name: load_persona(run, name) for name in names}
        if dry_run:
            print_json(
                {"stage": "refine", "data": _summary(data, index), "run": str(run), "personas": names, "out": str(out),
                 "config": asdict(chosen)}
            )  # fmt: skip
            return
        gatekeeper().train(names[0] if len(names) == 1 else None, data, out)
        vectors = {name: p.vector for name, p in found.items() if p.vector is not None}
        wanted = {s.identity for s in index.shards if s.role == "wearer" or s.identity in names}
        encoder = found[names[0]].encoder
        faceset = read_faceset(data, identities=sorted(wanted), extras=_points_of(data, index, encoder.sizes))
        with _bar("refining") as progress:
            result = sharpen(
                chosen, faceset, encoder, {name: p.decoder for name, p in found.items()}, out, progress,
                people=vectors if len(vectors) == len(names) else None,
            )  # fmt: skip
    for name, score in result.scores.items():
        say(
            f"{name}: sharpness {score.sharpness_ratio:.2f} of the truth's, {score.psnr_masked_db:.2f} dB in the mask,"
            f" {score.psnr_masked_db - result.start_psnr_masked_db[name]:+.2f} dB"
        )
    _end(asdict(result), out, as_json=as_json)


@contextmanager
def _stage(*, as_json: bool) -> Iterator[None]:
    """Errors of the tree in two lines; Ctrl-C, where no loop catches it, leaves what is finished."""
    with errors_explained(as_json=as_json):
        need_packages("training", ("torch", "safetensors", "scipy"))
        try:
            yield
        except KeyboardInterrupt:
            raise kept() from None


@contextmanager
def _bar(what: str) -> Iterator[Callable[[Progress], None]]:
    """A bar for the schedule with the time left, and a line per checkpoint; yields the progress callback."""
    columns = (
        TextColumn("{task.description:10}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bars(*columns, console=console, disable=not _leads()) as bars:
        task = bars.add_task(what, total=1.0, note="")
        scored: list[str] = []

        def progress(p: Progress) -> None:
            if p.scores:
                scored[:] = [f"{name} {s.psnr_masked_db:.1f} dB" for name, s in p.scores.items()]
            note = (
                f"step {p.step}  {p.images_per_s:.0f} images/s  loss {p.loss.get('total', float('nan')):.3f}"
                f"  {duration(p.eta_s)} left  {'  '.join(scored)}"
            )
            bars.update(task, completed=p.fraction, note=note)
            if p.sheet:
                bars.console.print(f"checkpoint: {note}  {p.sheet}", highlight=False, soft_wrap=True)

        yield progress


def _leads() -> bool:
    """Whether this process speaks: of those that torchrun starts, the first."""
    return os.environ.get("RANK", "0") == "0"


def device_of(name: DeviceName) -> str:
    """What torch calls it: auto is an NVIDIA GPU if there is one."""
    if name is not DeviceName.AUTO:
        return str(name.value)
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _points_of(data: Path, index: FaceSetIndex, sizes: NetworkConfig) -> tuple[str, ...]:
    """The extras that an encoder of these sizes wants and the set has; says so where it has not."""
    if not sizes.mesh_points:
        return ()
    if "mesh" in index.info.extras:
        return ("mesh",)
    say(f"{data} has no mesh points: the encoder gets the pictures alone", "yellow")
    return ()


def _index(data: Path) -> FaceSetIndex:
    from engines.faceset import read_index

    return read_index(data)


def _summary(data: Path, index: FaceSetIndex) -> dict[str, Any]:
    return {
        "folder": str(data),
        "identities": len({s.identity for s in index.shards}),
        "crops": sum(len(s.states) for s in index.shards),
        "digest": index.digest,
    }


def _end(report: dict[str, Any], out: Path, *, as_json: bool) -> None:
    """Where things are, the JSON line, and status 130 after Ctrl-C."""
    say(f"{out}: weights, report.json and {Path(report['sheet']).name}, the contact sheet to look at")
    if as_json:
        print_json(report)
    if report["stopped"] == "interrupted":
        raise kept()
