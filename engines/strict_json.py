"""JSON from strangers, and numbers into JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import numpy as np


def strict_object(data: bytes) -> dict[str, Any]:
    """Of UTF-8 bytes: one object, no key twice, no NaN, no nesting that exhausts the stack. Raises ValueError."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            raise ValueError("a key stands twice")
        return value

    def no_constant(text: str) -> NoReturn:
        raise ValueError(f"{text} is no JSON")

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(value, dict):
        raise ValueError("it holds no object")  # noqa: TRY004 - the bytes are wrong, not their type
    return value


def finite(value: object) -> object:
    """Plain values of ``value``; numbers that JSON does not know become None."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if value - value == 0.0 else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return [finite(item) for item in value]
    return value


def canonical(value: Mapping[str, Any]) -> bytes:
    """The one spelling of an object of texts, whole numbers, truth values, None, lists and objects, as UTF-8.

    RFC 8785 for such values and ASCII keys: sorted keys, no spaces, nothing escaped that need not be. Raises TypeError
    for other values and ValueError for NaN.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
