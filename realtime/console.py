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

console = Console(stderr=True)


def say(text: str, style: str = "") -> None:
    """A line for people."""
    console.print(escape(text), style=style, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """The last line for programs."""
    sys.stdout.write(json.dumps(value, default=str) + "\n")
    sys.stdout.flush()


@contextmanager
def errors_explained() -> Iterator[None]:
    """Turn an error of the tree into two lines and exit status 1; everything else is a bug and keeps its traceback."""
    try:
        yield
    except PersonacamError as error:
        say(error.message, "red")
        say(f"  -> {error.hint}")
        raise typer.Exit(1) from error
