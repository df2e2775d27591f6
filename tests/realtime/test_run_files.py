"""What a run leaves behind: signed recordings, a record of the session, and nothing that nobody agreed to."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from engines.errors import ConsentScopeError, MissingDependencyError, SettingsError, SinkError
from engines.persona import Persona, read_persona
from realtime import run_files
from realtime.config import Settings
from realtime.credentials import read_credentials
from realtime.recorder import RecorderSink
from realtime.recording import BackgroundRecorder
from realtime.run_files import RunFiles
from realtime.session import persona_store
from realtime.session_record import FOLDER, SessionStore
from realtime.sink import NullSink
from tests.realtime.footage import frame, numbered, read_video

LIVE, FILE = SimpleNamespace(live=True), SimpleNamespace(live=False)


@pytest.fixture(scope="module")
def vera() -> Persona:
    return read_persona(persona_store().find("vera"))


@pytest.fixture(scope="module")
def nia(vera: Persona) -> Persona:
    """As a persona of a real person looks to a run."""
    return replace(vera, manifest=vera.manifest.model_copy(update={"kind": "person", "name": "nia"}), sha256="12" * 32)


class Run:
    """RunFiles with somebody worn."""

    def __init__(self, home: Path, persona: Persona, *, live: bool = True, **options) -> None:
        self.said: list[str] = []
        settings = Settings(**{"source": "0" if live else "talk.mp4", "sink": ("virtualcam",), **options})
        self.files = RunFiles(settings, home, self.said.append, lambda: None)
        self.store = SessionStore(home / FOLDER)
        self.begun = self.files.begun(persona, (64, 48), 30.0, live=live)
        self.begun.__enter__()

    def end(self) -> None:
        self.files.end(7)
        self.begun.__exit__(None, None, None)


def send(sink, count: int = 12) -> None:
    sink.open((64, 48), 30.0)
    for index in range(count):
        sink.send(numbered(index), frame(index, index * 33_333_333))
    sink.close()


def test_a_recording_is_signed_and_written_down(tmp_path: Path, vera: Persona) -> None:
    run = Run(tmp_path, vera, live=False, sink=("out.mp4",))
    (sink,) = run.files.recorders([RecorderSink(tmp_path / "out.mp4")], FILE, live=False)
    send(sink)
    run.end()
    found = read_credentials(tmp_path / "out.mp4", tmp_path)
    record = run.store.find(run.files.session_id)
    assert record is not None
    assert found.state == "valid"
    assert found.claim is not None
    assert found.claim.session_id == run.files.session_id == record.session_id
    assert found.claim.personas[0]["sha256"] == vera.sha256
    (recorded,) = record.recordings
    assert (recorded.name, recorded.credentials) == ("out.mp4", True)
    assert recorded.sha256 == hashlib.sha256((tmp_path / "out.mp4").read_bytes()).hexdigest()
    assert (record.swapped, record.ended is not None) == (7, True)
    assert "with content credentials by personacam" in sink.report
    assert sorted(path.name for path in tmp_path.iterdir()) == ["credentials", "out.mp4", "sessions"]


def test_a_recording_of_a_running_stream_is_too(tmp_path: Path, vera: Persona) -> None:
    run = Run(tmp_path, vera)
    control = run.files.control
    assert control is not None
    control.start(tmp_path / "out.mp4")
    for index in range(12):
        run.files.take(numbered(index), frame(index, index * 33_333_333), vera)
    run.end()
    assert read_credentials(tmp_path / "out.mp4", tmp_path).state == "valid"
    record = run.store.find(run.files.session_id)
    assert record is not None
    assert [file.name for file in record.recordings] == ["out.mp4"]
    assert any("with content credentials" in line for line in run.said)


def test_streams_encode_in_a_thread_of_their_own_and_files_wait(tmp_path: Path, vera: Persona) -> None:
    run = Run(tmp_path, vera, microphone="Yeti")
    given = [NullSink(), RecorderSink(tmp_path / "a.mp4")]
    assert [type(sink) for sink in run.files.recorders(given, LIVE, live=True)] == [NullSink, BackgroundRecorder]
    assert [type(sink) for sink in run.files.recorders(given, LIVE, live=False)] == [NullSink, RecorderSink]
    assert any("microphone is not recorded" in line for line in run.said)
    run.end()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("out.mp4", {"credentials": False}, "without content credentials, as asked"),
        ("out.mkv", {}, ".mkv has no place for them"),
    ],
)
def test_without_credentials_it_is_said(tmp_path: Path, vera: Persona, name, options, words) -> None:
    run = Run(tmp_path, vera, live=False, **options)
    (sink,) = run.files.recorders([RecorderSink(tmp_path / name)], FILE, live=False)
    send(sink)
    assert words in sink.report
    record = run.store.find(run.files.session_id)
    assert record is not None
    assert [file.credentials for file in record.recordings] == [False]
    assert not (tmp_path / "credentials").exists()


def test_without_the_library_recordings_work_and_it_is_said(tmp_path: Path, vera: Persona, monkeypatch) -> None:
    monkeypatch.setattr(run_files, "missing_library", lambda: "pip install c2pa-python")
    run = Run(tmp_path, vera, live=False)
    (sink,) = run.files.recorders([RecorderSink(tmp_path / "out.mp4")], FILE, live=False)
    send(sink)
    assert "WITHOUT content credentials: pip install c2pa-python" in sink.report
    assert len(read_video(tmp_path / "out.mp4")) == 12
    with pytest.raises(MissingDependencyError):
        Run(tmp_path, vera, c2pa_cert=tmp_path / "a", c2pa_key=tmp_path / "b")


def test_a_signature_that_fails_costs_the_credentials_and_not_the_recording(tmp_path, vera, monkeypatch) -> None:
    def fail(path, out, *rest):
        out.write_bytes(b"half")
        raise SinkError("the disk is full", hint="free some space")

    monkeypatch.setattr(run_files, "sign_apart", fail)
    run = Run(tmp_path, vera, live=False)
    (sink,) = run.files.recorders([RecorderSink(tmp_path / "out.mp4")], FILE, live=False)
    send(sink)
    assert "WITHOUT content credentials: the disk is full" in sink.report
    assert len(read_video(tmp_path / "out.mp4")) == 12
    assert not list(tmp_path.glob("*signing*"))


def test_a_real_person_is_asked_before_each_recording_of_a_stream(tmp_path, vera, nia, monkeypatch) -> None:
    asked: list[tuple[object, ...]] = []

    def refuse(*given):
        asked.append(given)
        raise ConsentScopeError("it does not cover recording", hint="ask")

    monkeypatch.setattr(run_files, "admitted", refuse)
    run = Run(tmp_path, nia)
    control = run.files.control
    assert control is not None
    with pytest.raises(ConsentScopeError):
        control.start(tmp_path / "out.mp4")
    assert asked[0][2] == ("recording.mp4",)
    run.end()
    assert not list(tmp_path.glob("out*"))


def test_no_picture_of_a_real_person_gets_into_a_running_recording(tmp_path, vera, nia) -> None:
    run = Run(tmp_path, vera)
    control = run.files.control
    assert control is not None
    control.start(tmp_path / "out.mp4")
    for index in range(20):
        run.files.take(numbered(index), frame(index, index * 33_333_333), vera if index < 8 else nia)
    assert not control.active
    run.end()
    assert len(read_video(tmp_path / "out.mp4")) == 8
    assert any("is a real person" in line for line in run.said)


def test_a_real_person_who_agreed_is_recorded(tmp_path, nia, monkeypatch) -> None:
    monkeypatch.setattr(run_files, "admitted", lambda *given: None)
    run = Run(tmp_path, nia)
    control = run.files.control
    assert control is not None
    control.start(tmp_path / "out.mp4")
    other_tier = replace(nia, manifest=nia.manifest.model_copy(update={"tier": "base"}))
    for index in range(10):
        run.files.take(numbered(index), frame(index, index * 33_333_333), nia if index < 5 else other_tier)
    run.end()
    assert len(read_video(tmp_path / "out.mp4")) == 10


def test_who_was_worn_is_written_down(tmp_path: Path, vera: Persona, nia: Persona) -> None:
    run = Run(tmp_path, vera)
    for index, persona in enumerate((vera, vera, nia, nia)):
        run.files.take(numbered(index), frame(index, index * 33_333_333), persona)
    for _ in range(500):
        record = run.store.find(run.files.session_id)
        assert record is not None
        if len(record.personas) == 2:
            break
        run_files.threading.Event().wait(0.01)
    run.end()
    assert [persona.name for persona in record.personas] == ["vera", "nia"]


def test_what_nobody_sees_leaves_no_record(tmp_path: Path, vera: Persona) -> None:
    run = Run(tmp_path, vera, sink=("null", "preview"))
    run.files.take(numbered(0), frame(0, 0), vera)
    run.end()
    assert list(tmp_path.iterdir()) == []


def test_a_recording_of_what_nobody_else_sees_is_written_down_with_the_runs_own_beginning(tmp_path, vera) -> None:
    run = Run(tmp_path, vera, live=False, sink=("null",))
    run.files._first = replace(run.files._first, since="2026-01-31T12:00:00Z")
    (sink,) = run.files.recorders([RecorderSink(tmp_path / "out.mp4")], FILE, live=False)
    send(sink)
    record = run.store.find(run.files.session_id)
    assert record is not None
    assert (record.started, len(record.personas)) == ("2026-01-31T12:00:00Z", 1)


def test_wrong_certificates_are_told_before_anything_starts(tmp_path: Path, vera: Persona) -> None:
    with pytest.raises(SettingsError, match="belong together"):
        Run(tmp_path, vera, c2pa_cert=tmp_path / "a.pem")
    with pytest.raises(SettingsError, match="cannot be read"):
        Run(tmp_path, vera, c2pa_cert=tmp_path / "a.pem", c2pa_key=tmp_path / "b.pem")
    with pytest.raises(SettingsError, match="leave one of them out"):
        Run(tmp_path, vera, c2pa_cert=tmp_path / "a.pem", c2pa_key=tmp_path / "b.pem", credentials=False)


def test_a_recording_never_replaces_what_is_read(tmp_path: Path, vera: Persona) -> None:
    path = tmp_path / "talk.mp4"
    run = Run(tmp_path, vera, live=False, source=str(path), sink=(str(path),))
    with pytest.raises(SettingsError, match="both source and sink"):
        run.files.recorders([RecorderSink(path)], FILE, live=False)
