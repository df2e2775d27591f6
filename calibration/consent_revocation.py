"""Taking consent back, and finding out whether somebody did.

A *revocation* is a canonical JSON object signed by the subject's key; it names one record, or all that the key signed.
It counts wherever it is found: in the user's folder, or at an address that the record names. There the person keeps a
*list*, {"format": "personacam-revocations", "revocations": [...], "version": 1}, from the beginning and empty at first:
only a list that could be read says that nothing was taken back. Entries of other keys mean nothing.

**When no address can be reached** (:func:`check_policy`): a persona whose record names addresses and that was never
checked is refused; one that was checked within the last ``GRACE_DAYS`` days passes with a warning; after that it is
refused. A record that names no address can only be revoked by a file that reaches this machine.

Asking happens once at the start, never while pictures run, in threads of their own; all together have a few seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BufferedIOBase
from typing import IO, Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calibration.consent import ConsentRecord, Key, Time, as_text, first_fault
from calibration.consent_keys import public_hex
from engines.errors import RecordTamperedError, RevocationUnknownError
from engines.persona import Sha256
from engines.strict_json import canonical, strict_object

FORMAT = "personacam-revocation"
LIST_FORMAT = "personacam-revocations"
VERSION = 1
GRACE_DAYS = 14
TIMEOUT_S = 4.0
"""For all addresses together."""
MAX_BYTES = 256 << 10
_SIGNED = b"personacam revocation\n"
_HINT = "get the revocation again from the person who signed it"

Fetch = Callable[[str, float], bytes]
"""(address, seconds) -> the list's bytes; raises OSError or ValueError."""


class Revocation(BaseModel):
    """The person's word that it is over."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    format: Literal["personacam-revocation"] = "personacam-revocation"
    version: Literal[1] = 1
    record: Sha256 | None
    """Digest of the record; None: all that this key signed."""
    key: Key
    time: Time
    signature: str = Field(default="0" * 128, pattern=r"^[0-9a-f]{128}$")

    def signed_bytes(self) -> bytes:
        """What the key signs."""
        return _SIGNED + canonical(self.model_dump(mode="json", exclude={"signature"}))

    def covers(self, record: ConsentRecord, earlier: Collection[str] = ()) -> bool:
        """Whether it takes back this record, or one of the ``earlier`` that it followed (their digests).

        Only the key of the person who is shown can.
        """
        return self.key == record.subject.key and self.record in (None, record.digest(), *earlier)


def revoke(record: Sha256 | None, key: Ed25519PrivateKey, now: datetime) -> bytes:
    """A signed revocation of one record, or of all that the key signed (None)."""
    plain = Revocation(record=record, key=public_hex(key), time=as_text(now))
    signed = plain.model_copy(update={"signature": key.sign(plain.signed_bytes()).hex()})
    return canonical(signed.model_dump(mode="json"))


def read_revocation(data: bytes) -> Revocation:
    """Of a file. Raises RecordTamperedError when it is damaged or its signature does not fit."""
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
        return _checked(strict_object(data))
    except (ValidationError, ValueError, TypeError) as error:
        raise RecordTamperedError(f"the revocation is damaged: {first_fault(error)}", hint=_HINT) from error


def _checked(value: Any) -> Revocation:
    revocation = Revocation.model_validate(value)
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(revocation.key))
        key.verify(bytes.fromhex(revocation.signature), revocation.signed_bytes())
    except InvalidSignature:
        raise ValueError("its signature does not fit it") from None
    return revocation


def write_list(revocations: Iterable[bytes]) -> bytes:
    """What to publish at a record's address; from the beginning, empty."""
    values = [strict_object(data) for data in revocations]
    return canonical({"format": LIST_FORMAT, "version": VERSION, "revocations": values})


def read_list(data: bytes) -> list[Revocation]:
    """The valid revocations of a list, in its order. Raises ValueError when it is none.

    An entry that is damaged is left out: it must not hide the others.
    """
    value = strict_object(data)
    if value.get("format") != LIST_FORMAT or value.get("version") != VERSION:
        raise ValueError("it is no list of revocations")
    entries = value.get("revocations")
    if not isinstance(entries, list):
        raise ValueError("it holds no revocations")  # noqa: TRY004 - the bytes are wrong, not their type
    found = []
    for entry in entries:
        try:
            found.append(_checked(entry))
        except (ValidationError, ValueError, TypeError):
            continue
    return found


@dataclass(frozen=True, slots=True)
class Answer:
    """What the addresses of a record said."""

    reached: tuple[str, ...]
    """Addresses that gave a list."""
    failures: Mapping[str, str]
    """Address -> why it gave none."""
    revocations: tuple[Revocation, ...]
    """That cover the record."""


def ask(
    record: ConsentRecord, fetch: Fetch | None = None, timeout_s: float = TIMEOUT_S, *, earlier: Collection[str] = ()
) -> Answer:
    """Ask all addresses of a record at once; returns after ``timeout_s`` at the latest, whatever they do.

    ``earlier`` as in ``Revocation.covers``.
    """
    get = fetch or fetch_https
    lists: dict[str, list[Revocation]] = {}
    failures: dict[str, str] = {}

    def one(address: str) -> None:
        try:
            lists[address] = read_list(get(address, timeout_s))
        except Exception as error:  # noqa: BLE001 - a thread of its own: whatever it raises is an answer
            failures[address] = f"{type(error).__name__}: {error}"[:200]

    threads = [threading.Thread(target=one, args=(a,), name="revocation", daemon=True) for a in record.revocation]
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    answered, failed = dict(lists), dict(failures)  # a thread that is late adds nothing any more
    for address in record.revocation:
        if address not in answered:
            failed.setdefault(address, f"no answer within {timeout_s:g} s")
    covering = tuple(r for found in answered.values() for r in found if r.covers(record, earlier))
    return Answer(tuple(answered), failed, covering)


def check_policy(record: ConsentRecord, answer: Answer, last_success: datetime | None, now: datetime) -> str | None:
    """Whether what is known is enough. Returns a warning, or None when the person's list was read just now.

    Raises RevocationUnknownError as the module's text says.
    """
    if answer.reached or not record.revocation:
        return None
    why = "; ".join(f"{address}: {reason}" for address, reason in answer.failures.items())
    if last_success is None:
        raise RevocationUnknownError(
            f"{record.subject.name} can take the consent back at an address that was never reached ({why})",
            hint="connect to the internet and start again; once it was reached, this works without for"
            f" {GRACE_DAYS} days",
        )
    left = timedelta(days=GRACE_DAYS) - (now - last_success)
    if left <= timedelta(0):
        raise RevocationUnknownError(
            f"whether {record.subject.name} took the consent back was last known at {as_text(last_success)} ({why})",
            hint="connect to the internet and start again, or ask the person for a record with another address",
        )
    return (
        f"whether {record.subject.name} took the consent back could not be asked ({why}); it was not at"
        f" {as_text(last_success)}, and this works for {left.days} more days"
    )


def fetch_https(address: str, timeout_s: float) -> bytes:
    """The bytes at an address, https also after redirections. Raises OSError or ValueError; in time."""
    import urllib.request

    class _Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(
            self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
        ) -> urllib.request.Request | None:
            refuse_plain(newurl)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    refuse_plain(address)
    opener = urllib.request.build_opener(_Redirects())
    request = urllib.request.Request(  # noqa: S310 - https, checked above
        address, headers={"User-Agent": "personacam", "Cache-Control": "no-cache"}
    )
    return read_in_time(opener.open(request, timeout=timeout_s), timeout_s)


def refuse_plain(address: str) -> None:
    """Raise ValueError for anything but https: whoever sits between could answer for the person."""
    if not address.startswith("https://"):
        raise ValueError(f"{address[:80]!r} is no https address")


def read_in_time(response: BufferedIOBase, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> bytes:
    """A response's body. Raises ValueError when it is too large, TimeoutError when it trickles."""
    parts: list[bytes] = []
    ends = clock() + timeout_s
    with response:
        while part := response.read1(16 << 10):  # not read, which waits until all of it is there
            parts.append(part)
            if sum(map(len, parts)) > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes")
            if clock() > ends:
                raise TimeoutError("it trickles")
    return b"".join(parts)


def revoked_digests(record: ConsentRecord, *sources: Sequence[Revocation], earlier: Collection[str] = ()) -> set[str]:
    """The record's digest, if any of the revocations covers it or one of the ``earlier``; else nothing."""
    return {record.digest() for source in sources for one in source if one.covers(record, earlier)}
