"""What a gallery shows of persona files, without reading their networks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.errors import PersonaFormatError
from engines.files import read_limited
from engines.persona import Manifest
from engines.persona_zip import MAX_FILE_BYTES, unpack


@dataclass(frozen=True, slots=True)
class Card:
    """A persona in the gallery."""

    name: str
    title: str
    kind: str
    picture: bytes | None
    """WebP."""

    def as_dict(self) -> dict[str, Any]:
        """For the page."""
        return {"name": self.name, "title": self.title, "kind": self.kind, "picture": self.picture is not None}


def card_of(path: Path) -> Card:
    """Manifest and portrait of a persona file. Its network is not read: who wears it checks all of it.

    Raises PersonaFormatError.
    """
    try:
        members = unpack(read_limited(path, MAX_FILE_BYTES))
        manifest = Manifest.model_validate_json(members["manifest.json"])
    except (OSError, KeyError, ValueError) as error:
        raise PersonaFormatError(f"{path.name} is no persona: {error}", hint="personacam personas list") from error
    picture = members.get("preview.webp")
    if picture is not None and hashlib.sha256(picture).hexdigest() != manifest.members.get("preview.webp"):
        picture = None
    return Card(manifest.name, manifest.title, manifest.kind, picture)
