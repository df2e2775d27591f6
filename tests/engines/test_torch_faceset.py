"""Pairs read lazily from disk, in this process and in workers."""

from __future__ import annotations

import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from engines.errors import DataError
from engines.faceset import FaceSetInfo, read_faceset
from engines.faceset_writer import FaceSetWriter
from engines.torch_faceset import LazyFaces, PairedFaces
from tests.engines.synthetic import faces

SIZE, PEOPLE, STATES = 40, 8, 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight people in ten states, two shards each, with an expression that tells person and state."""
    path = tmp_path_factory.mktemp("people")
    info = FaceSetInfo(
        "cartoons 1", "invented:0", {"people": 0}, SIZE, extras=("expression", "classes"),
        columns={"expression": ("who", "state")},
    )  # fmt: skip
    writer = FaceSetWriter(path, info)
    for who in range(PEOPLE):
        for states in (list(range(6)), list(range(6, STATES))):
            arrays = faces(who, states, SIZE)
            extras = {"expression": np.array([[who, s] for s in states], np.float32), "classes": arrays[1] // 255}
            writer.add(f"person-{who}", "wearer", "train", states, *arrays, extras)
    return path


def test_a_sample_is_two_people_in_one_state(folder):
    whole = read_faceset(folder)
    pairs = PairedFaces(folder, "all", extras=("expression", "classes"), open_shards=2)
    assert len(pairs) == PEOPLE * STATES
    for i in range(0, len(pairs), 7):
        sample = pairs[i]
        a, b = (whole.faces[pairs.identities[int(sample[k])]] for k in ("wearer_index", "persona_index"))
        row = int(sample["state"])
        assert a.identity != b.identity
        assert np.array_equal(sample["wearer"].numpy().transpose(1, 2, 0), a.crops[row])
        assert np.array_equal(sample["persona"].numpy().transpose(1, 2, 0), b.crops[row])
        assert np.array_equal(sample["mask"][0], b.masks[row])
        assert np.array_equal(sample["wearer_landmarks"], a.landmarks[row])
        assert np.array_equal(sample["persona_landmarks"], b.landmarks[row])
        assert sample["wearer_expression"].tolist() == [float(a.identity[-1]), row]
        assert sample["persona_expression"].tolist() == [float(b.identity[-1]), row]
        assert sample["persona_classes"].shape == (SIZE, SIZE)


def test_every_epoch_pairs_anew_and_the_seed_pairs_again(folder):
    def paired(epoch, seed=0):
        pairs = PairedFaces(folder, "all", seed=seed)
        pairs.set_epoch(epoch)
        return [pairs.pair(i) for i in range(len(pairs))]

    assert paired(0) == paired(0)
    assert [p[::2] for p in paired(0)] == [p[::2] for p in paired(1)]  # the same wearers and states
    assert paired(0) != paired(1)
    assert paired(0) != paired(0, seed=1)
    met = {(a, b) for epoch in range(12) for a, b, _ in paired(epoch)}
    assert len(met) == PEOPLE * (PEOPLE - 1)


def test_the_sides_share_neither_people_nor_states(folder):
    seen = []
    for side in ("train", "val"):
        pairs = PairedFaces(folder, side, held_out=0.25)
        found = [pairs.pair(i) for i in range(len(pairs))]
        seen.append(({n for a, b, _ in found for n in (a, b)}, {s for *_, s in found}))
    assert [(len(people), len(states)) for people, states in seen] == [(6, 8), (2, 2)]
    assert not seen[0][0] & seen[1][0]
    assert not seen[0][1] & seen[1][1]


def test_personas_of_a_set_with_roles_stay_personas(cartoon_folder):
    train, val = (PairedFaces(cartoon_folder, side) for side in ("train", "val"))
    for pairs, wearers in ((train, {"ann", "bob", "cid", "dot"}), (val, {"eve"})):
        found = [pairs.pair(i) for i in range(len(pairs))]
        assert {pairs.identities[a] for a, *_ in found} == wearers
        assert {pairs.identities[b] for _, b, _ in found} == {"mara", "odin"}
    assert not {train.pair(i)[2] for i in range(len(train))} & {val.pair(i)[2] for i in range(len(val))}


def test_wearers_can_be_personas_too_in_the_share_that_was_asked_for(cartoon_folder):
    apart = PairedFaces(cartoon_folder, "train")
    together = PairedFaces(cartoon_folder, "train", wearers_too=0.25)
    cast = set(apart.personas)
    assert set(together.personas) == cast | set(apart.wearers)
    rng = np.random.default_rng(0)
    drawn = [together.choose(int(i), rng) for i in rng.integers(len(together), size=600)]
    assert all(wearer != persona for wearer, persona in drawn)
    assert 0.17 < np.mean([persona not in cast for _, persona in drawn]) < 0.33
    # People who are held out stay nobody's persona.
    assert not set(together.personas) & set(PairedFaces(cartoon_folder, "unseen", wearers_too=0.25).wearers)
    assert PairedFaces(cartoon_folder, "unseen", wearers_too=0.25).personas == together.personas


def test_decoded_faces_are_kept_up_to_the_limit(folder, monkeypatch):
    one = SIZE * SIZE * 4
    kept = LazyFaces(folder, extras=("expression",), cache_bytes=3 * one)
    decoded = []
    plain = LazyFaces._decode
    monkeypatch.setattr(LazyFaces, "_decode", lambda self, *which: decoded.append(which) or plain(self, *which))
    for _ in range(2):
        for row in range(5):
            assert np.array_equal(kept.read(0, row).crop, LazyFaces(folder).read(0, row).crop)
    assert [decoded.count((0, row)) - 2 for row in range(5)] == [1, 1, 1, 2, 2]
    assert not pickle.loads(pickle.dumps(kept))._kept


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_give_the_same_batches_and_follow_the_epoch(folder, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    pairs = PairedFaces(folder, "val", extras=("expression",))
    pairs[0]  # files are open before the workers start
    loader = DataLoader(pairs, batch_size=4, num_workers=1, multiprocessing_context=method, persistent_workers=True)
    for epoch in (0, 1):
        pairs.set_epoch(epoch)
        batches = list(loader)
        for key in ("wearer", "persona_index", "persona_expression"):
            here = torch.stack([pairs[i][key] for i in range(len(pairs))])
            assert torch.equal(torch.cat([b[key] for b in batches]), here), (epoch, key)
    assert batches[0]["mask"].shape[1:] == (1, SIZE, SIZE)


def test_a_copy_opens_its_own_files(folder):
    pairs = PairedFaces(folder, "all")
    pairs[0]
    copy = pickle.loads(pickle.dumps(pairs))
    assert torch.equal(copy[3]["persona"], pairs[3]["persona"])


def test_what_cannot_be_paired_is_named(folder, tmp_path):
    with pytest.raises(DataError, match="mesh"):
        PairedFaces(folder, extras=("mesh",))
    writer = FaceSetWriter(tmp_path, FaceSetInfo("cartoons 1", "invented:0", {}, SIZE))
    writer.add("ann", "wearer", "train", [0, 1], *faces(3, [0, 1], SIZE))
    with pytest.raises(DataError, match="too few"):
        PairedFaces(tmp_path, "all")
    writer.add("bob", "wearer", "train", [0, 1], *faces(4, [0, 1], SIZE))
    assert len(PairedFaces(tmp_path, "all")) == 4
    with pytest.raises(DataError, match="2 people in 2 states") as caught:
        PairedFaces(tmp_path, "train")
    assert "at least 4 people" in caught.value.hint
    with pytest.raises(DataError, match="no side 'test'"):
        PairedFaces(tmp_path, "test")


@pytest.mark.parametrize("harm", ["cut", "gone", "scrambled"])
def test_damage_is_named(tmp_path, harm):
    writer = FaceSetWriter(tmp_path, FaceSetInfo("cartoons 1", "invented:0", {}, SIZE))
    for name, who in (("ann", 3), ("bob", 4)):
        writer.add(name, "wearer", "train", [0], *faces(who, [0], SIZE))
    pairs, path = PairedFaces(tmp_path, "all"), tmp_path / "bob-000.npz"
    data = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-8] if harm == "cut" else bytes(len(data)))
    with pytest.raises(DataError, match="bob-000"):
        pairs[0]
    with pytest.raises(IndexError):
        pairs[2]
