"""Asking for passphrases: not in vain, and again after a slip."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer

from calibration.consent_keys import make_key, public_hex
from engines.errors import ConsentKeyError, SettingsError
from realtime.passphrase import new_key, opened_key

RIGHT = "correct horse"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a person will type, in order."""
    answers: list[str] = []
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: answers.pop(0))
    return answers


def test_a_slip_may_be_repeated(tmp_path: Path, typed: list[str]) -> None:
    key = make_key(tmp_path / "ada.pem", RIGHT)
    typed += ["wrong", RIGHT]
    assert public_hex(opened_key(tmp_path / "ada.pem", None)) == public_hex(key)


def test_three_slips_end_it(tmp_path: Path, typed: list[str]) -> None:
    make_key(tmp_path / "ada.pem", RIGHT)
    typed += ["a", "b", "c", RIGHT]
    with pytest.raises(ConsentKeyError):
        opened_key(tmp_path / "ada.pem", None)
    assert typed == [RIGHT]


def test_nobody_types_for_a_key_that_is_not_there_or_is_there_already(tmp_path: Path, typed: list[str]) -> None:
    with pytest.raises(ConsentKeyError, match="there is no key") as caught:
        opened_key(tmp_path / "ada.pem", None)
    assert "consent key ada.pem" in caught.value.hint
    (tmp_path / "ada.pem").touch()
    with pytest.raises(SettingsError, match="already"):
        new_key(tmp_path / "ada.pem", None)


def test_a_script_gets_one_try(tmp_path: Path) -> None:
    make_key(tmp_path / "ada.pem", RIGHT)
    (tmp_path / "words").write_text("wrong\n")
    with pytest.raises(ConsentKeyError):
        opened_key(tmp_path / "ada.pem", tmp_path / "words")
    with pytest.raises(SettingsError, match="cannot be read"):
        opened_key(tmp_path / "ada.pem", tmp_path / "none")
