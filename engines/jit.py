"""Compiled loops: numba behind one decorator, so that readers and mypy see plain Python."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, cast

import numba

_P = ParamSpec("_P")
_R = TypeVar("_R")


def kernel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile on the first call (0.3-2 s), cache the machine code on disk, release the interpreter lock.

    Ctrl-C takes effect when the compiler is done.
    """
    compiled: Any = numba.njit(cache=True, nogil=True)(function)
    compile_now = compiled.compile

    def compile_undisturbed(signature: object) -> object:
        with _signals_wait():
            return compile_now(signature)

    compiled.compile = compile_undisturbed  # not on the way of a call whose types are known
    return cast("Callable[_P, _R]", compiled)


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Handlers of signals run after the block.

    LLVM calls back into Python while it compiles, and what a handler raises there (KeyboardInterrupt) is printed and
    forgotten: the program went on, or failed for want of the code that the callback should have taken.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone runs handlers
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    came: list[int] = []
    for number in before:
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)
