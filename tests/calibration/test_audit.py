"""The log: every change of it is seen, every crash is survived, any number of processes write."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from calibration.audit import AuditLog
from engines.errors import AuditError

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    log = AuditLog(tmp_path)
    for k in range(4):
        log.append("run", "ada", {"k": k, "name": "Zoë\n"}, NOW + timedelta(minutes=k))
    return log


def lines(log: AuditLog) -> list[bytes]:
    return (log.folder / "log.jsonl").read_bytes().splitlines(keepends=True)


def write(log: AuditLog, new: list[bytes]) -> None:
    (log.folder / "log.jsonl").write_bytes(b"".join(new))


def test_lines_are_chained_and_read_back(log: AuditLog) -> None:
    entries = log.entries()
    assert [e.details["k"] for e in entries] == [0, 1, 2, 3]
    assert [e.seq for e in entries] == [0, 1, 2, 3]
    assert entries[0].previous == "0" * 64
    assert all(b.previous == a.hash for a, b in itertools.pairwise(entries))
    assert log.latest() == NOW + timedelta(minutes=3)


def test_nothing_there_yet(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "none")
    assert log.entries() == []
    assert log.latest() is None


@pytest.mark.parametrize("at", range(4))
def test_a_changed_line_is_named(log: AuditLog, at: int) -> None:
    changed = lines(log)
    changed[at] = changed[at].replace(b'"run"', b'"rum"')
    write(log, changed)
    with pytest.raises(AuditError, match=f"line {at + 1}") as caught:
        log.entries()
    assert "restart" in caught.value.hint


def test_a_changed_line_with_a_hash_put_right_is_seen_by_the_next(log: AuditLog) -> None:
    from dataclasses import replace

    from engines.strict_json import canonical

    entry = replace(log.entries()[1], persona="eve")
    changed = lines(log)
    changed[1] = canonical(replace(entry, hash=entry.true_hash()).fields()) + b"\n"
    write(log, changed)
    with pytest.raises(AuditError, match="line 3"):
        log.entries()


@pytest.mark.parametrize("gone", [slice(0, 1), slice(1, 2), slice(3, 4), slice(0, 4)])
def test_removed_lines_are_seen(log: AuditLog, gone: slice) -> None:
    rest = lines(log)
    del rest[gone]
    write(log, rest)
    with pytest.raises(AuditError):
        log.entries()


def test_a_gate_sees_lost_last_lines_without_reading_everything(log: AuditLog) -> None:
    write(log, lines(log)[:-1])
    with pytest.raises(AuditError, match="4 were written"):
        log.latest()
    with pytest.raises(AuditError):
        log.append("run", "ada", {}, NOW)


def test_the_head_cannot_go_missing(log: AuditLog) -> None:
    (log.folder / "head.json").unlink()
    with pytest.raises(AuditError, match=r"head\.json is gone"):
        log.append("run", "ada", {}, NOW)


@pytest.mark.parametrize("torn", [b"{", b'{"seq":4,"time":"2026', b"\r\x00\xff"])
def test_a_line_torn_by_a_crash_is_cut_off_with_a_note(log: AuditLog, torn: bytes) -> None:
    with (log.folder / "log.jsonl").open("ab") as file:
        file.write(torn)
    assert len(log.entries()) == 4
    log.append("run", "ada", {"k": 4}, NOW + timedelta(hours=1))
    entries = log.entries()
    assert [e.event for e in entries[4:]] == ["repair", "run"]
    assert entries[4].details["torn_bytes"] == len(torn)


def test_a_crash_between_line_and_head(log: AuditLog) -> None:
    head = (log.folder / "head.json").read_bytes()
    log.append("run", "ada", {}, NOW + timedelta(hours=1))
    (log.folder / "head.json").write_bytes(head)
    assert len(log.entries()) == 5
    log.append("run", "ada", {}, NOW + timedelta(hours=2))
    assert len(log.entries()) == 6


def test_a_crash_after_the_first_line(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.append("run", "ada", {}, NOW)
    (tmp_path / "head.json").unlink()
    log.append("run", "ada", {}, NOW)
    assert len(log.entries()) == 2


def test_the_latest_time_never_goes_back(log: AuditLog) -> None:
    log.append("run", "ada", {}, NOW - timedelta(days=9))
    assert log.latest() == NOW + timedelta(minutes=3)
    log.set_clock(NOW - timedelta(days=9))
    assert log.latest() == NOW - timedelta(days=9)
    assert log.entries()[-1].details == {"was": "2026-06-01T00:03:00Z"}


def test_a_new_log_keeps_the_old_one_and_the_time(log: AuditLog) -> None:
    changed = lines(log)[1:]
    write(log, changed)
    old = log.restart(NOW - timedelta(days=1))
    assert old.read_bytes() == b"".join(changed)
    assert [(e.event, e.details) for e in log.entries()] == [("restart", {"old": old.name})]
    assert log.latest() == NOW + timedelta(minutes=3)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditError, match="cannot be written"):
        AuditLog(tmp_path / "file").append("run", "ada", {}, NOW)


def test_processes_that_append_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from datetime import datetime, timezone;"
        "from calibration.audit import AuditLog\n"
        "for k in range(12): AuditLog(Path(sys.argv[1])).append('run', sys.argv[2], {'k': k},"
        " datetime(2026, 6, 1, tzinfo=timezone.utc))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), who]) for who in ("a", "b")]
    assert [process.wait(60) for process in processes] == [0, 0]
    entries = AuditLog(tmp_path).entries()
    for who in ("a", "b"):
        assert [e.details["k"] for e in entries if e.persona == who] == list(range(12))


def test_lines_are_plain_json(log: AuditLog) -> None:
    assert {"seq", "time", "event", "persona", "details", "previous", "hash"} == json.loads(lines(log)[0]).keys()
