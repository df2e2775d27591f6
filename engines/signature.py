"""Ed25519 signatures (RFC 8032) as a small JSON object that carries its public key."""

from __future__ import annotations

import json

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from engines.errors import ManifestTamperedError, PersonaFormatError

_HINT = "the manifest was changed after it was signed: get the file again from its author"


def sign(message: bytes, key: Ed25519PrivateKey) -> bytes:
    """The member ``signature`` for ``message``."""
    return _spelled(key.public_key().public_bytes_raw().hex(), key.sign(message).hex())


def _spelled(public: str, signature: str) -> bytes:
    return json.dumps({"algorithm": "ed25519", "public_key": public, "signature": signature}).encode()


def verify(message: bytes, signature: bytes) -> str:
    """The public key (hex) that signed ``message``.

    Raises ManifestTamperedError when the signature does not fit, PersonaFormatError when it is damaged.

    A valid signature tells who vouches for the bytes. Whether to trust that key is for the caller to know.
    """
    try:
        fields = json.loads(signature)
        if fields.keys() != {"algorithm", "public_key", "signature"} or fields["algorithm"] != "ed25519":
            raise PersonaFormatError("the signature is of an unknown kind", hint="update personacam")
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(fields["public_key"]))
        raw = bytes.fromhex(fields["signature"])
        if signature != _spelled(key.public_bytes_raw().hex(), raw.hex()):
            raise ValueError("spelled in another way")  # capitals, spaces: one signature has one spelling
        key.verify(raw, message)
    except InvalidSignature:
        raise ManifestTamperedError("the signature does not fit the manifest", hint=_HINT) from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise PersonaFormatError("the signature is damaged", hint=_HINT) from error
    return str(fields["public_key"])
