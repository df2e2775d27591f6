"""The program is started and stopped ten times while a client keeps the virtual camera open."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import cv2

from tests.vm.guest import clients, devices
from tests.vm.guest.program import Program, until
from tests.vm.guest.scenario import Scenario

ROUNDS = 10


class Holder:
    """A client in a process of its own that opens the camera once, streams, and says what it still gets."""

    def __init__(self) -> None:
        self._reading, writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            capture = cv2.VideoCapture(devices.VIRTUAL, cv2.CAP_V4L2)
            while True:
                good, pixels = capture.read()
                os.write(writing, b"." if good and pixels.std() > 1 else b"x")
        os.close(writing)
        os.set_blocking(self._reading, False)

    def got(self) -> int:
        """Pictures since the last question."""
        try:
            return os.read(self._reading, 1 << 16).count(b".")
        except BlockingIOError:
            return 0

    def waits_for(self, limit_s: float) -> int:
        """Pictures in the second after the first one; 0 when none came in time."""
        deadline = time.monotonic() + limit_s
        while not self.got():
            if time.monotonic() > deadline:
                return 0
            time.sleep(0.1)
        time.sleep(1.0)
        return self.got()

    def close(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def start(name: str, width: int = 640, height: int = 480) -> Program:
    """The program on its own pattern."""
    arguments = ("--source", "pattern", "--sink", f"virtualcam:{devices.VIRTUAL}", "--deadline-ms", "20000")
    return Program(name, *arguments, "--fps", "10", "--width", str(width), "--height", str(height), null=True)


def started(program: Program, limit_s: float = 120.0) -> bool:
    """Whether it runs on the virtual camera; False when it ended instead, having said why."""
    what = "it starts or says why not"
    until(lambda: "choose it in your program" in program.said() or not program.alive(), limit_s, what)
    return program.alive()


def why(program: Program) -> str:
    """The end of what it said."""
    return " ".join(program.said().split())[-400:]


def run(scenario: Scenario) -> None:
    """Ten polite ends, one kill, another size, and then without the client."""
    devices.load_loopback()
    holder: Holder | None = None
    rounds: list[dict[str, Any]] = []
    for number in range(1, ROUNDS + 1):
        with scenario.part(f"start {number}"), start(f"start{number}") as program:
            up = started(program)
            if up and holder is None:
                until(lambda: devices.streams(devices.VIRTUAL), 60.0, "the virtual camera has a writer")
                holder = Holder()
            got = 0
            if up and holder is not None:
                holder.got()  # what it got from the run before
                got = holder.waits_for(30.0)
            report = program.stop() if up else {}
            rounds.append({"up": up, "client got": got, "status": program.status, "why": "" if up else why(program)})
            fine = up and got > 0 and program.status == 0 and not report.get("error")
            scenario.check(f"start {number} with a client holding the device", fine, rounds[-1])
    with scenario.part("killed, then started"):
        with start("killed") as program:  # killed on the way out
            started(program)
            time.sleep(2.0)
        with start("after") as program:
            up = started(program)
            scenario.check("a start after a kill", up, "" if up else why(program))
            with start("second") as second:
                told = not started(second) and "is fed by" in why(second)
                scenario.check("a second program on the same device is refused with the reason", told, why(second))
    with scenario.part("another size"), start("size", 1280, 720) as program:
        up = started(program)
        text = why(program)
        told = not up and "640x480" in text and "close the programs" in text
        scenario.check("another size while a client holds the device is refused with the reason", told, text)
    if holder is not None:
        holder.close()
    with scenario.part("the new size without the client"), start("free", 1280, 720) as program:
        up = started(program)
        pictures = 0
        if up:
            until(lambda: devices.streams(devices.VIRTUAL), 60.0, "the virtual camera has a writer")
            pictures = clients.apart(clients.hold, devices.VIRTUAL, 3.0)(60.0)["frames"]
        found = f"{pictures} pictures" if up else why(program)
        scenario.check("the new size once the client is gone", pictures > 0, found)
