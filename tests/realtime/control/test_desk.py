"""What is asked for, and what the pictures show then: a pipeline of fakes, driven frame by frame."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from engines.errors import DataError, PersonaNotFoundError, SinkError
from engines.types import Swap
from realtime import kernels
from realtime.blend import Blender
from realtime.config import Settings
from realtime.control.desk import CONFIRM_S, Desk, Parts
from realtime.control.state import parse_command
from realtime.control.watch import Log, Watcher
from realtime.latest import Latest
from realtime.live_settings import CurrentSettings, blend_config, label_for
from realtime.pipeline import Limits, Pipeline, Stages
from realtime.policy import FailurePolicy, PolicyGate
from realtime.quality import Quality, Worn
from realtime.recording import RecordingState
from realtime.trace import Trace
from realtime.wardrobe import Wardrobe
from tests.realtime.test_pipeline import SIZE, FakeSwap, FakeTrack, MemorySink, leaks, wearer
from tests.realtime.test_quality import Runtime, Track

GREYS = {"amara": 60, "kofi": 90, "vera": 200}
SIDE = 32


class PersonaSwap(FakeSwap):
    """Paints its persona's grey."""

    def __init__(self, name):
        self.name, self.strength, self.morphed = name, 1.0, None

    def morph(self, value):
        if self.name != "amara":
            raise DataError("no morph", hint="test")
        self.morphed = value

    def express(self, strength):
        self.strength = strength

    def swap(self, face):
        return Swap(face, np.full((SIDE, SIDE, 3), GREYS[self.name], np.uint8), np.full((SIDE, SIDE), 255, np.uint8))


def worn(settings, kind="invented"):
    if settings.persona not in GREYS:
        raise PersonaNotFoundError("gone", hint="test")
    manifest = SimpleNamespace(
        name=settings.persona,
        title="T",
        kind=kind,
        tier=settings.tier or "tiny",
        code_reference=None,
        morph=0.75 if settings.persona == "amara" else None,
    )
    runtime = Runtime()
    runtime.name, runtime.precision = "openvino", "f32"
    blender = Blender(blend_config(settings), SIDE)
    return Worn(SimpleNamespace(manifest=manifest), runtime, PersonaSwap(settings.persona), blender)


class FakeRecording:
    def __init__(self):
        self.calls, self.state, self.error = [], RecordingState(), None

    def start(self, path=None):
        if self.error is not None:
            raise self.error
        self.calls.append("start")

    def stop(self):
        self.calls.append("stop")


class World:
    """A run without devices; ``step`` is one frame."""

    def __init__(self, load=worn, recording=None, **options):
        options = {"persona": "vera", "colour_strength": 0.0, "label": False} | options
        self.current = CurrentSettings(Settings(**options))
        settings, self.now, self.index = self.current.value, 0, 0
        self.sink, self.track, self.stop, self.gone = MemorySink(), Track(), threading.Event(), []
        self.track.stream = self
        first = worn(settings)
        stages = Stages(self.track, kernels.crop_face, first.swapper, first.blender, label_for(settings, "invented"))
        self.pipeline = Pipeline(
            Latest(), stages, PolicyGate(settings.policy, size=SIZE), [self.sink], size=SIZE, limits=Limits(),
            trace=Trace(), clock=lambda: self.now,
        )  # fmt: skip
        self.loads = []

        def loading(wanted):
            self.loads.append(wanted.persona)
            return load(wanted)

        self.wardrobe = Wardrobe(loading, lambda wanted: wanted.persona != "amara", self.gone.append)
        self.wardrobe.out(settings, first)
        self.quality = Quality(
            self.pipeline, self.track, first, SimpleNamespace(dropped=0), governor=None, load=lambda tier: None,
            say=lambda _: None, release=self.wardrobe.put_back,
        )  # fmt: skip
        self.parts = Parts(
            self.current, self.pipeline, self.quality, self.wardrobe, SIZE, lambda: sorted(GREYS), list,
            lambda name: ["tiny"], lambda settings, worn: None, self.stop, recording,
        )  # fmt: skip
        self.desk = Desk(self.parts, clock=lambda: self.now)
        self.pipeline.before_each(self.desk.look)

    def do(self, text):
        self.desk.submit(parse_command(text))

    def step(self, pixels=None):
        frame = wearer(self.index) if pixels is None else pixels
        self.now += 33_000_000
        self.pipeline.step(frame)
        self.index += 1
        return self.sink.pictures[-1]

    def until(self, true):
        """Frames go on until it is true."""
        deadline = time.monotonic() + 20
        while not true():
            assert time.monotonic() < deadline
            self.step()
            time.sleep(0.002)

    def state(self):
        watcher = Watcher(
            self.parts, self.desk, Log(), source="s", source_fps=30.0, dropped=lambda: 0, clock=lambda: self.now
        )
        return watcher.state()

    def close(self):
        self.quality.close()
        self.wardrobe.close()


@pytest.fixture
def world():
    made = World()
    yield made
    made.close()


def face(picture):
    """The grey in the middle of the fake face."""
    return int(np.median(picture[picture.shape[0] // 2 - 4 : picture.shape[0] // 2 + 4, SIZE[0] // 2]))


def shows_swap(picture, grey=200):
    return bool((np.abs(picture.astype(int) - grey) < 3).all(axis=2).any())


def test_the_veil_covers_the_very_next_picture_and_ends(world):
    assert shows_swap(world.step())
    world.do('{"do":"veil","on":true}')
    assert not shows_swap(world.step())
    assert not leaks(world.sink.pictures[-1], wearer(1))
    assert world.state().phase == "veiled"
    world.do('{"do":"veil","on":false}')
    assert shows_swap(world.step())
    assert world.pipeline.counts.reasons == {"veiled": 1}


def test_a_veil_that_comes_while_a_frame_is_worked_on_covers_that_frame(world):
    real = world.pipeline.stages.swap.swap

    def swap(face):
        world.do('{"do":"veil","on":true}')
        return real(face)

    world.pipeline.stages.swap.swap = swap
    assert not shows_swap(world.step())


def test_standby_sends_a_still_picture_and_computes_nothing(world):
    world.step()
    world.do('{"do":"standby","on":true}')
    world.pipeline.stages.swap.swap = None
    first, second = world.step().copy(), world.step().copy()
    np.testing.assert_array_equal(first, second)
    del world.pipeline.stages.swap.swap
    world.do('{"do":"veil","on":true}')
    world.do('{"do":"standby","on":false}')
    assert not shows_swap(world.step())  # the veil is still wanted
    world.do('{"do":"veil","on":false}')
    assert shows_swap(world.step())


def test_another_persona_between_two_frames_and_back_without_loading_it_again(world):
    world.step()
    world.do('{"do":"persona","name":"kofi"}')
    world.until(lambda: world.current.value.persona == "kofi" and not world.quality.busy)
    assert shows_swap(world.step(), 90)
    loads = world.loads.count("kofi"), world.loads.count("vera")
    world.do('{"do":"persona","name":"vera"}')
    world.until(lambda: world.current.value.persona == "vera" and not world.quality.busy)
    assert shows_swap(world.step(), 200)
    assert (world.loads.count("kofi"), world.loads.count("vera")) == loads
    # Every picture is one persona's or the other's, in the order of the frames, none skipped.
    assert [frame.index for frame in world.sink.frames] == list(range(world.index))
    assert world.pipeline.counts.policy == 0


def test_the_next_persona_is_the_gallerys(world):
    world.do('{"do":"persona"}')  # after vera comes the first
    world.until(lambda: world.current.value.persona == "amara" and not world.quality.busy)
    world.do('{"do":"persona"}')
    world.until(lambda: world.current.value.persona == "kofi" and not world.quality.busy)


def test_only_invented_people_are_loaded_before_they_are_asked_for(world):
    """Opening a real person's persona asks for their consent and writes that down."""
    world.do('{"do":"prepare","name":"amara"}')
    world.do('{"do":"prepare","name":"kofi"}')
    world.until(lambda: "kofi" in world.loads)
    assert "amara" not in world.loads


def test_a_real_persons_persona_has_its_label_and_is_closed_when_it_is_taken_off():
    world = World(load=lambda wanted: worn(wanted, kind="person" if wanted.persona == "kofi" else "invented"))
    assert world.pipeline.stages.label is None
    world.do('{"do":"persona","name":"kofi"}')
    world.until(lambda: world.current.value.persona == "kofi" and not world.quality.busy)
    assert world.pipeline.stages.label is not None
    person = world.quality.worn
    world.do('{"do":"adjust","changes":{"label_position":"bottom-left"}}')
    world.step()
    assert world.pipeline.stages.label.position == "bottom-left"
    world.do('{"do":"persona","name":"vera"}')
    world.until(lambda: world.current.value.persona == "vera" and not world.quality.busy)
    assert world.gone == [person]
    assert person.runtime.closed == 1
    assert world.pipeline.stages.label is None
    world.close()


def test_a_persona_that_cannot_be_worn_leaves_the_one_before_on():
    def refuse(wanted):
        raise PersonaNotFoundError("no consent", hint="ask")

    world = World(load=refuse)
    world.do('{"do":"persona","name":"kofi"}')
    world.until(lambda: world.desk.error is not None)
    assert "no consent" in world.state().error
    assert world.current.value.persona == "vera"
    assert shows_swap(world.step())
    world.do('{"do":"persona","name":"nobody"}')
    world.step()
    assert "nobody" in world.desk.error
    world.close()


def test_passthrough_waits_for_a_yes(world):
    world.track.faces = None
    ask = '{"do":"policy","policy":"passthrough"}'
    world.do(ask)
    world.step()
    number = world.desk.question.number
    assert world.current.value.policy is FailurePolicy.VEIL
    world.do(f'{{"do":"confirm","number":{number},"yes":false}}')
    world.step()
    assert (world.desk.question, world.current.value.policy) == (None, FailurePolicy.VEIL)
    world.do(f'{{"do":"confirm","number":{number}}}')
    world.step()
    assert world.current.value.policy is FailurePolicy.VEIL
    assert "nothing to confirm" in world.desk.error
    world.do(ask)
    world.step()
    world.now += int(CONFIRM_S * 1e9)
    world.do(f'{{"do":"confirm","number":{number + 1}}}')
    world.step()
    assert world.current.value.policy is FailurePolicy.VEIL
    world.do(ask)
    world.step()
    world.do(f'{{"do":"confirm","number":{number + 2}}}')
    world.step()
    assert world.current.value.policy is FailurePolicy.PASSTHROUGH
    assert any("YOUR OWN FACE" in line for line in world.state().warnings)
    world.do('{"do":"policy","policy":"card"}')
    world.step()
    assert world.current.value.policy is FailurePolicy.CARD


def test_knobs_reach_what_they_turn(world):
    world.step()
    world.do('{"do":"adjust","changes":{"feather":2,"erode":-3,"sharpen":0.5,"smoothing":1.0,"strength":1.2}}')
    world.step()
    assert world.desk.error is None
    config = world.pipeline.stages.blend.config
    assert (config.feather_px, config.erode_px, config.sharpen) == (2, -3, 0.5)
    assert world.track.config.min_cutoff_hz == pytest.approx(0.1)
    assert world.pipeline.stages.swap.strength == 1.2
    world.do('{"do":"persona","name":"kofi"}')
    world.until(lambda: world.current.value.persona == "kofi")
    assert world.pipeline.stages.blend.config == config
    assert world.pipeline.stages.swap.strength == 1.2


def test_the_morph_is_there_for_personas_that_have_one(world):
    assert world.state().knobs["morph"] is None
    world.do('{"do":"adjust","changes":{"morph":0.5}}')
    world.step()
    assert "morph" in world.desk.error
    assert world.current.value.morph is None
    world.do('{"do":"persona","name":"amara"}')
    world.until(lambda: world.current.value.persona == "amara" and not world.quality.busy)
    assert world.state().knobs["morph"] == 0.75
    world.do('{"do":"adjust","changes":{"morph":0.25}}')
    world.step()
    assert (world.desk.error, world.state().knobs["morph"]) == (None, 0.25)
    assert world.pipeline.stages.swap.morphed == 0.25
    world.do('{"do":"runtime","runtime":"onnxruntime"}')  # the same persona: it stays as it is
    world.until(lambda: world.current.value.runtime == "onnxruntime" and not world.quality.busy)
    assert world.pipeline.stages.swap.morphed == 0.25
    world.do('{"do":"adjust","changes":{"morph":null}}')
    world.step()
    assert world.pipeline.stages.swap.morphed == 0.75
    world.do('{"do":"adjust","changes":{"morph":1.0}}')
    world.do('{"do":"persona","name":"kofi"}')  # it has none, and takes none over
    world.until(lambda: world.current.value.persona == "kofi" and not world.quality.busy)
    assert world.state().knobs["morph"] is None
    assert world.desk.error is None


@pytest.mark.parametrize(
    "changes", ['{"feather":99}', '{"strength":0.0}', '{"label_position":"middle"}', '{"erode":1.5}']
)
def test_values_out_of_range_change_nothing(world, changes):
    before = world.current.value
    world.do(f'{{"do":"adjust","changes":{changes}}}')
    world.step()
    assert world.desk.error is not None
    assert world.current.value is before


def test_the_mirror_turns_the_picture_and_not_the_label():
    world = World(label=True)
    plain = world.step().copy()
    world.do('{"do":"adjust","changes":{"mirror":true}}')
    turned = world.step()
    x0, y0, x1, y1 = world.pipeline.stages.label.box(SIZE)
    letters = [picture[y0:y1, x0:x1].max(axis=2) > 200 for picture in (turned, plain)]
    assert (letters[0] == letters[1]).mean() > 0.95  # what is behind the plate differs
    assert (letters[0] == letters[1][:, ::-1]).mean() < 0.9
    source = wearer(1).pixels
    np.testing.assert_array_equal(turned[-4:], source[:, ::-1][-4:])
    world.close()


def test_recording_runs_beside_the_frames():
    recording = FakeRecording()
    world = World(recording=recording)
    world.do('{"do":"record","on":true}')
    world.until(lambda: recording.calls == ["start"])
    world.until(lambda: not world.desk._recorder.is_alive())
    world.do('{"do":"record","on":false}')
    world.until(lambda: recording.calls == ["start", "stop"])
    recording.error = SinkError("the disk is full", hint="free some space")
    world.until(lambda: not world.desk._recorder.is_alive())
    world.do('{"do":"record","on":true}')
    world.until(lambda: world.desk.error is not None)
    assert "disk is full" in world.desk.error
    world.close()


def test_a_run_without_a_recorder_says_so(world):
    world.do('{"do":"record","on":true}')
    world.step()
    assert "cannot record" in world.desk.error
    assert not world.state().recording.available


def test_the_end_needs_no_frame(world):
    world.do('{"do":"end"}')
    assert world.stop.is_set()


def test_a_state_says_why_there_is_no_swap(world):
    assert world.state().covered_now is None
    watcher = Watcher(
        world.parts, world.desk, Log(), source="s", source_fps=30.0, dropped=lambda: 5, clock=lambda: world.now
    )
    world.step()
    watcher.state()
    world.pipeline.stages.track.update = lambda frame: None
    world.step()
    state = watcher.state()
    assert state.covered_now == "no_face"
    assert state.warnings[0] == "No face is seen: viewers see a blur."
    assert (state.frames.sent, state.frames.swapped, state.frames.covered, state.frames.dropped) == (2, 1, 1, 5)


def test_looking_costs_next_to_nothing(world):
    started = time.thread_time()
    for _ in range(10_000):
        world.desk.look()
    assert time.thread_time() - started < 0.1  # 10 us each, of a frame's 33 ms


assert issubclass(Track, FakeTrack)
