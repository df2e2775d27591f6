"""What decides how somebody looks before anything else: gender, age, origin, skin tone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.people.head.shape import RACES

Colour = tuple[float, float, float]
"""Linear RGB 0..1."""


@dataclass(frozen=True)
class Traits:
    """What the draws of one person have in common."""

    gender: float
    """0 female .. 1 male."""
    age: float
    """0 is 18 years, 1 is 80."""
    race: dict[str, float]
    """Shares that sum to 1."""
    melanin: float
    """0.1 very light .. 2.2 very dark."""

    @property
    def male(self) -> bool:
        """Which half of ``gender``."""
        return self.gender > 0.5

    @property
    def dark(self) -> bool:
        """Dark skin, which decides among hair styles and lip colours."""
        return self.melanin > 0.7

    @property
    def brown_only(self) -> bool:
        """Hair and eyes are black or brown."""
        return self.dark or self.race["asian"] > 0.5


def random_traits(rng: np.random.Generator) -> Traits:
    """Any gender, 18 to 80 years, all skin tones."""
    male = bool(rng.random() < 0.5)
    share = rng.dirichlet([0.3] * 3)
    tone = 0.16 * share[0] + 0.42 * share[1] + 1.6 * share[2]
    return Traits(
        gender=float(rng.uniform(0.86, 1.0) if male else rng.uniform(0.0, 0.14)),
        age=float(rng.beta(1.0, 1.6)),
        race={name: float(s) for name, s in zip(RACES, share, strict=True)},
        melanin=float(np.clip(tone * np.exp(rng.normal(0, 0.26)), 0.1, 2.2)),
    )
