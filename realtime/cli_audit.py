"""The verbs for what was done with personas of real people."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from realtime.cli_consent import JsonFlag, Yes, confirmed, gatekeeper
from realtime.console import console, errors_explained, print_json, say

audit_app = typer.Typer(help="What was done with personas of real people on this machine.", no_args_is_help=True)


@audit_app.command("verify")
def verify(as_json: JsonFlag = False) -> None:
    """Check the whole log: that no line was changed, removed or put in between."""
    with errors_explained(as_json=as_json):
        entries = gatekeeper().store.log.entries()
    repairs = sum(entry.event == "repair" for entry in entries)
    note = f", {repairs} of them after a crash" if repairs else ""
    say(f"{len(entries)} lines, all as they were written{note}")
    if as_json:
        print_json({"lines": len(entries), "repairs": repairs, "head": entries[-1].hash if entries else None})


@audit_app.command("show")
def show(
    persona: Annotated[str | None, typer.Argument(help="Only this persona's.")] = None,
    last: Annotated[int, typer.Option(min=1, help="So many lines.")] = 40,
    as_json: JsonFlag = False,
) -> None:
    """The log's last lines: when, what, whose."""
    with errors_explained(as_json=as_json):
        entries = [e for e in gatekeeper().store.log.entries() if persona in {None, e.persona}][-last:]
    table = Table("time", "what", "persona", "details")
    for entry in entries:
        details = ", ".join(f"{k} {str(v)[:60]}" for k, v in entry.details.items() if v not in (None, []))
        table.add_row(entry.time, entry.event, entry.persona or "-", details)
    console.print(table)
    if as_json:
        print_json({"entries": [asdict(entry) for entry in entries]})


@audit_app.command("clock")
def clock(yes: Yes = False) -> None:
    """Let the clock begin again, when it showed a time in the future before. The log says that it was done."""
    with errors_explained():
        from calibration.consent_gates import utc_now

        log = gatekeeper().store.log
        say(f"the latest time so far: {log.latest()}; now: {utc_now():%Y-%m-%d %H:%M:%S} UTC")
        confirmed("Is the time right now?", yes=yes)
        log.set_clock(utc_now())


@audit_app.command("restart")
def restart(yes: Yes = False) -> None:
    """Put a log that was changed aside, and begin a new one that says so."""
    with errors_explained():
        from calibration.consent_gates import utc_now

        confirmed("Begin a new log?", yes=yes)
        old = gatekeeper().store.log.restart(utc_now())
    say(f"a new log; the old one is {old}" if old else "a new log; there was no old one")
