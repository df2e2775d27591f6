"""Start and stop the program as a user does, without paying for its imports each time.

Emulated, importing it takes half a minute. So the test imports it once, and each start is a fork that runs the very
command line, ``realtime.__main__.main``, in a process of its own: signals, devices and exit are those of the program.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_LOGS = Path("/run/vm")


def prepare() -> None:
    """Import what the program imports and load its compiled kernels, so that forks have all that already."""
    import openvino  # noqa: F401
    import pyvirtualcam  # noqa: F401

    import realtime.cli
    import realtime.session  # noqa: F401
    from realtime import kernels, planes

    kernels.warm_up()
    size, bgr = (2, 2), planes.PixelFormat.BGR
    for layout in (bgr, planes.PixelFormat.I420):
        planes.convert(planes.buffer_for(size, bgr), layout, planes.buffer_for(size, layout))


class NotInTime(Exception):
    """Something did not happen within its limit."""


def until(condition: Callable[[], Any], limit_s: float, what: str, every_s: float = 0.1) -> Any:
    """Its first true answer. Raises NotInTime."""
    deadline = time.monotonic() + limit_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise NotInTime(f"{what}: not within {limit_s:.0f} s")
        time.sleep(every_s)
    return answer


class Program:
    """``personacam run ARGUMENTS --json``, or another verb, in a process of its own, from now until ``stop``.

    ``null`` puts on a persona without any inference: the wearer's picture goes out as it is, labelled. Only the tests
    can do that.
    """

    def __init__(self, name: str, *arguments: str, null: bool = False, verb: str = "run") -> None:
        self.log = _LOGS / f"{name}.log"
        self.status: int | None = None
        self._pid = os.fork()
        if self._pid == 0:
            steady = _steady() if verb == "run" else ()
            _become(["personacam", verb, *arguments, *steady, "--json"], self.log, null=null)
        self._null = null

    def __enter__(self) -> Program:  # noqa: PYI034 - typing.Self is of Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing of it is left behind, whatever happened."""
        if self.alive():
            self.kill()

    def said(self) -> str:
        """What it printed up to now."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def alive(self) -> bool:
        """Whether it still runs."""
        if self.status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is None

    def wait_for(self, text: str, limit_s: float = 180.0) -> None:
        """Until it printed ``text``. Raises NotInTime, also when it ended before."""
        until(lambda: text in self.said() or not self.alive(), limit_s, f"the program says {text!r}")
        if text not in self.said():
            raise NotInTime(f"the program ended with {self.status} before it said {text!r}:\n{self.said()[-1500:]}")

    def report(self, limit_s: float = 60.0) -> dict[str, Any]:
        """Its JSON when it ended by itself. Raises NotInTime, and RuntimeError when it printed none."""
        until(lambda: not self.alive(), limit_s, "the program ends")
        lines = [line for line in self.said().splitlines() if line.startswith("{")]
        found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        if "frames" not in found and "findings" not in found:
            end = self.said()[-1500:]
            raise RuntimeError(f"the program ended with {self.status} and without a report:\n{end}")
        if self._null and found.get("runtime", "null") != "null":
            raise RuntimeError("the persona without inference was not put on: see _wear_nothing")
        return found

    def kill(self) -> None:
        """End it as a crash does."""
        os.kill(self._pid, signal.SIGKILL)
        until(lambda: not self.alive(), 30.0, "the program is killed")

    def stop(self, number: int = signal.SIGINT, limit_s: float = 60.0) -> dict[str, Any]:
        """End it with a signal. Returns its JSON report. Raises NotInTime, and kills it, when it does not end."""
        if self.alive():
            os.kill(self._pid, number)
        try:
            return self.report(limit_s)
        except NotInTime:
            os.kill(self._pid, signal.SIGKILL)
            raise


def _steady() -> tuple[str, ...]:
    """Options that keep the program from adapting itself to an emulated computer."""
    from realtime.config import Settings

    return ("--governor", "off") if "governor" in Settings.model_fields else ()


def _become(arguments: list[str], log: Path, *, null: bool) -> None:
    """In the child: run the command line, then leave without this process's own clean-up."""
    status = 1
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = arguments
        if null:
            _wear_nothing()
        from realtime.__main__ import main

        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class _Nothing:
    """Detector, tracker, swapper and blender that leave the picture alone, and a runtime that runs nothing."""

    name, precision, crop_size, swap_size, config = "null", "none", 64, 64, None

    def __init__(self) -> None:
        from engines.types import Detection

        square = np.array([[0.0, 0.0], [64.0, 0.0], [32.0, 32.0], [0.0, 64.0], [64.0, 64.0]], np.float32)
        self._detection = Detection(0, np.array([0, 0, 64, 64], np.float32), square, "points5", 1.0)
        self._pixels = np.zeros((64, 64, 3), np.uint8)

    def update(self, frame: Any) -> Any:
        return self._detection

    def align(self, detection: Any, size: int, t_s: float) -> Any:
        return np.eye(2, 3)

    def settle(self, frame: Any) -> None:
        """Nothing."""

    def swap(self, face: Any) -> Any:
        from engines.types import Swap

        return Swap(face, self._pixels, self._pixels[:, :, 0])

    def paste(self, out: Any, swap: Any, dt_s: float) -> int:
        return 1

    def reset(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _wear_nothing() -> None:
    """Leave out the networks in this process; capture, policy, label, outputs and report stay the program's.

    Whoever reads the report sees the runtime "null", or that this does not work any more.
    """
    from realtime import session

    nothing = _Nothing()
    for name in ("open_swap_runtime", "live_runtime", "_detector", "Tracker", "Swapper", "Blender", "fastest"):
        if hasattr(session, name):
            setattr(session, name, lambda *_, **__: nothing)
