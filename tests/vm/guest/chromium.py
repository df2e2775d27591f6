"""Chromium opens the camera with getUserMedia and says what it got. Standard library only: started as a process.

python -m tests.vm.guest.chromium NAME COUNT SHOWN SECONDS
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

BROWSERS = ("/usr/lib/chromium/chromium-headless-shell", "/usr/bin/chromium-headless-shell", "/usr/bin/chromium")
_LOG = Path("/run/vm/chromium.log")
_FLAGS = (
    "--headless",
    "--no-sandbox",  # we are root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--single-process",  # emulated, each process more costs seconds
    "--use-fake-ui-for-media-stream",  # allows the camera without asking; the camera itself stays the real one
    "--autoplay-policy=no-user-gesture-required",
)


class _Server(http.server.ThreadingHTTPServer):
    """Gives out the page and takes its result: a page on 127.0.0.1 may use cameras."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.result: dict[str, Any] | None = None
        self.answered = threading.Event()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *values: Any) -> None:  # noqa: A002 - the base's name
        """Nothing."""

    def do_GET(self) -> None:
        page = Path(__file__).with_name("page.html").read_bytes() if self.path.startswith("/page") else b""
        self.send_response(200 if page else 404)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def do_POST(self) -> None:
        self.server.result = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(204)
        self.end_headers()
        self.server.answered.set()


def look(name: str, count: int, shown: int, seconds: float, limit_s: float) -> dict[str, Any]:
    """What the page found: devices, label, settings, track and canvas; or ``error``."""
    browser = next((path for path in BROWSERS if Path(path).exists()), None)
    if browser is None:
        return {"error": "Chromium is not installed"}
    server = _Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    query = urlencode({"name": name, "count": count, "shown": shown, "seconds": seconds})
    with tempfile.TemporaryDirectory() as profile, _LOG.open("wb") as log:
        address = f"http://127.0.0.1:{server.server_port}/page?{query}"
        process = subprocess.Popen(
            [browser, *_FLAGS, f"--user-data-dir={profile}", address],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        server.answered.wait(limit_s)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return server.result or {"error": f"no answer within {limit_s:.0f} s: {_LOG.read_text(errors='replace')[-600:]}"}


def main() -> int:
    """One retry: started as a single process, Chromium was seen never to answer in one of twenty runs."""
    name, count, shown, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    limit_s = 60.0 + 3 * seconds
    result = look(name, count, shown, seconds, limit_s)
    if "no answer" in result.get("error", ""):
        result = look(name, count, shown, seconds, limit_s) | {"second attempt": True}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
