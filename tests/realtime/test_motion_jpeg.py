"""Motion JPEG: the same pictures and times as by FFmpeg, and FFmpeg itself for what is unusual."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from engines.types import U8
from realtime import files
from realtime.files import VideoFileSource
from realtime.source import SourceConfig
from tests.realtime.footage import read_video

SIZE = (96, 64)


def colourful(index: int) -> U8:
    """Smooth colours, another for each index: a wrong matrix or range shows."""
    x, y = np.meshgrid(np.linspace(0, 255, SIZE[0]), np.linspace(0, 255, SIZE[1]))
    return np.stack([x, y, np.full_like(x, 20 * index)], axis=2).astype(np.uint8)


def write(path: Path, count: int, *, pix_fmt: str = "yuvj422p", rotation: int = 0) -> Path:
    with av.open(str(path), "w") as clip:
        options = {"qmin": "2", "qmax": "2", "strict": "unofficial"}
        track = clip.add_stream("mjpeg", rate=30, options=options)
        track.width, track.height, track.pix_fmt = *SIZE, pix_fmt
        if rotation:
            track.set_display_rotation(rotation)
        for index in range(count):
            picture = av.VideoFrame.from_ndarray(colourful(index), "bgr24")
            picture = picture.reformat(
                format=pix_fmt, dst_colorspace=5, dst_color_range="JPEG" if "j" in pix_fmt else "MPEG"
            )
            picture.pts, picture.time_base = index, Fraction(1, 30)
            clip.mux(track.encode(picture))
        clip.mux(track.encode(None))
    return path


def pictures(path: Path) -> tuple[VideoFileSource, list[U8], list[int]]:
    source = VideoFileSource(path, SourceConfig())
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return source, [frame.pixels for frame in frames], [frame.timestamp_ns for frame in frames]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether OpenCV could give each packet that it was asked for."""
    seen: list[bool] = []
    real = files.picture_of

    def asked(data: bytes, size: tuple[int, int]) -> U8 | None:
        pixels = real(data, size)
        if data:  # the last packet of a file is empty
            seen.append(pixels is not None)
        return pixels

    monkeypatch.setattr(files, "picture_of", asked)
    return seen


def test_pictures_and_times_are_those_of_ffmpeg(tmp_path: Path, decoded: list[bool]) -> None:
    path = write(tmp_path / "clip.mkv", 5)
    source, shown, times = pictures(path)
    assert decoded == [True] * 5, "the first by both, to compare"
    truth = read_video(path)
    assert [round(t * 90_000 / 1e9) for t in times] == [ticks for ticks, _ in truth]
    for pixels, (_, expected) in zip(shown, truth, strict=True):
        assert np.abs(pixels.astype(int) - expected).mean() < 1.5
        assert pixels.flags.c_contiguous
    assert source.corrupt == 0


@pytest.mark.parametrize("how", [{"pix_fmt": "yuv422p"}, {"rotation": 90}])
def test_unusual_files_stay_with_ffmpeg(tmp_path: Path, decoded: list[bool], how: dict[str, str]) -> None:
    path = write(tmp_path / "clip.mov", 3, **how)  # type: ignore[arg-type]
    _, shown, _ = pictures(path)
    assert len(shown) == 3
    assert len(decoded) <= 1
    if "rotation" in how:
        assert shown[1].shape == (SIZE[0], SIZE[1], 3)
    else:
        assert np.abs(shown[2].astype(int) - colourful(2)).mean() < 3, "limited range, read as it is tagged"


def test_what_is_cut_off_is_left_to_ffmpeg_and_counted(tmp_path: Path, decoded: list[bool]) -> None:
    path = write(tmp_path / "clip.mkv", 6)
    with av.open(str(path)) as clip:
        spans = [(packet.pos, packet.size) for packet in clip.demux() if packet.size]
    data = bytearray(path.read_bytes())
    (whole, size), (cut, cut_size) = spans[2], spans[4]
    start = data.index(b"\xff\xd8", whole or 0)
    data[start : start + size] = bytes(size)
    start = data.index(b"\xff\xd8", cut or 0)
    data[start + cut_size // 2 : start + cut_size] = bytes(cut_size - cut_size // 2)
    path.write_bytes(data)
    source, shown, times = pictures(path)
    assert decoded == [True, True, False, True, False, True]
    assert source.corrupt >= 1
    assert 4 <= len(shown) <= 6
    assert times == sorted(set(times))
    assert np.abs(shown[-1].astype(int) - colourful(5)).mean() < 4


def test_a_picture_of_another_size_is_not_taken() -> None:
    good, data = cv2.imencode(".jpg", colourful(0))
    assert good
    assert files.picture_of(data.tobytes(), SIZE) is not None
    assert files.picture_of(data.tobytes(), (SIZE[0], SIZE[1] // 2)) is None
    assert files.picture_of(data.tobytes() + bytes(10), SIZE) is not None, "padding"
    assert files.picture_of(b"", SIZE) is None
