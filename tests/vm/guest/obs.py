"""OBS Studio under Xvfb: a scene with the virtual camera, recorded, the recording decoded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from tests.vm.guest import framecode
from tests.vm.guest.clients import judge
from tests.vm.guest.program import until
from tests.vm.guest.tape import SIZE

_HOME = Path("/run/obs")
_LOG = Path("/run/vm/obs.log")
_PID = _HOME / "pid"
_DISPLAY = ":57"


def record(device: str, seconds: float, *, fps: int = 10, limit_s: float = 300.0) -> dict[str, Any]:
    """Let OBS record ``device`` for some seconds. Raises NotInTime, RuntimeError."""
    _configure(device, fps)
    # OpenCV's wheel points Qt at its own plugins, which OBS cannot load.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QT_")} | {
        "HOME": str(_HOME),
        "XDG_RUNTIME_DIR": str(_HOME),
        "DISPLAY": _DISPLAY,
        "QT_QPA_PLATFORM": "xcb",
        "LIBGL_ALWAYS_SOFTWARE": "1",
    }
    screen = ["Xvfb", _DISPLAY, "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
    start = f"echo $$ > {_PID}; exec obs --collection T --profile T --startrecording --disable-updater --multi"
    started = time.monotonic()
    with _running(screen, environment, Path("/run/xvfb.log")):
        until(Path("/tmp/.X11-unix/X57").exists, 60.0, "Xvfb starts")
        with _running(["dbus-run-session", "--", "sh", "-c", start], environment, _LOG) as process:

            def records() -> bool:
                if process.poll() is not None:
                    raise RuntimeError(f"OBS ended: {_LOG.read_text(errors='replace')[-800:]}")
                return "Recording Start" in _LOG.read_text(errors="replace")

            until(records, limit_s, "OBS records")
            # Its muxer is a program of its own that starts late when emulated; it writes for ``seconds``, then finishes
            # the file, because the pipe from OBS ends.
            until(lambda: any(file.stat().st_size > 0 for file in _HOME.glob("*.mkv")), limit_s, "OBS writes")
            start_s = time.monotonic() - started
            time.sleep(seconds)
            os.kill(int(_PID.read_text()), signal.SIGKILL)
            until(_is_finished, limit_s, "the recording is finished", every_s=2.0)
    log = _LOG.read_text(errors="replace")
    found = _decode()
    found["start_s"] = round(start_s, 1)
    found["log"] = [line.split(": ", 1)[-1] for line in log.splitlines() if "v4l2-input:" in line][:40]
    return found


def _is_finished() -> bool:
    """Whether nobody has the recording open any more."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if link.readlink().suffix == ".mkv":
                return False
    return True


def _decode() -> dict[str, Any]:
    (recording,) = _HOME.glob("*.mkv")
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-i", str(recording)]
    done = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=False)
    pictures = np.frombuffer(done.stdout, np.uint8)
    size = SIZE[0] * SIZE[1] * 3
    pictures = pictures[: len(pictures) // size * size].reshape(-1, SIZE[1], SIZE[0], 3)
    if not len(pictures):
        raise RuntimeError(f"OBS recorded nothing: {done.stderr.decode(errors='replace')[-500:]}")
    numbers = [framecode.read_number(picture[:, :, 1]) for picture in pictures]
    while len(numbers) > 1 and numbers[0] is None:  # the scene before the camera's first picture
        numbers.pop(0)
    colours = framecode.read_colours(pictures[-1])
    found = judge(numbers, colours)
    # OBS takes every YUV webcam on Linux for BT.709 (libobs' VIDEO_CS_DEFAULT); all other clients follow the driver.
    found["colour_error"] = round(framecode.colour_error(colours, framecode.read_as_709()), 1)
    found["colour_error_601"] = round(framecode.colour_error(colours), 1)
    return found


@contextmanager
def _running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a session of its own; ended hard, because OBS answers no polite signal for minutes."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _configure(device: str, fps: int) -> None:
    """A profile that records small pictures cheaply, and a scene with one camera: as OBS itself writes them."""
    folder = _HOME / ".config" / "obs-studio"
    (folder / "basic" / "profiles" / "T").mkdir(parents=True)
    (folder / "basic" / "scenes").mkdir(parents=True)
    _HOME.chmod(0o700)
    (folder / "global.ini").write_text(
        "[General]\nFirstRun=true\nPre19Defaults=false\nLastVersion=486539266\nEnableAutoUpdates=false\n"
        "[Basic]\nProfile=T\nProfileDir=T\nSceneCollection=T\nSceneCollectionFile=T\n"
    )
    (folder / "basic" / "profiles" / "T" / "basic.ini").write_text(
        f"[General]\nName=T\n[Output]\nMode=Simple\n[SimpleOutput]\nFilePath={_HOME}\nRecFormat=mkv\nRecQuality=Stream\n"
        "StreamEncoder=x264\nRecEncoder=x264\nVBitrate=6000\nPreset=ultrafast\n"
        f"[Video]\nBaseCX={SIZE[0]}\nBaseCY={SIZE[1]}\nOutputCX={SIZE[0]}\nOutputCY={SIZE[1]}\nFPSType=0\nFPSCommon={fps}\n"
        "[Audio]\nSampleRate=48000\n"
    )
    camera = {
        "id": "v4l2_input",
        "name": "Camera",
        "settings": {"device_id": device, "input": -1, "pixelformat": -1, "standard": -1, "dv_timing": -1}
        | {"resolution": -1, "framerate": -1, "auto_reset": True, "timeout_frames": 30},
    }
    place = {"name": "Camera", "id": 1, "visible": True, "pos": {"x": 0.0, "y": 0.0}, "scale": {"x": 1.0, "y": 1.0}}
    scene = {"id": "scene", "name": "S", "settings": {"id_counter": 1, "custom_size": False, "items": [place]}}
    collection = {"name": "T", "current_scene": "S", "current_program_scene": "S", "scene_order": [{"name": "S"}]}
    (folder / "basic" / "scenes" / "T.json").write_text(json.dumps({**collection, "sources": [camera, scene]}))
