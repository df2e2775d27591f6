"""Pieces of a video file for ``personacam verify``: their luma, and where the face is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from av.error import FFmpegError

from engines.errors import DetectorError, SourceFormatError, SourceNotFoundError
from engines.mark_detect import Gathered
from engines.picture import decode
from engines.types import U8, Frame
from realtime.detect import Detector
from realtime.files import PICTURE_SUFFIXES, _open_video, _upright_bgr
from realtime.track import Tracker

PIECE_S = 3.0
MAX_LINES = 720
"""Larger pictures are reduced first: neither faces nor the mark need more."""
Progress = Callable[[float], None]
"""Share of the work that is done, 0..1."""


def gather(path: Path, seconds: float, detector: Detector, progress: Progress) -> Iterator[Gathered]:
    """One sum for each piece of PIECE_S, spread evenly over the file, ``seconds`` of them in all.

    A picture file is one piece. Raises SourceError for a file that cannot be read, and for one without a picture.
    """
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise SourceNotFoundError(f"{path} {kind}", hint="give one video or picture file")
    if path.suffix.lower() in PICTURE_SUFFIXES:
        yield _of_picture(path, detector)
        return
    starts, empty = _starts(path, seconds), True
    for number, start in enumerate(starts):
        piece, tracker = Gathered(), Tracker(detector)
        for done, pixels in _pictures(path, start):
            _add(piece, pixels, tracker)
            progress((number + min(done / PIECE_S, 1.0)) / len(starts))
        progress((number + 1) / len(starts))
        if piece.frames:
            empty = False
            yield piece
    if empty:
        raise SourceFormatError(f"no picture of {path} could be decoded", hint="give a file that a player shows")


def _starts(path: Path, seconds: float) -> list[float]:
    """Where the pieces begin, in seconds; a file that does not say how long it is gives its beginning."""
    with _open_video(path)[0] as container:
        duration = container.duration / av.time_base if container.duration else 0.0
    count = max(1, math.ceil(min(seconds, duration) / PIECE_S - 0.5))
    room = max(duration - PIECE_S, 0.0)
    return [room * k / max(count - 1, 1) for k in range(count)]


def _pictures(path: Path, start: float) -> Iterator[tuple[float, U8]]:
    """PIECE_S of BGR pictures from ``start`` on, each with its time from there. Damaged ones are stepped over."""
    container, stream = _open_video(path)
    with container:
        if start > 0.0:
            try:
                container.seek(int(start * av.time_base))
            except FFmpegError:  # no index: from the beginning
                container.close()
                container, stream = _open_video(path)
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                frames = packet.decode() if packet is not None else []
            except FFmpegError:
                continue
            if packet is None:
                return
            for frame in frames:
                time = float(frame.time or 0.0) - float((stream.start_time or 0) * (stream.time_base or 0)) - start
                if time >= PIECE_S:
                    return
                if time >= -1e-3:
                    yield time, np.ascontiguousarray(_upright_bgr(frame))


def _of_picture(path: Path, detector: Detector) -> Gathered:
    try:
        pixels = decode(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SourceFormatError(f"the picture {path} cannot be read: {error}", hint="give a whole picture") from error
    piece = Gathered()
    _add(piece, pixels, Tracker(detector))
    return piece


def _add(piece: Gathered, pixels: U8, tracker: Tracker) -> None:
    if pixels.shape[0] > MAX_LINES:
        size = (max(1, round(pixels.shape[1] * MAX_LINES / pixels.shape[0])), MAX_LINES)
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    frame = Frame(pixels, piece.frames, 0, 0)
    try:
        detection = tracker.update(frame)
        tracker.settle(frame)
    except DetectorError:
        tracker.reset()
        detection = None
    outline = None
    if detection is not None:
        outline = np.asarray(cv2.convexHull(detection.landmarks.astype(np.float32))[:, 0], np.float32)
    piece.add(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), np.uint8), outline)
