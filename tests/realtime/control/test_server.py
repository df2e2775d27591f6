"""The server over a real socket: what it shows with the token, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import cv2
import numpy as np
import pytest
from aiohttp import WSMsgType

from engines.errors import PersonaFormatError
from realtime.control import guard
from realtime.control.cards import card_of
from realtime.control.ring import Preview, PreviewReader, PreviewWriter
from realtime.control.server import LOOKS, PAGE_FILES, PageServer, encoded
from realtime.control.state import LiveState, Veil
from realtime.session import persona_store

TOKEN = "t" * 43


@asynccontextmanager
async def serving(previews=None):
    commands = []
    server = PageServer(TOKEN, knobs={"feather": {"low": 0, "high": 16}}, previews=previews, command=commands.append)
    await server.start(0)
    async with aiohttp.ClientSession() as client:
        yield server, client, commands
    await server.stop()


def origin(server):
    return {"Origin": f"http://127.0.0.1:{server.port}"}


def test_it_listens_on_loopback_only():
    async def check():
        async with serving() as (server, _, _):
            assert server.address.startswith("http://127.0.0.1:")
            (sock,) = server._runner.sites
            assert sock.name.startswith("http://127.0.0.1:")

    asyncio.run(check())


def test_a_taken_port_is_not_fought_for():
    async def check():
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            server = PageServer(TOKEN, knobs={}, previews=None, command=print)
            await server.start(other.getsockname()[1])
            assert server.port != other.getsockname()[1]
            await server.stop()

    asyncio.run(check())


def test_the_page_and_nothing_else():
    async def check():
        async with serving() as (server, client, _):
            await server.show_gallery([card_of(path) for path in persona_store().list()])
            for name in [*PAGE_FILES, "persona/vera"]:
                async with client.get(server.address + name) as answer:
                    assert answer.status == 200
                    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                    assert await answer.read()
            for name in ["other", "../server.py", "persona/../vera", "persona/none", "%2e%2e/guard.py", "live"]:
                async with client.get(server.address + name) as answer:
                    assert answer.status == 404
            async with client.post(server.address, data=b"x") as answer:
                assert answer.status == 405

    asyncio.run(check())


@pytest.mark.parametrize("path", ["/", "/live", f"/{TOKEN[:-1]}/", f"/{TOKEN}x/", f"//{TOKEN}/", f"/%74{TOKEN[1:]}/"])
def test_without_the_token_there_is_nothing(path):
    async def check():
        async with serving() as (server, client, _):
            from yarl import URL

            async with client.get(URL(f"http://127.0.0.1:{server.port}{path}", encoded=True)) as answer:
                assert answer.status == 404
                assert await answer.read() == b""

    asyncio.run(check())


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({}, f"/{TOKEN}/live", 403),
        ({"Origin": "http://evil.example"}, f"/{TOKEN}/live", 403),
        ({"Origin": "null"}, f"/{TOKEN}/live", 403),
        ({"Host": "evil.example"}, f"/{TOKEN}/live", 403),
        (None, f"/{'u' * 43}/live", 404),
        (None, "/live", 404),
    ],
)
def test_a_socket_that_is_refused_changes_nothing(headers, path, status):
    async def check():
        async with serving() as (server, client, commands):
            given = origin(server) if headers is None else headers
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect(f"http://127.0.0.1:{server.port}{path}", headers=given)
            assert refused.value.status == status
            assert commands == []

    asyncio.run(check())


def test_a_page_hears_states_and_is_heard():
    async def check():
        async with serving() as (server, client, commands):
            await server.tell(LiveState(fps=29.5).model_dump_json())
            async with client.ws_connect(server.address + "live", headers=origin(server)) as page:
                assert json.loads((await page.receive()).data)["hello"]["knobs"]["feather"]["high"] == 16
                assert json.loads((await page.receive()).data)["state"]["fps"] == 29.5
                await page.send_str('{"do":"veil","on":true}')
                await page.send_str('{"do":"fly"}')
                assert "error" in json.loads((await page.receive()).data)
                await page.send_bytes(b'{"do":"veil","on":true}')
                assert "error" in json.loads((await page.receive()).data)
                assert commands == [Veil(do="veil", on=True)]

    asyncio.run(check())


@pytest.mark.parametrize(
    ("messages", "code"),
    [(["x" * 5000], 1009), (["nonsense"] * guard.MAX_MALFORMED, 1008), (['{"do":"veil","on":true}'] * 200, 1008)],
)
def test_too_long_too_wrong_or_too_many_ends_the_connection(messages, code):
    async def check():
        async with serving() as (server, client, commands):
            page = await client.ws_connect(server.address + "live", headers=origin(server))
            for message in messages:
                await page.send_str(message)
            async for _ in page:
                pass
            assert page.close_code == code
            assert len(commands) <= guard.MESSAGES_AT_ONCE + 30

    asyncio.run(check())


def test_so_many_viewers_and_no_more():
    async def check():
        async with serving() as (server, client, _):
            pages = [
                await client.ws_connect(server.address + "live", headers=origin(server))
                for _ in range(guard.MAX_VIEWERS)
            ]
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect(server.address + "live", headers=origin(server))
            assert refused.value.status == 503
            for page in pages:
                await page.close()

    asyncio.run(check())


def test_previews_come_when_they_are_asked_for():
    async def check():
        writer = PreviewWriter((64, 48))
        reader = PreviewReader(writer.name)
        async with serving(reader) as (server, client, _):
            page = await client.ws_connect(server.address + "live", headers=origin(server))
            await page.receive()
            await page.send_str("split")
            while not writer.wanted(0):
                await asyncio.sleep(0.005)
            writer.offer_before(np.full((48, 64, 3), 220, np.uint8), 5)
            writer.offer(np.full((48, 64, 3), 60, np.uint8), 5, 0, covered=False)
            message = await page.receive(timeout=5)
            assert message.type is WSMsgType.BINARY
            assert message.data[:6] == bytes([1, 0, 0, 0, 0, 5])
            picture = cv2.imdecode(np.frombuffer(message.data[6:], np.uint8), 1)
            assert picture.shape == (48, 128, 3)
            assert abs(int(picture[20, 10, 1]) - 220) < 4
            assert abs(int(picture[20, 100, 1]) - 60) < 4
            await page.close()
        reader.close()
        writer.close()

    asyncio.run(check())


def test_the_view_without_the_wearer_has_no_wearer():
    picture = Preview(1, covered=True, after=np.zeros((8, 8, 3), np.uint8), before=np.full((8, 8, 3), 255, np.uint8))
    for look, side in (("after", 8), ("after small", 4)):
        shown = cv2.imdecode(np.frombuffer(encoded(picture, LOOKS[look])[6:], np.uint8), 1)
        assert shown.shape == (side, side, 3)
        assert shown.max() < 8
    both = cv2.imdecode(np.frombuffer(encoded(picture, LOOKS["split small"])[6:], np.uint8), 1)
    assert both.shape == (4, 8, 3)
    assert both[:, 0].min() > 200 > 60 > both[:, -1].max()


def test_cards_of_personas(tmp_path):
    card = card_of(persona_store().find("kofi"))
    assert (card.name, card.kind) == ("kofi", "invented")
    assert card.picture[8:12] == b"WEBP"
    broken = tmp_path / "broken.persona"
    broken.write_bytes(Path(persona_store().find("kofi")).read_bytes()[:500])
    with pytest.raises(PersonaFormatError):
        card_of(broken)
