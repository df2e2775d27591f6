"""Who may talk to the control page's server: whoever has the token, from this computer, from the page itself.

- loopback: the server listens on 127.0.0.1 and nowhere else.
- Host must be that address: a foreign site whose name was pointed at 127.0.0.1 (DNS rebinding) sends its own.
- Origin must be the page's own, and must be there for the WebSocket: browsers send it, pages cannot forge it.
- The token, 256 random bits, is the first part of the path and compared in constant time; all else is "not found".
- Rates: so many requests and messages a second, and so many viewers.
"""

from __future__ import annotations

import hmac
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from engines.errors import DataError

TOKEN_BYTES = 32
REQUESTS_PER_S, REQUESTS_AT_ONCE = 50.0, 150.0
MESSAGES_PER_S, MESSAGES_AT_ONCE = 60.0, 120.0
"""Of one page: it asks for ten pictures a second, and a slider sends up to twenty values."""
MAX_VIEWERS = 8
MAX_MALFORMED = 10
"""So many messages that make no sense, and the connection is closed."""


class Bucket:
    """A rate: ``at_once`` may come together, then ``per_s`` a second."""

    def __init__(self, per_s: float, at_once: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._most, self._clock = per_s, at_once, clock
        self._left, self._last = at_once, clock()

    def take(self) -> bool:
        """Whether one more may come now."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._last) * self._per_s)
        self._last = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def hosts(port: int) -> frozenset[str]:
    """What a browser on this computer may call the server."""
    return frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})


def refusal(headers: Mapping[str, str], port: int, *, upgrade: bool) -> str | None:
    """Why a request is refused by its headers, or None. ``upgrade``: it wants a WebSocket."""
    host = headers.get("Host", "")
    if host not in hosts(port):
        return "wrong Host"
    origin = headers.get("Origin")
    if origin is None and upgrade:
        return "no Origin"
    if origin is not None and origin != f"http://{host}":
        return "wrong Origin"
    if headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
        return "from another site"
    return None


def same_token(given: str, token: str) -> bool:
    """In a time that does not depend on how much of it is right."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def security_headers(port: int) -> dict[str, str]:
    """Of every answer: nothing is loaded from elsewhere, nothing is framed, stored or named to others."""
    sockets = " ".join(sorted(f"ws://{host}" for host in hosts(port)))
    policy = (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self' {sockets};"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
    }


def kept_token(path: Path) -> str:
    """The token of this user: the address of the page stays the same from run to run, as a dock of OBS needs it.

    Made at the first use and readable by this user only; deleting the file makes another one. Raises DataError.
    """
    hint = f"check that the folder of {path} can be written, or run with --no-control"
    try:
        if path.exists():
            token = path.read_text("ascii", "replace").strip()
            if len(token) >= TOKEN_BYTES and token.replace("-", "").replace("_", "").isalnum():
                return token
            path.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        # Of two runs that make it at once, one ends without a page, and says so.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token + "\n")
    except OSError as error:
        raise DataError(f"the control page's token {path} cannot be kept: {error.strerror}", hint=hint) from error
    return token
