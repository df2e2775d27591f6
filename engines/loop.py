"""What every training loop here shares: the schedule, summing gradients of shards, and memory that stays."""

from __future__ import annotations

import ctypes
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engines.files import write_atomic


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


def sum_into(weight: Tensor, gradients: Sequence[Tensor]) -> None:
    """weight.grad = sum of gradients, laid out like the weight: the fused optimiser walks both in memory order."""
    if weight.grad is None:
        weight.grad = torch.empty_like(weight)
    weight.grad.copy_(gradients[0])
    for gradient in gradients[1:]:
        weight.grad.add_(gradient)


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
