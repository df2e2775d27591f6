"""The networks of the universal stage, and its weights on disk.

    encoder.{safetensors,json}   for every wearer
    trunk.{safetensors,json}     FilmDecoder: one decoder for all trained people
    people.{safetensors,json}    "vectors" (K, F) float32, and in the JSON whose they are: "names"

Later stages load these three with ``checkpoint.load_encoder``, ``load_trunk`` and ``load_people``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engines import checkpoint
from engines.adversary import AuxiliaryHead, IdentityAdversary
from engines.checkpoint import Meta
from engines.errors import DataError, SettingsError
from engines.film import FilmDecoder
from engines.network import NetworkConfig, PersonaDecoder, build_encoder

_VECTOR_SPREAD = 0.01
"""Standard deviation of people's first vectors: almost one and the same person."""


class UniversalNetworks(nn.Module):
    """Encoder, trunk and people, and the heads that are only for training; None where their term has no weight."""

    def __init__(self, sizes: NetworkConfig, people: int, *, wearers: int, truths: Sequence[int], seed: int) -> None:
        """``people`` K; ``wearers`` for the adversary and widths of ``truths`` for the auxiliary head, or 0 and ().

        Raises SettingsError for a code whose state has another width than the truths, where there are truths.
        """
        if truths and sizes.state_size not in (0, sum(truths)):
            raise SettingsError(
                f"a code with {sizes.state_size} numbers of the state, the set's truths have {sum(truths)}",
                hint=f"set network.state_size to 0 or {sum(truths)}",
            )
        super().__init__()
        self.encoder = build_encoder(sizes, seed=seed)
        self.trunk = FilmDecoder(sizes, seed=seed + 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 2)
            self.people = nn.Embedding(people, self.trunk.film_size)
            nn.init.normal_(self.people.weight, std=_VECTOR_SPREAD)
            free = sizes.code_size - sizes.state_size
            self.adversary = IdentityAdversary(free, wearers) if wearers else None
            in_code = sizes.state_size > 0
            self.auxiliary = AuxiliaryHead(sizes.code_size, truths, in_code=in_code) if truths else None

    def decode(self, code: Tensor, person: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C) and people (N,) 0..K-1 -> face (N, 3, T, T) and mask logits (N, 1, T, T), as ``FilmDecoder``."""
        # In the code's precision: a vector in float32 would lift every map of the trunk to it.
        face, mask = self.trunk(code, self.people(person).to(code.dtype))
        return face, mask


@dataclass(frozen=True, slots=True)
class People:
    """Trained people: what a trunk needs to show them."""

    vectors: Tensor
    """(K, F) float32."""
    names: tuple[str, ...]
    """(K,) identities of the face set."""
    meta: Meta


def save_universal(folder: Path, networks: UniversalNetworks, names: Sequence[str], about: Mapping[str, Any]) -> None:
    """Write the three pairs of files; each later one names the sha256 of what it belongs to."""
    encoder_sha256 = _sha256(checkpoint.save_encoder(folder / "encoder", networks.encoder, about))
    trunk_about = {**about, "encoder_sha256": encoder_sha256}
    trunk_sha256 = _sha256(save_trunk(folder / "trunk", networks.trunk, trunk_about))
    people_about = {**trunk_about, "trunk_sha256": trunk_sha256}
    save_people(folder / "people", networks.people.weight, names, people_about)


def save_trunk(stem: Path, trunk: FilmDecoder, meta: Mapping[str, Any]) -> Path:
    """Write a trunk with its sizes; returns the JSON's path."""
    return checkpoint.save(stem, "trunk", trunk.state_dict(), {**meta, "network": asdict(trunk.sizes)})


def save_people(stem: Path, vectors: Tensor, names: Sequence[str], meta: Mapping[str, Any]) -> Path:
    """Write people's vectors (K, F) with their names; returns the JSON's path."""
    return checkpoint.save(stem, "people", {"vectors": vectors.float()}, {**meta, "names": list(names)})


def load_trunk(stem: Path) -> tuple[FilmDecoder, Meta]:
    """The trunk and its JSON. Raises DataError as ``checkpoint.load`` does, and for weights that do not fit."""
    found = checkpoint.load(stem, "trunk")
    trunk = FilmDecoder(checkpoint.sizes_of(found, stem), seed=0)
    checkpoint.load_strict(trunk, found.tensors, str(stem))
    return trunk.eval(), found.meta


def load_people(stem: Path) -> People:
    """Vectors and names. Raises DataError as ``checkpoint.load`` does, and when the two do not fit."""
    found = checkpoint.load(stem, "people")
    names, vectors = found.meta.get("names"), found.tensors.get("vectors")
    if (
        vectors is None or vectors.ndim != 2 or not isinstance(names, list) or len(names) != len(vectors)
        or not all(isinstance(name, str) for name in names) or not bool(torch.isfinite(vectors).all())
    ):  # fmt: skip
        raise DataError(f"{stem} does not hold a vector for every name", hint="train again")
    return People(vectors.float(), tuple(names), found.meta)


def persona_decoder(trunk: FilmDecoder, vector: Tensor) -> PersonaDecoder:
    """The plain decoder of one person's vector (F,): what is exported. Raises SettingsError for another family's."""
    if vector.shape != (trunk.film_size,):
        raise SettingsError(
            f"a vector of shape {tuple(vector.shape)}, this trunk takes ({trunk.film_size},)",
            hint="use a vector that was trained with this trunk",
        )
    return trunk.fold(vector).eval()


def _sha256(path: Path) -> str:
    return str(json.loads(path.read_bytes())["sha256"])
