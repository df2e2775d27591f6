"""The process beside the live one: serves the page, draws the terminal's table, listens to global hotkeys.

    python -m realtime.control.companion      started by ``bridge.py``, never by hand

Lines of JSON come in on standard input (a ``Hello``, then ``LiveState``s) and go out on standard output (``Command``s
and ``Event``s). It ends when its input does, so it never outlives the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from engines.errors import MissingDependencyError, PersonacamError
from realtime.control.state import MAX_LINE_BYTES, Command, Event, Hello, LiveState

if TYPE_CHECKING:
    from realtime.control.cards import Card
    from realtime.control.server import PageServer

_OUT = threading.Lock()
Say = Callable[[Command | Event], None]


def main() -> None:
    """Serve until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the live process, which then closes this one's input
    if hasattr(os, "nice"):  # not on Windows, where whoever starts this says so
        os.nice(5)
    source, out = sys.stdin.buffer, sys.stdout
    sys.stdout = sys.stderr  # what any library prints must not look like a command
    hello = Hello.model_validate_json(source.readline(MAX_LINE_BYTES))

    def say(message: Command | Event) -> None:
        _write(out, message.model_dump_json())

    try:
        asyncio.run(_serve(hello, say))
    except PersonacamError as error:
        say(Event(event="failed", text=str(error)))
    except OSError as error:
        say(Event(event="failed", text=f"the control page cannot be served: {error}"))


def _write(out: TextIO, line: str) -> None:
    """From any thread; whoever read it may be gone."""
    with _OUT:
        try:
            out.write(line + "\n")
            out.flush()
        except (OSError, ValueError):
            return


class _Lines:
    """Standard input, read in a thread of its own, because a pipe cannot be waited for on Windows."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._ended = False
        threading.Thread(target=self._read, name="input", daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                line = sys.stdin.buffer.readline(MAX_LINE_BYTES)
            except (OSError, ValueError):
                line = b""
            try:
                self._loop.call_soon_threadsafe(self._queue.put_nowait, line or None)
            except RuntimeError:  # the loop has ended
                return
            if not line:
                return

    async def next(self) -> bytes | None:
        """The newest line that came; None: the live process has ended."""
        if self._ended:
            return None
        line = await self._queue.get()
        while line is not None and not self._queue.empty():
            following = self._queue.get_nowait()
            if following is None:  # the last state is told first
                self._ended = True
                break
            line = following
        return line


async def _serve(hello: Hello, say: Say) -> None:
    lines = _Lines(asyncio.get_running_loop())
    server = await _page(hello, say) if hello.page else None
    showing = None if server is None else asyncio.create_task(_show_gallery(server, hello.gallery))
    state = LiveState()
    if hello.hotkeys:
        from realtime.control.hotkeys import Situation, listen_everywhere

        def now() -> Situation:
            return Situation(state.phase == "veiled", state.recording.phase == "recording", state.confirm)

        told = listen_everywhere(say, now)
        if told is not None:
            say(Event(event="note", text=told))
    table = None
    if hello.terminal:
        from realtime.control.terminal import TableView

        table = TableView(server.address if server else None, hello.said)
    try:
        while (line := await lines.next()) is not None:
            state = LiveState.model_validate_json(line)
            if server is not None:
                await server.tell(line.decode().strip())
            if table is not None:
                table.show(state)
    finally:
        if table is not None:
            table.close()
        if showing is not None:
            showing.cancel()
        if server is not None:
            await server.stop()


async def _page(hello: Hello, say: Say) -> PageServer:
    try:
        from realtime.control.ring import PreviewReader
        from realtime.control.server import PageServer
    except ImportError as error:
        raise MissingDependencyError(f"the control page needs {error.name}", hint="pip install aiohttp") from error
    server = PageServer(
        hello.token,
        knobs={name: limits.model_dump() for name, limits in hello.knobs.items()},
        previews=None if hello.memory is None else PreviewReader(hello.memory),
        command=say,
    )
    await server.start(hello.port)
    if hello.port not in {0, server.port}:
        say(Event(event="note", text=f"port {hello.port} is taken, so the control page has another one"))
    say(Event(event="ready", text=server.address))
    return server


async def _show_gallery(server: PageServer, paths: Sequence[str]) -> None:
    """Reading and checking the files takes seconds, in which the page shows all the rest already."""
    await server.show_gallery(await asyncio.to_thread(gallery, paths))


def gallery(paths: Sequence[str]) -> list[Card]:
    """What the page shows of persona files; damaged ones are left out."""
    from realtime.control.cards import card_of

    cards: dict[str, Card] = {}
    for path in paths:
        with contextlib.suppress(PersonacamError):
            card = card_of(Path(path))
            cards.setdefault(card.name, card)
    return list(cards.values())


if __name__ == "__main__":
    main()
