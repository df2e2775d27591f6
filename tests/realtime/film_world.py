"""Small films for the tests of film mode: a cartoon face that wanders, with a tone, at an uneven rate, turned."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from engines.types import F32, F64, U8, Detection, Frame, Swap

BASE = Fraction(1, 12_800)


def ticks_of(count: int, *, uneven: bool = True, start: int = 0) -> list[int]:
    """25 pictures a second, every third one 100 ticks late."""
    return [start + 512 * i + (100 if uneven and i % 3 == 2 else 0) for i in range(count)]


def picture(index: int, size: tuple[int, int]) -> U8:
    """Dark, with a bright square that moves: the "face". Its height says the number."""
    pixels = np.full((size[1], size[0], 3), 40, np.uint8)
    x = 8 + 2 * (index % 10)
    pixels[10 : 10 + 16, x : x + 16] = 200
    return pixels


def write_film(
    path: Path,
    count: int = 30,
    size: tuple[int, int] = (64, 48),
    *,
    uneven: bool = True,
    start: int = 0,
    sound: str | None = "aac",
    turned: int = 0,
    gop: int = 10,
) -> Path:
    """H.264 and sound. ``turned``: degrees counter-clockwise in the file's metadata."""
    with av.open(str(path), "w", options={"video_track_timescale": str(BASE.denominator)}) as film:
        video = film.add_stream("libx264", rate=25, options={"g": str(gop), "crf": "10", "bf": "2"})
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = BASE
        if turned:
            video.set_display_rotation(turned)
        audio = film.add_stream(sound, rate=48_000) if sound else None
        for index, tick in enumerate(ticks_of(count, uneven=uneven, start=start)):
            frame = VideoFrame.from_ndarray(picture(index, size), "bgr24").reformat(format="yuv420p")
            frame.pts, frame.time_base = tick, BASE
            film.mux(video.encode(frame))
        film.mux(video.encode(None))
        if audio is not None:
            _sing(film, audio, count / 25)
    return path


def _sing(film: av.container.OutputContainer, audio, seconds: float) -> None:
    for block in range(int(seconds * 48_000 / 1024)):
        wave = 0.2 * np.sin(2 * np.pi * 440 * (block * 1024 + np.arange(1024)) / 48_000)
        plain = audio.codec_context.name == "pcm_s16le"
        samples = (wave * 32767).astype(np.int16)[None] if plain else wave.astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16" if plain else "fltp", layout="mono")
        frame.sample_rate, frame.pts = 48_000, block * 1024
        film.mux(audio.encode(frame))
    film.mux(audio.encode(None))


def tracks(path: Path) -> dict[str, list]:
    """Ticks of the pictures in seconds, mean levels, rotation and the packets of the sound."""
    with av.open(str(path)) as film:
        frames = [(f.pts * f.time_base, f.to_ndarray(format="bgr24"), f.rotation) for f in film.decode(video=0)]
    sound: list = []
    with av.open(str(path)) as film:
        if film.streams.audio:
            sound = [(p.pts * p.time_base, bytes(p)) for p in film.demux(audio=0) if p.dts is not None]
    return {
        "times": [f[0] for f in frames], "pictures": [f[1] for f in frames], "turned": [f[2] for f in frames],
        "sound": sound,
    }  # fmt: skip


class SquareDetector:
    """Finds the bright square; five points in it."""

    name = "square"

    def search(self, frame: Frame) -> Detection | None:
        ys, xs = np.nonzero(frame.pixels[..., 1] > 120)
        if not len(xs):
            return None
        box = np.array([xs.min(), ys.min(), xs.max(), ys.max()], np.float32)
        fractions: F32 = np.array([(0.3, 0.35), (0.7, 0.35), (0.5, 0.55), (0.35, 0.75), (0.65, 0.75)], np.float32)
        points = box[:2] + fractions * (box[2:] - box[:2])
        return Detection(frame.index, box, points.astype(np.float32), "points5", 0.9)

    def follow(self, frame: Frame, last: Detection) -> Detection | None:
        return self.search(frame)

    def confirm(self, frame: Frame, detection: Detection) -> bool:
        return True

    def close(self) -> None:
        pass


__all__ = ["BASE", "F64", "SquareDetector", "Swap", "picture", "ticks_of", "tracks", "write_film"]
