"""The verbs as people use them: asked here, signed there, brought in, shown, taken back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from realtime.cli import app
from tests.calibration.consent_world import enrolled
from tests.onnx_models import write

WORDS = "correct horse battery"


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a command line in a folder of its own, for a user of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("realtime.session.data_folder", lambda: tmp_path / "home")
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "pass.txt").write_text(WORDS + "\n")
    (tmp_path / "ada.mp4").write_bytes(b"footage")

    def run(*arguments: str, status: int = 0):
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == status, (result.output, result.exception)
        return result

    return run


SIGNING = ("--key", "ada.pem", "--passphrase-file", "pass.txt", "--yes")
REQUEST = ("consent", "request", "ada", "--subject", "Ada Example", "--enroller", "Me", "--footage", "ada.mp4",
           "--purpose", "stream")  # fmt: skip


def last(result) -> dict:
    return json.loads(result.stdout.splitlines()[-1])


def test_from_the_request_to_the_revocation(call, tmp_path: Path) -> None:
    made = last(call("consent", "key", "ada.pem", "--passphrase-file", "pass.txt", "--json"))
    assert len(made["public"]) == 64
    assert "live streams" in call(*REQUEST, "--days", "30", "--revocation", "https://example.org/a.json").output
    signed = last(call("consent", "sign", "ada.request.json", *SIGNING, "--json"))
    record = json.loads((tmp_path / "ada.consent.json").read_text())["record"]
    assert record["subject"] == {"name": "Ada Example", "key": made["public"]}
    assert WORDS not in (tmp_path / "ada.pem").read_text()

    assert "nobody has signed it yet" in call("consent", "import", "ada.request.json", status=1).output
    brought = call("consent", "import", "ada.consent.json", "--json")
    assert last(brought)["digest"] == signed["digest"]
    assert "next: personacam train persona ada --source ada.mp4" in brought.output
    shown = call("consent", "show", "ada", "--json")
    assert last(shown)["records"][0]["standing"].startswith("Valid now")
    call("consent", "list-file", "list.json")
    call("consent", "revoke", "ada", *SIGNING, "--publish", "list.json")
    assert "TAKEN BACK" in call("consent", "show", signed["digest"][:12]).output
    assert len(json.loads((tmp_path / "list.json").read_text())["revocations"]) == 1
    assert last(call("consent", "import", "list.json", "--json")) == {"revocations": 1}
    assert last(call("audit", "verify", "--json"))["lines"] == 3
    events = [e["event"] for e in last(call("audit", "show", "--json"))["entries"]]
    assert events == ["consent", "revoke", "revoke"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*REQUEST, "--purpose", "fun"), "none of the purposes"),
        (("consent", "request", "Ada L", *REQUEST[3:]), "for example ada-l"),
        (("consent", "request", "kofi", *REQUEST[3:]), "come with personacam"),
        ((*REQUEST, "--until", "tomorrow"), "--until"),
        ((*REQUEST, "--revocation", "http://example.org"), "revocation"),
        (("consent", "sign", "none.json", *SIGNING), "none.json"),
        (("consent", "import", "ada.mp4"), "consent record is damaged"),
        (("consent", "import", "gone.json"), "gone.json cannot be read: No such file"),
        (("consent", "key", "pass.txt", "--passphrase-file", "pass.txt"), "already"),
        (("consent", "show", "bea"), "bea"),
        (("consent", "key", "short.pem"), "passphrase"),
        (("audit", "restart"), "not confirmed"),
        (("personas", "import", "ada.persona"), "ada.persona"),
    ],
)
def test_errors_name_the_repair(call, arguments, message) -> None:
    output = call(*arguments, status=1).output
    assert message in output
    assert "->" in output


def test_a_record_is_never_signed_without_a_yes(call) -> None:
    call("consent", "key", "ada.pem", "--passphrase-file", "pass.txt")
    call(*REQUEST)
    assert "not confirmed" in call("consent", "sign", "ada.request.json", *SIGNING[:-1], status=1).output


def test_a_persona_is_imported_shown_and_forgotten(call, tmp_path: Path) -> None:
    world = enrolled(tmp_path / "world")
    (world.root / "home").rename(tmp_path / "home")
    shown = call("personas", "show", str(tmp_path / "home" / "personas" / "ada.persona"), "--json")
    assert "Ada Example lets Studio Example" in shown.output
    assert last(shown)["consent"]["standing"]
    dry = last(call("forget", "ada", "--dry-run", "--json"))
    assert len(dry["removed"]) == 3
    assert "not confirmed" in call("forget", "ada", status=1).output
    assert last(call("forget", "ada", "--yes", "--json"))["removed"] == dry["removed"]
    assert "nothing of ada" in call("forget", "ada", "--yes").output
    assert world.footage.exists()
    write(tmp_path / "vera.persona")
    assert last(call("personas", "import", "vera.persona", "--json"))["persona"] == "ada"
