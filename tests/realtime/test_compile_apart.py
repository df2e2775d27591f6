"""The first start compiles in two processes, later ones load; either way every kernel is ready."""

from __future__ import annotations

import subprocess

import pytest

from realtime import compile_apart, kernels


@pytest.fixture
def steps(monkeypatch):
    """What is done, in order, without doing it."""
    done = []

    class Process:
        def __init__(self, command, **_):
            done.append(" ".join(command[1:]))

        def wait(self):
            done.append("waited")

        def poll(self):
            return 0

    monkeypatch.setattr(subprocess, "Popen", Process)
    for name in ("warm_up", "warm_up_paste", "warm_up_rest"):
        monkeypatch.setattr(kernels, name, lambda name=name: done.append(name))
    monkeypatch.setattr(compile_apart.os, "cpu_count", lambda: 2)
    return done


def test_what_is_cached_is_loaded_by_this_process(steps, monkeypatch):
    monkeypatch.setattr(compile_apart, "is_cached", lambda: True)
    compile_apart.warm_up()
    assert steps == ["warm_up"]


def test_the_first_time_two_processes_share_the_work(steps, monkeypatch):
    monkeypatch.setattr(compile_apart, "is_cached", lambda: False)
    compile_apart.warm_up()
    assert steps == ["-m realtime.compile_apart", "warm_up_rest", "waited", "warm_up_paste"]


def test_one_core_compiles_alone(steps, monkeypatch):
    monkeypatch.setattr(compile_apart.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(compile_apart, "is_cached", lambda: False)
    compile_apart.warm_up()
    assert steps == ["warm_up"]


def test_the_halves_are_the_whole(monkeypatch):
    done = []
    for name in ("warm_up_paste", "warm_up_rest"):
        monkeypatch.setattr(kernels, name, lambda name=name: done.append(name))
    kernels.warm_up()
    assert sorted(done) == ["warm_up_paste", "warm_up_rest"]


def test_the_cache_is_seen():
    kernels.warm_up_paste()
    assert compile_apart.is_cached()
