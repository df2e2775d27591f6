"""A USB webcam in software: a USB Video Class device served over USB/IP to this kernel's own virtual host controller.

The kernel's real ``uvcvideo`` binds to it, so it is opened, streams MJPEG and YUYV, and can be pulled out, as a webcam
is. Descriptors and requests: USB Device Class Definition for Video Devices 1.1; the wire: the kernel's
Documentation/usb/usbip_protocol.rst. Needs root, ``vhci-hcd`` and ``uvcvideo``.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import socket
import struct
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.vm.guest.tape import SIZE, Tape

_HOST = Path("/sys/devices/platform/vhci_hcd.0")
_HIGH_SPEED = 3
_FREE = "004"
_PAYLOAD = 16384
"""uvcvideo's bulk requests have 32 packets of 512 bytes; a longer payload would go on without a header in the next."""
_BULK_IN = 0x81
_STALL = -32
_UNLINKED = -104
_YUY2_GUID = b"YUY2\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
_SET, _GET, _LENGTH, _INFO = 0x01, (0x81, 0x82, 0x83, 0x87), 0x85, 0x86
_LOG = 1 << 15


def _pack(layout: str, *values: Any) -> bytes:
    return struct.pack("<" + layout, *values)


class Descriptors:
    """What the webcam says it is."""

    def __init__(self, name: str, fps: int, formats: Sequence[str]) -> None:
        self.interval = 10_000_000 // fps  # of 100 ns
        self.formats = tuple(formats)
        self.picture_bytes = SIZE[0] * SIZE[1] * 2
        self.strings = {1: "personacam tests", 2: name, 3: "0001"}
        self.device = _pack("BBHBBBBHHHBBBB", 18, 1, 0x0200, 0xEF, 2, 1, 64, 0x1D6B, 0x0102, 0x0100, 1, 2, 3, 1)
        self.configuration = self._configuration(fps)

    def _configuration(self, fps: int) -> bytes:
        control = (
            _pack("BBBBHBBHHHB3s", 18, 0x24, 2, 1, 0x0201, 0, 0, 0, 0, 0, 3, bytes(3))  # the camera
            + _pack("BBBBBHBHB", 11, 0x24, 5, 2, 1, 0, 2, 1, 0)  # a processing unit with brightness
            + _pack("BBBBHBBB", 9, 0x24, 3, 3, 0x0101, 0, 2, 0)  # the way out, to USB
        )
        control = _pack("BBBHHIBB", 13, 0x24, 1, 0x0100, 13 + len(control), 48_000_000, 1, 1) + control
        colours = _pack("BBBBBB", 6, 0x24, 0x0D, 1, 1, 4)  # sRGB primaries and curve, BT.601 matrix
        formats = b""
        for number, name in enumerate(self.formats, 1):
            if name == "MJPG":
                formats += _pack("BBBBBBBBBBB", 11, 0x24, 6, number, 1, 1, 1, 0, 0, 0, 0) + self._frame(7, fps)
            else:
                formats += _pack("BBBBB16sBBBBBB", 27, 0x24, 4, number, 1, _YUY2_GUID, 16, 1, 0, 0, 0, 0)
                formats += self._frame(5, fps)
            formats += colours
        count = len(self.formats)
        head = _pack("BBBBHBBBBBBB", 13 + count, 0x24, 1, count, 13 + count + len(formats), _BULK_IN, 0, 3, 0, 0, 0, 1)
        stream = head + bytes(count) + formats
        body = (
            _pack("BBBBBBBB", 8, 11, 0, 2, 14, 3, 0, 2)
            + _pack("BBBBBBBBB", 9, 4, 0, 0, 0, 14, 1, 0, 2) + control
            + _pack("BBBBBBBBB", 9, 4, 1, 0, 1, 14, 2, 0, 0) + stream
            + _pack("BBBBHB", 7, 5, _BULK_IN, 2, 512, 0)
        )  # fmt: skip
        return _pack("BBHBBBBB", 9, 2, 9 + len(body), 2, 1, 0, 0x80, 250) + body

    def _frame(self, subtype: int, fps: int) -> bytes:
        bits, interval = self.picture_bytes * 8 * fps, self.interval
        rates = (bits, bits, self.picture_bytes, interval, 1, interval)
        return _pack("BBBBBHHIIIIBI", 30, 0x24, subtype, 1, 0, *SIZE, *rates)

    def stream(self, chosen: int) -> bytes:
        """The answer to probe and commit for format ``chosen``."""
        return _pack("HBBIHHHHHII", 1, chosen, 1, self.interval, 0, 0, 0, 0, 0, self.picture_bytes, _PAYLOAD)

    def answer(self, setup: bytes) -> bytes | None:
        """A standard request's answer; None refuses it."""
        kind, request, value, _, _ = struct.unpack("<BBHHH", setup)
        if request == 6:
            what, index = value >> 8, value & 255
            if what == 3:
                if index == 0:
                    return _pack("BBH", 4, 3, 0x0409)
                text = self.strings.get(index, "").encode("utf-16-le")
                return bytes([2 + len(text), 3]) + text
            return {1: self.device, 2: self.configuration}.get(what)
        fixed = {0: b"\0\0", 8: b"\1", 10: b"\0"}
        return fixed.get(request, b"" if kind < 0x80 else None)


class _Plug:
    """One stay in the socket: two threads between the kernel's requests and the tape."""

    def __init__(self, descriptors: Descriptors, tape: Tape, fps: int, port: int | None, sent: _Sent) -> None:
        self._descriptors, self._tape, self._fps, self._sent = descriptors, tape, fps, sent
        self._probe = self._commit = descriptors.stream(1)
        self._urbs: queue.Queue[tuple[int, int]] = queue.Queue()
        self._unlinked: set[int] = set()
        self._lock = threading.Lock()
        self._gone = threading.Event()
        self._socket, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.port = _free_port() if port is None else port
        (_HOST / "attach").write_text(f"{self.port} {kernels.fileno()} {0x10002 + self.port} {_HIGH_SPEED}")
        kernels.close()
        for work in (self._serve, self._stream):
            threading.Thread(target=work, daemon=True).start()

    def pull(self) -> None:
        """Out of the socket, at once."""
        self._gone.set()
        with contextlib.suppress(OSError):
            (_HOST / "detach").write_text(str(self.port))
        self._socket.close()

    def _serve(self) -> None:
        """Read the kernel's requests and answer those of the control endpoint."""
        with contextlib.suppress(ConnectionError, OSError):
            while True:
                head = self._receive(48)
                command, sequence, _, inwards, endpoint = struct.unpack(">IIIII", head[:20])
                if command == 1:
                    (length,) = struct.unpack(">i", head[24:28])
                    data = b"" if inwards else self._receive(length)
                    if endpoint:
                        self._urbs.put((sequence, length))
                        continue
                    answer = self._control(head[40:48], data)
                    if answer is None:
                        self._reply(sequence, b"", _STALL, 0)
                    else:
                        self._reply(sequence, answer[:length], 0, min(len(answer), length) if inwards else len(data))
                elif command == 2:
                    (target,) = struct.unpack(">I", head[20:24])
                    with self._lock:
                        self._unlinked.add(target)
                        self._socket.sendall(struct.pack(">IIIIIi24x", 4, sequence, 0, 0, 0, _UNLINKED))
        self._gone.set()

    def _control(self, setup: bytes, data: bytes) -> bytes | None:
        kind, request, value, index, _ = struct.unpack("<BBHHH", setup)
        if kind & 0x60 == 0:
            return self._descriptors.answer(setup)
        if index & 255 == 1:  # the streaming interface: probe (1) and commit (2)
            if request == _SET:
                wanted = data[2]
                chosen = self._descriptors.stream(wanted if 1 <= wanted <= len(self._descriptors.formats) else 1)
                if value >> 8 == 1:
                    self._probe = chosen
                else:
                    self._commit = chosen
                return b""
            if request in _GET:
                return self._commit if value >> 8 == 2 else self._probe
            return {_LENGTH: _pack("H", 26), _INFO: b"\3"}.get(request)
        if index >> 8 == 2 and value >> 8 == 2:  # brightness
            if request == _SET:
                return b""
            return {_LENGTH: _pack("H", 2), _INFO: b"\3", 0x82: _pack("h", -64), 0x83: _pack("h", 64)}.get(
                request, _pack("h", 1 if request == 0x84 else 0)
            )
        return None

    def _stream(self) -> None:
        """Fill the kernel's bulk requests with pictures, at the webcam's rate."""
        toggle, due = 0, time.monotonic()
        with contextlib.suppress(OSError):
            while (urb := self._next_urb()) is not None:
                due = max(due + 1 / self._fps, time.monotonic() - 1 / self._fps)
                time.sleep(max(0.0, due - time.monotonic()))
                index = self._sent.next()
                compressed = self._descriptors.formats[self._commit[2] - 1] == "MJPG"
                payload = self._tape.jpeg(index) if compressed else self._tape.yuyv(index)
                position = 0
                while urb is not None:
                    sequence, length = urb
                    part = payload[position : position + min(length, _PAYLOAD) - 2]
                    last = position + len(part) >= len(payload)
                    if self._reply(sequence, bytes([2, 0x80 | toggle | (2 if last else 0)]) + part, 0):
                        position += len(part)
                        if last:
                            break
                    urb = self._next_urb()
                toggle ^= 1
        self._gone.set()

    def _next_urb(self) -> tuple[int, int] | None:
        while not self._gone.is_set():
            with contextlib.suppress(queue.Empty):
                urb = self._urbs.get(timeout=0.2)
                if urb[0] not in self._unlinked:
                    return urb
        return None

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            if not part:
                raise ConnectionError
            data += part
        return data

    def _reply(self, sequence: int, data: bytes, status: int, actual: int | None = None) -> bool:
        """False, and nothing sent, for a request that was unlinked: the kernel drops the device on such an answer."""
        head = struct.pack(
            ">IIIIIiiiii8x", 3, sequence, 0, 0, 0, status, len(data) if actual is None else actual, 0, 0, 0
        )
        with self._lock:
            if sequence in self._unlinked:
                return False
            self._socket.sendall(head + data)
            return True


def _free_port() -> int:
    for line in (_HOST / "status").read_text().splitlines()[1:]:
        hub, port, state = line.split()[:3]
        if hub == "hs" and state == _FREE:
            return int(port)
    raise RuntimeError("the virtual host controller has no free socket")


class _Sent:
    """When each picture was given away, in memory that several processes share."""

    def __init__(self) -> None:
        self.times = multiprocessing.RawArray("d", _LOG)
        self.count = multiprocessing.RawValue("l", 0)

    def next(self) -> int:
        index = int(self.count.value)
        self.times[index % _LOG] = time.time()
        self.count.value = index + 1
        return index


class UsbWebcam:
    """A webcam in a process of its own. ``sent`` tells when each picture left; its number is index % LENGTH."""

    def __init__(
        self, tape: Path, name: str = "USB Webcam", fps: int = 30, formats: Sequence[str] = ("MJPG", "YUYV")
    ) -> None:
        self.name, self.fps, self._formats = name, fps, formats
        self.sent = _Sent()
        self._commands, remote = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=self._work, args=(tape, remote), daemon=True)
        self._process.start()

    def plug(self, port: int | None = None) -> int:
        """Into a socket; the first that is free, or ``port``. Returns it."""
        self._commands.send(("plug", port))
        return int(self._commands.recv())

    def pull(self) -> None:
        """Out again."""
        self._commands.send(("pull", None))
        self._commands.recv()

    def close(self) -> None:
        """End its process."""
        self._process.kill()
        self._process.join()

    def _work(self, tape: Path, commands: Connection) -> None:
        descriptors, reel, plug = Descriptors(self.name, self.fps, self._formats), Tape(tape), None
        while True:
            verb, port = commands.recv()
            if verb == "plug":
                plug = _Plug(descriptors, reel, self.fps, port, self.sent)
                commands.send(plug.port)
            elif plug is not None:
                plug.pull()
                plug = None
                commands.send(None)
