"""THE table: every failure of consent is refused at every gate. And one person's way through all gates and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calibration.consent import read_record, sign_record
from calibration.consent_gates import is_invented
from calibration.consent_keys import public_hex
from calibration.consent_revocation import revoke, write_list
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
    ManifestTamperedError,
    PersonacamError,
    PersonaFormatError,
    RecordTamperedError,
    RevocationUnknownError,
    WeightsTamperedError,
)
from engines.faceset import FaceSetInfo, read_index
from engines.faceset_writer import FaceSetWriter
from engines.persona import read_persona
from tests.calibration.consent_world import (
    ADA,
    BEGIN,
    END,
    EVE,
    EXTRACTED,
    NAME,
    NOW,
    World,
    enrolled,
    flipped,
    record_of,
)
from tests.engines.synthetic import faces
from tests.onnx_models import write

GATES = ("extract", "train", "export", "bring_in", "run")
LOCAL = ("extract", "train", "export")
"""Gates where the record lies in the user's folder; to the others the file brings it."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> World:
    return enrolled(tmp_path_factory.mktemp("consent") / "world")


@pytest.fixture
def world(template: World, tmp_path: Path) -> World:
    return template.copy(tmp_path / "world")


# ---- what goes wrong -------------------------------------------------------------------------------------------------


def missing(world: World, gate: str) -> None:
    if gate in LOCAL:
        world.record_file.unlink()
    else:
        world.rewrite(world.file, key=world.key, consent=None)


def expired(world: World, gate: str) -> None:
    world.now = END


def not_yet(world: World, gate: str) -> None:
    for path in (world.home / "audit").iterdir():  # a machine on which nothing happened yet
        path.unlink()
    world.now = BEGIN - timedelta(seconds=1)


def clock_set_back(world: World, gate: str) -> None:
    world.gate.store.log.append("run", "somebody", {}, NOW + timedelta(hours=1))


def other_footage(world: World, gate: str) -> None:
    other = "7" * 64
    if gate == "extract":
        world.footage.write_bytes(flipped(world.footage.read_bytes()))
    elif gate in LOCAL:
        manifest = world.faceset / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"footage": [other]}))
        world.learn()
    else:
        chain = json.loads(world.member(world.file, "manifest.json"))["chain"]
        world.rewrite(world.file, key=world.key, fields={"chain": chain | {"footage": [other]}})


def tampered_weights(world: World, gate: str) -> None:
    if gate == "export":
        path = world.weights.with_suffix(".safetensors")
        path.write_bytes(flipped(path.read_bytes(), 3))
    else:
        path = world.standing if gate in LOCAL else world.file
        world.rewrite(path, rehash=False, onnx=flipped(world.member(path, "swap.onnx")))


def tampered_record(world: World, gate: str) -> None:
    if gate in LOCAL:
        world.record_file.write_bytes(flipped(world.record_file.read_bytes(), 200))
    else:  # even by the enroller, who can sign the rest again
        changed = world.member(world.file, "consent.json").replace(b'"2027-02-01', b'"2029-02-01')
        world.rewrite(world.file, key=world.key, consent=changed)


def tampered_manifest(world: World, gate: str) -> None:
    if gate in ("train", "export"):
        manifest = world.faceset / "manifest.json"
        manifest.write_text(manifest.read_text().replace("cartoons 1", "cartoons 2"))
        world.learn()  # even if the weights say that they are of it
    else:
        world.rewrite(world.standing if gate == "extract" else world.file, fields={"title": "Somebody else"})


def revoked(world: World, gate: str) -> None:
    world.gate.store.add_revocation(revoke(world.gate.store.record_of(NAME).digest, ADA, NOW))


def revoked_at_the_address(world: World, gate: str) -> None:
    world.answer = write_list([revoke(None, ADA, NOW)])


def wrong_key(world: World, gate: str) -> None:
    """Somebody else signs: the record at the first gates, the persona's manifest at the others."""
    if gate in LOCAL:
        value = json.loads(world.record_file.read_bytes())
        eve = json.loads(
            sign_record(record_of(world.footage, world.key, subject={"name": "Eve", "key": public_hex(EVE)}), EVE)
        )
        value["signature"]["public_key"] = eve["signature"]["public_key"]
        value["signature"]["signature"] = EVE.sign(
            read_record(world.record_file.read_bytes()).record.signed_bytes()
        ).hex()
        world.record_file.write_text(json.dumps(value, sort_keys=True, separators=(",", ":")))
    else:
        world.rewrite(world.file, key=EVE)


FAILURES: list[tuple[Callable[[World, str], None], type[PersonacamError]]] = [
    (missing, ConsentMissingError),
    (expired, ConsentExpiredError),
    (not_yet, ConsentNotYetValidError),
    (clock_set_back, ConsentClockError),
    (other_footage, ConsentFootageError),
    (tampered_weights, WeightsTamperedError),
    (tampered_record, RecordTamperedError),
    (tampered_manifest, ManifestTamperedError),
    (revoked, ConsentRevokedError),
    (revoked_at_the_address, ConsentRevokedError),
    (wrong_key, ConsentKeyError),
]


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(("fail", "error"), FAILURES, ids=[fail.__name__ for fail, _ in FAILURES])
def test_every_failure_is_refused_at_every_gate(world: World, fail, error: type[PersonacamError], gate: str) -> None:
    fail(world, gate)
    before = world.gate.store.log.entries()
    standing = world.standing.read_bytes()
    with pytest.raises(PersonacamError) as caught:
        getattr(world, gate)()
    assert type(caught.value) is error, caught.value
    assert len(caught.value.hint) > 10
    assert world.gate.store.log.entries() == before, "what was refused was not done"
    assert world.standing.read_bytes() == standing


@pytest.mark.parametrize("gate", GATES)
def test_without_a_failure_every_gate_lets_pass_and_logs(world: World, gate: str) -> None:
    before = len(world.gate.store.log.entries())
    getattr(world, gate)()
    added = world.gate.store.log.entries()[before:]
    assert [(e.event, e.persona) for e in added] == [({"bring_in": "import"}.get(gate, gate), NAME)]
    assert world.asked == ["https://example.org/ada/revocations.json"]


# ---- the file --------------------------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(
    name=st.sampled_from(["consent.json", "manifest.json", "swap.onnx"]),
    at=st.integers(min_value=0),
    change=st.integers(1, 255),
    hidden=st.booleans(),
)
def test_any_single_changed_byte_is_refused(template: World, tmp_path: Path, name, at, change, hidden) -> None:
    """``hidden``: the hashes in the manifest are put right, and the enroller's key signs it again where it can."""
    from engines.persona_zip import pack, unpack

    path = tmp_path / "flipped.persona"
    members = unpack(template.file.read_bytes())
    data = bytearray(members[name])
    data[at % len(data)] ^= change
    members[name] = bytes(data)
    path.write_bytes(pack(members))
    if hidden and name != "manifest.json":
        template.rewrite(path, key=template.key if name == "consent.json" else None)
    before = len(template.gate.store.log.entries())
    with pytest.raises((ConsentError, PersonaFormatError)):
        template.gate.run(path)
    assert len(template.gate.store.log.entries()) == before


def test_every_byte_of_a_record_counts(world: World) -> None:
    data = world.record_file.read_bytes()
    for at in range(len(data)):
        with pytest.raises(ConsentError):
            read_record(flipped(data, at))


def test_a_real_person_never_passes_without_somebody_who_decides(world: World) -> None:
    with pytest.raises(ConsentError, match="nothing here decides"):
        read_persona(world.file)


def test_stripped_of_record_and_signature_it_is_no_persona_of_a_person(world: World) -> None:
    from engines.persona_zip import pack, unpack

    members = unpack(world.file.read_bytes())
    del members["signature"]
    world.file.write_bytes(pack(members))
    with pytest.raises(ManifestTamperedError, match="not signed"):
        world.run()


def test_another_person_cannot_take_a_name_that_stands(world: World, tmp_path: Path) -> None:
    other = World(tmp_path / "other", now=NOW)
    other.root.mkdir()
    other.footage.write_bytes(b"footage of eve")
    eve = record_of(other.footage, other.key, subject={"name": "Eve", "key": public_hex(EVE)})
    other.gate.store.add(sign_record(eve, EVE))
    other.extract_faces()
    other.learn()
    other.write_file()
    with pytest.raises(ConsentKeyError, match="on this machine"):
        world.gate.bring_in(other.file)


# ---- scope, addresses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("consent", ["invented:x", "", "../records/x", "a" * 64, "INVENTED:7"])
def test_a_face_set_that_names_anything_else(world: World, consent: str) -> None:
    manifest = world.faceset / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"consent": consent}))
    world.learn()
    for gate in (world.train, world.export):
        with pytest.raises(ConsentMissingError):
            gate()


def test_purposes_and_places(world: World, tmp_path: Path) -> None:
    with pytest.raises(ConsentScopeError, match="not to film"):
        world.gate.run(world.file, [("stream",), ("film",)])
    here = World(tmp_path / "here", now=NOW)
    here.root.mkdir()
    here.footage.write_bytes(b"more")
    here.gate.store.add(sign_record(record_of(here.footage, here.key, territory=("DE", "FR"), revocation=()), ADA))
    here.extract_faces()
    here.learn()
    here.write_file()
    for place, match in ((None, "not known"), ("US", "not to US")):
        with pytest.raises(ConsentScopeError, match=match):
            here.gate.run(here.file, [("stream",)], place)
    assert here.gate.run(here.file, [("stream",)], "FR").valid_until == END.timestamp()
    assert here.asked == []


def test_an_address_that_cannot_be_reached(world: World) -> None:
    world.answer = OSError("no route")
    world.now = EXTRACTED + timedelta(days=13)
    assert world.run().manifest.name == NAME, "it was reached while enrolling"
    assert "could not be asked" in world.warnings[0]
    checks = world.home / "consent" / "checks.json"
    world.now = EXTRACTED + timedelta(days=14)
    with pytest.raises(RevocationUnknownError, match="last known"):
        world.run()
    checks.unlink()
    with pytest.raises(RevocationUnknownError, match="never reached"):
        world.run()
    world.now = NOW
    world.answer = write_list([revoke(None, EVE, NOW)])  # Eve cannot speak for Ada
    assert world.run().manifest.name == NAME


def test_a_revocation_that_was_seen_once_counts_without_a_connection(world: World) -> None:
    world.answer = write_list([revoke(None, ADA, NOW)])
    with pytest.raises(ConsentRevokedError):
        world.run()
    world.answer = OSError("no route")
    with pytest.raises(ConsentRevokedError):
        world.run()


# ---- invented people, other models -----------------------------------------------------------------------------------


def test_invented_people_pass_every_gate_without_a_line(tmp_path: Path) -> None:
    world = World(tmp_path / "invented")
    world.root.mkdir()
    with FaceSetWriter(world.faceset, FaceSetInfo("cartoons 1", "invented:7", {"people": 7}, 40)) as writer:
        writer.add(NAME, "persona", "train", [0], *faces(3, [0], 40))
    assert "footage" not in json.loads((world.faceset / "manifest.json").read_text())
    world.gate.extracted(NAME, world.faceset)
    world.train()
    assert world.export() is None
    write(world.file)
    assert world.bring_in().is_file()
    assert world.run().valid_until is None
    assert world.gate.store.log.entries() == []
    assert not is_invented("invented:7; really ada")


def test_a_model_from_elsewhere_needs_a_record_that_lists_it(tmp_path: Path) -> None:
    world = World(tmp_path / "dfm")
    world.root.mkdir()
    world.footage.write_bytes(b"a model that somebody trained")
    world.gate.store.add(sign_record(record_of(world.footage, world.key), ADA))
    permit = world.gate.adopt(NAME, world.footage, world.file)
    assert permit.chain.faceset is None
    assert permit.chain.weights == permit.chain.footage[0]
    world.footage.write_bytes(b"another model")
    with pytest.raises(ConsentFootageError):
        world.gate.adopt(NAME, world.footage, world.file)


# ---- from footage to a persona, and back -----------------------------------------------------------------------------


def test_enrolled_worn_and_revoked(tmp_path: Path) -> None:
    world = enrolled(tmp_path / "world")
    persona = world.gate.run(world.standing, [("recording",)])
    assert persona.manifest.kind == "person"
    assert persona.valid_until == END.timestamp()
    assert persona.manifest.chain.faceset == read_index(world.faceset).digest
    events = [entry.event for entry in world.gate.store.log.entries()]
    assert events == ["extract", "extract", "train", "export", "import", "run"]
    world.gate.store.add_revocation(revoke(persona.manifest.chain.consent, ADA, world.now))
    for gate in GATES:
        with pytest.raises(ConsentRevokedError, match="took back"):
            getattr(world, gate)()
