"""Kernel modules and device nodes of the guest."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from realtime import v4l2
from tests.vm.guest.program import until

VIRTUAL = "/dev/video10"
"""The program's output."""
FED = "/dev/video20"
"""A second loopback that another program feeds, used as a source."""
_VIVID = Path("/sys/bus/platform/drivers/vivid")


def load(module: str, *parameters: str) -> None:
    """modprobe. Raises RuntimeError with what it said."""
    done = subprocess.run(["modprobe", module, *parameters], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"modprobe {module}: {done.stderr.strip()}")


def load_loopback(*, fed: bool = False) -> None:
    """v4l2loopback as the program's own advice loads it; ``fed`` makes the second one too."""
    numbers = "10,20" if fed else "10"
    flags = "1,1" if fed else "1"
    labels = "personacam,Fed" if fed else "personacam"
    load("v4l2loopback", f"video_nr={numbers}", f"exclusive_caps={flags}", f"card_label={labels}")


def load_usb() -> None:
    """The virtual USB host controller and the webcam driver."""
    load("vhci-hcd")
    load("uvcvideo")


def load_vivid() -> None:
    """One webcam of the kernel's test driver, at /dev/video30 or the next free number."""
    load("vivid", "n_devs=1", "node_types=0x1", "num_inputs=1", "input_types=0", "vid_cap_nr=30")


def vivid_plugged(plugged: bool) -> None:
    """Pull it out or put it in again, while it streams or not."""
    (_VIVID / ("bind" if plugged else "unbind")).write_text("vivid.0")


def camera(name: str, limit_s: float = 60.0) -> str:
    """The path of the camera whose name begins so, once it is there and gives pictures."""

    def look() -> str | None:
        for _, path, label in v4l2.nodes():
            if label.startswith(name):
                capability = v4l2.query(path)
                if capability is not None and capability.captures:
                    return path
        return None

    return str(until(look, limit_s, f"a camera named {name}"))


def gone(path: str, limit_s: float = 60.0) -> None:
    """Wait until nobody can open ``path`` any more."""

    def away() -> bool:
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
            return False
        return True

    until(away, limit_s, f"{path} goes away")


class Occupied:
    """Keeps a device's number taken after the device itself went away, so that the next one gets another number."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def free(self) -> None:
        """Give the number back."""
        os.close(self._descriptor)


def streams(path: str) -> bool:
    """Whether clients can read the virtual camera now: it has a writer."""
    capability = v4l2.query(path)
    return capability is not None and capability.captures
