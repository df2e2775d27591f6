"""Kernels compile whatever happens meanwhile."""

from __future__ import annotations

import signal
import threading

import numba
import numpy as np
import pytest
from llvmlite.binding import ExecutionEngine

from engines.jit import kernel


def _total(values):
    found = 0
    for value in values:
        found += value
    return found


@pytest.fixture
def total(tmp_path, monkeypatch):
    """A kernel that nobody has compiled yet."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return kernel(_total)


@pytest.fixture
def ctrl_c_from_llvm(monkeypatch):
    """Ctrl-C arrives while LLVM tells Python that it has made machine code; how often so far."""
    honest, sent = ExecutionEngine._find_module_ptr, []

    def interrupted(engine, module):
        sent.append(1)
        signal.raise_signal(signal.SIGINT)
        return honest(engine, module)

    # The first that both of numba's callbacks do.
    monkeypatch.setattr(ExecutionEngine, "_find_module_ptr", interrupted)
    return sent


def test_ctrl_c_while_llvm_compiles_comes_after_it_and_is_not_lost(total, ctrl_c_from_llvm):
    numbers = np.arange(5)
    with pytest.raises(KeyboardInterrupt):
        total(numbers)
    assert ctrl_c_from_llvm
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert len(total.signatures) == 1
    assert total(numbers) == 10


def test_somebody_elses_handler_is_asked_once_for_each_and_stays(total, ctrl_c_from_llvm):
    asked = []
    before = signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    try:
        assert total(np.arange(5)) == 10
        mine = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(asked) == len(ctrl_c_from_llvm) >= 1
    mine(0, None)
    assert asked[-1] == 0


def test_other_threads_compile_too(total):
    found = []
    thread = threading.Thread(target=lambda: found.append(total(np.arange(5))))
    thread.start()
    thread.join()
    assert found == [10]
