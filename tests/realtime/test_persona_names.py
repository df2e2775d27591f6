"""Which names a persona may have."""

from __future__ import annotations

import pytest

from engines.errors import SettingsError
from realtime.persona_names import proper_name


@pytest.mark.parametrize("name", ["ada", "a-2", "x" * 40])
def test_proper_names_stay_as_they_are(name: str) -> None:
    assert proper_name(name) == name


@pytest.mark.parametrize(
    ("name", "hint"),
    [("Ada Lovelace", "for example ada-lovelace"), ("x" * 41, "at most 40"), ("../ada", "for example ada"),
     ("", "small letters"), ("kofi", "another name")],
)  # fmt: skip
def test_others_are_refused_with_a_way_out(name: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        proper_name(name)
    assert hint in caught.value.hint
