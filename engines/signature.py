"""Ed25519 signatures (RFC 8032) as a small JSON object that carries its public key."""

from __future__ import annotations

import json

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from engines.errors import PersonaFormatError

_HINT = "the manifest was changed after it was signed: get the file again from its author"


def sign(message: bytes, key: Ed25519PrivateKey) -> bytes:
    """The member ``signature`` for ``message``."""
    public = key.public_key().public_bytes_raw().hex()
    return json.dumps({"algorithm": "ed25519", "public_key": public, "signature": key.sign(message).hex()}).encode()


def verify(message: bytes, signature: bytes) -> str:
    """The public key (hex) that signed ``message``. Raises PersonaFormatError when the signature is not valid.

    A valid signature tells who vouches for the bytes. Whether to trust that key is for the caller to know.
    """
    try:
        fields = json.loads(signature)
        if fields.keys() != {"algorithm", "public_key", "signature"} or fields["algorithm"] != "ed25519":
            raise PersonaFormatError("the signature is of an unknown kind", hint="update personacam")
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(fields["public_key"]))
        key.verify(bytes.fromhex(fields["signature"]), message)
    except InvalidSignature:
        raise PersonaFormatError("the signature does not fit the manifest", hint=_HINT) from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise PersonaFormatError("the signature is damaged", hint=_HINT) from error
    return str(fields["public_key"])
