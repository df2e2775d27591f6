"""An output that keeps its rate whatever the pipeline does, and that cannot hold the pipeline up.

Programs that read a virtual camera expect pictures at the rate that it was opened with. A thread of its own hands them
to the device: each at once when it comes, the last one again when none came, and the newest only when they come too
fast. If the device blocks, because a driver hangs or a reader has stopped, pictures are left out and the pipeline does
not notice.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np

from engines.errors import PersonacamError, SinkError
from engines.types import U8, Frame
from realtime.pacing import Clock, now_ns

if TYPE_CHECKING:
    from realtime.sink import Sink

_CLOSE_S = 3.0
_PULL = 8
"""The grid follows the pictures' own phase by this part of the difference …"""
_MOST_PULL = 100
"""… and by no more than this part of a period, so that the rate stays within 1 %."""


@runtime_checkable
class Repeats(Protocol):
    """A sink that can show its last picture again for less than the work of a new one."""

    def repeat(self) -> None: ...  # noqa: D102


@runtime_checkable
class Checks(Protocol):
    """A sink whose device fails silently, and that can be asked."""

    def check(self) -> None:
        """Raises SinkError when the device is not what it was opened as."""
        ...


class Slots:
    """When to hand a picture over: once in each slot of one period, on a grid of added deadlines.

    A slot reaches from half a period before its deadline to half a period after it. A new picture goes out at once in a
    slot that has none yet; at the end of an empty slot the last picture is shown again. Pictures that come at the same
    rate with some jitter therefore pass without waiting, in the middle of their slots.
    """

    def __init__(self, period_ns: int) -> None:
        self.period_ns = period_ns
        self._deadline_ns: int | None = None
        self.skipped = 0
        """Slots that passed while the device held us."""

    def decide(self, now: int, *, fresh: bool) -> tuple[Literal["send", "repeat", "wait"], int]:
        """What to do at ``now`` with or without a new picture; for "wait", how many nanoseconds at most."""
        half = self.period_ns // 2
        if self._deadline_ns is None:  # nothing was shown yet
            if not fresh:
                return "wait", self.period_ns
            self._deadline_ns = now + self.period_ns
            return "send", 0
        missed = (now - self._deadline_ns - half) // self.period_ns
        if missed > 0:
            self.skipped += missed
            self._deadline_ns += missed * self.period_ns
        opens, closes = self._deadline_ns - half, self._deadline_ns + half
        if fresh and now >= opens:
            most = self.period_ns // _MOST_PULL
            pull = max(-most, min(most, (now - self._deadline_ns) // _PULL))
            self._deadline_ns += self.period_ns + pull
            return "send", 0
        if not fresh and now >= closes:
            self._deadline_ns += self.period_ns
            return "repeat", 0
        return "wait", (opens if fresh else closes) - now


class SteadySink:
    """Wraps a sink; ``send`` copies the picture and returns. The wrapped one lives in one thread from open to close.

    A failure there is raised by the next ``send``.
    """

    def __init__(self, inner: Sink, clock: Clock = now_ns) -> None:
        self.name = inner.name
        self.report = inner.report
        self.sent = 0
        """Pictures handed to the device once."""
        self.repeated = 0
        """Shown again, because no new one came."""
        self.left_out = 0
        """Replaced by newer ones before the device took them."""
        self._inner, self._clock = inner, clock
        self._changed = threading.Condition()
        self._waiting: tuple[U8, Frame] | None = None
        self._spare: list[U8] = []
        self._error: PersonacamError | None = None
        self._stop = False
        self._opened = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self, size: tuple[int, int], fps: float) -> None:
        """Open the device in its thread and wait for it. Raises what the device raises."""
        self.close()
        self._stop, self._error, self._waiting = False, None, None
        self._spare = [np.zeros((size[1], size[0], 3), np.uint8) for _ in range(3)]
        self._opened.clear()
        self._thread = threading.Thread(target=self._run, args=(size, fps), name=f"{self.name} output", daemon=True)
        self._thread.start()
        self._opened.wait()
        error = self._failure()
        if error is not None:
            self._thread.join()
            self._thread = None
            raise error
        self.report = self._inner.report

    def send(self, pixels: U8, frame: Frame) -> None:
        """Leave a copy for the thread, in place of one that it has not taken; some 0.3 ms at 1280x720.

        Raises SinkError.
        """
        if self._thread is None:
            raise SinkError(f"{self.name} is not open", hint="call open first")
        with self._changed:
            if self._error is not None:
                raise self._error
            if self._waiting is not None:
                self._spare.append(self._waiting[0])
                self._waiting = None
                self.left_out += 1
            picture = self._spare.pop()
        if pixels.shape != picture.shape:
            with self._changed:
                self._spare.append(picture)
            raise SinkError(
                f"a picture of shape {pixels.shape} for an output of shape {picture.shape}",
                hint="open the output in the size of the pictures",
            )
        np.copyto(picture, pixels)
        with self._changed:
            self._waiting = (picture, frame)
            self._changed.notify()

    def close(self) -> None:
        """End the thread and the device. Raises SinkError when the device does not let go of its last picture."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._changed:
            self._stop = True
            self._changed.notify()
        thread.join(_CLOSE_S)
        if thread.is_alive():
            raise SinkError(
                f"{self.name} does not take pictures any more, and cannot be closed",
                hint="close the programs that show it; it is released when personacam ends",
            )
        self.report = f"{self._inner.report}; {self.sent} pictures, {self.repeated} repeated, {self.left_out} left out"
        if self._error is not None:
            raise self._error

    def _run(self, size: tuple[int, int], fps: float) -> None:
        try:
            self._inner.open(size, fps)
            self._opened.set()
            self._pump(Slots(round(1e9 / fps)), every=max(1, round(fps)))
        except PersonacamError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a thread that just dies would leave a picture standing for ever
            failure = SinkError(f"{self.name} failed: {error}", hint="start again; report it if it repeats")
            failure.__cause__ = error
            self._fail(failure)
        finally:
            try:
                self._inner.close()
            except PersonacamError as error:
                self._fail(error)
            self._opened.set()

    def _failure(self) -> PersonacamError | None:
        with self._changed:
            return self._error

    def _fail(self, error: PersonacamError) -> None:
        with self._changed:
            self._error = self._error or error

    def _pump(self, slots: Slots, every: int) -> None:
        """Hand pictures over until the end, and ask the device how it is after ``every`` so many.

        The last picture, which may be the failure policy's, always goes out.
        """
        last: tuple[U8, Frame] | None = None
        while True:
            with self._changed:
                ending, fresh = self._stop, self._waiting is not None
                if ending and not fresh:
                    return
                what, wait_ns = ("send", 0) if ending else slots.decide(self._clock(), fresh=fresh)
                if what == "wait":
                    self._changed.wait(wait_ns / 1e9)
                    continue
                if what == "send":
                    if last is not None:
                        self._spare.append(last[0])
                    last, self._waiting = self._waiting, None
            if last is None:
                continue
            if what == "send":
                self._inner.send(*last)
                self.sent += 1
            else:
                self._again(last)
                self.repeated += 1
            if (self.sent + self.repeated) % every == 0 and isinstance(self._inner, Checks):
                self._inner.check()

    def _again(self, last: tuple[U8, Frame]) -> None:
        if isinstance(self._inner, Repeats):
            self._inner.repeat()
        else:
            self._inner.send(*last)
