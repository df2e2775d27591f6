"""Processes and machines; what they do is tested in test_render.py."""

from __future__ import annotations

import importlib.util
import queue
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from engines.errors import MissingDependencyError, RuntimeFailure, SinkError
from realtime import render_pool
from realtime.config import Settings
from realtime.render import FilmWishes, render
from realtime.render_pool import InProcess, Processes, RayCluster, render_elsewhere
from realtime.render_work import Segment, SegmentCounts
from realtime.render_worker import Progress
from realtime.session import demo_clip
from tests.realtime.film_world import tracks


class Box(queue.Queue):
    """A queue of this process that looks like one between processes."""

    def close(self) -> None:
        pass


def worker(render_task, monkeypatch, *tasks):
    """What a worker process says."""
    monkeypatch.setattr(render_pool, "render_task", render_task)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    todo, said, over = Box(), Box(), threading.Event()
    for task in (*tasks, None):
        todo.put(task)
    render_pool._work(todo, said, over)
    return [said.get_nowait() for _ in range(said.qsize())]


def test_a_worker_tells_of_pictures_and_segments_and_of_its_end(monkeypatch):
    def work(task, heard, stopped):
        assert not stopped()
        for _ in range(5):
            heard(Progress(frames=1))
        heard(Progress(segment=Segment(task, 0, 5), counts=SegmentCounts(5, 5)))

    said = worker(work, monkeypatch, 7, 8)
    assert said[-1] is None
    assert sum(word.frames for word in said[:-1]) == 10
    assert [word.segment.number for word in said[:-1] if word.segment] == [7, 8]


@pytest.mark.parametrize("error", [SinkError("full", hint="free"), ZeroDivisionError("odd")])
def test_a_worker_tells_why_it_failed(monkeypatch, error):
    def work(task, heard, stopped):
        raise error

    (word,) = worker(work, monkeypatch, 1)
    assert isinstance(word, SinkError if isinstance(error, SinkError) else RuntimeFailure)
    assert str(error.args[0]) in word.message


def process(exitcode=None):
    return SimpleNamespace(exitcode=exitcode, is_alive=lambda: False, join=lambda _: None)


def test_a_process_that_dies_is_noticed(monkeypatch):
    monkeypatch.setattr(render_pool, "_POLL_S", 0.001)
    error = Processes._listen([process(), process(-9)], Box(), lambda _: None, threading.Event())
    assert error is not None
    assert "-9" in error.message
    assert "--jobs" in error.hint


def test_the_listener_hears_until_all_have_ended_or_it_is_stopped(monkeypatch):
    monkeypatch.setattr(render_pool, "_POLL_S", 0.001)
    said, heard = Box(), []
    for word in (Progress(frames=3), None, Progress(frames=4), None):
        said.put(word)
    assert Processes._listen([process(), process()], said, heard.append, threading.Event()) is None
    assert sum(word.frames for word in heard) == 7
    stop = threading.Event()
    stop.set()
    said.put(Progress(segment=Segment(0, 0, 5)))
    assert Processes._listen([process()], said, heard.append, stop) is None
    render_pool._end([process()], said, heard.append)
    assert heard[-1].segment is not None, "a segment that was finished at the end counts"


def test_tasks_are_done_in_turn_until_it_is_stopped(monkeypatch):
    done, stop = [], threading.Event()

    def work(task, heard, stopped):
        done.append(task)
        if task == 2:
            stop.set()

    monkeypatch.setattr(render_pool, "render_task", work)
    InProcess().run([1, 2, 3], lambda _: None, stop)
    assert done == [1, 2]


def test_another_machine_sends_its_segments_back(monkeypatch, tmp_path):
    def work(task, heard, stopped):
        assert task.persona_data == b"persona"
        heard(Progress(runtime="openvino f32"))
        heard(Progress(frames=1))
        (task.folder / "00004.mp4").write_bytes(b"pictures")
        heard(Progress(segment=Segment(4, 10, 30), counts=SegmentCounts(20)))

    monkeypatch.setattr(render_pool, "render_task", work)
    real = render_pool.replace

    def replaced(thing, **changes):
        return (
            SimpleNamespace(**(vars(thing) | changes)) if isinstance(thing, SimpleNamespace) else real(thing, **changes)
        )

    monkeypatch.setattr(render_pool, "replace", replaced)
    task = SimpleNamespace(folder=tmp_path, persona_data=None)
    found = render_elsewhere(task, b"persona")
    assert [name for name, _, _ in found] == ["", "00004.mp4"]
    assert found[1][1] == b"pictures"
    assert found[1][2].frames == 20
    cluster = RayCluster.__new__(RayCluster)
    cluster._ray = SimpleNamespace(get=lambda one: one)
    heard = []
    cluster._take(found, heard.append, tmp_path)
    assert (tmp_path / "00004.mp4").read_bytes() == b"pictures"
    assert heard[1].segment == Segment(4, 10, 30)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_extra_is_named():
    with pytest.raises(MissingDependencyError) as caught:
        RayCluster(None, 2)
    assert "personacam[cluster]" in caught.value.hint


def film_of(executor, out: Path, monkeypatch, tmp_path: Path) -> dict:
    """Two seconds of the demo."""
    import av

    monkeypatch.setattr("realtime.render.data_folder", lambda: tmp_path / "home")
    short = tmp_path / "short.mp4"
    with av.open(str(demo_clip())) as source, av.open(str(short), "w") as cut:
        track = cut.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None and packet.pts * packet.time_base < 2:
                packet.stream = track
                cut.mux(packet)
    settings = Settings(source=str(short), persona="vera", tier="tiny")
    return render(settings, FilmWishes(out, segment_s=1.0), executor, say=lambda _: None)


@pytest.mark.slow
def test_two_processes_make_a_film(monkeypatch, tmp_path):
    report = film_of(lambda: Processes(2), tmp_path / "two.mp4", monkeypatch, tmp_path)
    assert report["finished"]
    assert report["frames"]["swapped"] == report["frames"]["total"] == len(tracks(tmp_path / "two.mp4")["times"])


@pytest.mark.slow
def test_a_cluster_of_this_machine_makes_a_film(monkeypatch, tmp_path):
    ray = pytest.importorskip("ray", reason="needs the cluster extra")
    try:
        report = film_of(lambda: RayCluster(None, 2), tmp_path / "ray.mp4", monkeypatch, tmp_path)
    finally:
        ray.shutdown()
    assert report["finished"]
    assert report["frames"]["swapped"] == report["frames"]["total"]
