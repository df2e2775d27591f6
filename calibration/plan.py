"""Which people in which states a data set holds. A plan is its seeds: the same plan is the same data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibration.people.identity import Identity, cast, random_identity
from engines.errors import SettingsError

Role = Literal["wearer", "persona"]
Split = Literal["train", "val"]
WEARER = "tomo"
"""The demo's wearer: in no data set, so that the demo shows somebody whom training never saw."""
_VALIDATION = 1 << 20
"""Offset of validation seeds, so that no training seed ever meets one."""


@dataclass(frozen=True)
class Part:
    """One person's share of the data set."""

    name: str
    role: Role
    split: Split
    who: Identity
    state_seeds: NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """Sizes of a data set of paired footage. Every state is rendered on every persona and on some wearers."""

    seed: int = 0
    personas: tuple[str, ...] = ("vera", "kofi")
    wearers: int = 40
    states: int = 2400
    states_per_wearer: int = 75
    validation_wearers: int = 6
    validation_states: int = 90
    validation_states_per_wearer: int = 30

    def parts(self) -> Sequence[Part]:
        """Personas first, then training wearers, then wearers and states that training never sees."""
        base = self.seed * 10_000
        train = base + np.arange(self.states)
        held_out = _VALIDATION + base + np.arange(self.validation_states)
        people = cast()
        unknown = [name for name in self.personas if name not in people or name == WEARER]
        if unknown:
            names = ", ".join(sorted(people.keys() - {WEARER}))
            raise SettingsError(f"there is no persona {unknown[0]!r} to train", hint=f"choose among: {names}")
        all_states = np.concatenate([train, held_out])
        out = [Part(name, "persona", "train", people[name], all_states) for name in self.personas]
        for split, count, states, each, offset in (
            ("train", self.wearers, train, self.states_per_wearer, 0),
            ("val", self.validation_wearers, held_out, self.validation_states_per_wearer, _VALIDATION),
        ):
            for i in range(count):
                seed = base + offset + i
                rng = np.random.default_rng([seed, 104])
                pick = np.sort(rng.choice(states, min(each, len(states)), replace=False))
                role_split: Split = "train" if split == "train" else "val"
                out.append(Part(f"wearer-{seed}", "wearer", role_split, random_identity(seed), pick))
        return out
