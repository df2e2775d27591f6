"""Recordings of a running stream: never in its way, whole after a kill, together with their sound."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from engines.errors import ConsentScopeError, SinkError
from realtime.recorder import RecorderSink
from realtime.recording import BackgroundRecorder, RecordingControl, new_recording
from tests.realtime.footage import frame, number_of, numbered, read_video
from tests.realtime.listening import FakeMicrophone, captured, flashing, seen_and_heard

ROOT = Path(__file__).parents[2]
SIZE = (64, 48)


class Gate(RecorderSink):
    """An encoder that waits until it is let go."""

    def __init__(self, path: Path, **options) -> None:
        super().__init__(path, **options)
        self.go = threading.Event()

    def send(self, pixels, frame) -> None:
        assert self.go.wait(20)
        super().send(pixels, frame)


def test_a_slow_encoder_costs_pictures_and_no_time(tmp_path: Path) -> None:
    slow = Gate(tmp_path / "out.mp4")
    recorder = BackgroundRecorder(slow, queue=4)
    recorder.open(SIZE, 30.0)
    began = time.perf_counter()
    for index in range(100):
        recorder.send(numbered(index), frame(index, index * 33_333_333))
    assert time.perf_counter() - began < 5.0  # of the gate's 20
    assert recorder.dropped >= 95
    slow.go.set()
    recorder.close()
    recorder.close()
    written = [number_of(pixels) for _, pixels in read_video(slow.path)]
    assert len(written) + recorder.dropped == 100
    assert written[:3] == [0, 1, 2]
    assert f"{recorder.dropped} frames left out" in recorder.report


def test_the_wearers_own_picture_is_not_kept_waiting(tmp_path: Path) -> None:
    slow = Gate(tmp_path / "out.mp4")
    recorder = BackgroundRecorder(slow)
    recorder.open(SIZE, 30.0)
    own, swapped = numbered(170), numbered(0)
    recorder.send(swapped, frame(0, 0, own))
    held = [picture for item in recorder._waiting for picture in (item[0], item[1].pixels)]
    assert all(picture is not own for picture in held)
    slow.go.set()
    recorder.close()


def test_what_the_encoder_raises_ends_the_recording_once_and_is_told(tmp_path: Path) -> None:
    class Broken(RecorderSink):
        def send(self, pixels, frame) -> None:
            super().send(pixels, frame)
            if frame.index == 3:
                raise ZeroDivisionError("a driver")

    recorder = BackgroundRecorder(Broken(tmp_path / "out.mp4"))
    recorder.open(SIZE, 30.0)
    for index in range(6):
        recorder.send(numbered(index), frame(index, index * 33_333_333))
        while index == 3 and recorder.failure is None:
            time.sleep(0.001)
        if index == 3:
            break
    with pytest.raises(SinkError, match="a driver"):
        recorder.send(numbered(9), frame(9, 9 * 33_333_333))
    recorder.close()  # told already
    assert len(read_video(tmp_path / "out.mp4")) == 4


def control(tmp_path: Path, **options) -> tuple[RecordingControl, list[str]]:
    said: list[str] = []
    made = RecordingControl(SIZE, 30.0, lambda path: RecorderSink(path, from_first=True), say=said.append, **options)
    return made, said


def test_recordings_start_and_stop_while_the_stream_runs(tmp_path: Path) -> None:
    recording, said = control(tmp_path)
    assert recording.state.phase == "idle"
    spans = {(10, 30): tmp_path / "a.mp4", (40, 50): tmp_path / "b.mp4"}
    for index in range(60):
        for (begin, end), path in spans.items():
            if index == begin:
                recording.start(path)
                assert recording.state.phase == "recording"
            if index == end:
                state = recording.state
                assert recording.stop() == path
                assert state.seconds == pytest.approx((end - begin - 1) / 30, abs=1e-3)
        recording.take(numbered(index), frame(index, index * 33_333_333))
    assert recording.wait(20)
    for (begin, end), path in spans.items():
        video = read_video(path)
        assert [number_of(pixels) for _, pixels in video] == list(range(begin, end))
        assert video[0][0] == 0  # its own time, not the stream's
        assert any(f"recorded {path}" in line for line in said)
    state = recording.state
    assert (state.phase, state.path, state.frames, state.failed) == ("idle", tmp_path / "b.mp4", 10, False)
    assert state.bytes == (tmp_path / "b.mp4").stat().st_size
    assert state.as_dict()["path"] == str(tmp_path / "b.mp4")
    recording.close()


def test_what_cannot_be_started_or_stopped_is_refused(tmp_path: Path) -> None:
    recording, _ = control(tmp_path)
    with pytest.raises(SinkError, match="nothing is being recorded"):
        recording.stop()
    (tmp_path / "there.mp4").write_bytes(b"a holiday")
    with pytest.raises(SinkError, match="already"):
        recording.start(tmp_path / "there.mp4")
    with pytest.raises(SinkError, match="no folder"):
        recording.start(tmp_path / "nowhere" / "a.mp4")
    recording.start(tmp_path / "a.mp4")
    with pytest.raises(SinkError, match="being recorded"):
        recording.start(tmp_path / "b.mp4")
    recording.close()
    assert (tmp_path / "there.mp4").read_bytes() == b"a holiday"


def test_without_consent_to_be_recorded_nothing_begins(tmp_path: Path) -> None:
    def refuse() -> None:
        raise ConsentScopeError("it does not cover recording", hint="ask")

    recording, _ = control(tmp_path, admit=refuse)
    with pytest.raises(ConsentScopeError):
        recording.start(tmp_path / "a.mp4")
    recording.take(numbered(0), frame(0, 0))
    recording.close()
    assert list(tmp_path.iterdir()) == []


def test_files_get_names_of_their_own(tmp_path: Path) -> None:
    now = datetime(2026, 1, 31, 12, 5, 9)
    first = new_recording(tmp_path / "Videos", now)
    assert first.name == "personacam 2026-01-31 12-05-09.mp4"
    first.write_bytes(b"")
    assert new_recording(tmp_path / "Videos", now).name == "personacam 2026-01-31 12-05-09 2.mp4"


def test_sound_and_picture_meet_whatever_pictures_took_on_their_way(tmp_path: Path) -> None:
    """Flashes and claps at one moment; frames leave 0.12 s late, the card's clock is fast and its times jitter."""
    flashes, fps = (30, 75, 120, 165), 30.0
    microphone = FakeMicrophone([f / fps for f in flashes], drift=3e-4, jitter_s=0.003, rate=44_100)
    recording = RecordingControl(SIZE, fps, lambda path: RecorderSink(path, sound=microphone, from_first=True))
    recording.start(tmp_path / "out.mp4")
    for index in range(180):
        while recording.state.frames < index - 3:
            time.sleep(0.0005)
        microphone.now_s = index / fps + 0.12
        picture = flashing(index, flashes)
        recording.take(picture, captured(index, fps, picture, stamp_ns=5_000_000_000))
    recording.close()
    assert not microphone.open
    seen, heard = seen_and_heard(tmp_path / "out.mp4")
    assert seen == pytest.approx([f / fps for f in flashes], abs=1e-4)
    assert heard == pytest.approx(seen, abs=0.010)


def test_the_delay_that_a_user_chose_counts_beyond_the_latency(tmp_path: Path) -> None:
    fps = 30.0
    microphone = FakeMicrophone([2.0])
    sink = RecorderSink(tmp_path / "out.mp4", sound=microphone, delay_ms=lambda: 120.0, sleep=lambda _: None)
    sink.open(SIZE, fps)
    sink.latency_ms = 40.0
    for index in range(90):
        microphone.now_s = index / fps + 0.04
        sink.send(numbered(0), captured(index, fps, numbered(0)))
    sink.close()
    assert seen_and_heard(sink.path)[1] == pytest.approx([2.08], abs=0.010)


_RECORD_UNTIL_KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from realtime.recorder import RecorderSink
from realtime.recording import RecordingControl
from tests.realtime.listening import FakeMicrophone, captured
microphone = FakeMicrophone([])
control = RecordingControl((320, 240), 30.0, lambda path: RecorderSink(path, sound=microphone, from_first=True))
control.start(Path(sys.argv[1]))
pictures = np.random.default_rng(0).integers(0, 255, (8, 240, 320, 3), dtype=np.uint8)
for index in range(100000):
    while control.state.frames < index - 3:  # as quick as the encoder is, so that nothing is left out
        time.sleep(0.0005)
    microphone.now_s = index / 30 + 0.05
    picture = pictures[index % 8]
    control.take(picture, captured(index, 30.0, picture))
    print(index, flush=True)
"""


def test_a_killed_recording_plays_up_to_the_last_second(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    command = [sys.executable, "-c", _RECORD_UNTIL_KILLED, str(target)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 100:
                process.send_signal(signal.SIGKILL)
                break
        last = max([100, *(int(line) for line in process.stdout)])
    assert process.returncode == -signal.SIGKILL
    assert not target.exists()
    part = RecorderSink(target).part
    ticks = [tick for tick, _ in read_video(part)]
    assert all(step == pytest.approx(3000, abs=2) for step in np.diff(ticks))
    assert ticks[-1] / 90_000 >= last / 30 - 1.0
    import av

    with av.open(str(part)) as container:
        sound = [f.time + f.samples / f.rate for f in container.decode(audio=0)]
    assert sound[-1] >= last / 30 - 1.0


_FILL_THE_DISK = """
import resource, sys, time
from pathlib import Path
import numpy as np
from realtime.recorder import RecorderSink
from realtime.recording import RecordingControl
from tests.realtime.footage import frame
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
control = RecordingControl((320, 240), 30.0, lambda path: RecorderSink(path, from_first=True), say=print)
control.start(Path(sys.argv[1]))
pictures = np.random.default_rng(0).integers(0, 255, (8, 240, 320, 3), dtype=np.uint8)
for index in range(200):
    control.take(pictures[index % 8], frame(index, index * 33_333_333))
    while control.active and control.state.frames < index - 3:
        time.sleep(0.0005)
print("stream went on", index)
control.close()
print("state", control.state.failed, control.state.phase, control.active)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a file size limit stands in for a full disk")
def test_a_full_disk_ends_the_recording_and_not_the_stream(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    run = subprocess.run(
        [sys.executable, "-c", _FILL_THE_DISK, str(target)],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "stream went on 199" in run.stdout
    assert "the disk is full" in run.stdout
    assert "state True idle False" in run.stdout
    ticks = [tick for tick, _ in read_video_until_torn(target)]
    assert len(ticks) >= 5
    assert all(b > a for a, b in pairwise(ticks))


def read_video_until_torn(path: Path):
    """What a player shows of a file whose last packet may be half a one."""
    from realtime.files import VideoFileSource
    from realtime.source import SourceConfig

    source, found = VideoFileSource(path, SourceConfig()), []
    while (read := source.read()) is not None:
        found.append((read.timestamp_ns, read.pixels))
    source.close()
    return found
