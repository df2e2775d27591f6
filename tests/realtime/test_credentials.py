"""Content credentials: a stranger's reader accepts them, and no byte of picture or sound can change unseen."""

from __future__ import annotations

import builtins
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from engines.errors import MissingDependencyError, SettingsError, SinkError, SourceFormatError, SourceNotFoundError
from realtime import credentials_identity
from realtime.credentials import (
    COMPOSITE,
    SESSION_LABEL,
    CredentialClaim,
    claim_of,
    missing_library,
    read_credentials,
    sign_file,
)
from realtime.credentials_identity import load_identity, local_identity, own_anchors
from realtime.recorder import RecorderSink
from realtime.session_record import SessionRecord, WornPersona
from tests.realtime.listening import FakeMicrophone, captured, flashing

c2pa = pytest.importorskip("c2pa")
PERSONA = WornPersona("nia", "ab" * 32, "person", "cd" * 32, "2026-01-31T12:00:00Z")
RECORD = SessionRecord("0123456789abcdef", "personacam 9.9", PERSONA.since, None, (PERSONA,), (), None)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """A short recording with sound."""
    microphone = FakeMicrophone([0.2])
    sink = RecorderSink(tmp_path_factory.mktemp("film") / "plain.mp4", sound=microphone, sleep=lambda _: None)
    sink.open((64, 48), 30.0)
    for index in range(15):
        microphone.now_s = index / 30 + 0.05
        sink.send(flashing(index, [6]), captured(index, 30.0, flashing(index, [6])))
    sink.close()
    return sink.path


@pytest.fixture(scope="module")
def signed(plain: Path, home: Path) -> Path:
    out = plain.with_name("signed.mp4")
    sign_file(plain, out, claim_of(RECORD), local_identity(home))
    return out


def boxes(data: bytes) -> dict[str, tuple[int, int]]:
    """Top-level boxes of an MP4: kind -> (first byte of its content, end)."""
    found, at = {}, 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found[data[at + 4 : at + 8].decode()] = (at + 8, at + size)
        at += size
    return found


def test_the_public_reader_accepts_them(signed: Path, home: Path) -> None:
    """c2pa.Reader itself, once knowing this computer's authority, and once not."""
    offline = {"remote_manifest_fetch": False, "ocsp_fetch": False}
    trust = {"user_anchors": b"".join(own_anchors(home)).decode()}
    for settings, state in (({"verify": offline, "trust": trust}, "Trusted"), ({"verify": offline}, "Valid")):
        with c2pa.Context.from_dict(settings) as context, c2pa.Reader(signed, context=context) as reader:
            assert reader.get_validation_state() == state
            manifest = json.loads(reader.json())
    active = manifest["manifests"][manifest["active_manifest"]]
    (actions,) = (a["data"]["actions"] for a in active["assertions"] if a["label"] == "c2pa.actions.v2")
    assert [action["action"] for action in actions] == ["c2pa.created", "c2pa.edited"]
    assert all(action["digitalSourceType"] == COMPOSITE for action in actions)
    assert actions[1]["description"] == "face replaced"
    (claim,) = (a["data"] for a in active["assertions"] if a["label"] == SESSION_LABEL)
    assert claim["session"] == "0123456789abcdef"
    assert claim["personas"][0]["consent"] == "cd" * 32
    assert "plain" not in json.dumps(manifest)  # names of files are the user's own business


def test_what_is_read_back(signed: Path, home: Path, plain: Path) -> None:
    found = read_credentials(signed, home)
    assert (found.state, found.problems, found.ai) == ("valid", (), True)
    assert found.actions == ("c2pa.created", "c2pa.edited: face replaced")
    assert found.software == "personacam 9.9"
    assert found.claim is not None
    assert (found.claim.session_id, found.claim.personas[0]["name"]) == (0x0123456789ABCDEF, "nia")
    json.dumps(found.as_dict())
    elsewhere = read_credentials(signed)
    assert elsewhere.state == "untrusted"
    assert "nothing here vouches for the signer" in elsewhere.problems[0]
    assert read_credentials(plain, home).state == "none"
    note = plain.with_name("note.txt")
    note.write_text("hello")
    assert read_credentials(note, home).state == "none"
    with pytest.raises(SourceNotFoundError):
        read_credentials(plain.with_name("nothing.mp4"))


def test_anchors_of_the_users_choice_vouch_too(signed: Path, home: Path, tmp_path: Path) -> None:
    anchor = tmp_path / "studio.pem"
    anchor.write_bytes(b"".join(own_anchors(home)))
    assert read_credentials(signed, anchors=[anchor]).state == "valid"
    anchor.write_bytes(b"\xff\xfe")
    with pytest.raises(SourceFormatError):
        read_credentials(signed, anchors=[anchor])


def test_every_flipped_byte_of_picture_sound_and_index_is_detected(signed: Path, home: Path, tmp_path: Path) -> None:
    data = signed.read_bytes()
    found = boxes(data)
    begin, end = found["mdat"]
    where = {begin, end - 1, *range(begin, end, (end - begin) // 12)}
    begin, end = found["moov"]
    where |= {begin, end - 1, *range(begin, end, (end - begin) // 12)}
    begin, end = found["uuid"]  # the credentials themselves
    credentials = {*range(begin + 40, end, (end - begin) // 40)}
    target, true = tmp_path / "changed.mp4", read_credentials(signed, home)
    for at in sorted(where | credentials):
        changed = bytearray(data)
        changed[at] ^= 0x10
        target.write_bytes(changed)
        seen = read_credentials(target, home)
        # Of the credentials, padding and the names of boxes may change: then they must say what they said.
        assert seen.state == "invalid" or (at in credentials and (seen.state == "none" or seen == true)), f"byte {at}"
    target.write_bytes(data[:-1])
    assert read_credentials(target, home).state == "invalid"
    target.write_bytes(data)
    assert read_credentials(target, home).state == "valid"


def test_pictures_and_sound_are_not_touched(signed: Path, plain: Path) -> None:
    before, after = plain.read_bytes(), signed.read_bytes()
    assert before[slice(*boxes(before)["mdat"])] == after[slice(*boxes(after)["mdat"])]


def test_the_own_certificate_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    first, second = local_identity(tmp_path), local_identity(tmp_path)
    assert first == second
    assert first.own
    assert (first.algorithm, first.key) == ("ES256", second.key)
    assert "PRIVATE" not in repr(first)
    folder = tmp_path / "credentials"
    if hasattr(credentials_identity.os, "geteuid"):
        assert (folder / "key.pem").stat().st_mode & 0o077 == 0
        assert folder.stat().st_mode & 0o077 == 0
    certificate, authority = x509.load_pem_x509_certificates(first.chain)
    certificate.verify_directly_issued_by(authority)
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.EMAIL_PROTECTION in usages
    keys = [path for path in folder.rglob("*") if path.is_file() and b"PRIVATE" in path.read_bytes()]
    assert keys == [folder / "key.pem"]  # the authority's is gone
    assert list(own_anchors(tmp_path)) == [authority.public_bytes(serialization.Encoding.PEM)]


def test_recordings_of_a_key_that_was_replaced_stay_valid(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "old.mp4"
    old = local_identity(tmp_path)
    sign_file(plain, out, claim_of(RECORD), old)
    for name in ("key.pem", "chain.pem"):
        (tmp_path / "credentials" / name).unlink()
    assert local_identity(tmp_path).chain != old.chain
    assert read_credentials(out, tmp_path).state == "valid"


def own_pair(folder: Path, *, eku: bool = True, days: int = 30) -> tuple[Path, Path]:
    """A chain and a key such as a user may bring."""
    authority_key, key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    authority = credentials_identity._authority("studio authority", authority_key)
    if eku:
        leaf = credentials_identity._certificate("studio", key, authority, authority_key)
    else:
        leaf = credentials_identity._builder(authority.subject, authority.subject, key).sign(
            authority_key, hashes.SHA256()
        )
    chain, pem = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(b"".join(c.public_bytes(serialization.Encoding.PEM) for c in (leaf, authority)))
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return chain, pem


def test_the_users_own_certificate_signs(plain: Path, tmp_path: Path) -> None:
    identity = load_identity(*own_pair(tmp_path))
    assert (identity.algorithm, identity.name, identity.own) == ("ES384", "studio", False)
    out = tmp_path / "out.mp4"
    sign_file(plain, out, claim_of(RECORD), identity)
    assert read_credentials(out).signer == "studio, personacam, a local certificate"


def test_a_certificate_that_c2pa_does_not_take_leaves_no_file(plain: Path, tmp_path: Path) -> None:
    identity = load_identity(*own_pair(tmp_path, eku=False))
    with pytest.raises(SinkError, match="credentials"):
        sign_file(plain, tmp_path / "out.mp4", claim_of(RECORD), identity)
    assert not (tmp_path / "out.mp4").exists()


def test_keys_and_certificates_that_do_not_fit_are_told_apart(tmp_path: Path) -> None:
    chain, key = own_pair(tmp_path)
    (tmp_path / "other").mkdir()
    other, _ = own_pair(tmp_path / "other")
    with pytest.raises(SettingsError, match="does not belong"):
        load_identity(other, key)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_identity(tmp_path / "none.pem", key)
    with pytest.raises(SettingsError, match="no certificate or key"):
        load_identity(chain, chain)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
        )
    )
    with pytest.raises(SettingsError, match="passphrase"):
        load_identity(chain, locked)


def test_a_certificate_that_is_over_is_refused(tmp_path: Path, monkeypatch) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=21 * 365)

    local_identity(tmp_path)
    monkeypatch.setattr(credentials_identity, "datetime", Later)
    with pytest.raises(SettingsError, match="not valid today"):
        local_identity(tmp_path)
    assert datetime.now(timezone.utc).year < Later.now(timezone.utc).year


def test_matroska_has_no_place_for_them(plain: Path, home: Path, tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"\.mkv"):
        sign_file(plain.with_suffix(".mkv"), tmp_path / "out.mkv", claim_of(RECORD), local_identity(home))


def test_without_the_library_it_is_said(monkeypatch, plain: Path) -> None:
    real = builtins.__import__

    def refuse(name, *rest, **options):
        if name == "c2pa":
            raise ImportError("no module named c2pa")
        return real(name, *rest, **options)

    assert missing_library() is None
    monkeypatch.setattr(builtins, "__import__", refuse)
    assert "pip install c2pa-python" in (missing_library() or "")
    with pytest.raises(MissingDependencyError):
        read_credentials(plain)


def test_what_a_stranger_wrote_is_fit_for_a_terminal_and_of_the_right_shape(plain, home, tmp_path) -> None:
    bad = CredentialClaim("not a number", "evil\x1b[2J 1" * 100, ({"name": "x\ny", "more": [1]},), "now")
    sign_file(plain, tmp_path / "bad.mp4", bad, local_identity(home))
    found = read_credentials(tmp_path / "bad.mp4", home)
    assert found.claim is None
    assert found.software is not None
    assert found.software.isprintable()
    assert len(found.software) < 700
