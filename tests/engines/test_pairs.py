from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engines.errors import DataError
from engines.pairs import PairedSet


def paired(cartoons, split="train"):
    return PairedSet(cartoons, ["mara", "odin"], split, held_out_every=4, state_block=8)


def test_wearer_and_truths_show_the_same_state(cartoons):
    pairs = paired(cartoons)
    batch = pairs.draw(np.random.default_rng(0), 12)
    for i, (state, wearer) in enumerate(zip(batch.states, batch.wearers, strict=True)):
        assert np.array_equal(batch.inputs[i], cartoons.faces[wearer].crops[state])
        for k, name in enumerate(("mara", "odin")):
            assert np.array_equal(batch.truths[k, i, :, :, :3], cartoons.faces[name].crops[state])
            assert np.array_equal(batch.truths[k, i, :, :, 3], cartoons.faces[name].masks[state])
            assert np.array_equal(batch.landmarks[k, i], cartoons.faces[name].landmarks[state])
    assert set(batch.wearers) <= {"ann", "bob", "cid", "dot"}


def test_validation_shares_neither_states_nor_wearers_with_training(cartoons):
    training, validation = paired(cartoons), paired(cartoons, "val")
    assert set(training.states) | set(validation.states) == set(range(192))
    assert not set(training.states) & set(validation.states)
    assert len(validation) == 192 // 4
    assert {w for _, w in validation.every(1000)} == {"eve"}
    assert len(validation.every(10)) <= 10


def test_states_that_only_held_out_wearers_show_are_the_held_out_states(cartoons):
    def only(name, states):
        f = cartoons.faces[name]
        rows = np.array(states)
        return replace(
            f, states=f.states[rows], crops=f.crops[rows], masks=f.masks[rows], landmarks=f.landmarks[rows],
            pose=f.pose[rows],
        )  # fmt: skip

    faces = {
        n: only(n, range(100)) if f.split == "train" and f.role == "wearer" else f for n, f in cartoons.faces.items()
    }
    faces["eve"] = only("eve", range(100, 130))
    apart = replace(cartoons, faces=faces)
    assert paired(apart).states == list(range(100))
    assert paired(apart, "val").states == list(range(100, 130))


def test_personas_may_wear_themselves(cartoons):
    batch = paired(cartoons).draw(np.random.default_rng(0), 40, self_fraction=1.0)
    assert set(batch.wearers) == {"mara", "odin"}


def test_equal_generators_draw_equal_batches(cartoons):
    a, b, c = (paired(cartoons).draw(np.random.default_rng(s), 8) for s in (1, 1, 2))
    assert a.states.tolist() == b.states.tolist()
    assert a.wearers == b.wearers
    assert a.states.tolist() != c.states.tolist()


def test_missing_personas_and_states_are_named(cartoons):
    with pytest.raises(DataError, match="zoe"):
        PairedSet(cartoons, ["zoe"], "train")
    with pytest.raises(DataError, match="render more"):
        PairedSet(cartoons, ["odin"], "train", held_out_every=1)
