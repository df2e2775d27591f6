"""A run can be recognised later by its number and by its files, and only on the machine that made it."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

from engines.errors import DataError
from engines.persona import read_persona
from realtime.session import persona_store
from realtime.session_record import (
    RecordedFile,
    Session,
    SessionStore,
    WornPersona,
    new_session_id,
    session_text,
    software,
    utc_text,
    worn,
)

VERA = WornPersona("vera", "ab" * 32, "invented", None, "2026-01-31T12:00:00Z")
NIA = WornPersona("nia", "cd" * 32, "person", "ef" * 32, "2026-01-31T12:05:00Z")


def test_a_run_is_found_by_its_number_and_by_its_files(tmp_path: Path) -> None:
    store = SessionStore(tmp_path / "sessions")
    session, other = Session(store, VERA), Session(store, NIA)
    assert store.find(session.session_id) == session.record
    assert session.record.ended is None
    session.wear(NIA)
    session.wear(NIA)
    session.recorded(RecordedFile("a.mp4", "12" * 32, credentials=True))
    session.end(41, datetime(2026, 1, 31, 13, 0, tzinfo=timezone.utc))
    found = store.find(session.session_id)
    assert found == session.record
    assert found is not None
    assert (found.personas, found.swapped, found.ended) == ((VERA, NIA), 41, "2026-01-31T13:00:00Z")
    assert found.software == software()
    by_file = store.find_file("12" * 32)
    assert by_file is not None
    assert by_file.session_id == session.session_id
    assert store.find_file("13" * 32) is None
    assert {record.session_id for record in store.all()} == {session.session_id, other.session_id}
    assert store.find(new_session_id()) is None


def test_numbers_have_64_bits_and_are_not_0() -> None:
    seen = {new_session_id() for _ in range(200)}
    assert len(seen) == 200
    assert all(0 < number < 1 << 64 for number in seen)
    assert max(number.bit_length() for number in seen) > 60
    assert session_text(0x12AB) == "00000000000012ab"
    for wrong in (0, -1, 1 << 64):
        with pytest.raises(ValueError, match="64 bits"):
            session_text(wrong)


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: value | {"version": 2},
        lambda value: value | {"record": value["record"] | {"personas": []}},
        lambda value: value | {"record": value["record"] | {"session": "0" * 16}},
        lambda value: {"format": value["format"]},
        lambda value: None,
    ],
)
def test_a_damaged_record_is_told_and_hides_no_other(tmp_path: Path, damage) -> None:
    store = SessionStore(tmp_path)
    bad, good = Session(store, VERA), Session(store, VERA)
    path = tmp_path / f"{bad.record.session}.json"
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(DataError, match="damaged"):
        store.find(bad.session_id)
    assert list(store.all()) == [good.record]


def test_no_record_where_nothing_can_be_written_and_none_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be recorded"):
        Session(SessionStore(tmp_path / "file" / "sessions"), VERA)
    assert list(SessionStore(tmp_path / "nowhere").all()) == []


def test_a_shipped_persona_is_named_by_its_file() -> None:
    persona = read_persona(persona_store().find("vera"))
    kept = worn(persona, datetime(2026, 1, 31, 12, 0, tzinfo=timezone.utc))
    assert (kept.name, kept.sha256, kept.kind, kept.consent) == ("vera", persona.sha256, "invented", None)
    assert kept.since == "2026-01-31T12:00:00Z"
    assert len(utc_text()) == 20
