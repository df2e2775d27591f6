"""The table, and the lines where there is no terminal."""

from __future__ import annotations

import io

from rich.console import Console

from realtime.control.state import Counted, LiveState, Question, RecordingNow, Timing, WornNow
from realtime.control.terminal import PLAIN_EVERY_S, PlainLines, TableView, line_of, picture_of

STATE = LiveState(
    fps=29.9,
    latency=Timing(stage="total", p50=21.4, p99=34.6),
    stages=(Timing(stage="detect", p50=4.0, p99=6.0), Timing(stage="swap", p50=8.0, p99=12.0)),
    frames=Counted(sent=300, swapped=290, covered=10, dropped=7),
    persona=WornNow(name="vera", title="Vera", kind="invented", tier="tiny", runtime="openvino", precision="int8"),
    log=((1, "one [bold]"), (2, "two")),
)


def drawn(state: LiveState, width: int = 90) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(picture_of(state, "http://127.0.0.1:8747/token/"))
    return console.file.getvalue()


def test_the_table_says_what_matters():
    text = drawn(STATE)
    for part in ("29.9", "21 ms", "35 ms", "vera (tiny)", "veil", "detect", "swapped", "8747", "v veil"):
        assert part in text
    assert text.count("█") > 10


def test_what_the_wearer_must_know_stands_there():
    state = STATE.model_copy(
        update={
            "phase": "veiled", "warnings": ("No face is seen.",), "confirm": Question(number=1, text="Really?"),
            "recording": RecordingNow(available=True, phase="recording", seconds=75.0), "error": "the disk is full",
        }
    )  # fmt: skip
    text = drawn(state)
    for part in ("VEILED", "No face is seen.", "Really?", "recording 1:15", "the disk is full"):
        assert part in text


def test_every_line_is_said_once_above_the_table():
    console = Console(file=io.StringIO(), width=90, force_terminal=True)
    view = TableView(None, 1, console)
    view.show(STATE)
    view.show(STATE.model_copy(update={"log": (*STATE.log, (3, "three"))}))
    view.close()
    text = console.file.getvalue()
    assert "one [bold]" not in text  # was in the terminal already
    assert text.count("two") == text.count("three") == 1


def test_plain_lines_come_every_ten_seconds():
    now, said = [0], []
    plain = PlainLines(lambda: line_of(STATE), said.append, clock=lambda: now[0])
    for second in range(35):
        now[0] = int(second * 1e9)
        plain.after(None)
    assert len(said) == 35 // PLAIN_EVERY_S
    assert "29.9 frames a second" in said[0]
    assert "7 dropped" in said[0]
