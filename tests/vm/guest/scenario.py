"""What every scenario has: checks with names, figures, and the program imported once. Started as

python -m tests.vm.guest.scenario NAME TAPE-FOLDER
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.vm.guest.program import prepare

RESULT = Path("/run/vm/result.json")


@dataclass
class Scenario:
    """Collects what one guest finds. Written after each check, so that nothing is lost when the guest is ended."""

    tape: Path
    checks: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def check(self, name: str, passed: bool, found: object = "", *, timing: bool = False) -> bool:
        """Note whether something is as it should be; ``found`` is what was found.

        ``timing``: a computer that is too busy to run the guest can spoil it; it is not judged there.
        """
        self.checks.append({"name": name, "passed": bool(passed), "timing": timing, "found": found})
        self._tell(f"{'ok  ' if passed else 'FAIL'} {name}: {found}")
        return bool(passed)

    def figure(self, name: str, value: object) -> None:
        """Note a figure that is reported and not judged."""
        self.figures[name] = value
        self._tell(f"     {name}: {value}")

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What fails in here fails one check, and the parts after it go on."""
        try:
            yield
        except Exception as error:
            self.check(name, passed=False, found=f"{type(error).__name__}: {error}"[-1500:])
            traceback.print_exc()

    def _tell(self, line: str) -> None:
        print(f"[{time.monotonic() - self.started:5.0f} s] {line}", flush=True)
        RESULT.write_text(json.dumps({"checks": self.checks, "figures": self.figures}))


def main() -> None:
    """Import the program, then run the scenario."""
    scenario = Scenario(Path(sys.argv[2]))
    work: Callable[[Scenario], None] = importlib.import_module(f"tests.vm.guest.{sys.argv[1]}").run
    prepare()
    scenario.figure("imports_s", round(time.monotonic() - scenario.started, 1))
    with scenario.part(sys.argv[1]):
        work(scenario)


if __name__ == "__main__":
    main()
