"""The program with real cameras, a real virtual camera and the programs that read it, in a guest each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.vm import machine

pytestmark = pytest.mark.vm
LIMIT_S = 1500.0
"""Of one guest. A quiet computer needs a tenth of it."""
STARVED = 0.2
"""QEMU waited for a core for more than this share of the time: rates, loss and order say nothing then."""


_COMPILE = "from tests.vm.guest.program import prepare; prepare()"


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """numba's kernels for the guest's processor, compiled out here: emulated, that would take minutes."""
    folder = tmp_path_factory.mktemp("numba")
    environment = {"NUMBA_CACHE_DIR": str(folder), "NUMBA_CPU_NAME": "generic"}
    subprocess.run(
        [sys.executable, "-c", _COMPILE], cwd=machine.REPOSITORY, env={**os.environ, **environment}, check=True
    )
    return environment


def play(name: str, tape: Path, compiled: dict[str, str], results: dict[str, Any]) -> dict[str, Any]:
    """Run a scenario in a fresh guest; every check must have passed."""
    command = [sys.executable, "-m", "tests.vm.guest.scenario", name, str(tape)]
    outcome = machine.run(command, limit_s=LIMIT_S, environment=compiled)
    found: dict[str, Any] = json.loads(outcome.files.get("result.json", b'{"checks": [], "figures": {}}'))
    found |= {"wall_s": round(outcome.wall_s, 1), "boot_s": outcome.boot_s, "starved": outcome.starved}
    found["accelerator"] = machine.accelerator()
    results[name] = found
    _keep(name, outcome)
    spoiled = outcome.starved > STARVED
    failed = []
    for check in found["checks"]:
        check["judged"] = not (check["timing"] and spoiled)
        if check["judged"] and not check["passed"]:
            failed.append(f"{check['name']}: {check['found']}")
    end = f"status {outcome.status}\n{outcome.output[-3000:]}\n{outcome.kernel_log[-1000:]}"
    assert outcome.status == 0, f"the guest ended with {end}"
    assert found["checks"], f"nothing was checked: {end}"
    assert not failed, "\n".join([*failed, outcome.output[-3000:]])
    return found


def _keep(name: str, outcome: machine.Outcome) -> None:
    """Logs and pictures, to be looked at: in the folder that PERSONACAM_VM_KEEP names."""
    folder = os.environ.get("PERSONACAM_VM_KEEP")
    if not folder:
        return
    place = Path(folder) / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "output").write_text(outcome.output)
    (place / "kernel.log").write_text(outcome.kernel_log)
    for file, data in outcome.files.items():
        (place / file).write_bytes(data)


def test_every_client_reads_the_virtual_camera(tape: Path, compiled: dict[str, str], results: dict[str, Any]) -> None:
    play("read_by_clients", tape, compiled, results)


def test_faces_are_swapped_from_every_kind_of_camera(
    tape: Path, compiled: dict[str, str], results: dict[str, Any]
) -> None:
    play("swap_from_cameras", tape, compiled, results)


def test_a_camera_is_pulled_out_and_comes_back(tape: Path, compiled: dict[str, str], results: dict[str, Any]) -> None:
    play("unplug_replug", tape, compiled, results)


def test_the_program_starts_again_while_a_client_holds_the_device(
    tape: Path, compiled: dict[str, str], results: dict[str, Any]
) -> None:
    play("start_again", tape, compiled, results)
