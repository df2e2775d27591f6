"""Keys: the person's own, behind a passphrase, and the enroller's, of this machine.

Both are Ed25519 in PKCS8 PEM files. The person's is encrypted with the best that ``cryptography`` offers (scrypt or
PBKDF2 with AES). The enroller's is not: trainings end unattended, and it can only make personas that somebody's record
lets it make. It lies in the user's folder, readable for its owner alone.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engines.errors import ConsentKeyError, SettingsError
from engines.files import read_limited

MIN_PASSPHRASE = 8
ENROLLER_KEY = "enroller.pem"
_MAX_BYTES = 16 << 10


def public_hex(key: Ed25519PrivateKey) -> str:
    """The public half, as records name it."""
    return key.public_key().public_bytes_raw().hex()


def make_key(path: Path, passphrase: str) -> Ed25519PrivateKey:
    """A new key in a new file, encrypted. Raises SettingsError when there is a file, or for a short passphrase."""
    if len(passphrase) < MIN_PASSPHRASE:
        raise SettingsError(
            f"the passphrase has {len(passphrase)} letters, it needs {MIN_PASSPHRASE}", hint="choose some words"
        )
    key = Ed25519PrivateKey.generate()
    _write(path, key, serialization.BestAvailableEncryption(passphrase.encode()))
    return key


def load_key(path: Path, passphrase: str) -> Ed25519PrivateKey:
    """Raises ConsentKeyError when the passphrase is wrong, or the file is missing or no such key."""
    return _load(path, passphrase.encode())


def enroller_key(folder: Path) -> Ed25519PrivateKey:
    """The machine's own, made when it is first asked for. Raises ConsentKeyError when it cannot be read or written."""
    path = folder / ENROLLER_KEY
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write(path, Ed25519PrivateKey.generate(), serialization.NoEncryption())
        except SettingsError:
            pass  # another process was quicker
        except OSError as error:
            raise ConsentKeyError(f"cannot make the key {path}: {error.strerror}", hint="check the folder") from error
    return _load(path, None)


def _write(path: Path, key: Ed25519PrivateKey, encryption: serialization.KeySerializationEncryption) -> None:
    data = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # Only the owner may read it, from the first byte on.
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _rename_new(temporary, path)
    except FileExistsError:
        raise SettingsError(
            f"there is a file {path} already", hint="keys are never overwritten: choose another name"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def _rename_new(source: Path, path: Path) -> None:
    """Raises FileExistsError instead of replacing. A link is atomic; some file systems have none."""
    try:
        os.link(source, path)
    except FileExistsError:
        raise
    except OSError:
        if path.exists():
            raise FileExistsError(path) from None
        source.rename(path)


def _load(path: Path, passphrase: bytes | None) -> Ed25519PrivateKey:
    hint = "name the .pem file that personacam consent key made, and its passphrase"
    try:
        key = serialization.load_pem_private_key(read_limited(path, _MAX_BYTES), passphrase)
    except OSError as error:
        raise ConsentKeyError(f"the key {path} cannot be read: {error.strerror}", hint=hint) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConsentKeyError(f"{path} does not open: another passphrase, or no key", hint=hint) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConsentKeyError(f"{path} holds another kind of key", hint=hint)
    return key
