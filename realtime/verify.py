"""What can be said about a file: the invisible mark, content credentials, this computer's own records.

Each says something only when it is there. None of them is a detector of fakes, and there is deliberately no score of
how genuine a picture looks: the discriminator that the training uses is no part of the package, and its opinion of
other programs' pictures would be worth nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from calibration.consent_gates import digest_file
from engines.errors import DataError, MissingDependencyError, SettingsError
from engines.mark_detect import NOTHING, Gathered, Reading, read
from realtime.credentials import Credentials, read_credentials
from realtime.detect import Detector
from realtime.mark import number_of
from realtime.mark_keys import KEY_FILE, fingerprint, own_key, read_key
from realtime.session_record import FOLDER, SessionRecord, SessionStore
from realtime.verify_video import PIECE_S, gather

DEFAULT_SECONDS = 30.0


@dataclass(frozen=True)
class Verdict:
    """Everything that was found out."""

    path: Path
    mark: Reading
    key: str | None
    """Fingerprint of the key that the mark was found with."""
    own: bool
    """Whether that is this computer's own."""
    keys: int
    """How many keys were tried."""
    seconds: float
    """Of the file that were looked at."""
    session: SessionRecord | None
    """Of this computer, whose number the mark carries."""
    credentials: Credentials | None
    """None: the library is missing."""
    recorded: SessionRecord | None
    """The session on this computer that wrote exactly this file."""

    @property
    def session_text(self) -> str | None:
        """16 hexadecimal digits where this computer knows the session, else the 8 that the mark carries."""
        if self.session is not None:
            return self.session.session
        return None if self.mark.number is None else f"{self.mark.number:08x}"

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        proven, open_questions = words(self)
        known = {r.session: r for r in (self.session, self.recorded) if r is not None}.values()
        return {
            "file": str(self.path),
            "mark": {
                "found": self.mark.found,
                "session": self.session_text,
                "bits_matched": self.mark.bits_matched,
                "p_value": self.mark.p_value,
                "key": self.key,
                "own_key": self.own,
                "keys_tried": self.keys,
                "mirrored": self.mark.mirrored,
                "size": round(self.mark.size, 4),
                "region": self.mark.region,
                "seconds": round(self.seconds, 2),
            },
            "c2pa": {"state": "unknown"} if self.credentials is None else self.credentials.as_dict(),
            "sessions": [_session(record) for record in known],
            "recorded_here": self.recorded is not None,
            "shown": proven,
            "not_shown": open_questions,
        }


def local_path(address: str) -> Path:
    """A path, or a file:// address of this computer. Raises SettingsError for other addresses."""
    parts = urlsplit(address)
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"}:
            raise SettingsError(f"{address} lies on another computer", hint="copy the file here first")
        return Path(url2pathname(parts.path))
    if "://" in address:
        raise SettingsError(f"{address} is not on this computer", hint="download it, then verify the file")
    return Path(address).expanduser()


def verify(
    path: Path,
    home: Path,
    detector: Detector,
    *,
    keys: Sequence[Path] = (),
    anchors: Sequence[Path] = (),
    seconds: float = DEFAULT_SECONDS,
    progress: Callable[[float], None] = lambda _: None,
) -> Verdict:
    """Look at ``path`` with this computer's key, if it has one, and with ``keys``; ``home``: the user's data folder.

    Raises SourceError for a file that cannot be read and DataError for a key that is none.
    """
    secrets = [read_key(key) for key in keys]
    own = own_key(home) if (home / KEY_FILE).is_file() else None
    if own is not None and own not in secrets:
        secrets.append(own)
    store = SessionStore(home / FOLDER)
    sessions = {number_of(record.session_id): record for record in store.all()}
    pieces = [*_until_found(path, secrets, sorted(sessions), seconds, detector, progress)]
    looked = sum(piece for piece, *_ in pieces)
    best, which = min(((reading, key) for _, reading, key in pieces), key=lambda found: found[0].log_p)
    secret = secrets[which] if best.found else None
    is_own = secret is not None and secret == own
    try:
        credentials = read_credentials(path, home, anchors)
    except MissingDependencyError:
        credentials = None
    return Verdict(
        path,
        best,
        None if secret is None else fingerprint(secret),
        is_own,
        len(secrets),
        looked,
        sessions.get(best.number) if is_own and best.number is not None else None,
        credentials,
        _recorded(path, store),
    )


def _until_found(
    path: Path,
    secrets: Sequence[bytes],
    known: Sequence[int],
    seconds: float,
    detector: Detector,
    progress: Callable[[float], None],
) -> list[tuple[float, Reading, int]]:
    """(seconds, best reading, index of its key) of one piece after the other, until one has a session's number; then
    of all together.
    """
    together, found = Gathered(), list[tuple[float, Reading, int]]()
    most = int(seconds / PIECE_S) + 2
    for piece in gather(path, seconds, detector, progress):
        together.include(piece)
        reading, key = read(piece, secrets, known, pieces=most) or (NOTHING, 0)
        found.append((PIECE_S, reading, key))
        if reading.number is not None:
            return found
    if len(found) > 1:
        reading, key = read(together, secrets, known, pieces=most) or (NOTHING, 0)
        found.append((0.0, reading, key))
    return found


def _recorded(path: Path, store: SessionStore) -> SessionRecord | None:
    if not store.folder.is_dir():
        return None
    try:
        return store.find_file(digest_file(path).sha256)
    except DataError:
        return None


def _session(record: SessionRecord) -> dict[str, Any]:
    return {
        "session": record.session,
        "started": record.started,
        "ended": record.ended,
        "software": record.software,
        "personas": [{"name": p.name, "kind": p.kind, "since": p.since} for p in record.personas],
    }


def words(verdict: Verdict) -> tuple[list[str], list[str]]:
    """What is shown, and what is not, in plain sentences."""
    shown, missing = list[str](), list[str]()
    _mark_words(verdict, shown, missing)
    _credential_words(verdict, shown, missing)
    if verdict.recorded is not None:
        shown.append(
            f"Exactly this file, byte for byte, was recorded on this computer in session {verdict.recorded.session}."
        )
    if verdict.mark.found or verdict.recorded is not None:
        missing.append("Who wore the persona: neither mark nor records say whose face was replaced.")
    return shown, missing


def _mark_words(verdict: Verdict, shown: list[str], missing: list[str]) -> None:
    mark, record = verdict.mark, verdict.session
    if not mark.found:
        if verdict.keys:
            why = "other keys, other programs and heavy editing leave none to find"
        else:
            why = "there was no key to look with: none on this computer, and none was given"
        missing.append(f"No mark was found, and that proves nothing ({why}). The face may still not be genuine.")
        return
    by = "this computer's own key" if verdict.own else f"the key {verdict.key}"
    shown.append(
        f"A face was replaced by personacam: its mark, made with {by}, is in the {mark.region}. Pictures without it"
        f" would give that with a probability below {mark.p_value:.1g}."
    )
    if record is not None:
        names = ", ".join(dict.fromkeys(persona.name for persona in record.personas))
        shown.append(f"It left in session {record.session} of this computer, begun {record.started}, as {names}.")
    elif mark.number is not None:
        shown.append(f"The session's number begins with {mark.number:08x}.")
        if verdict.own:
            missing.append("When and as whom: the record of that session is not on this computer any more.")
    else:
        missing.append("Which session it was: too little of the mark is left to read its number.")
    if mark.mirrored:
        shown.append("The picture was mirrored after it left.")
    missing.append(
        "That nothing else was changed afterwards: sound, words, other parts and moments may be somebody else's work."
    )
    missing.append("That nobody with the same key put the mark there: whoever can find it can also forge it.")


def _credential_words(verdict: Verdict, shown: list[str], missing: list[str]) -> None:
    credentials = verdict.credentials
    if credentials is None:
        missing.append("Content credentials were not looked at: pip install c2pa-python.")
        return
    if credentials.state == "none":
        missing.append("There are no content credentials (C2PA); most programs remove them, so that says nothing.")
        return
    signer = credentials.signer or "an unnamed signer"
    if credentials.state == "invalid":
        missing.append(f"The content credentials do not hold: {'; '.join(credentials.problems) or 'damaged'}.")
        return
    vouched = "" if credentials.state == "valid" else ", for whom nothing here vouches"
    shown.append(f"Picture and sound are unchanged since they were signed by {signer}{vouched}.")
    if credentials.ai:
        shown.append("The credentials say that a trained network made or changed the picture.")
    claim = credentials.claim
    if claim is not None:
        names = ", ".join(str(persona["name"]) for persona in claim.personas)
        shown.append(f"They name session {claim.session} and the persona {names}, by the signer's word.")
        number = verdict.mark.number
        if verdict.mark.found and number is not None and number != number_of(claim.session_id):
            missing.append("The mark and the credentials name different sessions: do not trust either alone.")
