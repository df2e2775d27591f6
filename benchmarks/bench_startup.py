"""From the command to the first swapped frame: warm, and the first time ever.

    python benchmarks/bench_startup.py                     five rounds of both, in turn
    python benchmarks/bench_startup.py --rounds 3 --importtime 15 --json

Each run is ``personacam run --source demo --sink null --frames 1`` in a process of its own. Warm uses the caches that
an unmeasured run left; cold gets a fresh home, cache folder and numba cache, so that every kernel is compiled, which
happens once per machine and version. Measured from starting the process to the line that says that the first swapped
frame was handed to the sink, and to its end. ``cpu`` is the processor time of the process, which does
not depend on what else runs. Goals: 3 s warm, 8 s cold, on two cores. ``--importtime N`` shows the N costliest imports.
The last line is JSON; ``--out`` adds it to a file for ``report.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
GOALS_S = {"warm": 3.0, "cold": 8.0}
_RUN = ("run", "--source", "demo", "--sink", "null", "--frames", "1", "--json")


def environment(folder: Path) -> dict[str, str]:
    """Nothing of this user's caches: the program finds an empty home."""
    fresh = {
        name: str(folder / name.lower()) for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "NUMBA_CACHE_DIR")
    }
    fresh["PERSONACAM_CACHE"] = str(folder / "engines")
    for path in fresh.values():
        Path(path).mkdir(parents=True, exist_ok=True)
    return os.environ | fresh | {"PYTHONPATH": str(ROOT)}


def start(variables: dict[str, str]) -> dict[str, float]:
    """One start. Ends the program when it failed."""
    before, began = os.times(), time.perf_counter()
    first_frame_s, said = None, []
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "realtime", *_RUN], env=variables, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        for line in process.stderr or ():
            said.append(line)
            if line.startswith("first swapped frame"):
                first_frame_s = time.perf_counter() - began
    end_s, after = time.perf_counter() - began, os.times()
    if process.returncode or first_frame_s is None:
        sys.exit("".join(said))
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return {"first_frame_s": first_frame_s, "end_s": end_s, "cpu_s": cpu_s}


def costly_imports(count: int) -> list[tuple[float, str]]:
    """(milliseconds of its own, module) of a start, the costliest first."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "realtime", *_RUN], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    found = re.findall(r"import time:\s+(\d+) \|\s+\d+ \| +(\S+)", done.stderr)
    return sorted(((int(own) / 1e3, name) for own, name in found), reverse=True)[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--importtime", type=int, default=0, metavar="N", help="show the N costliest imports")
    parser.add_argument("--out", type=Path, help="add the JSON line to this file")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    runs: dict[str, list[dict[str, float]]] = {"warm": [], "cold": []}
    with tempfile.TemporaryDirectory() as kept:
        warm = environment(Path(kept))
        start(warm)
        for turn in range(arguments.rounds):
            console.print(f"round {turn + 1}")
            runs["warm"].append(start(warm))
            with tempfile.TemporaryDirectory() as fresh:
                runs["cold"].append(start(environment(Path(fresh))))
    line: dict[str, Any] = {
        "benchmark": "startup",
        "rounds": arguments.rounds,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
    table = Table("start", "first frame, s", "end, s", "cpu, s", "goal, s")
    for kind, found in runs.items():
        line[kind] = {name: _spread([one[name] for one in found]) for name in found[0]}
        cells = (f"{m:.2f} ({low:.2f}-{high:.2f})" for m, low, high in line[kind].values())
        table.add_row(kind, *cells, f"{GOALS_S[kind]:g}")
    console.print(table)
    for own_ms, name in costly_imports(arguments.importtime) if arguments.importtime else ():
        console.print(f"{own_ms:8.1f} ms  {name}")
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with arguments.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    if arguments.json:
        print(json.dumps(line))


def _spread(values: list[float]) -> list[float]:
    """[median, least, most]"""
    return [round(float(np.median(values)), 3), round(min(values), 3), round(max(values), 3)]


if __name__ == "__main__":
    main()
