"""One training over several processes, one per GPU, on one machine or many: what ``torchrun`` starts.

    torchrun --nproc-per-node 8 -m ...

Every process learns its own parts of the same batch; the gradients are summed over all, so that every process makes the
same step, and only rank 0 writes. Started without torchrun, a process is all there is and nothing here does anything.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import torch
import torch.distributed as dist
from torch import Tensor

from engines.errors import SettingsError, TrainingError

_BACKEND = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
"""Gradients go where they are; the few numbers that all must agree on always go by the processor."""


@dataclass(frozen=True, slots=True)
class Team:
    """The processes of one training, as one of them sees it."""

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def sum(self, gradients: Sequence[Tensor], values: Tensor) -> Tensor:
        """Sum gradients over all processes in place, in one message; returns ``values`` (n,) summed with them.

        Sums are the same to the last bit on every process.
        """
        if self.world == 1:
            return values
        bucket = torch.cat([*(g.reshape(-1) for g in gradients), values.to(self.device)])
        dist.all_reduce(bucket)
        start = 0
        for gradient in gradients:
            gradient.copy_(bucket[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()
        return bucket[start:]

    def told(self, numbers: Sequence[float]) -> list[float]:
        """Rank 0's numbers, on every process."""
        if self.world == 1:
            return list(numbers)
        message = torch.tensor(numbers, dtype=torch.float64)
        dist.broadcast(message, 0)
        return [float(x) for x in message]

    def anyone(self, *, here: bool) -> bool:
        """Whether it is so on any process."""
        if self.world == 1:
            return here
        count = torch.tensor(float(here))
        dist.all_reduce(count, dist.ReduceOp.MAX)
        return bool(count > 0)

    def check_equal(self, number: int, what: str) -> None:
        """Raise TrainingError on every process unless all have the same number."""
        if self.world == 1:
            return
        both = torch.tensor([number, -number], dtype=torch.int64)
        dist.all_reduce(both, dist.ReduceOp.MAX)
        if int(both[0]) != -int(both[1]):
            raise TrainingError(
                f"the processes disagree on {what}: {-int(both[1])} to {int(both[0])}",
                hint="data and run folder must be the same for all machines, on a shared disk",
            )


@contextmanager
def joined(device: str) -> Iterator[Team]:
    """Be a member of what torchrun started, or alone; ``device`` is "cpu" or "cuda".

    Raises SettingsError for a device that is not there, or when torchrun's environment is incomplete.
    """
    world, rank = _number("WORLD_SIZE", 1), _number("RANK", 0)
    if device not in _BACKEND:
        raise SettingsError(f"unknown device {device!r}", hint="choose cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("torch finds no CUDA device", hint="install the CUDA build of torch, or use the device cpu")
    own = torch.device(device, _number("LOCAL_RANK", 0)) if device == "cuda" else torch.device("cpu")
    if own.type == "cuda":
        torch.cuda.set_device(own)
    began = False
    if world > 1 and not dist.is_initialized():
        # Its functions keep the group of the moment of import as their default. Imported in a group (by the optimizer,
        # say), it keeps the group's threads alive into the interpreter's end, where they can abort the process.
        importlib.import_module("torch.distributed.nn")

        try:
            dist.init_process_group(_BACKEND[device])
        except (ValueError, RuntimeError) as error:
            raise SettingsError(
                f"this process cannot join the {world} that WORLD_SIZE names: {error}",
                hint="start with torchrun, or unset WORLD_SIZE",
            ) from error
        began = True
    try:
        yield Team(rank, world, own)
    finally:
        if began:
            dist.destroy_process_group()


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that a step is never torn; a second SIGINT ends at once.

    Outside of the main thread, which alone gets signals, nothing sets it.
    """
    asked = threading.Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    if value and not value.isdecimal():
        raise SettingsError(f"{name} is {value!r}", hint="start with torchrun, or unset it")
    return int(value or default)
