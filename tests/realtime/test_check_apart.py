"""A persona that another process has checked, and one that it refused."""

from __future__ import annotations

import shutil

import pytest

from engines import persona as personas
from engines.errors import PersonaFormatError
from engines.persona import read_persona
from realtime.check_apart import digest_if_sound
from realtime.session import persona_store


def test_what_was_checked_apart_is_not_checked_again(monkeypatch):
    path = persona_store().find("kofi")
    digest = digest_if_sound(path)
    assert digest == read_persona(path).sha256
    calls = []
    monkeypatch.setattr(personas, "_check_network", lambda *given: calls.append(given))
    assert read_persona(path, checked=digest).sha256 == digest
    assert calls == []
    read_persona(path, checked="0" * 64)  # of another file
    read_persona(persona_store().find("vera"), checked=digest)
    read_persona(path)
    assert len(calls) == 3


def test_a_damaged_file_has_no_digest_and_its_error_is_told(tmp_path):
    path = tmp_path / "broken.persona"
    shutil.copy(persona_store().find("kofi"), path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert digest_if_sound(path) is None
    with pytest.raises(PersonaFormatError):
        read_persona(path, checked=None)
