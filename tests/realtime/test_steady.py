"""The rate of an output: slots on a grid, pictures repeated or left out, and a device that blocks or fails."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from engines.errors import SinkError, SinkUnavailableError
from engines.types import U8, Frame
from realtime.steady import Slots, SteadySink
from tests.realtime.footage import frame

MS = 1_000_000
PERIOD = 33_333_333


def play(arrivals_ns: list[int], until_ns: int) -> list[tuple[str, int]]:
    """What a thread does that always wakes in time: (send or repeat, when)."""
    slots, now, done = Slots(PERIOD), 0, []
    pending = list(arrivals_ns)
    fresh = False
    while now < until_ns:
        while pending and pending[0] <= now:
            pending.pop(0)
            fresh = True
        what, wait = slots.decide(now, fresh=fresh)
        if what == "wait":
            assert wait > 0
            now = min(now + wait, pending[0] if pending else until_ns)
            continue
        done.append((what, now))
        fresh = fresh and what != "send"
    return done


def test_pictures_at_the_outputs_own_rate_pass_at_once() -> None:
    rng = np.random.default_rng(0)
    arrivals = [round(n * PERIOD + 20 * MS + rng.uniform(-4, 4) * MS) for n in range(300)]
    done = play(arrivals, 300 * PERIOD)
    assert [when for _, when in done] == arrivals[: len(done)], "nobody waits, in spite of jitter"
    assert {what for what, _ in done} == {"send"}


@pytest.mark.parametrize("rate", [29.7, 30.3])
def test_a_source_that_drifts_is_followed(rate: float) -> None:
    arrivals = [round(n * 1e9 / rate) for n in range(1000)]
    done = play(arrivals, arrivals[-1])
    assert sum(what == "repeat" for what, _ in done) == 0
    assert len(done) >= 998


@pytest.mark.parametrize("rate", [5.0, 15.0, 24.0, 60.0, 0.0])
def test_the_rate_is_kept_whatever_the_source_does(rate: float) -> None:
    arrivals = [round(n * 1e9 / rate) for n in range(round(20 * rate))] if rate else [0]
    done = play(arrivals, 20_000 * MS)
    assert len(done) == pytest.approx(600, rel=0.015)
    gaps = np.diff([when for _, when in done])
    assert gaps.max() <= 2.1 * PERIOD
    sent = sum(what == "send" for what, _ in done)
    assert sent == pytest.approx(min(max(20 * rate, 1), 600), rel=0.015)


def test_nothing_is_shown_before_the_first_picture_and_no_burst_after_a_halt() -> None:
    slots = Slots(PERIOD)
    assert slots.decide(0, fresh=False) == ("wait", PERIOD)
    assert slots.decide(0, fresh=True)[0] == "send"
    assert slots.decide(100 * PERIOD, fresh=False)[0] == "repeat"
    assert slots.skipped == 98
    assert slots.decide(100 * PERIOD + 1, fresh=False)[0] == "wait"


class Device:
    """Keeps what it is given; may block or fail."""

    name, report = "device", "a device"

    def __init__(self) -> None:
        self.got: list[int] = []
        self.changed = threading.Condition()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.threads: set[int] = set()
        self.closed = 0
        self.failure: Exception | None = None

    def open(self, size: tuple[int, int], fps: float) -> None:
        self.threads.add(threading.get_ident())
        if size == (1, 1):
            raise SinkUnavailableError("no device", hint="load it")

    def send(self, pixels: U8, _frame: Frame) -> None:
        self.threads.add(threading.get_ident())
        self.entered.set()
        assert self.gate.wait(10.0)
        if self.failure is not None:
            raise self.failure
        with self.changed:
            self.got.append(int(pixels[0, 0, 0]))
            self.changed.notify_all()

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed += 1

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.got) >= count, 10.0)


def picture(value: int) -> U8:
    return np.full((4, 6, 3), value, np.uint8)


def test_pictures_are_copied_repeated_and_handed_over_in_one_thread() -> None:
    device = Device()
    sink = SteadySink(device)
    sink.open((6, 4), 200.0)
    pixels = picture(7)
    sink.send(pixels, frame(0, 0))
    pixels[:] = 99  # the caller's again
    device.wait_for(4)
    sink.send(picture(8), frame(1, 1))
    with device.changed:
        assert device.changed.wait_for(lambda: 8 in device.got, 10.0)
    sink.close()
    sink.close()
    assert set(device.got) == {7, 8}
    assert device.got == sorted(device.got)
    assert sink.sent == 2
    assert sink.repeated >= 3
    assert "repeated" in sink.report
    assert device.closed == 1
    assert len(device.threads) == 1
    assert threading.get_ident() not in device.threads


def test_a_device_that_blocks_does_not_hold_the_sender() -> None:
    device = Device()
    device.gate.clear()
    sink = SteadySink(device)
    sink.open((6, 4), 30.0)
    for value in range(100):
        sink.send(picture(value), frame(value, value))
    assert sink.left_out >= 98
    device.gate.set()
    with device.changed:
        assert device.changed.wait_for(lambda: 99 in device.got, 10.0), "the newest comes when it takes pictures again"
    sink.close()


def test_the_last_picture_goes_out_before_the_end() -> None:
    device = Device()
    sink = SteadySink(device)
    sink.open((6, 4), 1.0)
    sink.send(picture(1), frame(0, 0))
    device.wait_for(1)
    sink.send(picture(2), frame(1, 1))  # its slot opens in half a second
    sink.close()
    assert device.got == [1, 2]


def test_a_device_that_never_returns_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.steady._CLOSE_S", 0.05)
    device = Device()
    device.gate.clear()
    sink = SteadySink(device)
    sink.open((6, 4), 1000.0)
    sink.send(picture(1), frame(0, 0))
    assert device.entered.wait(10.0)
    with pytest.raises(SinkError, match="does not take pictures any more"):
        sink.close()
    device.gate.set()


@pytest.mark.parametrize("failure", [SinkError("the driver is gone", hint="load it"), ValueError("the driver is gone")])
def test_a_failure_reaches_the_sender(failure: Exception) -> None:
    device = Device()
    device.failure = failure
    sink = SteadySink(device)
    sink.open((6, 4), 100.0)
    sink.send(picture(1), frame(0, 0))
    sink._thread.join(10.0)  # type: ignore[union-attr]
    with pytest.raises(SinkError, match="the driver is gone"):
        sink.send(picture(2), frame(1, 1))
    with pytest.raises(SinkError, match="the driver is gone"):
        sink.close()
    assert device.closed == 1
    sink.close()


def test_what_open_raises_and_what_send_refuses() -> None:
    sink = SteadySink(Device())
    with pytest.raises(SinkError, match="not open"):
        sink.send(picture(1), frame(0, 0))
    with pytest.raises(SinkUnavailableError, match="no device"):
        sink.open((1, 1), 30.0)
    sink.close()
    sink.open((6, 4), 30.0)
    with pytest.raises(SinkError, match="shape"):
        sink.send(np.zeros((5, 6, 3), np.uint8), frame(0, 0))
    for value in range(10):
        sink.send(picture(value), frame(value, value))
    sink.close()


def test_a_device_that_fails_silently_is_asked_and_can_repeat_cheaply() -> None:
    class Silent(Device):
        def __init__(self) -> None:
            super().__init__()
            self.repeats = 0

        def repeat(self) -> None:
            self.repeats += 1

        def check(self) -> None:
            if self.repeats >= 3:
                raise SinkError("it stays at 640x480", hint="close the programs")

    device = Silent()
    sink = SteadySink(device)
    sink.open((6, 4), 50.0)
    sink.send(picture(1), frame(0, 0))
    sink._thread.join(10.0)  # type: ignore[union-attr]
    with pytest.raises(SinkError, match="stays at 640x480"):
        sink.send(picture(2), frame(1, 1))
    assert device.got == [1]
    with pytest.raises(SinkError):
        sink.close()
