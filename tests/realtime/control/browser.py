"""A real run on the shipped clip with its control page, and a real Chromium to look at it."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.consent_gates import Gatekeeper
from engines.types import U8, Frame
from realtime import admission, session
from realtime.config import Settings
from realtime.control import attach
from realtime.control.desk import Desk
from tests.calibration.consent_world import EMPTY_LIST


@dataclass
class Sent:
    """One picture that left."""

    at: float
    """time.time() when the sink got it."""
    index: int
    detail: float
    """Mean step between neighbouring samples: a veiled picture has hardly any."""


@dataclass
class Swapped:
    """One swap that left."""

    at: float
    """After it was sent."""
    index: int
    bright: float
    """Of the middle of the persona's face: kofi's is dark, vera's is not."""


@dataclass
class Watched:
    """A run, seen from its sink."""

    sent: list[Sent] = field(default_factory=list)
    swaps: list[Swapped] = field(default_factory=list)
    submitted: list[tuple[float, Any]] = field(default_factory=list)
    desk: Desk | None = None
    address: str = ""
    said: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)


class _Sink:
    name = report = "null"

    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def open(self, size: tuple[int, int], fps: float) -> None:
        pass

    def send(self, pixels: U8, frame: Frame) -> None:
        at = time.time()
        few = pixels[::6, ::6, 1].astype(np.int16)
        detail = float(np.abs(np.diff(few, axis=1)).mean())
        self._watched.sent.append(Sent(at, frame.index, detail))

    def close(self) -> None:
        pass


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@contextmanager
def running(bring_in: Callable[[Path], None] = lambda home: None, **settings: Any) -> Iterator[Watched]:
    """A live run in a thread, until the block ends; its page is served.

    ``bring_in`` may put personas into the data folder; they are a real person's whose address answers "not revoked".
    """
    watched, stop, patch = Watched(), threading.Event(), pytest.MonkeyPatch()

    class SeenDesk(Desk):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            watched.desk = self

        def submit(self, command: Any) -> None:
            super().submit(command)
            watched.submitted.append((time.time(), command))

    def swapped(frame: Frame, swap: Any) -> None:
        watched.swaps.append(Swapped(time.time(), frame.index, float(swap.pixels[40:90, 40:90].mean())))

    options = {
        "source": "demo", "loop": True, "pace": "on", "precision": "f32", "governor": "off", "hotkeys": False,
        "control": True, "control_port": 0, "sink": ("null",),
    }  # fmt: skip

    def work() -> None:
        result = session.run_session(
            Settings(**options | settings), say=watched.said.append, stop=stop, watch=swapped
        )  # fmt: skip
        watched.report = result.report

    patch.setattr(attach, "Desk", SeenDesk)
    patch.setattr(session, "open_sink", lambda spec: _Sink(watched))
    home = Path(tempfile.mkdtemp(prefix="personacam-page-"))
    patch.setattr(session, "data_folder", lambda: home)
    patch.setattr(
        admission, "Gatekeeper", lambda home, warn: Gatekeeper(home, warn=warn, fetch=lambda *_: EMPTY_LIST)
    )  # fmt: skip
    bring_in(home)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    prefix = "control page: "
    try:
        until(lambda: any(line.startswith(prefix) for line in watched.said), 60.0)
        watched.address = next(line for line in watched.said if line.startswith(prefix)).removeprefix(prefix)
        yield watched
    finally:
        stop.set()
        thread.join(20.0)
        patch.undo()
    assert not thread.is_alive()


@contextmanager
def chromium(width: int = 1280, height: int = 900) -> Iterator[Any]:
    """A headless one; skips with the reason where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("there is no chromium with its driver: apt-get install chromium chromium-driver")
    profile = tempfile.mkdtemp(prefix="personacam-chromium-")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        f"--window-size={width},{height}", f"--user-data-dir={profile}", "--no-first-run",
    ):  # fmt: skip
        options.add_argument(argument)
    page = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield page
    finally:
        page.quit()
        shutil.rmtree(Path(profile), ignore_errors=True)
