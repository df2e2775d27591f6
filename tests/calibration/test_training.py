"""The whole recipe, very small: render, train, export, package, wear."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from engines.persona import read_persona

pytestmark = pytest.mark.egl


def test_train_makes_personas_that_run(renderer, tmp_path):
    command = [sys.executable, "-m", "realtime", "train", "--out", str(tmp_path), "--wearers", "1", "--states", "4"]
    command += ["--steps", "2", "--jobs", "1", "--persona", "vera", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["steps"] == 2
    persona = read_persona(tmp_path / "personas" / "vera.persona")
    assert persona.manifest.kind == "invented"
    assert persona.manifest.tier == "tiny"
    assert persona.preview is not None
    assert persona.report["steps"] == 2
    assert persona.report["export"]["float32"]["max_abs_error"] < 1e-3
    # Exporting again from the run gives the same network.
    again = [sys.executable, "-m", "realtime", "export", "--run", str(tmp_path), "--json"]
    done = subprocess.run(again, capture_output=True, text=True, timeout=300, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    assert read_persona(tmp_path / "personas" / "vera.persona").swap_onnx == persona.swap_onnx


def test_export_without_a_run_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "realtime", "export", "--run", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "no training run" in done.stderr
