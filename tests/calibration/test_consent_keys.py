"""Keys on disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from calibration.consent_keys import enroller_key, load_key, make_key, public_hex
from engines.errors import ConsentKeyError, SettingsError


def test_a_key_opens_with_its_passphrase_only(tmp_path: Path) -> None:
    path = tmp_path / "ada.pem"
    key = make_key(path, "a good secret")
    assert b"ENCRYPTED" in path.read_bytes()
    assert public_hex(load_key(path, "a good secret")) == public_hex(key)
    with pytest.raises(ConsentKeyError, match="does not open"):
        load_key(path, "another secret")
    with pytest.raises(SettingsError, match="already"):
        make_key(path, "a good secret")
    assert [p.name for p in tmp_path.iterdir()] == ["ada.pem"]


def test_short_passphrases_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        make_key(tmp_path / "x.pem", "short")
    with pytest.raises(ConsentKeyError, match="cannot be read"):
        load_key(tmp_path / "none.pem", "a good secret")
    (tmp_path / "text.pem").write_text("no key")
    with pytest.raises(ConsentKeyError):
        load_key(tmp_path / "text.pem", "a good secret")


def test_the_machine_has_one_key_for_its_owner_alone(tmp_path: Path) -> None:
    assert public_hex(enroller_key(tmp_path / "a")) == public_hex(enroller_key(tmp_path / "a"))
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "a" / "enroller.pem").stat().st_mode) == 0o600
