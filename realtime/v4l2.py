"""The few Video4Linux2 questions that OpenCV and pyvirtualcam do not ask: what a device is, who holds it, its size.

What a camera can give is in ``v4l2_modes.py``, its knobs are in ``v4l2_controls.py``. Numbers and layouts are those of
the kernel's public header <linux/videodev2.h>. Everything here answers None or an empty tuple on systems that are not
Linux.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SYSFS = Path("/sys/class/video4linux")

_CAP_CAPTURE = 0x00000001 | 0x00001000  # single- and multi-planar
_CAP_OUTPUT = 0x00000002 | 0x00002000
_CAP_DEVICE_CAPS = 0x80000000
_BUF_CAPTURE, _BUF_OUTPUT = 1, 2
_FORMAT_SIZE = 208 if struct.calcsize("P") == 8 else 204  # the union holds pointers, so it is aligned to them


def request(direction: Literal["r", "w", "rw"], number: int, size: int) -> int:
    """An ioctl number of the class 'V' as asm-generic/ioctl.h builds it (x86 and ARM)."""
    bits = {"w": 1, "r": 2, "rw": 3}[direction]
    return (bits << 30) | (size << 16) | (ord("V") << 8) | number


VIDIOC_QUERYCAP = request("r", 0, 104)
VIDIOC_G_FMT = request("rw", 4, _FORMAT_SIZE)
VIDIOC_REQBUFS = request("rw", 8, 20)
VIDIOC_STREAMON = request("w", 18, 4)


@dataclass(frozen=True, slots=True)
class Capability:
    """What a device says about itself."""

    driver: str
    card: str
    """The name that other programs show."""
    captures: bool
    """Pictures can be read from it. A webcam's second node, which gives metadata, says False."""
    outputs: bool
    """Pictures can be written to it."""
    bus: str = ""
    """Where it is plugged in, "usb-0000:00:14.0-1": the same after a replug into the same socket, under any number."""


def parse_capability(answer: bytes) -> Capability:
    """Read a ``struct v4l2_capability`` of 104 bytes."""
    driver, card, bus, _version, capabilities, device_caps = struct.unpack_from("=16s32s32sIII", answer)
    caps = device_caps if capabilities & _CAP_DEVICE_CAPS else capabilities
    return Capability(
        driver=text(driver),
        card=text(card),
        captures=bool(caps & _CAP_CAPTURE),
        outputs=bool(caps & _CAP_OUTPUT),
        bus=text(bus),
    )


def text(field: bytes) -> str:
    """A fixed field of a kernel structure, up to its first zero byte."""
    return field.split(b"\0")[0].decode(errors="replace")


def fourcc_name(code: int) -> str:
    """Turn a pixel format's number into its letters, "MJPG". Empty when it has none that can be printed."""
    letters = "".join(chr((code >> shift) & 0x7F) for shift in (0, 8, 16, 24)).strip()
    return letters if letters.isprintable() and letters.isascii() and len(letters) >= 3 else ""


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor of a device for questions. It never waits, and does not disturb who streams. Raises OSError."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "no Video4Linux2 here")
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def ask(descriptor: int, number: int, argument: bytearray) -> bool:
    """One ioctl, answered into ``argument``. False when the driver refuses it: the end of a list, or not supported.

    Raises OSError when the device is gone.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "no Video4Linux2 here")
    import fcntl  # absent on Windows

    try:
        fcntl.ioctl(descriptor, number, argument)
    except OSError as error:
        if error.errno == errno.ENODEV:
            raise
        return False
    return True


def _ioctl(path: str, number: int, argument: bytearray) -> None:
    """One ioctl on a device that is opened for it. Raises OSError."""
    with opened(path) as descriptor:
        if sys.platform == "linux":
            import fcntl  # absent on Windows

            fcntl.ioctl(descriptor, number, argument)


def query(path: str) -> Capability | None:
    """What the device at ``path`` is; None if it cannot be asked (absent, no rights, not a video device)."""
    answer = bytearray(104)
    try:
        _ioctl(path, VIDIOC_QUERYCAP, answer)
    except OSError:
        return None
    return parse_capability(bytes(answer))


def output_size(path: str) -> tuple[int, int] | None:
    """(width, height) that an output device really has; None if it does not say. It may differ from what was asked."""
    answer = bytearray(_FORMAT_SIZE)
    struct.pack_into("=I", answer, 0, _BUF_OUTPUT)
    try:
        _ioctl(path, VIDIOC_G_FMT, answer)
    except OSError:
        return None
    width, height = struct.unpack_from("=II", answer, 8 if _FORMAT_SIZE == 208 else 4)
    return int(width), int(height)


def is_streaming(path: str) -> bool:
    """Whether another program has the camera's buffers. Asks for one buffer, which closing gives back."""
    argument = bytearray(struct.pack("=IIIIB3x", 1, _BUF_CAPTURE, 1, 0, 0))
    try:
        _ioctl(path, VIDIOC_REQBUFS, argument)
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def reset_output(path: str) -> None:
    """Give a v4l2loopback 0.12.7 device its OUTPUT capability back after the program before us used it.

    Its ``write`` clears the flag that makes the device writable, and only an opener that asked for STREAMON sets it
    again when it closes. The call may be answered with EINVAL, which does not matter.
    """
    try:
        _ioctl(path, VIDIOC_STREAMON, bytearray(struct.pack("=i", _BUF_OUTPUT)))
    except OSError:
        return


def holders(path: str, proc: Path = Path("/proc"), *, writers: bool = False) -> tuple[str, ...]:
    """Names of the other programs that have ``path`` open, as "name (pid 12)". Sees only what this user may see.

    ``writers``: only those that opened it for writing alone, as pyvirtualcam does and no reader can.
    """
    try:
        device = _device_number(path)
        processes = [entry for entry in proc.iterdir() if entry.name.isdigit() and int(entry.name) != os.getpid()]
    except OSError:
        return ()
    found = []
    for process in processes:
        try:
            links = [link for link in (process / "fd").iterdir() if _same_device(link, path, device)]
            if any(not writers or _only_writes(process / "fdinfo" / link.name) for link in links):
                found.append(f"{(process / 'comm').read_text().strip()} (pid {process.name})")
        except OSError:
            continue
    return tuple(sorted(found))


def _only_writes(information: Path) -> bool:
    """Whether a descriptor was opened for writing alone, by its entry of /proc/PID/fdinfo: octal flags in a line."""
    for line in information.read_text().splitlines():
        if line.startswith("flags:"):
            return int(line.split()[1], 8) & (os.O_WRONLY | os.O_RDWR) == os.O_WRONLY
    return False


def _same_device(link: Path, path: str, device: int) -> bool:
    """Whether a descriptor's link in /proc leads to ``path``, or to the same device under another name."""
    target = str(link.readlink())
    if not target.startswith("/"):
        return False  # a pipe or a socket
    if target in (path, os.path.realpath(path)):
        return True
    if not target.startswith("/dev/"):
        return False
    try:
        return _device_number(target) == device
    except OSError:  # deleted meanwhile
        return False


def _device_number(path: str) -> int:
    """What tells two names of one device apart from two devices; for an ordinary file its inode."""
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, "no device files here")
    status = Path(path).stat()
    return status.st_rdev or status.st_ino


def nodes(sysfs: Path = SYSFS) -> tuple[tuple[int, str, str], ...]:
    """Every video device: (number, path in /dev, name), by number. Empty where the kernel has none."""
    found = []
    if sysfs.is_dir():
        for entry in sysfs.glob("video*"):
            number = entry.name.removeprefix("video")
            if number.isdigit():
                label = entry / "name"
                name = label.read_text(errors="replace").strip() if label.is_file() else entry.name
                found.append((int(number), f"/dev/{entry.name}", name))
    return tuple(sorted(found))
