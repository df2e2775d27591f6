"""From one container into another without encoding again: the last step of a recording."""

from __future__ import annotations

from pathlib import Path

import av

TICKS_PER_SECOND = 90_000
TIMESCALE = {"video_track_timescale": str(TICKS_PER_SECOND), "movie_timescale": str(TICKS_PER_SECOND)}
"""Both: the offset of a first frame that is not at 0 is written in movie ticks."""


def copy_packets(part: Path, target: Path) -> None:
    """Copy the tracks into a container of ``target``'s kind, time stamps unchanged. Raises FFmpegError, OSError."""
    options = {} if target.suffix.lower() == ".mkv" else {"movflags": "faststart", **TIMESCALE}
    with av.open(str(part), "r") as source, av.open(str(target), "w", options=options) as copy:
        tracks = [*source.streams.video[:1], *source.streams.audio[:1]]
        copied = {track.index: copy.add_stream_from_template(track) for track in tracks}
        for packet in source.demux(tracks):
            if packet.dts is not None:  # None: the empty packet at the end
                packet.stream = copied[packet.stream.index]
                copy.mux(packet)
