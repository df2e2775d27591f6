"""The box between threads: newest wins, lossless hand-over, and the end with or without an error."""

from __future__ import annotations

import threading

import pytest

from engines.errors import SourceLostError
from realtime.latest import Closed, Latest


def test_the_newest_item_wins_and_losers_are_counted() -> None:
    box: Latest[int] = Latest()
    for number in range(5):
        box.put(number)
    assert box.get(0.0) == 4
    assert box.dropped == 4
    assert box.get(0.0) is None


def test_put_wait_refuses_a_full_slot_and_keeps_what_is_in_it() -> None:
    box: Latest[int] = Latest()
    assert box.put_wait(1, 0.0)
    assert not box.put_wait(2, 0.0)
    assert box.get(0.0) == 1
    assert box.put_wait(2, 0.0)
    assert box.dropped == 0


def test_an_item_left_in_the_slot_survives_the_end() -> None:
    box: Latest[int] = Latest()
    box.put(7)
    box.close()
    box.put(8)  # too late
    assert not box.put_wait(9, 0.0)
    assert box.get(0.0) == 7
    for _ in range(2):
        with pytest.raises(Closed):
            box.get(0.0)


def test_the_first_error_reaches_the_consumer_after_the_last_item() -> None:
    box: Latest[int] = Latest()
    box.put(1)
    box.close(SourceLostError("gone", hint="plug it in"))
    box.close()
    assert box.get(0.0) == 1
    with pytest.raises(SourceLostError, match="gone"):
        box.get(0.0)


def test_a_waiting_consumer_is_woken_by_close() -> None:
    box: Latest[int] = Latest()
    outcome: list[str] = []

    def consume() -> None:
        try:
            box.get(30.0)
        except Closed:
            outcome.append("closed")

    thread = threading.Thread(target=consume)
    thread.start()
    box.close()
    thread.join(5.0)
    assert outcome == ["closed"]


def test_lossless_hand_over_between_threads_keeps_every_item_in_order() -> None:
    box: Latest[int] = Latest()

    def produce() -> None:
        for number in range(2000):
            assert box.put_wait(number, 10.0)
        box.close()

    thread = threading.Thread(target=produce)
    thread.start()
    got: list[int] = []
    try:
        while True:
            item = box.get(10.0)
            assert item is not None
            got.append(item)
    except Closed:
        pass
    thread.join(5.0)
    assert got == list(range(2000))
    assert box.dropped == 0


def test_newest_wins_between_threads_loses_nothing_uncounted() -> None:
    box: Latest[int] = Latest()
    total = 5000

    def produce() -> None:
        for number in range(total):
            box.put(number)
        box.close()

    thread = threading.Thread(target=produce)
    thread.start()
    got: list[int] = []
    try:
        while True:
            item = box.get(10.0)
            assert item is not None
            got.append(item)
    except Closed:
        pass
    thread.join(5.0)
    assert got == sorted(set(got)), "never an older item after a newer one"
    assert got[-1] == total - 1
    assert len(got) + box.dropped == total
