"""``consent renew`` as people type it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from calibration.consent import ConsentRecord, as_text, read_record, sign_record
from calibration.consent_gates import utc_now
from calibration.consent_keys import public_hex
from engines.persona import read_persona
from tests.calibration.consent_world import ADA, NAME, World, enrolled, record_of, timedelta
from tests.onnx_models import write
from tests.realtime.test_cli_consent import call, last

__all__ = ["call"]


@pytest.fixture
def world(call, tmp_path: Path) -> World:
    """A persona that stands on this user's machine, its person without an address that could be asked."""
    world = enrolled(tmp_path / "world")
    (world.root / "home").rename(tmp_path / "home")
    return World(tmp_path, now=utc_now())


def signed(tmp_path: Path, **changes: object) -> Path:
    world = World(tmp_path)
    now = utc_now()
    fields = {"footage": record_of(tmp_path / "world" / "ada.mp4", world.key).footage, "revocation": (),
              "valid_from": as_text(now - timedelta(days=1)), "valid_until": as_text(now + timedelta(days=90)),
              "purposes": ("stream", "film"), "asked": as_text(now), "nonce": "2" * 32}  # fmt: skip
    record = ConsentRecord(**(dict(record_of(tmp_path / "ada.mp4", world.key)) | fields | changes))
    path = tmp_path / f"{time.monotonic_ns()}.json"
    path.write_bytes(sign_record(record, ADA))
    return path


def test_a_persona_is_put_under_a_later_record(call, world: World, tmp_path: Path) -> None:
    record = signed(tmp_path)
    before = world.standing.read_bytes()
    dry = call("consent", "renew", NAME, "--record", str(record), "--dry-run")
    assert "also be used for films" in dry.output
    assert "no longer be used for recordings" in dry.output
    assert "--dry-run" in dry.output
    assert world.standing.read_bytes() == before

    brought = call("consent", "import", str(record)).output
    number = read_record(record.read_bytes()).digest[:16]
    assert f"next: personacam consent renew ada --record {number}" in brought, "not: train again"
    done = call("consent", "renew", NAME, "--record", number, "--json")
    assert [row["changed"] for row in last(done)["files"]] == [True]
    assert "the weights are the same" in done.output
    persona = read_persona(world.standing, admit=lambda _: None)
    assert persona.manifest.chain.consent == last(done)["record"]
    assert "already" in call("consent", "renew", str(world.standing), "--record", str(record)).output
    assert "live streams and films" in call("personas", "show", str(world.standing)).output
    assert [e["event"] for e in last(call("audit", "show", "--json"))["entries"]][-1] == "renew"


def test_all_tiers_or_none(call, world: World, tmp_path: Path) -> None:
    """A damaged file is found before the first one changes."""
    small = world.home / "personas" / "small" / "ada.persona"
    small.parent.mkdir()
    small.write_bytes(world.standing.read_bytes()[:-30])
    before = world.standing.read_bytes()
    assert "->" in call("consent", "renew", NAME, "--record", str(signed(tmp_path)), status=1).output
    assert world.standing.read_bytes() == before
    small.write_bytes(before)
    assert len(last(call("consent", "renew", NAME, "--record", str(signed(tmp_path)), "--json"))["files"]) == 2
    assert small.read_bytes() == world.standing.read_bytes()


@pytest.mark.parametrize(
    ("which", "changes", "message"),
    [
        ("bea", {}, "the record is for ada"),
        ("gone.persona", {}, "there is no file"),
        ("ada", {"valid_until": "2020-01-01T00:00:00Z", "valid_from": "2019-01-01T00:00:00Z"}, "ended at"),
        ("vera.persona", {}, "invented"),
    ],
)
def test_errors_name_the_repair(call, world: World, tmp_path: Path, which, changes, message) -> None:
    write(tmp_path / "vera.persona")
    output = call("consent", "renew", which, "--record", str(signed(tmp_path, **changes)), status=1).output
    assert message in output
    assert "->" in output
    assert public_hex(ADA) not in output
