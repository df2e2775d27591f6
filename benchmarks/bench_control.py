"""What the control page costs the frames: frames a second with the page open and previewing, and without any page.

    python benchmarks/bench_control.py --rounds 5 --seconds 12                as many frames as the machine can make
    python benchmarks/bench_control.py --pace --rounds 5 --seconds 12         at the clip's own rate, as a camera
    python benchmarks/bench_control.py --viewer socket                        without a browser: a bare client asks

Rounds are interleaved: a run without the page, one with it, the next round the other way round, all in one process, so
that caches and the machine's mood hit both alike. With ``--viewer browser`` a headless Chromium shows the page and
draws its preview ten times a second, on the same cores as the frames; a real one draws on the graphics card. The first
seconds of each run are not counted. The last line is JSON: {"benchmark": "control", "loss_percent", ...}. The goal is
a loss of 5 % at most.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engines.types import Frame, Swap
from realtime.config import Settings
from realtime.session import run_session

SETTLE_S = 3.0
"""Of each run: the page loads, caches fill."""
Show = Callable[[str | None], None]
"""Opens the page at an address, or closes it (None)."""


@contextmanager
def browser() -> Iterator[Show]:
    """A headless Chromium with its driver (Debian: chromium, chromium-driver)."""
    from selenium import webdriver

    profile = tempfile.mkdtemp(prefix="personacam-bench-")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.add_argument("--window-size=360,900")
    page = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield lambda address: page.get(address or "about:blank")
    finally:
        page.quit()
        shutil.rmtree(profile, ignore_errors=True)


@contextmanager
def bare_client() -> Iterator[Show]:
    """Asks for the next preview whenever one came, and throws it away; in a process of its own."""
    import multiprocessing

    running: list[Any] = []

    def show(address: str | None) -> None:
        for process in running:
            process.terminate()
            process.join()
        running.clear()
        if address is not None:
            running.append(multiprocessing.get_context("spawn").Process(target=look, args=(address,), daemon=True))
            running[0].start()

    yield show
    show(None)


def look(address: str) -> None:
    import aiohttp

    async def work() -> None:
        origin = address.split("/", 3)
        async with aiohttp.ClientSession() as client:
            page = await client.ws_connect(address + "live", headers={"Origin": "/".join(origin[:3])})
            await page.send_str("after")
            async for message in page:
                if message.type is aiohttp.WSMsgType.BINARY:
                    await page.send_str("after")

    asyncio.run(work())


def one(arguments: argparse.Namespace, show: Show | None) -> dict[str, float]:
    """A run; ``show`` opens the page. Returns frames a second and the loop's milliseconds of processor time a frame."""
    times: list[float] = []
    cpu: list[float] = []

    def watch(frame: Frame, swap: Swap) -> None:
        del frame, swap
        times.append(time.perf_counter())
        cpu.append(time.thread_time())

    said: list[str] = []
    pages = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        if text.startswith("control page: ") and show is not None:
            threading.Thread(
                target=lambda: (show(text.removeprefix("control page: ")), pages.set()), daemon=True
            ).start()

    settings = Settings(
        source="demo", loop=True, persona=arguments.persona, sink=("null",), pace="on" if arguments.pace else "off",
        governor="off", precision=arguments.precision, seconds=arguments.seconds + 2 * SETTLE_S,
        control=show is not None, control_port=0, hotkeys=False,
    )  # fmt: skip
    result = run_session(settings, say=say, watch=watch)
    if show is not None:
        if not pages.is_set():
            sys.exit(f"the page did not open: {said}")
        show(None)
    if result.error is not None:
        sys.exit(str(result.error))
    counted = [at for at, moment in enumerate(times) if moment > times[-1] - arguments.seconds]
    first, last = counted[0], counted[-1]
    return {
        "fps": (last - first) / (times[last] - times[first]),
        "loop_cpu_ms": 1e3 * (cpu[last] - cpu[first]) / (last - first),
        "p99_ms": result.report["latency_ms"]["p99"],
        "dropped": result.report["frames"]["dropped"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=12.0, help="counted of each run")
    parser.add_argument("--pace", action="store_true", help="at the clip's own rate")
    parser.add_argument("--persona", default="vera")
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--viewer", choices=("browser", "socket"), default="browser")
    arguments = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {"without": [], "open": []}
    with browser() if arguments.viewer == "browser" else bare_client() as show:
        one(argparse.Namespace(**vars(arguments) | {"seconds": 1.0}), None)  # warms up
        for turn in range(arguments.rounds):
            for name in ("without", "open") if turn % 2 == 0 else ("open", "without"):
                print(f"round {turn + 1}, {name}", file=sys.stderr, flush=True)
                rows[name].append(one(arguments, show if name == "open" else None))
    table = Table("page", "frames/s", "loop cpu ms", "p99 ms", "dropped")
    medians = {}
    for name, runs in rows.items():
        medians[name] = {key: round(statistics.median(run[key] for run in runs), 2) for key in runs[0]}
        table.add_row(name, *(str(value) for value in medians[name].values()))
    Console(stderr=True).print(table)
    loss = 100 * (1 - medians["open"]["fps"] / medians["without"]["fps"])
    line = {
        "benchmark": "control", "viewer": arguments.viewer, "paced": arguments.pace, "rounds": arguments.rounds,
        "loss_percent": round(loss, 2), "median": medians, "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "fps": {name: [round(run["fps"], 2) for run in runs] for name, runs in rows.items()},
    }  # fmt: skip
    print(json.dumps(line))


if __name__ == "__main__":
    main()
