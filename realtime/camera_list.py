"""Which cameras this computer has, the one a user means, and why one of them does not work."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.errors import SourceBusyError, SourceError, SourceFormatError, SourceNotFoundError
from realtime import v4l2


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """One camera of this computer."""

    index: int
    """What ``--source`` takes."""
    path: str
    name: str
    bus: str = ""
    """Where it is plugged in; empty when the system does not say."""
    driver: str = ""


def list_cameras(sysfs: Path = v4l2.SYSFS) -> list[CameraInfo]:
    """The cameras that Linux knows and that give pictures. Empty elsewhere: see ``camera_list_note``.

    A device that may not be asked (no rights, or held alone by another program) is listed, because it may be one.
    """
    found = []
    for index, path, name in v4l2.nodes(sysfs):
        capability = v4l2.query(path)
        if capability is None or capability.captures:
            bus, driver = ("", "") if capability is None else (capability.bus, capability.driver)
            found.append(CameraInfo(index, path, name, bus, driver))
    return found


def camera_list_note(platform: str = sys.platform) -> str | None:
    """Why ``list_cameras`` cannot list here; None where it can."""
    if platform == "linux":
        return None
    return "cameras are listed on Linux only; elsewhere try --source 0, then 1, 2, …"


def device_path(target: int | str, platform: str = sys.platform) -> str | None:
    """The device file of a camera; None for streams and on systems that have no such files."""
    if platform != "linux":
        return None
    if isinstance(target, int):
        return f"/dev/video{target}"
    return None if "://" in target else target


def find_by_name(name: str, cameras: Sequence[CameraInfo]) -> CameraInfo:
    """The first camera whose name contains ``name``, whatever its case. Raises SourceNotFoundError."""
    for camera in cameras:
        if name.casefold() in camera.name.casefold():
            return camera
    there = ", ".join(camera.name for camera in cameras) or camera_list_note() or "this computer shows no camera"
    raise SourceNotFoundError(
        f"no camera is called {name!r}; there is: {there}", hint="personacam cameras lists them; give part of a name"
    )


def explain(target: int | str, problem: str) -> SourceError:
    """Why a camera does not work: absent, held by somebody, forbidden, or no camera at all."""
    name = f"camera {target}" if isinstance(target, int) else target
    note = camera_list_note()
    if note is not None:
        return SourceNotFoundError(
            f"{name}: {problem}",
            hint=f"close programs that use it and allow camera access in the system's privacy settings; {note}",
        )
    path = f"/dev/video{target}" if isinstance(target, int) else target
    if not Path(path).exists():
        cameras = ", ".join(f"{camera.index} ({camera.name})" for camera in list_cameras())
        there = f"there are: {cameras}" if cameras else "this computer shows no camera; plug one in"
        return SourceNotFoundError(
            f"{name}: there is no such device; {there}", hint="choose one with --source, or try --source pattern"
        )
    if not os.access(path, os.R_OK | os.W_OK):
        return SourceError(
            f"{name}: {path} may not be opened by this user",
            hint="sudo usermod -a -G video $USER, then log in again",
        )
    capability = v4l2.query(path)
    if capability is not None and not capability.captures:
        return SourceFormatError(
            f"{name}: {path} ({capability.card}) is no camera: nothing can be read from it",
            hint="choose another one; personacam cameras lists them",
        )
    users = v4l2.holders(path)
    if v4l2.is_streaming(path) or users:
        who = ", ".join(users) if users else "another program, of another user"
        return SourceBusyError(f"{name} is in use by {who}", hint="end that program or its video, then start again")
    return SourceFormatError(
        f"{name}: {problem}", hint="plug it in again, or try another size, for example --width 640 --height 480"
    )


def without_password(address: str) -> str:
    """An address without its user name and password: it is printed and logged."""
    scheme, separator, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"
