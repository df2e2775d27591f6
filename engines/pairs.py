"""The pairs that training draws from a face set: a wearer in some state, and every persona in the same state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.errors import DataError
from engines.faceset import Faces, FaceSet, Split
from engines.faceset_codec import I64
from engines.mesh_subset import MESH_SUBSET
from engines.types import F32, U8


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops of one draw, as stored: uint8 BGR with margin."""

    states: I64
    """(N,)"""
    wearers: list[str]
    """Who is seen in ``inputs``."""
    inputs: U8
    """(N, size, size, 3)"""
    truths: U8
    """(K, N, size, size, 4): persona k in the same states, the mask as fourth channel: one warp cuts both."""
    landmarks: F32
    """(K, N, 68, 2) of the truths."""
    points: F32 | None = None
    """(N, P, 2) mesh points of ``inputs``, pixels of the stored crop, where somebody asked for them."""


class PairedSet:
    """Draws (wearer in state s; every persona in state s) from one side of a split.

    "val" uses wearers of split "val" (all wearers if there are none) in held-out states. These are the states that only
    wearers of split "val" show; if there are none, those where ``(state // state_block) % held_out_every == 0``: whole
    blocks, because neighbouring states of a clip look alike. Raises DataError when nothing is left to draw.
    """

    def __init__(
        self,
        faceset: FaceSet,
        personas: Sequence[str],
        split: Split,
        *,
        held_out_every: int = 16,
        state_block: int = 8,
        mesh_points: bool = False,
    ) -> None:
        """With ``mesh_points`` batches have ``points``; the set must have been read with the extra "mesh"."""
        self.faceset = faceset
        self._mesh_points = mesh_points
        self.personas = tuple(personas)
        for name in self.personas:
            if name not in faceset.faces:
                raise DataError(
                    f"the set has no persona {name!r}", hint=f"it has {', '.join(faceset.named('persona'))}"
                )
        trained = {int(s) for w in faceset.named("wearer", "train") for s in faceset.faces[w].states}
        apart = {int(s) for w in faceset.named("wearer", "val") for s in faceset.faces[w].states} - trained
        if mesh_points and not all("mesh" in faces.extras for faces in faceset.faces.values()):
            raise DataError("the set was read without mesh points", hint='read it with extras=("mesh",)')
        wearers = faceset.named("wearer", split) or (faceset.named("wearer") if split == "val" else [])

        def held_out(state: int) -> bool:
            return state in apart if apart else (state // state_block) % held_out_every == 0

        self._rows = {name: _state_rows(faceset.faces[name]) for name in {*wearers, *self.personas}}
        common = set.intersection(*(set(self._rows[name]) for name in self.personas)) if self.personas else set()
        self.states: list[int] = sorted(s for s in common if held_out(s) == (split == "val"))
        self._wearers_of = {s: [w for w in wearers if s in self._rows[w]] for s in self.states}
        self.states = [s for s in self.states if self._wearers_of[s]]
        if not self.states:
            raise DataError(
                f"no state has both a {split} wearer and all personas",
                hint="render more states, at least 9: a block of 8 is held out",
            )

    def __len__(self) -> int:
        """Number of states to draw from."""
        return len(self.states)

    def draw(self, rng: np.random.Generator, count: int, *, self_fraction: float = 0.0) -> Batch:
        """``count`` random pairs; in ``self_fraction`` of them a persona itself is the wearer."""
        states = [self.states[i] for i in rng.integers(len(self.states), size=count)]
        wearers = []
        for state in states:
            own = rng.random() < self_fraction
            choice = self.personas if own else self._wearers_of[state]
            wearers.append(choice[int(rng.integers(len(choice)))])
        return self.gather(states, wearers)

    def every(self, limit: int) -> list[tuple[int, str]]:
        """At most ``limit`` (state, wearer) pairs, evenly spread over states and alternating wearers."""
        picked = self.states[:: max(1, -(-len(self.states) // limit))]
        return [(s, self._wearers_of[s][i % len(self._wearers_of[s])]) for i, s in enumerate(picked)]

    def gather(self, states: Sequence[int], wearers: Sequence[str]) -> Batch:
        """The batch for given states and wearers."""
        faces = self.faceset.faces
        rows = [self._rows[w][s] for w, s in zip(wearers, states, strict=True)]
        seen = list(zip(wearers, rows, strict=True))
        own = {p: [self._rows[p][s] for s in states] for p in self.personas}
        return Batch(
            states=np.asarray(states, np.int64),
            wearers=list(wearers),
            inputs=np.stack([faces[w].crops[r] for w, r in seen]),
            truths=np.stack(
                [np.concatenate([faces[p].crops[own[p]], faces[p].masks[own[p], :, :, None]], 3) for p in self.personas]
            ),
            landmarks=np.stack([faces[p].landmarks[own[p]] for p in self.personas]),
            points=np.stack([faces[w].extras["mesh"][r][MESH_SUBSET] for w, r in seen]) if self._mesh_points else None,
        )


def _state_rows(faces: Faces) -> dict[int, int]:
    return {int(state): row for row, state in enumerate(faces.states)}
