"""What enrollment may change of a trunk, by how many frames there are of a person.

    film    the person's vector alone: some thousand numbers, which eight frames cannot over-fit
    lora    the vector and a low-rank change of the trunk's weights
    full    all weights of the decoder that the vector folds to

Whatever may change, the decoder is a plain one: its weights are a differentiable function of the numbers that learn
(``Adaptation.weights``). Training runs that plain decoder and hands the gradients of its weights back through the
function, so what is trained is what is shipped, number for number, and threads share nothing but weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from engines.errors import SettingsError
from engines.film import FilmDecoder, LowRank, folded
from engines.network import PersonaDecoder

Mode = Literal["film", "lora", "full"]

FILM_BELOW = 20
"""With fewer frames only the vector: full tuning of 8 frames was measured to over-fit (MODEL.md, toy of 64 px)."""
FULL_ABOVE = 500
"""With more frames the whole decoder. 300 frames of three recordings, each in one light (bench_making): in other light
and on other people full tuning gave 19.5 dB, low rank 20.7 and the vector 22.2; the likeness goes the other way (dlib
distance to the person 0.39, 0.42 and 0.47, taken for the person in 100, 100 and 90 %). Held-out frames of its own do
not tell."""


def mode_for(frames: int) -> Mode:
    """What to train with so many frames of a person."""
    if frames < FILM_BELOW:
        return "film"
    return "lora" if frames <= FULL_ABOVE else "full"


class Adaptation(nn.Module):
    """The numbers that one mode may change, starting at a person's vector (F,). It does not hold the trunk."""

    def __init__(self, mode: Mode, trunk: FilmDecoder, start: Tensor, *, rank: int, seed: int) -> None:
        super().__init__()
        if start.shape != (trunk.film_size,):
            raise SettingsError(f"a vector of shape {tuple(start.shape)} does not fit this trunk",
                                hint=f"use one of {trunk.film_size} numbers that was trained with it")  # fmt: skip
        self.mode = mode
        if mode == "full":
            self.decoder = trunk.fold(start).requires_grad_(requires_grad=True)
        else:
            self.vector = nn.Parameter(start.detach().clone())
        if mode == "lora":
            self.low_rank = LowRank(trunk.trunk, rank, seed=seed).to(start.device)

    def weights(self, trunk: FilmDecoder) -> dict[str, Tensor]:
        """All parameters of the plain decoder by name; those that the mode moves carry gradients."""
        if self.mode == "full":
            return dict(self.decoder.named_parameters())
        plain = self.low_rank.changed(trunk.trunk) if self.mode == "lora" else dict(trunk.trunk.named_parameters())
        return folded(plain, trunk.sizes, self.vector)

    @torch.no_grad()
    def fold(self, trunk: FilmDecoder) -> PersonaDecoder:
        """The plain decoder of the moment, a copy."""
        plain = copy.deepcopy(trunk.trunk)
        plain.load_state_dict(self.weights(trunk))
        return plain


def best_start(
    trunk: FilmDecoder, people: Tensor | None, loss_of: Callable[[PersonaDecoder], float], candidates: Sequence[int]
) -> tuple[Tensor, int | None]:
    """The vector (F,) that an enrollment starts from, and its row of ``people`` (K, F), None for their mean.

    Of the mean and the rows ``candidates`` the one with the least ``loss_of(decoder)``. Without people it is zero:
    the bare trunk. Raises SettingsError for vectors of another trunk or numbers that are not finite.
    """
    device = trunk.trunk.head.weight.device
    if people is None:
        return torch.zeros(trunk.film_size, device=device), None
    check_people(trunk, people)
    people = people.detach().to(device, torch.float32)
    mean = people.mean(dim=0)
    if not candidates:
        return mean, None
    losses = {row: loss_of(trunk.fold(people[row])) for row in candidates}
    row = min(losses, key=losses.__getitem__)
    return (mean, None) if loss_of(trunk.fold(mean)) <= losses[row] else (people[row].clone(), row)


def check_people(trunk: FilmDecoder, people: Tensor) -> None:
    """Raise SettingsError unless ``people`` (K, F) are finite vectors of this trunk, at least one."""
    if people.ndim != 2 or people.shape[1] != trunk.film_size or not people.shape[0]:
        raise SettingsError(f"people's vectors of shape {tuple(people.shape)} do not fit this trunk",
                            hint=f"give (K, {trunk.film_size}) vectors that were trained with it")  # fmt: skip
    if not bool(torch.isfinite(people).all()):
        raise SettingsError("people's vectors hold numbers that are not finite", hint="use an earlier checkpoint")
