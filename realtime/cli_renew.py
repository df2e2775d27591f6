"""``consent renew``: a later consent for a persona that is there, without a new training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engines.errors import PersonacamError, PersonaNotFoundError
from realtime.cli_consent import JsonFlag, gatekeeper
from realtime.console import errors_explained, print_json, say

if TYPE_CHECKING:
    from calibration.consent import ConsentRecord
    from calibration.consent_renew import Renewal

EXAMPLES = """Examples:

    personacam consent request ada --subject "Ada Example" --enroller Me --footage ada.mp4 --purpose film --days 700

    personacam consent sign ada.request.json --key ada.pem        the same person, the same key

    personacam consent renew ada --record ada.consent.json --dry-run

    personacam consent renew ada --record ada.consent.json"""


def renew(
    which: Annotated[str, typer.Argument(help="A persona's name, or a .persona file.")],
    record: Annotated[str, typer.Option(help="What the person signed now: the file, or its number if it is here.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change and stop.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Put a persona under a later consent record of the same footage: no new training, the weights stay.

    The record takes the place of the one before, wider or narrower, and there is no way back to it without the person.
    """
    rows: list[dict[str, Any]] = []
    with errors_explained(as_json=as_json):
        from calibration.consent_renew import renew as attach

        gate = gatekeeper()
        signed = gate.store.find(record)
        paths = _files(which, signed.record.persona)
        # All of them are asked before the first one changes: tiers of one persona stand under one record.
        asked = [attach(gate, path, signed, dry_run=True) for path in paths]
        for line in _changes(asked):
            say(line)
        for renewal in asked:
            if renewal.changes and not dry_run:
                attach(gate, renewal.path, signed)
            rows.append({"path": str(renewal.path), "before": renewal.before.digest, "changed": renewal.changes})
        _say_done(asked, signed.digest, dry_run=dry_run)
    if as_json:
        print_json({"record": signed.digest, "dry_run": dry_run, "files": rows})


def _files(which: str, name: str) -> list[Path]:
    """The named file, or those of all tiers that stand under the name. Raises PersonaNotFoundError."""
    from calibration.consent_gates import TIER_FOLDERS
    from engines.persona import SUFFIX
    from realtime.session import data_folder

    given = Path(which).expanduser()
    if given.suffix == SUFFIX or len(given.parts) > 1:
        if not given.is_file():
            raise PersonaNotFoundError(f"there is no file {given}", hint="check the path")
        return [given]
    standing = [data_folder() / "personas" / tier / f"{which}{SUFFIX}" for tier in TIER_FOLDERS]
    found = [path for path in standing if path.is_file()]
    if not found:
        also = f"; the record is for {name}" if name != which else ""
        raise PersonaNotFoundError(
            f"no persona {which} of a real person stands on this machine{also}",
            hint=f"name its file, or make it: personacam train persona {name}",
        )
    return found


def renewable(record: ConsentRecord) -> bool:
    """Whether a persona stands here that could be put under ``record`` instead of being made again."""
    from calibration.consent import read_record
    from calibration.consent_gates import shown_only
    from calibration.consent_store import follows
    from engines.persona import read_persona

    try:
        persona = read_persona(_files(record.persona, record.persona)[0], admit=shown_only)
        chain = persona.manifest.chain
        if persona.consent is None or chain is None:
            return False
        return follows(record, read_record(persona.consent).record, chain.footage)
    except PersonacamError:
        return False


def _changes(asked: list[Renewal]) -> list[str]:
    """What the new record changes; every file may have stood under another one, mostly under one and the same."""
    from calibration.consent_words import what_changes

    lines: dict[str, None] = {}
    for renewal in asked:
        if renewal.changes:
            lines |= dict.fromkeys(what_changes(renewal.before.record, renewal.after.record))
    return list(lines)


def _say_done(asked: list[Renewal], digest: str, *, dry_run: bool) -> None:
    for renewal in asked:
        if not renewal.changes:
            say(f"{renewal.path}: stands under record {digest[:16]} already")
        elif dry_run:
            say(f"{renewal.path}: would stand under record {digest[:16]}")
        else:
            say(f"{renewal.path}: stands under record {digest[:16]} now; the weights are the same", "bold")
    if dry_run:
        say("nothing was changed: --dry-run")
    elif any(renewal.changes for renewal in asked):
        name = asked[0].after.record.persona
        say(
            "copies elsewhere stand under the record before until they are renewed too:"
            f" personacam consent renew FILE.persona --record FILE; what runs now keeps its limits until it is started"
            f" again. personacam personas show {name} tells what holds"
        )
