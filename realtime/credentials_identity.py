"""Whose name stands under content credentials: this computer's own certificate, or the user's.

    HOME/credentials/key.pem      the private key (P-256), readable for its owner alone
    HOME/credentials/chain.pem    its certificate, and that of the authority which issued it
    HOME/credentials/anchors/     the authority's certificate; authorities of keys that were replaced stay here

C2PA refuses certificates that vouch for themselves, so an authority of this computer's own issues one, once: its
private key never leaves memory and is gone afterwards. The certificate's name is random and says nothing about computer
or user; all recordings of one computer carry the same one. Without a time stamp from outside, credentials hold only as
long as the certificate does: it is made for twenty years.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from engines.errors import SettingsError
from engines.files import read_limited, write_atomic
from engines.folder_lock import FolderLock

FOLDER = "credentials"
KEY, CHAIN, ANCHORS = "key.pem", "chain.pem", "anchors"
VALID = timedelta(days=20 * 365)
_CLAIM_SIGNING = x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1")
"""C2PA's own purpose of a key, c2pa-kp-claimSigning; older readers look for one of mail."""
_MAX_BYTES = 256 << 10
_LOCK_S = 10.0
_POLL_S = 0.02
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


@dataclass(frozen=True, slots=True)
class Identity:
    """What signs."""

    chain: bytes
    """PEM certificates, the signer's first."""
    key: bytes = field(repr=False)
    """PKCS8 PEM, not encrypted."""
    algorithm: str
    """C2PA's name of it: ES256, ES384, ES512, PS256 or ED25519."""
    name: str
    """Common name in the certificate."""
    own: bool
    """Whether it is this computer's own."""


def local_identity(home: Path) -> Identity:
    """The one of this computer, made when it is first asked for. Raises SettingsError when that fails."""
    folder = home / FOLDER
    if not (folder / CHAIN).is_file() or not (folder / KEY).is_file():
        try:
            with _alone(folder):
                if not (folder / CHAIN).is_file() or not (folder / KEY).is_file():
                    _make(folder)
        except OSError as error:
            raise SettingsError(
                f"the certificate for content credentials cannot be made in {folder}: {error.strerror or error}",
                hint="check the rights of the folder, or record with --no-credentials",
            ) from error
    return _identity(folder / CHAIN, folder / KEY, own=True)


def load_identity(chain: Path, key: Path) -> Identity:
    """The user's own, from PEM files. Raises SettingsError."""
    return _identity(chain, key, own=False)


def own_anchors(home: Path) -> Iterator[bytes]:
    """PEM of every authority that this computer ever had."""
    folder = home / FOLDER / ANCHORS
    for path in sorted(folder.glob("*.pem")) if folder.is_dir() else ():
        yield read_limited(path, _MAX_BYTES)


def _identity(chain_path: Path, key_path: Path, *, own: bool) -> Identity:
    hint = (
        "delete both files, and new ones are made" if own else "give a PEM chain, the signer's first, and its PEM key"
    )
    try:
        chain, key = read_limited(chain_path, _MAX_BYTES), read_limited(key_path, _MAX_BYTES)
        certificate = x509.load_pem_x509_certificates(chain)[0]
        private = serialization.load_pem_private_key(key, None)
    except OSError as error:
        raise SettingsError(f"{error.filename} cannot be read: {error.strerror}", hint=hint) from error
    except TypeError as error:
        raise SettingsError(
            f"the key {key_path} has a passphrase", hint="give one without: openssl pkcs8 -topk8 -nocrypt"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{chain_path} or {key_path} is no certificate or key: {error}", hint=hint) from error
    if private.public_key() != certificate.public_key():
        raise SettingsError(f"the key {key_path} does not belong to the certificate {chain_path}", hint=hint)
    now = datetime.now(timezone.utc)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise SettingsError(f"the certificate {chain_path} is not valid today", hint="check the clock, or renew it")
    pkcs8 = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Identity(chain, pkcs8, _algorithm(private, chain_path), str(names[0].value) if names else "-", own)


def _algorithm(key: object, path: Path) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, rsa.RSAPrivateKey):
        return "PS256"
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ED25519"
    raise SettingsError(f"C2PA knows no signatures by the key of {path}", hint="use P-256, P-384, RSA or Ed25519")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: of two that make both files at once, a key could meet the other one's certificate."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    deadline = time.monotonic() + _LOCK_S
    while True:
        try:
            lock = FolderLock(folder)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
    try:
        yield
    finally:
        lock.release()


def _make(folder: Path) -> None:
    """Authority and certificate; the chain last, because it says that all is there."""
    (folder / ANCHORS).mkdir(exist_ok=True)
    number = secrets.token_hex(4)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _authority(f"personacam {number} authority", authority_key)
    certificate = _certificate(f"personacam {number}", key, authority, authority_key)
    pems = [c.public_bytes(serialization.Encoding.PEM) for c in (certificate, authority)]
    write_atomic(folder / ANCHORS / f"{number}.pem", pems[1])
    _write_private(
        folder / KEY,
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    write_atomic(folder / CHAIN, b"".join(pems))


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "personacam, a local certificate"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    """Of one that signs files, or else certificates."""
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not signs,
        crl_sign=not signs,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(common: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return (
        _builder(_name(common), _name(common), key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .sign(key, hashes.SHA256())
    )


def _certificate(
    common: str, key: ec.EllipticCurvePrivateKey, authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """As C2PA 2.2, 14.5.1 wants it."""
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _builder(_name(common), authority.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_CLAIM_SIGNING, ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _write_private(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        # Only the owner may read it, from the first byte on.
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
