"""One line of what ``personacam doctor`` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    topic: str
    state: State
    """ok; warn: something optional is missing; fail: ``personacam run`` will not work like this."""
    text: str
    repair: str | None = None
