"""The soak in short; in full: python benchmarks/bench_soak.py, or the test that is marked slow."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from realtime.faults import KINDS
from realtime.policy import veil

if sys.platform == "win32":
    pytest.skip("the soak limits the size of files as POSIX does", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "benchmarks" / "bench_soak.py"
sys.path.insert(0, str(BENCH.parent))
bench_soak = importlib.import_module("bench_soak")
rig = importlib.import_module("soak_rig")


def soak(frames: int, faults: int, seed: int, timeout_s: float) -> dict:
    """In a process of its own: threads, descriptors and memory are those of the soak."""
    options = ["--frames", str(frames), "--faults", str(faults), "--seed", str(seed), "--json"]
    command = [sys.executable, str(BENCH), *options]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert run.stdout, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_every_kind_of_fault_in_a_few_thousand_frames():
    report = soak(2000, len(KINDS), 1, 300)
    # So few frames say nothing of memory, and a busy machine may need longer than a second for anything.
    kept = [text for text in report["broken"] if not text.startswith(("memory", "not recovered"))]
    assert kept == []
    assert report["uncovered"] == []
    assert {row["kind"] for row in report["faults"]} == set(KINDS)
    assert all(row["recovered_ms"] is not None for row in report["faults"])
    assert report["policy"] > 50
    assert report["ends"]["SourceLostError"] == 2
    assert report["ends"]["SinkError"] == 2
    assert report["ends"]["lost: sink recorder"] == 1


@pytest.mark.slow
def test_three_hundred_faults_in_a_hundred_thousand_frames(request):
    if "slow" not in request.config.getoption("-m"):
        pytest.skip("takes minutes: pytest -m slow")
    report = soak(100_000, 330, 1, 3600)
    assert report["broken"] == []


# ---- the measures can fail -------------------------------------------------------------------------------------------


def test_the_code_is_seen_and_veiled():
    picture = rig.draw_wearers()[5]
    assert rig.coded_pixels(picture) > 200
    out = np.zeros_like(picture)
    veil(picture, out)
    assert rig.coded_pixels(out) == 0
    assert rig.checks_contrast(picture) > 18
    assert rig.checks_contrast(out) < 2
    # A sixteenth of the face beside a swap that slipped.
    slipped = picture.copy()
    slipped[:, :70] = 120
    assert 0 < rig.coded_pixels(slipped) < rig.coded_pixels(picture)
    assert not rig.face_is_the_personas(picture, 5)


def test_the_truth_is_where_the_face_is():
    for index in (0, 30, 60):
        x, y = rig.landmarks(index)[30].astype(int)
        assert rig.coded_pixels(rig.draw_wearers()[index][y - 2 : y + 3, x - 2 : x + 3]) == 25
        assert 0 < x < rig.SIZE[0]


def test_a_report_names_every_broken_promise():
    good = {
        "uncovered": [], "not_the_persona": 0, "disorder": [], "faults": [{"kind": "x", "recovered_ms": 5.0}],
        "frames": 10, "leaked": {"threads": [], "descriptors": 0, "devices": 0}, "memory_growth_mb": 1.0,
    }  # fmt: skip
    assert bench_soak.broken(good, 10, 1) == []
    for change in (
        {"uncovered": ["3: 9 pixels, None"]}, {"not_the_persona": 1}, {"disorder": ["x"]}, {"faults": []},
        {"faults": [{"kind": "x", "recovered_ms": None}]}, {"faults": [{"kind": "x", "recovered_ms": 1001.0}]},
        {"frames": 9}, {"leaked": {"threads": ["capture"], "descriptors": 0, "devices": 0}}, {"memory_growth_mb": 5.1},
    ):  # fmt: skip
        assert len(bench_soak.broken(good | change, 10, 1)) == 1
    assert bench_soak.growth_mb([1.0] * 4) is None
    assert bench_soak.growth_mb([*range(10)]) == 6.0


# ---- signals ---------------------------------------------------------------------------------------------------------


def recorded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [picture.to_ndarray(format="bgr24") for picture in container.decode(video=0)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_ended_leaves_a_recording_without_the_wearer(tmp_path, number):
    out = tmp_path / "out.mp4"
    process = subprocess.Popen(
        [sys.executable, str(BENCH), "--record", str(out)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    part = tmp_path / "out.mp4.part.mp4"
    try:
        limit = time.monotonic() + 120
        while not (part.exists() and part.stat().st_size > 20_000):
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(60) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    finally:
        process.kill()
        process.stdout.close()
    left = out if number == signal.SIGTERM else part
    assert [path.name for path in tmp_path.iterdir()] == [left.name]
    pictures = recorded(left)
    assert len(pictures) > 20
    assert max(rig.checks_contrast(picture) for picture in pictures) < 11
