"""``personacam verify`` and the keys of the invisible mark."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from realtime.console import console, errors_explained, print_json, say

mark_app = typer.Typer(help="The key of the invisible mark.", no_args_is_help=True)

EXAMPLES = """Examples:

    personacam verify talk.mp4                      did this leave one of my sessions?

    personacam verify clip.mp4 --key studio.key     with a key that somebody exported for you

    personacam verify file:///home/me/talk.mp4 --seconds 120 --json"""

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]


def verify(
    file: Annotated[str, typer.Argument(help="A video or picture, or its file:// address.")],
    key: Annotated[list[Path] | None, typer.Option(help="Look with this key too (personacam mark export).")] = None,
    anchor: Annotated[list[Path] | None, typer.Option(help="PEM file of signers to trust, for C2PA.")] = None,
    seconds: Annotated[float, typer.Option(min=3.0, help="Look at so much of it, spread over the file.")] = 30.0,
    as_json: JsonFlag = False,
) -> None:
    """Find the invisible mark, read content credentials, look into this computer's records. Sends nothing anywhere.

    Says what is shown and what is not. No mark found proves nothing.
    """
    with errors_explained(as_json=as_json):
        from realtime.detect import MeshDetector
        from realtime.session import data_folder
        from realtime.verify import local_path, words
        from realtime.verify import verify as look

        path = local_path(file)
        detector = MeshDetector.load()
        try:
            with _bar() as progress:
                verdict = look(
                    path,
                    data_folder(),
                    detector,
                    keys=key or (),
                    anchors=anchor or (),
                    seconds=seconds,
                    progress=progress,
                )
        finally:
            detector.close()
    shown, missing = words(verdict)
    mark = verdict.mark
    state = verdict.credentials.state if verdict.credentials is not None else "not looked at"
    say(f"mark: {'FOUND' if mark.found else 'not found'}{_session_text(verdict.session_text)}; credentials: {state}")
    for title, lines in (("shown:", shown), ("not shown:", missing)):
        if lines:
            say(title, "bold")
        for line in lines:
            say(f"  - {line}")
    if as_json:
        print_json(verdict.as_dict())


def _session_text(session: str | None) -> str:
    return "" if session is None else f", session {session}"


@contextmanager
def _bar() -> Iterator[Callable[[float], None]]:
    """A bar with the time left, on a terminal; yields its progress callback."""
    bar = Progress(
        TextColumn("looking"), BarColumn(), TimeRemainingColumn(), console=console, disable=not sys.stderr.isatty(),
        transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("looking", total=1.0)
        yield lambda share: bar.update(task, completed=share)


@mark_app.command(
    "export",
    epilog="""Examples:

    personacam mark export studio.key     then, elsewhere: personacam verify clip.mp4 --key studio.key""",
)
def export(
    out: Annotated[Path, typer.Argument(help="The new file.")],
    as_json: JsonFlag = False,
) -> None:
    """Copy this computer's key to a file, for somebody who shall find your marks. They can also forge them."""
    with errors_explained(as_json=as_json):
        from realtime.mark_keys import export_key
        from realtime.session import data_folder

        name = export_key(data_folder(), out)
    say(f"{out}: the key {name}. Whoever has it finds the marks of all your sessions, and can forge them.")
    if as_json:
        print_json({"key": name, "path": str(out)})


@mark_app.command("show")
def show(as_json: JsonFlag = False) -> None:
    """Which key this computer marks with: its fingerprint, not the key itself."""
    with errors_explained(as_json=as_json):
        from realtime.mark_keys import KEY_FILE, fingerprint, own_key
        from realtime.session import data_folder

        name = fingerprint(own_key(data_folder()))
    say(f"{data_folder() / KEY_FILE}: the key {name}")
    if as_json:
        print_json({"key": name, "path": str(data_folder() / KEY_FILE)})
