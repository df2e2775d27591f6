"""What changes while training, and how it is kept across interruptions."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from engines import checkpoint
from engines.errors import TrainingError
from engines.network import PersonaDecoder, UniversalEncoder

STATE = "state"
"""The folder in a run's folder that holds everything needed to continue it."""
SHEET = "sheet.png"
"""The contact sheet in a run's folder."""


class SwapNetworks(nn.Module):
    """The encoder with its decoders, so that one optimiser, one average and one file hold them all."""

    def __init__(self, encoder: UniversalEncoder, decoders: Sequence[PersonaDecoder]) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoders = nn.ModuleList(decoders)

    def decoder(self, index: int) -> PersonaDecoder:
        """The decoder of the persona at ``index``."""
        found = self.decoders[index]
        if not isinstance(found, PersonaDecoder):
            raise TypeError(type(found).__name__)
        return found

    def decode(self, code: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(face, mask logits) of every persona for (N, C) codes."""
        return [decoder(code) for decoder in self.decoders]


@dataclass(frozen=True, slots=True)
class Companion:
    """A further network that learns along with an optimiser of its own, and is not averaged: a discriminator."""

    network: nn.Module
    optimizer: torch.optim.Optimizer


NetworksT = TypeVar("NetworksT", bound=nn.Module)


@dataclass(slots=True)
class Run(Generic[NetworksT]):
    """What changes while training, and what a checkpoint holds."""

    networks: NetworksT
    average: NetworksT
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    companions: Mapping[str, Companion] = field(default_factory=dict)
    """By name; names must not contain a dot."""
    facts: dict[str, float] = field(default_factory=dict)
    """Numbers that a stage remembers across interruptions."""


def new_run(
    networks: NetworksT, optimizer: torch.optim.Optimizer, companions: Mapping[str, Companion] | None = None
) -> Run[NetworksT]:
    """A run at its beginning: the average is a copy of the networks."""
    average = copy.deepcopy(networks).requires_grad_(requires_grad=False)
    return Run(networks, average, optimizer, companions=companions or {})


def lasting_settings(config: Any, operational: Sequence[str]) -> dict[str, Any]:
    """The settings (of a dataclass) that must not change between the parts of a run: all but ``operational``."""
    return {name: value for name, value in asdict(config).items() if name not in operational}


def digest(tensors: Iterable[Tensor]) -> str:
    """sha256 of the numbers of tensors, however they are laid out."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


@torch.no_grad()
def update_average(run: Run[Any], decay: float) -> None:
    """Running average of the weights; short at first, so that the first weights do not linger."""
    decay = min(decay, (1 + run.step) / (10 + run.step))
    for mean, weight in zip(run.average.parameters(), run.networks.parameters(), strict=True):
        mean.lerp_(weight, 1 - decay)


def save_run(run: Run[Any], state: Path, identity: Mapping[str, Any]) -> None:
    """Write everything that continues the run into folder ``state``; the previous state goes once this one is whole."""
    old = _states(state)
    stem = state / f"step-{run.step:08d}"
    tensors = {f"networks.{k}": v for k, v in run.networks.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in run.average.state_dict().items()}
    tensors |= _moments(run.optimizer, "optimizer.")
    for name, companion in run.companions.items():
        tensors |= {f"{name}.network.{k}": v for k, v in companion.network.state_dict().items()}
        tensors |= _moments(companion.optimizer, f"{name}.optimizer.")
    about = {"step": run.step, "seconds": run.seconds, "facts": run.facts, "identity": identity}
    checkpoint.save(stem, "training", tensors, about)
    for before in old:
        if before != stem:
            before.with_suffix(".json").unlink()
            before.with_suffix(".safetensors").unlink(missing_ok=True)


@torch.no_grad()
def resume_run(run: Run[Any], state_dir: Path, identity: Mapping[str, Any]) -> None:
    """Continue from the newest state in the folder, if there is one.

    Raises TrainingError when it is the state of another run, DataError when it is damaged.
    """
    stems = _states(state_dir)
    if not stems:
        return
    state = checkpoint.load(stems[-1], "training")
    if state.meta.get("identity") != json.loads(json.dumps(identity)):
        what = "data, personas or settings differ"
        raise TrainingError(f"{state_dir} holds another run ({what})", hint="choose a new folder")

    def part(name: str) -> dict[str, Tensor]:
        return {k.removeprefix(name): v for k, v in state.tensors.items() if k.startswith(name)}

    checkpoint.load_strict(run.networks, part("networks."), str(stems[-1]))
    checkpoint.load_strict(run.average, part("average."), str(stems[-1]))
    _restore_moments(run.optimizer, part("optimizer."))
    for name, companion in run.companions.items():
        checkpoint.load_strict(companion.network, part(f"{name}.network."), str(stems[-1]))
        _restore_moments(companion.optimizer, part(f"{name}.optimizer."))
    run.facts = {k: float(v) for k, v in state.meta.get("facts", {}).items()}
    run.step, run.seconds = int(state.meta["step"]), float(state.meta["seconds"])


def _moments(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """What an optimiser remembers of each weight, by ``prefix``, the weight's number and the memory's name."""
    states = optimizer.state_dict()["state"].items()
    return {f"{prefix}{index}.{k}": v for index, moments in states for k, v in moments.items()}


def _restore_moments(optimizer: torch.optim.Optimizer, stored: Mapping[str, Tensor]) -> None:
    """Give an optimiser its memory back; ``stored`` is from ``_moments``, without the prefix."""
    learning = [p for group in optimizer.param_groups for p in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in stored.items():
        index, name = key.split(".")
        weight = learning[int(index)]
        # The fused optimiser walks weights and moments in memory order, so both must be laid out alike.
        laid_out = torch.empty_like(weight).copy_(value) if value.shape == weight.shape else value
        moments.setdefault(int(index), {})[name] = laid_out
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})


def _states(state: Path) -> list[Path]:
    """Stems of the complete training states in a folder, oldest first."""
    return sorted(path.with_suffix("") for path in state.glob("step-*.json"))
