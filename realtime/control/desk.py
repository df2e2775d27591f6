"""Carries out what pages, keys and the terminal ask for: between two frames, in the thread of the frames.

    veil, standby, end      at once, in whatever thread they come: the very next picture to leave obeys
    knobs, policy           before the next frame
    persona, tier, runtime  loaded beside the frames, then exchanged between two of them (``quality.py``)
    recording               in a thread of its own; a real person's consent may have to be asked for

``passthrough`` shows the wearer's own face, so it waits for a yes, whoever asks for it and however.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from pydantic import ValidationError

from engines.errors import DataError, PersonacamError, SettingsError
from engines.types import U8, Frame
from realtime.config import Settings
from realtime.control import state as say
from realtime.governor import Governor
from realtime.live_settings import CurrentSettings, blend_config, label_for, tracker_config
from realtime.pacing import Clock, now_ns
from realtime.pipeline import Pipeline, Stages
from realtime.policy import FailurePolicy, PolicyGate, Reason
from realtime.quality import Quality, Worn, dressed
from realtime.recording import Recording
from realtime.wardrobe import Wardrobe

CONFIRM_S = 20.0
"""So long a question waits for its yes."""
ENGINE_WAIT_S = 20.0
"""A persona that comes for one that runs on a graphics card is put on when its engine is ready, or so much later."""
PASSTHROUGH_QUESTION = "Show your own face whenever there is no swap?"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a desk works on: the parts of one run."""

    current: CurrentSettings
    pipeline: Pipeline
    quality: Quality
    wardrobe: Wardrobe
    size: tuple[int, int]
    names: Callable[[], Sequence[str]]
    """The gallery, in order."""
    files: Callable[[], Sequence[str]]
    """Its persona files."""
    tiers: Callable[[str], Sequence[str]]
    """That a persona comes in, the smallest first; by the names of folders, so quick."""
    governor: Callable[[Settings, Worn], Governor | None]
    stop: threading.Event
    recording: Recording | None = None


class Incoming:
    """What is done to each frame before anything else sees it."""

    def __init__(self) -> None:
        self.mirror = False
        self.seen: Callable[[Frame], None] | None = None
        """Gets it then; must not keep it."""
        self._pixels: U8 = np.zeros((0, 0, 3), np.uint8)

    def __call__(self, frame: Frame) -> Frame:
        """The frame, or its mirror image in a buffer of this object that is good until the next one."""
        if self.mirror:
            frame = self._mirrored(frame)
        if self.seen is not None:
            self.seen(frame)
        return frame

    def _mirrored(self, frame: Frame) -> Frame:
        if self._pixels.shape != frame.pixels.shape:
            self._pixels = np.empty_like(frame.pixels)
        cv2.flip(frame.pixels, 1, dst=self._pixels)
        return Frame(self._pixels, frame.index, frame.captured_ns, frame.timestamp_ns)


class Desk:
    """Takes commands from any thread (``submit``) and carries them out in the thread of the frames (``look``)."""

    def __init__(self, parts: Parts, clock: Clock = now_ns) -> None:
        self._parts, self._clock = parts, clock
        self._commands: queue.SimpleQueue[say.Command] = queue.SimpleQueue()
        self._veil = self._standby = False
        self._lock = threading.Lock()
        """Of the two above."""
        self.error: str | None = None
        """Why the last command was not carried out."""
        self.changing: str | None = None
        """Who is being loaded."""
        self.question: say.Question | None = None
        self._asked_ns = 0
        self._questions = 0
        self._wish: Settings | None = None
        self._change: tuple[Settings, PersonacamError | None] | None = None
        """What came of the last one: told by the thread that loaded it."""
        self._recorder: threading.Thread | None = None
        self._fresh = False
        """The face is to be searched again: nobody followed it meanwhile."""
        parts.quality.dress = self._dress
        self.incoming = Incoming()
        self.incoming.mirror = parts.current.value.mirror
        parts.pipeline.prepare = self.incoming

    # ---- from any thread ---------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """As they are now."""
        return self._parts.current.value

    @property
    def veiled(self) -> bool:
        """Every picture is veiled by hand."""
        return self._veil

    @property
    def standby(self) -> bool:
        """Stopped by hand."""
        return self._standby

    def submit(self, command: say.Command) -> None:
        """Do this. What protects the wearer takes effect here and now, the rest before the next frame."""
        if isinstance(command, say.Veil | say.Standby):
            with self._lock:
                if isinstance(command, say.Veil):
                    self._veil = command.on
                else:
                    self._standby = command.on
                held = Reason.STANDBY if self._standby else Reason.VEILED if self._veil else None
                if held is not None:
                    self._parts.pipeline.held = held
        elif isinstance(command, say.End):
            self._parts.stop.set()
            return
        self._commands.put(command)

    # ---- in the thread of the frames ---------------------------------------------------------------------------------

    def look(self) -> None:
        """Before each frame."""
        if self._change is not None:
            self._changed(*self._change)
            self._change = None
        if self.question is not None and self._clock() - self._asked_ns > CONFIRM_S * 1e9:
            self.question = None
        while not self._commands.empty():
            self.error = None
            try:
                self._do(self._commands.get())
            except PersonacamError as error:
                self.error = str(error)
        if self._wish is not None and not self._parts.quality.busy:
            wish, self._wish = self._wish, None
            self._begin(wish)

    def _do(self, command: say.Command) -> None:
        if isinstance(command, say.Veil | say.Standby):
            self._release()
        elif isinstance(command, say.Adjust):
            self._adjust(command.changes)
        elif isinstance(command, say.WearPersona):
            self._wear(command.name)
        elif isinstance(command, say.Prepare):
            self._parts.wardrobe.prepare(self._settings_for(command.name))
        elif isinstance(command, say.WearTier):
            self._wish = self._changed_settings({"tier": command.tier})
        elif isinstance(command, say.UseRuntime):
            self._wish = self._changed_settings({"runtime": command.runtime})
        elif isinstance(command, say.ChoosePolicy):
            self._choose(FailurePolicy(command.policy))
        elif isinstance(command, say.Confirm):
            self._confirm(command)
        elif isinstance(command, say.Record):
            self._record(on=command.on)

    def _release(self) -> None:
        """Pictures go on when neither the veil nor the standby is wanted any more."""
        with self._lock:
            if self._veil or self._standby:
                return
            self._parts.pipeline.held = None
        self._start_afresh()

    def _start_afresh(self) -> None:
        """The face was not followed meanwhile, or stands elsewhere."""
        stages = self._parts.pipeline.stages
        stages.track.reset()
        stages.blend.reset()

    # ---- knobs and policy --------------------------------------------------------------------------------------------

    def _changed_settings(self, changes: Mapping[str, object] | Mapping[say.Knob, say.Value]) -> Settings:
        """Raises SettingsError for values that ``Settings`` does not take."""
        try:
            return Settings.model_validate(self.settings.model_dump() | dict(changes.items()))
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else "settings"
            raise SettingsError(f"{name}: {first['msg']}", hint="move it within its range") from None

    def _adjust(self, changes: Mapping[say.Knob, say.Value]) -> None:
        before, after = self.settings, self._changed_settings(changes)
        worn, pipeline = self._parts.quality.worn, self._parts.pipeline
        if after.strength != before.strength:
            worn.swapper.express(after.strength)
        if after.morph != before.morph:
            _morph(worn, after.morph)
        if blend_config(after) != blend_config(before):
            worn.blender.configure(blend_config(after))
        if tracker_config(after) != tracker_config(before):
            self._parts.quality.retune(tracker_config(after))
        if after.mirror != before.mirror:
            self.incoming.mirror = after.mirror
            self._start_afresh()
        self._parts.current.value = after
        if after.label_position != before.label_position:
            kind = worn.persona.manifest.kind
            pipeline.restage(lambda stages: _labelled(stages, after, kind))

    def _choose(self, policy: FailurePolicy) -> None:
        if policy is FailurePolicy.PASSTHROUGH and self.settings.policy is not policy:
            self._questions += 1
            self._asked_ns = self._clock()
            self.question = say.Question(number=self._questions, text=PASSTHROUGH_QUESTION)
            return
        self.question = None
        self._cover_with(policy)

    def _confirm(self, command: say.Confirm) -> None:
        asked, self.question = self.question, None
        if asked is None or asked.number != command.number:
            raise SettingsError("there is nothing to confirm any more", hint="ask for it again")
        if command.yes:
            self._cover_with(FailurePolicy.PASSTHROUGH)

    def _cover_with(self, policy: FailurePolicy) -> None:
        after = self._changed_settings({"policy": policy})
        gate = PolicyGate(policy, hold_s=after.hold_s, card=after.card, size=self._parts.size)
        self._parts.pipeline.gate = gate
        self._parts.current.value = after

    # ---- who is worn -------------------------------------------------------------------------------------------------

    def _settings_for(self, name: str) -> Settings:
        """Of another persona: in the tier that is worn, where it comes in it."""
        if name not in self._parts.names():
            raise SettingsError(f"there is no persona {name!r}", hint="personacam personas list")
        tier = self.settings.tier if self.settings.tier in self._parts.tiers(name) else None
        same = name == self.settings.persona
        return self._changed_settings(
            {"persona": name, "tier": tier, "morph": self.settings.morph if same else None}  # each begins at its own
        )

    def _wear(self, name: str | None) -> None:
        wished = (self._wish or self.settings).persona
        if name is None:
            names = list(self._parts.names())
            name = names[(names.index(wished) + 1) % len(names)] if wished in names else names[0]
        self._wish = self._settings_for(name)

    def _begin(self, wish: Settings) -> None:
        """Load it, in another thread. A later wish waits for this one."""
        parts = self._parts
        worn = parts.quality.worn
        self.changing = wish.persona
        patient = worn.runtime.name.startswith("tensorrt")

        def load() -> Worn:
            following = parts.wardrobe.take(wish)
            wait = getattr(following.runtime, "wait", None)
            if patient and wait is not None:
                wait(ENGINE_WAIT_S)
            return following

        def done(error: PersonacamError | None) -> None:
            self._change = wish, error

        parts.quality.wear(load, done)

    def _changed(self, wish: Settings, error: PersonacamError | None) -> None:
        self.changing = None
        if error is not None:
            self.error = str(error)
            return
        parts = self._parts
        other = wish.persona != self.settings.persona
        names = ("persona", "tier", "runtime", "morph") if other else ("persona", "tier", "runtime")
        parts.current.value = self._changed_settings({name: getattr(wish, name) for name in names})
        parts.quality.govern(parts.governor(parts.current.value, parts.quality.worn))
        self._prepare_next()

    def _prepare_next(self) -> None:
        """The next in the gallery: a hotkey goes there."""
        names = list(self._parts.names())
        if len(names) > 1 and self.settings.persona in names:
            following = names[(names.index(self.settings.persona) + 1) % len(names)]
            self._parts.wardrobe.prepare(self._settings_for(following))

    def _dress(self, stages: Stages, worn: Worn) -> Stages:
        """In the thread that loaded it, before any frame sees it: everything as the knobs stand."""
        settings = self.settings
        worn.blender.configure(blend_config(settings))
        worn.blender.reset()
        with contextlib.suppress(DataError):  # an older persona: its knob says so
            worn.swapper.express(settings.strength)
        if worn.persona.manifest.name == self._parts.quality.worn.persona.manifest.name:
            _morph(worn, settings.morph)
        return _labelled(dressed(stages, worn), settings, worn.persona.manifest.kind)

    # ---- recording ---------------------------------------------------------------------------------------------------

    def _record(self, *, on: bool) -> None:
        recording = self._parts.recording
        if recording is None:
            raise SettingsError("this run cannot record", hint="add a file: personacam run -o virtualcam -o FILE.mp4")
        if self._recorder is not None and self._recorder.is_alive():
            raise SettingsError("the recorder is busy", hint="wait a moment")

        def work() -> None:
            try:
                if on:
                    recording.start(None)
                else:
                    recording.stop()
            except PersonacamError as error:
                self.error = str(error)

        self._recorder = threading.Thread(target=work, name="record", daemon=True)
        self._recorder.start()


def _morph(worn: Worn, value: float | None) -> None:
    """Raises DataError for a persona without a morph, unless ``value`` is None: what its import said."""
    value = worn.persona.manifest.morph if value is None else value
    if value is not None:
        worn.swapper.morph(value)


def _labelled(stages: Stages, settings: Settings, kind: str) -> Stages:
    return replace(stages, label=label_for(settings, "person" if kind == "person" else "invented"))
