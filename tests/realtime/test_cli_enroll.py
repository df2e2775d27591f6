"""personacam enroll as people type it: what it asks for, what it refuses, what it prints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from calibration.enrollment import Enrollment
from realtime.cli import app
from realtime.cli_enroll import ask_for_it, coverage_lines


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("realtime.session.data_folder", lambda: tmp_path / "home")
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "ada.mp4").write_bytes(b"footage")

    def run(*arguments: str, status: int = 0):
        result = CliRunner().invoke(app, ["enroll", *arguments])
        assert result.exit_code == status, (result.output, result.exception)
        return result

    return run


def test_missing_consent_is_answered_with_the_commands_that_bring_it(call):
    result = call("ada", "-s", "ada.mp4", "--json", status=1)
    hint = json.loads(result.stdout.splitlines()[-1])["error"]["hint"]
    assert "personacam consent request ada" in hint
    assert "--footage ada.mp4" in hint
    assert "personacam consent import ada.consent.json" in hint
    assert hint.index("consent key ada.pem") < hint.index("consent request")  # in the order in which they are typed


def test_a_path_with_a_space_is_quoted_and_a_wrong_name_comes_first(call):
    assert '--footage "my clip.mp4"' in ask_for_it("ada", [Path("my clip.mp4")])
    assert "cannot be a persona's name" in call("Ada L", "-s", "ada.mp4", status=1).stderr


def test_a_dry_run_says_what_and_does_nothing(call, tmp_path):
    plan = json.loads(call("ada", "-s", "ada.mp4", "--frames", "50", "--whole", "--dry-run").stdout)
    assert (plan["options"]["frames"], plan["options"]["stop_when_enough"]) == (50, False)
    assert plan["out"] == str(tmp_path / "home" / "enrolled" / "ada")
    assert not (tmp_path / "home").exists()


def test_camera_and_file_together_are_refused_and_so_is_a_lost_record(call):
    assert "not both" in call("ada", "-s", "0", "-s", "ada.mp4", status=1).stderr
    assert "cannot be read" in call("ada", "-s", "ada.mp4", "--consent", "gone.json", status=1).stderr


def result_of(folder: Path, stopped: str) -> Enrollment:
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "coverage.json"
    bins = [{"axis": "turn", "bin": "ahead", "frames": 5, "wanted": 5, "required": True}]
    report.write_text(json.dumps({"bins": bins}))
    return Enrollment(
        "ada", folder, folder / "faces", 30, 200, stopped, 0.8, ("turn: far left",), {"too dark": 4},
        folder / "coverage.png", report,
    )  # fmt: skip


def test_the_end_says_what_there_is_and_what_comes_next(call, tmp_path, monkeypatch):
    monkeypatch.setattr("realtime.enroll_session.enroll_files", lambda *_, **__: result_of(tmp_path / "o", "end"))
    result = call("ada", "-s", "ada.mp4", "--json")
    assert "30 faces of 200 frames; left out: 4 too dark" in result.stderr
    assert "hardly seen: turn: far left" in result.stderr
    assert "personacam train persona ada --source ada.mp4" in result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["frames"] == 30


def test_little_footage_is_said_before_minutes_of_training(call, tmp_path, monkeypatch):
    few = replace(
        result_of(tmp_path / "o", "end"), share=0.1, skipped={"blurred": 150, "too dark": 3},
        missing=tuple(f"turn: {n}" for n in range(12)),
    )  # fmt: skip
    monkeypatch.setattr("realtime.enroll_session.enroll_files", lambda *_, **__: few)
    said = call("ada", "-s", "ada.mp4").stderr
    assert "this is little, 10% of what is wanted; most frames were left out: blurred" in said
    assert "turn: 7 and 4 more" in said


def test_a_refusal_comes_without_an_empty_bar(call):
    assert call("ada", "-s", "ada.mp4", status=1).stderr.startswith("there is no consent record")


def test_an_interruption_leaves_with_130_and_says_that_it_goes_on(call, tmp_path, monkeypatch):
    done = result_of(tmp_path / "o", "interrupted")
    monkeypatch.setattr("realtime.enroll_session.enroll_files", lambda *_, **__: done)
    assert "the same command continues" in call("ada", "-s", "ada.mp4", status=130).stderr


def test_blocks_are_as_high_as_bins_are_full():
    bins = [
        {"axis": "turn", "bin": "right", "frames": 0, "wanted": 8},
        {"axis": "turn", "bin": "ahead", "frames": 4, "wanted": 8},
        {"axis": "turn", "bin": "left", "frames": 80, "wanted": 8},
        {"axis": "smile", "bin": "smiling", "frames": 1, "wanted": 1},
    ]
    assert coverage_lines(bins) == ["     turn · right  ▄ ahead  █ left", "    smile █ smiling"]
