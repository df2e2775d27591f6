"""A persona file under another consent record: the same weights, the same report, another signature."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engines.errors import PersonaFormatError
from engines.persona import Manifest
from engines.persona_chain import MOST_EARLIER
from engines.persona_zip import pack, unpack
from engines.signature import sign


def under_consent(data: bytes, consent: bytes, digest: str, key: Ed25519PrivateKey) -> bytes:
    """The bytes of a real person's file that names the record ``consent`` (its digest ``digest``) from now on.

    ``data`` was read and verified by ``read_persona``; ``key`` is the enroller's, who signed it. Every other member
    stays as it is, to the byte, and the record that it names now joins ``chain.earlier``. Whether the record may be
    attached is not decided here. Raises PersonaFormatError for an invented person's file, and after ``MOST_EARLIER``
    renewals.
    """
    members = unpack(data)
    manifest = Manifest.model_validate_json(members["manifest.json"])
    chain = manifest.chain
    if chain is None:
        raise PersonaFormatError("an invented person has no consent record", hint="it needs none")
    if len(chain.earlier) >= MOST_EARLIER:
        raise PersonaFormatError(
            f"the persona was renewed {len(chain.earlier)} times", hint="make it again: personacam train persona"
        )
    renewed = chain.model_copy(update={"consent": digest, "earlier": (*chain.earlier, chain.consent)})
    hashes = dict(manifest.members) | {"consent.json": hashlib.sha256(consent).hexdigest()}
    head = manifest.model_copy(update={"chain": renewed, "members": hashes}).model_dump_json(indent=1).encode()
    return pack({**members, "consent.json": consent, "manifest.json": head, "signature": sign(head, key)})
