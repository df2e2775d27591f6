"""Rate and time left of an enrollment."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from realtime.enroll_pace import WINDOW_S, Pace, frames_in
from realtime.session import demo_clip


def test_the_length_of_footage_is_known_without_decoding_it(tmp_path: Path) -> None:
    clip = demo_clip()
    with av.open(str(clip)) as container:
        whole = sum(packet.size > 0 for packet in container.demux(video=0))
    assert frames_in([clip]) == pytest.approx(whole, abs=2)
    assert frames_in([clip, clip]) == pytest.approx(2 * whole, abs=4)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[:1000])
    assert frames_in([clip, cut]) is None
    assert frames_in([tmp_path / "gone.mp4"]) is None
    for name in ("1.png", "2.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert frames_in([tmp_path]) == 2


def test_rate_and_time_left_follow_the_last_seconds() -> None:
    now = 0.0
    pace = Pace(1000, lambda: now)
    assert pace.at(200) == (None, None), "one frame says nothing; an earlier call's 200 are not counted"
    found: tuple[float | None, float | None] = (None, None)
    for step in range(1, 100):
        now = 0.1 * step
        found = pace.at(200 + step)
    assert found == (pytest.approx(10.0), pytest.approx(70.1))
    for step in range(1, 100):
        now = 10.0 + WINDOW_S * step / 50
        found = pace.at(300 + step)
    assert found[0] == pytest.approx(50 / WINDOW_S, rel=0.05), "ten a second are long ago"
    assert pace.done(500) == 0.5
    assert pace.done(5000) == 1.0
    assert pace.at(1100)[1] == 0.0, "the length was only about right"


def test_without_a_length_there_is_a_rate_alone() -> None:
    times = iter([0.0, 2.0])
    pace = Pace(None, lambda: next(times))
    pace.at(0)
    assert pace.at(30) == (15.0, None)
    assert pace.done(30) == 0.0
