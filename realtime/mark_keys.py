"""Keys of the invisible mark: this computer's own, and those that others handed over.

Every installation has its own secret key, made when it is first needed and readable for its owner alone. So the marks
of two people have nothing in common: who has no key sees noise, cannot follow a wearer from stream to stream by it, and
cannot take the mark out by subtracting it. ``personacam verify`` on the same computer finds it without being asked.

Others need the key. It can be exported and handed to somebody who is trusted: a platform's moderators, a second
computer. It is symmetric: whoever can find a mark with it can also forge one. A key that comes with the program would
let everybody find every mark, and everybody remove or forge it; viewers have the visible label and, in recordings, the
content credentials, which need no key.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from engines.errors import DataError
from engines.files import read_limited
from engines.mark import KEY_BYTES
from realtime.mark import Marker

KEY_FILE = "mark.key"
"""Under the user's data folder."""
_HEAD = "personacam-mark-key 1"
_MAX_BYTES = 4096


def own_key(home: Path) -> bytes:
    """The key of this computer, made when it is first asked for. Raises DataError when it cannot be read or written."""
    path = home / KEY_FILE
    if not path.exists():
        try:
            home.mkdir(parents=True, exist_ok=True)
            _write_new(path, secrets.token_bytes(KEY_BYTES))
        except FileExistsError:
            pass  # another process was quicker
        except OSError as error:
            raise DataError(
                f"the key of the invisible mark cannot be made in {home}: {error.strerror}", hint="check the folder"
            ) from error
    elif os.name == "posix" and path.stat().st_mode & 0o077:
        with contextlib.suppress(OSError):  # somebody else's file; reading it will tell
            path.chmod(0o600)
    return read_key(path)


def marker(home: Path, session_id: int, size: tuple[int, int], say: Callable[[str], None]) -> Marker:
    """What puts this computer's mark into pictures of (width, height).

    Without a key that can be read or made (a full disk, a read-only folder) the pictures are marked with one that
    nobody knows, and the user is told: the stream goes on, and nothing can recognise it later.
    """
    try:
        secret = own_key(home)
    except DataError as error:
        say(f"the invisible mark will not be recognised: {error}")
        secret = secrets.token_bytes(KEY_BYTES)
    return Marker(secret, session_id, size)


def read_key(path: Path) -> bytes:
    """A key's KEY_BYTES bytes. Raises DataError for a file that is none."""
    try:
        head, _, digits = read_limited(path, _MAX_BYTES).decode("ascii").strip().rpartition(" ")
        secret = bytes.fromhex(digits)
        if head != _HEAD or len(secret) != KEY_BYTES:
            raise ValueError("another format")
    except OSError as error:
        raise DataError(f"the key {path} cannot be read: {error.strerror}", hint="check the path") from error
    except ValueError as error:
        raise DataError(
            f"{path} is no key of an invisible mark", hint="give the file that personacam mark export wrote"
        ) from error
    return secret


def export_key(home: Path, out: Path) -> str:
    """Write a copy of this computer's key to a new file, readable for its owner; returns its fingerprint.

    Raises DataError when there is a file already, or it cannot be written.
    """
    secret = own_key(home)
    try:
        _write_new(out, secret)
    except FileExistsError:
        raise DataError(f"there is a file {out} already", hint="keys are never overwritten: choose another") from None
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror}", hint="choose another folder") from error
    return fingerprint(secret)


def fingerprint(secret: bytes) -> str:
    """8 hexadecimal digits that tell keys apart and give nothing away."""
    return hashlib.sha256(b"personacam mark fingerprint\0" + secret).hexdigest()[:8]


def _write_new(path: Path, secret: bytes) -> None:
    """Whole or not at all, readable for its owner alone from the first byte on. Raises FileExistsError, OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(f"{_HEAD} {secret.hex()}\n".encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            raise FileExistsError(path)
        try:
            os.link(temporary, path)  # atomic, and never replaces
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
