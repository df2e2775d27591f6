"""The verbs of the group ``calibrate``: the wearer, colours, delays and the machine, kept in a profile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from engines.errors import SettingsError
from realtime.console import console, duration, errors_explained, print_json, say

if TYPE_CHECKING:
    from calibration.profile import Profile
    from realtime.source import Source

_LEAST_RANGE = 0.15
"""Of the average person's full expression: nobody who smiles and opens the mouth as asked does less of both."""

calibrate_app = typer.Typer(
    help="Adapt to your face, light, camera and machine; kept in a profile that `personacam run` uses.",
    no_args_is_help=True,
    epilog="In this order, where you stream from: wearer (--person ada, if it is ada's), colour, machine.",
)
ProfileOption = Annotated[str, typer.Option("--profile", help="Which profile to write.")]
SourceOption = Annotated[str, typer.Option("--source", "-s", help="Camera, address or video file, as for run.")]
PersonaOption = Annotated[str, typer.Option("--persona", "-p", help="A persona's name or a .persona file.")]
TierOption = Annotated[str | None, typer.Option(help="tiny, small or base.", show_default="smallest")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
NameArgument = Annotated[str, typer.Argument(help="A profile's name.")]
PersonOption = Annotated[
    str | None,
    typer.Option("--person", help="The enrolled persona whose person you are: `personacam forget` then finds this."),
]


def now() -> str:
    """UTC, for profiles."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _open(source: str) -> Source:
    from realtime.capture import open_source
    from realtime.session import demo_clip
    from realtime.source import SourceConfig

    return open_source(source, SourceConfig(), {"demo": demo_clip()})


def _persona_file(name: str, tier: str | None) -> Path:
    from realtime.session import persona_store

    return persona_store().find(name, tier)


def _save(profile: Profile, report: dict[str, Any], *, as_json: bool) -> None:
    from realtime.calibrated import store

    path = store().save(profile)
    say(f"kept in the profile {profile.name}: {path}")
    if as_json:
        print_json({"profile": profile.name, "path": str(path)} | report)


@calibrate_app.command(
    epilog="""Examples:

    personacam calibrate wearer                        twenty seconds before webcam 0, following the prompts

    personacam calibrate wearer -s guided.mp4 --json   a recording that follows the same prompts"""
)
def wearer(
    source: SourceOption = "0",
    persona: PersonaOption = "vera",
    tier: TierOption = None,
    profile: ProfileOption = "default",
    person: PersonOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Your face at rest and your range, from twenty seconds: so that neutral is neutral and a full smile is full."""
    with errors_explained(as_json=as_json):
        from calibration.calibrate_wearer import Prompt, calibrate, collect, shipped_reference
        from calibration.profile import WearerPart
        from realtime.calibrated import store
        from realtime.wearer_rig import FaceReader, frames_of

        kept = store().load_or_new(profile)  # a damaged one is told before somebody makes faces
        with closing(FaceReader(_persona_file(persona, tier))) as reader, closing(_open(source)) as camera:
            manifest = reader.persona.manifest
            reference = shipped_reference(manifest.encoder_sha256)
            say(camera.report)
            last: list[tuple[Prompt, int]] = []

            def ask(prompt: Prompt, left_s: float) -> None:
                now_asked = prompt, math.ceil(left_s)
                if not last or last[-1][0] is not prompt:
                    say(f"{prompt.text} ({prompt.seconds:.0f} s)", "bold")
                    last.append(now_asked)

            seen = collect(frames_of(camera), reader.code, ask)
        found = calibrate(seen, reference)
        _followed(found.range)
        gain = float(found.calibration.gain[0])
        rest = ", ".join(f"{name} {value:+.2f}" for name, value in found.rest.items())
        reach = ", ".join(f"{name} {value:.2f}" for name, value in found.range.items())
        say(f"{seen.seen} frames; your face at rest, in shares of a full expression: {rest}; your range: {reach}")
        say(f"expressions are worn {gain:.2f} times as strong")
        part = WearerPart.of(found.calibration, made=now(), frames=seen.seen, rest=found.rest)
        update: dict[str, Any] = {"wearer": part} | ({"person": person} if person else {})
        report = {"frames": seen.seen, "missed": seen.missed, "rest": found.rest, "range": found.range, "gain": gain}
        _save(kept.model_copy(update=update), report, as_json=as_json)


def _followed(ranges: Mapping[str, float]) -> None:
    """Raise SettingsError when nothing moved as was asked: every later run would be bent by what was seen instead."""
    if max(ranges.values()) < _LEAST_RANGE:
        seen = ", ".join(f"{name} {value:.2f}" for name, value in ranges.items())
        raise SettingsError(
            f"what was asked for was not seen (of a full expression: {seen}); nothing was kept",
            hint="follow the prompts, with a broad smile and a wide open mouth; a file must be a recording of that",
        )


@calibrate_app.command(
    epilog="""Examples:

    personacam calibrate colour --light evening -p kofi    eight seconds in the light of your evenings

    personacam calibrate colour --light window -s clip.mp4"""
)
def colour(
    source: SourceOption = "0",
    persona: PersonaOption = "vera",
    tier: TierOption = None,
    light: Annotated[str, typer.Option(help="A name for the light you sit in; each has colours of its own.")] = "usual",
    seconds: Annotated[float, typer.Option(min=2.0, max=120.0, help="How long to look.")] = 8.0,
    profile: ProfileOption = "default",
    as_json: JsonFlag = False,
) -> None:
    """A persona's colours in one light before your camera: fixed from then on, instead of matched in every frame."""
    with errors_explained(as_json=as_json):
        from calibration.calibrate_colour import learn_light
        from realtime.calibrated import store
        from realtime.wearer_rig import FaceReader, frames_of

        kept = store().load_or_new(profile)
        with closing(FaceReader(_persona_file(persona, tier))) as reader, closing(_open(source)) as camera:
            say(camera.report)
            say(f"look at the camera, in the light {light}, for {duration(seconds)}", "bold")
            colours = [found for frame in frames_of(camera, seconds) if (found := reader.colours(frame))]
            name = reader.persona.manifest.name
        learned = learn_light(colours, name=light, persona=name, made=now())
        b, g, r = learned.gain
        say(f"{len(colours)} frames; linear gains red {r:.2f}, green {g:.2f}, blue {b:.2f}")
        _save(kept.with_light(learned), {"frames": len(colours), "light": learned.model_dump()}, as_json=as_json)


@calibrate_app.command(
    epilog="""Examples:

    personacam calibrate delay                          shows a code in a window; point the camera at it

    personacam calibrate delay --write code.mp4         a clip with clicks, to play on a phone before the camera

    personacam calibrate delay --recording take.mkv     OBS's recording of that phone: picture against sound"""
)
def delay(
    source: SourceOption = "0",
    seconds: Annotated[float, typer.Option(min=3.0, max=120.0, help="How long to film the window.")] = 10.0,
    write: Annotated[Path | None, typer.Option(help="Write the code as a clip with clicks (.mp4) and stop.")] = None,
    recording: Annotated[Path | None, typer.Option(help="Read a recording of that clip.")] = None,
    pipeline: Annotated[
        float | None, typer.Option(help="Milliseconds of the filter itself.", show_default="measured")
    ] = None,
    profile: ProfileOption = "default",
    as_json: JsonFlag = False,
) -> None:
    """How late your picture is, and by how much OBS must hold back the sound."""
    with errors_explained(as_json=as_json):
        from calibration.profile import DelayPart
        from realtime.calibrated import store
        from realtime.delay_rig import measure_recording, measure_with_window, write_clip

        if write is not None:
            with console.status("writing half a minute of clip"):
                write_clip(write)
            say(f"{write}: play it on a phone in a loop, full screen and loud, before camera and microphone;")
            say("record ten seconds in OBS, then: personacam calibrate delay --recording FILE")
            if as_json:
                print_json({"clip": str(write)})
            return
        kept = store().load_or_new(profile)
        if recording is not None:
            with console.status(f"reading {recording.name}"):
                total, found = measure_recording(recording)
            if total < -5.0:  # what the measurement itself may be off by
                raise SettingsError(
                    f"in this recording the sound is {-total:.0f} ms later than the picture",
                    hint="set OBS's sync offset to 0 ms and record again; a Bluetooth microphone may be that slow",
                )
            part = DelayPart(made=now(), source=recording.name, camera_ms=max(total, 0.0), spread_ms=found.spread_ms)
            say(f"{found.frames} frames: the picture is {total:.0f} ms later than the sound, all in all")
        else:
            own = _pipeline_ms() if pipeline is None else pipeline
            found = measure_with_window(lambda: _open(source), seconds, say=say)
            part = DelayPart(
                made=now(), source=source, camera_ms=max(found.ms, 0.0), spread_ms=found.spread_ms, pipeline_ms=own
            )
            say(f"{found.frames} frames: camera {found.ms:.0f} ms (+-{2 * found.error_ms:.1f}), filter {own:.0f} ms")
        say(
            f"in OBS: Edit, Advanced Audio Properties, your microphone's Sync Offset: {part.audio_offset_ms} ms", "bold"
        )
        report = part.model_dump() | {"audio_offset_ms": part.audio_offset_ms, "frames": found.frames}
        _save(kept.model_copy(update={"delay": part}), report, as_json=as_json)


def _pipeline_ms() -> float:
    """The median of a short run at the demo clip's own rate, into nothing."""
    report = _short_run(pace="on", seconds=4.0)
    return float(report["latency_ms"]["p50"])


def _short_run(**options: Any) -> dict[str, Any]:
    from realtime.config import Settings
    from realtime.session import run_session

    settings = Settings(source="demo", sink=("null",), governor="off", calibration="none", control=False, **options)
    return run_session(settings, say=lambda _: None).report


@calibrate_app.command(
    epilog="""Examples:

    personacam calibrate machine                 what this machine holds at 30 frames a second

    personacam calibrate machine --fps 60 -p kofi --json"""
)
def machine(
    persona: PersonaOption = "vera",
    fps: Annotated[float, typer.Option(min=1.0, max=240.0, help="The rate that you want.")] = 30.0,
    rounds: Annotated[int, typer.Option(min=5, max=1000, help="Frames timed of each candidate.")] = 40,
    profile: ProfileOption = "default",
    as_json: JsonFlag = False,
) -> None:
    """Measure sizes, runtimes and arithmetic here, choose the best that holds the rate, and say why."""
    with errors_explained(as_json=as_json):
        from calibration.calibrate_machine import choose, machine_name, measure
        from calibration.profile import MachinePart
        from realtime.calibrated import store
        from realtime.machine_rig import candidates
        from realtime.session import persona_store, wearer_crops

        kept = store().load_or_new(profile)
        say("close what you do not need while you stream: other programs count")
        other_ms = _beside_the_network()
        tiers = persona_store().tiers(persona) or {"": _persona_file(persona, None)}
        with candidates(tiers, wearer_crops) as found, console.status("measuring") as status:
            measured = measure(
                found, other_ms, rounds=rounds, progress=lambda a, b: status.update(f"measuring: round {a} of {b}")
            )
        choice = choose(measured, fps)
        table = Table("size", "runtime", "arithmetic", "network ms", "frame ms", "")
        for one in measured:
            c, chosen = one.candidate, "chosen" if one.candidate == choice.candidate else one.error
            times = ("", "") if one.error else (f"{one.network_ms:.2f}", f"{one.frame_ms:.1f}")
            table.add_row(c.tier, c.runtime, c.precision, *times, chosen)
        console.print(table)
        say(choice.why, "bold" if choice.holds else "yellow")
        rows = tuple(
            {"tier": m.candidate.tier, "runtime": m.candidate.runtime, "precision": m.candidate.precision}
            | ({"error": m.error} if m.error else {"network_ms": m.network_ms, "frame_ms": m.frame_ms})
            for m in measured
        )
        part = MachinePart.model_validate({
            "made": now(), "machine": machine_name(), "tier": choice.candidate.tier, "fps": fps,
            "runtime": choice.candidate.runtime, "precision": choice.candidate.precision, "holds": choice.holds,
            "why": choice.why[:400], "frame_ms": choice.frame_ms, "measured": rows,
        })  # fmt: skip
        _save(kept.model_copy(update={"machine": part}), part.model_dump(mode="json"), as_json=as_json)


def _beside_the_network() -> float:
    """Milliseconds of a frame but for the network: medians of a short run's stages."""
    stages = _short_run(pace="off", frames=60)["stages_ms"]
    return float(sum(stages[name]["p50"] for name in ("detect", "align", "blend", "mark", "send") if name in stages))


@calibrate_app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """Which profiles there are."""
    from engines.errors import PersonacamError
    from realtime.calibrated import store

    rows: list[dict[str, Any]] = []
    table = Table("profile", "wearer", "lights", "delay", "machine")
    with errors_explained(as_json=as_json):
        for name in store().names():
            try:
                p = store().load(name)
            except PersonacamError as error:
                rows.append({"profile": name, "error": error.message})
                table.add_row(name, f"cannot be used: {error.message}", "", "", "")
                continue
            lights = [f"{light.persona} {light.name}" for light in p.lights]
            delay_ms = None if p.delay is None else p.delay.audio_offset_ms
            best = None if p.machine is None else f"{p.machine.tier}, {p.machine.runtime} {p.machine.precision}"
            rows.append({
                "profile": name, "wearer": p.wearer is not None, "lights": lights, "audio_offset_ms": delay_ms,
                "machine": best,
            })  # fmt: skip
            sound = "-" if delay_ms is None else f"{delay_ms} ms"
            table.add_row(name, "yes" if p.wearer else "-", ", ".join(lights) or "-", sound, best or "-")
    console.print(table)
    if as_json:
        print_json({"profiles": rows})


@calibrate_app.command()
def show(name: NameArgument = "default", as_json: JsonFlag = False) -> None:
    """Everything a profile holds."""
    with errors_explained(as_json=as_json):
        from realtime.calibrated import store

        found = store().load(name)
        path = store().path(name)
    value = found.model_dump(mode="json")
    if found.wearer is not None and not as_json:
        for key in ("gain", "shift"):
            row = value["wearer"][key]
            value["wearer"][key] = f"{len(row)} numbers, {min(row):.3f} to {max(row):.3f}"
    if as_json:
        print_json(value | {"path": str(path)})
        return
    console.print_json(data=value)
    say(str(path))


@calibrate_app.command(
    epilog="""Examples:

    personacam calibrate edit                              opens the default profile in your editor

    personacam calibrate edit default delay.camera_ms=80   sets one field

    personacam calibrate edit default wearer=null          takes a part out"""
)
def edit(
    name: NameArgument = "default",
    fields: Annotated[list[str] | None, typer.Argument(help="FIELD=VALUE, with dots for parts of parts.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Change a profile; what would not be one any more is refused and the old one stays."""
    with errors_explained(as_json=as_json):
        from calibration.profile import changed
        from realtime.calibrated import store

        profiles = store()
        before = profiles.load(name)
        after = changed(before, fields) if fields else _edited(before)
        if after.name != name:
            raise SettingsError("a profile's name is its file's", hint=f"copy {profiles.path(name)} under the new name")
        if after == before:
            say("nothing was changed")
            return
        profiles.save(after)
    say(f"changed: {profiles.path(name)}")
    if as_json:
        print_json(after.model_dump(mode="json"))


def _edited(before: Profile) -> Profile:
    """What the user's editor makes of it. Raises SettingsError without one, DataError for what is no profile."""
    import os
    import shlex
    import subprocess
    import sys
    import tempfile

    from calibration.profile import decode

    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ("notepad" if sys.platform == "win32" else "vi")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{before.name}.json"
        path.write_bytes(before.encode())
        command = [editor] if sys.platform == "win32" else shlex.split(editor)
        try:
            subprocess.run([*command, str(path)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SettingsError(
                f"the editor {editor} did not work: {error}", hint="set EDITOR, or give FIELD=VALUE"
            ) from error
        return decode(path.read_bytes(), "as it was edited")
