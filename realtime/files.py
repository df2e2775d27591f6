"""Inputs that lie on the disk: video files through PyAV, and folders of pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from engines.errors import SourceError, SourceFormatError, SourceNotFoundError
from engines.picture import MAX_PIXELS, decode
from engines.types import U8, Frame
from realtime.motion_jpeg import alike, is_plain, picture_of
from realtime.pacing import now_ns
from realtime.source import SourceConfig, letterbox

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})

_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
_BT709, _BT601 = 1, 5  # SWS_CS_ITU709, SWS_CS_ITU601
_SCALE_FLAGS = 0x2 | 0x40000
"""libswscale: bilinear chroma with accurate rounding. Without it flat colours come out up to 4 levels too dark."""
_DECODER_THREADS = 2
_LIMITS = {"max_pixels": str(MAX_PIXELS)}
_OPTIONS = {
    # A list of other files, or a network session, is no video file whatever it is called: FFmpeg would open what it
    # names. The demuxers' own names, as av.formats_available has them.
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,h264,hevc,ivf,mjpeg,m4v",
    "protocol_whitelist": "file",
    **_LIMITS,
}


class VideoFileSource:
    """Every picture of a video file's first video track, in order, with the file's own time stamps from 0 on.

    The rotation that phones write is applied. Damaged packets are skipped and counted in ``corrupt``. Non-square pixels
    are shown as they are stored.
    """

    live = False

    def __init__(self, path: Path, config: SourceConfig) -> None:
        if not path.is_file():
            raise SourceNotFoundError(f"there is no file {path}", hint="check the path and its spelling")
        self.name = str(path)
        self.corrupt = 0
        """Packets and pictures that were damaged."""
        self._path = path
        self._loop = config.loop
        self._index = 0
        self._shift_ns = 0
        self._last_ns = -1
        self._plain_jpeg: bool | None = None
        """Whether OpenCV decodes this file's pictures too; None before the first one."""
        self._container, self._stream = _open_video(path)
        rate = self._stream.average_rate or self._stream.base_rate
        self.fps = float(rate) if rate else 30.0
        self._pictures = self._decode()
        try:
            # The first picture says the true size and whether this is a video at all.
            self._next: tuple[U8, int] | None = next(self._pictures, None)
        except SourceError:
            self._container.close()
            raise
        if self._next is None:
            self._container.close()
            raise _no_video(path, "no picture in it could be decoded")
        height, width = self._next[0].shape[:2]
        self.size = (width, height)
        codec = self._stream.codec_context.name
        self.report = f"{path.name}: {codec} {width}x{height} at {self.fps:.4g} fps"

    def read(self) -> Frame | None:
        """The next frame; None at the end. Raises SourceError when the file cannot be read any more."""
        if self._next is None and self._loop and self._index:
            self._rewind()
        if self._next is None:
            return None
        pixels, timestamp_ns = self._next
        frame = Frame(letterbox(pixels, self.size), self._index, now_ns(), timestamp_ns)
        self._index += 1
        self._next = next(self._pictures, None)
        return frame

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._next, self._loop = None, False
        self._pictures = iter(())
        self._container.close()

    def _rewind(self) -> None:
        self._container.close()
        self._container, self._stream = _open_video(self._path)
        self._shift_ns = self._last_ns + round(1e9 / self.fps)
        self._pictures = self._decode()
        self._next = next(self._pictures, None)

    def _decode(self) -> Iterator[tuple[U8, int]]:
        """Pictures with strictly growing time stamps in nanoseconds."""
        start: int | None = None
        period_ns = round(1e9 / self.fps)
        for pixels, timing in self._frames():
            if timing.pts is not None and timing.time_base is not None:
                start = timing.pts if start is None else start
                timestamp_ns = self._shift_ns + round((timing.pts - start) * timing.time_base * 1_000_000_000)
            else:
                timestamp_ns = self._last_ns + period_ns
            if timestamp_ns <= self._last_ns:  # a broken file
                timestamp_ns = self._last_ns + period_ns
            self._last_ns = max(timestamp_ns, 0)
            yield pixels, self._last_ns

    def _frames(self) -> Iterator[tuple[U8, Packet[VideoStream] | VideoFrame]]:
        """Pictures in the order of presentation, and what knows their times; damaged packets are stepped over."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError:  # the file is cut off: what came before is still good
                self.corrupt += 1
                packet = None
            if packet is None:
                return
            whole = picture_of(bytes(packet), self.size) if self._plain_jpeg else None
            if whole is not None:
                yield whole, packet
                continue
            try:
                pictures = packet.decode()
            except FFmpegError:
                self.corrupt += 1
                continue
            for picture in pictures:
                self.corrupt += picture.is_corrupt
                pixels = _upright_bgr(picture)
                if self._plain_jpeg is None:
                    size = pixels.shape[1], pixels.shape[0]
                    usual = _is_motion_jpeg(self._stream) and is_plain(picture)
                    self._plain_jpeg = usual and alike(pixels, picture_of(bytes(packet), size))
                yield pixels, picture


def _open_video(path: Path) -> tuple[InputContainer, VideoStream]:
    try:
        container = av.open(str(path), "r", options=_OPTIONS, metadata_errors="replace")
    except PermissionError as error:
        raise SourceError(f"{path} may not be read: {error.strerror}", hint="change the file's permissions") from error
    except InvalidDataError as error:
        raise _no_video(path, "it is something else, or was cut off before its end was written") from error
    except (FFmpegError, OSError) as error:
        raise _no_video(path, error.strerror or str(error)) from error
    if not container.streams.video:
        container.close()
        raise _no_video(path, "it has no video track")
    stream = container.streams.video[0]
    if getattr(stream, "codec_context", None) is None:  # against its annotation
        container.close()
        raise _no_video(path, "there is no decoder for it")
    stream.codec_context.options = _LIMITS
    if not _is_motion_jpeg(stream):  # decoders in several threads give a packet's picture with a later packet
        stream.thread_type = "AUTO"
        stream.thread_count = _DECODER_THREADS
    return container, stream


def _is_motion_jpeg(stream: VideoStream) -> bool:
    return bool(stream.codec_context.name == "mjpeg")


def _no_video(path: Path, reason: str) -> SourceFormatError:
    return SourceFormatError(
        f"{path} is not a video that can be read: {reason}",
        hint="give an MP4, MKV, MOV or WebM file that a video player shows, or a folder of pictures",
    )


def _upright_bgr(picture: VideoFrame) -> U8:
    """BGR pixels (H, W, 3) of a decoded picture, turned as its metadata asks.

    A file that does not name its matrix is taken as BT.709 from 720 lines on and as BT.601 below, as players do.
    """
    guess = _BT709 if picture.height >= 720 else _BT601
    colorspace = guess if picture.colorspace == _UNSPECIFIED else None
    bgr = picture.reformat(format="bgr24", src_colorspace=colorspace, interpolation=_SCALE_FLAGS)
    pixels = cast("U8", bgr.to_ndarray())
    quarters = round(picture.rotation / 90) % 4  # counter-clockwise, as numpy.rot90 turns
    return np.ascontiguousarray(np.rot90(pixels, quarters)) if quarters else pixels


class ImageFolderSource:
    """The pictures of a folder in natural order (2 before 10), at ``config.fps``. The first one gives the size."""

    live = False

    def __init__(self, path: Path, config: SourceConfig) -> None:
        self.name = str(path)
        self.fps = config.fps or 30.0
        self._loop = config.loop
        self._index = 0
        self._paths = sorted(
            (entry for entry in path.iterdir() if entry.suffix.lower() in PICTURE_SUFFIXES and entry.is_file()),
            key=lambda entry: natural_key(entry.name),
        )
        if not self._paths:
            raise SourceFormatError(
                f"the folder {path} holds no pictures", hint="put JPEG, PNG or WebP files into it, or give a video file"
            )
        height, width = _read_picture(self._paths[0]).shape[:2]
        self.size = (width, height)
        self.report = f"{path.name}: {len(self._paths)} pictures, {width}x{height} at {self.fps:g} fps"

    def read(self) -> Frame | None:
        """The next picture; None after the last one. Raises SourceFormatError naming a file that cannot be read."""
        count = len(self._paths)
        if not count or (self._index >= count and not self._loop):
            return None
        pixels = letterbox(_read_picture(self._paths[self._index % count]), self.size)
        frame = Frame(pixels, self._index, now_ns(), round(self._index * 1e9 / self.fps))
        self._index += 1
        return frame

    def close(self) -> None:
        """Forget the list. May be called twice."""
        self._paths = []


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key under which "img2" comes before "img10"."""
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in re.split(r"(\d+)", name)]


def _read_picture(path: Path) -> U8:
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise SourceFormatError(f"the picture {path} cannot be read: {error}", hint="remove or replace it") from error
    except ValueError as error:
        reason = f"{path} is not a picture that can be read: {error}"
        raise SourceFormatError(reason, hint="remove or replace the file") from error
