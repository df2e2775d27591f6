"""The verbs for cameras in and virtual cameras out."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from engines.errors import SinkUnavailableError
from realtime import v4l2
from realtime.camera_list import CameraInfo, camera_list_note, list_cameras
from realtime.console import errors_explained, print_json, say
from realtime.loopback import LoopbackFacts, gather
from realtime.loopback_setup import Step, carry_out, install_plan, remove_plan, root_prefix
from realtime.v4l2_controls import Control, list_controls
from realtime.v4l2_modes import Mode, list_modes

virtualcam_app = typer.Typer(help="Set up the virtual camera of this computer.", no_args_is_help=True)

Apply = Annotated[bool, typer.Option("--apply", help="Run the commands, as root; otherwise they are only printed.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]


def cameras(as_json: AsJson = False) -> None:
    """The cameras: formats, sizes and rates of each, its controls, and who holds it."""
    note = camera_list_note()
    if note is not None:
        say(note)
    found = []
    for camera in list_cameras():
        modes, controls, users = list_modes(camera.path), list_controls(camera.path), v4l2.holders(camera.path)
        _show(camera, modes, controls, users)
        found.append(
            asdict(camera)
            | {"modes": [asdict(mode) for mode in modes], "controls": [asdict(control) for control in controls]}
            | {"used_by": list(users)}
        )
    if not found and note is None:
        say("no camera is connected; try personacam run --source pattern, or --source FILE.mp4")
    if as_json:
        print_json({"cameras": found, "note": note})


MICROPHONE_EXAMPLES = """Examples:

    personacam microphones

    personacam run -o call.mp4 --microphone Yeti      by a part of the name"""


def microphones(as_json: AsJson = False) -> None:
    """The microphones that recordings can have their sound from; the first is the system's choice."""
    from realtime.microphone import list_microphones

    with errors_explained(as_json=as_json):
        found = list_microphones()
    for microphone in found:
        channels = "mono" if microphone.channels == 1 else f"{microphone.channels} channels"
        default = ", default" if microphone.default else ""
        say(f"{microphone.index}: {microphone.name} ({microphone.host}, {microphone.rate} Hz, {channels}{default})")
    if not found:
        say("no microphone is connected; recordings without --microphone are silent")
    if as_json:
        print_json({"microphones": [asdict(microphone) for microphone in found]})


def _show(camera: CameraInfo, modes: tuple[Mode, ...], controls: tuple[Control, ...], users: tuple[str, ...]) -> None:
    say(f"{camera.index}: {camera.name} ({camera.path}, {camera.bus or 'place unknown'})", "bold")
    if users:
        say(f"   open in {', '.join(users)}", "yellow")
    formats: dict[str, list[str]] = {}
    for mode in modes:
        rate = f"@{mode.rates[0]:g}" if mode.rates else ""
        formats.setdefault(mode.fourcc or "?", []).append(f"{mode.size[0]}x{mode.size[1]}{rate}")
    for fourcc, sizes in formats.items():
        say(f"   {fourcc}: {', '.join(sizes)}")
    if not modes:
        say("   it does not say what it offers, or may not be asked (personacam doctor)")
    for control in controls:
        say(f"   {control.name}: {describe(control)}")


def describe(control: Control) -> str:
    """Where a knob stands and what it takes: "2 (Disabled, 50 Hz, *60 Hz)", "on", "250 of 3 to 2047"."""
    if control.kind == "menu":
        return ", ".join(f"*{name}" if value == control.value else name for value, name in control.menu)
    if control.value is None:
        return f"{control.minimum} to {control.maximum}"
    if control.kind == "boolean":
        return "on" if control.value else "off"
    return f"{control.value} of {control.minimum} to {control.maximum}"


@virtualcam_app.command("install")
def virtualcam_install(apply: Apply = False, as_json: AsJson = False) -> None:
    """Make a virtual camera called personacam that is there after every restart (Linux)."""
    with errors_explained(as_json=as_json):
        facts = _facts()
        plan = install_plan(facts)
        _follow(plan, facts, apply=apply)
        if apply:
            say("there is a virtual camera called personacam; programs list it while personacam runs")
    _as_json(facts, plan, apply=apply, as_json=as_json)


@virtualcam_app.command("remove")
def virtualcam_remove(apply: Apply = False, as_json: AsJson = False) -> None:
    """Undo install: the configuration, and the device as soon as nobody uses it (Linux)."""
    with errors_explained(as_json=as_json):
        facts = _facts()
        plan = remove_plan(facts)
        _follow(plan, facts, apply=apply)
        if apply and len(plan) == 1 and facts.devices:
            say("the device itself goes with the next restart: it is in use, or shares the module with others")
    _as_json(facts, plan, apply=apply, as_json=as_json)


def _facts() -> LoopbackFacts:
    if sys.platform != "linux":
        raise SinkUnavailableError(
            "on Windows and macOS the virtual camera is OBS's",
            hint="install OBS Studio, start its virtual camera once and stop it again; personacam doctor checks it",
        )
    return gather()


def _follow(plan: tuple[Step, ...], facts: LoopbackFacts, *, apply: bool) -> None:
    """Print a plan; with ``apply`` ask for root and run it."""
    prefix = root_prefix() if apply else ("sudo",)
    for step in plan:
        say(f"# {step.why}")
        say("  " + step.shell("".join(f"{word} " for word in prefix)))
    if not apply:
        say("nothing was done; --apply runs these commands")
        return
    if prefix:
        say(f"these commands need root; {prefix[0]} may ask for your password", "yellow")
    carry_out(plan, facts, prefix)


def _as_json(facts: LoopbackFacts, plan: tuple[Step, ...], *, apply: bool, as_json: bool) -> None:
    if as_json:
        value: dict[str, Any] = {"facts": asdict(facts), "steps": [asdict(step) for step in plan], "applied": apply}
        print_json(value)
