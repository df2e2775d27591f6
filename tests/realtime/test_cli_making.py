"""The one command to a persona, and the export of enrolled runs, as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from calibration.enrollment import Enrollment
from realtime import cli_making
from realtime.cli import app
from realtime.enroll_session import enroll_files
from tests.calibration.consent_world import NAME
from tests.calibration.making_world import MakingWorld, footage_only


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakingWorld:
    torch.set_num_threads(1)
    world = footage_only(tmp_path / "world")
    monkeypatch.setattr("realtime.session.data_folder", lambda: world.home)
    monkeypatch.setattr(cli_making, "gatekeeper", lambda: world.gate)
    monkeypatch.setattr("calibration.making._embedder", lambda hooks: None)
    monkeypatch.setattr("realtime.enroll_session.enroll_files", lambda *a, **k: cut(world, *a, **k))
    monkeypatch.setenv("COLUMNS", "200")
    return world


def cut(world: MakingWorld, paths: Any, name: str, out: Path, gate: Any, *, options: Any, progress: Any) -> Enrollment:
    """What the first stage does, on cartoons."""
    assert (paths, name, gate) == ([world.footage], NAME, world.gate)
    if not world.faceset.exists():
        world.extract_faces()
    assert out / "faces" == world.faceset
    return Enrollment(name, out, out / "faces", 12, 20, "end", 0.7, ("a head turned far",), {}, out / "c", out / "r")


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments)])


def common(world: MakingWorld) -> list[object]:
    return ["train", "persona", NAME, "--source", world.footage, "--universal", world.universal, "--steps", 2,
            "--device", "cpu", "--folder", world.root / "made"]  # fmt: skip


def test_one_command_from_footage_to_a_persona_to_wear(world: MakingWorld) -> None:
    result = invoke(*common(world), "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["stopped"] == "finished"
    assert Path(report["path"]) == world.standing
    assert Path(report["report"]).is_file()
    for text in ("hardly seen: a head turned far", "held-out frames", "wear it: personacam run --persona ada"):
        assert text in result.stderr, text
    assert world.gate.run(world.standing).manifest.kind == "person"
    again = invoke(*common(world))
    assert again.exit_code == 0
    assert "was finished before" in again.stderr


def test_a_dry_run_makes_nothing(world: MakingWorld) -> None:
    planned = json.loads(invoke(*common(world), "--dry-run").stdout)
    assert (planned["persona"], planned["training"]["steps"], planned["faces"]["frames"]) == (NAME, 2, 300)
    assert planned["out"] == str(world.standing)
    assert not world.making.folder.exists()


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["train", "persona", "Ada Lovelace", "--source", "a.mp4"], "cannot be a persona's name", "small letters"),
        (["train", "persona", "ada", "--source", "a.mp4", "--out", "bea.persona"], "no file of the", "ada.persona"),
        (["train", "persona", "ada", "--source", "a.mp4", "--universal", "nowhere"], "nowhere", "shipped"),
    ],
)  # fmt: skip
def test_errors_name_the_repair(world: MakingWorld, arguments: list[str], message: str, hint: str) -> None:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 1
    error = json.loads(result.stdout.splitlines()[-1])["error"]
    assert message in error["message"]
    assert hint in error["hint"]


def test_without_consent_the_commands_that_bring_it_are_named(
    world: MakingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("realtime.enroll_session.enroll_files", enroll_files)
    world.record_file.unlink()
    result = invoke(*common(world))
    assert result.exit_code == 1
    assert f"personacam consent request {NAME}" in result.stderr
    assert str(world.footage) in result.stderr
    assert not world.making.folder.exists()


def test_ctrl_c_says_that_nothing_is_lost(world: MakingWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(*_: Any, **__: Any) -> Enrollment:
        raise KeyboardInterrupt

    monkeypatch.setattr("realtime.enroll_session.enroll_files", pressed)
    result = invoke(*common(world))
    assert result.exit_code == 130
    assert "the same command continues" in result.stderr


def test_an_enrolled_run_is_exported_with_the_record_inside(world: MakingWorld, tmp_path: Path) -> None:
    assert invoke(*common(world)).exit_code == 0
    run, out = world.weights.parent, tmp_path / "ada.persona"
    missing = invoke("export", "--run", run)
    assert missing.exit_code == 1
    assert "--data" in missing.stderr
    options = ["--data", world.faceset, "--out", out, "--universal", world.universal, "--json"]
    result = invoke("export", "--run", run, *options)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["kind"] == "person"
    shown = invoke("personas", "show", out)
    assert "Ada Example lets Studio Example" in shown.output
    assert "It was made of 12 faces" in shown.output
    assert "held-out frames" in shown.output
    world.record_file.unlink()
    refused = invoke("export", "--run", run, *options)
    assert refused.exit_code == 1
    assert "consent" in refused.stderr


def test_the_help_has_examples() -> None:
    text = invoke("train", "persona", "--help").output
    assert "personacam train persona ada --source ada.mp4" in text
