"""A later record of the same footage: what lets it be attached, what refuses it, and who can still take it back."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from calibration.consent import ConsentRecord, as_text, read_record, sign_record, write_request
from calibration.consent_keys import public_hex
from calibration.consent_renew import renew
from calibration.consent_revocation import revoke, write_list
from calibration.consent_words import what_changes
from engines.errors import (
    ConsentClockError,
    ConsentError,
    ConsentExpiredError,
    ConsentFootageError,
    ConsentKeyError,
    ConsentMissingError,
    ConsentNotYetValidError,
    ConsentRevokedError,
    ConsentScopeError,
    DataError,
    ManifestTamperedError,
    PersonacamError,
    RecordTamperedError,
    RevocationUnknownError,
    WeightsTamperedError,
)
from engines.persona_zip import unpack
from tests.calibration.consent_world import ADA, BEGIN, END, EVE, NAME, NOW, World, enrolled, flipped, record_of
from tests.calibration.test_consent_gates import GATES
from tests.onnx_models import write

LATER = END + timedelta(days=300)
ASKED = NOW - timedelta(days=1)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> World:
    return enrolled(tmp_path_factory.mktemp("renew") / "world")


@pytest.fixture
def world(template: World, tmp_path: Path) -> World:
    return template.copy(tmp_path / "world")


def record(world: World, **changes: object) -> ConsentRecord:
    """Wider than the one that the persona was made under."""
    wider = {
        "purposes": ("stream", "recording", "film"), "valid_until": as_text(LATER), "asked": as_text(ASKED),
        "nonce": "1" * 32,
    }  # fmt: skip
    return ConsentRecord(**(dict(record_of(world.footage, world.key)) | wider | changes))


def wider(world: World, **changes: object) -> bytes:
    return sign_record(record(world, **changes), ADA)


# ---- what it does ----------------------------------------------------------------------------------------------------


def test_a_wider_record_allows_more_and_no_weight_changes(world: World) -> None:
    before, first = unpack(world.standing.read_bytes()), world.gate.store.record_of(NAME)
    with pytest.raises(ConsentScopeError, match="not to film"):
        world.gate.run(world.standing, [("film",)])
    signed = read_record(wider(world))
    assert renew(world.gate, world.standing, signed).changes
    persona = world.gate.run(world.standing, [("film",)])
    assert persona.valid_until == LATER.timestamp()
    after = unpack(world.standing.read_bytes())
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed == {"manifest.json", "consent.json", "signature"}
    assert persona.manifest.chain.consent == signed.digest
    assert persona.manifest.chain.earlier == (first.digest,)
    assert world.gate.store.record(first.digest).data == first.data, "what it stood under before stays to be shown"
    line = next(e for e in world.gate.store.log.entries() if e.event == "renew")
    assert (line.persona, line.details["consent"], line.details["earlier"]) == (NAME, signed.digest, [first.digest])
    world.now = END + timedelta(days=1)
    assert world.gate.run(world.standing, [("stream",)]).manifest.name == NAME, "the first record is over by now"


def test_the_same_record_again_leaves_the_file_alone(world: World) -> None:
    signed = read_record(wider(world))
    renew(world.gate, world.standing, signed)
    before, lines = world.standing.read_bytes(), len(world.gate.store.log.entries())
    assert not renew(world.gate, world.standing, signed).changes
    assert (world.standing.read_bytes(), len(world.gate.store.log.entries())) == (before, lines)


def test_only_asking_changes_nothing(world: World) -> None:
    files = {path: path.read_bytes() for path in world.root.rglob("*") if path.is_file()}
    assert renew(world.gate, world.standing, read_record(wider(world)), dry_run=True).changes
    checks = world.home / "consent" / "checks.json"
    now = {path: path.read_bytes() for path in world.root.rglob("*") if path.is_file()}
    assert {path for path in files | now if files.get(path) != now.get(path)} <= {checks}


def test_what_is_made_again_stands_under_the_later_record(world: World) -> None:
    """Face set and weights still name the first record, which is over; nothing is cut or trained anew."""
    first = world.gate.store.record_of(NAME).digest
    world.gate.store.add(wider(world))
    world.now = END + timedelta(days=1)
    assert world.gate.extract(NAME, [world.footage], world.faceset)[0] == first
    assert world.train() == world.gate.store.record_of(NAME).digest
    chain = world.export().chain
    assert (chain.consent, chain.earlier) == (world.gate.store.record_of(NAME).digest, (first,))
    world.write_file()
    assert world.run().manifest.chain == chain


def test_an_extraction_of_other_footage_stands_under_its_own_record(world: World) -> None:
    world.footage.write_bytes(b"another day")
    signed = read_record(wider(world))
    world.gate.store.add(signed.data)
    assert world.gate.extract(NAME, [world.footage], world.faceset)[0] == signed.digest
    with pytest.raises(ConsentFootageError):
        renew(world.gate, world.standing, signed)


def test_a_narrower_record_counts_at_once(world: World) -> None:
    """Also for copies that nobody renewed, and there is no way back."""
    first = world.gate.store.record_of(NAME)
    copy = world.standing.read_bytes()
    narrower = wider(world, purposes=("recording",), valid_until=as_text(NOW + timedelta(days=9)))
    renew(world.gate, world.standing, read_record(narrower))
    world.file.write_bytes(copy)
    for path in (world.standing, world.file):
        with pytest.raises(ConsentScopeError, match="not to stream"):
            world.gate.run(path, [("stream",)])
        assert world.gate.run(path, [("recording",)]).manifest.name == NAME
    for signed in (first, read_record(wider(world, asked=as_text(ASKED - timedelta(days=1))))):
        with pytest.raises(ConsentScopeError, match="later record"):
            renew(world.gate, world.standing, signed)
    world.now = NOW + timedelta(days=10)
    for gate in (world.run, world.train, world.export, world.bring_in):
        with pytest.raises(ConsentExpiredError):
            gate()


def test_a_record_that_begins_later_changes_nothing_before(world: World) -> None:
    world.gate.store.add(wider(world, valid_from=as_text(NOW + timedelta(days=1)), purposes=("film",)))
    assert world.run().manifest.name == NAME
    assert world.train() == read_record(world.run().consent).digest
    world.now = NOW + timedelta(days=2)
    with pytest.raises(ConsentScopeError):
        world.run()


# ---- what is refused -------------------------------------------------------------------------------------------------


def _sign(**changes: object) -> Callable[[World], bytes]:
    return lambda world: wider(world, **changes)


def unsigned(world: World) -> bytes:
    return write_request(record(world))


def begins_later(world: World) -> bytes:
    return wider(world, valid_from=as_text(NOW + timedelta(days=1)))


def clock_set_back(world: World) -> bytes:
    world.gate.store.log.append("run", "somebody", {}, NOW + timedelta(hours=1))
    return wider(world)


def other_footage(world: World) -> bytes:
    world.footage.write_bytes(b"another recording")
    return wider(world)


def tampered_record(world: World) -> bytes:
    return flipped(wider(world), 200)


def signature_of_another(world: World) -> bytes:
    value = json.loads(wider(world))
    value["signature"]["signature"] = EVE.sign(record(world).signed_bytes()).hex()
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def signed_by_another(world: World) -> bytes:
    value = json.loads(signature_of_another(world))
    value["signature"]["public_key"] = public_hex(EVE)
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def another_person(world: World) -> bytes:
    """A key does not follow a key, even with the same name."""
    return sign_record(record(world, subject={"name": "Ada Example", "key": public_hex(EVE)}), EVE)


def another_enroller(world: World) -> bytes:
    return wider(world, enroller={"name": "Eve", "key": public_hex(EVE)})


def made_elsewhere(world: World) -> bytes:
    """The enroller whom both records name is another machine's."""
    (world.home / "consent" / "enroller.pem").rename(world.root / "elsewhere.pem")
    enroller = read_record(world.record_file.read_bytes()).record.enroller
    return wider(world, enroller=enroller)


def new_revoked(world: World) -> bytes:
    data = wider(world)
    world.gate.store.add_revocation(revoke(read_record(data).digest, ADA, NOW))
    return data


def old_revoked(world: World) -> bytes:
    world.gate.store.add_revocation(revoke(world.gate.store.record_of(NAME).digest, ADA, NOW))
    return wider(world)


def old_revoked_at_the_address(world: World) -> bytes:
    world.answer = write_list([revoke(world.gate.store.record_of(NAME).digest, ADA, NOW)])
    return wider(world)


def everything_revoked(world: World) -> bytes:
    world.answer = write_list([revoke(None, ADA, NOW)])
    return wider(world)


def address_unknown(world: World) -> bytes:
    world.answer = OSError("no route")
    return wider(world)


def tampered_weights(world: World) -> bytes:
    world.rewrite(world.standing, rehash=False, onnx=flipped(world.member(world.standing, "swap.onnx")))
    return wider(world)


def tampered_manifest(world: World) -> bytes:
    world.rewrite(world.standing, fields={"title": "Somebody else"})
    return wider(world)


def manifest_of_another_record(world: World) -> bytes:
    chain = json.loads(world.member(world.standing, "manifest.json"))["chain"]
    world.rewrite(world.standing, key=world.key, fields={"chain": chain | {"consent": "8" * 64}})
    return wider(world)


def invented(world: World) -> bytes:
    write(world.standing)
    return wider(world)


REFUSED: list[tuple[str, Callable[[World], bytes], type[PersonacamError]]] = [
    ("unsigned", unsigned, ConsentMissingError),
    ("over", _sign(valid_until=as_text(NOW)), ConsentExpiredError),
    ("begins_later", begins_later, ConsentNotYetValidError),
    ("clock_set_back", clock_set_back, ConsentClockError),
    ("other_footage", other_footage, ConsentFootageError),
    ("another_persona", _sign(persona="bea"), ConsentScopeError),
    ("asked_before", _sign(asked=as_text(BEGIN - timedelta(days=1))), ConsentScopeError),
    ("tampered_record", tampered_record, RecordTamperedError),
    ("signature_of_another", signature_of_another, RecordTamperedError),
    ("signed_by_another", signed_by_another, ConsentKeyError),
    ("another_person", another_person, ConsentKeyError),
    ("another_enroller", another_enroller, ConsentKeyError),
    ("made_elsewhere", made_elsewhere, ConsentKeyError),
    ("new_revoked", new_revoked, ConsentRevokedError),
    ("old_revoked", old_revoked, ConsentRevokedError),
    ("old_revoked_at_the_address", old_revoked_at_the_address, ConsentRevokedError),
    ("everything_revoked", everything_revoked, ConsentRevokedError),
    ("address_unknown", address_unknown, RevocationUnknownError),
    ("tampered_weights", tampered_weights, WeightsTamperedError),
    ("tampered_manifest", tampered_manifest, ManifestTamperedError),
    ("manifest_of_another_record", manifest_of_another_record, ManifestTamperedError),
    ("invented", invented, ConsentError),
]


@pytest.mark.parametrize(("case", "error"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_may_not_be_attached(world: World, case: Callable[[World], bytes], error: type[PersonacamError]) -> None:
    if case is address_unknown:
        (world.home / "consent" / "checks.json").unlink()
    data = case(world)
    before, lines = world.standing.read_bytes(), world.gate.store.log.entries()
    with pytest.raises(PersonacamError) as caught:
        renew(world.gate, world.standing, read_record(data))
    assert type(caught.value) is error, caught.value
    assert len(caught.value.hint) > 10
    assert world.standing.read_bytes() == before
    assert world.gate.store.log.entries() == lines


# ---- afterwards ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def renewed_template(template: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    world = template.copy(tmp_path_factory.mktemp("renewed") / "world")
    renew(world.gate, world.standing, read_record(wider(world)))
    world.file.write_bytes(world.standing.read_bytes())
    return world


@pytest.mark.parametrize("gate", GATES)
def test_every_gate_lets_what_was_renewed_pass(renewed_template: World, tmp_path: Path, gate: str) -> None:
    world = renewed_template.copy(tmp_path / "world")
    getattr(world, gate)()
    assert world.gate.store.log.entries()[-1].details["consent"] == read_record(wider(world)).digest


@pytest.mark.parametrize("at_the_address", [False, True], ids=["file", "address"])
@pytest.mark.parametrize("which", ["old", "new", "all"])
@pytest.mark.parametrize("gate", GATES)
def test_taking_back_the_old_or_the_new_record_is_heard_at_every_gate(
    renewed_template: World, tmp_path: Path, gate: str, which: str, at_the_address: bool
) -> None:
    world = renewed_template.copy(tmp_path / "world")
    chain = json.loads(world.member(world.standing, "manifest.json"))["chain"]
    digest = {"old": chain["earlier"][0], "new": chain["consent"], "all": None}[which]
    data = revoke(digest, ADA, NOW)
    if at_the_address:
        world.answer = write_list([data])
    else:
        world.gate.store.add_revocation(data)
    calls = {"extract": lambda: world.gate.extract(NAME, [world.footage], world.faceset)}
    with pytest.raises(ConsentRevokedError, match="took back"):
        calls.get(gate, getattr(world, gate))()


def test_somebody_elses_revocation_of_the_old_record_is_not_heard(renewed_template: World, tmp_path: Path) -> None:
    world = renewed_template.copy(tmp_path / "world")
    chain = json.loads(world.member(world.standing, "manifest.json"))["chain"]
    world.gate.store.add_revocation(revoke(chain["earlier"][0], EVE, NOW))
    assert world.run().manifest.name == NAME


def test_the_line_of_records_cannot_be_cut_from_the_file(renewed_template: World, tmp_path: Path) -> None:
    world = renewed_template.copy(tmp_path / "world")
    chain = json.loads(world.member(world.file, "manifest.json"))["chain"]
    del chain["earlier"]
    world.rewrite(world.file, rehash=False, fields={"chain": chain})
    with pytest.raises(ManifestTamperedError):
        world.run()


# ---- a kill, a full disk ---------------------------------------------------------------------------------------------


def test_a_kill_leaves_the_old_file_and_the_same_call_finishes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException): ...

    def dies(path: Path, data: bytes) -> None:
        raise Killed

    before, signed = world.standing.read_bytes(), read_record(wider(world))
    world.gate.store.add(signed.data)
    with monkeypatch.context() as patch:
        patch.setattr("calibration.consent_renew.write_atomic", dies)
        with pytest.raises(Killed):
            renew(world.gate, world.standing, signed)
    assert world.standing.read_bytes() == before
    assert world.run().manifest.name == NAME
    assert renew(world.gate, world.standing, signed).changes
    assert world.gate.run(world.standing, [("film",)]).manifest.name == NAME


def test_a_file_that_cannot_be_written_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("calibration.consent_renew.write_atomic", full)
    with pytest.raises(DataError, match="No space"):
        renew(world.gate, world.standing, read_record(wider(world)))


def test_what_changes_is_told(world: World) -> None:
    before = record_of(world.footage, world.key)
    text = " ".join(what_changes(before, record(world, purposes=("film",), territory=("DE",), revocation=())))
    for part in (
        "also be used for films", "no longer be used for live streams and recordings", "only in DE, before everywhere",
        "later than before", "at no address",
    ):  # fmt: skip
        assert part in text
    assert what_changes(before, before) == ["It allows what the record before allowed."]
