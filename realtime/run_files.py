"""What a run writes down: its recordings, their content credentials, and the record of the session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from calibration.consent_gates import digest_file
from engines.errors import MissingDependencyError, PersonacamError, SettingsError
from engines.persona import Persona
from engines.types import U8, Frame
from realtime.admission import admitted
from realtime.config import Settings
from realtime.credentials import SIGNABLE_SUFFIXES, claim_of, missing_library
from realtime.credentials_identity import Identity, load_identity, local_identity
from realtime.microphone import NONE, Microphone
from realtime.recorder import RecorderSink
from realtime.recording import BackgroundRecorder, RecordingControl
from realtime.recording_worker import copy_apart, sign_apart
from realtime.session_record import FOLDER, RecordedFile, Session, SessionStore, WornPersona, new_session_id, worn
from realtime.sink import Sink
from realtime.source import Source

Say = Callable[[str], None]
_LONG = 500 << 20
"""Bytes whose signing takes seconds."""
_SHOWN_TO_NOBODY = frozenset({"null", "preview"})


class RunFiles:
    """Of one run. Made before anything is opened, so that wrong options are told first."""

    def __init__(self, settings: Settings, home: Path, say: Say, delay_ms: Callable[[], float | None]) -> None:
        """``home``: the user's data folder. ``delay_ms``: of the sound, as ``RecorderSink``.

        Raises SettingsError for a certificate or key that cannot be used, MissingDependencyError when one is given and
        nothing can sign with it.
        """
        self._settings, self._home, self._say, self._delay_ms = settings, home, say, delay_ms
        self.session_id = new_session_id()
        """For the invisible mark."""
        self._microphone = None if settings.microphone in {None, NONE} else settings.microphone
        self._identity = _given_identity(settings)
        self._lock = threading.Lock()
        """Of ``_session``: recordings end in threads of their own."""
        self._session: Session | None = None
        self._persona: Persona | None = None
        self._first: WornPersona | None = None
        """Whoever was worn first, and since when."""
        self._asked: str | None = None
        """Whose consent to be recorded was found, by ``_agreed_in``."""
        self.control: RecordingControl | None = None
        """None when every frame of a file is worked on at any rate: then there is no stream to record."""

    def recorders(self, sinks: list[Sink], source: Source, *, live: bool) -> list[Sink]:
        """The outputs, with recorders that sign and, of a stream, encode in their own thread and have sound.

        Raises SettingsError for a recording that would replace the file that is read.
        """
        _refuse_own_source(self._settings, source)
        if self._microphone is not None and not live:
            self._say("the microphone is not recorded: the input is a file that is worked on at any rate")
        recorders: list[Sink] = []
        for sink in sinks:
            if not isinstance(sink, RecorderSink):
                recorders.append(sink)
            elif live:
                recorders.append(BackgroundRecorder(self._recorder(sink.path)))
            else:
                recorders.append(RecorderSink(sink.path, seal=self._seal))
        return recorders

    @contextmanager
    def begun(self, persona: Persona, size: tuple[int, int], fps: float, *, live: bool) -> Iterator[None]:
        """Write the beginning of the session down, if anybody sees it; its failure is only said. In the end, whatever
        happened, recordings are finished.
        """
        self._persona, self._first = persona, worn(persona)
        if live:
            self.control = RecordingControl(
                size,
                fps,
                lambda path: self._recorder(path, from_first=True),
                admit=self._admit,
                microphone=self._microphone,
                say=self._say,
            )
        if not _SHOWN_TO_NOBODY.issuperset(self._settings.sink):
            self._noted(lambda: self._opened(worn(persona)))
        try:
            yield
        finally:
            self.close()

    def take(self, pixels: U8, frame: Frame, persona: Persona) -> None:
        """A picture that went out, and whom it shows; a tap of the pipeline (microseconds, does not raise)."""
        if persona is not self._persona:
            self._persona = persona
            threading.Thread(target=self._wear, args=(worn(persona),), name="session", daemon=True).start()
        if self.control is None:
            return
        if persona.manifest.kind == "person" and self.control.active and _agreed_in(persona) != self._asked:
            # Consent cannot be asked for in passing, and this picture must not be in the file.
            self.control.stop()
            self._say(f"the recording was stopped: {persona.manifest.title} is a real person; start another one to ask")
        self.control.take(pixels, frame)

    def seal(self, finished: Path, target: Path) -> str:
        """Sign a film that was joined from segments, in place, and write it down under the name of ``target``.

        Returns words for people; a failure is in them.
        """
        return self._seal(finished, target)

    def close(self) -> None:
        """Finish what is being recorded. May be called twice."""
        if self.control is not None:
            self.control.close()

    def end(self, swapped: int) -> None:
        """``close``, and write the end of the session down."""
        self.close()
        with self._lock:
            session = self._session
        if session is not None:
            self._noted(lambda: session.end(swapped))

    def _recorder(self, path: Path, *, from_first: bool = False) -> RecorderSink:
        sound = Microphone(self._microphone) if self._microphone is not None else None
        return RecorderSink(
            path, sound=sound, delay_ms=self._delay_ms, from_first=from_first, seal=self._seal, copy=copy_apart
        )

    def _wear(self, persona: WornPersona) -> None:
        with self._lock:
            session = self._session
        if session is not None:
            self._noted(lambda: session.wear(persona))

    def _admit(self) -> None:
        """Before a recording begins. Raises ConsentError for a real person who agreed to no recording."""
        persona = self._persona
        if persona is not None and persona.manifest.kind == "person":
            settings = self._settings
            admitted(self._home, persona.path, ("recording.mp4",), settings.purpose, settings.territory, self._say)
            self._asked = _agreed_in(persona)

    def _opened(self, persona: WornPersona) -> Session:
        """The session's record, begun when it is first needed; ``persona`` is worn now."""
        with self._lock:
            if self._session is None:
                self._session = Session(SessionStore(self._home / FOLDER), self._first or persona, self.session_id)
                self._session.wear(persona)
            return self._session

    def _seal(self, finished: Path, target: Path) -> str:
        """Sign a finished recording in place, and write it down. A ``Seal``."""
        persona = self._persona
        if persona is None:
            return "WITHOUT content credentials: nobody was worn"
        session = self._opened(worn(persona))
        words, signed = self._signed(finished, session)
        try:
            session.recorded(RecordedFile(target.name, digest_file(finished).sha256, signed))
        except PersonacamError as error:
            words += f"; not written down: {error}"
        return words

    def _signed(self, finished: Path, session: Session) -> tuple[str, bool]:
        settings = self._settings
        if not settings.credentials:
            return "without content credentials, as asked", False
        if finished.suffix.lower() not in SIGNABLE_SUFFIXES:
            return f"without content credentials: {finished.suffix} has no place for them", False
        missing = missing_library()
        if missing is not None:
            return f"WITHOUT content credentials: {missing}", False
        size = finished.stat().st_size
        if size > _LONG:
            self._say(f"signing {size >> 20} MB …")
        signed = finished.with_name(finished.stem + ".signing" + finished.suffix)
        try:
            identity = self._identity or local_identity(self._home)
            own = (settings.c2pa_cert, settings.c2pa_key) if settings.c2pa_cert and settings.c2pa_key else None
            sign_apart(finished, signed, claim_of(session.record), self._home, own)
            signed.replace(finished)
        except (PersonacamError, OSError) as error:
            return f"WITHOUT content credentials: {error}", False
        finally:
            signed.unlink(missing_ok=True)
        return f"with content credentials by {identity.name}", True

    def _noted(self, write: Callable[[], object]) -> None:
        try:
            write()
        except PersonacamError as error:
            self._say(str(error))


def _agreed_in(persona: Persona) -> str:
    """The consent record of a real person, the same in all tiers of one."""
    return persona.manifest.chain.consent if persona.manifest.chain else persona.sha256


def _given_identity(settings: Settings) -> Identity | None:
    """The user's own, loaded before anything starts; None: this computer's, when a recording is finished."""
    if settings.c2pa_cert is None and settings.c2pa_key is None:
        return None
    if settings.c2pa_cert is None or settings.c2pa_key is None:
        raise SettingsError("a certificate and its key belong together", hint="give both --c2pa-cert and --c2pa-key")
    if not settings.credentials:
        raise SettingsError("--no-credentials with a certificate to sign with", hint="leave one of them out")
    missing = missing_library()
    if missing is not None:
        raise MissingDependencyError(f"nothing can sign with {settings.c2pa_cert}: {missing}", hint="install it")
    return load_identity(settings.c2pa_cert, settings.c2pa_key)


def _refuse_own_source(settings: Settings, source: Source) -> None:
    """Raises SettingsError for a recording that would replace, and so destroy, the file that is being read."""
    if source.live or "://" in settings.source:
        return
    own = Path(settings.source).expanduser().resolve()
    for spec in settings.sink:
        if Path(spec).expanduser().resolve() == own:
            raise SettingsError(f"{spec} is both source and sink", hint="give the recording another name")
