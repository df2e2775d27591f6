"""The line about the first swapped frame, the patience before it, and the garbage collector while frames run."""

from __future__ import annotations

import gc
import time
from types import SimpleNamespace

import cv2
import pytest

from realtime import start
from realtime.start import Start, few_collections, undivided_opencv


def pipeline(swapped):
    return SimpleNamespace(counts=SimpleNamespace(swapped=swapped))


def test_the_first_swapped_frame_is_told_once():
    said = []
    begun = Start(said.append)
    begun.loaded()
    for swapped in (0, 0, 1, 2):
        begun.look(pipeline(swapped))
    assert len(said) == 1
    assert said[0].startswith("first swapped frame 0.")
    assert begun.took_s is not None


def test_a_long_start_says_so_and_a_short_one_does_not(monkeypatch):
    monkeypatch.setattr(start, "PATIENCE_S", 0.01)
    said = []
    begun = Start(said.append)
    deadline = time.monotonic() + 5
    while not said and time.monotonic() < deadline:
        time.sleep(0.005)
    assert "compiles" in said[0]
    begun.loaded()
    monkeypatch.setattr(start, "PATIENCE_S", 5.0)
    quick = Start(said.append)
    quick.loaded()
    quick._patience.join(2)
    assert len(said) == 1


def test_what_start_up_made_is_not_looked_at_while_frames_run():
    kept = [[] for _ in range(1000)]
    before = gc.get_freeze_count()
    with few_collections():
        assert gc.get_freeze_count() > before + len(kept)
        assert gc.isenabled()
        cycle = []
        cycle.append(cycle)
        del cycle
        assert gc.collect() >= 1, "what frames make is still collected"
    assert gc.get_freeze_count() == 0


def test_the_collector_looks_again_after_a_failure():
    with pytest.raises(ValueError, match="x"), few_collections():
        raise ValueError("x")
    assert gc.get_freeze_count() == 0


def test_opencv_works_in_the_calling_thread_while_frames_run():
    cv2.setNumThreads(2)
    try:
        with undivided_opencv():
            assert cv2.getNumThreads() == 1
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(1)
