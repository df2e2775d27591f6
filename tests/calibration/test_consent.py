"""The record: one spelling, one signature, and what makes no sense is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from calibration.consent import (
    OPEN_KEY,
    ConsentRecord,
    Wanted,
    fingerprint,
    read_record,
    read_request,
    require,
    sign_record,
    write_request,
)
from calibration.consent_keys import public_hex
from calibration.consent_words import in_words, standing
from engines.errors import ConsentKeyError, ConsentMissingError, RecordTamperedError
from tests.calibration.consent_world import ADA, BEGIN, END, EVE, NOW, record_of


@pytest.fixture
def record(tmp_path: Path) -> ConsentRecord:
    footage = tmp_path / "ada.mp4"
    footage.write_bytes(b"footage")
    return record_of(footage, EVE)


def test_signed_and_read_back(record: ConsentRecord) -> None:
    data = sign_record(record, ADA)
    signed = read_record(data)
    assert signed.record == record
    assert signed.digest == record.digest()
    assert sign_record(record, ADA) == data
    assert require(signed, Wanted(), now=NOW, latest=None) == record


def test_a_request_is_signed_elsewhere_with_a_key_that_the_asker_does_not_know(record: ConsentRecord) -> None:
    open_record = record.model_copy(update={"subject": record.subject.model_copy(update={"key": OPEN_KEY})})
    asked = read_request(write_request(open_record))
    assert asked == open_record
    assert read_record(sign_record(asked, ADA)).record == record
    assert "not signed" in in_words(asked)[-1]


def test_another_key_cannot_sign(record: ConsentRecord) -> None:
    with pytest.raises(ConsentKeyError, match=fingerprint(public_hex(EVE))):
        sign_record(record, EVE)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v | {"extra": 1},
        lambda v: v | {"version": 2},
        lambda v: v | {"format": "personacam-consent-request"},
        lambda v: v | {"record": {**v["record"], "valid_until": "2036-01-01T00:00:00Z"}},
        lambda v: v | {"record": {**v["record"], "purposes": ["film", "stream"]}},
        lambda v: v | {"signature": {**v["signature"], "signature": v["signature"]["signature"].upper()}},
        lambda v: v | {"signature": {**v["signature"], "algorithm": "none"}},
        lambda v: v | {"record": {**v["record"], "subject": {"name": "Ada", "key": OPEN_KEY}}},
        lambda v: v | {"record": None},
        lambda v: v | {"signature": []},
    ],
)
def test_what_was_changed_is_refused(record: ConsentRecord, change) -> None:
    value = change(json.loads(sign_record(record, ADA)))
    with pytest.raises(RecordTamperedError) as caught:
        read_record(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
    assert caught.value.hint


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"[" * 9000, b"{" * 70000, b'{"a":NaN}'])
def test_what_is_no_record(data: bytes) -> None:
    with pytest.raises(RecordTamperedError):
        read_record(data)
    with pytest.raises(RecordTamperedError):
        read_request(data)


def test_one_spelling(record: ConsentRecord) -> None:
    data = sign_record(record, ADA)
    for other in (data + b"\n", b" " + data, json.dumps(json.loads(data)).encode()):
        with pytest.raises(RecordTamperedError, match="canonically"):
            read_record(other)


@pytest.mark.parametrize(
    "fields",
    [
        {"purposes": ()}, {"purposes": ("fun",)}, {"purposes": ("film", "film")}, {"territory": ()},
        {"territory": ("world", "DE")}, {"territory": ("Germany",)}, {"valid_until": "2026-01-01T00:00:00Z"},
        {"valid_until": "2099-01-01T00:00:00Z"}, {"valid_until": "2026-13-01T00:00:00Z"}, {"valid_from": "now"},
        {"revocation": ("http://example.org/x",)}, {"revocation": ("https://a\n",)}, {"footage": ()},
        {"persona": "../ada"}, {"disclosure": "\x1b[2J"}, {"nonce": "0"},
    ],
    ids=str,
)  # fmt: skip
def test_records_that_make_no_sense(record: ConsentRecord, fields: dict) -> None:
    with pytest.raises(ValidationError):
        ConsentRecord(**(record.model_dump() | fields))


def test_a_thing_that_names_another_record(record: ConsentRecord) -> None:
    signed = read_record(sign_record(record, ADA))
    with pytest.raises(ConsentMissingError, match="aaaa"):
        require(signed, Wanted(consent="a" * 64), now=NOW, latest=None)


def test_a_clock_that_a_time_server_puts_back_a_little_passes(record: ConsentRecord) -> None:
    from datetime import timedelta

    signed = read_record(sign_record(record, ADA))
    assert require(signed, Wanted(), now=NOW, latest=NOW + timedelta(minutes=4)) == record


def test_in_words(record: ConsentRecord) -> None:
    text = "\n".join(in_words(record))
    for said in ("Ada Example lets Studio Example", "live streams and recordings, everywhere", "01 February 2027",
                 "ada.mp4", "yes.wav", "https://example.org", "AI MODIFIED", fingerprint(public_hex(ADA))):  # fmt: skip
        assert said in text
    assert standing(record, NOW, revoked=False) == "Valid now, for 245 more days."
    assert standing(record, BEGIN, revoked=False).startswith("Valid")
    assert "OVER" in standing(record, END, revoked=False)
    assert "TAKEN BACK" in standing(record, NOW, revoked=True)
