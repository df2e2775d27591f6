"""The virtual camera through pyvirtualcam, with the repairs that its users need."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import numpy as np

from engines.errors import MissingDependencyError, SinkError, SinkUnavailableError
from engines.types import U8, Frame
from realtime import v4l2
from realtime.planes import PixelFormat, buffer_for, convert, fits

if TYPE_CHECKING:
    import pyvirtualcam

LOAD_LOOPBACK = "sudo modprobe v4l2loopback devices=1 exclusive_caps=1 card_label=personacam"

_NATIVE = {
    ("v4l2loopback", "linux"): PixelFormat.I420,
    ("obs", "win32"): PixelFormat.NV12,
    ("obs", "darwin"): PixelFormat.UYVY,
    ("unitycapture", "win32"): PixelFormat.RGBA,
}
"""What pyvirtualcam's back ends hand on as it is; other formats they convert in one or two passes of their own."""


class VirtualCameraSink:
    """A camera that other programs can select: OBS or Unity Capture on Windows, OBS on macOS, v4l2loopback on Linux.

    Pictures are given in the format that the back end hands on as it is, converted here into a buffer of this sink.
    ``device`` None takes the first that is free. ``backend`` names one of pyvirtualcam's, for tests and for choosing
    between OBS and Unity Capture.
    """

    name = "virtualcam"

    def __init__(self, device: str | None = None, backend: str | None = None) -> None:
        self.report = "virtual camera: not open"
        self._device = device
        self._backend = backend
        self._camera: pyvirtualcam.Camera | None = None
        self.pixel_format = PixelFormat.BGR
        """What the camera is given, once it is open."""
        self._converted: U8 = buffer_for((0, 0), PixelFormat.BGR)

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
        self.pixel_format = PixelFormat[self._camera.fmt.name]
        self._converted = buffer_for(size, self.pixel_format)
        small = (2, 2)  # so that the kernel is compiled now, and not while the first picture waits
        convert(buffer_for(small, PixelFormat.BGR), self.pixel_format, buffer_for(small, self.pixel_format))
        self.report = (
            f"virtual camera: {device} ({self._camera.backend}), {size[0]}x{size[1]}; choose it in your program"
        )

    def send(self, pixels: U8, frame: Frame) -> None:  # noqa: ARG002 - the protocol gives it
        """Convert the picture and give it to the driver. Raises SinkError for another size than that of ``open``."""
        if self._camera is None:
            raise SinkError("the virtual camera is not open", hint="call open first")
        if pixels.shape != (self._camera.height, self._camera.width, 3):
            raise SinkError(
                f"unexpected frame shape {pixels.shape}, not {(self._camera.height, self._camera.width, 3)}",
                hint="open the virtual camera in the size of the pictures",
            )
        convert(np.ascontiguousarray(pixels), self.pixel_format, self._converted)
        self.repeat()

    def repeat(self) -> None:
        """Give the last picture to the driver again, as it was converted. Raises SinkError."""
        if self._camera is None:
            raise SinkError("the virtual camera is not open", hint="call open first")
        try:
            self._camera.send(self._converted)
        except (RuntimeError, ValueError, TypeError) as error:
            raise SinkError(f"the virtual camera refused a frame: {error}", hint="start again") from error

    def check(self) -> None:
        """Ask the driver for its size: pyvirtualcam only prints the errors of writing. Raises SinkError."""
        if self._camera is not None:
            self._check_size(self._camera.device, (self._camera.width, self._camera.height))

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
        """The first back end that works, in its native format where it says one that pictures can be converted to.

        Raises RuntimeError with the failures of all.
        """
        import pyvirtualcam

        def start(backend: str, pixel_format: PixelFormat) -> pyvirtualcam.Camera:
            layout = pyvirtualcam.PixelFormat[pixel_format.value]
            return pyvirtualcam.Camera(*size, fps, fmt=layout, device=self._device, backend=backend)

        failures = []
        for name in [self._backend] if self._backend else list(pyvirtualcam.camera.BACKENDS):
            expected = _NATIVE.get((name, sys.platform), PixelFormat.BGR)
            try:
                camera = start(name, expected if fits(size, expected) else PixelFormat.BGR)
            except RuntimeError as error:
                failures.append(str(error))
                continue
            native = native_format(camera)
            if native is None or not fits(size, native) or camera.fmt.name == native.value:
                return camera
            camera.close()
            return start(name, native)
        raise RuntimeError("\n".join(failures))

    def _was_reset(self, message: str) -> bool:
        """Undo v4l2loopback 0.12.7's lock after a first use (see ``v4l2.reset_output``). True when a retry may work.

        A device that another program still feeds looks the same. It is left alone: undone, both would write to it.
        Raises SinkUnavailableError when there is no other.
        """
        if sys.platform != "linux" or self._backend not in (None, "v4l2loopback"):
            return False
        if "is not a video output device" not in message and "No v4l2 loopback device found" not in message:
            return False
        paths = [path for _, path, _ in v4l2.nodes()] if self._device is None else [self._device]
        stuck, fed = [], {}
        for path in paths:
            capability = v4l2.query(path)
            if capability is not None and capability.driver == "v4l2 loopback" and not capability.outputs:
                users = v4l2.holders(path, writers=True)
                if users:
                    fed[path] = users
                else:
                    stuck.append(path)
        for path in stuck:
            v4l2.reset_output(path)
        if fed and not stuck:
            which = "; ".join(f"{path} is fed by {', '.join(users)} already" for path, users in fed.items())
            raise SinkUnavailableError(which, hint="end that program, or give another device: virtualcam:/dev/videoN")
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


def native_format(camera: pyvirtualcam.Camera) -> PixelFormat | None:
    """What the back end hands on without converting it; None when it does not say, or says what is not made here."""
    native = camera.native_fmt
    return PixelFormat[native.name] if native is not None and native.name in PixelFormat.__members__ else None


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
    return f"{LOAD_LOOPBACK}  (kept after a restart: personacam virtualcam install; see personacam doctor)"
