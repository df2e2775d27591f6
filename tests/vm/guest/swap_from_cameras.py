"""Real swaps from each kind of camera, read by real programs. Emulated, a swap takes a second: its rate is reported."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.vm.guest import clients, devices, framecode
from tests.vm.guest.program import Program, until
from tests.vm.guest.read_by_clients import chromium, judge
from tests.vm.guest.scenario import Scenario
from tests.vm.guest.tape import Tape
from tests.vm.guest.usbcam import UsbWebcam

_RESULTS = Path("/run/vm")
_DISTINCT = 4
_FPS = 5
"""A number comes again after 100 s, so that a swap of up to 50 s leaves no doubt about the order."""
_FACE = (slice(140, 400), slice(230, 480))
"""Where the wearer's face is in the tape's pictures, roughly."""
_ASIDE = (slice(120, 240), slice(0, 160))
"""A part of the room that no face reaches."""


@contextmanager
def worn(scenario: Scenario, name: str, path: str, distinct: int = _DISTINCT) -> Iterator[dict[str, Any]]:
    """The program on the camera at ``path``, judged by OpenCV and by its own report; the body adds clients.

    Gives a dict that gets the report when the program has ended.
    """
    arguments = ("--source", path, "--sink", f"virtualcam:{devices.VIRTUAL}", "--width", "640", "--height", "480")
    result: dict[str, Any] = {}
    with Program(name, *arguments, "--deadline-ms", "60000") as program:
        program.wait_for("virtual camera:", 300.0)
        until(lambda: devices.streams(devices.VIRTUAL), 120.0, "the virtual camera has a writer")
        numbers, picture = clients.apart(_distinct, devices.VIRTUAL, distinct, 240.0)(300.0)
        cv2.imwrite(str(_RESULTS / f"{name}.png"), picture)
        result |= {"numbers": numbers, "picture": picture}
        yield result
        report = program.stop(limit_s=120.0)
        result["report"] = report
    figures = {key: report[key] for key in ("frames", "fps", "latency_ms", "policy_reasons", "runtime", "precision")}
    scenario.figure(f"{name}: program", figures | {"swap_ms": report["stages_ms"]["swap"]["p50"]})
    scenario.check(f"{name}: the program ends well", program.status == 0 and not report["error"], report["error"] or "")


def _distinct(device: str, count: int, limit_s: float) -> tuple[list[int | None], Any]:
    """Read until ``count`` different pictures were seen. Returns all numbers, and the last picture."""
    capture = cv2.VideoCapture(device, cv2.CAP_V4L2)
    numbers: list[int | None] = []
    pictures: list[Any] = []

    def enough() -> bool:
        good, pixels = capture.read()
        if good and (not pictures or not np.array_equal(pixels, pictures[-1])):
            pictures.append(pixels)
        if good:
            numbers.append(framecode.read_number(pixels[:, :, 1]))
        return len(pictures) >= count

    until(enough, limit_s, f"{count} different pictures at {device}", every_s=0.0)
    capture.release()
    return numbers, pictures[-1]


def judge_swap(scenario: Scenario, name: str, result: dict[str, Any], tape: Tape) -> None:
    """Frames were swapped, the wearer's face is another one now, and the room around it is the same."""
    frames = result["report"]["frames"]
    scenario.check(f"{name}: swapped", frames["swapped"] >= _DISTINCT - 1, frames)
    found = clients.judge(result["numbers"], framecode.read_colours(result["picture"][:, :, ::-1]))
    judge(scenario, f"{name} by opencv", found, lossless=False)
    number = framecode.read_number(result["picture"][:, :, 1])
    if number is None:
        scenario.check(f"{name}: the last picture has a number", passed=False)
        return
    source = np.asarray(cv2.imdecode(np.frombuffer(tape.jpeg(number), np.uint8), cv2.IMREAD_COLOR))
    changed = np.asarray(cv2.absdiff(result["picture"], source), np.float32).mean(axis=2)
    inside, aside = float(changed[_FACE].mean()), float(changed[_ASIDE].mean())
    other = inside > 4 * aside and inside > 5
    scenario.check(f"{name}: the face is another one", other, f"{inside:.1f} changed, room {aside:.1f}")
    scenario.check(f"{name}: the room is the same", aside < 4, f"{aside:.1f} of 255")


def from_usb(scenario: Scenario, kind: str, tape: Tape) -> UsbWebcam:
    """The software webcam with one format."""
    camera = UsbWebcam(scenario.tape, f"Webcam {kind}", _FPS, (kind,))
    camera.plug()
    path = devices.camera(camera.name)
    with worn(scenario, f"usb-{kind}", path) as result:
        if kind == "MJPG":
            read_by_all(scenario, camera)
    judge_swap(scenario, f"usb-{kind}", result, tape)
    return camera


def read_by_all(scenario: Scenario, camera: UsbWebcam) -> None:
    """Every client but OBS on the swapped pictures."""
    for client in (clients.v4l2_ctl, clients.ffmpeg, clients.gstreamer):
        with scenario.part(f"swap by {client.__name__}"):
            judge(scenario, f"swap by {client.__name__}", client(devices.VIRTUAL, _DISTINCT, 240.0), lossless=False)
    with scenario.part("swap by Chromium"):
        chromium(scenario, _DISTINCT, 3, 60.0, camera.sent)


def run(scenario: Scenario) -> None:
    """USB MJPEG with all clients, USB YUYV, a loopback fed by ffmpeg, and vivid, whose picture has no face."""
    devices.load_loopback(fed=True)
    devices.load_usb()
    tape = Tape(scenario.tape)
    for kind in ("MJPG", "YUYV"):
        with scenario.part(f"usb-{kind}"):
            from_usb(scenario, kind, tape).close()
    with scenario.part("fed by ffmpeg"):
        tape_file = str(scenario.tape / "tape.mjpeg")
        feed = ["ffmpeg", "-loglevel", "error", "-re", "-stream_loop", "-1", "-framerate", str(_FPS), "-f", "mjpeg"]
        feeder = subprocess.Popen([*feed, "-i", tape_file, "-c", "copy", "-f", "v4l2", devices.FED])
        try:
            until(lambda: devices.streams(devices.FED), 60.0, "ffmpeg feeds the loopback")
            with worn(scenario, "fed", devices.FED) as result:
                pass
            judge_swap(scenario, "fed", result, tape)
        finally:
            feeder.kill()
            feeder.wait()
    with scenario.part("vivid"):
        devices.load_vivid()
        with worn(scenario, "vivid", devices.camera("vivid"), distinct=2) as result:
            pass
        frames = result["report"]["frames"]
        scenario.check("vivid: a picture without a face is covered", frames["policy"] == frames["sent"] > 0, frames)
        scenario.check("vivid: the veil is smooth", detail(result["picture"]) < 3, f"{detail(result['picture']):.1f}")


def detail(picture: Any) -> float:
    """Mean difference between neighbouring pixels of (H, W, 3): a veil has less than 3, test pictures have more."""
    return float(np.abs(np.diff(picture.astype(np.float32), axis=1)).mean())
