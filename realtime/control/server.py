"""The control page's server, in the companion process: static files, previews of personas, one WebSocket.

    GET  /TOKEN/                 the page; also page.css, page.js
    GET  /TOKEN/persona/NAME     a persona's picture
    GET  /TOKEN/live             WebSocket. From the page: commands as JSON text, and one of LOOKS for the next preview.
                                 To the page: {"hello": …} once, {"state": …} often, {"error": …}; previews as bytes:
                                 the view (1), covered (1), the frame's index (4, big-endian), a JPEG picture

Everything else is "not found", and without the token everything is. See ``guard.py`` for who may talk to it.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, NamedTuple

import cv2
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from realtime.control import guard
from realtime.control.cards import Card
from realtime.control.ring import VIEWS, Preview, PreviewReader, View, halved
from realtime.control.state import MAX_COMMAND_BYTES, Command, parse_command

JPEG_QUALITY = 80
LOOK_S = 0.012
"""How often a viewer whose picture is due looks into the shared memory."""
LOOK_FOR_S = 1.0
PAGE_FILES = {"": "index.html", "page.css": "page.css", "page.js": "page.js", "icon.svg": "icon.svg"}
CONTENT_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


class Look(NamedTuple):
    """What a page wants to see next."""

    view: View
    small: bool
    """In a narrow dock a picture of half the size is as sharp, and costs the browser a third."""


LOOKS = {f"{view}{' small' if small else ''}": Look(view, small) for view in VIEWS for small in (False, True)}


@dataclass
class _Viewer:
    """One open page."""

    socket: web.WebSocketResponse
    rate: guard.Bucket = field(default_factory=lambda: guard.Bucket(guard.MESSAGES_PER_S, guard.MESSAGES_AT_ONCE))
    malformed: int = 0
    wants: Look | None = None


class PageServer:
    """Serves the page on 127.0.0.1. Everything runs in one asyncio loop."""

    def __init__(
        self,
        token: str,
        *,
        knobs: Mapping[str, Any],
        previews: PreviewReader | None,
        command: Callable[[Command], None],
    ) -> None:
        """``knobs``: limits of each, for the page. ``command`` is called with what pages ask for, checked."""
        self.port = 0
        self._token, self._knobs = token, dict(knobs)
        self._cards: dict[str, Card] = {}
        self._previews, self._command = previews, command
        self._viewers: list[_Viewer] = []
        self._state: str | None = None
        self._asked = asyncio.Event()
        self._requests = guard.Bucket(guard.REQUESTS_PER_S, guard.REQUESTS_AT_ONCE)
        self._runner: web.AppRunner | None = None
        self._looking: asyncio.Task[None] | None = None
        folder = resources.files("realtime.control") / "page"
        self._files = {path: (folder / name).read_bytes() for path, name in PAGE_FILES.items()}

    @property
    def address(self) -> str:
        """Of the page, with the token in it."""
        return f"http://127.0.0.1:{self.port}/{self._token}/"

    async def start(self, port: int) -> None:
        """Listen; on a free port when ``port`` is busy. Raises OSError when none is to be had."""
        app = web.Application(client_max_size=4096)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        sock = _listening(port)
        self.port = sock.getsockname()[1]
        await web.SockSite(self._runner, sock).start()
        self._looking = asyncio.create_task(self._serve_previews())

    async def stop(self) -> None:
        """Close every connection."""
        if self._looking is not None:
            self._looking.cancel()
        for viewer in list(self._viewers):
            await viewer.socket.close(code=WSCloseCode.GOING_AWAY, message=b"the run is over")
        if self._runner is not None:
            await self._runner.cleanup()

    async def show_gallery(self, cards: Sequence[Card]) -> None:
        """Show every page these personas."""
        self._cards = {card.name: card for card in cards}
        for viewer in list(self._viewers):
            await self._send(viewer, self._hello())

    def _hello(self) -> str:
        cards = [card.as_dict() for card in self._cards.values()]
        return json.dumps({"hello": {"gallery": cards, "knobs": self._knobs}})

    async def tell(self, state: str) -> None:
        """Show every page this state (JSON of a ``LiveState``)."""
        self._state = state
        for viewer in list(self._viewers):
            await self._send(viewer, f'{{"state": {state}}}')

    # ---- requests ----------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
        answer = self._refused(request, upgrade=upgrade)
        if answer is None:
            path = request.path.removeprefix(f"/{self._token}/")
            if path == "live" and upgrade:
                return await self._live(request)
            answer = self._file(path)
        answer.headers.update(guard.security_headers(self.port))
        return answer

    def _refused(self, request: web.Request, *, upgrade: bool) -> web.Response | None:
        if not self._requests.take():
            return web.Response(status=429)
        if guard.refusal(request.headers, self.port, upgrade=upgrade) is not None:
            return web.Response(status=403)
        # The path as it was sent: nothing is decoded before the token was compared.
        given, _, _ = request.raw_path.removeprefix("/").partition("/")
        if not guard.same_token(given, self._token):
            return web.Response(status=404)
        if request.method not in {"GET", "HEAD"}:
            return web.Response(status=405)
        return None

    def _file(self, path: str) -> web.Response:
        if path in PAGE_FILES:
            kind = CONTENT_TYPES[PAGE_FILES[path].rpartition(".")[2]]
            return web.Response(body=self._files[path], content_type=kind, charset="utf-8")
        card = self._cards.get(path.removeprefix("persona/")) if path.startswith("persona/") else None
        if card is not None and card.picture is not None:
            return web.Response(body=card.picture, content_type="image/webp")
        return web.Response(status=404)

    async def _live(self, request: web.Request) -> web.StreamResponse:
        if len(self._viewers) >= guard.MAX_VIEWERS:
            return web.Response(status=503, headers=guard.security_headers(self.port))
        sock = web.WebSocketResponse(max_msg_size=MAX_COMMAND_BYTES, heartbeat=20.0, compress=False)
        await sock.prepare(request)
        viewer = _Viewer(sock)
        self._viewers.append(viewer)
        try:
            await self._send(viewer, self._hello())
            if self._state is not None:
                await self._send(viewer, f'{{"state": {self._state}}}')
            async for message in sock:
                if not await self._heard(viewer, message):
                    break
        finally:
            self._viewers.remove(viewer)
        return sock

    async def _heard(self, viewer: _Viewer, message: WSMessage) -> bool:
        """One message of a page. Returns whether to go on with it."""
        if not viewer.rate.take():
            await viewer.socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"too many messages")
            return False
        if message.type is WSMsgType.TEXT and message.data in LOOKS:
            viewer.wants = LOOKS[message.data]
            self._asked.set()
            return True
        try:
            if message.type is not WSMsgType.TEXT:
                raise ValueError("a message must be text")
            self._command(parse_command(message.data))
        except ValueError as error:
            viewer.malformed += 1
            await self._send(viewer, json.dumps({"error": str(error)[:200]}))
            if viewer.malformed >= guard.MAX_MALFORMED:
                await viewer.socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"messages that make no sense")
                return False
        return True

    async def _send(self, viewer: _Viewer, data: str | bytes) -> None:
        """To a page, if it still listens."""
        try:
            if isinstance(data, str):
                await viewer.socket.send_str(data)
            else:
                await viewer.socket.send_bytes(data)
        except (ConnectionError, RuntimeError):  # it went away; its own loop removes it
            return

    # ---- previews ----------------------------------------------------------------------------------------------------

    async def _serve_previews(self) -> None:
        """Whoever asked gets the next picture, all the same one."""
        while True:
            await self._asked.wait()
            if self._previews is None:
                return
            # Before it is due there is nothing to look for.
            await asyncio.sleep(self._previews.due_s())
            self._asked.clear()
            self._previews.ask("split" if any(v.wants and v.wants.view == "split" for v in self._viewers) else "after")
            picture = await self._next_picture(self._previews)
            if picture is None:  # no frame came: it is still wanted
                self._asked.set()
                continue
            made: dict[Look, bytes] = {}
            for viewer in list(self._viewers):
                wants, viewer.wants = viewer.wants, None
                if wants is None:
                    continue
                if wants.view == "split" and picture.before is None:  # asked for after this one was begun
                    viewer.wants = wants
                    self._asked.set()
                    continue
                if wants not in made:
                    made[wants] = encoded(picture, wants)
                await self._send(viewer, made[wants])

    async def _next_picture(self, previews: PreviewReader) -> Preview | None:
        for _ in range(int(LOOK_FOR_S / LOOK_S)):
            picture = previews.newest()
            if picture is not None:
                return picture
            await asyncio.sleep(LOOK_S)
        return None


def encoded(picture: Preview, look: Look) -> bytes:
    """A preview as the page gets it. Under "split" the wearer's picture lies to the left of the outgoing one."""
    both = [picture.after] if look.view == "after" or picture.before is None else [picture.before, picture.after]
    if look.small:
        both = [halved(pixels) for pixels in both]
    done, jpeg = cv2.imencode(".jpg", cv2.hconcat(both), (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    if not done:
        raise RuntimeError("OpenCV cannot write JPEG pictures")
    head = struct.pack(">BBI", VIEWS.index(look.view), picture.covered, picture.index & 0xFFFFFFFF)
    return head + jpeg.tobytes()


def _listening(port: int) -> socket.socket:
    """A socket on 127.0.0.1:port, or on a free port when that one is taken."""
    for wanted in dict.fromkeys((port, 0)):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if os.name == "posix":  # on Windows it would let two servers listen at once
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", wanted))
            sock.listen(32)
        except OSError:
            sock.close()
            if wanted == 0:
                raise
            continue
        return sock
    raise OSError("no port")
