"""How the command line speaks: to people on standard error, to programs as one JSON line on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from engines.errors import PersonacamError


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Nobody reads the lines any more, for example ``2>&1 | head``. That must not end a running camera."""


console = _Console(stderr=True)


def say(text: str, style: str = "") -> None:
    """A line for people."""
    console.print(escape(text), style=style, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """For people: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def print_json(value: Any) -> None:
    """The last line for programs."""
    sys.stdout.write(json.dumps(value, default=str) + "\n")
    sys.stdout.flush()


@contextmanager
def errors_explained(*, as_json: bool = False) -> Iterator[None]:
    """Turn an error of the tree into two lines and exit status 1; everything else is a bug and keeps its traceback.

    With ``as_json`` the last line of standard output is {"error": {"message", "hint"}}.
    """
    try:
        yield
    except PersonacamError as error:
        say(error.message, "red")
        say(f"  -> {error.hint}")
        if as_json:
            print_json({"error": {"message": error.message, "hint": error.hint}})
        raise typer.Exit(1) from error


def end_with(error: PersonacamError | None) -> None:
    """After a report that holds the error already: say it and leave with status 1, if there is one."""
    if error is not None:
        with errors_explained():
            raise error
