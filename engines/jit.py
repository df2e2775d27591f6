"""Compiled loops: numba behind one decorator, so that readers and mypy see plain Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

_P = ParamSpec("_P")
_R = TypeVar("_R")


def kernel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile on the first call (0.3-2 s), cache the machine code on disk, release the interpreter lock."""
    return cast("Callable[_P, _R]", numba.njit(cache=True, nogil=True)(function))
