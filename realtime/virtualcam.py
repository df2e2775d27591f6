"""The virtual camera through pyvirtualcam, with the repairs that its users need."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import numpy as np

from engines.errors import MissingDependencyError, SinkError, SinkUnavailableError
from engines.types import U8, Frame
from realtime import v4l2

if TYPE_CHECKING:
    import pyvirtualcam

LOAD_LOOPBACK = "sudo modprobe v4l2loopback devices=1 exclusive_caps=1 card_label=personacam"


class VirtualCameraSink:
    """A camera that other programs can select: OBS or Unity Capture on Windows, OBS on macOS, v4l2loopback on Linux.

    ``device`` None takes the first that is free. ``backend`` names one of pyvirtualcam's, for tests and for choosing
    between OBS and Unity Capture.
    """

    name = "virtualcam"

    def __init__(self, device: str | None = None, backend: str | None = None) -> None:
        self.report = "virtual camera: not open"
        self._device = device
        self._backend = backend
        self._camera: pyvirtualcam.Camera | None = None

    def open(self, size: tuple[int, int], fps: float) -> None:
        """Start the camera. Raises SinkUnavailableError with the repair, MissingDependencyError, or SinkError."""
        self.close()
        try:
            import pyvirtualcam  # lazy: GPL-2.0, and it loads a driver library
        except ImportError as error:
            raise MissingDependencyError(
                f"the package pyvirtualcam cannot be loaded: {error}", hint="pip install pyvirtualcam"
            ) from error
        if self._backend is not None and self._backend not in pyvirtualcam.camera.BACKENDS:
            raise SinkUnavailableError(
                f"there is no virtual camera back end {self._backend!r}",
                hint="known here: " + ", ".join(pyvirtualcam.camera.BACKENDS),
            )
        try:
            self._camera = self._start(size, fps)
        except RuntimeError as error:
            if not self._was_reset(str(error)):
                raise SinkUnavailableError(f"no virtual camera: {error}", hint=repair(str(error))) from error
            try:
                self._camera = self._start(size, fps)
            except RuntimeError as again:
                raise SinkUnavailableError(f"no virtual camera: {again}", hint=repair(str(again))) from again
        device = self._camera.device
        self._check_size(device, size)
        self.report = (
            f"virtual camera: {device} ({self._camera.backend}), {size[0]}x{size[1]}; choose it in your program"
        )

    def send(self, pixels: U8, frame: Frame) -> None:  # noqa: ARG002 - the protocol gives it
        """Give the picture to the driver. Raises SinkError for pictures of another size than that of ``open``."""
        if self._camera is None:
            raise SinkError("the virtual camera is not open", hint="call open first")
        try:
            self._camera.send(np.ascontiguousarray(pixels))
        except (RuntimeError, ValueError, TypeError) as error:
            raise SinkError(f"the virtual camera refused a frame: {error}", hint="start again") from error

    def close(self) -> None:
        """Take the camera down. May be called twice. Raises SinkError when the driver does not let go of it."""
        camera, self._camera = self._camera, None
        if camera is None:
            return
        try:
            camera.close()
        except RuntimeError as error:
            self.report = f"virtual camera: it did not close: {error}"
            raise SinkError(
                f"the virtual camera did not close: {error}", hint="close the programs that show it, then start again"
            ) from error

    def _start(self, size: tuple[int, int], fps: float) -> pyvirtualcam.Camera:
        import pyvirtualcam

        return pyvirtualcam.Camera(
            size[0], size[1], fps, fmt=pyvirtualcam.PixelFormat.BGR, device=self._device, backend=self._backend
        )

    def _was_reset(self, message: str) -> bool:
        """Undo v4l2loopback 0.12.7's lock after a first use (see ``v4l2.reset_output``). True when a retry may work."""
        if sys.platform != "linux" or self._backend not in (None, "v4l2loopback"):
            return False
        if "is not a video output device" not in message and "No v4l2 loopback device found" not in message:
            return False
        paths = [path for _, path, _ in v4l2.nodes()] if self._device is None else [self._device]
        stuck = []
        for path in paths:
            capability = v4l2.query(path)
            if capability is not None and capability.driver == "v4l2 loopback" and not capability.outputs:
                stuck.append(path)
        for path in stuck:
            v4l2.reset_output(path)
        return bool(stuck)

    def _check_size(self, device: str, size: tuple[int, int]) -> None:
        """The driver may keep another size than it was given, while somebody holds it; pictures are then garbage."""
        real = v4l2.output_size(device) if sys.platform == "linux" and device.startswith("/dev/") else None
        if real is not None and real != size:
            with contextlib.suppress(SinkError):  # what is told below is the fault to repair
                self.close()
            raise SinkError(
                f"{device} stays at {real[0]}x{real[1]} although {size[0]}x{size[1]} was asked",
                hint="close the programs that show this camera, then start again, or use the old size",
            )


def repair(message: str, platform: str = sys.platform) -> str:
    """What to do about one of pyvirtualcam's errors, on the system that it came from."""
    if platform == "win32":
        return "install OBS Studio 28 or newer, start its virtual camera once and stop it again, then start personacam"
    if platform == "darwin":
        return (
            "install OBS Studio 30 or newer, start its virtual camera once, allow its system extension in "
            "System Settings > General > Login Items & Extensions > Camera Extensions, and stop it again"
        )
    if "missing permissions" in message:
        return "sudo usermod -a -G video $USER, then log in again"
    if "is not a video output device" in message or "busy" in message:
        return f"end the program that uses it, or make a new one: sudo modprobe -r v4l2loopback && {LOAD_LOOPBACK}"
    if "could not be queried" in message:
        return "that is no video device; leave the device out to take the first that is free"
    return f"{LOAD_LOOPBACK}  (first: sudo apt install v4l2loopback-dkms, or your distribution's package)"
