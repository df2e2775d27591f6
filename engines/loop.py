"""What every training loop here shares: the schedule, a batch in shards, the optimiser's step, and memory that stays.

``course`` has the clock.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engines.errors import TrainingError
from engines.files import claim_folder, write_atomic
from engines.run_state import Run, update_average

CONFIG = "config.json"
"""A run's settings, in its folder."""


class Descent(Protocol):
    """The part of a run's settings that decides how weights follow gradients."""

    @property
    def clip_norm(self) -> float:
        """Largest norm of the gradient; larger ones are scaled down."""

    @property
    def ema(self) -> float:
        """Decay of the running average of the weights."""


class Schedule(Protocol):
    """The part of a run's settings that decides its length and rates."""

    @property
    def steps(self) -> int:
        """Length in batches."""

    @property
    def max_minutes(self) -> float | None:
        """Length in time, if that is shorter."""

    @property
    def learning_rate(self) -> float:
        """The rate after the warm-up."""

    @property
    def warmup_steps(self) -> int:
        """Steps of linear rise at the beginning."""


def fraction_done(schedule: Schedule, step: int, seconds: float) -> float:
    """How much of the schedule is over, 0..1, by steps or by time, whichever is further."""
    by_time = seconds / (60 * schedule.max_minutes) if schedule.max_minutes is not None else 0.0
    return min(1.0, max(step / schedule.steps, by_time))


def rate_at(schedule: Schedule, step: int, fraction: float) -> float:
    """Linear rise over the warm-up, times half a cosine from 1 to 0 over the schedule."""
    rise = min(1.0, (step + 1) / max(1, schedule.warmup_steps))
    return schedule.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * fraction))


def seconds_left(schedule: Schedule, step: int, seconds: float, step_s: float) -> float:
    """Seconds left at ``step_s`` seconds a step."""
    by_steps = (schedule.steps - step) * step_s
    if schedule.max_minutes is None:
        return by_steps
    return max(0.0, min(by_steps, 60 * schedule.max_minutes - seconds))


def blend(before: Mapping[str, float], values: Mapping[str, float]) -> dict[str, float]:
    """Running averages of named numbers; one that is new starts with its first value."""
    mixed = {name: 0.95 * before[name] + 0.05 * value if name in before else value for name, value in values.items()}
    return {**before, **mixed}


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate, times ``pace`` in groups of weights that have one."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("pace", 1.0)


def shard_threads(threads: int | None) -> ThreadPoolExecutor:
    """A pool in which each thread works on one part of a batch, from cutting crops to gradients, on its own.

    One operation on two threads waits at every end for the slower one, and on a busy machine waiting was measured to
    cost five times the work. ``threads`` None is the number of processors.
    """
    return ThreadPoolExecutor(threads or os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,))


def sum_into(weight: Tensor, gradients: Sequence[Tensor]) -> None:
    """weight.grad = sum of gradients, laid out like the weight: the fused optimiser walks both in memory order."""
    if weight.grad is None:
        weight.grad = torch.empty_like(weight)
    weight.grad.copy_(gradients[0])
    for gradient in gradients[1:]:
        weight.grad.add_(gradient)


def sum_shards(weights: Sequence[Tensor], shards: Iterable[Sequence[Tensor]]) -> None:
    """Give each weight the sum of its gradients in all shards; a shard has one for each weight, in their order."""
    for weight, *gradients in zip(weights, *shards, strict=True):
        sum_into(weight, gradients)


def mean_terms(shards: Sequence[Mapping[str, float | Tensor]]) -> dict[str, float]:
    """The loss terms of a batch from those of its parts."""
    return {name: sum(float(terms[name]) for terms in shards) / len(shards) for name in shards[0]}


def check_finite(numbers: Iterable[float], step: int, out_dir: Path) -> None:
    """Raise TrainingError if a loss or the norm of a gradient is no number any more."""
    if not all(map(math.isfinite, numbers)):
        raise TrainingError(
            f"the loss is no longer a number at step {step}; the last checkpoint in {out_dir} is good",
            hint="start in a new folder with a smaller learning_rate, or look for damaged crops",
        )


def take_step(run: Run[Any], weights: Sequence[Tensor], total: float, descent: Descent, out_dir: Path) -> None:
    """Move ``weights`` by their gradients (clipped), and their average after them.

    Raises TrainingError, before anything moves, if ``total`` (the loss) or a gradient is no number.
    """
    norm = float(nn.utils.clip_grad_norm_(weights, descent.clip_norm))
    check_finite((total, norm), run.step, out_dir)
    run.optimizer.step()
    run.step += 1
    update_average(run, descent.ema)


def channels_last(networks: nn.Module) -> None:
    """Lay weights out by pixel."""
    # Measured on a CPU with AVX-512: 64 instead of 51 faces a second and thread. bfloat16 was slower (39): no AMX here.
    networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def keep_freed_memory() -> None:
    """Ask glibc to keep large freed blocks instead of returning them to the system after every operation.

    Each step allocates the same hundreds of megabytes; with two threads, fetching them anew as zeroed pages was
    measured to cost a third of the time. A no-op where the C library has no mallopt.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        m_trim_threshold, m_mmap_max, m_arena_max = -1, -4, -8  # malloc.h
        mallopt(m_arena_max, 1)  # other arenas are too small for such blocks and would not keep them
        mallopt(m_mmap_max, 0)
        mallopt(m_trim_threshold, 2**31 - 1)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write atomically; what JSON does not know becomes text."""
    write_atomic(path, json.dumps(value, indent=1, default=str).encode())


def claim_run(out_dir: Path, config: Mapping[str, Any] | None) -> None:
    """Make the folder a run's, with its settings in config.json; None leaves those that are there.

    Raises DataError as ``claim_folder`` does.
    """
    claim_folder(out_dir, CONFIG)
    if config is not None:
        write_json(out_dir / CONFIG, config)
