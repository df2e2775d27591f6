"""Taking back: who can, and what is known when nobody answers."""

from __future__ import annotations

import io
import json
import threading
import time
from pathlib import Path

import pytest

from calibration.consent import ConsentRecord
from calibration.consent_revocation import (
    MAX_BYTES,
    ask,
    fetch_https,
    read_in_time,
    read_list,
    read_revocation,
    refuse_plain,
    revoke,
    write_list,
)
from engines.errors import RecordTamperedError
from tests.calibration.consent_world import ADA, ADDRESS, EVE, NOW, flipped, record_of

SECOND = "https://example.org/other.json"


@pytest.fixture
def record(tmp_path: Path) -> ConsentRecord:
    footage = tmp_path / "ada.mp4"
    footage.write_bytes(b"footage")
    return record_of(footage, EVE, revocation=(ADDRESS, SECOND))


def test_only_the_person_can(record: ConsentRecord) -> None:
    assert read_revocation(revoke(record.digest(), ADA, NOW)).covers(record)
    assert read_revocation(revoke(None, ADA, NOW)).covers(record)
    assert not read_revocation(revoke("1" * 64, ADA, NOW)).covers(record)
    assert not read_revocation(revoke(record.digest(), EVE, NOW)).covers(record)


def test_every_byte_counts(record: ConsentRecord) -> None:
    data = revoke(record.digest(), ADA, NOW)
    for at in range(0, len(data), 3):
        with pytest.raises(RecordTamperedError):
            read_revocation(flipped(data, at))


def test_a_list_with_a_damaged_entry_still_says_the_others(record: ConsentRecord) -> None:
    good = revoke(record.digest(), ADA, NOW)
    value = json.loads(write_list([good, good]))
    value["revocations"][0]["time"] = "2020-01-01T00:00:00Z"
    value["revocations"].insert(0, "nonsense")
    assert len(read_list(json.dumps(value).encode())) == 1
    for no_list in (b"", b"<html>", b"{}", b"[]", b'{"format":"personacam-revocations","version":1,"revocations":{}}'):
        with pytest.raises(ValueError):
            read_list(no_list)


def test_one_address_is_enough_and_any_can_say_it(record: ConsentRecord) -> None:
    def fetch(address: str, timeout_s: float) -> bytes:
        if address == ADDRESS:
            raise OSError("no route")
        return write_list([revoke(None, ADA, NOW), revoke(None, EVE, NOW)])

    answer = ask(record, fetch)
    assert answer.reached == (SECOND,)
    assert answer.failures == {ADDRESS: "OSError: no route"}
    assert [r.covers(record) for r in answer.revocations] == [True]


def test_an_address_that_never_answers_costs_only_the_time_limit(record: ConsentRecord) -> None:
    released = threading.Event()

    def fetch(address: str, timeout_s: float) -> bytes:
        if address == ADDRESS:
            released.wait(30)
        return write_list([])

    started = time.monotonic()
    answer = ask(record, fetch, timeout_s=0.3)
    released.set()
    assert time.monotonic() - started < 10
    assert answer.reached == (SECOND,)
    assert "no answer" in answer.failures[ADDRESS]


def test_whatever_a_fetch_raises_is_an_answer(record: ConsentRecord) -> None:
    def fetch(address: str, timeout_s: float) -> bytes:
        raise ZeroDivisionError

    assert set(ask(record, fetch).failures) == {ADDRESS, SECOND}


def test_only_https_and_not_without_end() -> None:
    for address in ("http://example.org", "file:///etc/passwd", "ftp://x"):
        with pytest.raises(ValueError):
            fetch_https(address, 1.0)
        with pytest.raises(ValueError):
            refuse_plain(address)
    refuse_plain(ADDRESS)
    assert read_in_time(io.BytesIO(b"x" * 100_000), 1.0) == b"x" * 100_000
    with pytest.raises(ValueError, match="more than"):
        read_in_time(io.BytesIO(bytes(MAX_BYTES + 1)), 1.0)
    ticks = iter(range(0, 100, 3))
    with pytest.raises(TimeoutError):
        read_in_time(io.BytesIO(bytes(100_000)), 5.0, clock=lambda: float(next(ticks)))
