"""``personas import``: a .persona file that somebody gave, or a DeepFaceLive model of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from realtime.cli_consent import JsonFlag, gatekeeper
from realtime.console import errors_explained, print_json, say

EXAMPLES = """Examples:

    personacam personas import ada.persona

    personacam consent request ada --subject "Ada Example" --enroller "Me" --footage ada.dfm --purpose stream

    personacam personas import ada.dfm --consent ada.consent.json      once the person has signed"""


def bring_in(
    file: Annotated[Path, typer.Argument(help="A .persona file that somebody gave you, or your own .dfm model.")],
    consent: Annotated[
        Path | None, typer.Option(help=".dfm: the person's signed record.", show_default="one imported before")
    ] = None,
    morph: Annotated[float, typer.Option(help=".dfm, AMP models: how much of the persona at first, 0..1.")] = 0.75,
    coverage: Annotated[float, typer.Option(help=".dfm: how much of the head its crops show.")] = 2.2,
    mask: Annotated[str, typer.Option(help=".dfm: both, persona or wearer: which of its masks counts.")] = "both",
    as_json: JsonFlag = False,
) -> None:
    """Import a persona; a real person's only with their valid consent. DeepFaceLive's models become personas."""
    report: dict[str, Any] = {}
    with errors_explained(as_json=as_json):
        if file.suffix.lower() == ".dfm":
            from realtime.dfm_import import DfmWishes, bring_in_dfm

            wishes = DfmWishes(morph, coverage, mask)  # type: ignore[arg-type]  # checked there
            path, made, manifest = bring_in_dfm(gatekeeper(), file, consent, wishes)
            for line in made.repaired:
                say(f"put right: {line}")
            say(f"{file.name}: {made.side} x {made.side} pixels{', with a morph (--morph 0..1)' if made.morph else ''}")
            report = {"side": made.side, "morph": manifest.morph, "repaired": list(made.repaired)}
        else:
            path = gatekeeper().bring_in(file)
    say(f"{path}; wear it: personacam run -p {path.stem}")
    if as_json:
        print_json({"persona": path.stem, "path": str(path)} | report)
