"""A video file as film mode sees it: every picture's own time stamp, and reading from any of them on.

Pictures are known by their time stamps in ticks of the file's own clock, so a variable rate comes out as it went in,
and sound that is copied stays beside the lips. Rotation is undone for the work and put back by the writer.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.error import FFmpegError

from engines.errors import SourceError, SourceFormatError
from engines.types import U8, Frame
from realtime.files import _open_video, _upright_bgr
from realtime.pacing import now_ns

_REMUX = "remux it first, nothing is lost: ffmpeg -i IN -c copy OUT.mp4"


@dataclass(frozen=True, slots=True)
class Clip:
    """What a file's first video track holds. Ordinals count its pictures in the order in which they are shown."""

    path: Path
    size: tuple[int, int]
    """(width, height) upright."""
    ticks: tuple[int, ...]
    """When each picture is shown, strictly growing, in units of ``time_base`` seconds."""
    keys: tuple[int, ...]
    """Ticks of those from which decoding can begin."""
    time_base: Fraction
    rate: Fraction
    """Pictures a second, on average."""
    quarters: int
    """Quarter turns counter-clockwise that make a stored picture upright, 0..3."""
    aspect: Fraction
    """Width over height of one stored pixel."""
    last: int
    """Ticks for which the last picture is shown."""
    depth: int
    """Bits of one number of a picture."""

    def seconds(self, ordinal: int) -> float:
        """When picture ``ordinal`` is shown, from the first on."""
        return float((self.ticks[ordinal] - self.ticks[0]) * self.time_base)

    def at(self, seconds: float) -> int:
        """Ordinal of the first picture that is shown ``seconds`` after the first or later."""
        return bisect_left(self.ticks, self.ticks[0] + float(Fraction(seconds) / self.time_base))


def examine(path: Path) -> Clip:
    """Read the whole index of a file, and its first picture. Raises SourceError and its kinds."""
    container, stream = _open_video(path)
    try:
        ticks, keys, last = set(), set(), 0
        latest = -1
        for packet in container.demux(stream):
            if packet.dts is None and packet.pts is None and not packet.size:
                continue  # the end
            if packet.is_discard:
                continue
            if packet.pts is None:
                raise SourceFormatError(f"{path} holds pictures without a time stamp", hint=_REMUX)
            ticks.add(packet.pts)
            if packet.is_keyframe:
                keys.add(packet.pts)
            if packet.pts > latest:
                latest, last = packet.pts, packet.duration or 0
        if not ticks or not keys or stream.time_base is None:
            raise SourceFormatError(f"{path} holds no pictures", hint="give a video that a player shows")
        rate = stream.average_rate or stream.guessed_rate or Fraction(30)
        aspect = stream.sample_aspect_ratio
        base = stream.time_base
        first = _first_picture(path)
    except FFmpegError as error:
        raise SourceError(f"{path} cannot be read: {error}", hint="is the file whole?") from error
    finally:
        container.close()
    depth, quarters, size = first
    return Clip(
        path, size, tuple(sorted(ticks)), tuple(sorted(keys)), base, Fraction(rate), quarters,
        Fraction(aspect) if aspect else Fraction(1), last or max(1, round(1 / rate / base)), depth,
    )  # fmt: skip


def _first_picture(path: Path) -> tuple[int, int, tuple[int, int]]:
    """(bits of a number, quarter turns, upright size)."""
    container, stream = _open_video(path)
    try:
        for picture in container.decode(stream):
            quarters = round(picture.rotation / 90) % 4
            size = (picture.height, picture.width) if quarters % 2 else (picture.width, picture.height)
            depth = max((component.bits for component in picture.format.components), default=8)
            return depth, quarters, size
    finally:
        container.close()
    raise SourceFormatError(f"{path}: no picture in it could be decoded", hint="give a video that a player shows")


class ClipReader:
    """Gives pictures from an ordinal on, in order. A frame's ``index`` is its ordinal."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self.damaged = 0
        """Packets that could not be decoded; their pictures are missing."""

    def read(self, first: int, end: int) -> Generator[Frame, None, None]:
        """Pictures ``first`` .. ``end`` - 1, upright. Raises SourceError when the file is another one than before."""
        clip = self.clip
        container, stream = _open_video(clip.path)
        key = clip.keys[max(0, bisect_right(clip.keys, clip.ticks[first]) - 1)]
        at = first
        try:
            if key > clip.ticks[0]:
                container.seek(key, stream=stream, backward=True, any_frame=False)
            for packet in container.demux(stream):
                try:
                    pictures = packet.decode()
                except FFmpegError:
                    self.damaged += 1
                    continue
                for picture in pictures:
                    if picture.pts is None or picture.pts <= (clip.ticks[at - 1] if at else clip.ticks[0] - 1):
                        continue  # before the beginning, or a picture that was given twice
                    at = bisect_left(clip.ticks, picture.pts, at)
                    if at >= end:
                        return
                    if clip.ticks[at] != picture.pts:
                        raise SourceError(f"{clip.path} has changed, or its index is wrong", hint=_REMUX)
                    yield self._frame(_upright_bgr(picture), at)
                    at += 1
                    if at >= end:
                        return
        except FFmpegError as error:
            raise SourceError(f"{clip.path} cannot be read: {error}", hint="is the disk still there?") from error
        finally:
            container.close()

    def _frame(self, pixels: U8, ordinal: int) -> Frame:
        width, height = self.clip.size
        if pixels.shape != (height, width, 3):
            raise SourceFormatError(
                f"the size of the pictures in {self.clip.path} changes", hint="cut it where the size changes"
            )
        shown_ns = round((self.clip.ticks[ordinal] - self.clip.ticks[0]) * self.clip.time_base * 1_000_000_000)
        return Frame(np.ascontiguousarray(pixels), ordinal, now_ns(), shown_ns)
