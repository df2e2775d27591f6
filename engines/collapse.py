"""When an adversarial game is lost, and how one notices: the counters behind the GAN stage's "collapse" error.

Three signs, each of which alone ends a run: the critic's loss stays near zero (it wins every pair and teaches nothing
useful any more), the pictures' variance is gone (one face for every state, or one flat colour), the swap is much
further from the truth than it was before the stage. Counters live in ``Run.facts``, so an interruption does not reset
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engines.errors import TrainingError

_WON, _SAME, _START = "critic_won_steps", "no_variety_steps", "start_psnr_db:"


@dataclass(frozen=True, slots=True)
class CollapseLimits:
    """What counts as a collapse."""

    loss: float = 0.01
    """Discriminator loss near zero; log 2 = 0.693 is balance, 0.01 means ranking by margins of 4.6 and more."""
    loss_steps: int = 500
    """Consecutive steps below it."""
    variety: float = 0.1
    """Share of the true pictures' variance that must remain (``gan_losses.variety``)."""
    variety_steps: int = 50
    """Consecutive steps below it."""
    psnr_fall_db: float = 1.5
    """Largest loss of masked PSNR against the start, per persona."""


def watch_step(facts: dict[str, float], loss: float, variety: float, limits: CollapseLimits) -> None:
    """Count this step's signs in ``facts``. Raises TrainingError when one has lasted too long."""
    facts[_WON] = facts.get(_WON, 0) + 1 if loss < limits.loss else 0
    facts[_SAME] = facts.get(_SAME, 0) + 1 if variety < limits.variety else 0
    if facts[_WON] >= limits.loss_steps:
        raise _collapse(
            f"the discriminator's loss has been below {limits.loss} for {limits.loss_steps} steps",
            "larger r1 and r2, or a smaller discriminator_rate",
        )
    if facts[_SAME] >= limits.variety_steps:
        raise _collapse(
            f"the pictures have kept less than {limits.variety:.0%} of the true ones' variance for"
            f" {limits.variety_steps} steps",
            "a smaller adversarial weight or learning_rate",
        )


def remember_start(facts: dict[str, float], psnr_db: Mapping[str, float]) -> None:
    """Note each persona's masked PSNR before the stage; later calls change nothing."""
    for name, value in psnr_db.items():
        facts.setdefault(_START + name, value)


def start_psnr_db(facts: Mapping[str, float]) -> dict[str, float]:
    """What ``remember_start`` noted, by persona; empty before it."""
    return {key.removeprefix(_START): value for key, value in facts.items() if key.startswith(_START)}


def watch_scores(facts: Mapping[str, float], psnr_db: Mapping[str, float], limits: CollapseLimits) -> None:
    """Raises TrainingError when a persona's masked PSNR has fallen too far below its start."""
    for name, start in start_psnr_db(facts).items():
        if not psnr_db[name] > start - limits.psnr_fall_db:
            raise _collapse(
                f"{name} has fallen from {start:.2f} to {psnr_db[name]:.2f} dB in the mask",
                "a smaller adversarial weight or learning_rate",
            )


def _collapse(what: str, repair: str) -> TrainingError:
    return TrainingError(
        f"the adversarial game has collapsed: {what}; the last good weights are kept",
        hint=f"start in a new folder with {repair}",
    )
