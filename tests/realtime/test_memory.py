"""Freed memory goes back to the system, where the C library keeps it."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from realtime import memory
from realtime.memory import give_back_memory


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc keeps freed memory")
def test_what_was_freed_in_small_pieces_is_given_back():
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("this C library has no malloc_trim")
    pieces = [bytes(4000) for _ in range(15_000)]
    kept = pieces[::100]  # between the others, so that nothing goes back by itself
    before = resident_mb()
    del pieces
    held = resident_mb()
    assert held > before - 30, "the C library gave it back unasked: this test shows nothing"
    assert give_back_memory()
    assert resident_mb() < held - 30
    assert len(kept) == 150


def test_without_such_a_function_nothing_happens(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: SimpleNamespace())
    assert not give_back_memory()
    monkeypatch.setattr(memory.sys, "platform", "win32")
    assert not give_back_memory()
