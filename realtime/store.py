"""Where personas lie: the shipped gallery and the user's own, each in tiers.

    FOLDER/NAME.persona          tiny, or whatever somebody imported
    FOLDER/small/NAME.persona    the same person with a larger network
    FOLDER/base/NAME.persona

A name without a tier is the first of these that there is, so the smallest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from calibration.consent_gates import shown_only
from engines.errors import PersonacamError, PersonaNotFoundError
from engines.persona import SUFFIX, Persona, PersonaStore, read_persona

SMALLEST_TIER = "tiny"
LARGER_TIERS = ("small", "base")
"""Each has a folder of its own; the smallest tier needs none."""


class TieredStore(PersonaStore):
    """``PersonaStore`` over folders that hold tiers; of two folders the earlier one counts within a tier."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._all = [*folders, *(folder / tier for tier in LARGER_TIERS for folder in folders)]
        super().__init__(self._all)

    def copies(self, name: str) -> list[Path]:
        """All files of a name, the one without a tier's folder first."""
        return [path for folder in self._all if (path := folder / f"{name}{SUFFIX}").is_file()]

    def find(self, name_or_path: str | Path, tier: str | None = None) -> Path:
        """The file of a persona by name, or a path to one; with ``tier`` only if it is of that tier.

        Raises PersonaNotFoundError with the nearest name or the tiers that there are.
        """
        try:
            first = super().find(name_or_path)
        except PersonaNotFoundError as error:
            begun = [enrolled for f in self._all if (enrolled := f.parent / "enrolled" / str(name_or_path)).is_dir()]
            if begun and Path(name_or_path).name == str(name_or_path):
                raise PersonaNotFoundError(
                    f"the persona {str(name_or_path)!r} is not finished; so far there is {begun[0]}",
                    hint=f"personacam train persona {name_or_path} --source FILE goes on with it",
                ) from error
            raise
        if tier is None:
            return first
        copies = self.copies(str(name_or_path)) or [first]
        found = {path: tier_of(path) for path in copies}
        for path, its in found.items():
            if its == tier:
                return path
        known = ", ".join(dict.fromkeys(its for its in found.values() if its))
        raise PersonaNotFoundError(f"{name_or_path} has no tier {tier!r}", hint=f"it comes in {known or 'none'}")

    def tiers(self, name: str) -> dict[str, Path]:
        """Tier -> file of a name, the default one first; damaged files have none."""
        found: dict[str, Path] = {}
        for path in self.copies(name):
            tier = tier_of(path)
            if tier is not None:
                found.setdefault(tier, path)
        return found

    def larger_first(self, name: str, worn: Persona) -> list[str]:
        """Tiers of ``name`` by their folders, unread, the largest first; the one of ``worn`` is among them."""
        found = {worn.manifest.tier}
        for path in self.copies(name):
            if path != worn.path:
                found.add(path.parent.name if path.parent.name in LARGER_TIERS else SMALLEST_TIER)
        order = (SMALLEST_TIER, *LARGER_TIERS)
        return sorted(found, key=lambda tier: order.index(tier) if tier in order else -1, reverse=True)


def tier_of(path: Path) -> str | None:
    """What a file says of itself, or None when it cannot be read."""
    try:
        return read_persona(path, admit=shown_only).manifest.tier
    except PersonacamError:
        return None
