"""The command line. It alone catches the whole error tree; every message ends with its repair."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from engines.errors import PersonacamError, SettingsError
from realtime import (
    cli_audit,
    cli_calibrate,
    cli_consent,
    cli_devices,
    cli_engines,
    cli_enroll,
    cli_forget,
    cli_gallery,
    cli_making,
    cli_people,
    cli_render,
    cli_renew,
    cli_report,
    cli_train,
    cli_train_stages,
    cli_verify,
)
from realtime.calibrated import settings_of
from realtime.config import Settings
from realtime.console import console, end_with, errors_explained, print_json, say
from realtime.policy import FailurePolicy

app = typer.Typer(
    name="personacam",
    help="Wear a persona: your webcam goes in, the persona's face with your expression comes out.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
personas_app = typer.Typer(help="The personas on this machine.", no_args_is_help=True)
models_app = typer.Typer(help="Optional detection models.", no_args_is_help=True)
app.add_typer(personas_app, name="personas")
app.add_typer(models_app, name="models")
app.add_typer(cli_people.people_app, name="people")
app.add_typer(cli_engines.engines_app, name="engines")
app.add_typer(cli_train.train_app, name="train")
cli_train_stages.add_verbs(cli_train.train_app)
cli_making.add_verb(cli_train.train_app)
cli_report.add_verb(cli_train.train_app)
cli_gallery.add_verbs(cli_train.train_app, personas_app)
app.command("export")(cli_train.export)
app.command("enroll", epilog=cli_enroll.EXAMPLES)(cli_enroll.enroll)
app.add_typer(cli_consent.consent_app, name="consent")
cli_consent.consent_app.command("renew", epilog=cli_renew.EXAMPLES)(cli_renew.renew)
cli_consent.add_verb(personas_app)
app.add_typer(cli_audit.audit_app, name="audit")
app.command("forget", epilog=cli_forget.EXAMPLES)(cli_forget.forget)
app.command("verify", epilog=cli_verify.EXAMPLES)(cli_verify.verify)
app.add_typer(cli_verify.mark_app, name="mark")
app.command("render", epilog=cli_render.EXAMPLES)(cli_render.render)
app.command("cameras")(cli_devices.cameras)
app.command("microphones", epilog=cli_devices.MICROPHONE_EXAMPLES)(cli_devices.microphones)
app.add_typer(cli_devices.virtualcam_app, name="virtualcam")
app.add_typer(cli_calibrate.calibrate_app, name="calibrate")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
PersonaOption = Annotated[
    str | None, typer.Option("--persona", "-p", help="A persona's name or a .persona file.", show_default="vera")
]


@app.callback()
def _main(verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False) -> None:
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")


def _run(settings: Settings, *, as_json: bool) -> None:
    from realtime.session import run_session

    with errors_explained(as_json=as_json):
        result = run_session(settings, say=say, terminal=console.is_terminal)
    _show(result.report, result.trace.table(), as_json=as_json)
    end_with(result.error)


def _show(report: dict[str, Any], table: Table, *, as_json: bool) -> None:
    frames = report["frames"]
    reasons = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in report["policy_reasons"].items())
    without = "sent AS THEY ARE" if report["policy"] == FailurePolicy.PASSTHROUGH.value else "covered"
    say(
        f"{frames['sent']} frames sent: {frames['swapped']} swapped, {frames['policy']} without a swap {without} by the"
        f" policy {report['policy']}{f' ({reasons})' if reasons else ''}, {frames['dropped']} dropped;"
        f" {report['fps']:.1f} frames a second"
    )
    console.print(table)
    if as_json:
        print_json(report)


@app.command(
    epilog="""Examples:

    personacam run                                        webcam 0 -> persona -> virtual camera

    personacam run -s /dev/video2 -p kofi -o preview      try it in a window first

    personacam run -s talk.mp4 -o out.mp4 --json          a file, every frame, as fast as possible

    personacam run -o virtualcam -o recording.mp4         two outputs at once

    personacam run -o call.mp4 --microphone default       a recording with sound"""
)
def run(
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            "-s",
            help="0, /dev/video0, camera:NAME, rtsp://…, a file, a folder, pattern, demo.",
            show_default="0",
        ),
    ] = None,
    persona: PersonaOption = None,
    tier: Annotated[
        str | None, typer.Option(help="tiny, small or base: size of the persona's network.", show_default="smallest")
    ] = None,
    sink: Annotated[
        list[str] | None,
        typer.Option(
            "--sink", "-o", help="virtualcam[:DEVICE], FILE.mp4, preview, null; repeat it.", show_default="virtualcam"
        ),
    ] = None,
    microphone: Annotated[
        str | None,
        typer.Option(help="Sound of recordings: a name (personacam microphones), default, none.", show_default="none"),
    ] = None,
    credentials: Annotated[
        bool | None, typer.Option("--credentials/--no-credentials", help="C2PA content credentials in recordings.")
    ] = None,
    c2pa_cert: Annotated[
        Path | None, typer.Option(help="Sign them with this PEM chain.", show_default="this computer's own")
    ] = None,
    c2pa_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    purpose: Annotated[
        str | None, typer.Option(help="Real people's personas: stream, recording, call, film or research.")
    ] = None,
    territory: Annotated[str | None, typer.Option(help="Real people's personas: the country you are in: DE.")] = None,
    policy: Annotated[
        FailurePolicy | None, typer.Option(help="What leaves when there is no swap.", show_default="veil")
    ] = None,
    hold_s: Annotated[float | None, typer.Option(help="Policy hold: seconds before the veil.")] = None,
    card: Annotated[Path | None, typer.Option(help="Policy card: a picture.")] = None,
    label: Annotated[bool | None, typer.Option("--label/--no-label", help="The visible AI MODIFIED label.")] = None,
    label_position: Annotated[str | None, typer.Option(help="top-right, top-left, bottom-right, bottom-left.")] = None,
    width: Annotated[int | None, typer.Option(help="Asked of the camera.", show_default="1280")] = None,
    height: Annotated[int | None, typer.Option(help="Asked of the camera.", show_default="720")] = None,
    fps: Annotated[float | None, typer.Option(help="Asked of the camera.", show_default="30")] = None,
    power_line: Annotated[str | None, typer.Option(help="Camera: 50, 60, off or auto: lamps flicker.")] = None,
    exposure: Annotated[str | None, typer.Option(help="Camera: milliseconds, or auto.")] = None,
    focus: Annotated[str | None, typer.Option(help="Camera: its own number, or auto.")] = None,
    steady_rate: Annotated[
        bool | None, typer.Option("--steady-rate/--no-steady-rate", help="Camera: keep the rate in dim light.")
    ] = None,
    pace: Annotated[str | None, typer.Option(help="Files: auto, on (own rate), off (every frame, fast).")] = None,
    detector: Annotated[str | None, typer.Option(help="mesh or insightface.", show_default="mesh")] = None,
    insightface_pack: Annotated[Path | None, typer.Option(help="Folder with the pack's .onnx files.")] = None,
    runtime: Annotated[
        str | None,
        typer.Option(help="auto, tensorrt, tensorrt-rtx, openvino or onnxruntime.", show_default="auto"),
    ] = None,
    precision: Annotated[str | None, typer.Option(help="auto, f32, bf16 or int8.", show_default="auto")] = None,
    governor: Annotated[
        str | None, typer.Option(help="auto or off: quality follows the machine.", show_default="auto")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Of each inference session.", show_default="1")] = None,
    colour_strength: Annotated[float | None, typer.Option(help="0 persona's colours .. 1 wearer's.")] = None,
    morph: Annotated[float | None, typer.Option(help="Imported AMP models: 0..1, how much of the persona.")] = None,
    erode: Annotated[int | None, typer.Option(help="Mask, in swap pixels.")] = None,
    feather: Annotated[int | None, typer.Option(help="Mask, in swap pixels.")] = None,
    smooth: Annotated[bool | None, typer.Option("--smooth/--no-smooth", help="Smooth the alignment.")] = None,
    smoothing: Annotated[float | None, typer.Option(help="0 none .. 1 the calmest.", show_default="0.5")] = None,
    strength: Annotated[float | None, typer.Option(help="Of the expression: 0.7 .. 1.3; no opacity.")] = None,
    sharpen: Annotated[float | None, typer.Option(help="The persona's pixels: 0 .. 1.")] = None,
    mirror: Annotated[bool | None, typer.Option("--mirror/--no-mirror", help="Left and right exchanged.")] = None,
    mic_delay_ms: Annotated[float | None, typer.Option(help="Of the sound; else as measured.")] = None,
    control: Annotated[
        bool | None,
        typer.Option("--control/--no-control", help="A control page on 127.0.0.1.", show_default="in a terminal"),
    ] = None,
    control_port: Annotated[int | None, typer.Option(help="Its port; 0: any.", show_default="8747")] = None,
    hotkeys: Annotated[bool | None, typer.Option("--hotkeys/--no-hotkeys", help="Global hotkeys.")] = None,
    deadline_ms: Annotated[float | None, typer.Option(help="Live: a later frame is covered.")] = None,
    loop: Annotated[bool | None, typer.Option("--loop/--no-loop", help="Begin files again at their end.")] = None,
    frames: Annotated[int | None, typer.Option(help="Stop after so many.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    calibration: Annotated[
        str | None,
        typer.Option("--profile", help="What `personacam calibrate` kept; or a .toml file with any of these options."),
    ] = None,
    no_profile: Annotated[bool, typer.Option("--no-profile", help="Without the default calibration.")] = False,
    as_json: JsonFlag = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved settings and stop.")] = False,
) -> None:
    """Run the filter until Ctrl-C or the end of the input."""
    own = {"calibration", "no_profile", "as_json", "dry_run", "own"}
    flags = {name: value for name, value in locals().items() if name not in own}
    flags["sink"] = tuple(sink) if sink else None
    with errors_explained(as_json=as_json):
        settings = settings_of(flags, calibration, off=no_profile)
    if dry_run:
        print_json(settings.model_dump(mode="json"))
        return
    _run(settings, as_json=as_json)


@app.command(
    epilog="""Examples:

    personacam demo                           writes demo.mp4

    personacam demo -p kofi --score --json    compares with the true render of the persona"""
)
def demo(
    out: Annotated[Path, typer.Option(help="The video to write.")] = Path("demo.mp4"),
    persona: PersonaOption = None,
    score: Annotated[bool, typer.Option("--score", help="Compare the swap with the persona's true render.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Put a persona on the shipped clip of an invented wearer. Needs no camera and no GPU."""
    from realtime.demo import run_demo

    with errors_explained(as_json=as_json):
        result = run_demo(out, persona, score=score, say=say)
    _show(result.report, result.trace.table(), as_json=False)
    quality = result.report.get("quality")
    if quality:
        say(f"against the truth: {quality['psnr_masked_db']:.2f} dB in the mask, mask IoU {quality['mask_iou']:.3f}")
    elif score:
        say("no frame that has a truth was swapped, so there is no score")
    if as_json:
        print_json(result.report)
    end_with(result.error)


@personas_app.command("list")
def personas_list(as_json: JsonFlag = False) -> None:
    """Which personas there are."""
    from realtime.session import persona_store

    with errors_explained():
        store = persona_store()
        rows = [_summary(path) | {"tiers": _tiers(store.tiers(path.stem))} for path in store.list()]
    table = Table("name", "kind", "tiers", "what it is", "sha256")
    for row in rows:
        table.add_row(row["name"], row["kind"], ", ".join(row["tiers"]) or "-", row["title"], row["sha256"][:12])
    console.print(table)
    if as_json:
        print_json({"personas": rows})


def _tiers(found: dict[str, Path]) -> dict[str, str]:
    """Tier -> file, for JSON."""
    return {tier: str(path) for tier, path in found.items()}


def _summary(path: Path) -> dict[str, Any]:
    """What a list shows of one file; a damaged one is listed with its fault instead of hiding all others."""
    from calibration.consent_gates import shown_only
    from engines.persona import read_persona

    try:
        persona = read_persona(path, admit=shown_only)
    except PersonacamError as error:
        return {
            "name": path.stem,
            "kind": "damaged",
            "tier": "-",
            "title": error.message,
            "sha256": "",
            "path": str(path),
        }
    m = persona.manifest
    return {
        "name": m.name, "kind": m.kind, "tier": m.tier, "title": m.title, "sha256": persona.sha256, "path": str(path),
        "seed": m.seed,
    }  # fmt: skip


@personas_app.command("show")
def personas_show(
    name: Annotated[str, typer.Argument(help="A name or a .persona file.")],
    tier: Annotated[str | None, typer.Option(help="tiny, small or base.", show_default="smallest")] = None,
    as_json: JsonFlag = False,
) -> None:
    """What a persona says about itself: who it is, who consented, how it was trained, how good it is; --json: all."""
    from calibration.consent_gates import shown_only
    from engines.persona import read_persona
    from realtime.persona_words import about
    from realtime.session import persona_store

    with errors_explained():
        persona = read_persona(persona_store().find(name, tier), admit=shown_only)
        value = persona.manifest.model_dump(mode="json") | {"sha256": persona.sha256, "report": persona.report}
        value |= cli_consent.tell(persona)
        for line in about(persona):
            say(line)
    if as_json:
        print_json(value)


@models_app.command("fetch")
def models_fetch(
    yes: Annotated[bool, typer.Option("--yes", help="Accept the non-commercial licence without being asked.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Where to put the pack.")] = None,
) -> None:
    """Fetch InsightFace's detection pack, after showing its licence (non-commercial research only)."""
    from realtime.models import LICENCE_SUMMARY, default_insightface_folder, fetch_insightface

    say(LICENCE_SUMMARY)
    with errors_explained():
        if not yes and not (sys.stdin.isatty() and typer.confirm("Do you accept this licence?", default=False)):
            raise SettingsError(
                "nothing was fetched: the licence was not accepted",
                hint="answer yes, or pass --yes; mesh needs no download",
            )
        say(f"fetched into {fetch_insightface(accept=True, folder=folder or default_insightface_folder())}")


@app.command()
def doctor(as_json: JsonFlag = False) -> None:
    """What was found: cameras, virtual camera, runtimes, personas; each problem with its repair."""
    from calibration.consent_gates import shown_only
    from engines.persona import read_persona
    from realtime import doctor as checks
    from realtime.models import default_insightface_folder
    from realtime.session import persona_store

    def personas() -> Iterator[tuple[str, bool, str]]:
        for path in persona_store().list():
            try:
                persona = read_persona(path, admit=shown_only)
                yield persona.manifest.name, True, f"{persona.manifest.kind}, {persona.manifest.tier}"
            except PersonacamError as error:
                yield path.stem, False, error.message

    findings = checks.diagnose(lambda: list(personas()), default_insightface_folder())
    colours = {"ok": "", "warn": "yellow", "fail": "red"}
    for finding in findings:
        say(f"{finding.state:4} {finding.topic}: {finding.text}", colours[finding.state])
        if finding.repair:
            say(f"       -> {finding.repair}")
    if as_json:
        print_json(checks.to_dict(findings))
