"""The report as a user asks for it."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner

from calibration.report import MEANS
from realtime.cli import app

SHIPPED = Path(str(resources.files("realtime").joinpath("personas")))
SMALL = ("--tier", "tiny", "--persona", "vera", "--wearers", "1", "--frames", "2", "--no-photos")


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["train", "report", *map(str, arguments)])


def test_help_has_examples():
    text = invoke("--help").output
    assert "personacam train report --tier small" in text


@pytest.fixture
def vera(tmp_path):
    """A folder with the shipped persona alone."""
    folder = tmp_path / "personas"
    folder.mkdir()
    (folder / "vera.persona").write_bytes((SHIPPED / "vera.persona").read_bytes())
    return folder


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["--persona", "nobody"], "nobody", "vera"),
        (["--tier", "base"], "tier base", "--tier"),
        (["--persona", "kofi"], "no kofi", "--personas-dir"),
        (["--wearers", "5", "--frames", "4"], "5 wearers", "frame each"),
    ],
)
def test_errors_name_the_repair(vera, arguments, message, hint):
    result = invoke("--personas-dir", vera, "--tier", "tiny", *arguments, "--dry-run", "--json")
    assert result.exit_code == 1, result.output
    error = json.loads(result.stdout.splitlines()[-1])["error"]
    assert message in error["message"]
    assert hint in error["hint"]


def test_unknown_tiers_damaged_files_and_missing_folders(vera, tmp_path):
    assert invoke("--tier", "huge").exit_code == 2
    (tmp_path / "file").write_text("")
    for arguments in (("--personas-dir", tmp_path / "none"), ("--personas-dir", vera, "--out", tmp_path / "file")):
        assert invoke("--tier", "tiny", *arguments).exit_code == 1
    data = (vera / "vera.persona").read_bytes()
    (vera / "vera.persona").write_bytes(data[: len(data) // 2])
    result = invoke("--personas-dir", vera, "--tier", "tiny", "--json")
    assert result.exit_code == 1
    assert "error" in json.loads(result.stdout.splitlines()[-1])


def test_a_dry_run_names_the_files(vera, tmp_path):
    (vera / "tiny").mkdir()
    (vera / "vera.persona").rename(vera / "tiny" / "vera-tiny.persona")
    result = invoke(*SMALL, "--personas-dir", vera, "--out", tmp_path / "out", "--dry-run")
    assert json.loads(result.stdout)["personas"] == {"vera": str(vera / "tiny" / "vera-tiny.persona")}
    assert not (tmp_path / "out").exists()


@pytest.mark.egl
def test_one_line_of_json_with_every_measure(vera, tmp_path, renderer):
    pytest.importorskip("dlib", reason="needs the identity extra")
    out = tmp_path / "out"
    result = invoke(*SMALL, "--personas-dir", vera, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 1
    figures = json.loads(lines[0])
    assert set(MEANS) <= figures.keys()
    assert figures["tier"] == "tiny"
    assert figures["counts"]["frames"] == 2
    assert 12 < figures["psnr_masked_db"] < 40
    assert figures["per_persona"].keys() == {"vera"}
    assert json.loads((out / "report.json").read_text()) == figures
    assert "<svg" in (out / "index.html").read_text()
    assert cv2.imread(str(out / "sheet.png")).std() > 10
