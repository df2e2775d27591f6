"""Names that a real person's persona may have: asked before anything is signed, recorded or trained."""

from __future__ import annotations

import re
from importlib import resources

from engines.errors import SettingsError
from engines.persona import SUFFIX

_PROPER = re.compile(r"[a-z0-9-]{1,40}")


def proper_name(name: str) -> str:
    """``name``, when it can be a persona's. Raises SettingsError for another spelling and for names of the gallery."""
    if not _PROPER.fullmatch(name):
        near = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
        example = f", for example {near}" if near else ""
        raise SettingsError(
            f"{name[:60]!r} cannot be a persona's name",
            hint=f"use small letters, digits and hyphens, at most 40{example}",
        )
    if resources.files("realtime").joinpath("personas", f"{name}{SUFFIX}").is_file():
        raise SettingsError(
            f"{name!r} is one of the invented personas that come with personacam",
            hint="choose another name: run --persona would not know whom you mean",
        )
    return name
