"""Files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engines.errors import DataError
from engines.files import claim_folder, write_atomic


def test_the_new_file_takes_the_old_one_s_place(tmp_path):
    path = tmp_path / "a.bin"
    for data in (b"old", b"newer"):
        write_atomic(path, data)
        assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stage", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_alone(tmp_path, monkeypatch, stage):
    path = tmp_path / "a.bin"
    write_atomic(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if stage == "fsync" else (Path, "replace")), full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    assert path.read_bytes() == b"old"


def test_a_folder_of_something_else_is_not_written_into(tmp_path):
    claim_folder(tmp_path / "a" / "new", "config.json")
    claim_folder(tmp_path / "a" / "new", "config.json")  # empty
    own = tmp_path / "own"
    own.mkdir()
    (own / "config.json").write_text("{}")
    claim_folder(own, "config.json")
    with pytest.raises(DataError, match="something else"):
        claim_folder(own, "manifest.json")
    with pytest.raises(DataError, match="is a file"):
        claim_folder(own / "config.json", "config.json")
    with pytest.raises(DataError, match="cannot make"):
        claim_folder(own / "config.json" / "below", "config.json")
