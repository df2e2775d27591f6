"""Keys that work while the stream runs: everywhere (pynput, in the companion), and in the run's own terminal.

    everywhere          terminal    does
    Ctrl+Alt+V          v           veil now, and off again
    Ctrl+Alt+N          n           next persona
    Ctrl+Alt+P          p           asks whether your own face may be shown without a swap …
    Ctrl+Alt+Y          y           … yes (anything else in the terminal: no)
    Ctrl+Alt+R          r           recording on and off
                        q           end the run

Only these combinations are listened to, and nothing else that is typed is looked at or kept. Wayland gives programs no
global keys, and without the ``hotkeys`` extra there are none either: page and terminal have the same.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from realtime.control.state import ChoosePolicy, Command, Confirm, End, Question, Record, Veil, WearPersona

Action = Literal["veil", "next", "passthrough", "yes", "record", "end"]
EVERYWHERE: Mapping[str, Action] = {
    "<ctrl>+<alt>+v": "veil",
    "<ctrl>+<alt>+n": "next",
    "<ctrl>+<alt>+p": "passthrough",
    "<ctrl>+<alt>+y": "yes",
    "<ctrl>+<alt>+r": "record",
}
TERMINAL: Mapping[str, Action] = {
    "v": "veil", "n": "next", "p": "passthrough", "y": "yes", "r": "record", "q": "end"
}  # fmt: skip
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Situation:
    """What a key's meaning depends on."""

    veiled: bool = False
    recording: bool = False
    question: Question | None = None


def command_for(action: Action | None, now: Situation) -> Command | None:
    """What a key asks for; a yes without a question is nothing. None as ``action``: any other key, which says no."""
    if action == "yes":
        return None if now.question is None else Confirm(do="confirm", number=now.question.number)
    if action is None:
        return None if now.question is None else Confirm(do="confirm", number=now.question.number, yes=False)
    commands: dict[Action, Command] = {
        "veil": Veil(do="veil", on=not now.veiled),
        "next": WearPersona(do="persona"),
        "passthrough": ChoosePolicy(do="policy", policy="passthrough"),
        "record": Record(do="record", on=not now.recording),
        "end": End(do="end"),
    }
    return commands[action]


def unavailable(platform: str = sys.platform, environment: Mapping[str, str] | None = None) -> str | None:
    """Why there can be no global keys here, or None."""
    variables = os.environ if environment is None else environment
    if platform == "linux":
        if variables.get("WAYLAND_DISPLAY") or variables.get("XDG_SESSION_TYPE") == "wayland":
            return "Wayland gives programs no global keys"
        if not variables.get("DISPLAY"):
            return "there is no display"
    return None


def listen_everywhere(submit: Callable[[Command], None], now: Callable[[], Situation]) -> str | None:
    """Begin, in threads of pynput's. Returns a line for people: which keys there are, or why there are none.

    None without the ``hotkeys`` extra: nobody asked for them.
    """
    if importlib.util.find_spec("pynput") is None:
        return None
    reason = unavailable()
    if reason is None:
        try:
            from pynput import keyboard
        except ImportError as error:  # of the back end, which is chosen when it is imported: no X server answers
            reason = str(error).strip().splitlines()[0]
    if reason is not None:
        return f"no global hotkeys ({reason}): the page and the terminal have the same keys"

    def pressed(action: Action) -> Callable[[], None]:
        def press() -> None:
            command = command_for(action, now())
            if command is not None:
                submit(command)

        return press

    keyboard.GlobalHotKeys({keys: pressed(action) for keys, action in EVERYWHERE.items()}).start()
    return "global hotkeys: Ctrl+Alt+ V veil, N next persona, R record, P and then Y your own face"


@contextmanager
def terminal_keys(submit: Callable[[Command], None], now: Callable[[], Situation]) -> Iterator[bool]:
    """Keys of the run's own terminal, without Enter. Gives whether there are any: standard input may be no terminal."""
    if not sys.stdin.isatty():
        yield False
        return
    stop = threading.Event()

    def typed(key: str) -> None:
        command = command_for(TERMINAL.get(key.lower()), now())
        if command is not None:
            submit(command)

    with _unbuffered() as read:
        thread = threading.Thread(target=_read_keys, args=(read, typed, stop), name="keys", daemon=True)
        thread.start()
        try:
            yield True
        finally:
            stop.set()
            thread.join(2 * _POLL_S)


def _read_keys(read: Callable[[], str], typed: Callable[[str], None], stop: threading.Event) -> None:
    while not stop.is_set():
        key = read()
        if key:
            typed(key)


@contextmanager
def _unbuffered() -> Iterator[Callable[[], str]]:
    """A function that waits a moment for one key; "" when none came. Ctrl-C stays what it is."""
    if sys.platform == "win32":
        import msvcrt
        import time

        def poll() -> str:
            if not msvcrt.kbhit():
                time.sleep(_POLL_S)
                return ""
            return msvcrt.getwch()

        yield poll
        return
    import select
    import termios
    import tty

    number = sys.stdin.fileno()
    before: list[Any] = termios.tcgetattr(number)
    tty.setcbreak(number)

    def wait() -> str:
        ready, _, _ = select.select([number], [], [], _POLL_S)
        return os.read(number, 1).decode(errors="replace") if ready else ""

    try:
        yield wait
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
