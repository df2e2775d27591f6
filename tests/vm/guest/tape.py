"""What the webcam in software shows: the shipped clip of an invented wearer with a code in the corner, ready-made.

Emulated JPEG encoding would cost more than everything that is tested, so the pictures are encoded outside of the guest.
A tape repeats after ``LENGTH`` pictures, whose codes are 0 to LENGTH - 1.
"""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

from tests.vm.guest import framecode

LENGTH = framecode.COUNT
SIZE = (640, 480)
_PICTURES = 30
_QUALITY = 95


def wearer(clip: Path, count: int = _PICTURES) -> list[framecode.U8]:
    """``count`` successive pictures of the clip, cut to 4:3 and scaled to ``SIZE``, with the colours in the corner."""
    capture = cv2.VideoCapture(str(clip))
    pictures: list[framecode.U8] = []
    while len(pictures) < count:
        good, frame = capture.read()
        if not good:
            raise RuntimeError(f"{clip} ended after {len(pictures)} pictures")
        margin = (frame.shape[1] - frame.shape[0] * 4 // 3) // 2
        small = cv2.resize(frame[:, margin:-margin], SIZE, interpolation=cv2.INTER_AREA)
        picture = np.ascontiguousarray(small, np.uint8)
        framecode.draw_colours(picture)
        pictures.append(picture)
    capture.release()
    return pictures


def there_and_back(index: int, count: int) -> int:
    """Which of ``count`` pictures is shown at ``index``: forwards, then backwards, so that nothing jumps."""
    position = index % (2 * count - 2)
    return position if position < count else 2 * count - 2 - position


def make(clip: Path, folder: Path) -> None:
    """Write ``tape.mjpeg`` (JPEG after JPEG), ``tape.index`` (their ends) and ``tape.npy`` (the pictures as YUYV)."""
    pictures = wearer(clip)
    encoded = []
    for index in range(LENGTH):
        picture = pictures[there_and_back(index, len(pictures))].copy()
        framecode.draw_number(picture, index)
        encoded.append(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes())
    (folder / "tape.mjpeg").write_bytes(b"".join(encoded))
    (folder / "tape.index").write_bytes(struct.pack(f"<{LENGTH}I", *np.cumsum([len(data) for data in encoded])))
    np.save(folder / "tape.npy", np.stack([cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_YUYV) for picture in pictures]))


class Tape:
    """Reads what ``make`` wrote."""

    def __init__(self, folder: Path) -> None:
        self._data = (folder / "tape.mjpeg").read_bytes()
        ends = struct.unpack(f"<{LENGTH}I", (folder / "tape.index").read_bytes())
        self._spans = list(zip((0, *ends), ends, strict=False))
        self._raw = np.load(folder / "tape.npy", mmap_mode="r")

    def jpeg(self, index: int) -> bytes:
        """The picture at ``index``, as JPEG."""
        start, end = self._spans[index % LENGTH]
        return self._data[start:end]

    def yuyv(self, index: int) -> bytes:
        """The picture at ``index``, as YUYV 4:2:2 of limited range."""
        picture = np.array(self._raw[there_and_back(index % LENGTH, len(self._raw))])
        corner = picture[: 2 * framecode.CELL, : framecode.WIDTH]
        corner[:, :, 0] = framecode.cells(index % LENGTH)
        corner[:, :, 1] = 128
        return picture.tobytes()
