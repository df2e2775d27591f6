"""Forgetting: everything derived goes, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from calibration.consent import ConsentRecord, as_text, read_record, sign_record
from calibration.consent_forget import derived_of, forget
from calibration.consent_left import left_of
from calibration.consent_renew import renew
from engines.build import model_digest
from engines.cache import PlanCache, PlanKey
from engines.faceset import FaceSetInfo
from engines.faceset_writer import FaceSetWriter
from engines.folder_lock import FolderLock
from tests.calibration.consent_world import ADA, NAME, World, enrolled, read_persona, record_of
from tests.engines.synthetic import faces
from tests.onnx_models import write


@pytest.fixture
def world(tmp_path: Path) -> World:
    return enrolled(tmp_path / "world")


def test_everything_derived_is_found_and_removed(world: World, tmp_path: Path) -> None:
    onnx = read_persona(world.standing, admit=lambda _: None).swap_onnx
    cache = PlanCache(tmp_path / "cache")
    for model in (onnx, b"another"):
        cache.put(PlanKey(model_digest(model), "card", "8.9", "1", "x", "1", "fp16", "-"), b"plan")
    exported = world.root / "out.persona"
    exported.write_bytes(world.file.read_bytes())
    (world.faceset / "notes.txt").write_text("the user's own")
    write(world.home / "personas" / "vera.persona")

    things = derived_of(world.gate.store, NAME, cache)
    assert sorted(t.kind for t in things) == ["engine", "face set", "persona", "persona", "run"]
    assert all(t.bytes > 0 for t in things)
    assert world.standing.exists(), "nothing goes before it is asked for"

    assert forget(world.gate.store, NAME, things, world.now) == []
    assert not any(path.exists() for path in (world.standing, exported, world.weights.parent))
    assert [p.name for p in world.faceset.iterdir()] == ["notes.txt"]
    assert world.footage.exists()
    assert world.file.exists(), "what somebody else sent is not derived here"
    assert len(cache.entries()) == 1
    assert (world.home / "personas" / "vera.persona").exists()
    assert world.gate.store.record_of(NAME) is not None
    assert world.gate.store.log.entries()[-1].event == "forget"
    assert derived_of(world.gate.store, NAME, cache) == []


def test_what_lies_there_now_is_asked_again(world: World) -> None:
    """The log names folders; others may have put something else there since."""
    manifest = world.faceset / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"consent": "invented:7"}))
    world.weights.with_suffix(".json").write_text(json.dumps({"consent": "invented:7"}))
    assert {t.kind for t in derived_of(world.gate.store, NAME)} == {"persona"}


def test_a_run_that_others_share_keeps_the_others(world: World) -> None:
    run = world.weights.parent
    for name in (NAME, "bea"):
        for suffix in ("json", "safetensors"):
            (run / f"decoder-{name}.{suffix}").write_text("{}")
    forget(world.gate.store, NAME, derived_of(world.gate.store, NAME), world.now)
    assert {p.name for p in run.iterdir()} >= {"decoder-bea.json", "decoder-bea.safetensors"}
    assert not list(run.glob(f"decoder-{NAME}.*"))


def test_a_failure_is_said_and_the_rest_goes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    things = derived_of(world.gate.store, NAME)
    world.standing.unlink()
    world.standing.mkdir()
    failures = forget(world.gate.store, NAME, things, world.now)
    assert len(failures) == 1
    assert failures[0].startswith("persona ")
    assert not world.weights.parent.exists()


def test_what_a_killed_extraction_left_is_found(world: World, tmp_path: Path) -> None:
    """The log knows the folder from the beginning, not only after the last face."""
    other = World(tmp_path / "killed", now=world.now)
    other.root.mkdir()
    other.footage.write_bytes(world.footage.read_bytes())
    other.gate.store.add(sign_record(record_of(other.footage, other.key), ADA))
    consent, footage = other.gate.extract(NAME, [other.footage], other.faceset)
    with FaceSetWriter(other.faceset, FaceSetInfo("cartoons 1", consent, {}, 40, footage=footage)) as writer:
        writer.add(NAME, "persona", "train", [0], *faces(3, [0], 40))
    assert [(t.kind, t.path) for t in derived_of(other.gate.store, NAME)] == [("face set", other.faceset)]


def test_what_a_kill_left_of_files_goes(world: World) -> None:
    torn = [world.standing.with_name(".ada.persona.4242.tmp"), world.root / ".out.persona.4242.tmp"]
    for path in torn:
        path.write_bytes(b"half a face")
    others = world.standing.with_name(".vera.persona.4242.tmp")
    others.write_bytes(b"of somebody else")
    forget(world.gate.store, NAME, derived_of(world.gate.store, NAME), world.now)
    assert not any(path.exists() for path in torn)
    assert others.exists()


def test_engines_of_earlier_trainings_go_even_without_a_persona_file(world: World, tmp_path: Path) -> None:
    cache = PlanCache(tmp_path / "cache")
    for model, name in ((b"before", NAME), (b"another", "vera")):
        cache.put(PlanKey(model_digest(model), "card", "8.9", "1", "x", "1", "fp16", "-"), b"plan", {"name": name})
    half, young = (cache.folder / f".{n}.plan.1.tmp" for n in ("a", "b"))
    for path in (half, young):
        path.write_bytes(b"half a plan")
    os.utime(half, (1e9, 1e9))
    world.standing.unlink()
    forget(world.gate.store, NAME, derived_of(world.gate.store, NAME, cache), world.now)
    assert [entry.info["name"] for entry in cache.entries()] == ["vera"]
    assert not half.exists()
    assert young.exists(), "somebody may be writing it"


def test_what_is_too_damaged_to_say_whose_it_is(world: World) -> None:
    """In the folder that is this person's alone it goes; elsewhere it is only told."""
    (world.faceset / "manifest.json").write_bytes(b"torn")
    own = world.home / "enrolled" / NAME
    shutil.copytree(world.faceset, own / "faces")
    (own / "coverage.png").write_bytes(b"a map")
    (own / "run-small-1234").mkdir()
    (own / "run-small-1234" / "decoder.safetensors").write_bytes(b"weights")
    (own / "ada.mp4").write_bytes(b"somebody put their footage here")
    things = derived_of(world.gate.store, NAME)
    assert {(t.kind, t.path) for t in things} >= {
        ("face set", own / "faces"), ("coverage", own), ("run", own / "run-small-1234"),
    }  # fmt: skip
    forget(world.gate.store, NAME, things, world.now)
    assert [path.name for path in own.iterdir()] == ["ada.mp4"]
    torn = next(one for one in left_of(world.gate.store, NAME) if "too damaged" in one.what)
    assert torn.items == (str(world.faceset),)


def test_a_training_that_goes_on_is_said_and_not_torn(world: World) -> None:
    lock = FolderLock(world.weights.parent)
    failures = forget(world.gate.store, NAME, derived_of(world.gate.store, NAME), world.now)
    assert len(failures) == 1
    assert "another process" in failures[0]
    assert world.weights.with_suffix(".json").exists()
    lock.release()
    assert forget(world.gate.store, NAME, derived_of(world.gate.store, NAME), world.now) == []
    assert not world.weights.parent.exists()


def test_what_stays_is_told_with_its_reason(world: World) -> None:
    moved = world.root / "out.persona"
    forget(world.gate.store, NAME, derived_of(world.gate.store, NAME), world.now)
    left = {one.what: one for one in left_of(world.gate.store, NAME)}
    assert left["the footage"].items == ("ada.mp4",)
    assert left["signed records and revocations"].items == (world.gate.store.record_of(NAME).digest[:16],)
    assert "hash" in left["the audit log"].why
    assert left["files that the persona was imported from"].items == (str(world.file),)
    assert left["exported files that lie elsewhere now, or nowhere"].items == (str(moved),)
    assert all(one.why in one.line() for one in left.values())
    assert left_of(world.gate.store, "bea") == [], "nobody had that name here"


def test_a_renewed_copy_is_found(world: World) -> None:
    """Made elsewhere, but signed again here."""
    copy = world.root / "copy" / "ada.persona"
    copy.parent.mkdir()
    copy.write_bytes(world.file.read_bytes())
    record = ConsentRecord(**(dict(record_of(world.footage, world.key)) | {"asked": as_text(world.now)}))
    renew(world.gate, copy, read_record(sign_record(record, ADA)))
    assert copy in [thing.path for thing in derived_of(world.gate.store, NAME)]
