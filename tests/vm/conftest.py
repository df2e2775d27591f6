"""Guests take minutes: these tests run only when asked for (``make test-vm``), and print a table of what they found."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.vm import machine

Results = dict[str, Any]
_RESULTS = pytest.StashKey[Results]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--vm-json", type=Path, help="Write what the guests found to this file.")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RESULTS] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip them unless ``-m vm`` asks for them, and where no guest can be started."""
    asked = "vm" in config.option.markexpr.split() and "not" not in config.option.markexpr.split()
    reason = machine.missing() if asked else "takes minutes: make test-vm"
    for item in items:
        if reason is not None and item.get_closest_marker("vm"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The webcam's pictures."""
    from tests.vm.guest import tape

    folder = tmp_path_factory.mktemp("tape")
    tape.make(machine.REPOSITORY / "realtime" / "demo" / "wearer.mp4", folder)
    return folder


@pytest.fixture
def results(pytestconfig: pytest.Config) -> Results:
    """What each scenario found, by its name; shown in the end."""
    return pytestconfig.stash[_RESULTS]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    results = config.stash[_RESULTS]
    if not results:
        return
    terminalreporter.section("virtual machines")
    for name, found in results.items():
        starved = f", QEMU waited for a core {found['starved']:.0%} of the time" if found["starved"] > 0.05 else ""
        terminalreporter.line(f"{name}: {found['wall_s']:.0f} s on {found['accelerator']}{starved}")
        for check in found["checks"]:
            mark = "ok  " if check["passed"] else "FAIL" if check["judged"] else "busy"
            terminalreporter.line(f"  {mark} {check['name']}: {_short(check['found'])}")
        for figure, value in found["figures"].items():
            terminalreporter.line(f"       {figure}: {_short(value)}")
    path = config.getoption("vm_json", default=None)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + os.linesep)
    terminalreporter.line(json.dumps(results))


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    text = " ".join(text.split())
    return text if len(text) <= 200 else text[:197] + "..."
