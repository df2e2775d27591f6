"""``forget``: everything that was made of a person's face goes; it says what, and what stays and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from realtime.cli_consent import JsonFlag, Yes, confirmed, gatekeeper
from realtime.cli_engines import CacheOption
from realtime.cli_engines import _cache as cache_of
from realtime.console import errors_explained, print_json, say

if TYPE_CHECKING:
    from calibration.consent_left import Left

EXAMPLES = """Examples:

    personacam forget ada --dry-run      what would be removed, and what stays and why

    personacam forget ada"""


def forget(
    name: Annotated[str, typer.Argument(help="The persona's name.")],
    yes: Yes = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be removed, what stays, and stop.")
    ] = False,
    cache: CacheOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Remove everything that was made of a person's face on this machine, and say what stays and why.

    Persona files of all tiers, faces, coverage maps, training with checkpoints and reports, built engines, calibrations
    of their face, and what interruptions left. The footage, the signed records and the audit log stay.
    """
    report: dict[str, Any] = {"persona": name, "dry_run": dry_run, "removed": [], "failed": [], "stays": []}
    with errors_explained(as_json=as_json):
        from calibration.consent_forget import derived_of
        from calibration.consent_forget import forget as remove
        from calibration.consent_gates import utc_now
        from calibration.consent_left import left_of
        from engines.errors import DataError

        store = gatekeeper().store
        things = derived_of(store, name, cache_of(cache))
        for thing in things:
            say(f"{thing.kind:8} {thing.bytes / 1e6:8.1f} MB  {thing.path}")
        lines = [f"{thing.kind}: {thing.path}" for thing in things]
        if not things:
            say(f"there is nothing of {name} on this machine to remove")
        elif not dry_run:
            together = sum(thing.bytes for thing in things) / 1e6
            confirmed(f"Remove {'it' if len(things) == 1 else f'these {len(things)}'}, {together:.1f} MB?", yes=yes)
            failures = remove(store, name, things, utc_now())
            report |= {"removed": lines, "failed": failures}
            if failures:
                raise DataError(f"not removed: {'; '.join(failures)}", hint="close what uses them, and try again")
            say("removed", "bold")
        else:
            report["removed"] = lines
            say("nothing was removed: --dry-run", "bold")
        stays = [*left_of(store, name), *_recordings(name)]
        _say_left(stays)
        report["stays"] = [asdict(one) for one in stays]
    if as_json:
        print_json(report)


def _say_left(stays: Sequence[Left]) -> None:
    from calibration.consent_left import OUT_OF_REACH

    if not stays:
        return
    say("what stays, and why:")
    for one in (*stays, OUT_OF_REACH):
        say(f"  {one.line()}")


def _recordings(name: str) -> list[Left]:
    """Of sessions in which the persona was worn: their files show it, and nobody wrote down where they are."""
    from calibration.consent_left import Left
    from realtime.session import data_folder
    from realtime.session_record import FOLDER, SessionStore

    sessions = [one for one in SessionStore(data_folder() / FOLDER).all() if name in {p.name for p in one.personas}]
    if not sessions:
        return []
    files = tuple(dict.fromkeys(file.name for one in sessions for file in one.recordings))
    text = "session" if len(sessions) == 1 else "sessions"
    why = "a line for personacam verify, no face; the recordings named there show the persona, and are yours to delete"
    return [Left(f"the record of {len(sessions)} {text}", why, files)]
