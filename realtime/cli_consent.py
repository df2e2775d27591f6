"""The verbs for consent: ask, sign, bring in, show, take back; and importing personas, which need it."""

from __future__ import annotations

import re
import secrets
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engines.errors import ConsentError, SettingsError
from engines.files import read_limited, write_atomic
from realtime.console import errors_explained, print_json, say
from realtime.persona_names import proper_name

if TYPE_CHECKING:
    from calibration.consent import ConsentRecord
    from calibration.consent_gates import Gatekeeper
    from calibration.consent_store import ConsentStore
    from engines.persona import Persona

consent_app = typer.Typer(
    help="A real person's persona needs their signed consent: ask, sign, bring in, show, take back.",
    no_args_is_help=True,
    epilog="In this order: key, request, sign, import, then personacam train persona; later request, sign, renew.",
)
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
KeyFile = Annotated[Path, typer.Option("--key", help="The person's key: a .pem file of personacam consent key.")]
PassphraseFile = Annotated[
    Path | None, typer.Option(help="A file with the passphrase, for scripts.", show_default="you are asked")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def add_verb(personas: typer.Typer) -> None:
    """Add ``personas import``."""
    from realtime.cli_import import EXAMPLES, bring_in

    personas.command("import", epilog=EXAMPLES)(bring_in)


def gatekeeper() -> Gatekeeper:
    """The gates of this user."""
    from calibration.consent_gates import Gatekeeper
    from realtime.session import data_folder

    return Gatekeeper(data_folder(), warn=lambda text: say(text, "yellow"))


def _store() -> ConsentStore:
    return gatekeeper().store


def confirmed(question: str, *, yes: bool) -> None:
    """Raise SettingsError unless somebody says yes."""
    if not yes and not (sys.stdin.isatty() and typer.confirm(question, default=False)):
        raise SettingsError("nothing was done: it was not confirmed", hint="answer yes, or pass --yes")


def _write(path: Path, data: bytes) -> None:
    try:
        write_atomic(path, data)
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}", hint="choose another folder") from error


@consent_app.command("key", epilog="Example:\n\n    personacam consent key ada.pem")
def key(
    out: Annotated[Path, typer.Argument(help="The file to make.")],
    passphrase_file: PassphraseFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Make the key of a person who wants to consent, on their own device. It stays with them."""
    with errors_explained(as_json=as_json):
        from calibration.consent import fingerprint
        from calibration.consent_keys import public_hex
        from realtime.passphrase import new_key

        public = public_hex(new_key(out, passphrase_file))
    say(f"{out}: keep it and its passphrase; without them a consent cannot be taken back, only run out")
    say(f"the key is {fingerprint(public)}; its public half: {public}")
    if as_json:
        print_json({"key": str(out), "public": public})


_PURPOSES = "stream or call for a virtual camera, recording or film for a file, research; repeat it."
_REQUEST_EXAMPLES = """Examples:

    personacam consent request ada --subject "Ada Example" --enroller "Studio Example" --footage ada.mp4
      --purpose stream --purpose recording --days 365 --revocation https://example.org/ada/revocations.json

    personacam consent sign ada.request.json --key ada.pem       on the person's device, or here

    personacam consent import ada.consent.json"""


@consent_app.command("request", epilog=_REQUEST_EXAMPLES)
def request(
    persona: Annotated[str, typer.Argument(help="Name of the persona: small letters, digits, hyphens.")],
    subject: Annotated[str, typer.Option(help="Who is shown.")],
    enroller: Annotated[str, typer.Option(help="Who makes the persona: you.")],
    footage: Annotated[list[Path], typer.Option(help="A file that faces are taken from; repeat it.")],
    purpose: Annotated[list[str], typer.Option(help=_PURPOSES)],
    territory: Annotated[list[str] | None, typer.Option(help="A country: DE; repeat it.", show_default="world")] = None,
    valid_from: Annotated[
        str | None, typer.Option("--from", help="Its begin: 2026-12-01, or 2026-12-01T10:00:00Z.", show_default="now")
    ] = None,
    valid_until: Annotated[
        str | None, typer.Option("--until", help="Its end, written as --from.", show_default="--days later")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long it holds, unless --until says it.")] = 365,
    revocation: Annotated[
        list[str] | None, typer.Option(help="https address where the person can take it back; repeat it.")
    ] = None,
    statement: Annotated[Path | None, typer.Option(help="A recording of the person who says so.")] = None,
    disclosure: Annotated[str, typer.Option(help="What everybody who sees the persona is told.")] = "AI MODIFIED",
    subject_key: Annotated[
        str | None, typer.Option(help="Public half of the person's key.", show_default="theirs who signs")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write.", show_default="PERSONA.request.json")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write down what you ask of a person, to be signed by them. Nothing of the footage is copied but its digests."""
    target = out or Path(f"{persona}.request.json")
    with errors_explained(as_json=as_json):
        from calibration.consent import OPEN_KEY, WORLD, as_text, write_request
        from calibration.consent_gates import digest_file
        from calibration.consent_keys import public_hex
        from calibration.consent_words import in_words

        proper_name(persona)
        _known_purposes(purpose)
        now = datetime.now(timezone.utc)
        begin = _time(valid_from, "--from") if valid_from else now
        end = _time(valid_until, "--until") if valid_until else begin + timedelta(days=days)
        record = _record(
            subject={"name": subject, "key": subject_key or OPEN_KEY},
            enroller={"name": enroller, "key": public_hex(_store().key())},
            persona=persona, purposes=purpose, territory=territory or [WORLD],
            valid_from=as_text(begin), valid_until=as_text(end),
            disclosure=disclosure, revocation=revocation or [],
            footage=[digest_file(path).model_dump() for path in footage],
            statement=None if statement is None else digest_file(statement).model_dump(),
            asked=as_text(now), nonce=secrets.token_hex(16),
        )  # fmt: skip
        _write(target, write_request(record))
        for line in in_words(record):
            say(line)
    say(f"{target}: give it to {subject} to sign: personacam consent sign {target.name} --key KEY.pem", "bold")
    if as_json:
        print_json({"request": str(target), "record": record.model_dump(mode="json")})


def _known_purposes(given: list[str]) -> None:
    from calibration.consent import PURPOSES

    if unknown := [purpose for purpose in given if purpose not in PURPOSES]:
        raise SettingsError(f"{unknown[0]!r:.40} is none of the purposes", hint=f"choose from {', '.join(PURPOSES)}")


def _time(text: str, option: str) -> datetime:
    from calibration.consent import when

    try:
        return when(text if "T" in text else f"{text}T00:00:00Z")
    except ValueError:
        hint = "write 2026-12-01, or 2026-12-01T10:00:00Z (UTC)"
        raise SettingsError(f"{option} {text!r} is no time", hint=hint) from None


def _record(**fields: Any) -> ConsentRecord:
    from pydantic import ValidationError

    from calibration.consent import ConsentRecord, first_fault
    from engines.strict_json import canonical

    try:
        return ConsentRecord.model_validate_json(canonical(fields))
    except ValidationError as error:
        hint = "see personacam consent request --help"
        raise SettingsError(f"this makes no consent record: {first_fault(error)}", hint=hint) from error


@consent_app.command("sign", epilog=_REQUEST_EXAMPLES)
def sign(
    request_file: Annotated[Path, typer.Argument(help="What personacam consent request wrote.")],
    key_file: KeyFile,
    out: Annotated[Path | None, typer.Option(help="The file to write.", show_default="PERSONA.consent.json")] = None,
    passphrase_file: PassphraseFile = None,
    yes: Yes = False,
    as_json: JsonFlag = False,
) -> None:
    """Read what is asked of you, and sign it with your own key. Best done on your own device."""
    with errors_explained(as_json=as_json):
        from calibration.consent import read_record, read_request, sign_record
        from calibration.consent_words import in_words
        from realtime.passphrase import opened_key

        record = read_request(_bytes(request_file))
        target = out or request_file.with_name(f"{record.persona}.consent.json")
        for line in in_words(record):
            say(line)
        confirmed(f"{record.subject.name}, is that you, and do you agree?", yes=yes)
        data = sign_record(record, opened_key(key_file, passphrase_file))
        _write(target, data)
        digest = read_record(data).digest
    say(f"{target}: signed, number {digest[:16]}; send it back: personacam consent import {target.name}", "bold")
    if as_json:
        print_json({"record": str(target), "digest": digest})


def _bytes(path: Path) -> bytes:
    from calibration.consent_revocation import MAX_BYTES

    try:
        return read_limited(path, MAX_BYTES)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}", hint="check the path") from error
    except ValueError as error:
        raise SettingsError(f"{path} cannot be read: {error}", hint="check the path") from error


@consent_app.command("import", epilog="Example:\n\n    personacam consent import ada.consent.json")
def import_record(
    file: Annotated[Path, typer.Argument(help="A signed record, a revocation, or a list of revocations.")],
    as_json: JsonFlag = False,
) -> None:
    """Bring in what somebody signed: a consent record, or a revocation."""
    with errors_explained(as_json=as_json):
        from calibration.consent_gates import utc_now
        from calibration.consent_words import in_words

        data, store = _bytes(file), _store()
        revocations = _revocations(data)
        if revocations is not None:
            store.keep_revocations(revocations)
            for one in revocations:
                store.log.append("revoke", "", {"record": one.record, "key": one.key}, utc_now())
            report: dict[str, Any] = {"revocations": len(revocations)}
            say(f"{len(revocations)} revocations; what they name is refused from now on")
        else:
            signed = store.add(data)
            store.log.append("consent", signed.record.persona, {"consent": signed.digest}, utc_now())
            for line in in_words(signed.record):
                say(line)
            say(what_follows(signed.record), "bold")
            report = {"digest": signed.digest, "persona": signed.record.persona}
    if as_json:
        print_json(report)


def what_follows(record: ConsentRecord) -> str:
    """The command that comes after a record was brought in."""
    from realtime.cli_renew import renewable

    if renewable(record):
        return f"brought in; next: personacam consent renew {record.persona} --record {record.digest()[:16]}"
    sources = " ".join(f"--source {quoted(media.name)}" for media in record.footage)
    return f"brought in; next: personacam train persona {record.persona} {sources}"


def quoted(path: object) -> str:
    """As it can be typed in a shell of any system."""
    return f'"{path}"' if re.search(r"[^\w./\\:~+,@=-]", str(path)) else str(path)


def _revocations(data: bytes) -> Any:
    """Of a revocation or a list; None for something else."""
    from calibration.consent_revocation import FORMAT, LIST_FORMAT, read_list, read_revocation
    from engines.strict_json import strict_object

    try:
        kind = strict_object(data).get("format")
        if kind == LIST_FORMAT:
            return tuple(read_list(data))
    except ValueError:
        return None
    return (read_revocation(data),) if kind == FORMAT else None


@consent_app.command("show", epilog="Examples:\n\n    personacam consent show\n\n    personacam consent show ada")
def show(
    which: Annotated[
        str | None, typer.Argument(help="A persona's name, a record's number, or a file; none: all.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Consent records in plain words, and whether they hold now."""
    with errors_explained(as_json=as_json):
        from calibration.consent import SignedRecord
        from calibration.consent_keys import public_hex

        store = _store()
        found = [store.find(which)] if which else [signed for _, signed in store.records()]
        rows = []
        for signed in found:
            if isinstance(signed, SignedRecord):
                rows.append({"digest": signed.digest, "standing": _say_record(signed.record, store, ())})
            else:
                say(f"{signed.message}\n  -> {signed.hint}", "red")
                rows.append({"error": signed.message})
        if not found:
            say("there is no consent record on this machine; personacam consent request asks for one")
        public = public_hex(store.key())
    say(f"this machine signs with the key {public}")
    if as_json:
        print_json({"records": rows, "enroller_key": public})


def _say_record(record: ConsentRecord, store: ConsentStore, earlier: tuple[str, ...]) -> str:
    from calibration.consent_gates import utc_now
    from calibration.consent_revocation import revoked_digests
    from calibration.consent_words import in_words, standing

    text = standing(record, utc_now(), revoked=bool(revoked_digests(record, store.revocations(), earlier=earlier)))
    for line in in_words(record):
        say(line)
    say(text + "\n", "bold")
    return text


def tell(persona: Persona) -> dict[str, Any]:
    """For ``personas show``: a real person's consent in plain words; nothing for an invented one."""
    if persona.consent is None:
        return {}
    from calibration.consent import read_record

    try:
        signed = read_record(persona.consent)
        earlier = persona.manifest.chain.earlier if persona.manifest.chain else ()
        digest, text = signed.digest, _say_record(signed.record, _store(), earlier)
    except ConsentError as error:
        digest, text = None, error.message
        say(f"{error.message}\n  -> {error.hint}", "red")
    return {"consent": {"digest": digest, "standing": text}}


_REVOKE_EXAMPLES = """Examples:

    personacam consent revoke ada.consent.json --key ada.pem

    personacam consent revoke ada --key ada.pem --all --publish revocations.json"""


@consent_app.command("revoke", epilog=_REVOKE_EXAMPLES)
def revoke(
    which: Annotated[str, typer.Argument(help="A persona's name, a record's number, or its file.")],
    key_file: KeyFile,
    everything: Annotated[bool, typer.Option("--all", help="All that this key ever signed.")] = False,
    out: Annotated[Path | None, typer.Option(help="The file to write.", show_default="PERSONA.revocation.json")] = None,
    publish: Annotated[
        Path | None, typer.Option(help="The list that lies at the record's address: this revocation is added to it.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    yes: Yes = False,
    as_json: JsonFlag = False,
) -> None:
    """Take a consent back. Publish the list, and send the file to everybody who has the persona."""
    with errors_explained(as_json=as_json):
        from calibration.consent_gates import utc_now
        from calibration.consent_revocation import revoke as sign_revocation
        from calibration.consent_revocation import write_list
        from engines.strict_json import canonical
        from realtime.passphrase import opened_key

        store = _store()
        record = store.find(which).record
        target = out or Path(f"{record.persona}.revocation.json")
        confirmed(f"Take back the consent of {record.subject.name} for {record.persona}?", yes=yes)
        signer = opened_key(key_file, passphrase_file)
        data = sign_revocation(None if everything else record.digest(), signer, utc_now())
        revocation = store.add_revocation(data)
        if not revocation.covers(record):
            raise SettingsError("this key did not sign that record", hint="use the key of the person who is shown")
        _write(target, data)
        if publish is not None:
            before = _revocations(_bytes(publish)) if publish.exists() else ()
            listed = [canonical(one.model_dump(mode="json")) for one in before or ()]
            _write(publish, write_list([*listed, data]))
        store.log.append("revoke", record.persona, {"consent": record.digest(), "all": everything}, utc_now())
    say(f"{target}: taken back, from now on on this machine")
    for address in record.revocation:
        say(f"publish the list at {address}: machines that have the persona ask there")
    if as_json:
        print_json({"revocation": str(target), "record": record.digest()})


@consent_app.command("list-file", epilog="Example:\n\n    personacam consent list-file revocations.json")
def list_file(out: Annotated[Path, typer.Argument(help="The file to write.")] = Path("revocations.json")) -> None:
    """An empty list of revocations, to publish at a record's address from the beginning."""
    with errors_explained():
        from calibration.consent_revocation import write_list

        if out.exists():
            raise SettingsError(f"there is a file {out} already", hint="choose another name")
        _write(out, write_list([]))
    say(f"{out}: publish it at the address that the record names")
