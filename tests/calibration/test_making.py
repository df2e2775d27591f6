"""One call from footage to a persona: what it leaves, that it goes on anywhere, and that no stage passes its gate."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch

from calibration.consent_forget import derived_of, forget
from calibration.making import MakingHooks, Step, run_folder
from engines import enroll as enroll_module
from engines.errors import ConsentRevokedError, DataError, PersonacamError
from engines.faceset import read_index
from engines.persona import read_persona
from realtime.admission import admitted
from realtime.enroll_session import enroll_files
from tests.calibration.consent_world import END, NAME, World
from tests.calibration.making_world import MakingWorld, footage_only, made
from tests.calibration.test_consent_gates import FAILURES, GATES, revoked


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch):
    torch.set_num_threads(1)
    monkeypatch.setattr("calibration.making._embedder", lambda hooks: None)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> MakingWorld:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("calibration.making._embedder", lambda hooks: None)
        return made(tmp_path_factory.mktemp("making") / "world")


@pytest.fixture
def world(template: MakingWorld, tmp_path: Path) -> MakingWorld:
    copied = template.copy(tmp_path / "world")
    assert isinstance(copied, MakingWorld)
    return copied


def test_the_persona_is_the_persons_and_admitted(world: MakingWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    persona = read_persona(world.standing, admit=lambda _: None)
    chain, index = persona.manifest.chain, read_index(world.faceset)
    assert persona.manifest.kind == "person"
    assert chain is not None
    assert (chain.consent, chain.faceset, chain.footage) == (index.info.consent, index.digest, index.info.footage)
    assert chain.weights == json.loads(world.weights.with_suffix(".json").read_text())["sha256"]
    assert persona.consent == world.record_file.read_bytes()
    assert persona.signed_by is not None
    assert persona.preview is not None
    assert persona.report["own"]["frames"] >= 1
    assert persona.report["enrolled"]["frames"] == 12
    events = [entry.event for entry in world.gate.store.log.entries()]
    assert events == ["extract", "extract", "train", "export"]
    monkeypatch.setattr("realtime.admission.Gatekeeper", lambda home, warn: world.gate)
    worn = admitted(world.home, world.standing, ["virtualcam", "a.mp4"], None, None, say=pytest.fail)
    assert worn.valid_until == END.timestamp()


def test_a_report_with_pictures_lies_beside_the_weights(world: MakingWorld) -> None:
    folder = world.weights.parent / "report"
    text = (folder / "index.html").read_text()
    assert "personacam run --persona ada" in text
    assert text.count("data:image/jpeg") >= 1
    sheet = cv2.imread(str(folder / "sheet.png"))
    assert sheet.shape[1] >= 3 * 32
    assert sheet.std() > 5, "there is something to see"
    assert json.loads((folder / "report.json").read_text())["figures"]["own"]["psnr_masked_db"] > 0


def test_a_second_call_asks_the_gates_and_leaves_everything_as_it_is(world: MakingWorld) -> None:
    before = {path: path.stat().st_mtime_ns for path in world.root.joinpath("made").rglob("*") if path.is_file()}
    standing = world.standing.stat().st_mtime_ns
    lines = len(world.gate.store.log.entries())
    steps: list[Step] = []
    assert world.make(hooks=MakingHooks(steps.append)).stopped == "finished"
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert world.standing.stat().st_mtime_ns == standing
    assert [e.event for e in world.gate.store.log.entries()[lines:]] == ["extract", "train"]
    assert [s.note for s in steps if s.fraction == 1 and s.stage != "faces"] == ["was finished before"] * 3


def test_other_settings_or_faces_learn_beside_the_old_run(world: MakingWorld) -> None:
    now = run_folder(world.making, world.faceset)
    assert now == world.weights.parent
    other = replace(world.making, config=replace(world.making.config, seed=1))
    assert run_folder(other, world.faceset) != now
    longer = replace(world.making, config=replace(world.making.config, max_minutes=9.0))
    assert run_folder(longer, world.faceset) == now, "more time goes on with the same run"
    with pytest.raises(DataError) as caught:
        run_folder(replace(world.making, universal=world.root), world.faceset)
    assert "shipped" in caught.value.hint


# ---- going on --------------------------------------------------------------------------------------------------------


def stop_at(stage: str, fraction: float) -> MakingHooks:
    def step(p: Step) -> None:
        if p.stage == stage and p.fraction >= fraction:
            raise KeyboardInterrupt

    return MakingHooks(step)


@pytest.mark.parametrize(("stage", "at"), [("faces", 0.5), ("training", 0.3), ("report", 0.0), ("persona", 0.0)])
def test_ctrl_c_anywhere_and_the_same_call_goes_on(tmp_path: Path, stage: str, at: float) -> None:
    world = footage_only(tmp_path / "world")
    if stage == "training":  # the loop ends with a checkpoint
        result = world.make(hooks=stop_at(stage, at))
        assert (result.stopped, result.at) == ("interrupted", "training")
        assert (world.weights.parent / "state").is_dir()
    else:
        with pytest.raises(KeyboardInterrupt):
            world.make(hooks=stop_at(stage, at))
    assert not world.standing.exists()
    steps: list[Step] = []
    assert world.make(hooks=MakingHooks(steps.append)).stopped == "finished"
    learned = [s.note for s in steps if s.stage == "training"]
    assert (learned == ["was finished before"]) == (stage in {"report", "persona"})
    if stage == "training":
        assert not any(note.startswith("step 1,") for note in learned), "it does not begin again"
    assert world.gate.run(world.standing).manifest.name == NAME
    assert world.gate.store.log.entries()[-2].event == "export"


def test_a_kill_in_the_middle_of_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies without a word after a checkpoint."""
    world = footage_only(tmp_path / "world")

    class Killed(BaseException): ...

    honest = enroll_module.take_step
    calls: list[int] = []

    def dies(*arguments: object) -> None:
        if len(calls) == 2:
            raise Killed
        calls.append(1)
        honest(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(enroll_module, "take_step", dies)
    often = world.making
    object.__setattr__(often.config, "checkpoint_minutes", 0.0)
    monkeypatch.setattr(MakingWorld, "making", property(lambda _: often))
    with pytest.raises(Killed):
        world.make()
    monkeypatch.setattr(enroll_module, "take_step", honest)
    steps: list[Step] = []
    assert world.make(hooks=MakingHooks(steps.append)).stopped == "finished"
    assert next(s.note.split(",")[0] for s in steps if s.note.startswith("step")) == "step 3"


# ---- the gates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(("fail", "error"), FAILURES, ids=[fail.__name__ for fail, _ in FAILURES])
def test_every_failure_is_refused_by_every_stage(
    world: MakingWorld, fail: Callable[[World, str], None], error: type[PersonacamError], gate: str
) -> None:
    """The table of test_consent_gates, on what ``make_persona`` makes and on how it makes it."""
    fail(world, gate)
    lines = world.gate.store.log.entries()
    before = {path: path.read_bytes() for path in world.root.rglob("*") if path.is_file()}
    with pytest.raises(PersonacamError) as caught:
        getattr(world, gate)()
    assert type(caught.value) is error, caught.value
    assert len(caught.value.hint) > 10
    assert world.gate.store.log.entries() == lines
    now = {path: path.read_bytes() for path in world.root.rglob("*") if path.is_file()}
    changed = {p for p in before.keys() | now.keys() if before.get(p) != now.get(p)} - _bookkeeping(world)
    assert changed == set(), "nothing was made"


@pytest.mark.parametrize(("fail", "error"), FAILURES, ids=[fail.__name__ for fail, _ in FAILURES])
def test_every_failure_is_refused_before_a_frame_is_read(
    world: MakingWorld, fail: Callable[[World, str], None], error: type[PersonacamError]
) -> None:
    fail(world, "extract")
    with pytest.raises(PersonacamError) as caught:
        enroll_files([world.footage], NAME, world.root / "new", world.gate)  # no video: reading it would fail otherwise
    assert type(caught.value) is error, caught.value
    assert not (world.root / "new").exists()


def _bookkeeping(world: World) -> set[Path]:
    """Revocations that an address gave are kept; so is when it was asked."""
    folder = world.home / "consent"
    return {*folder.glob("revocations/*"), folder / "checks.json", *world.home.glob("audit/.*")}


def test_forgetting_removes_everything_that_was_made(tmp_path: Path) -> None:
    world = made(tmp_path / "world")  # the log names folders: a copy would forget what it was copied from
    (world.faceset.parent / "coverage.png").write_bytes(b"faces on it")
    (world.faceset.parent / "coverage.json").write_text("{}")
    things = derived_of(world.gate.store, NAME)
    assert sorted(t.kind for t in things) == ["coverage", "face set", "persona", "run"]
    assert forget(world.gate.store, NAME, things, world.now) == []
    assert not world.faceset.parent.exists()
    assert not world.standing.exists()
    assert {path.name for path in world.root.iterdir()} == {"ada.mp4", "sent.persona", "home", "universal"}


@pytest.mark.parametrize("stage", ["training", "report", "persona"])
def test_forgetting_removes_what_an_interruption_left(tmp_path: Path, stage: str) -> None:
    world = footage_only(tmp_path / "world")
    with contextlib.suppress(KeyboardInterrupt):
        world.make(hooks=stop_at(stage, 0.0))
    (world.faceset / f"{NAME}-007.npz").write_bytes(b"a shard that no manifest names yet")
    (world.faceset / f".{NAME}-008.npz.4242.tmp").write_bytes(b"half of one")
    assert forget(world.gate.store, NAME, derived_of(world.gate.store, NAME), world.now) == []
    assert not world.faceset.parent.exists()


def test_a_consent_taken_back_between_the_stages_stops_the_next(tmp_path: Path) -> None:
    world = footage_only(tmp_path / "world")

    def step(p: Step) -> None:
        if (p.stage, p.fraction) == ("report", 1.0):
            revoked(world, "export")

    with pytest.raises(ConsentRevokedError):
        world.make(hooks=MakingHooks(step))
    assert not world.standing.exists()
