"""``forget`` as people type it: what goes, what stays, and why."""

from __future__ import annotations

from pathlib import Path

from realtime.session_record import RecordedFile, Session, SessionStore, WornPersona
from tests.calibration.consent_world import enrolled
from tests.realtime.test_cli_consent import call, last

__all__ = ["call"]


def test_it_tells_what_goes_and_what_stays(call, tmp_path: Path) -> None:
    world = enrolled(tmp_path / "world")
    (world.root / "home").rename(tmp_path / "home")
    session = Session(
        SessionStore(tmp_path / "home" / "sessions"), WornPersona("ada", "1" * 64, "person", "2" * 64, "x")
    )
    session.recorded(RecordedFile("talk.mp4", "3" * 64, credentials=True))
    dry = call("forget", "ada", "--dry-run", "--json")
    assert "nothing was removed: --dry-run" in dry.output
    stays = {one["what"]: one for one in last(dry)["stays"]}
    assert stays["the record of 1 session"]["items"] == ["talk.mp4"]
    assert "the audit log" in stays
    assert (tmp_path / "home" / "personas" / "ada.persona").exists()
    done = call("forget", "ada", "--yes", "--json")
    assert last(done)["removed"] == last(dry)["removed"]
    assert "what stays, and why" in done.output
    assert "personacam consent revoke" in done.output, "what stops copies"
    assert not (tmp_path / "home" / "personas" / "ada.persona").exists()
    assert "the footage (ada.mp4)" in call("forget", "ada").output, "told again, without a question"
    assert "what stays" not in call("forget", "nobody").output
