"""What keys mean."""

from __future__ import annotations

import os
import sys
import threading
import types

import pytest

from realtime.control import hotkeys
from realtime.control.hotkeys import EVERYWHERE, TERMINAL, Situation, command_for, listen_everywhere, unavailable
from realtime.control.state import ChoosePolicy, Confirm, End, Question, Record, Veil, WearPersona


def test_keys_turn_over_what_is():
    assert command_for("veil", Situation()) == Veil(do="veil", on=True)
    assert command_for("veil", Situation(veiled=True)) == Veil(do="veil", on=False)
    assert command_for("record", Situation(recording=True)) == Record(do="record", on=False)
    assert command_for("next", Situation()) == WearPersona(do="persona")
    assert command_for("end", Situation()) == End(do="end")


def test_the_own_face_takes_two_different_keys():
    assert command_for("passthrough", Situation()) == ChoosePolicy(do="policy", policy="passthrough")
    assert command_for("yes", Situation()) is None
    asked = Situation(question=Question(number=3, text="?"))
    assert command_for("yes", asked) == Confirm(do="confirm", number=3)
    assert command_for("passthrough", asked) == ChoosePolicy(do="policy", policy="passthrough")  # asks again, no more
    assert command_for(None, asked) == Confirm(do="confirm", number=3, yes=False)
    assert command_for(None, Situation()) is None
    assert "passthrough" in EVERYWHERE.values()
    assert TERMINAL["p"] != TERMINAL["y"]


@pytest.mark.parametrize(
    ("platform", "environment", "there"),
    [
        ("linux", {}, False), ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-0"}, False),
        ("linux", {"DISPLAY": ":0", "XDG_SESSION_TYPE": "wayland"}, False),
        ("win32", {}, True), ("darwin", {}, True),
    ],
)  # fmt: skip
def test_where_there_can_be_global_keys(platform, environment, there):
    assert (unavailable(platform, environment) is None) == there


def test_global_keys_submit_what_they_mean(monkeypatch):
    registered, submitted = {}, []

    class GlobalHotKeys:
        def __init__(self, keys):
            registered.update(keys)

        def start(self):
            pass

    fake = types.ModuleType("pynput")
    fake.keyboard = types.SimpleNamespace(GlobalHotKeys=GlobalHotKeys)
    monkeypatch.setitem(sys.modules, "pynput", fake)
    monkeypatch.setattr(hotkeys.importlib.util, "find_spec", lambda name: fake)
    monkeypatch.setattr(hotkeys, "unavailable", lambda: None)
    assert "Ctrl+Alt" in listen_everywhere(submitted.append, Situation)
    registered["<ctrl>+<alt>+v"]()
    registered["<ctrl>+<alt>+y"]()  # no question: nothing
    assert submitted == [Veil(do="veil", on=True)]
    assert set(registered) == set(EVERYWHERE)


def test_without_the_extra_nothing_is_said(monkeypatch):
    monkeypatch.setattr(hotkeys.importlib.util, "find_spec", lambda name: None)
    assert listen_everywhere(print, Situation) is None


@pytest.mark.skipif(os.name != "posix", reason="pseudo terminals are POSIX")
def test_keys_of_a_terminal_and_its_state_afterwards(monkeypatch):
    import termios

    ours, theirs = os.openpty()
    with os.fdopen(theirs, "r", closefd=False) as standard_input:
        monkeypatch.setattr(sys, "stdin", standard_input)
        before = termios.tcgetattr(theirs)
        submitted, came = [], threading.Event()

        def submit(command):
            submitted.append(command)
            came.set()

        with hotkeys.terminal_keys(submit, Situation) as there:
            assert there
            assert termios.tcgetattr(theirs) != before
            os.write(ours, b"?V")
            assert came.wait(10)
        assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
    assert submitted == [Veil(do="veil", on=True)]


def test_standard_input_that_is_no_terminal_has_no_keys(monkeypatch, tmp_path):
    with (tmp_path / "in").open("w+") as file:
        monkeypatch.setattr(sys, "stdin", file)
        with hotkeys.terminal_keys(print, Situation) as there:
            assert not there
