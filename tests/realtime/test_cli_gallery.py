"""The verb ``train gallery`` as a user meets it, without training."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from realtime.cli import app


def command(*arguments):
    done = CliRunner().invoke(app, ["train", "gallery", *map(str, arguments)])
    return done.exit_code, json.loads(done.stdout.splitlines()[-1])


def test_dry_run_is_the_recipe(tmp_path):
    code, said = command("--tier", "small", "--out", tmp_path / "x", "--seed", 3, "--dry-run")
    assert code == 0
    assert said["plan"]["seed"] == said["universal"]["seed"] == said["polish"]["seed"] == 3
    assert (said["plan"]["wearers"], said["plan"]["states"], said["plan"]["states_per_persona"]) == (200, 2000, 600)
    assert (said["universal"]["network"]["tier"], said["universal"]["network"]["mesh_points"]) == ("small", 127)
    assert list(tmp_path.iterdir()) == []


def test_a_small_trial_is_small(tmp_path):
    code, said = command(
        "--out", tmp_path / "x", "--wearers", 4, "--states", 40, "--persona", "vera", "--minutes", 2,
        "--polish-minutes", 0.5, "--dry-run",
    )  # fmt: skip
    assert code == 0
    plan = said["plan"]
    assert plan["personas"] == ["vera"]
    assert (plan["states_per_persona"], plan["states_per_wearer"]) == (12, 40)
    assert (plan["validation_wearers"], plan["validation_states"]) == (1, 4)
    assert said["first"]["max_minutes"] + said["universal"]["max_minutes"] == pytest.approx(2)
    assert said["polish"]["max_minutes"] == 0.5


def test_errors_name_the_repair(tmp_path):
    code, said = command("--out", tmp_path / "x", "--persona", "verra", "--json")
    assert code == 1
    assert "vera" in said["error"]["hint"]
    code, said = command("--out", tmp_path / "x", "--package-only", "--json")
    assert code == 1
    assert said["error"]["hint"]
    assert list(tmp_path.iterdir()) == []
