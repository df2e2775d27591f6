"""Personas that are ready to be put on: the one that comes next is loaded before it is asked for.

Only invented people wait here. A real person's consent is asked for each time that they are put on, so their persona is
loaded then and closed when it is taken off.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from engines.errors import PersonacamError
from realtime.config import Settings
from realtime.engine_switch import EngineSwitch
from realtime.quality import Worn

_log = logging.getLogger("personacam")
MOST_READY = 6
"""A tiny persona takes about 20 MB in OpenVINO."""
_JOIN_S = 10.0
Key = tuple[str, str | None, str, str]


def key_of(settings: Settings) -> Key:
    """What of the options decides which network runs, and where."""
    return settings.persona, settings.tier, settings.runtime, settings.precision


class Wardrobe:
    """Keeps what was taken off, loads what may be next in a thread of its own. May be used from any thread."""

    def __init__(
        self,
        load: Callable[[Settings], Worn],
        may_wait: Callable[[Settings], bool],
        taken_off: Callable[[Worn], None],
        most: int = MOST_READY,
    ) -> None:
        """``load`` opens a persona, its engine not started; ``may_wait``: it shows an invented person, so that it may
        be loaded before anybody asks. ``taken_off`` is told of real persons.
        """
        self._load, self._may_wait, self._taken_off, self._most = load, may_wait, taken_off, most
        self._ready: dict[Key, Worn] = {}
        """The one that was used least lately first."""
        self._keys: dict[int, Key] = {}
        """Of those that are out: by ``id`` of what is worn."""
        self._lock = threading.Lock()
        self._closed = False
        self._wishes: queue.SimpleQueue[Settings | None] = queue.SimpleQueue()
        self._loading = threading.Lock()
        self._worker = threading.Thread(target=self._work, name="wardrobe", daemon=True)
        self._worker.start()

    def out(self, settings: Settings, worn: Worn) -> None:
        """``worn`` is on: it was opened elsewhere, from these settings."""
        with self._lock:
            self._keys[id(worn)] = key_of(settings)

    def is_ready(self, settings: Settings) -> bool:
        """Whether ``take`` gives it at once."""
        with self._lock:
            return key_of(settings) in self._ready

    def take(self, settings: Settings) -> Worn:
        """The persona of these settings, ready to run: kept, or loaded now. Raises what loading raises."""
        key = key_of(settings)
        with self._lock:
            worn = self._ready.pop(key, None)
        if worn is None:
            with self._loading:  # perhaps it is the one that is being prepared
                with self._lock:
                    worn = self._ready.pop(key, None)
                if worn is None:
                    worn = self._load(settings)
        with self._lock:
            self._keys[id(worn)] = key
        if isinstance(worn.runtime, EngineSwitch):
            worn.runtime.start()
        return worn

    def prepare(self, settings: Settings) -> None:
        """Load it soon, if it is not there. What cannot be loaded is told when it is asked for."""
        self._wishes.put(settings)

    def put_back(self, worn: Worn) -> None:
        """It was taken off. A real person's is closed."""
        with self._lock:
            key = self._keys.pop(id(worn), None)
        if worn.persona.manifest.kind == "person":
            self._taken_off(worn)
            key = None
        if key is None:
            worn.runtime.close()
        else:
            self._keep(key, worn)

    def close(self) -> None:
        """Close all that is not worn. May be called twice."""
        with self._lock:
            self._closed = True
            ready, self._ready = list(self._ready.values()), {}
        self._wishes.put(None)
        self._worker.join(_JOIN_S)
        for worn in ready:
            worn.runtime.close()

    def _keep(self, key: Key, worn: Worn) -> None:
        surplus: list[Worn] = []
        with self._lock:
            if self._closed:
                surplus.append(worn)
            else:
                before = self._ready.pop(key, None)
                self._ready[key] = worn
                surplus += [] if before is None else [before]
                while len(self._ready) > self._most:
                    surplus.append(self._ready.pop(next(iter(self._ready))))
        for old in surplus:
            old.runtime.close()

    def _work(self) -> None:
        while (settings := self._wishes.get()) is not None:
            while not self._wishes.empty():  # only the newest wish matters
                settings = self._wishes.get()
                if settings is None:
                    return
            key = key_of(settings)
            with self._loading:
                with self._lock:
                    known = self._closed or key in self._ready or key in self._keys.values()
                if known:
                    continue
                try:
                    if self._may_wait(settings):
                        self._keep(key, self._load(settings))
                except PersonacamError as error:
                    _log.info("%s is not ready to be put on: %s", settings.persona, error)
