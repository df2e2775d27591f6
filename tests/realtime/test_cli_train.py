"""The training verbs as a user meets them, on cartoons and networks of 32 pixels."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
import torch
from typer.testing import CliRunner

from engines import checkpoint
from engines.film import FilmDecoder
from engines.network import NetworkConfig, build_encoder
from engines.universal_networks import save_people, save_trunk
from realtime.cli import app
from tests.engines.synthetic import write_cartoons
from tests.realtime.test_cli import ENVIRONMENT

SIZES = NetworkConfig(
    tier="test", input_size=32, output_size=32, code_size=24, stem_width=0, encoder_widths=(16, 24, 32),
    encoder_residuals=(False, False, True), grid=4, grid_width=32, decoder_widths=(24, 16),
)  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_cartoons(tmp_path_factory.mktemp("data") / "cartoons", states=24)


@pytest.fixture(scope="module")
def universal(tmp_path_factory):
    """A universal run, as far as its files go."""
    folder = tmp_path_factory.mktemp("universal")
    trunk = FilmDecoder(SIZES, seed=1)
    vectors = 0.1 * torch.randn(2, trunk.film_size, generator=torch.Generator().manual_seed(0))
    encoder = checkpoint.save_encoder(folder / "encoder", build_encoder(SIZES, seed=0), {})
    found = save_trunk(folder / "trunk", trunk, {"encoder_sha256": json.loads(encoder.read_text())["sha256"]})
    save_people(folder / "people", vectors, ["mara", "odin"], {"trunk_sha256": json.loads(found.read_text())["sha256"]})
    return folder


def invoke(*arguments: object):
    """A verb run in this process, which has loaded torch already."""
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def here(*arguments: object) -> dict:
    """The last line of a verb that succeeds."""
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("verb", ["universal", "enroll", "refine"])
def test_verbs_have_examples(verb):
    text = invoke(verb, "--help").output
    assert "Examples" in text
    assert f"personacam train {verb} --" in text
    assert verb in invoke("--help").output


def test_without_a_verb_it_is_the_recipe_of_the_shipped_personas(tmp_path):
    planned = here("--out", tmp_path / "run", "--wearers", 4, "--states", 60, "--steps", 40, "--dry-run")
    assert (planned["plan"]["wearers"], planned["training"]["steps"]) == (4, 40)
    assert planned["plan"]["personas"] == ["vera", "kofi"]
    assert list(tmp_path.iterdir()) == []


def test_options_before_a_verb_are_not_lost_silently(data):
    result = invoke("--out", "somewhere", "universal", "--data", data, "--dry-run")
    assert result.exit_code == 1
    assert "out" in result.stderr
    assert "universal --help" in result.stderr


def test_dry_runs_print_what_would_be_done(data, universal, tmp_path):
    out = tmp_path / "run"
    planned = here(
        "universal", "--data", data, "--out", out, "--tier", "tiny", "--minutes", 3, "--batch", 8, "--dry-run"
    )
    assert (planned["data"]["identities"], planned["data"]["crops"]) == (7, 7 * 24)
    config = planned["config"]
    assert (config["network"]["tier"], config["max_minutes"], config["batch"]) == ("tiny", 3.0, 8)
    assert config["network"]["mesh_points"] > 0
    without = here("universal", "--data", data, "--no-mesh", "--dry-run")["config"]["network"]
    assert (without["mesh_points"], without["tier"]) == (0, "small")
    common = ("--data", data, "--out", out, "--dry-run")
    planned = here("enroll", *common, "--identity", "mara", "--universal", universal, "--steps", 5)
    assert (planned["frames"], planned["plan"]["mode"], planned["plan"]["steps"]) == (24, "lora", 5)
    planned = here("enroll", *common, "--identity", "mara", "--universal", universal, "--mode", "full")
    assert planned["plan"]["mode"] == "full"
    planned = here("refine", *common, "--run", universal, "--persona", "mara", "--persona", "odin", "--seed", 3)
    assert (planned["personas"], planned["config"]["seed"]) == (["mara", "odin"], 3)
    assert not out.exists()


@pytest.mark.parametrize(
    ("verb", "changed", "message", "hint"),
    [
        ("universal", {"--data": "nowhere"}, "nowhere", "people dataset"),
        ("enroll", {"--data": "nowhere"}, "nowhere", "people dataset"),
        ("enroll", {"--identity": "mira"}, "mira", "mara"),
        ("enroll", {"--universal": "nowhere"}, "nowhere", "train universal"),
        ("refine", {"--persona": "mira"}, "mira", "mara"),
        ("refine", {"--persona": "ann"}, "ann", "mara, odin"),
        ("refine", {"--run": "nowhere"}, "nowhere", "train"),
    ],
)
def test_errors_name_the_repair(data, universal, tmp_path, verb, changed, message, hint):
    options = {
        "universal": {"--data": data, "--out": tmp_path / "run"},
        "enroll": {"--data": data, "--identity": "mara", "--universal": universal, "--out": tmp_path / "run"},
        "refine": {"--data": data, "--run": universal, "--persona": "mara", "--out": tmp_path / "run"},
    }[verb] | changed
    result = invoke(verb, *(part for option in options.items() for part in option), "--json")
    assert result.exit_code == 1, result.output
    error = json.loads(result.stdout.splitlines()[-1])["error"]
    assert message in error["message"]
    assert hint in error["hint"]
    assert list(tmp_path.iterdir()) == []


def test_a_persona_is_enrolled_and_then_refined(data, universal, tmp_path):
    enrolled = tmp_path / "mara"
    common = ("--data", data, "--device", "cpu", "--json")
    report = here("enroll", *common, "--identity", "mara", "--universal", universal, "--out", enrolled, "--steps", 2)
    assert (report["stopped"], report["step"], report["mode"], report["frames"]) == ("finished", 2, "lora", 24)
    decoder, meta = checkpoint.load_decoder(enrolled / "decoder")
    assert meta["encoder_sha256"] == json.loads((universal / "encoder.json").read_text())["sha256"]
    sharp = tmp_path / "sharp"
    report = here("refine", *common, "--run", enrolled, "--persona", "mara", "--out", sharp, "--steps", 1)
    assert (report["stopped"], report["step"]) == ("finished", 1)
    refined, meta = checkpoint.load_decoder(sharp / "decoder-mara")
    assert refined.sizes == decoder.sizes
    both = here("refine", *common, "--run", universal, "--persona", "mara", "--persona", "odin",
                "--out", tmp_path / "both", "--steps", 1)  # fmt: skip
    assert set(both["scores"]) == {"mara", "odin"}


def test_a_universal_run_is_trained(data, tmp_path):
    report = here("universal", "--data", data, "--out", tmp_path / "run", "--tier", "tiny", "--no-mesh", "--steps", 1,
                  "--batch", 4, "--device", "cpu", "--json")  # fmt: skip
    assert (report["stopped"], report["step"]) == ("finished", 1)
    planned = here("enroll", "--data", data, "--identity", "odin", "--universal", tmp_path / "run",
                   "--out", tmp_path / "odin", "--dry-run")  # fmt: skip
    assert planned["frames"] == 24


def test_ctrl_c_keeps_everything(data, universal, tmp_path):
    command = [
        "enroll", "--data", str(data), "--identity", "mara", "--universal", str(universal),
        "--out", str(tmp_path / "run"),
        "--mode", "full", "--device", "cpu", "--json",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "realtime", "train", *command, "--steps", "1000000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    config, deadline = tmp_path / "run" / "config.json", time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline and not config.exists():
        time.sleep(0.05)
    time.sleep(0.5)  # into the loop
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "the same command continues" in stderr
    assert "Traceback" not in stderr
    report = json.loads(stdout.splitlines()[-1])
    assert report["stopped"] == "interrupted"
    more = report["step"] + 1
    assert here(*command, "--steps", more)["step"] == more
