"""Render a plan into a face set: many processes draw and compress, one writes; what is finished stays finished.

Each process keeps one studio (OpenGL context; on a machine with a GPU all of them share it) and renders one shard at a
time: one person, up to 100 states.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from calibration.people.footage import CropOptions, CropTruth, shoot_crops
from calibration.people.render import Renderer
from calibration.people.state import random_state
from calibration.plan import Part, SetPlan
from engines.errors import PersonacamError, RenderError
from engines.facemesh import load_facemesh, look
from engines.faceset import Faces, FaceSetInfo
from engines.faceset_writer import EncodedShard, FaceSetWriter, encode_shard

SHARD_STATES = 100
_POLL_S = 0.25
_ONE_THREAD = ("LP_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

ProgressCallback = Callable[[int, int], None]
"""(crops rendered, crops in all)."""


@dataclass(frozen=True)
class ShardJob:
    """What one process renders at a time: a part of a person's states."""

    person: Part
    part: int
    states: tuple[int, ...]
    info: FaceSetInfo
    options: CropOptions


@dataclass(frozen=True)
class Estimate:
    """What a plan will take on this machine, extrapolated from a few crops."""

    crops: int
    bytes: int
    seconds: float
    crops_per_s: float


class _Stopped(Exception):  # noqa: N818 - no error: the parent asked for it
    """The build was interrupted."""


@dataclass(frozen=True)
class _Studio:
    """A worker process's renderer, and how it talks with the parent."""

    renderer: Renderer
    rendered: Any
    """Shared count of crops."""
    stop: Any
    """Shared event."""


_studio: list[_Studio] = []
"""An OpenGL context cannot travel between processes, so it is made in each, once."""
_failure: list[PersonacamError] = []
"""Why this worker process has none."""


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """For the environment of children: Mesa's and BLAS's own threads would fight over the cores."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ |= dict.fromkeys(_ONE_THREAD, "1")
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C comes after the block, and never to processes that start in it: else they die of it while they import."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _open_studio(rendered: Any, stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    try:
        _studio.append(_Studio(Renderer(), rendered, stop))
    except PersonacamError as error:  # raised here, the pool would only say that a process died
        _failure.append(error)


def _end_with_parent() -> None:
    """A process of the pool waits for work forever when its parent was killed: end it then."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _crops(renderer: Renderer, job: ShardJob, states: tuple[int, ...]) -> Iterator[CropTruth]:
    person = job.person
    crops = shoot_crops(
        renderer,
        person.who,
        [random_state(seed) for seed in states],
        as_persona=person.role == "persona",
        options=replace(job.options, style=person.style or job.options.style),
    )
    share = job.options.seen_share
    if not share:
        return crops
    chance = 1.0 if person.split == "val" else share
    wanted = (np.random.default_rng([state, 109, *person.name.encode()]).random() < chance for state in states)
    return _as_seen(crops, wanted)


def _as_seen(crops: Iterator[CropTruth], wanted: Iterable[bool]) -> Iterator[CropTruth]:
    """The crops, those that are ``wanted`` with the mesh that Face Mesh sees in them, NaN where it sees no face."""
    with closing(load_facemesh()) as facemesh:
        for crop, seen in zip(crops, wanted, strict=True):
            if not seen:
                yield crop
                continue
            truth = crop.extras["mesh"]
            found = look(facemesh, crop.pixels, truth)
            mesh = np.full_like(truth, np.nan) if found is None else found[:, :2].astype(np.float32)
            yield replace(crop, extras={**crop.extras, "mesh": mesh})


def _encode(job: ShardJob, states: tuple[int, ...], truths: list[CropTruth]) -> EncodedShard:
    person = job.person
    faces = Faces(
        identity=person.name,
        role=person.role,
        split=person.split,
        states=np.array(states, np.int64),
        crops=np.stack([t.pixels for t in truths]),
        masks=np.stack([t.mask for t in truths]),
        landmarks=np.stack([t.landmarks for t in truths]),
        pose=np.array([t.pose for t in truths], np.float32),
        extras={name: np.stack([t.extras[name] for t in truths]) for name in job.options.extras},
    )
    return encode_shard(job.info, faces, job.part)


def _work(job: ShardJob) -> EncodedShard:
    if _failure:
        raise _failure[0]
    studio = _studio[0]
    truths: list[CropTruth] = []
    crops = _crops(studio.renderer, job, job.states)
    while len(truths) < len(job.states):
        if studio.stop.is_set():
            raise _Stopped
        truths.append(next(crops))
        with studio.rendered.get_lock():
            studio.rendered.value += 1
    return _encode(job, job.states, truths)


def _jobs(plan: SetPlan) -> list[ShardJob]:
    """All shards. Which states form one depends on the plan alone, so that an interruption leaves no trace."""
    info, options, jobs = plan.info(), plan.options(), []
    for person in plan.parts():
        seeds = [int(s) for s in person.state_seeds]
        pieces = [tuple(seeds[i : i + SHARD_STATES]) for i in range(0, len(seeds), SHARD_STATES)]
        jobs += [ShardJob(person, k, piece, info, options) for k, piece in enumerate(pieces)]
    return jobs


def build_dataset(plan: SetPlan, folder: Path, *, jobs: int = 2, progress: ProgressCallback | None = None) -> None:
    """Render what is missing of ``plan`` in ``folder`` with so many processes; 0 takes one per core.

    Run it again after an interruption: it continues with the first shard that was not finished. Neither that nor
    ``jobs`` changes a byte of the set. Raises RenderError when a process dies (out of memory, no OpenGL), DataError
    when the folder holds another set or cannot be written, SettingsError for a plan that makes no sense.
    """
    with FaceSetWriter(folder, plan.info()) as writer:
        _render_missing(plan, writer, jobs, progress or (lambda _done, _total: None))


def _render_missing(plan: SetPlan, writer: FaceSetWriter, jobs: int, say: ProgressCallback) -> None:
    shards = _jobs(plan)
    todo = [job for job in shards if not writer.finished(job.person.name) >= set(job.states)]
    total, missing = (sum(len(job.states) for job in some) for some in (shards, todo))
    before = total - missing
    say(before, total)
    if not todo:
        return
    context = multiprocessing.get_context("spawn")
    rendered, stop = context.Value("q", 0), context.Event()
    processes = min(jobs or cores(), len(todo))
    with (
        _one_thread_each(),
        ProcessPoolExecutor(processes, mp_context=context, initializer=_open_studio, initargs=(rendered, stop)) as pool,
    ):
        waiting: set[Future[EncodedShard]] = set()
        try:
            while todo or waiting:
                while todo and len(waiting) < 2 * processes:  # few at a time: finished shards are large
                    with _interrupts_wait():  # here processes start
                        waiting.add(pool.submit(_work, todo.pop(0)))
                finished, waiting = wait(waiting, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                for future in finished:
                    writer.put(future.result())
                say(before + rendered.value, total)
        except BrokenProcessPool as error:
            raise RenderError(
                f"a rendering process died: {error}",
                hint="use fewer processes, and check that Mesa's EGL is installed",
            ) from error
        except BaseException:
            stop.set()
            # Waiting here, because processes that just start still need ``rendered`` and ``stop``.
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def estimate(plan: SetPlan, *, jobs: int = 0, sample: int = 4) -> Estimate:
    """Render the first ``sample`` crops of a plan here and extrapolate. Raises as ``build_dataset``; writes nothing."""
    todo = _jobs(plan)
    job = todo[0]
    states = job.states[:sample]
    opened = time.perf_counter()
    with _one_thread_each(), Renderer() as renderer:
        times, truths = [time.perf_counter()], []
        for truth in _crops(renderer, job, states):
            truths.append(truth)
            times.append(time.perf_counter())
    per_crop = float(np.median(np.diff(times)[1:])) if len(states) > 1 else times[1] - times[0]
    started = time.perf_counter()
    per_crop_bytes = len(_encode(job, states, truths).data) / len(states)
    per_crop += (time.perf_counter() - started) / len(states)
    per_person = max(0.0, times[1] - times[0] - per_crop)
    crops = sum(len(j.states) for j in todo)
    work = len(todo) * per_person + crops * per_crop
    seconds = times[0] - opened + work / min(jobs or cores(), len(todo))
    return Estimate(crops, round(crops * per_crop_bytes), seconds, crops / max(seconds, 1e-9))
