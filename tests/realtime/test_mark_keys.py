"""Keys: one for each computer, for its owner alone, and handed over as a file."""

from __future__ import annotations

import os

import pytest

from engines.errors import DataError
from engines.mark import KEY_BYTES
from realtime import mark_keys
from realtime.mark_keys import KEY_FILE, export_key, fingerprint, marker, own_key, read_key


def test_it_is_made_once_and_kept(tmp_path):
    home = tmp_path / "new"
    first = own_key(home)
    assert len(first) == KEY_BYTES
    assert own_key(home) == first
    assert own_key(tmp_path / "other") != first
    assert [path.name for path in home.iterdir()] == [KEY_FILE]


@pytest.mark.skipif(os.name != "posix", reason="rights are the system's own elsewhere")
def test_nobody_else_may_read_it(tmp_path):
    own_key(tmp_path)
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    (tmp_path / KEY_FILE).chmod(0o644)
    own_key(tmp_path)
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_another_process_may_be_quicker(tmp_path, monkeypatch):
    real = mark_keys._write_new

    def late(path, secret):
        real(path, bytes(KEY_BYTES))
        real(path, secret)

    monkeypatch.setattr(mark_keys, "_write_new", late)
    assert own_key(tmp_path) == bytes(KEY_BYTES)


def test_an_exported_key_is_the_same_and_replaces_nothing(tmp_path):
    out = tmp_path / "studio.key"
    name = export_key(tmp_path, out)
    assert read_key(out) == own_key(tmp_path)
    assert name == fingerprint(own_key(tmp_path))
    assert own_key(tmp_path).hex()[:8] != name
    with pytest.raises(DataError, match="already"):
        export_key(tmp_path, out)
    with pytest.raises(DataError, match="cannot write"):
        export_key(tmp_path, tmp_path / "no" / "folder.key")


@pytest.mark.parametrize(
    "data", [b"", b"personacam-mark-key 1 00", b"personacam-mark-key 2 " + b"00" * 32, b"\xff\xfe"]
)
def test_other_files_are_refused(tmp_path, data):
    path = tmp_path / "a.key"
    path.write_bytes(data)
    with pytest.raises(DataError, match="no key"):
        read_key(path)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_key(tmp_path / "none.key")


def test_a_run_goes_on_without_a_key_and_says_so(tmp_path):
    (tmp_path / KEY_FILE).write_text("damaged")
    said = []
    made = marker(tmp_path, 1 << 40, (64, 48), said.append)
    assert "will not be recognised" in said[0]
    assert made._secret != marker(tmp_path, 1 << 40, (64, 48), said.append)._secret
