"""The command line as a user meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}


def personacam(*arguments: str, timeout: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "realtime", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=ENVIRONMENT,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def last_json(done: subprocess.CompletedProcess[str]) -> dict:
    return json.loads(done.stdout.splitlines()[-1])


def test_every_verb_has_help():
    top = personacam("--help").stdout
    for verb in ("run", "demo", "train", "export", "personas", "models", "doctor"):
        assert verb in top
        assert "--help" in personacam(verb, "--help").stdout
    assert "Examples" in personacam("run", "--help").stdout


def test_dry_run_prints_the_settings():
    settings = json.loads(personacam("run", "--dry-run", "-p", "kofi", "-o", "null", "--fps", "25").stdout)
    assert (settings["persona"], settings["sink"], settings["fps"]) == ("kofi", ["null"], 25.0)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["run", "-s", "nowhere.mp4", "-o", "null"], "nowhere.mp4", "pattern"),
        (["run", "-s", "pattern", "-p", "ver", "-o", "null"], "ver", "vera"),
        (["run", "-s", "pattern", "-o", "x.gif"], "x.gif", ".mp4"),
        (["run", "-s", "pattern", "--policy", "hold", "--hold-s", "-1", "-o", "null"], "hold-s", "--help"),
    ],
)
def test_errors_name_the_repair(arguments, message, hint):
    done = personacam(*arguments, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


def test_personas_are_listed_and_shown():
    listed = last_json(personacam("personas", "list", "--json"))["personas"]
    assert {p["name"] for p in listed} >= {"vera", "kofi"}
    assert all(p["kind"] == "invented" and p["tier"] == "tiny" and len(p["sha256"]) == 64 for p in listed)
    shown = last_json(personacam("personas", "show", "kofi", "--json"))
    assert shown["report"]["validation"]["swap"]["psnr_masked_db"] > 20


def test_doctor_reports_as_json():
    findings = last_json(personacam("doctor", "--json"))["findings"]
    topics = {f["topic"] for f in findings}
    assert any("persona" in t for t in topics)
    assert all(f["repair"] for f in findings if f["state"] == "fail")


def test_models_fetch_needs_a_yes():
    done = personacam("models", "fetch", check=False)
    assert done.returncode == 1
    assert "NON-COMMERCIAL" in done.stderr
    assert "nothing was fetched" in done.stderr


def test_a_run_on_the_pattern_has_no_face_and_is_covered():
    report = last_json(personacam("run", "-s", "pattern", "-o", "null", "--frames", "10", "--json"))
    assert report["frames"]["policy"] == report["frames"]["sent"] == 10
    assert report["policy_reasons"] == {"no_face": 10}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_file(tmp_path: Path, number):
    out = tmp_path / "out.mp4"
    process = subprocess.Popen(
        [sys.executable, "-m", "realtime", "run", "-s", "demo", "--loop", "-o", str(out), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    part = tmp_path / "out.mp4.part.mp4"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (part.exists() and part.stat().st_size > 20_000):
        time.sleep(0.1)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    report = json.loads(stdout.splitlines()[-1])
    with av.open(str(out)) as container:
        decoded = sum(1 for _ in container.decode(video=0))
    assert decoded == report["frames"]["sent"] > 0
    assert not part.exists()
