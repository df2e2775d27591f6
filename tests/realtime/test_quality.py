"""A change of tier while frames run: loaded beside them, exchanged between two, refused without harm."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np

from engines.errors import PersonaNotFoundError
from engines.types import Swap
from realtime import kernels
from realtime.blend import BlendConfig, Blender
from realtime.governor import Governor, GovernorConfig, ladder
from realtime.latest import Latest
from realtime.pipeline import Limits, Pipeline, Stages
from realtime.policy import FailurePolicy, PolicyGate
from realtime.quality import Quality, Worn
from realtime.trace import Trace
from realtime.track import TrackerConfig
from tests.realtime.test_pipeline import SIZE, FakeSwap, FakeTrack, MemorySink, leaks, wearer

TIERS = ["small", "tiny"]


class Track(FakeTrack):
    config = TrackerConfig(smooth=False)
    stream, cost_s = None, 0.0

    def update(self, frame):
        self.stream.now += int(self.cost_s * 1e9)
        return super().update(frame)

    def configure(self, config):
        self.config = config


class Runtime:
    def __init__(self):
        self.closed = 0

    def close(self):
        self.closed += 1


class TierSwap(FakeSwap):
    """Paints its tier's grey, in a swap of its tier's size."""

    def __init__(self, tier):
        self.grey, self.side = {"tiny": (90, 32), "small": (150, 48)}[tier]

    def swap(self, face):
        side = self.side
        return Swap(face, np.full((side, side, 3), self.grey, np.uint8), np.full((side, side), 255, np.uint8))


def worn(tier):
    swap = TierSwap(tier)
    blender = Blender(BlendConfig(erode_px=1, feather_px=2, colour=False), swap.side)
    return Worn(SimpleNamespace(manifest=SimpleNamespace(tier=tier)), Runtime(), swap, blender)


class Stream:
    """A pipeline whose frames cost what a test says."""

    def __init__(self, start, load=worn, governed=True):
        self.now, self.said, self.sink, self.track = 0, [], MemorySink(), Track()
        self.track.stream = self
        first = worn(start)
        stages = Stages(self.track, kernels.crop_face, first.swapper, first.blender, None)
        gate = PolicyGate(FailurePolicy.VEIL, size=SIZE)
        self.pipeline = Pipeline(
            Latest(), stages, gate, [self.sink], size=SIZE, limits=Limits(), trace=Trace(), clock=lambda: self.now
        )
        levels = ladder(TIERS)
        governor = Governor(levels, TIERS.index(start), 1 / 30, GovernorConfig(up_after_s=2.0)) if governed else None
        self.quality = Quality(
            self.pipeline, self.track, first, SimpleNamespace(dropped=0), governor=governor, load=load,
            say=self.said.append, clock=lambda: self.now,
        )  # fmt: skip
        self.pipeline.after_each(self.quality.look)

    def run(self, frames, cost_s):
        self.track.cost_s = cost_s
        for _ in range(frames):
            frame = wearer(len(self.sink.frames))
            self.pipeline.step(frame)
            assert not leaks(self.sink.pictures[-1], frame)
            self.now += max(0, 33_333_333 - int(cost_s * 1e9))
            if self.quality._loading is not None:
                self.quality._loading.join(0.3)


def test_too_slow_a_tier_is_exchanged_between_two_frames():
    stream = Stream("small")
    stream.run(100, 0.05)
    assert stream.quality.worn.persona.manifest.tier == "tiny"
    greys = [int(picture[62, 80, 0]) for picture in stream.sink.pictures]
    assert set(greys) == {150, 90}
    assert greys == sorted(greys, reverse=True)
    assert [frame.index for frame in stream.sink.frames] == list(range(100))
    assert any("tier tiny" in line and "ms of 33.3" in line for line in stream.said)
    assert stream.quality.report()["changes"][0]["from"] == "tier small"
    stream.quality.close()


def test_the_runtime_before_is_closed_and_the_last_one_at_the_end():
    stream = Stream("small")
    first = stream.quality.worn.runtime
    stream.run(90, 0.05)
    assert first.closed == 1
    stream.quality.close()
    assert stream.quality.worn.runtime.closed == 1


def test_room_for_more_brings_the_larger_tier():
    stream = Stream("tiny")
    stream.run(200, 0.004)
    assert stream.quality.worn.persona.manifest.tier == "small"
    stream.quality.close()


def test_a_tier_that_cannot_be_loaded_leaves_everything_as_it_is():
    def load(tier):
        raise PersonaNotFoundError("damaged", hint="get it again")

    stream = Stream("tiny", load)
    stream.run(200, 0.004)
    assert stream.quality.worn.persona.manifest.tier == "tiny"
    assert stream.quality.report()["level"] == "tier tiny"
    assert sum("stays at tier tiny: damaged" in line for line in stream.said) == 1
    stream.quality.close()


def test_cadence_and_rate_follow_the_level():
    stream = Stream("tiny")
    stream.run(300, 0.09)
    assert stream.pipeline.send_every == 2
    assert stream.track.config.check_every == 90
    assert not stream.track.config.smooth
    stream.quality.close()


def test_switched_off_it_changes_nothing():
    stream = Stream("small", governed=False)
    stream.run(120, 0.2)
    assert stream.quality.worn.persona.manifest.tier == "small"
    assert stream.quality.report() == {"on": False}
    assert stream.said == []
    stream.quality.close()


def test_the_end_of_the_run_ends_a_change_that_waits_for_a_frame():
    loaded = threading.Event()

    def load(tier):
        loaded.set()
        return worn(tier)

    stream = Stream("small", load)
    stream.track.cost_s = 0.05
    while not loaded.is_set():
        stream.pipeline.step(wearer(0))
        if stream.quality._loading is not None:
            loaded.wait(5.0)
    stream.quality.close()
    assert not stream.quality._loading.is_alive()
    assert stream.quality.worn.runtime.closed == 1
