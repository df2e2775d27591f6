"""A consent record in plain words, for the person who signs it and for everybody who meets the persona."""

from __future__ import annotations

from datetime import datetime, timedelta

from calibration.consent import OPEN_KEY, WORLD, ConsentRecord, fingerprint, when

_PURPOSES = {
    "stream": "live streams",
    "recording": "recordings",
    "call": "video calls",
    "film": "films",
    "research": "research",
}
_MOST_FILES = 8


def in_words(record: ConsentRecord) -> list[str]:
    """Sentences, in the order in which a person would ask."""
    purposes = [_PURPOSES[purpose] for purpose in record.purposes]
    lines = [
        f"{record.subject.name} lets {record.enroller.name} make the persona {record.persona!r} of their face.",
        f"It may be used for {_listed(purposes)}, {_where(record)}.",
        f"It begins on {_day(record.valid_from)} and ends on {_day(record.valid_until)}.",
        f"Everybody who sees it is told: {record.disclosure}",
        f"It is made of {_files(len(record.footage))}:",
        *(f"  {m.name}, {m.bytes / 1e6:.1f} MB, sha256 {m.sha256[:16]}" for m in record.footage[:_MOST_FILES]),
    ]
    if len(record.footage) > _MOST_FILES:
        lines.append(f"  and {len(record.footage) - _MOST_FILES} more")
    if record.statement is None:
        lines.append("There is no recorded statement.")
    else:
        lines.append(f"{record.subject.name} also said so in {record.statement.name}.")
    if record.revocation:
        lines.append(f"It can be taken back at any time: {_listed(list(record.revocation))}, or with a signed file.")
    else:
        lines.append("It can be taken back at any time with a signed file.")
    lines.append(f"Key of {record.enroller.name}, who makes it: {fingerprint(record.enroller.key)}.")
    if record.subject.key == OPEN_KEY:
        return [*lines, "It is not signed; the key of the person who signs comes with the signature."]
    key = fingerprint(record.subject.key)
    lines.append(f"Key of {record.subject.name}, who is shown: {key}; compare it with the person.")
    return [*lines, f"Number of this record: {record.digest()[:16]}."]


def standing(record: ConsentRecord, now: datetime, *, revoked: bool) -> str:
    """One sentence: whether it holds now."""
    if revoked:
        return f"TAKEN BACK by {record.subject.name}: nothing may be made or shown any more."
    if now < when(record.valid_from):
        return "Not valid yet."
    left = when(record.valid_until) - now
    if left <= timedelta(0):
        return "OVER: nothing may be made or shown any more."
    return f"Valid now, for {left.days} more days." if left.days > 1 else "Valid now; it ends soon."


def what_changes(before: ConsentRecord, after: ConsentRecord) -> list[str]:
    """Sentences: what a later record allows more and less than the one before. One sentence when nothing differs."""
    lines = []
    for word, here, there in (("also", after, before), ("no longer", before, after)):
        if changed := [_PURPOSES[purpose] for purpose in here.purposes if purpose not in there.purposes]:
            lines.append(f"It may {word} be used for {_listed(changed)}.")
    if set(before.territory) != set(after.territory):
        lines.append(f"It may be used {_where(after)}, before {_where(before)}.")
    for word, new, old in (
        ("begins", after.valid_from, before.valid_from), ("ends", after.valid_until, before.valid_until)
    ):  # fmt: skip
        if new != old:
            how = "later" if when(new) > when(old) else "earlier"
            lines.append(f"It {word} on {_day(new)}, {how} than before ({_day(old)}).")
    if after.disclosure != before.disclosure:
        lines.append(f"Everybody who sees it is told: {after.disclosure}")
    if after.revocation != before.revocation:
        lines.append(
            f"It can be taken back at {_listed(list(after.revocation)) if after.revocation else 'no address'}."
        )
    return lines or ["It allows what the record before allowed."]


def _where(record: ConsentRecord) -> str:
    return "everywhere" if WORLD in record.territory else f"only in {', '.join(record.territory)}"


def _day(text: str) -> str:
    return when(text).strftime("%d %B %Y, %H:%M UTC")


def _files(count: int) -> str:
    return "one file" if count == 1 else f"{count} files"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
