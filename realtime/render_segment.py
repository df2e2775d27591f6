"""One segment of a film on the disk: encoded pictures with their exact ticks, whole or not there."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame

from engines.errors import SinkError
from engines.types import U8
from realtime.planes import BT709, PixelFormat, buffer_for, convert
from realtime.render_clip import Clip

_BT709, _LIMITED_RANGE = 1, 1
KEY_SECONDS = 2.0
SETTINGS = {
    "preset": "medium",
    # No B-frames: each packet is shown when it is decoded, and segments join without a gap in decoding order.
    "bf": "0",
    "forced-idr": "1",
}
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def disk_error(path: Path, error: Exception) -> SinkError:
    """What to say when ``path`` cannot be written."""
    if getattr(error, "errno", None) in DISK_FULL:
        return SinkError(
            f"the disk of {path.parent} is full", hint="free some space, then start the same command again: it goes on"
        )
    return SinkError(f"{path} cannot be written: {error}", hint="check that the folder may be written")


class SegmentWriter:
    """Encodes upright pictures into ``path``; ``close`` makes it appear. ``abandon`` leaves nothing.

    Ticks in the file count from the segment's first picture on, in the clip's own time base.
    """

    def __init__(self, path: Path, clip: Clip, crf: int, threads: int) -> None:
        """Raises SinkError."""
        self.path, self.frames = path, 0
        self._clip = clip
        self._part = path.with_name(f"{path.name}.{os.getpid()}.part")
        self._first: int | None = None
        width, height = clip.size if clip.quarters % 2 == 0 else clip.size[::-1]
        self._stored = (width, height)
        self._even: U8 = np.empty((height + height % 2, width + width % 2, 3), np.uint8)
        self._planes: U8 = buffer_for((self._even.shape[1], self._even.shape[0]), PixelFormat.I420)
        base = clip.time_base
        try:
            self._container = av.open(
                str(self._part), "w", format="mp4", options={"video_track_timescale": str(base.denominator)}
            )
            self._stream = _add_track(self._container, self._even.shape[1::-1], clip, crf, threads)
            self._container.start_encoding()
        except (FFmpegError, OSError, ValueError) as error:
            self._part.unlink(missing_ok=True)
            raise disk_error(self._part, error) from error

    def write(self, pixels: U8, ordinal: int) -> None:
        """One upright picture (H, W, 3). Raises SinkError."""
        tick = self._clip.ticks[ordinal]
        self._first = tick if self._first is None else self._first
        convert(self._fitted(pixels), PixelFormat.I420, self._planes, BT709)
        picture = VideoFrame.from_ndarray(self._planes, "yuv420p")
        picture.colorspace, picture.color_range = _BT709, _LIMITED_RANGE
        picture.pts, picture.time_base = tick - self._first, self._clip.time_base
        try:
            self._container.mux(self._stream.encode(picture))
        except (FFmpegError, OSError) as error:
            self.abandon()
            raise disk_error(self._part, error) from error
        self.frames += 1

    def close(self) -> None:
        """Finish. Raises SinkError, and then nothing is left."""
        try:
            if self.frames:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            with self._part.open("rb+") as file:
                os.fsync(file.fileno())
            self._part.replace(self.path)
        except (FFmpegError, OSError) as error:
            self._part.unlink(missing_ok=True)
            raise disk_error(self._part, error) from error

    def abandon(self) -> None:
        """Throw away what was written."""
        with contextlib.suppress(FFmpegError, OSError, ValueError):
            self._container.close()
        self._part.unlink(missing_ok=True)

    def _fitted(self, pixels: U8) -> U8:
        """As the file stores it: turned back, with even sides."""
        turned = np.rot90(pixels, -self._clip.quarters) if self._clip.quarters else pixels
        if turned.shape == self._even.shape:
            return np.ascontiguousarray(turned)
        width, height = self._stored
        self._even[:height, :width] = turned
        self._even[height:, :width] = turned[-1:]
        self._even[:, width:] = self._even[:, width - 1 : width]
        return self._even


def _add_track(container: Any, size: tuple[int, int], clip: Clip, crf: int, threads: int) -> Any:
    """H.264, yuv420p, BT.709, limited range; a key picture at least every KEY_SECONDS."""
    rate = clip.rate.limit_denominator(1001) if clip.rate > 0 else Fraction(30)
    gop = str(max(1, round(KEY_SECONDS * rate)))
    stream = container.add_stream("libx264", rate=rate, options={**SETTINGS, "crf": str(crf), "g": gop})
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.thread_count = threads
    context = stream.codec_context
    context.time_base = clip.time_base
    context.sample_aspect_ratio = clip.aspect
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = _LIMITED_RANGE
    return stream


def packets(path: Path, clip: Clip, first: int) -> Iterator[Any]:
    """The packets of a finished segment that begins with picture ``first``, with the clip's own ticks.

    Raises SinkError when it is not a whole segment.
    """
    shift = clip.ticks[first]
    try:
        with av.open(str(path), "r") as source:
            track = source.streams.video[0]
            if track.time_base is None:
                raise SinkError(f"{path} is damaged", hint="delete it and start again: it is made anew")
            scale = track.time_base / clip.time_base
            for packet in source.demux(track):
                if packet.dts is None or packet.pts is None:
                    continue
                packet.pts = packet.dts = shift + round(packet.pts * scale)
                packet.duration = max(0, round((packet.duration or 0) * scale))
                packet.time_base = clip.time_base
                yield packet
    except (FFmpegError, OSError, IndexError) as error:
        raise SinkError(f"{path} is damaged: {error}", hint="delete it and start again: it is made anew") from error
