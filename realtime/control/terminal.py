"""The run in a terminal: one calm table, drawn by the companion; lines now and then where there is no terminal."""

from __future__ import annotations

from collections.abc import Callable

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from engines.types import Frame
from realtime.control.state import LiveState, Timing
from realtime.pacing import Clock, now_ns

PLAIN_EVERY_S = 10.0
BAR = 24
"""Characters of the longest stage's bar."""
KEYS = "v veil   n next persona   p own face   r record   q end"
COLUMNS = {"frames/s": 8, "latency p50": 11, "p99": 8, "dropped": 7, "persona": 22, "without a swap": 14}
"""With their widths, so that nothing jumps."""


class TableView:
    """Draws states on standard error; lines of the log go above the table."""

    def __init__(self, address: str | None, said: int = 0, console: Console | None = None) -> None:
        """``said``: so many lines of the log are in the terminal already."""
        self._console = Console(stderr=True) if console is None else console
        self._address, self._said = address, said
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()

    def show(self, state: LiveState) -> None:
        """Instead of the one before."""
        for number, line in state.log:
            if number > self._said:
                self._said = number
                self._console.print(escape(line), highlight=False, soft_wrap=True)
        self._live.update(picture_of(state, self._address), refresh=True)

    def close(self) -> None:
        """Take the table away; what the run says at its end follows."""
        self._live.stop()


def picture_of(state: LiveState, address: str | None) -> RenderableType:
    """Table, bars and warnings of a state."""
    facts = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, width in COLUMNS.items():
        words = name in {"persona", "without a swap"}
        facts.add_column(name, justify="left" if words else "right", no_wrap=True, width=width)
    who = "-" if state.persona is None else f"{state.persona.name} ({state.persona.tier})"
    facts.add_row(
        f"{state.fps:.1f}", f"{state.latency.p50:.0f} ms", f"{state.latency.p99:.0f} ms", str(state.frames.dropped),
        who if state.changing is None else f"{who} -> {state.changing}", state.policy,
    )  # fmt: skip
    lines: list[RenderableType] = [facts]
    most = max((stage.p99 for stage in state.stages), default=0.0)
    lines += [_bar(stage, most) for stage in state.stages]
    lines.append(Text(""))
    lines.append(_status(state))
    lines += [Text(f"! {warning}", style="yellow") for warning in state.warnings]
    if state.error is not None:
        lines.append(Text(f"! {state.error}", style="red"))
    if state.confirm is not None:
        lines.append(Text(f"? {state.confirm.text}  y yes, any other key no", style="bold yellow"))
    if address is not None:
        lines.append(Text(f"page  {address}", style="dim", no_wrap=True, overflow="fold"))
    lines.append(Text(KEYS, style="dim"))
    return Group(*lines)


def _bar(stage: Timing, most: float) -> Text:
    length = 0 if most <= 0.0 else round(BAR * stage.p50 / most)
    reach = 0 if most <= 0.0 else round(BAR * stage.p99 / most)
    text = Text(f"{stage.stage:>8}  ")
    text.append("█" * length, style="cyan")
    text.append("░" * max(reach - length, 0), style="cyan dim")
    text.append(" " * (BAR - max(reach, length)))
    text.append(f"  {stage.p50:5.1f} ms   p99 {stage.p99:5.1f}", style="dim")
    return text


def _status(state: LiveState) -> Text:
    words = {
        "running": ("● swapped", "green"),
        "veiled": ("■ VEILED by you", "bold magenta"),
        "standby": ("■ STOPPED: a still picture is sent", "bold magenta"),
        "ended": ("ended", "dim"),
    }
    word, style = words[state.phase]
    if state.phase == "running" and state.covered_now is not None:
        word, style = "○ no swap", "yellow"
    text = Text(word, style=style)
    if state.recording.phase == "recording":
        text.append(f"    ● recording {_clock(state.recording.seconds)}", style="red")
    return text


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class PlainLines:
    """Where there is no terminal: a line every ten seconds. ``after`` belongs to the thread of the frames."""

    def __init__(self, summary: Callable[[], str], say: Callable[[str], None], clock: Clock = now_ns) -> None:
        self._summary, self._say, self._clock = summary, say, clock
        self._next_ns = clock() + int(PLAIN_EVERY_S * 1e9)

    def after(self, frame: Frame) -> None:  # noqa: ARG002 - the pipeline gives it
        """After each frame."""
        now = self._clock()
        if now >= self._next_ns:
            self._next_ns = now + int(PLAIN_EVERY_S * 1e9)
            self._say(self._summary())


def line_of(state: LiveState) -> str:
    """A state in one line."""
    shown = "no swap" if state.covered_now else "swapped"
    return (
        f"{state.fps:.1f} frames a second, latency {state.latency.p50:.0f} ms (p99 {state.latency.p99:.0f}),"
        f" {state.frames.dropped} dropped, {state.frames.covered} covered; now {shown}, policy {state.policy}"
    )
