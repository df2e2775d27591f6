"""Rendering a plan to disk: repeatable, resumable, readable."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from calibration import dataset
from calibration.dataset import build_dataset
from calibration.people.footage import EXTRAS, shoot_crops
from calibration.people.props.worn import Props
from calibration.people.state import random_state
from calibration.plan import GalleryPlan, PeoplePlan, Plan
from engines.errors import DataError, RenderError, SettingsError
from engines.faceset import read_faceset, read_index
from engines.faceset_writer import EncodedShard, FaceSetWriter
from engines.pairs import PairedSet

pytestmark = pytest.mark.egl
PLAN = Plan(personas=("vera",), wearers=1, states=2, states_per_wearer=2, validation_wearers=1, validation_states=1,
            validation_states_per_wearer=1)  # fmt: skip
PEOPLE = PeoplePlan(seed=3, identities=2, states=3, size=64)


@pytest.fixture(scope="module", autouse=True)
def small_shards():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "SHARD_STATES", 2)
        yield


@pytest.fixture(scope="module")
def folder(renderer, small_shards, tmp_path_factory):
    """Both plans, rendered."""
    path = tmp_path_factory.mktemp("sets")
    for name, plan, count in (("plan", PLAN, 6), ("people", PEOPLE, 6)):
        seen = []
        build_dataset(plan, path / name, jobs=1, progress=lambda done, total, seen=seen: seen.append((done, total)))
        assert (seen[0], seen[-1]) == ((0, count), (count, count))
    return path


def test_the_set_pairs_wearers_with_the_persona(folder):
    faces = read_faceset(folder / "plan")
    assert faces.named("persona") == ["vera"]
    assert len(faces.named("wearer", "train")) == len(faces.named("wearer", "val")) == 1
    train, held_out = (PairedSet(faces, ["vera"], split) for split in ("train", "val"))
    assert set(train.states) <= {0, 1}
    assert not set(train.states) & set(held_out.states)
    assert len(held_out) == 1


def test_everybody_is_in_every_state_with_all_truth(folder):
    found = read_faceset(folder / "people", extras=EXTRAS)
    people = list(found.faces.values())
    assert [p.identity for p in people] == ["person-5000000", "person-5000001"]
    for person in people:
        assert person.states.tolist() == [5000000, 5000001, 5000002]
        assert person.crops.shape == (3, 64, 64, 3)
        for name, values in person.extras.items():
            assert np.isfinite(values).all(), name
        names = found.info.columns["expression"]
        for row, seed in enumerate(person.states):
            state = random_state(int(seed))
            expression = dict(zip(names, person.extras["expression"][row], strict=True))
            assert all(expression[name] == pytest.approx(value) for name, value in state.expression.items())
            assert sum(expression.values()) == pytest.approx(sum(state.expression.values()), abs=1e-5)
            assert person.pose[row].tolist() == pytest.approx([state.yaw, state.pitch, state.roll])
            assert person.extras["props"][row] == (state.props != Props())
            # The landmarks again from their places in the world, by the stored camera.
            camera = dict(zip(found.info.columns["camera"], person.extras["camera"][row].astype(float), strict=True))
            world = person.extras["landmarks_3d"][row].astype(float) - [camera[f"position.{c}"] for c in "xyz"]
            x, y = (world[:, :2] * [1, -1] / -world[:, 2:] * camera["focal_px"]).T
            frame = np.stack([x + camera["width"] / 2 - 0.5, y + camera["height"] / 2 - 0.5, np.ones(68)])
            affine = np.array([[camera[f"frame_to_crop.{r}{c}"] for c in range(3)] for r in range(2)])
            assert np.abs((affine @ frame).T - person.landmarks[row]).max() < 1e-2
    same = ("expression", "gaze", "light", "props")
    assert all(np.array_equal(people[0].extras[name], people[1].extras[name]) for name in same)
    assert not np.array_equal(people[0].crops, people[1].crops)


def test_the_gallerys_mesh_is_what_face_mesh_sees(renderer):
    state = replace(random_state(5), yaw=0.0, pitch=0.0, roll=0.0, props=Props())
    who = GalleryPlan(wearers=1).parts()[-1].who
    seen, true = (
        next(iter(shoot_crops(renderer, who, [state], as_persona=False, options=options)))
        for options in (GalleryPlan().options(), replace(GalleryPlan().options(), seen_share=0.0))
    )
    assert np.array_equal(seen.extras["mesh"], true.extras["mesh"])  # the renderer knows nothing of Face Mesh
    blank = replace(true, pixels=np.full_like(true.pixels, 128))
    found, missed, kept = dataset._as_seen(iter([true, blank, true]), [True, True, False])
    assert kept is true
    assert found.extras["mesh"].shape == (468, 2)
    distance = np.linalg.norm(found.extras["mesh"] - true.extras["mesh"], axis=1)
    assert 0.1 < distance.mean() < 0.08 * true.pixels.shape[0]
    assert np.isnan(missed.extras["mesh"]).all()


def test_neither_the_number_of_processes_nor_a_kill_leaves_a_trace(folder, tmp_path):
    there = folder / "people"
    shards = read_index(there).shards
    assert [s.file for s in shards] == [f"person-{n}-{part:03d}.npz" for n in (5000000, 5000001) for part in (0, 1)]
    # Killed when only one shard was finished, not the first one, and another one half written.
    done = EncodedShard(
        shards[3].identity, "wearer", "train", shards[3].states, 1, (there / shards[3].file).read_bytes()
    )
    FaceSetWriter(tmp_path, PEOPLE.info()).put(done)
    (tmp_path / shards[0].file).write_bytes(b"half")
    seen = []
    build_dataset(PEOPLE, tmp_path, jobs=2, progress=lambda *n: seen.append(n))
    assert seen[0] == (1, 6)
    assert {f.name: f.read_bytes() for f in there.iterdir()} == {f.name: f.read_bytes() for f in tmp_path.iterdir()}


def test_a_finished_set_is_not_rendered_again(folder, monkeypatch):
    before = read_faceset(folder / "plan").digest
    monkeypatch.setattr(dataset, "ProcessPoolExecutor", lambda *_: pytest.fail("started processes"))
    build_dataset(PLAN, folder / "plan", jobs=1)
    assert read_faceset(folder / "plan").digest == before


def test_another_plan_does_not_mix_in(folder):
    with pytest.raises(DataError, match="holds another face set"):
        build_dataset(Plan(seed=1), folder / "plan", jobs=1)


def test_parts_of_a_person_do_not_depend_on_what_is_finished():
    jobs = dataset._jobs(PeoplePlan(identities=1, states=5))
    assert [(j.part, len(j.states)) for j in jobs] == [(0, 2), (1, 2), (2, 1)]


def test_a_process_that_dies_is_named(tmp_path, monkeypatch, renderer):
    monkeypatch.setattr(dataset, "_open_studio", _die)
    with pytest.raises(RenderError, match="died"):
        build_dataset(PEOPLE, tmp_path, jobs=1)


def _die(*_):
    raise SystemExit(3)


def test_a_process_that_cannot_render_says_why(tmp_path, monkeypatch, renderer):
    monkeypatch.setattr(dataset, "_open_studio", _without_opengl)
    with pytest.raises(RenderError, match="no OpenGL") as caught:
        build_dataset(PEOPLE, tmp_path, jobs=1)
    assert "apt-get" in caught.value.hint


def _without_opengl(rendered, stop, open_studio=dataset._open_studio):
    def studio():
        raise RenderError("no OpenGL context", hint="sudo apt-get install libegl1")

    dataset.Renderer = studio
    open_studio(rendered, stop)


def test_a_process_ends_with_a_parent_that_was_killed(tmp_path):
    program = tmp_path / "parent.py"
    program.write_text(
        "import multiprocessing, os, signal, threading, time\n"
        "from calibration.dataset import _end_with_parent\n"
        "def work():\n"
        "    threading.Thread(target=_end_with_parent, daemon=True).start()\n"
        "    time.sleep(50)\n"
        "if __name__ == '__main__':\n"
        "    child = multiprocessing.get_context('spawn').Process(target=work)\n"
        "    child.start()\n"
        "    print(child.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # The child holds the other end of the pipe, so this returns when it ends.
    done = subprocess.run([sys.executable, program], capture_output=True, timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.strip().isdigit()


@pytest.mark.parametrize("wrong", [{"size": 8}, {"margin": 0.5}, {"identities": 0}, {"quality": 101}, {"seed": -1}])
def test_plans_that_make_no_sense_are_refused(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        PeoplePlan(**wrong)
