"""A webcam is pulled out while the program runs, and comes back under another number: it goes on by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.vm.guest import devices, framecode
from tests.vm.guest.program import Program, until
from tests.vm.guest.scenario import Scenario
from tests.vm.guest.swap_from_cameras import detail
from tests.vm.guest.usbcam import UsbWebcam

AWAY_LIMIT_S = 30.0
BACK_LIMIT_S = 60.0
_STALE_S = 10.0


class Viewer:
    """Somebody who keeps looking at the virtual camera: the latest picture, in the scenario's own process."""

    def __init__(self) -> None:
        import cv2

        self._capture = cv2.VideoCapture(devices.VIRTUAL, cv2.CAP_V4L2)

    def picture(self) -> Any:
        """The newest; None when a read failed."""
        good, pixels = self._capture.read()
        return pixels if good else None

    def sees(self, wanted: Callable[[Any], bool], limit_s: float, what: str) -> float:
        """Seconds until a picture is as wanted. Raises NotInTime."""
        started = time.monotonic()

        def look() -> bool:
            pixels = self.picture()
            return pixels is not None and wanted(pixels)

        until(look, limit_s, what, every_s=0.0)
        return time.monotonic() - started

    def close(self) -> None:
        self._capture.release()


def is_live(pixels: Any) -> bool:
    """The coded picture comes through."""
    return framecode.read_number(pixels[:, :, 1]) is not None


def is_covered(pixels: Any) -> bool:
    """The veil, in which no code and hardly an edge is left."""
    return framecode.read_number(pixels[:, :, 1]) is None and detail(pixels) < 3


def once(
    scenario: Scenario, name: str, path: str, pull: Callable[[], None], replug: Callable[[], str],
    live: Callable[[Any], bool],
) -> None:  # fmt: skip
    """Run, pull, see that the picture is covered, put it back under another number, see it live again."""
    arguments = ("--source", path.removeprefix("/dev/video"), "--sink", f"virtualcam:{devices.VIRTUAL}")
    options = ("--width", "640", "--height", "480", "--deadline-ms", "20000")
    with Program(name, *arguments, *options, null=True) as program:
        program.wait_for("virtual camera:")
        until(lambda: devices.streams(devices.VIRTUAL), 60.0, "the virtual camera has a writer")
        viewer = Viewer()
        try:
            viewer.sees(live, BACK_LIMIT_S, "the live picture")
            keeps_number = devices.Occupied(path)
            pull()
            covered = viewer.sees(is_covered, AWAY_LIMIT_S, "the covered picture after the camera was pulled out")
            scenario.check(f"{name}: covered while away", passed=True, found=f"after {covered:.1f} s")
            if not scenario.check(f"{name}: the program waits for it", program.alive(), program.said()[-300:]):
                return
            new_path = replug()
            scenario.check(f"{name}: another number", new_path != path, f"{path}, then {new_path}")
            back = viewer.sees(live, BACK_LIMIT_S, "the live picture after the camera came back")
            scenario.check(f"{name}: live again without a restart", program.alive(), f"after {back:.1f} s")
            keeps_number.free()
        finally:
            viewer.close()
            report = program.stop() if program.alive() else {}
            scenario.figure(f"{name}: program", {"frames": report.get("frames"), "error": report.get("error")})
            scenario.figure(f"{name}: said", program.said().splitlines()[-12:-1])
        scenario.check(f"{name}: it ends well", program.status == 0, program.status)


def run(scenario: Scenario) -> None:
    """The software USB webcam, then vivid."""
    devices.load_loopback()
    devices.load_usb()
    with scenario.part("usb: unplug and replug"):
        camera = UsbWebcam(scenario.tape, "USB Webcam", 15)
        port = camera.plug()
        path = devices.camera("USB Webcam")

        def replug() -> str:
            camera.plug(port)
            return devices.camera("USB Webcam")

        once(scenario, "usb", path, camera.pull, replug, is_live)
        camera.close()
    with scenario.part("vivid: unplug and replug"):
        devices.load_vivid()
        path = devices.camera("vivid")

        def rebind() -> str:
            devices.vivid_plugged(True)
            return devices.camera("vivid")

        once(
            scenario, "vivid", path, lambda: devices.vivid_plugged(False), rebind,
            lambda pixels: detail(pixels) >= 3,
        )  # fmt: skip
