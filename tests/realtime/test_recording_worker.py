"""Recordings are finished in another process, which says what went wrong as if it were this one."""

from __future__ import annotations

import errno
import signal
import sys
from pathlib import Path

import pytest

from engines.errors import SinkError
from realtime import recording_worker
from realtime.credentials import claim_of, read_credentials
from realtime.recording_worker import copy_apart, sign_apart
from realtime.session_record import SessionRecord, WornPersona
from tests.realtime.footage import read_video, write_video

PERSONA = WornPersona("vera", "ab" * 32, "invented", None, "2026-01-31T12:00:00Z")
CLAIM = claim_of(SessionRecord("0123456789abcdef", "personacam 9.9", PERSONA.since, None, (PERSONA,), (), None))


def test_copied_and_signed(tmp_path: Path) -> None:
    part = write_video(tmp_path / "part.mp4", range(0, 30_000, 3000))
    copy_apart(part, tmp_path / "copy.mp4")
    assert [tick for tick, _ in read_video(tmp_path / "copy.mp4")] == list(range(0, 30_000, 3000))
    sign_apart(tmp_path / "copy.mp4", tmp_path / "out.mp4", CLAIM, tmp_path, None)
    found = read_credentials(tmp_path / "out.mp4", tmp_path)
    assert found.state == "valid"
    assert found.claim == CLAIM


def test_errors_come_back(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        copy_apart(tmp_path / "nothing.mp4", tmp_path / "copy.mp4")
    assert caught.value.errno == errno.ENOENT
    note = tmp_path / "note.mkv"
    note.write_bytes(b"hello")
    with pytest.raises(SinkError, match="no place") as told:
        sign_apart(note, tmp_path / "out.mkv", CLAIM, tmp_path, None)
    assert told.value.hint


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_process_that_is_killed_is_told(tmp_path: Path, monkeypatch) -> None:
    kill = f"import os, signal; os.kill(os.getpid(), signal.{signal.SIGKILL.name})"
    real = recording_worker.subprocess.run
    monkeypatch.setattr(
        recording_worker.subprocess, "run", lambda command, **options: real([sys.executable, "-c", kill], **options)
    )
    with pytest.raises(OSError, match="status -9"):
        copy_apart(tmp_path / "a.mp4", tmp_path / "b.mp4")
