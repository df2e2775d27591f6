"""A later consent for a persona that is there: attached to its file, without a new training.

    renewal = renew(gate, home / "personas" / "ada.persona", read_record(data))

The person signs another record of the same footage, wider (more purposes, a longer time, another country) or narrower,
and the enroller's key signs the file's manifest again; the weights are not touched. What must hold is asked as at the
other gates: the file is whole, the record is signed by the *same* key, lists the footage that the persona was made of,
allows the same enroller and name, holds now, and neither it nor one before it was taken back. Going back to an earlier
record is refused: else a consent that was narrowed could be widened again without the person.

A key is never succeeded by another one. Somebody who lost theirs consents anew, to a persona that is made anew.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from calibration.consent import SignedRecord, Wanted, fingerprint, read_record
from calibration.consent_gates import Gatekeeper
from calibration.consent_keys import public_hex
from engines.errors import ConsentError, ConsentKeyError, ConsentScopeError, DataError, ManifestTamperedError
from engines.files import read_limited, write_atomic
from engines.persona import MAX_FILE_BYTES, Claim, Persona, read_persona
from engines.persona_renew import under_consent


@dataclass(frozen=True, slots=True)
class Renewal:
    """What was, or would be, attached to a file."""

    path: Path
    before: SignedRecord
    after: SignedRecord

    @property
    def changes(self) -> bool:
        """False: the file stood under this record already, and was left alone."""
        return self.before.digest != self.after.digest


def renew(gate: Gatekeeper, path: Path, signed: SignedRecord, *, dry_run: bool = False) -> Renewal:
    """Put the persona file ``path`` under the record ``signed``; with ``dry_run`` only ask whether that may be.

    The file is the old one or the whole new one, even when killed in between; the log has a line before the file
    changes, and both records stay on this machine. Raises what ``read_persona`` and ``Gatekeeper.decide`` do;
    ConsentKeyError for another person's or another machine's key, ConsentScopeError for an earlier record, ConsentError
    for an invented person, DataError when the file cannot be written.
    """
    claims: list[Claim] = []
    persona = read_persona(path, admit=claims.append)
    if not claims:
        raise ConsentError(f"{path.name} is an invented person", hint="they need no consent, there is nothing to renew")
    claim = claims[0]
    before = read_record(claim.consent)
    renewal = Renewal(path, before, signed)
    _check(gate, claim, before, signed)
    if dry_run or not renewal.changes:
        return renewal
    key = gate.store.key()
    gate.store.add(claim.consent)
    gate.store.add(signed.data)
    data = under_consent(_same_bytes(path, persona), signed.data, signed.digest, key)
    gate.renewed(persona.manifest.name, signed.record, (*claim.chain.earlier, before.digest), path)
    try:
        write_atomic(path, data)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}", hint="check the folder and its space") from error
    return renewal


def _check(gate: Gatekeeper, claim: Claim, before: SignedRecord, signed: SignedRecord) -> None:
    chain, record = claim.chain, signed.record
    if before.digest != chain.consent:
        raise ManifestTamperedError(
            f"the manifest of {claim.manifest.name} names another record than the file holds",
            hint="get the file again from its author; it was damaged or changed",
        )
    if record.subject.key != before.record.subject.key:
        raise ConsentKeyError(
            f"{claim.manifest.name} stands under the key {fingerprint(before.record.subject.key)}, this record is of"
            f" {fingerprint(record.subject.key)}: one key does not follow another",
            hint="the person signs with the key of the first record; if it is lost: personacam forget, and enroll anew",
        )
    wanted = Wanted(footage=chain.footage, signed_by=claim.signed_by)
    earlier = () if signed.digest == chain.consent else (chain.consent,)
    gate.decide(claim.manifest.name, signed, wanted, earlier=(*chain.earlier, *earlier))
    if public_hex(gate.store.key()) != claim.signed_by:
        raise ConsentKeyError(
            f"{claim.manifest.name} was signed with the key {fingerprint(claim.signed_by)}, not with this machine's",
            hint=f"{record.enroller.name} renews it where it was made, and sends the file again: personas import",
        )
    if signed.digest in chain.earlier or record.asked < before.record.asked:
        raise ConsentScopeError(
            f"{claim.manifest.name} stands under a later record than this one, of {before.record.asked}",
            hint="going back takes a new record that the person signs: personacam consent request",
        )


def _same_bytes(path: Path, persona: Persona) -> bytes:
    """The file's bytes, as they were verified."""
    try:
        data = read_limited(path, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="try again") from error
    if hashlib.sha256(data).hexdigest() != persona.sha256:
        raise DataError(f"{path} changed while it was read", hint="try again")
    return data
