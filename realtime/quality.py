"""Carries out what the governor decides, while frames run: another tier of the persona, checks, rate.

A tier is loaded in a thread of its own and exchanged between two frames; until then the old one goes on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from engines.errors import PersonacamError, RuntimeFailure
from engines.persona import Persona
from engines.runtimes.base import LiveRuntime
from engines.types import Frame
from realtime.blend import Blender
from realtime.governor import Change, Governor, Level
from realtime.pacing import Clock, now_ns
from realtime.pipeline import Pipeline, Stages
from realtime.swap import Swapper
from realtime.track import Tracker, TrackerConfig

_log = logging.getLogger("personacam")
Say = Callable[[str], None]
_JOIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Worn:
    """A persona ready to be put on: everything that its tier decides."""

    persona: Persona
    runtime: LiveRuntime
    swapper: Swapper
    blender: Blender


class Drops(Protocol):
    """Who knows how many frames were lost at the source."""

    @property
    def dropped(self) -> int:
        """Since the beginning."""
        ...


class Quality:
    """What is worn now, and its exchange. ``look`` belongs to the thread of the frames."""

    def __init__(
        self,
        pipeline: Pipeline,
        tracker: Tracker,
        worn: Worn,
        drops: Drops,
        *,
        governor: Governor | None,
        load: Callable[[str], Worn],
        say: Say,
        clock: Clock = now_ns,
        release: Callable[[Worn], None] = lambda worn: worn.runtime.close(),
    ) -> None:
        """``load`` gives a tier, ready to run; it is called in another thread. Owns ``worn`` and what comes later, and
        gives it to ``release`` when it was taken off.
        """
        self.worn = worn
        self.governor = governor
        self._pipeline, self._tracker, self._drops = pipeline, tracker, drops
        self._load, self._say, self._clock, self._release = load, say, clock, release
        self.dress: Callable[[Stages, Worn], Stages] = dressed
        """The stages with something else put on; called before the exchange, in the thread that loaded it."""
        self._dropped = 0
        self._loading: threading.Thread | None = None
        self._failed: tuple[Change, str] | None = None
        self._over = threading.Event()
        self._begun = tracker.config

    def look(self, frame: Frame) -> None:  # noqa: ARG002 - the pipeline gives it
        """After each frame that went out."""
        if self.governor is None:
            return
        if self._loading is not None:
            if self._loading.is_alive():
                return
            self._loading = None
        if self._failed is not None:
            self._stay(*self._failed)
            self._failed = None
        dropped = self._drops.dropped
        change = self.governor.observe(self._clock() / 1e9, self._pipeline.cost_ns / 1e9, dropped - self._dropped)
        self._dropped = dropped
        if change is not None:
            self._make(change)

    @property
    def busy(self) -> bool:
        """Something is being loaded."""
        return self._loading is not None and self._loading.is_alive()

    def wear(self, load: Callable[[], Worn], done: Callable[[PersonacamError | None], None]) -> None:
        """Put something else on as soon as ``load`` gave it, in another thread; to be called between two frames.

        ``done`` is called in that thread: None, or why what was worn before stays on. Raises RuntimeFailure when
        something is being loaded already.
        """
        if self.busy:
            raise RuntimeFailure("something else is being put on already", hint="wait a moment")

        def work() -> None:
            try:
                self._exchange(load())
            except PersonacamError as error:
                done(error)
            else:
                done(None)

        self._loading = threading.Thread(target=work, name="persona", daemon=True)
        self._loading.start()

    def govern(self, governor: Governor | None) -> None:
        """Another ladder, for what is worn now."""
        self.governor = governor
        self._set(Level("") if governor is None else governor.level)

    def retune(self, config: TrackerConfig) -> None:
        """Other constants of the tracker's filter; its cadences stay those of the level. From any thread."""
        level = None if self.governor is None else self.governor.level
        self._begun = config
        self._tracker.configure(config if level is None else _cadences(config, level))

    def report(self) -> dict[str, Any]:
        """For JSON."""
        return {"on": False} if self.governor is None else {"on": True} | self.governor.report()

    def close(self) -> None:
        """End a change that is being prepared, and free what is worn. May be called twice."""
        self._over.set()
        if self._loading is not None:
            self._loading.join(_JOIN_S)
        self.worn.runtime.close()

    def _make(self, change: Change) -> None:
        self._say(f"quality: {change.after} ({change.reason})")
        self._set(change.after)
        if change.after.tier != self.worn.persona.manifest.tier:
            self._loading = threading.Thread(target=self._change_tier, args=(change,), name="tier", daemon=True)
            self._loading.start()

    def _set(self, level: Level) -> None:
        """What needs no loading."""
        self._pipeline.send_every = level.send_every
        self._tracker.configure(_cadences(self._begun, level))

    def _stay(self, change: Change, why: str) -> None:
        if self.governor is not None:
            self.governor.refuse(self.governor.levels.index(change.after))
            self.governor.back(change)
            self._set(change.before)
        self._say(f"quality stays at {change.before}: {why}")

    def _change_tier(self, change: Change) -> None:
        try:
            self._exchange(self._load(change.after.tier))
        except PersonacamError as error:
            self._failed = change, str(error)

    def _exchange(self, following: Worn) -> None:
        """Between two frames; waits for the next one. Raises PersonacamError, and ``following`` is closed then."""
        before = self.worn
        gone = threading.Event()
        if self._over.is_set():
            following.runtime.close()
            return
        try:
            self._pipeline.exchange(self.dress(self._pipeline.stages, following), gone.set)
        except PersonacamError:
            following.runtime.close()
            raise
        while not gone.wait(0.1):
            if self._over.is_set():  # no frame will come any more
                following.runtime.close()
                return
        self.worn = following
        self._release(before)


def dressed(stages: Stages, worn: Worn) -> Stages:
    """``stages`` with another swap and what blends it."""
    return replace(stages, swap=worn.swapper, blend=worn.blender)


def _cadences(config: TrackerConfig, level: Level) -> TrackerConfig:
    return replace(config, check_every=level.check_every, search_every=level.search_every)
