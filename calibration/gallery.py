"""The personas that are shipped: ten invented people, eight filmed and two drawn."""

from __future__ import annotations

from dataclasses import dataclass

from calibration.people.anime import Style
from calibration.people.identity import Identity, cast, random_identity


@dataclass(frozen=True)
class GalleryPersona:
    """Who a shipped persona is."""

    name: str
    title: str
    who: Identity
    style: Style = "photo"


_DRAWN_FROM_SEEDS: tuple[tuple[str, int, Style, str], ...] = (
    ("marit", 204, "photo", "an invented woman in her thirties with a blonde bob"),
    ("amara", 247, "photo", "an invented young woman with dark skin and short black hair"),
    ("noor", 241, "photo", "an invented woman with brown skin and long black hair"),
    ("jun", 228, "photo", "an invented man with black hair and a tan"),
    ("finn", 242, "photo", "an invented man with red hair and a goatee"),
    ("greta", 221, "photo", "an invented woman in her seventies with long grey hair"),
    ("yuki", 203, "anime", "a drawn woman with silver hair and blue eyes"),
    ("ren", 207, "anime", "a drawn man with short black hair"),
)


def gallery() -> dict[str, GalleryPersona]:
    """The shipped personas by name, in the order of the gallery."""
    people = cast()
    first = [
        GalleryPersona("vera", "Vera, an invented young woman with auburn hair and freckles", people["vera"]),
        GalleryPersona("kofi", "Kofi, an invented man in his sixties with brown skin and grey stubble", people["kofi"]),
    ]
    drawn = [
        GalleryPersona(name, f"{name.capitalize()}, {what}", random_identity(seed), style)
        for name, seed, style, what in _DRAWN_FROM_SEEDS
    ]
    return {persona.name: persona for persona in (*first, *drawn)}
