"""The live half of the delay's measuring: filming for a time, a clip and its recording."""

import threading

import numpy as np
import pytest

from calibration import calibrate_delay
from calibration.calibrate_delay import delay_of
from calibration.time_code import draw_code
from engines.errors import SinkError, SourceFormatError
from engines.types import Frame
from realtime.delay_rig import film, measure_recording, write_clip
from realtime.source import NoFrameYet


class Loop:
    """A screen looped back through a delay line, by a clock of its own."""

    name, size, fps, live, report = "loop", (600, 440), 30.0, True, "loop"

    def __init__(self, delay_ms):
        self.now, self.delay, self.index = 0, round(delay_ms * 1e6), 0
        rng = np.random.default_rng(6)
        starts = np.cumsum(rng.uniform(24e6, 60e6, 200)).astype(np.int64)
        self.shown = [(k, int(at)) for k, at in enumerate(starts)]
        self.starts = starts

    def read(self):
        self.now += 33_366_667
        self.index += 1
        if self.index % 10 == 0:
            raise NoFrameYet
        number = max(int(np.searchsorted(self.starts, self.now - self.delay, "right")) - 1, 0)
        return Frame(draw_code(number), self.index, self.now, self.now)

    def close(self):
        pass


def test_a_looped_back_screen_gives_its_delay():
    loop = Loop(71.0)
    seen = list(film(loop, 3.0, threading.Event(), clock=lambda: loop.now))
    assert 70 < len(seen) < 85, "for three seconds, and on through frames that did not come"
    assert abs(delay_of(loop.shown, seen).ms - 71.0) < 5.0
    stop = threading.Event()
    stop.set()
    assert list(film(loop, 3.0, stop, clock=lambda: loop.now)) == []


def test_a_clip_that_is_its_own_recording_is_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate_delay, "CLIP_S", 5.0)
    write_clip(tmp_path / "code.mp4")
    late_ms, found = measure_recording(tmp_path / "code.mp4")
    assert abs(late_ms) < 5.0
    assert found.frames > 280
    with pytest.raises(SourceFormatError, match="cannot be read"):
        measure_recording(tmp_path / "none.mp4")
    with pytest.raises(SinkError, match="cannot write"):
        write_clip(tmp_path / "no" / "code.mp4")
