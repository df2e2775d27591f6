"""What the control page costs the frames: frames a second with the page open and previewing, and without any page.

    python benchmarks/bench_control.py --rounds 5 --seconds 12                as many frames as the machine can make
    python benchmarks/bench_control.py --pace --rounds 5 --seconds 12         at the clip's own rate, as a camera
    python benchmarks/bench_control.py --viewers socket                       without a browser

Three runs make a round, in turning order, all in one process, so that caches and the machine's mood hit all alike:
"without" a page; "socket", where a bare client asks for each preview and throws it away, so that only our own processes
work; and "browser", where a headless Chromium in the width of a dock shows the page and draws its preview. It draws on
the same cores as the frames; a real one draws on the graphics card. The first seconds of each run are not counted.

The loss is the median over the rounds of 1 - fps / (fps without, of the same round). "page cpu" is the processor time
of the page's own process and of the browser, in percent of one core (Linux); it says what is taken from a stream that
needs every core, also on a machine on which other programs run, where frames a second cannot be compared. The last line
is JSON: {"benchmark": "control", "loss_percent": {"socket": x, "browser": x}, ...}. The goal is a loss of 5 % at most.
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
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engines.types import Frame, Swap
from realtime.config import Settings
from realtime.session import run_session

SETTLE_S = 4.0
"""Of each run, after the page is there: it draws for the first time, caches fill."""
WAIT_S = 90.0
"""For a page to open."""
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
    page = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    # A window is at least 500 pixels wide; a dock is not.
    size = {"width": 340, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
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
            await page.send_str("after small")
            async for message in page:
                if message.type is aiohttp.WSMsgType.BINARY:
                    await page.send_str("after small")

    asyncio.run(work())


def processor_s() -> dict[str, float]:
    """Seconds of processor time so far: of the page's process, and of the browser; empty but on Linux."""
    if not sys.platform.startswith("linux"):
        return {}
    found: dict[int, tuple[int, float, str]] = {}
    for folder in Path("/proc").iterdir():
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_text().replace("\0", " ")
        except (OSError, ValueError):  # not a process, or one that has ended
            continue
        if folder.name.isdigit():
            ticks = int(stat[11]) + int(stat[12])
            found[int(folder.name)] = int(stat[1]), ticks / os.sysconf("SC_CLK_TCK"), command
    ours, total = {os.getpid()}, {"page": 0.0, "browser": 0.0}
    while more := {pid for pid, (parent, _, _) in found.items() if parent in ours} - ours:
        ours |= more
    for pid in ours & found.keys():
        _, seconds, command = found[pid]
        if "realtime.control.companion" in command:
            total["page"] += seconds
        elif "chrom" in command.split(" ")[0] and "chromedriver" not in command:
            total["browser"] += seconds
    return total


class Span:
    """Notes each frame, and ends the run when enough of them came after the page was open."""

    def __init__(self, seconds: float, ready: threading.Event) -> None:
        self.stop = threading.Event()
        self._seconds, self._ready = seconds, ready
        self._opened: float | None = None
        self._times: list[float] = []
        self._loop_s: list[float] = []
        self._others: list[dict[str, float]] = []

    def look(self, frame: Frame, swap: Swap) -> None:
        """In the thread of the frames."""
        del frame, swap
        now = time.perf_counter()
        if self._opened is None:
            self._opened = now if self._ready.is_set() else None
        elif now > self._opened + SETTLE_S + self._seconds:
            if not self.stop.is_set():
                self._others.append(processor_s())
            self.stop.set()
        elif now > self._opened + SETTLE_S:
            if not self._others:
                self._others.append(processor_s())
            self._times.append(now)
            self._loop_s.append(time.thread_time())

    def figures(self) -> dict[str, float]:
        """What was seen. Exits when there was nothing."""
        if len(self._others) < 2 or len(self._times) < 2:
            sys.exit(f"the page did not open within {WAIT_S:.0f} s, or no frames came")
        first, last = self._others
        frames = len(self._times) - 1
        return {
            "fps": frames / (self._times[-1] - self._times[0]),
            "loop_cpu_ms": 1e3 * (self._loop_s[-1] - self._loop_s[0]) / frames,
        } | {f"{name}_cpu_percent": 100 * (last[name] - first[name]) / self._seconds for name in first}


def one(arguments: argparse.Namespace, show: Show | None) -> dict[str, float]:
    """A run; ``show`` opens the page. Returns frames a second and the loop's milliseconds of processor time a frame."""
    ready = threading.Event()
    span = Span(arguments.seconds, ready)

    def visit(address: str) -> None:
        if show is not None:
            show(address)
            ready.set()

    def say(text: str) -> None:
        if text.startswith("control page: "):
            threading.Thread(target=visit, args=(text.removeprefix("control page: "),), daemon=True).start()

    if show is None:
        ready.set()
    settings = Settings(
        source="demo", loop=True, persona=arguments.persona, sink=("null",), pace="on" if arguments.pace else "off",
        governor="off", precision=arguments.precision, seconds=arguments.seconds + SETTLE_S + WAIT_S,
        control=show is not None, control_port=0, hotkeys=False,
    )  # fmt: skip
    result = run_session(settings, say=say, watch=span.look, stop=span.stop)
    if show is not None:
        show(None)
    if result.error is not None:
        sys.exit(str(result.error))
    more = {"p99_ms": result.report["latency_ms"]["p99"], "dropped": result.report["frames"]["dropped"]}
    return span.figures() | more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=12.0, help="counted of each run")
    parser.add_argument("--pace", action="store_true", help="at the clip's own rate")
    parser.add_argument("--persona", default="vera")
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--viewers", choices=("both", "browser", "socket"), default="both")
    arguments = parser.parse_args()
    viewers = ("socket", "browser") if arguments.viewers == "both" else (arguments.viewers,)
    if "browser" in viewers and not shutil.which("chromedriver"):
        sys.exit("no chromedriver here\n  -> apt-get install chromium chromium-driver, or --viewers socket")
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in ("without", *viewers)}
    with ExitStack() as stack:
        opened = {"socket": bare_client, "browser": browser}
        shows: dict[str, Show | None] = {"without": None}
        shows |= {name: stack.enter_context(opened[name]()) for name in viewers}
        one(argparse.Namespace(**vars(arguments) | {"seconds": 1.0}), None)  # warms up
        names = list(shows)
        for turn in range(arguments.rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                print(f"round {turn + 1}, {name}", file=sys.stderr, flush=True)
                rows[name].append(one(arguments, shows[name]))
    report(arguments, rows)


def report(arguments: argparse.Namespace, rows: dict[str, list[dict[str, float]]]) -> None:
    table = Table("page", "frames/s", "loss %", "loop cpu ms", "p99 ms", "dropped", "page cpu %", "browser cpu %")
    medians: dict[str, dict[str, float]] = {}
    losses = {}
    keys = ("fps", "loop_cpu_ms", "p99_ms", "dropped", "page_cpu_percent", "browser_cpu_percent")
    for name, runs in rows.items():
        ratios = [run["fps"] / other["fps"] for run, other in zip(runs, rows["without"], strict=True)]
        losses[name] = round(100 * (1 - statistics.median(ratios)), 2)
        medians[name] = {key: round(statistics.median(run.get(key, 0.0) for run in runs), 2) for key in keys}
        fps, *others = medians[name].values()
        table.add_row(name, str(fps), str(losses[name]), *map(str, others))
    Console(stderr=True).print(table)
    line = {
        "benchmark": "control", "paced": arguments.pace, "rounds": arguments.rounds,
        "loss_percent": {name: loss for name, loss in losses.items() if name != "without"}, "median": medians,
        "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "fps": {name: [round(run["fps"], 2) for run in runs] for name, runs in rows.items()},
    }  # fmt: skip
    print(json.dumps(line))


if __name__ == "__main__":
    main()
