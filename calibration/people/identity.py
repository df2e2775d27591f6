"""Who somebody invented is: every number that makes one person, drawn from one seed.

Colours are linear RGB 0..1. Lengths are decimetres.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from calibration.people.face.complexion import BROWN_IRIS, Brow, Skin, random_brow, random_iris, random_skin
from calibration.people.hair.style import PRESETS, Beard, Hair, grey_mixed, random_beard, random_hair, random_pigment
from calibration.people.head.shape import head_model, macro_weights
from calibration.people.head.wardrobe import Wardrobe, random_wardrobe
from calibration.people.traits import Colour, random_traits

RENDERER_VERSION = 2
"""Part of every data set's description: raised when the same seeds would give another picture."""
_STREAM = 107
"""Of the random numbers of identities; not the version, so that a better shader does not exchange everybody."""


_SPREAD_DM = 0.026
"""How far a slider of one standard deviation moves the skin that it moves most."""


@dataclass(frozen=True)
class Identity:
    """One invented person."""

    seed: int
    gender: float
    """0 female .. 1 male."""
    age: float
    """0 is 18 years, 1 is 80."""
    weight: float
    race: dict[str, float]
    sliders: dict[str, float]
    """Local shape targets, 0..1."""
    skin: Skin
    hair: Hair
    brow: Brow
    iris: tuple[Colour, Colour]
    beard: Beard = field(default_factory=Beard)
    lash_length: float = 0.05
    lashes: int = 44
    wardrobe: Wardrobe = field(default_factory=Wardrobe)

    def shape_weights(self) -> dict[str, float]:
        """All shape targets of this person."""
        return macro_weights(self.gender, self.age, self.weight, self.race) | self.sliders

    def to_json(self) -> dict[str, Any]:
        """Plain values, for manifests and reports."""
        return asdict(self)


def _spread(name: str) -> tuple[float, float]:
    """Standard deviation and limit of a slider. A target's own range is 0..1."""
    folder, target = name.split("/")
    if not target.startswith("l-") and ("-trans-out" in target or "-angle-out" in target):
        return 0.04, 0.1  # these move one side against the other: faces are nearly symmetric
    # Small features vary as far as large ones do, which is what tells people apart.
    sigma = float(np.clip(_SPREAD_DM / head_model().reach(name), 0.14, 0.36))
    return (0.5 * sigma, 0.4) if folder in ("neck", "ears") else (sigma, min(0.75, 2.0 * sigma))


_REST = {"mouth/mouth-angles-up": (0.40, 0.16)}
"""Mean and spread of sliders whose middle is not 0: relaxed corners of the average mouth hang, and look sad."""


def _random_sliders(rng: np.random.Generator) -> dict[str, float]:
    pairs = head_model().sliders()
    shapes = [up for down, up in pairs if not down]
    # Two shapes of the head mixed; all seven together would be nobody's.
    sliders = {str(name): float(rng.uniform(0.1, 0.5)) for name in rng.choice(shapes, 2, replace=False)}
    for down, up in pairs:
        if down:
            sigma, limit = _spread(up)
            middle, sigma = _REST.get(up, (0.0, sigma))
            value = float(np.clip(rng.normal(middle, sigma), -limit, limit))
            if abs(value) > 0.02:
                sliders[up if value > 0 else down] = abs(value)
    return sliders


def random_identity(seed: int) -> Identity:
    """The invented person of a seed: any gender, 18 to 80 years, all skin tones. The same seed is the same person.

    Shape, skin, hair and clothes are drawn from streams of their own, so that a new hair style changes no face.
    """
    shape, face, head, clothes = (np.random.default_rng([seed, _STREAM, part]) for part in range(1, 5))
    t = random_traits(shape)
    pigment = random_pigment(head, t)
    colour = grey_mixed(pigment, t.age, head)
    return Identity(
        seed=seed,
        gender=t.gender,
        age=t.age,
        weight=float(shape.uniform(0.12, 0.9)),
        race=t.race,
        sliders=_random_sliders(shape),
        skin=random_skin(face, t),
        hair=random_hair(head, t, colour),
        beard=random_beard(head, t, colour),
        brow=random_brow(face, t, pigment, colour),
        iris=random_iris(face, t),
        lash_length=0.034 if t.male else 0.044,
        lashes=40 if t.male else 58,
        wardrobe=random_wardrobe(clothes),
    )


def cast() -> dict[str, Identity]:
    """The people with names: the shipped personas and the demo's wearer, chosen by hand rather than drawn."""
    return {
        "vera": Identity(
            seed=11, gender=0.04, age=0.05, weight=0.42, race={"caucasian": 1.0, "african": 0.05, "asian": 0.15},
            sliders={"head/head-oval": 0.5, "nose/nose-scale-horiz-decr": 0.35, "nose/nose-point-up": 0.3,
                     "mouth/mouth-upperlip-volume-incr": 0.4, "mouth/mouth-lowerlip-volume-incr": 0.35,
                     "chin/chin-triangle": 0.3, "eyes/l-eye-scale-incr": 0.35, "cheek/l-cheek-bones-incr": 0.35,
                     "eyes/l-eye-corner2-up": 0.35, "mouth/mouth-angles-up": 0.5},
            skin=Skin(0.19, 0.42, blush=0.7, freckles=0.6, moles=3, lip_blood=1.1, under_eye=0.15),
            hair=replace(PRESETS["long"], colour=(0.115, 0.047, 0.020), top=3.1, side=2.9, front=2.7, part=0.12,
                         wave=0.025),
            brow=Brow((0.11, 0.048, 0.024), 0.020, 0.022, 0.052), iris=((0.10, 0.19, 0.10), (0.20, 0.14, 0.05)),
            lash_length=0.046, lashes=62, wardrobe=Wardrobe("v_neck", (0.06, 0.13, 0.17), neckline=5.66),
        ),
        "kofi": Identity(
            seed=53, gender=0.98, age=0.72, weight=0.55, race={"caucasian": 0.15, "african": 1.0, "asian": 0.05},
            sliders={"head/head-rectangular": 0.4, "nose/nose-width3-incr": 0.35, "chin/chin-prominent-incr": 0.35,
                     "chin/chin-width-incr": 0.3, "eyes/l-eye-bag-incr": 0.35, "forehead/forehead-scale-vert-incr": 0.2,
                     "mouth/mouth-scale-horiz-incr": 0.25, "mouth/mouth-angles-up": 0.65},
            skin=Skin(1.3, 0.48, blush=0.2, moles=4, stubble=0.45, lip_blood=0.45, lip_melanin=0.0, under_eye=0.3,
                      oil=1.25),
            hair=replace(PRESETS["afro"], colour=(0.20, 0.195, 0.19), top=0.15, side=0.11, front=0.12, recede=0.08,
                         grey=0.3),
            brow=Brow((0.10, 0.095, 0.09), 0.030, -0.002, 0.06), iris=((0.045, 0.022, 0.010), (0.07, 0.035, 0.014)),
            lash_length=0.034, lashes=40,
            wardrobe=Wardrobe("shirt", (0.12, 0.05, 0.05), (0.2, 0.17, 0.15), neckline=5.76),
        ),
        "tomo": Identity(
            seed=23, gender=0.97, age=0.30, weight=0.58, race={"caucasian": 0.25, "african": 0.0, "asian": 1.0},
            sliders={"head/head-square": 0.4, "nose/nose-scale-horiz-incr": 0.2, "chin/chin-width-incr": 0.35,
                     "forehead/forehead-scale-vert-incr": 0.25, "mouth/mouth-scale-horiz-incr": 0.2,
                     "cheek/l-cheek-volume-incr": 0.2, "mouth/mouth-angles-up": 0.35},
            skin=Skin(0.45, 0.42, blush=0.4, moles=3, stubble=0.30, lip_blood=0.8, under_eye=0.3),
            hair=replace(PRESETS["crop"], colour=(0.020, 0.015, 0.012), sweep=0.7, fringe=0.4),
            brow=Brow((0.022, 0.017, 0.014), 0.028, 0.0, 0.06), iris=BROWN_IRIS, lash_length=0.036, lashes=42,
            wardrobe=Wardrobe("hoodie", (0.35, 0.34, 0.32), (0.12, 0.12, 0.13), neckline=5.75),
        ),
    }  # fmt: skip
