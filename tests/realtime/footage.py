"""Small real video files for the tests of sources and sinks."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np

from engines.types import U8, Frame

TICKS = 90_000


def numbered(index: int, size: tuple[int, int] = (64, 48)) -> U8:
    """A picture that says its number in binary: eight vertical bars, the highest bit at the left."""
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    bar = size[0] // 8
    for bit in range(8):
        picture[:, bit * bar : (bit + 1) * bar] = 235 if index >> (7 - bit) & 1 else 20
    return picture


def number_of(pixels: U8) -> int:
    """The number of a ``numbered`` picture that has been through a codec."""
    bar = pixels.shape[1] // 8
    row = pixels[pixels.shape[0] // 2, :, 1].astype(int)
    return sum((row[bit * bar + bar // 2] > 128) << (7 - bit) for bit in range(8))


def frame(index: int, timestamp_ns: int, pixels: U8 | None = None) -> Frame:
    """A frame as a source would give it."""
    return Frame(numbered(index) if pixels is None else pixels, index, timestamp_ns, timestamp_ns)


def write_video(path: Path, ticks: Sequence[int], *, rotation: int = 0, key_every: int = 250) -> Path:
    """An H.264 file with B-frames of ``numbered`` pictures at ``ticks`` / 90000 s."""
    with av.open(str(path), "w", options={"video_track_timescale": str(TICKS)}) as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "bf": "2", "crf": "10"})
        stream.gop_size = key_every
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        stream.codec_context.time_base = Fraction(1, TICKS)
        if rotation:
            stream.set_display_rotation(rotation)
        for index, tick in enumerate(ticks):
            picture = av.VideoFrame.from_ndarray(numbered(index), "bgr24").reformat(format="yuv420p")
            picture.pts, picture.time_base = tick, Fraction(1, TICKS)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def read_video(path: Path) -> list[tuple[int, U8]]:
    """(ticks of 1/90000 s, BGR pixels) of every picture, by PyAV alone."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = []
        for picture in container.decode(stream):
            assert picture.pts is not None
            assert picture.time_base is not None
            pixels = cast("U8", picture.to_ndarray(format="bgr24"))
            found.append((round(picture.pts * picture.time_base * TICKS), pixels))
    return found
