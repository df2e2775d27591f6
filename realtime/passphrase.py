"""Passphrases of keys: from a file for scripts, otherwise asked for, and asked again when one does not open."""

from __future__ import annotations

import sys
from pathlib import Path

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engines.errors import ConsentKeyError, SettingsError
from engines.files import read_limited
from realtime.console import say

_TRIES = 3


def new_key(out: Path, file: Path | None) -> Ed25519PrivateKey:
    """A key in the new file ``out``. Raises SettingsError: before anybody types when there is such a file."""
    from calibration.consent_keys import MIN_PASSPHRASE, make_key

    if out.exists():
        raise SettingsError(
            f"there is a file {out} already", hint="keys are never overwritten: use it, or choose another name"
        )
    return make_key(out, _passphrase(file, f"A passphrase for {out.name}, {MIN_PASSPHRASE} letters or more", new=True))


def opened_key(path: Path, file: Path | None) -> Ed25519PrivateKey:
    """The key in ``path``; a person may try three times. Raises ConsentKeyError, SettingsError."""
    from calibration.consent_keys import load_key

    if not path.is_file():
        raise ConsentKeyError(
            f"there is no key {path}", hint=f"check the path; a new one: personacam consent key {path.name}"
        )
    for _ in range(_TRIES - 1):
        try:
            return load_key(path, _passphrase(file, f"Passphrase of {path.name}"))
        except ConsentKeyError as error:
            if file is not None:
                raise
            say(f"{error.message}; once more, or Ctrl-C", "yellow")
    return load_key(path, _passphrase(file, f"Passphrase of {path.name}"))


def _passphrase(file: Path | None, question: str, *, new: bool = False) -> str:
    if file is not None:
        try:
            return read_limited(file, 4096).decode().rstrip("\r\n")
        except OSError as error:
            raise SettingsError(
                f"the passphrase file {file} cannot be read: {error.strerror}", hint="check the path"
            ) from error
        except ValueError as error:
            raise SettingsError(f"the passphrase file {file} is no text", hint="check the path") from error
    if not sys.stdin.isatty():
        raise SettingsError("nobody is there to type the passphrase", hint="pass --passphrase-file")
    again = "The same again" if new else False
    return str(typer.prompt(question, hide_input=True, confirmation_prompt=again))
