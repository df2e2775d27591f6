"""Rendering a plan to disk: repeatable, resumable, readable."""

from __future__ import annotations

import pytest

from calibration.dataset import build_dataset
from calibration.plan import Plan
from engines.errors import DataError
from engines.faceset import read_faceset
from engines.pairs import PairedSet

pytestmark = pytest.mark.egl
PLAN = Plan(personas=("vera",), wearers=1, states=3, states_per_wearer=2, validation_wearers=1, validation_states=2,
            validation_states_per_wearer=2)  # fmt: skip


@pytest.fixture(scope="module")
def folder(renderer, tmp_path_factory):
    path = tmp_path_factory.mktemp("set")
    seen = []
    build_dataset(PLAN, path, jobs=1, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 9)
    assert seen[-1] == (9, 9)
    return path


def test_the_set_pairs_wearers_with_the_persona(folder):
    faces = read_faceset(folder)
    assert faces.named("persona") == ["vera"]
    assert len(faces.named("wearer", "train")) == len(faces.named("wearer", "val")) == 1
    train, held_out = (PairedSet(faces, ["vera"], split) for split in ("train", "val"))
    assert set(train.states) <= {0, 1, 2}
    assert not set(train.states) & set(held_out.states)
    assert len(held_out) == 2


def test_a_finished_set_is_not_rendered_again(folder):
    before = read_faceset(folder).digest
    build_dataset(PLAN, folder, jobs=1)
    assert read_faceset(folder).digest == before


def test_the_same_plan_is_the_same_data(folder, tmp_path):
    build_dataset(PLAN, tmp_path, jobs=1)
    a, b = read_faceset(folder), read_faceset(tmp_path)
    for name, faces in a.faces.items():
        assert (faces.crops == b.faces[name].crops).all()
        assert (faces.landmarks == b.faces[name].landmarks).all()


def test_another_plan_does_not_mix_in(folder):
    with pytest.raises(DataError, match="holds another face set"):
        build_dataset(Plan(seed=1), folder, jobs=1)
