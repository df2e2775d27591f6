"""What the soak runs on: a wearer whose face carries a code, a persona of one colour, and a sink that looks at
every picture for the code.

The middle of the wearer's face is a checkerboard of pure green and pure magenta, pixel by pixel. Nothing else in the
pictures is that colourful, and whatever blurs it makes it grey, so one pixel of it in what leaves is the wearer's face.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from engines.errors import DetectorError
from engines.geometry import CORE, TEMPLATE, TEMPLATE_5, transform
from engines.persona import Crop, Manifest, Persona
from engines.runtimes.base import Array, Precision, RuntimeName
from engines.types import F32, F64, U8, Detection, Frame
from realtime.pacing import Clock, now_ns

SIZE = (128, 96)
SIDE = 64
"""Of the face's square in the picture, pixels."""
CROP = 32
POSES = 96
"""Pictures that are repeated, ``POSES_PER_S`` a second of the true clock however many frames go out in it: a head that
moved once through all of them in 96 frames of a millisecond would outrun any smoothing, and any real one."""
POSES_PER_S = 24
CODED = 64
"""A pixel whose green lies so far from the mean of blue and red shows the code: a quarter of it at least."""
PERSONA_BGR = (90, 120, 170)
_NUMBER_BITS = 24
_CELL = 4


def pose(index: int) -> F64:
    """(2, 3) affine from fractions of the face's square to frame pixels, in picture ``index``: it sways and turns."""
    turn = 2 * np.pi * (index % POSES) / POSES
    centre = np.array([SIZE[0] / 2 + 8 * np.sin(turn), SIZE[1] / 2 + 5 * np.cos(2 * turn)])
    angle, side = 0.15 * np.sin(turn), SIDE * (1 + 0.05 * np.cos(turn))
    linear = side * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, centre - linear @ (0.5, 0.5)])


def landmarks(index: int) -> F32:
    """(68, 2) iBUG points of the face in picture ``index``: what a perfect detector would find."""
    points = np.zeros((68, 2))
    points[:27] = TEMPLATE_5[2]
    eyes, mouth = TEMPLATE_5[:2], TEMPLATE_5[3:].mean(axis=0)
    ring = np.column_stack([np.cos(np.linspace(0, 6, 20)), np.sin(np.linspace(0, 6, 20))])
    points[17:27] = np.repeat(eyes, 5, axis=0) - (0, 0.08)
    points[36:42], points[42:48] = eyes[0] + 0.05 * ring[:18:3], eyes[1] + 0.05 * ring[:18:3]
    points[48:68] = mouth + 0.08 * ring
    points[[36, 39, 42, 45, 27, 28, 29, 30, 31, 32, 33, 34, 35]] = TEMPLATE
    return transform(pose(index), points).astype(np.float32)


def draw_wearers() -> list[U8]:
    """The pictures of the loop, (H, W, 3) BGR."""
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    checks = np.where(((rows + columns) % 2)[..., None] > 0, (255, 0, 255), (0, 255, 0)).astype(np.uint8)
    found = []
    for index in range(POSES):
        grey = (60 + rows + columns // 2 + index // 4).astype(np.uint8)
        picture: U8 = np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))
        to_frame = pose(index)
        head = cv2.transform(np.array([[(0.5, 0.5)]]), to_frame)[0, 0]
        cv2.ellipse(picture, tuple(int(v) for v in head), (24, 31), 0, 0, 360, (140, 150, 200), cv2.FILLED)
        core = np.zeros(SIZE[::-1], np.uint8)
        cv2.fillConvexPoly(core, np.rint(transform(to_frame, CORE)).astype(np.int32), (1,))
        picture[core > 0] = checks[core > 0]
        found.append(picture)
    return found


def coded_pixels(picture: U8) -> int:
    """How many pixels of (H, W, 3) show the wearer's code."""
    wide = picture.astype(np.int16)
    away = np.abs(2 * wide[..., 1] - wide[..., 0] - wide[..., 2])
    return int(np.count_nonzero(away > 2 * CODED))


def checks_contrast(picture: U8) -> float:
    """How strongly a checkerboard of single pixels shows in (H, W, 3), in levels of brightness: the code after a codec,
    which has halved the colours' resolution. About 22 for the wearer, below 8 for anything else in these pictures.
    """
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    signs = 1.0 - 2.0 * ((rows + columns) % 2)
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float64)
    grey -= cv2.blur(grey, (5, 5))
    # Below the label and above the numbers, which have edges of their own.
    return float(np.abs(cv2.blur(grey * signs, (8, 8)))[22 : -2 * _CELL].max())


def number_of(picture: U8) -> int:
    """The number of the pose, from the cells along the bottom; survives a codec and not a veil."""
    row = picture[-_CELL // 2 - 1, _CELL // 2 : _CELL * _NUMBER_BITS : _CELL, 0]
    return sum(int(cell > 127) << bit for bit, cell in enumerate(row))


class LoopSource:
    """The pictures from memory, ``pause_s`` apart, with the number of the pose along the bottom."""

    name = report = "the soak's wearer"
    size, fps, live = SIZE, 30.0, True

    def __init__(self, pictures: list[U8], clock: Clock, pause_s: float) -> None:
        """``clock`` may jump; the wearer does not."""
        self._pictures, self._clock, self._pause_s = pictures, clock, pause_s
        self._index = 0
        self._started: int | None = None

    def read(self) -> Frame:
        """The next one."""
        time.sleep(self._pause_s)
        number = now_ns() * POSES_PER_S // 1_000_000_000 % (1 << _NUMBER_BITS)
        picture = self._pictures[number % POSES].copy()
        bits = np.array([255 if number >> bit & 1 else 0 for bit in range(_NUMBER_BITS)], np.uint8)
        picture[-_CELL:, : _CELL * _NUMBER_BITS] = np.repeat(bits, _CELL)[None, :, None]
        now = self._clock()
        self._started = now if self._started is None else self._started
        frame = Frame(picture, self._index, now, max(0, now - self._started))
        self._index += 1
        return frame

    def close(self) -> None:
        """Nothing to release."""


class TruthDetector:
    """Knows where the face is from the number in the picture; sees none in a picture that has no face."""

    name = "truth"

    def search(self, frame: Frame) -> Detection | None:
        """See ``Detector``."""
        if frame.pixels.shape != (SIZE[1], SIZE[0], 3):
            raise DetectorError("a picture of another kind", hint="injected")
        if not coded_pixels(frame.pixels):
            return None
        points = landmarks(number_of(frame.pixels))
        box = np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)
        return Detection(frame.index, box, points, "points68", 1.0)

    def follow(self, frame: Frame, last: Detection) -> Detection | None:
        """See ``Detector``."""
        del last
        return self.search(frame)

    def confirm(self, frame: Frame, detection: Detection) -> bool:
        """See ``Detector``."""
        del frame, detection
        return True

    def close(self) -> None:
        """See ``Detector``."""


class OneColour:
    """The persona's network without one: the same face for everybody. ``Runtime``."""

    precision: Precision = "f32"

    def __init__(self, manifest: Manifest, name: RuntimeName) -> None:
        self.name: RuntimeName = name
        self.inputs, self.outputs = manifest.network_inputs(), manifest.network_outputs()
        self._results: dict[str, Array] = {n: np.ones(shape, np.float32) for n, shape in self.outputs.items()}
        self._results["swap"][0] = np.array(PERSONA_BGR[::-1], np.float32)[:, None, None] / 255
        self.closed = False

    def run(self, feeds: Any) -> dict[str, Array]:
        """See ``Runtime``."""
        if feeds.keys() != self.inputs.keys() or self.closed:
            raise RuntimeError("the soak's network was used wrongly")
        return self._results

    def close(self) -> None:
        """See ``Runtime``."""
        self.closed = True


def soak_persona() -> Persona:
    """A persona for ``OneColour``."""
    manifest = Manifest(
        name="soak", title="Soak", kind="invented", tier="test", network="none", encoder_sha256="0" * 64,
        crop=Crop(side_dm=2.15, centre_dm=(0.0, 0.28)), crop_size=CROP, output_size=CROP, code_size=1, seed=0,
        created_by="bench_soak",
    )  # fmt: skip
    return Persona(manifest, b"", None, {}, "0" * 64, Path("soak.persona"), None)


def face_is_the_personas(picture: U8, number: int) -> bool:
    """Whether the middle of the true face shows the persona's colour."""
    x, y = (int(v) for v in transform(pose(number), np.array([[0.5, 0.5]]))[0])
    seen = picture[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3).mean(axis=0)
    return bool(np.abs(seen - PERSONA_BGR).max() < 40)


__all__ = [
    "SIZE",
    "LoopSource",
    "OneColour",
    "TruthDetector",
    "checks_contrast",
    "coded_pixels",
    "draw_wearers",
    "face_is_the_personas",
    "number_of",
    "soak_persona",
]
