"""From segments and the sound of the original to the finished film: packets are copied, nothing is encoded again."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from engines.errors import SinkError
from realtime.render_clip import Clip
from realtime.render_segment import disk_error, packets

Say = Callable[[str], None]
FILM_SUFFIXES = frozenset({".mp4", ".mov", ".mkv"})
KEPT = ("audio", "subtitle")
"""Kinds of tracks that are copied, those that the container takes. Pictures of covers, data and places are not: what a
telephone writes beside the film says where it was made."""


def check_tracks(clip: Clip, scratch: Path, suffix: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Which tracks of the original can be copied into a file like ``suffix``: (indices, what cannot in words).

    Found out by beginning such a file in ``scratch``, before hours are spent. Raises SinkError when sound cannot be
    kept, because a film without its sound is not what was asked for.
    """
    kept: list[int] = []
    lost: list[str] = []
    with av.open(str(clip.path), "r", metadata_errors="replace") as source:
        for stream in source.streams:
            if stream.type not in KEPT:
                continue
            name = getattr(getattr(stream, "codec_context", None), "name", None) or "unknown"
            if _takes(stream, scratch, suffix):
                kept.append(stream.index)
            elif stream.type == "audio":
                raise SinkError(
                    f"{suffix} files cannot hold the sound of {clip.path.name} ({name})", hint="name the output .mkv"
                )
            else:
                lost.append(f"{stream.type} track {stream.index} ({name})")
    return tuple(kept), tuple(lost)


def _takes(stream: Any, scratch: Path, suffix: str) -> bool:
    probe = scratch / f"probe{suffix}"
    try:
        with av.open(str(probe), "w") as container:
            container.add_stream_from_template(stream)
            container.start_encoding()
    except (FFmpegError, ValueError, OSError):
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


def join(
    out: Path, clip: Clip, segments: Sequence[tuple[Path, int]], tracks: Sequence[int], *, say: Say = lambda _: None
) -> None:
    """Write ``out`` from ``segments`` (file, ordinal of its first picture) and the original's ``tracks``.

    Raises SinkError; ``out`` is then not there.
    """
    options = {} if out.suffix.lower() == ".mkv" else _mp4_options(clip)
    try:
        with (
            av.open(str(clip.path), "r", metadata_errors="replace") as source,
            av.open(str(out), "w", options=options) as film,
        ):
            video = _video_track(film, segments[0][0], clip)
            copied = {index: _copied_track(film, source.streams[index]) for index in tracks}
            both = heapq.merge(
                _timed(_film_packets(segments, clip, video), clip.time_base),
                _timed(_other_packets(source, copied), None),
                key=lambda item: item[0],
            )
            for _, packet in both:
                film.mux_one(packet)
        with out.open("rb+") as file:
            os.fsync(file.fileno())
    except SinkError:
        out.unlink(missing_ok=True)
        raise
    except (FFmpegError, OSError, ValueError) as error:
        out.unlink(missing_ok=True)
        raise disk_error(out, error) from error
    say(f"{len(segments)} segments joined")


def _mp4_options(clip: Clip) -> dict[str, str]:
    scale = str(clip.time_base.denominator)
    return {"movflags": "faststart", "video_track_timescale": scale, "movie_timescale": scale}


def _video_track(film: Any, first: Path, clip: Clip) -> Any:
    with av.open(str(first), "r") as segment:
        track = film.add_stream_from_template(segment.streams.video[0])
    track.time_base = clip.time_base
    if clip.quarters:
        track.set_display_rotation(90 * clip.quarters)
    return track


def _copied_track(film: Any, stream: Any) -> Any:
    track = film.add_stream_from_template(stream)
    language = stream.metadata.get("language")
    if language:
        track.metadata["language"] = language
    return track


def _film_packets(segments: Sequence[tuple[Path, int]], clip: Clip, track: Any) -> Iterator[Any]:
    """All of them in order, each lasting until the next; the last one as long as the original's."""
    held: Any = None
    for path, first in segments:
        for packet in packets(path, clip, first):
            packet.stream = track
            if held is not None:
                held.duration = packet.pts - held.pts
                yield held
            held = packet
    if held is not None:
        held.duration = clip.last
        yield held


def _other_packets(source: Any, copied: dict[int, Any]) -> Iterator[Any]:
    """Of the copied tracks, their own ticks unchanged."""
    if not copied:
        return
    for packet in source.demux(*(source.streams[index] for index in copied)):
        if packet.dts is not None:
            packet.stream = copied[packet.stream_index]
            yield packet


def _timed(given: Iterator[Any], base: Fraction | None) -> Iterator[tuple[float, Any]]:
    """With the second at which each is decoded."""
    for packet in given:
        yield float(packet.dts * (base or packet.time_base)), packet
