"""JSON in, JSON out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from engines.strict_json import canonical, finite, strict_object


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"1", b'{"a":1,"a":2}', b'{"a":NaN}', b"\xff{}", b"{" * 90_000, b"[" * 90_000, b'{"a":1'],
    ids=lambda data: repr(data[:9]),
)  # fmt: skip
def test_what_is_no_object(data: bytes) -> None:
    with pytest.raises(ValueError):
        strict_object(data)


def test_one_spelling() -> None:
    value = {"b": [1, True, None], "a": {"é": "line\n\u007f", "z": "</x>"}}
    data = canonical(value)
    assert data == '{"a":{"z":"</x>","é":"line\\n\u007f"},"b":[1,true,null]}'.encode()
    assert strict_object(data) == value
    with pytest.raises(ValueError):
        canonical({"a": float("nan")})
    with pytest.raises(TypeError):
        canonical({"a": b"x"})


def test_numbers_that_json_does_not_know() -> None:
    value = finite({"a": np.float32("nan"), "b": (np.int64(3), float("inf")), 3: np.arange(2), "s": "x"})
    assert json.loads(json.dumps(value, allow_nan=False)) == {"a": None, "b": [3, None], "3": [0, 1], "s": "x"}
