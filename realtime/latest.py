"""The only box through which threads hand things to each other: one slot, newest wins, losers counted."""

from __future__ import annotations

import threading
import time
from typing import Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):  # noqa: N818 - it says that the input ended, which is not an error
    """The producer has finished and the slot is empty."""


class Latest(Generic[T]):
    """A slot that holds at most one item, for one or more producers and one or more consumers.

    ``put`` replaces what nobody took yet, so a slow consumer always gets the newest item and a queue never grows.
    ``put_wait`` waits for the slot to be empty instead, so nothing is lost and the producer runs at the consumer's
    rate. Both hand over the reference; nobody may write to an item after putting it in.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False
        self._error: Exception | None = None
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """How many items were replaced by ``put`` before anybody took them."""
        with self._changed:
            return self._dropped

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called. An item may still wait in the slot."""
        with self._changed:
            return self._closed

    def put(self, item: T) -> None:
        """Publish ``item`` at once, replacing one that was not taken. Does nothing once closed. ``None`` is no item."""
        with self._changed:
            if self._closed:
                return
            if self._item is not None:
                self._dropped += 1
            self._item = item
            self._changed.notify_all()

    def put_wait(self, item: T, timeout_s: float) -> bool:
        """Publish ``item`` when the slot is empty; False if it stayed full for ``timeout_s`` or the box is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is None or self._closed, timeout_s)
            if self._closed or self._item is not None:
                return False
            self._item = item
            self._changed.notify_all()
            return True

    def get(self, timeout_s: float) -> T | None:
        """Take the item, waiting up to ``timeout_s``; None when none came in time.

        After ``close`` the item that is left is still given out; then the error given to ``close`` is raised, or
        ``Closed``. The error is raised again on every further call.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._item is None and not self._closed:
                remaining = deadline - time.monotonic()
                if remaining <= 0.0 or not self._changed.wait(remaining):
                    break
            item, self._item = self._item, None
            if item is not None:
                self._changed.notify_all()
                return item
            if not self._closed:
                return None
            raise self._error if self._error is not None else Closed("the input has ended")

    def close(self, error: Exception | None = None) -> None:
        """Mark the end, with the reason if it was a failure. Wakes everybody. The first call counts."""
        with self._changed:
            if not self._closed:
                self._closed = True
                self._error = error
            self._changed.notify_all()
