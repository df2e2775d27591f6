"""Video files and picture folders: every picture in order, with the file's own times; clear errors for the rest."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from engines.errors import SourceFormatError, SourceNotFoundError
from engines.types import Frame
from realtime.files import ImageFolderSource, VideoFileSource, natural_key
from realtime.source import Source, SourceConfig
from tests.realtime.footage import number_of, numbered, write_video

CONFIG = SourceConfig()
VFR_TICKS = [4500, 7503, 8000, 20001, 23004, 90000, 90033, 180007]


def read_all(source: Source) -> list[Frame]:
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    return frames


def test_a_variable_rate_file_keeps_its_times_from_zero_and_every_picture_in_order(tmp_path: Path) -> None:
    source = VideoFileSource(write_video(tmp_path / "vfr.mp4", VFR_TICKS), CONFIG)
    frames = read_all(source)
    source.close()
    source.close()
    assert [number_of(frame.pixels) for frame in frames] == list(range(len(VFR_TICKS)))
    assert [frame.index for frame in frames] == list(range(len(VFR_TICKS)))
    assert [frame.timestamp_ns for frame in frames] == [
        round((tick - VFR_TICKS[0]) * 1e9 / 90_000) for tick in VFR_TICKS
    ]
    assert source.size == (64, 48)
    assert not source.live
    assert all(frame.pixels.flags.c_contiguous and frame.size == source.size for frame in frames)
    assert source.corrupt == 0
    assert source.read() is None


def test_loop_goes_on_counting(tmp_path: Path) -> None:
    source = VideoFileSource(write_video(tmp_path / "a.mp4", [0, 3000, 6000]), SourceConfig(loop=True))
    frames = [source.read() for _ in range(7)]
    source.close()
    assert [number_of(frame.pixels) for frame in frames if frame] == [0, 1, 2, 0, 1, 2, 0]
    assert [frame.index for frame in frames if frame] == list(range(7))
    stamps = [frame.timestamp_ns for frame in frames if frame]
    steps = np.diff(stamps)
    assert (np.abs(steps - 1e9 / 30) < 2).all()


@pytest.mark.parametrize("degrees", [90, -90, 180])
def test_the_rotation_of_phones_is_applied(tmp_path: Path, degrees: int) -> None:
    source = VideoFileSource(write_video(tmp_path / "phone.mp4", [0, 3000], rotation=degrees), CONFIG)
    source.read()
    second = source.read()  # its one bright bar is at the right, when upright
    source.close()
    assert second is not None
    bright = np.argwhere(second.pixels[..., 1] > 128).mean(axis=0) / second.pixels.shape[:2]
    # The display matrix turns counter-clockwise: the right edge comes to the top, the bottom or the left.
    expected = {90: (0.06, 0.5), -90: (0.94, 0.5), 180: (0.5, 0.06)}[degrees]
    assert source.size == ((48, 64) if abs(degrees) == 90 else (64, 48))
    assert np.allclose(bright, expected, atol=0.06)


def test_a_damaged_stretch_is_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    path = write_video(tmp_path / "bad.mp4", [3000 * n for n in range(60)], key_every=6)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        spans = [(packet.pos, packet.size) for packet in container.demux() if packet.size]
    for position, size in spans[24:30]:
        assert position is not None
        data[position : position + size] = b"\xff" * size
    path.write_bytes(data)
    source = VideoFileSource(path, CONFIG)
    frames = read_all(source)
    source.close()
    assert source.corrupt >= 6
    numbers = [number_of(frame.pixels) for frame in frames]
    assert numbers[:24] == list(range(24))
    assert numbers[-30:] == list(range(30, 60))
    assert [frame.index for frame in frames] == list(range(len(frames)))
    stamps = [frame.timestamp_ns for frame in frames]
    assert stamps == sorted(set(stamps))
    assert stamps[-1] == round(59 * 1e9 / 30)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"nothing\.mp4"):
        VideoFileSource(tmp_path / "nothing.mp4", CONFIG)


@pytest.mark.parametrize("content", [b"", b"this is no video\n" * 500, b"\x00\x00\x00\x18ftypisom" + bytes(300)])
def test_a_file_that_is_no_video(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceFormatError, match="not a video") as caught:
        VideoFileSource(path, CONFIG)
    assert "MP4" in caught.value.hint
    assert "Errno" not in caught.value.message


def test_a_folder_is_read_in_natural_order_and_fitted_to_the_first_picture(tmp_path: Path) -> None:
    for name, index in (("f10.png", 3), ("f2.PNG", 2), ("f1.webp", 1)):
        ok, data = cv2.imencode(Path(name).suffix.lower(), numbered(index))
        assert ok
        (tmp_path / name).write_bytes(data.tobytes())
    tall = np.full((96, 32, 3), 200, np.uint8)
    ok, data = cv2.imencode(".jpg", tall)
    (tmp_path / "f11.jpg").write_bytes(data.tobytes())
    (tmp_path / "notes.txt").write_text("no picture")
    source = ImageFolderSource(tmp_path, SourceConfig(fps=10.0))
    frames = read_all(source)
    source.close()
    assert [number_of(frame.pixels) for frame in frames[:3]] == [1, 2, 3]
    assert [frame.timestamp_ns for frame in frames] == [0, 100_000_000, 200_000_000, 300_000_000]
    last = frames[3].pixels
    assert last.shape == (48, 64, 3)
    assert (last[:, :24] == 0).all(), "a bar at the left"
    assert (last[:, 40:] == 0).all(), "a bar at the right"
    assert (np.abs(last[:, 24:40].astype(int) - 200) < 4).all()
    assert source.read() is None


def test_a_folder_without_pictures_and_one_with_a_broken_picture(tmp_path: Path) -> None:
    with pytest.raises(SourceFormatError, match="holds no pictures"):
        ImageFolderSource(tmp_path, CONFIG)
    (tmp_path / "a.png").write_bytes(b"\x89PNG but not really")
    with pytest.raises(SourceFormatError, match=r"a\.png"):
        ImageFolderSource(tmp_path, CONFIG)


def test_natural_order() -> None:
    assert sorted(["b1", "a10", "A2", "a1b10", "a1b9"], key=natural_key) == ["a1b9", "a1b10", "A2", "a10", "b1"]
    assert sorted(["10.png", "9.png", "1.png"], key=natural_key) == ["1.png", "9.png", "10.png"]
