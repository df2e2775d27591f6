"""The promise of the main path: every frame goes out once, in order, swapped or covered, whatever breaks."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace

import numpy as np
import pytest

from engines.errors import DetectorError, RuntimeFailure, SourceLostError
from engines.mesh_subset import MESH_SUBSET
from engines.types import AlignedFace, Detection, Frame, Swap
from realtime import kernels
from realtime.blend import BlendConfig, Blender
from realtime.latest import Latest
from realtime.pipeline import Limits, Pipeline, Stages
from realtime.policy import FailurePolicy, PolicyGate, Reason
from realtime.sink import StopRequested
from realtime.trace import Trace

SIZE = (160, 120)
FACE = (slice(30, 94), slice(48, 112))
TO_FRAME = np.array([[2.0, 0.0, 48.5], [0.0, 2.0, 30.5]])


class FakeTrack:
    def __init__(self):
        self.fault = None
        self.resets = 0

    def update(self, frame):
        if isinstance(self.fault, Exception):
            raise self.fault
        if self.fault == "no face":
            return None
        box = np.array([48, 30, 112, 94], np.float32)
        return Detection(frame.index, box, np.zeros((5, 2), np.float32), "points5", 0.9)

    def align(self, detection, size, t_s):
        if self.fault == "bad alignment":
            return np.full((2, 3), np.nan)
        return TO_FRAME

    def reset(self):
        self.resets += 1


class FakeSwap:
    crop_size = 32
    fault = None

    def swap(self, face: AlignedFace) -> Swap:
        if isinstance(self.fault, Exception):
            raise self.fault
        pixels = np.full((32, 32, 3), 90, np.uint8)
        mask = np.full((32, 32), 0 if self.fault == "empty mask" else 255, np.uint8)
        return Swap(face, pixels, mask)


class MemorySink:
    name = report = "memory"

    def __init__(self):
        self.pictures, self.frames = [], []

    def open(self, size, fps): ...

    def send(self, pixels, frame):
        self.pictures.append(pixels.copy())
        self.frames.append(frame)

    def close(self): ...


class Clock:
    """Nanoseconds that tests move."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now


def wearer(index: int) -> Frame:
    """A frame full of fine detail: any of it that gets out is seen by ``leaks``."""
    pixels = np.random.default_rng(index).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    return Frame(pixels, index, 0, index * 33_000_000)


def leaks(picture: np.ndarray, frame: Frame) -> bool:
    """Whether the wearer's detail is visible inside the face: its correlation with what left."""
    a = picture[FACE][14:-14, 14:-14].astype(float).ravel()
    b = frame.pixels[FACE][14:-14, 14:-14].astype(float).ravel()
    a, b = a - a.mean(), b - b.mean()
    return abs(float(a @ b)) > 0.25 * np.sqrt(float(a @ a) * float(b @ b) + 1e-9)


@pytest.fixture
def made():
    """(pipeline, box, track, swap, sink, clock) with the default policy."""
    return build(FailurePolicy.VEIL)


def build(policy, limits=Limits(deadline_ms=500.0)):
    box, track, swap, sink, clock = Latest(), FakeTrack(), FakeSwap(), MemorySink(), Clock()
    blender = Blender(BlendConfig(erode_px=1, feather_px=2, colour=False), 32)
    stages = Stages(track, kernels.crop_face, swap, blender, None)
    gate = PolicyGate(policy, size=SIZE)
    pipeline = Pipeline(box, stages, gate, [sink], size=SIZE, limits=limits, trace=Trace(clock=clock), clock=clock)
    return pipeline, box, track, swap, sink, clock


def test_a_face_is_swapped_and_the_rest_kept(made):
    pipeline, _, _, _, sink, _ = made
    frame = wearer(0)
    pipeline.step(frame)
    out = sink.pictures[0]
    assert not leaks(out, frame)
    assert (out[FACE][16:-16, 16:-16] == 90).all()
    assert (out[:20] == frame.pixels[:20]).all()
    assert pipeline.counts.swapped == 1


def test_leaks_sees_an_unswapped_frame():
    """The measure itself must be able to fail."""
    assert leaks(wearer(3).pixels, wearer(3))
    assert not leaks(wearer(4).pixels, wearer(3))


FAULTS = {
    "no face": ("track", "no face", Reason.NO_FACE),
    "detector raises": ("track", DetectorError("x", hint="y"), Reason.DETECTOR_ERROR),
    "detector raises anything": ("track", ZeroDivisionError("x"), Reason.DETECTOR_ERROR),
    "bad alignment": ("track", "bad alignment", None),
    "runtime raises": ("swap", RuntimeFailure("x", hint="y"), Reason.RUNTIME_ERROR),
    "runtime raises anything": ("swap", MemoryError("x"), Reason.RUNTIME_ERROR),
    "empty mask": ("swap", "empty mask", Reason.EMPTY_MASK),
}


@pytest.mark.parametrize("policy", [FailurePolicy.VEIL, FailurePolicy.HOLD, FailurePolicy.CARD])
@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_shows_the_wearer(policy, fault):
    pipeline, _, track, swap, sink, _ = build(policy)
    stage, value, reason = FAULTS[fault]
    for index in range(6):
        (track if stage == "track" else swap).fault = value if 2 <= index < 4 else None
        pipeline.step(wearer(index))
    assert [f.index for f in sink.frames] == list(range(6))
    assert not any(leaks(p, wearer(i)) for i, p in enumerate(sink.pictures))
    assert pipeline.counts.policy == 2
    assert pipeline.counts.swapped == 4
    if reason is not None:
        assert pipeline.counts.reasons == {reason.value: 2}


def test_a_late_frame_is_covered(made):
    pipeline, _, _, swap, sink, clock = made
    swap_now = swap.swap

    def slow(face):
        clock.now += 600_000_000
        return swap_now(face)

    swap.swap = slow
    pipeline.step(wearer(0))
    assert pipeline.counts.reasons == {"late": 1}
    assert not leaks(sink.pictures[0], wearer(0))


def test_passthrough_shows_the_wearer_only_when_asked():
    pipeline, _, track, _, sink, _ = build(FailurePolicy.PASSTHROUGH)
    track.fault = "no face"
    pipeline.step(wearer(0))
    assert (sink.pictures[0] == wearer(0).pixels).all()


def test_a_lost_camera_ends_covered(made):
    pipeline, box, _, _, sink, _ = made
    box.put(wearer(0))
    box.close(SourceLostError("gone", hint="plug it in"))
    with pytest.raises(SourceLostError):
        pipeline.run(threading.Event())
    assert len(sink.pictures) == 2
    assert not leaks(sink.pictures[1], wearer(0))
    assert sink.frames[1].timestamp_ns > sink.frames[0].timestamp_ns
    assert pipeline.counts.reasons == {"source_lost": 1}


def test_a_stalled_camera_is_covered_while_it_stalls():
    pipeline, box, _, _, sink, clock = build(FailurePolicy.VEIL, Limits(stall_s=1.0))
    stop = threading.Event()
    pictures = []

    class Stalled(Latest):
        def get(self, timeout_s):
            item = None if pictures else wearer(0)
            pictures.append(item)
            clock.now += 700_000_000
            if len(pictures) > 4:
                stop.set()
            return item

    pipeline._frames = Stalled()
    pipeline.run(stop)
    assert pipeline.counts.reasons == {"source_lost": 2}
    assert not any(leaks(p, wearer(0)) for p in sink.pictures)
    assert all(a.timestamp_ns < b.timestamp_ns for a, b in itertools.pairwise(sink.frames))
    assert box.dropped == 0


def test_a_fault_starts_the_track_afresh(made):
    pipeline, _, track, swap, _, _ = made
    swap.fault = RuntimeFailure("x", hint="y")
    pipeline.step(wearer(0))
    assert track.resets == 1
    assert pipeline.counts.first_errors == {"runtime_error": "x (y)"}


def test_a_frame_of_another_size_is_covered(made):
    pipeline, _, _, _, sink, _ = made
    pipeline.step(Frame(np.zeros((240, 320, 3), np.uint8), 0, 0, 0))
    assert sink.pictures[0].shape == (120, 160, 3)
    assert pipeline.counts.policy == 1


def test_limits_and_end_of_input():
    pipeline, box, _, _, sink, _ = build(FailurePolicy.VEIL, Limits(frames=2))
    for index in range(2):
        box.put(wearer(index))
        pipeline.run(threading.Event()) if index else pipeline.step(box.get(0.1))
    assert len(sink.frames) == 2
    box.close()
    pipeline.run(threading.Event())
    assert len(sink.frames) == 2


def test_closing_the_preview_ends_the_run(made):
    pipeline, box, _, _, sink, _ = made

    def send(pixels, frame):
        raise StopRequested("q")

    sink.send = send
    box.put(wearer(0))
    pipeline.run(threading.Event())


class MeshTrack(FakeTrack):
    """A detection with a mesh of which every point lies somewhere else."""

    landmarks = np.random.default_rng(0).uniform(20, 110, (468, 2)).astype(np.float32)

    def update(self, frame):
        return replace(super().update(frame), landmarks=self.landmarks, layout="mesh468")


def test_mesh_points_travel_with_the_face_in_the_square_of_its_pixels(made):
    pipeline, *_ = made
    seen = []
    swap = pipeline._stages.swap
    for track in (MeshTrack(), FakeTrack()):
        pipeline._stages = replace(pipeline._stages, track=track)
        honest = swap.swap
        swap.swap = lambda face, honest=honest: (seen.append(face), honest(face))[1]
        pipeline.step(wearer(len(seen)))
        swap.swap = honest
    mesh, five = seen
    # TO_FRAME: pixel (x, y) of the 32 x 32 crop lies at (2 x + 48.5, 2 y + 30.5) of the frame.
    expected = ((MeshTrack.landmarks[MESH_SUBSET] - (48.5, 30.5)) / 2 + 0.5) / 32
    np.testing.assert_allclose(mesh.points, expected, atol=1e-5)
    assert five.points is None
