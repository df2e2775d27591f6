"""Render a plan into a face set: many processes draw, one writes; what is finished stays finished.

Each process keeps one studio (OpenGL context) and renders one shard at a time: one person, up to 100 states.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.people.footage import shoot_crops
from calibration.people.identity import RENDERER_VERSION, Identity
from calibration.people.render import Renderer
from calibration.people.state import random_state
from calibration.plan import Part, Plan
from engines.errors import RenderError
from engines.faceset import FaceSetInfo, FaceSetWriter

SHARD_STATES = 100

ProgressCallback = Callable[[int, int], None]
"""(crops on disk, crops in all)."""


@dataclass(frozen=True)
class ShardJob:
    """What one worker renders at a time."""

    name: str
    who: Identity
    as_persona: bool
    states: tuple[int, ...]


@dataclass(frozen=True)
class Shard:
    """What it gives back: arrays as in ``engines.faceset.Faces``."""

    crops: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    pose: NDArray[np.float32]


_studio: list[Renderer] = []
"""This worker process's renderer: an OpenGL context cannot travel between processes, so it is made in each, once."""


def _open_studio() -> None:
    # One thread a process: Mesa's and BLAS's own threads would fight over the cores.
    os.environ["LP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _studio.append(Renderer())


def render_shard(renderer: Renderer, job: ShardJob) -> Shard:
    """Render all states of a job."""
    states = [random_state(seed) for seed in job.states]
    truths = list(shoot_crops(renderer, job.who, states, as_persona=job.as_persona))
    return Shard(
        np.stack([t.pixels for t in truths]),
        np.stack([t.mask for t in truths]),
        np.stack([t.landmarks for t in truths]),
        np.array([t.pose for t in truths], np.float32),
    )


def _work(job: ShardJob) -> Shard:
    return render_shard(_studio[0], job)


def info_of(plan: Plan) -> FaceSetInfo:
    """The description of a plan's face set; equal descriptions are equal data."""
    seeds = {
        "seed": plan.seed,
        "wearers": plan.wearers,
        "states": plan.states,
        "states_per_wearer": plan.states_per_wearer,
        "validation_wearers": plan.validation_wearers,
        "validation_states": plan.validation_states,
        "validation_states_per_wearer": plan.validation_states_per_wearer,
    }
    origin = f"people-renderer {RENDERER_VERSION}; personas {' '.join(plan.personas)}"
    return FaceSetInfo(origin, f"invented:{plan.seed}", seeds)


def _jobs(part: Part, finished: set[int]) -> list[ShardJob]:
    left = [int(s) for s in part.state_seeds if int(s) not in finished]
    pieces = [left[i : i + SHARD_STATES] for i in range(0, len(left), SHARD_STATES)]
    return [ShardJob(part.name, part.who, part.role == "persona", tuple(p)) for p in pieces]


def build_dataset(plan: Plan, folder: Path, *, jobs: int = 2, progress: ProgressCallback | None = None) -> None:
    """Render what is missing of ``plan`` in ``folder``. Run it again after an interruption: it continues.

    Raises RenderError when a worker dies (out of memory, no OpenGL), DataError when the folder holds another set.
    """
    writer = FaceSetWriter(folder, info_of(plan))
    parts = {part.name: part for part in plan.parts()}
    todo = [job for part in plan.parts() for job in _jobs(part, writer.finished(part.name))]
    total = sum(len(part.state_seeds) for part in plan.parts())
    done = total - sum(len(job.states) for job in todo)
    if progress:
        progress(done, total)
    if not todo:
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(1, jobs), mp_context=context, initializer=_open_studio) as pool:
        waiting: dict[Future[Shard], ShardJob] = {}
        try:
            while todo or waiting:
                while todo and len(waiting) < 2 * jobs:  # few at a time: finished shards are large
                    job = todo.pop(0)
                    waiting[pool.submit(_work, job)] = job
                finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    job = waiting.pop(future)
                    shard, part = future.result(), parts[job.name]
                    writer.add(
                        job.name,
                        part.role,
                        part.split,
                        job.states,
                        shard.crops,
                        shard.masks,
                        shard.landmarks,
                        shard.pose,
                    )
                    done += len(job.states)
                    if progress:
                        progress(done, total)
        except BrokenProcessPool as error:
            raise RenderError(
                f"a rendering process died: {error}",
                hint="use fewer processes, and check that Mesa's EGL is installed",
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
