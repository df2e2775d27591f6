"""Forgetting: everything derived goes, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from calibration.consent import sign_record
from calibration.consent_forget import derived_of, forget
from engines.build import model_digest
from engines.cache import PlanCache, PlanKey
from engines.faceset import FaceSetInfo
from engines.faceset_writer import FaceSetWriter
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
