"""The real thing on the shipped clip: real detector, real persona, real file."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from calibration.demo_truth import load_truth
from engines.errors import ConsentScopeError, DetectorError, RuntimeFailure, SettingsError, SinkError
from realtime import session
from realtime.config import Settings
from realtime.credentials import read_credentials
from realtime.demo import Scorer, run_demo
from realtime.detect import MeshDetector
from realtime.session import demo_clip, run_session
from realtime.session_record import FOLDER, SessionStore
from realtime.sink import NullSink
from tests.realtime.memory_probe import EVERY, can_measure


def decode(path: Path, most: int | None = None) -> tuple[list[np.ndarray], list[int], str]:
    """Pictures, time stamps and the codec; of a clip as long as the demo's ask only for the first ones."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(itertools.islice(container.decode(stream), most))
        times = [round(float(f.pts * stream.time_base) * 90_000) for f in frames]
        return [f.to_ndarray(format="bgr24") for f in frames], times, stream.codec_context.name


@pytest.fixture(scope="module")
def swapped(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out.mp4"
    result = run_session(Settings(source="demo", sink=(str(out),), frames=60), say=lambda _: None)
    assert result.error is None
    return out, result.report


def face_box(index: int) -> tuple[slice, slice]:
    """The middle of the wearer's true face in frame ``index``."""
    with np.load(demo_clip().with_suffix(".npz")) as data:
        points = data["landmarks"][index][27:60]
    (x0, y0), (x1, y1) = points.min(0).astype(int), points.max(0).astype(int)
    return slice(y0, y1), slice(x0, x1)


def test_every_frame_is_swapped_in_order_with_its_time(swapped):
    out, report = swapped
    pictures, times, codec = decode(out)
    _, source_times, _ = decode(demo_clip(), 60)
    assert codec == "h264"
    assert len(pictures) == 60 == report["frames"]["sent"] == report["frames"]["swapped"]
    assert report["frames"]["dropped"] == 0
    assert times == source_times
    assert pictures[0].shape == (720, 1280, 3)


def test_the_recording_says_what_it_is_and_the_session_is_written_down(swapped):
    out, report = swapped
    found = read_credentials(out, session.data_folder())
    assert (found.state, found.ai, found.claim.session) == ("valid", True, report["session"])
    assert found.claim.personas[0]["sha256"] == report["persona"]["sha256"]
    record = SessionStore(session.data_folder() / FOLDER).find(found.claim.session_id)
    assert (record.swapped, record.recordings[0].name) == (60, out.name)


def test_the_face_is_the_personas_and_the_rest_the_wearers(swapped):
    pictures, _, _ = decode(swapped[0])
    originals, _, _ = decode(demo_clip(), 60)
    for index in (0, 30, 59):
        inside = face_box(index)
        inner = np.abs(pictures[index][inside].astype(int) - originals[index][inside]).mean()
        outer = np.abs(pictures[index][600:, :300].astype(int) - originals[index][600:, :300]).mean()
        assert inner > 5 * max(outer, 1)


@pytest.mark.parametrize("persona", ["vera", "kofi"])
def test_the_wearers_far_eye_is_covered_on_a_turned_head(tmp_path, persona):
    """Both personas are narrower than the wearer there: without the cover 0.07 to 0.27 of the eye's detail got out."""
    out = tmp_path / "out.mp4"
    run_session(Settings(source="demo", persona=persona, sink=(str(out),), frames=126, label=False), say=lambda _: None)
    shown, originals = decode(out)[0], decode(demo_clip(), 126)[0]
    with np.load(demo_clip().with_suffix(".npz")) as data:
        landmarks = data["landmarks"]
    for index in range(105, 126, 5):
        x, y = landmarks[index][36].astype(int)
        patch = slice(y - 14, y + 14), slice(x - 6, x + 22)
        details = []
        for picture in (shown[index], originals[index]):
            grey = picture.astype(np.float32).mean(2)
            details.append((grey - cv2.GaussianBlur(grey, (0, 0), 4))[patch].ravel())
        assert details[0] @ details[1] < 0.06 * (details[1] @ details[1])


def test_the_label_is_in_the_corner(swapped):
    pictures, _, _ = decode(swapped[0])
    originals, _, _ = decode(demo_clip(), 11)
    corner = np.abs(pictures[10][:60, -320:].astype(int) - originals[10][:60, -320:])
    assert corner.max() > 60


@pytest.mark.parametrize("persona", ["vera", "kofi"])
def test_shipped_personas_reach_their_quality(tmp_path, persona):
    """The bounds of the issue, on a wearer and states that were not trained; every fifth frame has a truth."""
    result = run_demo(tmp_path / "demo.mp4", persona, score=True, say=lambda _: None)
    assert result.report["frames"]["policy"] == 0
    assert result.report["quality"]["psnr_masked_db"] >= 20
    assert result.report["quality"]["mask_iou"] >= 0.85
    assert result.report["quality"]["frames"] == 60


def test_the_score_can_fail():
    """The wearer's own face, or the right persona in the wrong place, must score badly."""
    truth = load_truth(demo_clip().with_suffix(".npz"), "vera")
    other = load_truth(demo_clip().with_suffix(".npz"), "kofi")
    assert truth is not None
    assert other is not None
    assert (truth.frames == other.frames).all()
    from engines.metrics import psnr_masked_db

    assert psnr_masked_db(other.crops[0], truth.crops[0], truth.masks[0] > 127) < 18
    assert psnr_masked_db(np.roll(truth.crops[0], 8, axis=1), truth.crops[0], truth.masks[0] > 127) < 24
    assert Scorer(truth).psnr == []


@pytest.mark.parametrize("fault", ["detector", "runtime", "nan", "empty"])
def test_real_stages_that_break_leak_nothing(tmp_path, monkeypatch, fault):
    """Frames 10 to 19 break, deep inside the real stages; the wearer's face must not be in what leaves."""
    broken = range(10, 20)
    if fault == "detector":
        for name in ("follow", "search"):
            real = getattr(MeshDetector, name)

            def raising(self, frame, *last, real=real):
                if frame.index in broken:
                    raise DetectorError("broken", hint="test")
                return real(self, frame, *last)

            monkeypatch.setattr(MeshDetector, name, raising)
    else:
        opened = session.open_swap_runtime
        calls = itertools.count()

        def open_broken(persona, settings):
            runtime = opened(persona, settings)
            run = runtime.run

            def faulty(feeds):
                outputs = dict(run(feeds))
                if next(calls) not in broken:
                    return outputs
                if fault == "runtime":
                    raise RuntimeFailure("broken", hint="test")
                if fault == "nan":
                    outputs["swap"] = np.full_like(outputs["swap"], np.nan)
                else:
                    outputs["mask"] = np.zeros_like(outputs["mask"])
                return outputs

            runtime.run = faulty
            return runtime

        monkeypatch.setattr(session, "open_swap_runtime", open_broken)
    out = tmp_path / "out.mp4"
    result = run_session(Settings(source="demo", sink=(str(out),), frames=30), say=lambda _: None)
    assert result.report["frames"]["policy"] == 10
    pictures, _, _ = decode(out)
    originals, _, _ = decode(demo_clip(), 20)
    for index in range(10, 20):
        box = face_box(index)
        shown, real_face = (p[index][box].astype(float).mean(2) for p in (pictures, originals))
        # High frequencies carry a face: what the veil left of them.
        detail, real_detail = (np.abs(np.diff(x, axis=1)).mean() for x in (shown, real_face))
        assert detail < 0.35 * real_detail


def test_a_recording_never_replaces_its_source(tmp_path):
    clip = tmp_path / "talk.mp4"
    shutil.copy(demo_clip(), clip)
    before = clip.read_bytes()
    with pytest.raises(SettingsError, match="both source and sink"):
        run_session(Settings(source=str(clip), sink=(str(clip),)), say=lambda _: None)
    assert clip.read_bytes() == before


def test_a_sink_that_fails_does_not_end_the_others(tmp_path, monkeypatch):
    out = tmp_path / "out.mp4"

    def full(self, pixels, frame):
        raise SinkError("disk full", hint="test")

    monkeypatch.setattr(NullSink, "send", full)
    result = run_session(Settings(source="demo", sink=(str(out), "null"), frames=5), say=lambda _: None)
    assert result.report["frames"]["sent"] == 5
    assert "sink null" in result.report["errors"]
    assert len(decode(out)[0]) == 5
    alone = run_session(Settings(source="demo", sink=("null",), frames=5), say=lambda _: None)
    assert isinstance(alone.error, SinkError)
    assert alone.report["error"]["hint"] == "test"


def test_a_file_is_never_called_stalled(monkeypatch):
    """A slow disk must not put policy pictures into a recording."""
    limits = []
    real = session.Pipeline.__init__

    def remember(self, *arguments, **named):
        limits.append(named["limits"])
        real(self, *arguments, **named)

    monkeypatch.setattr(session.Pipeline, "__init__", remember)
    run_session(Settings(source="demo", sink=("null",), frames=1), say=lambda _: None)
    run_session(Settings(source="pattern", sink=("null",), frames=1), say=lambda _: None)
    assert [limit.stall_s is None for limit in limits] == [True, False]
    assert [limit.deadline_ms is None for limit in limits] == [True, False]


def test_memory_is_flat():
    """From the clip's second round (frame 300) to its third; over 5,000 frames: benchmarks/bench_pipeline.py.

    A leak of 50 KB a frame is 15 MB of memory handed out; measured without one: 0.1. Resident size moves by up to 9 MB
    without any leak, as glibc keeps an arena for each decoder thread: its bound is for what the heap does not see.
    """
    if not can_measure():
        pytest.skip("memory is read from /proc and glibc")
    done = subprocess.run(
        [sys.executable, "-m", "tests.realtime.memory_probe", "721"],
        cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONMALLOC": "malloc"},
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    resident, handed_out = np.array(json.loads(done.stdout)).T
    second, third = slice(310 // EVERY, 420 // EVERY), slice(610 // EVERY, 720 // EVERY)
    assert np.median(handed_out[third]) - np.median(handed_out[second]) < 6
    assert np.median(resident[third]) - np.median(resident[second]) < 15


def test_frames_keep_their_numbers_in_a_loop():
    seen = []
    run_session(
        Settings(source="demo", sink=("null",), loop=True, frames=310),
        say=lambda _: None,
        watch=lambda frame, swap: seen.append((frame.index, frame.timestamp_ns)),
    )
    assert [i for i, _ in seen] == list(range(310))
    assert all(a[1] < b[1] for a, b in pairwise(seen))


def test_a_refused_consent_is_told_before_the_kernels_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConsentScopeError("not for this", hint="ask")

    def never() -> float:
        raise AssertionError("compiled in vain")

    monkeypatch.setattr(session, "admitted", refuse)
    monkeypatch.setattr(session.compile_apart, "is_cached", lambda: False)
    monkeypatch.setattr(session.compile_apart, "warm_up", never)
    with pytest.raises(ConsentScopeError):
        run_session(Settings(source="pattern", sink=("null",), frames=3), say=lambda _: None)
