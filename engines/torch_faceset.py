"""Paired faces for torch, decoded from disk when asked for: the set may be larger than memory.

    faces = PairedFaces(Path("data/people"), "train", extras=("expression",))
    loader = DataLoader(faces, batch_size=64, shuffle=True, num_workers=4, persistent_workers=True)
    for epoch in range(10):
        faces.set_epoch(epoch)
        for batch in loader:
            batch["wearer"], batch["persona"], batch["mask"]

A sample is one wearer in one state and the truth of their swap: another identity in the same state.
"""

from __future__ import annotations

import threading
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from engines.errors import DataError
from engines.faceset import DAMAGED_HINT, FaceSetIndex, ShardEntry, check_extras, read_index
from engines.faceset_codec import I64, decode_colour, decode_grey, map_npz
from engines.types import U8

Side = Literal["train", "val", "all", "unseen"]


@dataclass(frozen=True, slots=True)
class StoredFace:
    """One face as stored, decoded."""

    crop: U8
    """(S, S, 3) BGR."""
    mask: U8
    """(S, S)"""
    landmarks: NDArray[np.float32]
    """(68, 2) pixels of the crop."""
    pose: NDArray[np.float32]
    """(3,) yaw, pitch, roll in degrees."""
    extras: Mapping[str, NDArray[Any]]


class LazyFaces:
    """Single faces of a set through mapped files, of which the ``open_shards`` last used stay open.

    Checks the length of a shard, not its sha256, which would read all of it; ``read_faceset`` does. Several threads may
    read at once. A copy in another process opens its own files.
    """

    def __init__(
        self, folder: Path, *, extras: Sequence[str] = (), open_shards: int = 64, cache_bytes: int = 0
    ) -> None:
        """``cache_bytes`` of decoded pictures stay in memory: the first ones read, as all are read equally often."""
        self.folder = folder
        self.index: FaceSetIndex = read_index(folder)
        self.extras = tuple(extras)
        check_extras(folder, self.index.info, extras)
        self._open_shards = max(1, open_shards)
        self._mapped: OrderedDict[int, dict[str, NDArray[Any]]] = OrderedDict()
        self._kept: dict[tuple[int, int], StoredFace] = {}
        self._cache_bytes = cache_bytes
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        kept = {k: v for k, v in self.__dict__.items() if k != "_lock"}
        return kept | {"_mapped": OrderedDict(), "_kept": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def read(self, shard: int, row: int) -> StoredFace:
        """Face ``row`` of a shard of the index, not to be written to.

        Raises DataError when the file is missing or damaged.
        """
        found = self._kept.get((shard, row))
        if found is None:
            found = self._decode(shard, row)
            size = found.crop.nbytes + found.mask.nbytes
            if (len(self._kept) + 1) * size <= self._cache_bytes:
                self._kept[shard, row] = found
        return found

    def _decode(self, shard: int, row: int) -> StoredFace:
        entry = self.index.shards[shard]
        try:
            with self._lock:
                arrays = self._shard(shard, entry)
            return StoredFace(
                crop=decode_colour(_picture(arrays, "crops", row)),
                mask=decode_grey(_picture(arrays, "masks", row)),
                landmarks=arrays["landmarks"][row],
                pose=arrays["pose"][row],
                extras={
                    name: decode_grey(_picture(arrays, name, row)) if name == "classes" else arrays[name][row]
                    for name in self.extras
                },
            )
        except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile, cv2.error) as error:
            raise DataError(f"{self.folder / entry.file} is missing or damaged: {error}", hint=DAMAGED_HINT) from error

    def _shard(self, shard: int, entry: ShardEntry) -> dict[str, NDArray[Any]]:
        if shard in self._mapped:
            self._mapped.move_to_end(shard)
            return self._mapped[shard]
        path = self.folder / entry.file
        if path.stat().st_size != entry.bytes:
            raise ValueError(f"it has {path.stat().st_size} bytes, not {entry.bytes}")
        self._mapped[shard] = map_npz(path)
        if len(self._mapped) > self._open_shards:
            self._mapped.popitem(last=False)
        return self._mapped[shard]


def _picture(arrays: Mapping[str, NDArray[Any]], name: str, row: int) -> U8:
    offsets = arrays[f"{name}_offsets"]
    data: U8 = arrays[name][int(offsets[row]) : int(offsets[row + 1])]
    return data


def _held_out(count: int, share: float, least: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(count,) which of so many things are held out: ``share`` of them, at least ``least``."""
    held = np.zeros(count, bool)
    held[rng.permutation(count)[: max(least, round(share * count))]] = True
    return held


class PairedFaces(Dataset[dict[str, Tensor]]):
    """Pairs (wearer A in state s, persona B in state s), A and B different people.

    Item i is one stored face of a wearer; its persona is drawn from (seed, epoch, i), so that every epoch pairs people
    anew and any run, worker or order of items gives the same sample. In a set of wearers and personas these keep their
    roles, but that wearers are personas too in a share ``wearers_too`` of the pairs; where all have one role, everybody
    is both.

    The sides share neither wearers nor states (nor personas, where everybody is both). "val" has the identities that
    the set marks so, or else a seeded ``held_out`` share of them, in the states that only marked wearers show, or else
    in a seeded ``held_out`` share of all states. "unseen" has the wearers and states of "val" and the personas of
    "train": what a network with a vector for each trained persona can be tested on. "all" holds nothing out.

    A sample is a dict of tensors that ``default_collate`` batches:

        wearer, persona                       (3, S, S) uint8, BGR, with the set's margin
        mask                                  (1, S, S) uint8, of the persona: 0 keeps the frame, 255 takes the swap
        wearer_landmarks, persona_landmarks   (68, 2) float32, pixels of the crops
        wearer_index, persona_index           () int64, rows of ``identities``
        state                                 () int64
        wearer_NAME, persona_NAME             each of ``extras``

    Raises DataError when the set is missing or damaged, has no such extras, or too few people or states for the side.
    """

    def __init__(
        self,
        folder: Path,
        side: Side = "train",
        *,
        seed: int = 0,
        held_out: float = 0.1,
        wearers_too: float = 0.0,
        extras: Sequence[str] = (),
        open_shards: int = 64,
        cache_bytes: int = 0,
    ) -> None:
        if side not in get_args(Side):
            raise DataError(f"there is no side {side!r}", hint=f"one of {', '.join(get_args(Side))}")
        self._faces = LazyFaces(folder, extras=extras, open_shards=open_shards, cache_bytes=cache_bytes)
        self.info = self._faces.index.info
        self.digest = self._faces.index.digest
        self.seed = seed
        # Shared, so that workers which outlive an epoch see the next one's number.
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]
        shards = self._faces.index.shards
        self.identities: tuple[str, ...] = tuple(sorted({s.identity for s in shards}))
        """All identities of the set, whatever the side."""
        self.states: I64 = np.unique([s for shard in shards for s in shard.states]).astype(np.int64)
        self._shard_of, self._row_of = self._table(shards)
        self.wearers_too = wearers_too
        wearers, personas, states = self._sides(shards, side, held_out)
        stored = self._shard_of >= 0
        self._personas = np.flatnonzero(personas)
        role = {shard.identity: shard.role for shard in shards}
        self._is_wearer = np.array([role[name] == "wearer" for name in self.identities])
        others = stored[self._personas].sum(0)[None] - (stored & personas[:, None])
        wanted = stored & wearers[:, None] & states[None] & (others > 0)
        self._items = np.argwhere(wanted).astype(np.int32)
        if not len(self._items):
            raise DataError(
                f"{folder} has {len(self.identities)} people in {len(self.states)} states: too few to hold some out and"
                f" to have pairs of different people for {side!r}",
                hint="render at least 4 people in 2 states; a tenth of both is held out, at least 2 people and 1 state",
            )

    def _table(self, shards: Sequence[ShardEntry]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(identities, states) each: where that face is stored; -1 where it is not."""
        shard_of = np.full((len(self.identities), len(self.states)), -1, np.int32)
        row_of = shard_of.copy()
        number = {name: i for i, name in enumerate(self.identities)}
        for k, shard in enumerate(shards):
            columns = np.searchsorted(self.states, shard.states)
            shard_of[number[shard.identity], columns] = k
            row_of[number[shard.identity], columns] = np.arange(len(shard.states))
        return shard_of, row_of

    def _sides(
        self, shards: Sequence[ShardEntry], side: Side, held_out: float
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Which identities are wearers and personas on this side, and which states it has."""
        by_name = {s.identity: s for s in shards}
        persona = np.array([by_name[n].role == "persona" for n in self.identities])
        both = persona.all() or not persona.any()
        wearers, personas = (np.ones_like(persona), np.ones_like(persona)) if both else (~persona, persona)
        if side == "all":
            return wearers, personas, np.ones(len(self.states), bool)
        marked = np.array([by_name[n].split == "val" for n in self.identities])
        stored = self._shard_of >= 0
        apart = stored[marked & wearers].any(0) & ~stored[~marked & wearers].any(0)
        people = marked
        if not marked.any():
            people = np.zeros_like(persona)
            people[np.flatnonzero(wearers)] = _held_out(
                int(wearers.sum()), held_out, 2 if both else 1, np.random.default_rng([self.seed, 1])
            )
        states = apart
        if not apart.any():
            states = _held_out(len(self.states), held_out, 1, np.random.default_rng([self.seed, 2]))
        if side == "train":
            people, states = ~people, ~states
        trained = ~people if side == "unseen" else people
        if both:
            return wearers & people, personas & trained, states
        # Personas with a role of their own are what is trained: they are on both sides.
        return wearers & people, personas | (wearers & trained) if self.wearers_too else personas, states

    def __len__(self) -> int:
        return len(self._items)

    def set_epoch(self, epoch: int) -> None:
        """Pair anew: the same epoch always gives the same pairs. Workers that already run follow."""
        self._epoch.fill_(epoch)

    @property
    def personas(self) -> tuple[int, ...]:
        """Rows of ``identities`` that are personas on this side."""
        return tuple(int(n) for n in self._personas)

    @property
    def wearers(self) -> tuple[int, ...]:
        """Rows of ``identities`` that are wearers on this side."""
        return tuple(int(n) for n in np.unique(self._items[:, 0]))

    def choose(self, i: int, rng: np.random.Generator) -> tuple[int, int]:
        """Rows of ``identities`` of item i's wearer and of a random persona that can be its truth."""
        if not 0 <= i < len(self._items):
            raise IndexError(i)
        wearer, column = (int(x) for x in self._items[i])
        candidates = self._personas[(self._shard_of[self._personas, column] >= 0) & (self._personas != wearer)]
        if self.wearers_too:
            wanted = self._is_wearer[candidates] == (rng.random() < self.wearers_too)
            candidates = candidates[wanted] if wanted.any() else candidates
        return wearer, int(rng.choice(candidates))

    def items_of(self, wearer: int) -> NDArray[np.int64]:
        """(n,) items whose wearer is this row of ``identities``."""
        return np.flatnonzero(self._items[:, 0] == wearer)

    def items_showing(self, identity: int) -> NDArray[np.int64]:
        """(n, 2) items in whose state ``identity`` (row of ``identities``) was rendered too, and their wearers' rows.

        Those where it is itself the wearer are left out.
        """
        wearers, columns = self._items.T
        shown = np.flatnonzero((self._shard_of[identity, columns] >= 0) & (wearers != identity))
        return np.stack([shown, wearers[shown]], axis=1).astype(np.int64)

    def face(self, i: int, identity: int) -> StoredFace:
        """An identity (row of ``identities``) in the state of item i. Raises DataError when there is no such face."""
        column = int(self._items[i, 1])
        shard = int(self._shard_of[identity, column])
        if shard < 0:
            raise DataError(
                f"{self.identities[identity]} was not rendered in state {self.states[column]}", hint="ask for another"
            )
        return self._faces.read(shard, int(self._row_of[identity, column]))

    def pair(self, i: int) -> tuple[int, int, int]:
        """Rows of ``identities`` of wearer and persona, and the state's number, of item i in this epoch."""
        wearer, persona = self.choose(i, np.random.default_rng([self.seed, int(self._epoch), i]))
        return wearer, persona, int(self.states[self._items[i, 1]])

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        wearer, persona, state = self.pair(i)
        a, b = self.face(i, wearer), self.face(i, persona)
        sample = {
            "wearer": _chw(a.crop),
            "persona": _chw(b.crop),
            "mask": torch.from_numpy(b.mask[None]),
            "wearer_landmarks": torch.from_numpy(a.landmarks.copy()),
            "persona_landmarks": torch.from_numpy(b.landmarks.copy()),
            "wearer_index": torch.tensor(wearer),
            "persona_index": torch.tensor(persona),
            "state": torch.tensor(state),
        }
        for who, face in (("wearer", a), ("persona", b)):
            # Copies: stored arrays are read-only views of a mapped file.
            sample |= {f"{who}_{name}": torch.from_numpy(np.array(value)) for name, value in face.extras.items()}
        return sample


def _chw(picture: U8) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
