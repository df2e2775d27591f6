"""Who does the work of a film: this process, several, or machines of a Ray cluster; all behind one ``Executor``."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from engines.errors import MissingDependencyError, PersonacamError, RuntimeFailure
from realtime.render_worker import Heard, Progress, Task, render_task

_POLL_S = 0.2
_PATIENCE_S = 10.0


class Executor(Protocol):
    """Renders tasks. ``heard`` is called in the caller's thread."""

    workers: int
    """How many tasks run at once."""

    def run(self, tasks: Sequence[Task], heard: Heard, stop: threading.Event) -> None:
        """Until all are done or ``stop`` is set; then soon. Raises what a worker raised, after the others ended."""
        ...


class InProcess:
    """One task after the other, here."""

    workers = 1

    def run(self, tasks: Sequence[Task], heard: Heard, stop: threading.Event) -> None:
        """See ``Executor``."""
        for task in tasks:
            if stop.is_set():
                return
            render_task(task, heard, stop.is_set)


class Processes:
    """Several processes of this machine, each with one task after the other."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, tasks: Sequence[Task], heard: Heard, stop: threading.Event) -> None:
        """See ``Executor``. A process that dies ends the others, and says so."""
        context = multiprocessing.get_context("spawn")  # threads of runtimes do not survive a fork
        said: Any = context.Queue()
        todo: Any = context.Queue()
        over = context.Event()
        for task in tasks:
            todo.put(task)
        count = min(self.workers, len(tasks))
        for _ in range(count):
            todo.put(None)
        workers = [context.Process(target=_work, args=(todo, said, over), daemon=True) for _ in range(count)]
        failure: PersonacamError | None = None
        try:
            for worker in workers:
                worker.start()
            failure = self._listen(workers, said, heard, stop)
        finally:
            over.set()
            _end(workers, said, heard)
        if failure is not None:
            raise failure

    @staticmethod
    def _listen(workers: Sequence[Any], said: Any, heard: Heard, stop: threading.Event) -> PersonacamError | None:
        running = len(workers)
        while running and not stop.is_set():
            try:
                word = said.get(timeout=_POLL_S)
            except queue.Empty:
                dead = [worker for worker in workers if worker.exitcode not in {None, 0}]
                if dead:
                    return RuntimeFailure(
                        f"a process that rendered ended by itself (exit status {dead[0].exitcode})",
                        hint="start the same command again with fewer --jobs: memory may have run out",
                    )
                continue
            if word is None:
                running -= 1
            elif isinstance(word, PersonacamError):
                return word
            else:
                heard(word)
        return None


def _work(todo: Any, said: Any, over: Any) -> None:
    """A worker process. Ctrl-C in a terminal reaches it too; the parent decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def stopped() -> bool:
        return bool(over.is_set()) or (parent is not None and not parent.is_alive())

    gathered = _Gathered(said.put)
    while not stopped():
        task = todo.get()
        if task is None:
            break
        try:
            render_task(task, gathered, stopped)
        except PersonacamError as error:
            said.put(error)
            return
        except Exception as error:  # noqa: BLE001 - the parent must hear of it; a traceback alone would hang it
            said.put(RuntimeFailure(f"{type(error).__name__}: {error}", hint="report it, with personacam -v"))
            return
    said.put(None)


class _Gathered:
    """Tells of pictures a few times a second, of segments at once."""

    def __init__(self, tell: Heard) -> None:
        self._tell, self._frames, self._next = tell, 0, 0.0

    def __call__(self, progress: Progress) -> None:
        self._frames += progress.frames
        now = time.monotonic()
        if progress.segment is not None or progress.runtime or now >= self._next:
            self._tell(replace(progress, frames=self._frames))
            self._frames, self._next = 0, now + _POLL_S


def _end(workers: Sequence[Any], said: Any, heard: Heard) -> None:
    """Wait, but not for ever; a segment that was finished meanwhile counts."""
    deadline = time.monotonic() + _PATIENCE_S
    for worker in workers:
        while worker.is_alive() and time.monotonic() < deadline:
            _take_all(said, heard)  # a process does not end before its words are taken
            worker.join(0.05)
        if worker.is_alive():
            worker.terminate()
            worker.join(_PATIENCE_S)
    _take_all(said, heard)
    said.close()


def _take_all(said: Any, heard: Heard) -> None:
    while True:
        try:
            word = said.get_nowait()
        except queue.Empty:
            return
        if isinstance(word, Progress):
            heard(word)


class RayCluster:
    """Machines of a Ray cluster (extra ``cluster``).

    Every machine has personacam installed and reads the source under the same path; the persona is sent along, and
    finished segments come back over the network.
    """

    def __init__(self, address: str | None, workers: int, cpus: float = 1.0) -> None:
        """``address``: "auto", "ray://HOST:10001", or None for a cluster of this machine's own. Raises
        MissingDependencyError.
        """
        self.workers, self._cpus = workers, cpus
        try:
            import ray
        except ImportError as error:
            raise MissingDependencyError(
                f"Ray cannot be imported: {error}", hint="pip install 'personacam[cluster]', or use --jobs"
            ) from error
        self._ray: Any = ray
        if not ray.is_initialized():
            own = {"num_cpus": workers, "include_dashboard": False} if address is None else {"address": address}
            try:
                ray.init(log_to_driver=False, logging_level="error", **own)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise RuntimeFailure(
                    f"the Ray cluster {address} does not answer: {error}", hint="ray status"
                ) from error
        if address is not None:
            self.workers = max(1, int(ray.cluster_resources().get("CPU", workers)))

    def run(self, tasks: Sequence[Task], heard: Heard, stop: threading.Event) -> None:
        """See ``Executor``."""
        ray = self._ray
        remote = ray.remote(num_cpus=self._cpus, max_retries=2)(render_elsewhere)
        data = ray.put(tasks[0].persona.read_bytes()) if tasks else None
        waiting = [remote.remote(task, data) for task in tasks]
        try:
            while waiting and not stop.is_set():
                done, waiting = ray.wait(waiting, timeout=1.0)
                for one in done:
                    self._take(one, heard, tasks[0].folder)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, PersonacamError):
                raise cause from error
            raise RuntimeFailure(f"a machine of the cluster failed: {cause or error}", hint="ray status") from error
        except ray.exceptions.RayError as error:
            raise RuntimeFailure(f"the cluster failed: {error}", hint="ray status; start again, it goes on") from error
        finally:
            for one in waiting:
                ray.cancel(one, force=True)

    def _take(self, one: Any, heard: Heard, folder: Path) -> None:
        for name, data, progress in self._ray.get(one):
            if name:
                part = folder / f"{name}.part"
                part.write_bytes(data)
                part.replace(folder / name)
            heard(progress)


def render_elsewhere(task: Task, persona_data: bytes) -> list[tuple[str, bytes, Progress]]:
    """A task on another machine: (file name, its bytes, what to say) of every segment."""
    found: list[tuple[str, bytes, Progress]] = []
    with tempfile.TemporaryDirectory(prefix="personacam-") as name:
        folder = Path(name)
        own = replace(task, folder=folder, persona_data=persona_data)

        def heard(progress: Progress) -> None:
            if progress.segment is None:
                found.extend([("", b"", progress)] if progress.runtime else [])
                return
            file = folder / f"{progress.segment.number:05d}.mp4"
            frames = progress.segment.end - progress.segment.first
            found.append((file.name, file.read_bytes(), replace(progress, frames=frames)))
            file.unlink()

        render_task(own, heard, lambda: False)
    return found
