"""The network in the fastest arithmetic of this processor that gives the same picture: looked up, or found out beside
the stream (``precision_worker``), then exchanged between two frames by an ``EngineSwitch``.

Files are computed in float32: they have the time, and the same file then gives the same video on every machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engines.cache import PlanCache, default_folder
from engines.errors import BuildError, MissingDependencyError, RuntimeFailure
from engines.persona import Persona
from engines.runtimes.base import LiveRuntime
from engines.runtimes.openvino import OpenVinoRuntime
from realtime.config import Settings
from realtime.engine_switch import EngineSwitch, Opener, Say
from realtime.memory import give_back_memory
from realtime.precision_worker import cache_key
from realtime.swap import PlanarRuntime

QUIET_S = 4.0
"""A stream runs so long before the processor is also given the search: start-up, and the first look at the picture."""
TIMEOUT_S = 1200.0
"""Seconds on a machine with nothing else to do; the stream itself may leave it little."""
POLL_S = 0.1
Find = Callable[[Persona, Path, threading.Event], None]
"""Leaves the verdict on a persona in the cache folder. Raises PersonacamError, also when the event is set."""


def fastest(
    persona: Persona,
    settings: Settings,
    plain: LiveRuntime,
    *,
    live: bool,
    say: Say,
    folder: Path | None = None,
    find: Find | None = None,
) -> LiveRuntime:
    """``plain``, or an ``EngineSwitch`` over it, not started, that changes over to the fastest arithmetic.

    Of a float32 OpenVINO runtime only, under ``precision`` int8, or auto when ``live``. A verdict that float32 is the
    fastest gives ``plain``.
    """
    by_name = settings.precision == "int8"
    if plain.name != "openvino" or plain.precision != "f32" or not (by_name or (settings.precision == "auto" and live)):
        return plain
    cache = PlanCache(default_folder() if folder is None else folder, say=say)
    try:
        found = cache.find(cache_key(persona.swap_onnx))
    except MissingDependencyError:
        return plain
    if found is not None and found.info.get("precision") == "f32" and not by_name:
        return plain
    return EngineSwitch(plain, _opener(persona, settings, cache, find or find_out, known=found is not None), say=say)


def _opener(persona: Persona, settings: Settings, cache: PlanCache, find: Find, *, known: bool) -> Opener:
    def open_fastest(stop: threading.Event) -> LiveRuntime:
        if not known:
            if stop.wait(0.0 if settings.precision == "int8" else QUIET_S):
                raise RuntimeFailure("the run is over", hint="start again")
            find(persona, cache.folder, stop)
        found = cache.find(cache_key(persona.swap_onnx))
        if found is None:
            raise BuildError("the verdict on the arithmetic is gone", hint="check the cache folder: PERSONACAM_CACHE")
        if found.info.get("precision") == "int8":
            runtime = OpenVinoRuntime(found.data, precision="int8", threads=settings.threads)
        elif found.info.get("precision") == "bf16" and settings.precision != "int8":
            runtime = OpenVinoRuntime(persona.swap_onnx, precision="bf16", threads=settings.threads)
        else:
            raise MissingDependencyError(_why(found.info), hint="float32 goes on")
        give_back_memory()
        return PlanarRuntime(persona.manifest, runtime)

    return open_fastest


def _why(info: Any) -> str:
    ms, pixels_db = info.get("ms", {}), info.get("pixels_db", {})
    return (
        f"float32 stays: {ms.get('f32', 0.0):.1f} ms a frame, int8 {ms.get('int8', 0.0):.1f} ms"
        f" at {pixels_db.get('int8', 0.0):.0f} dB"
    )


def find_out(persona: Persona, folder: Path, stop: threading.Event) -> None:
    """Run the worker at low priority. Raises BuildError when it fails, RuntimeFailure when ``stop`` is set."""
    root = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, *(path for path in sys.path if path)])}
    environment |= {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as said:
        worker = subprocess.Popen(
            [sys.executable, "-m", "realtime.precision_worker", str(persona.path.resolve()), str(folder)],
            env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
            creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),  # Windows
        )  # fmt: skip
        waited = 0.0
        try:
            while worker.poll() is None and waited < TIMEOUT_S:
                if stop.wait(POLL_S):
                    raise RuntimeFailure("the run is over", hint="start again")
                waited += POLL_S
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
        if worker.returncode == 0:
            return
        said.seek(0)
        raise BuildError(_reason(said.read().decode(errors="replace")), hint="--precision f32 does without")


def _reason(said: str) -> str:
    lines = said.strip().splitlines()
    with contextlib.suppress(ValueError, LookupError, TypeError):
        return f"the fastest arithmetic was not found: {json.loads(lines[-1])['error']}"
    last = lines[-1] if lines else "nothing said"
    return f"the fastest arithmetic was not found, its process ended early: {last}"
