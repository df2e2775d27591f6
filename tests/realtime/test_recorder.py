"""Recordings: exact time stamps, finished after failures, readable after a kill, clear about a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engines.errors import SinkError
from realtime.files import VideoFileSource
from realtime.recorder import RecorderSink
from realtime.source import SourceConfig
from tests.realtime.footage import frame, number_of, numbered, read_video, write_video

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_variable_rate_passes_from_file_to_file_unchanged(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(1)
    ticks = [0, *np.cumsum(rng.integers(1, 9000, 60)).tolist()]
    source = VideoFileSource(write_video(tmp_path / "in.mp4", ticks), SourceConfig())
    sink = RecorderSink(tmp_path / f"out{suffix}")
    sink.open(source.size, source.fps)
    while (read := source.read()) is not None:
        sink.send(read.pixels, read)
    assert sink.part.exists()
    assert not sink.path.exists(), "the target appears when it is finished"
    sink.close()
    sink.close()
    written = read_video(sink.path)
    assert [tick for tick, _ in written] == ticks
    assert [number_of(pixels) for _, pixels in written] == list(range(61))
    assert [entry.name for entry in tmp_path.iterdir() if "part" in entry.name or "finishing" in entry.name] == []
    assert "61 frames" in sink.report


def test_mkv_keeps_milliseconds(tmp_path: Path) -> None:
    sink = RecorderSink(tmp_path / "out.mkv")
    sink.open((64, 48), 30.0)
    for index, milliseconds in enumerate((0, 33, 67, 1000)):
        sink.send(numbered(index), frame(index, milliseconds * 1_000_000))
    sink.close()
    assert [tick // 90 for tick, _ in read_video(sink.path)] == [0, 33, 67, 1000]


def test_a_first_frame_that_is_late_stays_late_and_equal_times_are_moved_apart(tmp_path: Path) -> None:
    sink = RecorderSink(tmp_path / "late.mp4")
    sink.open((64, 48), 30.0)
    for index, tick in enumerate((8753, 12000, 12000, 11000, 15000)):
        sink.send(numbered(index), frame(index, round(tick * 1e9 / 90_000)))
    sink.close()
    assert [tick for tick, _ in read_video(sink.path)] == [8753, 12000, 12001, 12002, 15000]


def test_colours_survive_as_bt709(tmp_path: Path) -> None:
    sink = RecorderSink(tmp_path / "colour.mp4")
    sink.open((64, 48), 30.0)
    colour = np.array([20, 30, 220], np.uint8)
    for index in range(3):
        sink.send(np.broadcast_to(colour, (48, 64, 3)).copy(), frame(index, index * 33_000_000))
    sink.close()
    source = VideoFileSource(sink.path, SourceConfig())
    read = source.read()
    source.close()
    assert read is not None
    assert np.abs(read.pixels.astype(int) - colour).max() <= 3  # BT.601 by mistake: 20 levels


def test_odd_sides_get_their_last_row_and_column_once_more(tmp_path: Path) -> None:
    picture = np.full((47, 63, 3), 60, np.uint8)
    picture[:, 48:] = 200
    sink = RecorderSink(tmp_path / "odd.mp4")
    sink.open((63, 47), 30.0)
    for index in range(4):
        sink.send(picture, frame(index, index * 33_000_000))
    sink.close()
    pixels = read_video(sink.path)[0][1]
    assert pixels.shape == (48, 64, 3)
    assert abs(int(pixels[20, 63, 1]) - 200) < 6
    assert abs(int(pixels[47, 10, 1]) - 60) < 6


def test_the_file_is_finished_after_an_exception(tmp_path: Path) -> None:
    sink = RecorderSink(tmp_path / "out.mp4")

    def record_and_fail() -> None:
        try:
            sink.open((64, 48), 30.0)
            for index in range(10):
                sink.send(numbered(index), frame(index, index * 33_333_333))
            raise ZeroDivisionError
        finally:
            sink.close()

    with pytest.raises(ZeroDivisionError):
        record_and_fail()
    assert [number_of(pixels) for _, pixels in read_video(sink.path)] == list(range(10))


def test_without_a_frame_there_is_no_file_and_an_old_one_stays(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"old")
    sink = RecorderSink(target)
    sink.close()
    sink.open((64, 48), 30.0)
    sink.close()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(SinkError, match="not open"):
        sink.send(numbered(0), frame(0, 0))


def test_two_recordings_whose_names_differ_only_in_the_ending(tmp_path: Path) -> None:
    sinks = [RecorderSink(tmp_path / name) for name in ("out.mp4", "out.mkv", "out.mov")]
    for sink in sinks:
        sink.open((64, 48), 30.0)
    for index in range(6):
        for number, sink in enumerate(sinks):
            sink.send(numbered(10 * number + index), frame(index, index * 33_333_333))
    for sink in sinks:
        sink.close()
    for number, sink in enumerate(sinks):
        assert [number_of(pixels) for _, pixels in read_video(sink.path)] == [10 * number + i for i in range(6)]
    assert len(list(tmp_path.iterdir())) == 3


def test_what_a_crash_left_is_kept_and_told(tmp_path: Path) -> None:
    left = [tmp_path / "out.mp4.part.mp4", tmp_path / "out.mp4.part-2.mp4"]
    for path in left:
        path.write_bytes(path.name.encode())
    sink = RecorderSink(tmp_path / "out.mp4")
    for frames in (3, 0):
        sink.open((64, 48), 30.0)
        assert sink.part == tmp_path / "out.mp4.part-3.mp4"
        assert all(str(path) in sink.report for path in left)
        for index in range(frames):
            sink.send(numbered(index), frame(index, index * 33_333_333))
        sink.close()
        assert all(str(path) in sink.report for path in left)
        assert [path.read_bytes() for path in left] == [path.name.encode() for path in left]
        assert sorted(tmp_path.iterdir()) == sorted([*left, sink.path])
    for path in left:
        path.unlink()
    sink.open((64, 48), 30.0)
    assert sink.part == left[0]
    assert "unfinished" not in sink.report
    sink.close()


def test_a_target_that_cannot_be_made_is_refused_at_the_beginning(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="no folder"):
        RecorderSink(tmp_path / "nowhere" / "out.mp4").open((64, 48), 30.0)
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(SinkError, match="is a folder"):
        RecorderSink(tmp_path / "folder.mp4").open((64, 48), 30.0)


_RECORD_FOR_EVER = """
import sys
import numpy as np
from pathlib import Path
from realtime.recorder import RecorderSink
from tests.realtime.footage import frame
sink = RecorderSink(Path(sys.argv[1]))
sink.open((320, 240), 30.0)
rng = np.random.default_rng(0)
for index in range(100000):
    sink.send(rng.integers(0, 255, (240, 320, 3), dtype=np.uint8), frame(index, index * 33_333_333))
    if index == 120:
        print("running", flush=True)
"""


def test_a_killed_recording_can_be_played(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    command = [sys.executable, "-c", _RECORD_FOR_EVER, str(target)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGKILL)
    assert not target.exists()
    assert len(read_video(RecorderSink(target).part)) >= 30


_FILL_THE_DISK = """
import resource
import sys
import numpy as np
from pathlib import Path
from engines.errors import SinkError
from realtime.recorder import RecorderSink
from tests.realtime.footage import frame
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
sink = RecorderSink(Path(sys.argv[1]))
sink.open((320, 240), 30.0)
rng = np.random.default_rng(0)
try:
    for index in range(300):
        sink.send(rng.integers(0, 255, (240, 320, 3), dtype=np.uint8), frame(index, index * 33_333_333))
except SinkError as error:
    print("send:", error)
finally:
    sink.close()
print("report:", sink.report)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a file size limit stands in for a full disk")
def test_a_full_disk_is_named_and_what_was_written_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    run = subprocess.run(
        [sys.executable, "-c", _FILL_THE_DISK, str(target)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "send:" in run.stdout
    assert "the disk is full" in run.stdout
    source = VideoFileSource(target, SourceConfig())  # its last packet may be half a one, which this steps over
    kept = 0
    while source.read() is not None:
        kept += 1
    source.close()
    assert kept >= 5
