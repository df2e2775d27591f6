"""The verbs of invented people as a user meets them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from engines.faceset import read_faceset
from realtime.cli import app
from tests.realtime.test_cli import ENVIRONMENT

SMALL = ("--identities", "1", "--states", "2", "--size", "48", "--jobs", "1")


def invoke(*arguments: str):
    """A verb run in this process, which has loaded the renderer already."""
    return CliRunner().invoke(app, ["people", *arguments])


def here(*arguments: str) -> dict:
    """The last line of a verb that succeeds."""
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("verb", ["sheet", "clip", "dataset"])
def test_verbs_have_examples(verb):
    text = invoke(verb, "--help").output
    assert "Examples" in text
    assert f"personacam people {verb} --" in text


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["clip", "--identity", "nobody"], "nobody", "vera"),
        (["clip", "--identity", "vera", "--identity-seed", "1"], "both", "leave"),
        (["clip", "--size", "1280"], "1280", "1280x720"),
        (["clip", "--size", "\u00b2x720"], "x720", "1280x720"),
        (["clip", "--size", "641x360"], "641x360", "even"),
        (["clip", "--out", "x.gif"], "x.gif", ".mp4"),
        (["sheet", "--out", "x.txt"], "x.txt", ".png"),
        (["sheet", "--out", "pyproject.toml/x.png"], "pyproject.toml", "another folder"),
        (["sheet", "--count", "600", "--size", "1024"], "too large", "fewer"),
        (["sheet", "--count", "2", "--states", "70", "--out", "x.webp"], "too large for .webp", "smaller"),
        (["dataset", "--size", "8"], "size", "32"),
    ],
)
def test_errors_name_the_repair(arguments, message, hint):
    result = invoke(*arguments, "--json")
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 1
    error = json.loads(result.stdout.splitlines()[-1])["error"]
    assert message in error["message"]
    assert hint in error["hint"]


def test_dry_runs_of_pictures_write_nothing(tmp_path):
    out = tmp_path / "a.png"
    sheet = here("sheet", "--seed", "5", "--count", "3", "--out", str(out), "--dry-run")
    assert sheet["seeds"] == [5, 6, 7]
    clip = here("clip", "--identity", "vera", "--out", str(tmp_path / "a.mp4"), "--dry-run")
    assert (clip["identity_seed"], clip["size"], clip["frames"]) == (None, [1280, 720], 300)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.egl
def test_a_sheet_and_a_clip(tmp_path, renderer):
    out = tmp_path / "people.png"
    report = here("sheet", "--count", "1", "--states", "2", "--size", "64", "--out", str(out), "--json")
    assert (report["seeds"], report["first_state"]) == ([0], 0)
    picture = cv2.imread(str(out))
    assert picture.shape[1] > 128
    assert picture.std() > 10
    clip = tmp_path / "clip.mp4"
    size = ("--frames", "2", "--size", "128x72", "--supersample", "1")
    report = here("clip", "--identity", "tomo", *size, "--out", str(clip), "--json")
    assert report["bytes"] == clip.stat().st_size
    with np.load(report["truth"]) as truth:
        assert truth["landmarks"].shape == (2, 68, 2)


@pytest.mark.egl
def test_a_set_is_estimated_and_rendered(tmp_path, renderer):
    out = tmp_path / "set"
    read = invoke("dataset", *SMALL, "--format", "webp", "--out", str(out), "--dry-run")
    assert (read.exit_code, read.stdout) == (0, "")
    assert "2 crops" in read.stderr
    assert "nothing was written" in read.stderr
    planned = here("dataset", *SMALL, "--format", "webp", "--out", str(out), "--dry-run", "--json")
    assert planned["estimate"]["crops"] == 2
    assert 0 < planned["estimate"]["seconds"] < 120
    assert not out.exists()
    report = here("dataset", *SMALL, "--format", "webp", "--out", str(out), "--json")
    assert 0.7 < planned["estimate"]["bytes"] / report["bytes"] < 1.5
    found = read_faceset(out)
    assert (report["crops"], report["digest"]) == (2, found.digest)
    assert found.info.picture == "webp"


@pytest.mark.egl
def test_ctrl_c_keeps_what_is_finished(tmp_path, renderer):
    process = subprocess.Popen(
        [sys.executable, "-m", "realtime", "people", "dataset", "--identities", "40", "--states", "1", "--size", "48",
         "--jobs", "1", "--out", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    manifest, deadline = tmp_path / "manifest.json", time.monotonic() + 60
    while (
        process.poll() is None
        and time.monotonic() < deadline
        and not (manifest.exists() and json.loads(manifest.read_text())["count"])
    ):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "the same command continues" in stderr
    assert "Traceback" not in stderr
    assert read_faceset(tmp_path).faces
