"""What this machine knows of consent: records, revocations, when they were last asked for, and its own key.

HOME/consent/records/DIGEST.json
HOME/consent/revocations/SHA256.json
HOME/consent/checks.json            digest of a record -> when its person's list was last read
HOME/consent/enroller.pem
HOME/audit/                         see calibration.audit
HOME/personas/                      imported personas
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from calibration.audit import AuditLog
from calibration.consent import MAX_BYTES, ConsentRecord, SignedRecord, as_text, read_record, when
from calibration.consent_keys import enroller_key
from calibration.consent_revocation import Revocation, read_revocation
from engines.errors import ConsentError, ConsentMissingError, RecordTamperedError
from engines.files import read_limited, write_atomic
from engines.strict_json import canonical, strict_object

_DIGEST = re.compile(r"[0-9a-f]{64}")
_HINT = "check the folder's rights; personacam consent import brings a record in"


class ConsentStore:
    """The files above, under ``home``."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "consent"
        self.log = AuditLog(home / "audit")

    def key(self) -> Ed25519PrivateKey:
        """The enroller's, of this machine. Raises ConsentKeyError."""
        return enroller_key(self.folder)

    def add(self, data: bytes) -> SignedRecord:
        """Keep a signed record. Raises as ``read_record``, ConsentError when it cannot be written."""
        signed = read_record(data)
        self._write(self.folder / "records" / f"{signed.digest}.json", data)
        return signed

    def add_revocation(self, data: bytes) -> Revocation:
        """Keep a revocation. Raises RecordTamperedError, ConsentError when it cannot be written."""
        revocation = read_revocation(data)
        self._keep(revocation)
        return revocation

    def keep_revocations(self, revocations: tuple[Revocation, ...]) -> None:
        """Those that an address gave: they count from now on, with or without a connection."""
        for revocation in revocations:
            self._keep(revocation)

    def _keep(self, revocation: Revocation) -> None:
        data = canonical(revocation.model_dump(mode="json"))
        self._write(self.folder / "revocations" / f"{hashlib.sha256(data).hexdigest()}.json", data)

    def revocations(self) -> list[Revocation]:
        """All that this machine knows. Raises RecordTamperedError for one that is damaged: it may be the one."""
        folder = self.folder / "revocations"
        return [read_revocation(_read(path)) for path in sorted(folder.glob("*.json"))]

    def record(self, digest: str) -> SignedRecord | None:
        """By digest. Raises RecordTamperedError or ConsentKeyError when the file is not what was signed."""
        path = self.folder / "records" / f"{digest}.json"
        if not _DIGEST.fullmatch(digest) or not path.exists():  # a face set of a stranger may name any path
            return None
        signed = read_record(_read(path))
        if signed.digest != digest:
            raise RecordTamperedError(f"{path.name} holds another record", hint=_HINT)
        return signed

    def records(self) -> list[tuple[Path, SignedRecord | ConsentError]]:
        """All, the one asked for last at the end; damaged ones with their error."""
        found: list[tuple[Path, SignedRecord | ConsentError]] = []
        for path in sorted((self.folder / "records").glob("*.json")):
            try:
                found.append((path, read_record(_read(path))))
            except ConsentError as error:
                found.append((path, error))
        return sorted(found, key=lambda item: item[1].record.asked if isinstance(item[1], SignedRecord) else "")

    def record_of(self, name: str) -> SignedRecord | None:
        """The latest record for a persona's name; None: there is none.

        Raises RecordTamperedError or ConsentKeyError when the only one is damaged.
        """
        found = self.records()
        named = [r for _, r in found if isinstance(r, SignedRecord) and r.record.persona == name]
        if named:
            return named[-1]
        for _, error in found:
            if isinstance(error, ConsentError):
                raise error
        return None

    def after(self, signed: SignedRecord, footage: Collection[str], now: datetime) -> list[SignedRecord]:
        """Records here that follow ``signed`` for ``footage`` and have begun, the latest at the end."""
        return [
            later
            for _, later in self.records()
            if isinstance(later, SignedRecord)
            and follows(later.record, signed.record, footage)
            and when(later.record.valid_from) <= now
        ]

    def find(self, name_or_path: str) -> SignedRecord:
        """By a file, the beginning of a digest, or a persona's name. Raises ConsentMissingError and others."""
        path = Path(name_or_path)
        if path.suffix == ".json" or len(path.parts) > 1:
            if not path.is_file():
                raise ConsentMissingError(f"there is no file {path}", hint="check the path")
            return read_record(_read(path))
        for _, signed in reversed(self.records()):
            if isinstance(signed, SignedRecord) and (
                signed.record.persona == name_or_path
                or (len(name_or_path) >= 8 and signed.digest.startswith(name_or_path))
            ):
                return signed
        raise ConsentMissingError(
            f"there is no consent record {name_or_path!r}", hint="personacam consent show lists those on this machine"
        )

    def last_check(self, digest: str) -> datetime | None:
        """When a list of the record's person was last read."""
        text = self._checks().get(digest)
        return when(text) if isinstance(text, str) else None

    def checked(self, digest: str, now: datetime) -> None:
        """Remember that it was read now."""
        checks = self._checks() | {digest: as_text(now)}
        self._write(self.folder / "checks.json", json.dumps(checks, indent=1, sort_keys=True).encode())

    def _checks(self) -> dict[str, object]:
        try:
            checks = strict_object(read_limited(self.folder / "checks.json", 4 << 20))
            for text in checks.values():
                when(str(text))
        except (OSError, ValueError):
            return {}  # as if never checked, which is the safe side
        return checks

    def _write(self, path: Path, data: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, data)
        except OSError as error:
            raise ConsentError(f"cannot write {path}: {error.strerror}", hint=_HINT) from error


def follows(later: ConsentRecord, earlier: ConsentRecord, footage: Collection[str]) -> bool:
    """Whether the same person agreed anew to the same persona by the same enroller, made of ``footage`` (sha256).

    Of records that were asked in the same second none follows the other.
    """
    same = (later.subject.key, later.enroller.key, later.persona) == (
        earlier.subject.key, earlier.enroller.key, earlier.persona
    )  # fmt: skip
    return same and later.asked > earlier.asked and later.footage_digests() >= set(footage)


def _read(path: Path) -> bytes:
    try:
        return read_limited(path, MAX_BYTES)
    except OSError as error:
        raise RecordTamperedError(f"{path} cannot be read: {error.strerror}", hint=_HINT) from error
    except ValueError as error:
        raise RecordTamperedError(f"{path}: {error}", hint=_HINT) from error
