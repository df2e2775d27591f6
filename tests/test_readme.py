"""Every command in the README does what it says, or fails here the way it says it would."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent

INSTALLS = {"pip install .", "pip install '.[train]'"}
"""Done by whoever made this environment: make demo and make test."""
PRINTED_ONLY = {"make demo", "make test"}
"""They run this test: their recipes are only printed here."""
NEEDS_CAMERA = {
    "personacam run", "personacam run --source /dev/video2 --persona kofi --sink preview",
    "personacam run --source camera:C920 --power-line 50", "personacam run --control", "personacam microphones",
    "personacam enroll ada --source 0", "personacam run --persona ada", "personacam calibrate wearer",
    "personacam calibrate colour --light evening",
}  # fmt: skip
_SMALL = ["--count", "2", "--size", "64"]
LONG = {
    "personacam run --source demo": ["--frames", "40"],
    "personacam people sheet": _SMALL,
    "personacam people clip": ["--dry-run"],
    "personacam people dataset": ["--dry-run"],
    "personacam virtualcam install": ["--help"],  # run as root it would set this machine up
    "personacam train gallery": ["--dry-run"],
    "personacam train report": ["--dry-run"],
    "personacam train universal": ["--help"],
    "personacam train persona": ["--help"],
    "personacam consent key": ["--help"],  # asks a person; tests/realtime/test_cli_consent.py does all four
    "personacam consent request": ["--help"],
    "personacam consent sign": ["--help"],
    "personacam consent import": ["--help"],
    "personacam consent renew": ["--help"],  # wants a record; tests/realtime/test_cli_renew.py
    "personacam personas import": ["--help"],
    "personacam calibrate machine": ["--help"],
    "personacam calibrate delay": ["--seconds", "3"],
    "personacam render": ["--help"],
    "personacam verify": ["--help"],
    "personacam mark export": ["--help"],
    "personacam train enroll": ["--help"],
    "personacam train refine": ["--help"],
    "python benchmarks/score_people.py": ["--help"],
    "python benchmarks/bench_people.py": ["--help"],
    "python benchmarks/bench_engine.py": ["--help"],
    "python benchmarks/gallery_picture.py": ["--help"],
    "python benchmarks/score_gap.py": ["--help"],
    "personacam train --out runs/first": ["--dry-run"],
    "personacam export --run runs/first": ["--help"],
    "python -m calibration.demo_footage --out realtime/demo": ["--help"],
    "python benchmarks/score_demo.py": ["--help"],
    "python benchmarks/bench_soak.py": ["--help"],
    "python -m tests.fuzz": ["--minutes", "0.02"],
    "python benchmarks/bench_pipeline.py --matrix": ["--help"],
    "python benchmarks/bench_latency.py": ["--help"],
    "python benchmarks/bench_startup.py": ["--help"],
    "python benchmarks/bench_blend.py": ["--seconds", "2"],
    "python benchmarks/bench_control.py": ["--viewers", "socket", "--rounds", "1", "--seconds", "1"],
}
"""What is added so that a test can run it. The long form has its own test, or committed results."""


def commands() -> list[str]:
    """Lines of the indented blocks and the code spans that begin with a program of ours."""
    blocks = re.findall(r"^ {4}((?:personacam|python|make|pip) .*)$", README, re.MULTILINE)
    spans = re.findall(r"`((?:personacam|python|make) [^`]+)`", README)
    found = [re.sub(r"\s+#.*$", "", line).strip() for line in blocks + spans]
    return sorted({c for c in found if not c.startswith("make ") or c in PRINTED_ONLY})


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PERSONACAM_CACHE": str(folder / "cache"),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, cwd=folder, env=environment, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the few files that README commands name, so that nothing is written into the checkout."""
    path = tmp_path_factory.mktemp("readme")
    for name in ("benchmarks", "tests"):
        shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return path


def test_the_readme_names_commands():
    found = commands()
    assert len(found) > 12
    assert {"make demo", "make test", "personacam run", "personacam doctor"} <= set(found)


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme(command, folder):
    if command in INSTALLS:
        pytest.skip("the environment of this test is what it makes")
    if command in PRINTED_ONLY:
        done = run(["make", "-n", *shlex.split(command)[1:]], ROOT)
        assert done.returncode == 0, done.stderr
        return
    words = shlex.split(command)
    for prefix, extra in LONG.items():
        if command.startswith(prefix):
            words += extra
    done = run(words, folder)
    if command in NEEDS_CAMERA and done.returncode:
        assert "->" in done.stderr  # no camera or no virtual camera here: the repair is named
        assert "Traceback" not in done.stderr
        return
    if command == "personacam models fetch":
        assert done.returncode == 1  # nobody is there to say yes
        assert "NON-COMMERCIAL" in done.stderr
        return
    if command.startswith("personacam doctor"):
        assert "Traceback" not in done.stderr
        return
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_tree_is_true():
    """Every file that the README's tree names exists, and every module is named."""
    tree = README.split("## The tree", 1)[1].split("## ", 1)[0]
    named = set(re.findall(r"^ {4,}([\w/]+\.py)\b", tree, re.MULTILINE))
    package, files = "", set()
    for line in tree.splitlines():
        if match := re.match(r"^ {4}([\w/]+)/$|^ {4}([\w/]+)/ ", line):
            package = (match[1] or match[2]) + "/"
        elif match := re.match(r"^ {6}([\w/]+\.py)\b", line):
            files.add(package + match[1])
    assert named
    modules = {
        str(path.relative_to(ROOT))
        for top in ("engines", "calibration", "realtime")
        for path in (ROOT / top).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert files == modules
