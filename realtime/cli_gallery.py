"""The gallery's verbs: train it from seeds, and invent people. Everything heavy is imported when a verb runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bars

from engines.errors import PersonaFormatError, SettingsError
from realtime.cli_train import kept, need_packages
from realtime.cli_train_stages import Device, DeviceName, DryRun, JsonFlag, Seed, TierName
from realtime.cli_train_stages import device_of as choose_device
from realtime.console import console, duration, errors_explained, print_json, say

if TYPE_CHECKING:
    from calibration.gallery_invent import Embed, Vector
    from calibration.gallery_training import GalleryHooks
    from engines.persona import Persona
    from engines.train import Progress
    from engines.universal_bundle import Bundle

_TRAINING = ("torch", "moderngl", "safetensors", "scipy")
_INVENTING = ("torch", "safetensors")


def add_verbs(train: typer.Typer, personas: typer.Typer) -> None:
    """Add ``train gallery`` and ``personas invent``."""
    train.command("gallery", epilog=_GALLERY_EXAMPLES)(gallery)
    personas.command("invent", epilog=_INVENT_EXAMPLES)(invent)


_GALLERY_EXAMPLES = """Examples:

    personacam train gallery --tier tiny --out runs/gallery

    personacam train gallery --tier small --out runs/gallery --minutes 240 --polish-minutes 10

    personacam train gallery --tier small --out runs/gallery --encoder-of runs/gallery/tiny/universal

    personacam train gallery --tier tiny --out runs/try --persona vera --wearers 4 --states 40 --minutes 2

    personacam train gallery --tier tiny --out runs/gallery --package-only"""


def gallery(
    tier: Annotated[TierName, typer.Option(help="Family of the networks.")] = TierName.TINY,
    out: Annotated[Path, typer.Option(help="Folder of the run; the same folder continues.")] = Path("runs/gallery"),
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Of the universal stage.", show_default="own")] = None,
    polish_minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Of each persona's polish.", show_default="own")
    ] = None,
    seed: Seed = 0,
    personas: Annotated[
        list[str] | None, typer.Option("--persona", help="A persona of the gallery; repeat it. All unless named.")
    ] = None,
    wearers: Annotated[int, typer.Option(min=1, help="Invented people to learn from.")] = 200,
    states: Annotated[int, typer.Option(min=2, help="Poses, expressions and lights.")] = 2000,
    jobs: Annotated[int, typer.Option(min=1, help="Rendering processes.")] = 2,
    device: Device = DeviceName.AUTO,
    start_from: Annotated[
        Path | None, typer.Option(help="A universal run of this tier in place of the first stretch.")
    ] = None,
    encoder_of: Annotated[
        Path | None,
        typer.Option(
            help="A universal run of this or a smaller tier whose encoder is kept; only a trunk learns on it."
        ),
    ] = None,
    decoders: Annotated[
        bool, typer.Option("--decoders/--no-decoders", help="Files hold the decoder too, for further training.")
    ] = False,
    keep_universal: Annotated[
        bool, typer.Option("--keep-universal", help="Take data and universal run as they are; polish and package.")
    ] = False,
    package_only: Annotated[
        bool, typer.Option("--package-only", help="Only write the files of what the run has so far.")
    ] = False,
    sharpen_loss: Annotated[
        float, typer.Option(min=0, max=1, help="Sharpen what ships; masked PSNR in dB that it may cost. 0 does not.")
    ] = 0.0,
    as_json: JsonFlag = False,
    dry_run: DryRun = False,
) -> None:
    """Make the shipped personas of a tier from seeds: render, train the universal stage, polish each, package.

    Ctrl-C saves; the same command continues. The face set is shared by all tiers of one folder.
    """
    with errors_explained(as_json=as_json):
        need_packages("training the gallery", _TRAINING)
        from calibration.gallery_training import package_gallery, recipe, train_gallery
        from calibration.plan import GalleryPlan

        usual = GalleryPlan()
        # The same shares as the defaults', so that a small trial is small.
        plan = replace(
            usual, seed=seed, personas=tuple(personas or ()), wearers=wearers, states=states,
            states_per_persona=max(1, round(usual.states_per_persona * states / usual.states)),
            states_per_wearer=min(usual.states_per_wearer, states),
            validation_wearers=max(1, round(usual.validation_wearers * wearers / usual.wearers)),
            validation_states=max(4, round(usual.validation_states * states / usual.states)),
        )  # fmt: skip
        what = recipe(
            tier.value, seed=seed, minutes=minutes, polish_minutes=polish_minutes, plan=plan,
            device=choose_device(device), frozen_encoder=encoder_of is not None,
        )  # fmt: skip
        plan.parts()  # refuses unknown names before anything is made
        if dry_run:
            print_json({"out": str(out), "package_only": package_only, "sharpen_loss_db": sharpen_loss} | asdict(what))
            return
        with _board() as hooks:
            try:
                if package_only:
                    report = package_gallery(
                        out, tier.value, hooks=hooks, decoders=decoders, sharpen_loss_db=sharpen_loss
                    )
                else:
                    report = train_gallery(
                        what, out, jobs=jobs, hooks=hooks, decoders=decoders, keep_universal=keep_universal,
                        start_from=encoder_of or start_from, sharpen_loss_db=sharpen_loss,
                    )  # fmt: skip
            except KeyboardInterrupt:
                raise kept() from None
    if as_json:
        print_json(report)
    if report["stopped"] == "interrupted":
        raise kept()


@contextmanager
def _board() -> Iterator[GalleryHooks]:
    """A bar for the step at hand, named after it."""
    from calibration.gallery_training import GalleryHooks

    columns = (
        TextColumn("{task.description:10}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def update(name: str, fraction: float, note: str) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=1.0, note="")
            bars.update(tasks[name], completed=fraction, note=note)

        def training(name: str, p: Progress) -> None:
            scores = "  ".join(f"{key} {score.psnr_masked_db:.1f} dB" for key, score in (p.scores or {}).items())
            loss = p.loss.get("total", float("nan"))
            note = f"step {p.step}  {p.images_per_s:.0f} images/s  loss {loss:.3f}  {duration(p.eta_s)} left"
            update(name, p.fraction, note)
            if scores:
                bars.console.print(f"{name}: step {p.step}  {scores}", highlight=False, soft_wrap=True)

        yield GalleryHooks(
            rendering=lambda done, total: update("rendering", done / max(total, 1), f"{done} of {total} crops"),
            training=training,
            say=say,
        )


_INVENT_EXAMPLES = """Examples:

    personacam personas invent --seed 7 --out nobody.persona

    personacam personas invent --seed 7 --slider pc1=1.5 --slider pc3=-1 --out nobody.persona

    personacam personas invent --seed 0 --count 8 --out people/nobody.persona --sheet people.png

    personacam personas invent --list-sliders"""


def invent(
    out: Annotated[
        Path | None, typer.Option(help="The file to write; its name is the persona's. With --count: NAME-SEED.persona.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=(1 << 63) - 1, help="The same seed is the same face.")] = 0,
    count: Annotated[int, typer.Option(min=1, max=1000, help="So many, of this seed and the next ones.")] = 1,
    universal: Annotated[
        Path | None,
        typer.Option(help="Universal networks with sample wearers, of train gallery.", show_default="the shipped ones"),
    ] = None,
    sliders: Annotated[
        list[str] | None,
        typer.Option(
            "--slider",
            help="pcN=VALUE: the N-th principal component of the trained people, in standard deviations, -3 to 3; the"
            " first ones change most. --list-sliders says what each does. Repeat it.",
        ),
    ] = None,
    spread: Annotated[float, typer.Option(min=0.0, max=2.0, help="0 the mean face .. 1 as varied as people.")] = 1.0,
    not_like: Annotated[
        list[Path] | None, typer.Option(help="A .persona file that nobody invented may look like; repeat it.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="A picture of all of them on some wearers.")] = None,
    list_sliders: Annotated[bool, typer.Option("--list-sliders", help="Print what the sliders do and stop.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make a persona of nobody: a point of the identity space, in seconds.

    Checked is that it is not one of the enrolled people (real people's personas on this machine, and --not-like), if
    there are any; nobody can check that it looks like no one else.
    """
    with errors_explained(as_json=as_json):
        need_packages("inventing people", _INVENTING)
        from calibration.gallery_invent import invented_space
        from engines.invent import slider_effects, slider_index
        from engines.universal_bundle import load_bundle, sample_codes, shipped_universal

        bundle = load_bundle(universal or shipped_universal())
        space = invented_space(bundle)
        if list_sliders:
            effects = slider_effects(bundle.universal.trunk, space, sample_codes(bundle)[0])
            _say_effects(effects)
            if as_json:
                print_json({"sliders": effects, "components": space.size})
            return
        values = {slider_index(name, space): value for name, value in map(_slider, sliders or ())}
        if out is None or out.suffix != ".persona":
            raise SettingsError("the file to write is missing or no .persona", hint="add --out NAME.persona")
        enrolled, damaged, embed = _enrolled(bundle, not_like or ())
        rows = _invent_all(bundle, space, range(seed, seed + count), spread, values, enrolled, embed, out, sheet)
    if as_json:
        print_json(
            {"personas": rows, "compared_with": sorted(enrolled), "not_compared": damaged,
             "sheet": str(sheet) if sheet else None}
        )  # fmt: skip


def _invent_all(
    bundle: Bundle, space: Any, seeds: range, spread: float, sliders: dict[int, float], enrolled: dict[str, Vector],
    embed: Embed | None, out: Path, sheet: Path | None,
) -> list[dict[str, Any]]:  # fmt: skip
    from calibration.gallery_invent import SAME_PERSON, write_invented, write_sheet
    from calibration.gallery_invent import invent as find

    rows, faces = [], []
    about = {"spread": spread, "sliders": {f"pc{index + 1}": value for index, value in sorted(sliders.items())},
             "compared_with": sorted(enrolled)}  # fmt: skip
    for seed in seeds:
        found = find(bundle, space, seed, spread=spread, sliders=sliders, enrolled=enrolled, embed=embed)
        path = out if len(seeds) == 1 else out.with_name(f"{out.stem}-{seed}.persona")
        manifest, report = write_invented(path, f"An invented person, seed {seed}", bundle, found, about)
        faces.append(found.face)
        rows.append(
            {"name": manifest.name, "path": str(path), "bytes": path.stat().st_size, "tier": manifest.tier}
            | {key: report["invented"][key] for key in ("seed", "attempt", "rejected", "nearest_enrolled", "statement")}
        )
        retried = f", {len(found.rejected)} samples before were not used" if found.rejected else ""
        near = "" if found.nearest is None else (
            f" ({len(enrolled)} compared, the nearest at {found.nearest:.2f}; below {SAME_PERSON} would be one person)"
        )  # fmt: skip
        say(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {found.statement}{near}{retried}")
    if sheet is not None:
        write_sheet(sheet, bundle, faces)
        say(f"{sheet}: look at them")
    return rows


def _slider(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        if not equals:
            raise ValueError("no value")
        return name.strip(), float(value)
    except ValueError:
        raise SettingsError(f"cannot read the slider {text!r}", hint="write it like pc1=1.5") from None


def _say_effects(effects: list[dict[str, Any]]) -> None:
    say("from -2 to 2 standard deviations, on a neutral wearer:")
    for e in effects:
        say(
            f"{e['name']:>5}  {100 * e['share']:4.1f} % of the variance: lightness {e['lightness']:+.0f}, warmth"
            f" {e['warmth']:+.0f} of 255, width {e['width_pct']:+.0f} %, height {e['height_pct']:+.0f} %"
        )


def _enrolled(bundle: Bundle, not_like: Sequence[Path]) -> tuple[dict[str, Vector], list[str], Embed | None]:
    """Embeddings of the real people's personas on this machine and of the files in ``not_like``, by file name.

    Also the damaged files that could not be compared. Raises PersonacamError when anything else cannot be: it would be
    left out of the check silently.
    """
    from calibration.consent_gates import shown_only
    from engines.persona import read_persona

    people, damaged = _real_people()
    people += [read_persona(path, admit=shown_only) for path in not_like]
    if not people:
        return {}, damaged, None
    from calibration.gallery_embedding import dlib_embedder
    from calibration.gallery_invent import enrolled_embedding

    embed = dlib_embedder()
    found: dict[str, Vector] = {}
    for persona in people:
        vector = enrolled_embedding(persona, bundle.samples, embed)
        if vector is None:
            raise SettingsError(
                f"{persona.path} shows no face that could be compared", hint="leave it out, or make it again"
            )
        found[persona.path.name] = vector
    return found, damaged, embed


def _real_people() -> tuple[list[Persona], list[str]]:
    """Personas of kind "person" among the installed ones, and files that are damaged: those are nobody's persona."""
    from calibration.consent_gates import shown_only
    from engines.persona import read_persona
    from realtime.session import persona_store

    people, damaged = [], []
    for path in persona_store().list():
        try:
            persona = read_persona(path, admit=shown_only)
        except PersonaFormatError as error:
            say(f"{path.name} cannot be compared: {error.message}", "yellow")
            damaged.append(path.name)
            continue
        if persona.manifest.kind == "person":
            people.append(persona)
    return people, damaged
