"""Software webcam -> program with a null persona -> v4l2loopback -> clients: listing, order, loss, colour, rate."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.vm.guest import clients, devices, obs
from tests.vm.guest.program import Program, until
from tests.vm.guest.scenario import Scenario
from tests.vm.guest.usbcam import UsbWebcam

COLOUR_TOLERANCE = 4.0
SLOW_FPS = 8
"""A rate at which even an emulated computer may lose nothing."""
MIN_CHROMIUM_FPS = 24
_COUNT = 24
_OBS_S = 8.0


def start(name: str, camera: UsbWebcam) -> Program:
    """The webcam plugged in and the program running on it, until clients can read."""
    camera.plug()
    path = devices.camera(camera.name)
    arguments = ("--source", path, "--sink", f"virtualcam:{devices.VIRTUAL}", "--width", "640", "--height", "480")
    program = Program(name, *arguments, "--deadline-ms", "20000", null=True)
    program.wait_for("virtual camera:")
    until(lambda: devices.streams(devices.VIRTUAL), 60.0, "the virtual camera has a writer")
    return program


def judge(scenario: Scenario, client: str, found: dict[str, Any], *, lossless: bool) -> None:
    """Order and readability of what a client saw, loss where none is allowed, colours where they were measured."""
    scenario.figure(client, found)
    read = found["frames"] - found["unread"]
    scenario.check(f"{client}: pictures come", read > 0, f"{read} of {found['frames']} readable")
    # Where a picture takes a second to come through, the veil is shown meanwhile.
    scenario.check(f"{client}: readable", read >= 0.9 * found["frames"], f"{read} of {found['frames']}", timing=True)
    back = found["backwards"]  # a reader that is late may see a buffer of the driver that was written over already
    scenario.check(f"{client}: in order", back == 0, f"{back} steps back in {found['distinct']} pictures", timing=True)
    if lossless:
        lost = found["lost"]
        scenario.check(f"{client}: nothing lost at {SLOW_FPS} a second", lost == 0, f"{lost} lost", timing=True)
    if "colour_error" in found:
        error = found["colour_error"]
        scenario.check(f"{client}: colours within 4/255", error <= COLOUR_TOLERANCE, f"{error} off")


def chromium(scenario: Scenario, count: int, shown: int, seconds: float, sent: Any) -> dict[str, Any]:
    """Listing, settings, numbers of the track, colours of the canvas. Returns its answer."""
    command = [sys.executable, "-m", "tests.vm.guest.chromium", "personacam", str(count), str(shown), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-1000:])
    answer: dict[str, Any] = json.loads(done.stdout)
    listed = answer.get("devices", [])
    scenario.check("Chromium lists personacam", any(name.startswith("personacam") for name in listed), listed)
    if "error" in answer:
        raise RuntimeError(f"Chromium: {answer['error']}")
    settings = answer["settings"]
    size = (settings["width"], settings["height"])
    scenario.check("Chromium: settings 640x480", size == (640, 480), settings)
    track, canvas = answer["track"], answer["canvas"]
    read = clients.judge(track["numbers"])
    judge(scenario, "Chromium track", read, lossless=False)
    judge(scenario, "Chromium canvas", clients.judge(canvas["numbers"], canvas["colours"]), lossless=False)
    times = track["times"]
    scenario.figure("Chromium format", track["format"])
    new = read["frames"] - read["unread"] - read["repeats"]  # what the output only repeated does not count
    answer["fps"] = round((new - 1) / max(times[-1] - times[0], 1e-6), 1)
    scenario.figure("Chromium fps", answer["fps"])
    scenario.figure("Chromium latency_ms", clients.spread(clients.latencies(track["numbers"], times, sent)))
    return answer


def read_slowly(scenario: Scenario, camera: UsbWebcam) -> None:
    """A rate at which nothing may be lost, read by one client after the other."""
    with start("slow", camera) as program:
        for client in (clients.v4l2_ctl, clients.ffmpeg, clients.gstreamer):
            with scenario.part(client.__name__):
                judge(scenario, client.__name__, client(devices.VIRTUAL, _COUNT, 120.0), lossless=True)
        with scenario.part("opencv"):
            waiting = clients.apart(clients.opencv, devices.VIRTUAL, _COUNT, 120.0, camera.sent)
            judge(scenario, "opencv", waiting(150.0), lossless=True)
        with scenario.part("OBS"):
            found = obs.record(devices.VIRTUAL, _OBS_S)
            log = found.pop("log")
            opened = any(f"Start capture from {devices.VIRTUAL}" in line for line in log)
            scenario.check("OBS opens the virtual camera", opened, log)
            judge(scenario, "OBS", found, lossless=False)
            moving = found["distinct"] >= 3
            scenario.check("OBS: the picture moves", moving, f"{found['distinct']} different ones", timing=True)
        report = program.stop()
    scenario.check("the program ends well", program.status == 0 and not report["error"], report["frames"])


def read_fast(scenario: Scenario, camera: UsbWebcam) -> None:
    """Thirty pictures a second, into Chromium."""
    with start("fast", camera) as program:
        before = int(camera.sent.count.value)
        fps = chromium(scenario, 120, 4, 20.0, camera.sent)["fps"]
        enough = fps >= MIN_CHROMIUM_FPS
        scenario.check(f"30 a second reach Chromium at {MIN_CHROMIUM_FPS} or more", enough, fps, timing=True)
        scenario.figure("webcam sent meanwhile", int(camera.sent.count.value) - before)
        report = program.stop()
    scenario.figure("program at 30", {key: report[key] for key in ("frames", "fps", "latency_ms", "stages_ms")})


def run(scenario: Scenario) -> None:
    """First everything at a rate that loses nothing, then the rate itself."""
    devices.load_loopback()
    devices.load_usb()
    for name, fps, read in (("Slow Webcam", SLOW_FPS, read_slowly), ("Fast Webcam", 30, read_fast)):
        camera = UsbWebcam(scenario.tape, name, fps)
        with scenario.part(name):
            read(scenario, camera)
        camera.close()
