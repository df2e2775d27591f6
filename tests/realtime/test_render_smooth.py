from __future__ import annotations

import numpy as np
import pytest

from engines.errors import DetectorError
from engines.geometry import TEMPLATE_5
from engines.types import Detection, Frame
from realtime.render_smooth import AHEAD_S, LookAhead
from realtime.track import Tracker, TrackerConfig

SIZE, FPS = 128, 30
PIXELS = np.zeros((4, 4, 3), np.uint8)


class Path:
    """A face whose square goes where ``at`` says, and trembles."""

    name = "path"

    def __init__(self, at, noise: float = 0.0, seed: int = 0) -> None:
        self.at = at
        self.noise = np.random.default_rng(seed).normal(0, noise, (1000, 5, 2))

    def search(self, frame):
        x = self.at(frame.index / FPS)
        if x is None:
            return None
        if x == "fault":
            raise DetectorError("injected", hint="none")
        points = (TEMPLATE_5 * 200 + (x, 50) + self.noise[frame.index]).astype(np.float32)
        return Detection(frame.index, np.array([x, 50, x + 200, 250], np.float32), points, "points5", 0.9)

    def follow(self, frame, last):
        return self.search(frame)

    def confirm(self, frame, detection):
        return True

    def close(self):
        pass


def frame(i: int) -> Frame:
    return Frame(PIXELS, i, 0, i * 1_000_000_000 // FPS)


def walk(detector, first: int = 0, count: int = 60, **options) -> dict[int, np.ndarray | None]:
    """Centre (2,) of every frame's square, as the pipeline would get it."""
    ahead = LookAhead(Tracker(detector, TrackerConfig(smooth=False)), SIZE, **options)
    centres: dict[int, np.ndarray | None] = {}

    def work(frames):
        for one in frames:
            detection = ahead.update(one)
            ahead.settle(one)
            to_frame = None if detection is None else ahead.align(detection, SIZE, one.timestamp_ns / 1e9)
            centres[one.index] = None if to_frame is None else to_frame @ (63.5, 63.5, 1.0)

    for i in range(first, count):
        ahead.feed(frame(i))
        work(ahead.ready())
    work(ahead.ready(ended=True))
    assert list(centres) == list(range(first, count))
    return centres


def xs(centres) -> np.ndarray:
    return np.array([centre[0] for centre in centres.values()])


def test_a_still_face_stops_trembling():
    raw = xs(walk(Path(lambda t: 100.0, 0.4), smooth=False))
    smooth = xs(walk(Path(lambda t: 100.0, 0.4)))
    assert np.abs(np.diff(smooth))[5:-5].mean() < 0.3 * np.abs(np.diff(raw))[5:-5].mean()
    assert abs(smooth.mean() - raw.mean()) < 0.05


def test_a_moving_face_is_followed_without_lag():
    def at(t):
        return 300 + 120 * np.sin(2 * np.pi * t)  # a hard shake: 750 pixels a second

    truth = xs(walk(Path(at), smooth=False))
    smooth = xs(walk(Path(at)))
    assert np.abs(smooth - truth)[8:-8].max() < 3.0
    live = Tracker(Path(at), TrackerConfig())
    lagging = []
    for i in range(60):
        detection = live.update(frame(i))
        lagging.append((live.align(detection, SIZE, i / FPS) @ (63.5, 63.5, 1.0))[0])
    assert np.abs(smooth - truth)[8:-8].max() < 0.5 * np.abs(np.array(lagging) - truth)[8:-8].max()


def test_a_worker_that_begins_later_has_the_same_squares():
    detector = Path(lambda t: 100 + 50 * t, 0.4)
    whole, late = walk(detector), walk(detector, first=20)
    settled = 20 + int(np.ceil(AHEAD_S * FPS)) + 1
    for i in range(settled, 60):
        np.testing.assert_allclose(late[i], whole[i], atol=1e-6)


def test_nothing_is_smoothed_over_a_cut_or_a_gap():
    raw = {i: (100.0 if i < 30 else 500.0) for i in range(60)}
    cut = walk(Path(lambda t: raw[round(t * FPS)]))
    assert np.ptp(xs(cut)[:30]) < 1e-6
    assert np.ptp(xs(cut)[30:]) < 1e-6
    gap = walk(Path(lambda t: None if 25 <= t * FPS < 30 else 100.0 if t * FPS < 25 else 110.0))
    assert gap[27] is None
    assert gap[24][0] == pytest.approx(gap[5][0], abs=1e-6)
    assert gap[30][0] == pytest.approx(gap[50][0], abs=1e-6)


def test_a_fault_is_raised_where_it_was_and_nowhere_else():
    ahead = LookAhead(Tracker(Path(lambda t: "fault" if round(t * FPS) == 3 else 100.0), TrackerConfig()), SIZE)
    for i in range(6):
        ahead.feed(frame(i))
    ready = ahead.ready(ended=True)
    assert [one.index for one in ready] == list(range(6))
    assert ahead.update(ready[2]) is not None
    with pytest.raises(DetectorError, match="injected"):
        ahead.update(ready[3])
    assert ahead.update(ready[4]) is not None


def test_it_waits_for_what_comes_and_forgets_what_is_over():
    ahead = LookAhead(Tracker(Path(lambda t: 100.0), TrackerConfig(smooth=False)), SIZE)
    given = 0
    for i in range(200):
        ahead.feed(frame(i))
        for one in ahead.ready():
            assert one.index == given
            assert (i - one.index) / FPS >= AHEAD_S
            ahead.update(one)
            given += 1
    assert given == pytest.approx(200 - AHEAD_S * FPS, abs=2)
    assert len(ahead._looks) < 4 * AHEAD_S * FPS
