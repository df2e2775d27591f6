"""The consent record: who lets whom make a persona of their face, for what, where, until when, of which footage.

A record is one canonical JSON object (see ``engines.strict_json.canonical``), signed with Ed25519 by the key of the
person who is shown:

    {"format": "personacam-consent", "record": {...}, "version": 1,
     "signature": {"algorithm": "ed25519", "public_key": HEX, "signature": HEX}}

The subject signs the record, the record names the enroller's key, and the enroller's machine signs what it makes:
so the person need not be there when a training ends, and nobody else can put their own weights under the record. The
*digest* of a record is the sha256 of what is signed, without the signature: the person who asks and the one who signs
see the same number before and after.

What a record proves is that the holder of a key agreed. That the key is the person's own is for people to make sure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Literal, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engines.errors import (
    ConsentClockError,
    ConsentExpiredError,
    ConsentFootageError,
    ConsentKeyError,
    ConsentMissingError,
    ConsentNotYetValidError,
    ConsentRevokedError,
    ConsentScopeError,
    RecordTamperedError,
)
from engines.persona import Line, Sha256
from engines.strict_json import canonical, strict_object

FORMAT = "personacam-consent"
REQUEST_FORMAT = "personacam-consent-request"
VERSION = 1
MAX_BYTES = 64 << 10
CLOCK_TOLERANCE = timedelta(minutes=5)
"""So far clocks are put back by time servers."""
LONGEST = timedelta(days=3660)
"""Of a consent: about ten years."""
_SIGNED = b"personacam consent record\n"
"""Before the signed bytes, so that a signature for one purpose is none for another."""

Purpose = Literal["stream", "recording", "call", "film", "research"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
WORLD = "world"
OPEN_KEY = "0" * 64
"""Of the subject in a request: whoever signs it puts their own key there."""

Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
"""UTC, to the second."""
Key = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""An Ed25519 public key."""
Territory = Annotated[str, Field(pattern=r"^([A-Z]{2}|world)$")]
"""A country (ISO 3166-1 alpha-2), or everywhere."""
Address = Annotated[str, Field(max_length=300, pattern=r"^https://[^\s\x00-\x20\x7f\"<>\\]+$")]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Party(_Strict):
    """Somebody with a key."""

    name: Line
    key: Key


class Media(_Strict):
    """A file that the person knows of. It stays where it is; this tells it from every other."""

    name: Line
    sha256: Sha256
    bytes: int = Field(ge=0)


class ConsentRecord(_Strict):
    """What the person agreed to."""

    subject: Party
    """Who is shown."""
    enroller: Party
    """Who may make the persona; their key signs its file."""
    persona: str = Field(pattern=r"^[a-z0-9-]{1,40}$")
    purposes: tuple[Purpose, ...] = Field(min_length=1)
    territory: tuple[Territory, ...] = Field(min_length=1, max_length=250)
    valid_from: Time
    valid_until: Time
    disclosure: Line
    """What the enroller tells everybody who sees the persona. The label in the picture does not depend on it."""
    revocation: tuple[Address, ...] = Field(max_length=4)
    """Where the person says if they take it back; see calibration.consent_revocation."""
    footage: tuple[Media, ...] = Field(min_length=1, max_length=1000)
    statement: Media | None
    """The person's consent in their own words, recorded."""
    asked: Time
    nonce: str = Field(pattern=r"^[0-9a-f]{32}$")
    """Random, so that each record can be revoked by itself."""

    @model_validator(mode="after")
    def _makes_sense(self) -> ConsentRecord:
        span = when(self.valid_until) - when(self.valid_from)
        if not timedelta(0) < span <= LONGEST:
            raise ValueError(f"it must end after it begins, and within {LONGEST.days} days")
        for values in (self.purposes, self.territory, self.revocation, tuple(m.sha256 for m in self.footage)):
            if len(set(values)) != len(values):
                raise ValueError("something stands there twice")
        if WORLD in self.territory and len(self.territory) > 1:
            raise ValueError("everywhere and some countries exclude each other")
        return self

    def digest(self) -> str:
        """Names this record: sha256 of what is signed."""
        return hashlib.sha256(self.signed_bytes()).hexdigest()

    def signed_bytes(self) -> bytes:
        """What the subject's key signs."""
        return _SIGNED + canonical(self.model_dump(mode="json"))

    def footage_digests(self) -> frozenset[str]:
        """Sha256 of all footage."""
        return frozenset(media.sha256 for media in self.footage)


class _Signature(_Strict):
    algorithm: Literal["ed25519"]
    public_key: Key
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A record that was signed; whether by the right key and whether it holds now is for ``require``."""

    record: ConsentRecord
    signer: str
    """Public key that signed it, checked."""
    data: bytes
    """The file."""

    @property
    def digest(self) -> str:
        """Of the record."""
        return self.record.digest()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a gate is asked to let pass, and what is on the table there."""

    purposes: tuple[tuple[Purpose, ...], ...] = ()
    """Of each group one is needed; no group: keeping the persona is enough, which every purpose implies."""
    place: str | None = None
    """Country where it is used; None: not said."""
    consent: str | None = None
    """Digest of the record that the thing at hand names; None: it names none yet."""
    footage: tuple[str, ...] = ()
    """Sha256 of what faces are or were taken from."""
    subject_key: str | None = None
    """Of the persona that stands under the same name already."""
    signed_by: str | None = None
    """Key that signed the persona's manifest; None: nothing is signed yet."""


def when(text: str) -> datetime:
    """Of a record's time. Raises ValueError."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


def as_text(time: datetime) -> str:
    """A record's spelling of an aware time; fractions of seconds are dropped."""
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def sign_record(record: ConsentRecord, key: Ed25519PrivateKey) -> bytes:
    """The signed file; a record without the subject's key gets this one.

    Raises ConsentKeyError when the record names another key.
    """
    public = key.public_key().public_bytes_raw().hex()
    if record.subject.key == OPEN_KEY:
        record = record.model_copy(update={"subject": Party(name=record.subject.name, key=public)})
    if public != record.subject.key:
        raise ConsentKeyError(
            f"the record names the key {fingerprint(record.subject.key)} for {record.subject.name}, this is"
            f" {fingerprint(public)}",
            hint="sign with the key that the request was made for, or ask again: personacam consent request",
        )
    signature = {"algorithm": "ed25519", "public_key": public, "signature": key.sign(record.signed_bytes()).hex()}
    value = {"format": FORMAT, "version": VERSION, "record": record.model_dump(mode="json"), "signature": signature}
    return canonical(value)


def read_record(data: bytes) -> SignedRecord:
    """A file's record, its signature checked. Every byte counts: there is one spelling of a record.

    Raises RecordTamperedError when it is damaged, was changed or is of a newer version, ConsentMissingError for a
    request, and ConsentKeyError when it was signed by another key than it names.
    """
    value = _envelope(data, FORMAT, {"record", "signature"})
    try:
        record = ConsentRecord.model_validate_json(canonical(value["record"]))
        signature = _Signature.model_validate(value["signature"])
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.public_key)).verify(
            bytes.fromhex(signature.signature), record.signed_bytes()
        )
    except InvalidSignature:
        raise _tampered("its signature does not fit it") from None
    except (ValidationError, ValueError, TypeError) as error:
        raise _tampered(first_fault(error)) from error
    if record.subject.key == OPEN_KEY:
        raise _tampered("it names no key of the person")
    if signature.public_key != record.subject.key:
        raise ConsentKeyError(
            f"the consent record names the key {fingerprint(record.subject.key)} for {record.subject.name}, but"
            f" {fingerprint(signature.public_key)} signed it",
            hint="ask the person to sign with their own key: personacam consent sign",
        )
    return SignedRecord(record, signature.public_key, data)


def write_request(record: ConsentRecord) -> bytes:
    """An unsigned record, to be signed on another device."""
    return canonical({"format": REQUEST_FORMAT, "version": VERSION, "record": record.model_dump(mode="json")})


def read_request(data: bytes) -> ConsentRecord:
    """Of a request. Raises RecordTamperedError when it is damaged."""
    value = _envelope(data, REQUEST_FORMAT, {"record"})
    try:
        return ConsentRecord.model_validate_json(canonical(value["record"]))
    except (ValidationError, ValueError, TypeError) as error:
        raise _tampered(first_fault(error)) from error


def fingerprint(key: str) -> str:
    """A key as people compare it: its first 16 digits in fours."""
    return " ".join(key[i : i + 4] for i in range(0, 16, 4))


def first_fault(error: Exception) -> str:
    """One line about what a validation found."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))[:80] or 'it'}: {first['msg']}"
    return str(error)[:200]


def _tampered(reason: str) -> RecordTamperedError:
    return RecordTamperedError(
        f"the consent record is damaged or was changed: {reason}",
        hint="get it again from the person who signed it: personacam consent import",
    )


def _envelope(data: bytes, kind: str, fields: set[str]) -> dict[str, Any]:
    """The outer object; it must be spelled as it was written."""
    if len(data) > MAX_BYTES:
        raise _tampered(f"{len(data)} bytes, {MAX_BYTES} are allowed")
    try:
        value = strict_object(data)
        if kind == FORMAT and value.keys() == {"format", "version", "record"} and value["format"] == REQUEST_FORMAT:
            raise ConsentMissingError(
                "this is a request, nobody has signed it yet",
                hint="the person signs it: personacam consent sign FILE.request.json --key KEY.pem; bring in what comes"
                " of that",
            )
        if value.keys() != {"format", "version", *fields} or value["format"] != kind:
            raise ValueError(f"it is no {kind}")
        if value["version"] != VERSION:
            raise RecordTamperedError(
                f"the record has format {value['version']!r:.20}, this version reads {VERSION}",
                hint="update personacam",
            )
        if canonical(value) != data:
            raise ValueError("it is not spelled canonically")
    except (ValueError, TypeError) as error:
        raise _tampered(str(error)[:200]) from error
    return value


def require(
    signed: SignedRecord | None,
    wanted: Wanted,
    *,
    now: datetime,
    latest: datetime | None,
    revoked: Collection[str] = (),
) -> ConsentRecord:
    """Let pass, or raise the reason with its repair. Pure: everything that decides is an argument.

    ``latest`` is the latest time that this machine ever showed (see calibration.audit), ``revoked`` the digests of
    records that were taken back. Raises ConsentMissingError, ConsentKeyError, ConsentClockError,
    ConsentNotYetValidError, ConsentExpiredError, ConsentRevokedError, ConsentScopeError or ConsentFootageError, in
    this order.
    """
    if signed is None or (wanted.consent is not None and wanted.consent != signed.digest):
        named = f" {wanted.consent[:12]}" if wanted.consent else ""
        raise ConsentMissingError(
            f"there is no consent record{named} for this person",
            hint="personacam consent request asks for one, personacam consent import brings one in",
        )
    record = signed.record
    _check_keys(signed, wanted)
    _check_time(record, now, latest)
    if signed.digest in revoked:
        raise ConsentRevokedError(
            f"{record.subject.name} took back the consent for {record.persona}",
            hint=f"personacam forget {record.persona} removes everything that was made of it",
        )
    _check_scope(record, wanted)
    if foreign := set(wanted.footage) - record.footage_digests():
        raise ConsentFootageError(
            f"{len(foreign)} of {len(wanted.footage)} files are not those that {record.subject.name} agreed to"
            f" (for example sha256 {min(foreign)[:12]})",
            hint="use the files that consent show lists, or ask for a record of these: personacam consent request",
        )
    return record


def _check_keys(signed: SignedRecord, wanted: Wanted) -> None:
    record = signed.record
    if wanted.subject_key not in (None, record.subject.key):
        raise ConsentKeyError(
            f"the persona {record.persona} on this machine is of the key {fingerprint(wanted.subject_key or '')}, this"
            f" record of {fingerprint(record.subject.key)}",
            hint="choose another name, or remove the one that is there: personacam forget",
        )
    if wanted.signed_by not in (None, record.enroller.key):
        raise ConsentKeyError(
            f"the persona was signed with the key {fingerprint(wanted.signed_by or '')}, but {record.subject.name}"
            f" allowed {fingerprint(record.enroller.key)} ({record.enroller.name}) to make it",
            hint="get the file from the enroller whom the record names, or ask for a record that names you",
        )


def _check_time(record: ConsentRecord, now: datetime, latest: datetime | None) -> None:
    if latest is not None and now < latest - CLOCK_TOLERANCE:
        raise ConsentClockError(
            f"this computer's clock shows {as_text(now)}, but it was {as_text(latest)} already",
            hint="set the clock right; if it was wrong before: personacam audit clock",
        )
    if now < when(record.valid_from):
        raise ConsentNotYetValidError(
            f"the consent of {record.subject.name} begins at {record.valid_from}",
            hint="wait until then, or ask for another record: personacam consent request",
        )
    if now >= when(record.valid_until):
        raise ConsentExpiredError(
            f"the consent of {record.subject.name} ended at {record.valid_until}",
            hint="ask for a new record: personacam consent request",
        )


def _check_scope(record: ConsentRecord, wanted: Wanted) -> None:
    for group in wanted.purposes:
        if not set(group) & set(record.purposes):
            raise ConsentScopeError(
                f"{record.subject.name} agreed to {', '.join(record.purposes)}, not to {' or '.join(group)}",
                hint="use another output, or ask for a record with that purpose: personacam consent request",
            )
    if not wanted.purposes or WORLD in record.territory:
        return
    if wanted.place is None:
        raise ConsentScopeError(
            f"{record.subject.name} agreed to {', '.join(record.territory)} only, and where you are is not known",
            hint="say it, for example: --territory DE",
        )
    if wanted.place not in record.territory:
        raise ConsentScopeError(
            f"{record.subject.name} agreed to {', '.join(record.territory)}, not to {wanted.place}",
            hint="ask for a record with that country: personacam consent request",
        )
