"""What earlier stages left in their folders, checked to belong together.

A later stage takes its networks from here:

universal run     encoder, trunk, people             train universal
enrolled run      encoder, decoder                   train enroll
persona runs      encoder, decoder-NAME, ...         train, train refine

A file names the sha256 of the one that it was trained with.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from engines.checkpoint import load_decoder, load_encoder
from engines.errors import DataError
from engines.film import FilmDecoder
from engines.network import PersonaDecoder, UniversalEncoder
from engines.universal_networks import People, load_people, load_trunk


@dataclass(frozen=True, slots=True)
class Universal:
    """What a universal run learned."""

    encoder: UniversalEncoder
    trunk: FilmDecoder
    people: People


@dataclass(frozen=True, slots=True)
class Persona:
    """One persona of a run."""

    name: str
    encoder: UniversalEncoder
    decoder: PersonaDecoder
    vector: Tensor | None
    """(F,) where the run has one."""


def load_universal(folder: Path) -> Universal:
    """Encoder, trunk and people of a universal run. Raises DataError when one is missing, damaged or of another run."""
    if not (folder / "trunk.json").exists():
        raise DataError(f"{folder} is no universal run: it has no trunk",
                        hint="name the folder that personacam train universal wrote")  # fmt: skip
    encoder, encoder_meta = load_encoder(folder / "encoder")
    trunk, trunk_meta = load_trunk(folder / "trunk")
    people = load_people(folder / "people")
    _check_mates(folder / "trunk", trunk_meta.get("encoder_sha256"), encoder_meta["sha256"])
    _check_mates(folder / "people", people.meta.get("trunk_sha256"), trunk_meta["sha256"])
    return Universal(encoder, trunk, people)


def load_persona(folder: Path, name: str) -> Persona:
    """A persona of a run of any stage, with the run's encoder.

    Raises DataError when the run has no such persona, or files are missing, damaged or of another run.
    """
    if name not in (known := persona_names(folder)):
        raise DataError(f"{folder} has no persona {name!r}", hint=_nearest(name, known))
    if (folder / "trunk.json").exists():
        run = load_universal(folder)
        vector = run.people.vectors[run.people.names.index(name)]
        return Persona(name, run.encoder, run.trunk.fold(vector), vector)
    stem = folder / f"decoder-{name}"
    stem = stem if _is_pair(stem) else folder / "decoder"
    encoder, encoder_meta = load_encoder(folder / "encoder")
    decoder, meta = load_decoder(stem)
    _check_mates(stem, meta.get("encoder_sha256"), encoder_meta["sha256"])
    return Persona(name, encoder, decoder, None)


def persona_names(folder: Path) -> list[str]:
    """Who is in a run, sorted. Raises DataError for a folder that is no run."""
    names = [path.stem.removeprefix("decoder-") for path in folder.glob("decoder-*.json")]
    if (folder / "trunk.json").exists():
        names += load_people(folder / "people").names
    if _is_pair(folder / "decoder"):
        names.append(str(load_decoder(folder / "decoder")[1].get("persona")))
    if not names:
        raise DataError(
            f"{folder} is no run: nobody was trained there", hint="name a folder that personacam train wrote"
        )
    return sorted(names)


def check_named(name: str, known: Iterable[str], where: Path) -> None:
    """Raise DataError unless ``name`` is one of the identities that ``where`` shows."""
    if name not in (names := sorted(known)):
        raise DataError(f"{where} shows nobody called {name!r}", hint=_nearest(name, names))


def _is_pair(stem: Path) -> bool:
    return stem.with_name(stem.name + ".json").exists()


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=4, cutoff=0.5) or known[:8]
    return f"choose among: {', '.join(close)}{'' if len(close) == len(known) else ', ...'}"


def _check_mates(stem: Path, named: object, found: object) -> None:
    if named != found:
        raise DataError(f"{stem} was trained with other weights than those beside it (sha256 differs)",
                        hint="restore the folder as its run wrote it")  # fmt: skip
