"""Which people in which states a data set holds. A plan is its seeds: the same plan is the same data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.gallery import gallery
from calibration.people.anime import Style
from calibration.people.footage import EXTRAS, CropOptions, extra_columns
from calibration.people.identity import RENDERER_VERSION, Identity, cast, random_identity
from engines.errors import SettingsError
from engines.faceset import DEFAULT_MARGIN, JPEG_QUALITY, FaceSetInfo, Role, Split
from engines.faceset_codec import PictureFormat

WEARER = "tomo"
"""The demo's wearer: in no data set, so that the demo shows somebody whom training never saw."""
_VALIDATION = 1 << 20
"""Offset of validation seeds, so that no training seed ever meets one."""
_PEOPLE = 2_000_000
"""Offset of the seeds of ``PeoplePlan``, beyond those of ``Plan``."""
_MOST = 1_000_000
"""People or states of one ``PeoplePlan``: the seeds of the next one begin there."""
_GALLERY = 1 << 60
"""Offset of the seeds of ``GalleryPlan``."""
GALLERY_EXTRAS = ("mesh", "expression", "gaze", "light", "props")


@dataclass(frozen=True)
class Part:
    """One person's share of the data set."""

    name: str
    role: Role
    split: Split
    who: Identity
    state_seeds: NDArray[np.int64]
    style: Style | None = None
    """How this person is drawn; None is the set's style."""


class SetPlan(Protocol):
    """What ``calibration.dataset.build_dataset`` renders."""

    def parts(self) -> Sequence[Part]:
        """Everybody in the set. Raises SettingsError for a plan that makes no sense."""

    def info(self) -> FaceSetInfo:
        """The set's description; equal descriptions are equal data."""

    def options(self) -> CropOptions:
        """How its crops are taken."""


@dataclass(frozen=True)
class Plan:
    """Sizes of a data set of paired footage. Every state is rendered on every persona and on some wearers."""

    seed: int = 0
    personas: tuple[str, ...] = ("vera", "kofi")
    wearers: int = 40
    states: int = 2400
    states_per_wearer: int = 75
    validation_wearers: int = 6
    validation_states: int = 90
    validation_states_per_wearer: int = 30

    def __post_init__(self) -> None:
        # Each seed owns 10,000 numbers, and all of them lie below the validation's.
        for name, most in (("seed", 99), ("wearers", 10_000), ("states", 10_000)):
            if not 0 <= getattr(self, name) <= most:
                raise SettingsError(f"{name} is {getattr(self, name)}", hint=f"choose something from 0 to {most}")

    def parts(self) -> Sequence[Part]:
        """Personas first, then training wearers, then wearers and states that training never sees."""
        base = self.seed * 10_000
        train = base + np.arange(self.states)
        held_out = _VALIDATION + base + np.arange(self.validation_states)
        people = cast()
        unknown = [name for name in self.personas if name not in people or name == WEARER]
        if unknown:
            names = ", ".join(sorted(people.keys() - {WEARER}))
            raise SettingsError(f"there is no persona {unknown[0]!r} to train", hint=f"choose among: {names}")
        all_states = np.concatenate([train, held_out])
        out = [Part(name, "persona", "train", people[name], all_states) for name in self.personas]
        for split, count, states, each, offset in (
            ("train", self.wearers, train, self.states_per_wearer, 0),
            ("val", self.validation_wearers, held_out, self.validation_states_per_wearer, _VALIDATION),
        ):
            for i in range(count):
                seed = base + offset + i
                rng = np.random.default_rng([seed, 104])
                pick = np.sort(rng.choice(states, min(each, len(states)), replace=False))
                role_split: Split = "train" if split == "train" else "val"
                out.append(Part(f"wearer-{seed}", "wearer", role_split, random_identity(seed), pick))
        return out

    def info(self) -> FaceSetInfo:
        """The set's description."""
        seeds = {
            "seed": self.seed,
            "wearers": self.wearers,
            "states": self.states,
            "states_per_wearer": self.states_per_wearer,
            "validation_wearers": self.validation_wearers,
            "validation_states": self.validation_states,
            "validation_states_per_wearer": self.validation_states_per_wearer,
        }
        origin = f"people-renderer {RENDERER_VERSION}; personas {' '.join(self.personas)}"
        return FaceSetInfo(origin, f"invented:{self.seed}", seeds)

    def options(self) -> CropOptions:
        """Crops of the default size; training uses no further truth."""
        return CropOptions()


@dataclass(frozen=True)
class PeoplePlan:
    """Every one of many identities in every one of many states, with all truth: any two people are a pair.

    Everybody is a wearer of the split "train" in the manifest; ``engines.torch_faceset`` holds people and states out.
    """

    seed: int = 0
    identities: int = 100
    states: int = 100
    size: int = 256
    """Side of the stored crops in pixels."""
    margin: float = DEFAULT_MARGIN
    """Side of the stored crops over side of the family's crop."""
    style: Style = "photo"
    clean: bool = False
    """Without the camera's noise, blur and codec, for training that adds its own."""
    picture: PictureFormat = "jpeg"
    quality: int = JPEG_QUALITY

    def __post_init__(self) -> None:
        limits: tuple[tuple[str, float, float], ...] = (
            ("seed", 0, 1 << 31), ("identities", 1, _MOST), ("states", 1, _MOST), ("size", 32, 2048),
            ("margin", 1.0, 3.0), ("quality", 1, 100),
        )  # fmt: skip
        for name, least, most in limits:
            if not least <= getattr(self, name) <= most:
                raise SettingsError(
                    f"{name} is {getattr(self, name)}", hint=f"choose something from {least:g} to {most:g}"
                )

    def parts(self) -> Sequence[Part]:
        """One part per identity, all with the same states."""
        base = _PEOPLE + self.seed * _MOST
        states = base + np.arange(self.states)
        seeds = range(base, base + self.identities)
        return [Part(f"person-{seed}", "wearer", "train", random_identity(seed), states) for seed in seeds]

    def info(self) -> FaceSetInfo:
        """The set's description."""
        return FaceSetInfo(
            origin=f"people-renderer {RENDERER_VERSION}",
            consent=f"invented:{self.seed}",
            seeds={
                "seed": self.seed,
                "identities": self.identities,
                "states": self.states,
                "first_seed": _PEOPLE + self.seed * _MOST,
                "clean": int(self.clean),
            },
            size=self.size,
            margin=self.margin,
            style=self.style,
            picture=self.picture,
            quality=self.quality,
            extras=EXTRAS,
            columns=extra_columns(),
        )

    def options(self) -> CropOptions:
        """As the fields say."""
        return CropOptions(self.size, self.margin, self.style, self.clean, EXTRAS)


@dataclass(frozen=True)
class GalleryPlan:
    """What the shipped weights learn from: the gallery's personas and many wearers, each in some of many states.

    Everybody's states are drawn apart, so that few pictures show many states: a shared trunk learns from all of them.
    Validation wearers and states are nobody's in training; every persona is rendered in all validation states.
    """

    seed: int = 0
    personas: tuple[str, ...] = ()
    """Names of ``gallery()``; empty takes all."""
    states: int = 2000
    states_per_persona: int = 600
    wearers: int = 330
    states_per_wearer: int = 40
    validation_wearers: int = 12
    validation_states: int = 96
    validation_states_per_wearer: int = 24
    size: int = 240
    """Side of the stored crops: the family's crop is 192 pixels of them, the small tier's picture."""

    def __post_init__(self) -> None:
        for name in ("states", "states_per_persona", "wearers", "states_per_wearer"):
            if not 1 <= getattr(self, name) < _MOST // 2:
                raise SettingsError(f"{name} is {getattr(self, name)}", hint="choose something from 1 to 499999")

    def parts(self) -> Sequence[Part]:
        """Personas first, then training wearers, then validation wearers."""
        known = gallery()
        names = self.personas or tuple(known)
        if unknown := [name for name in names if name not in known]:
            raise SettingsError(f"the gallery has no {unknown[0]!r}", hint=f"choose among: {', '.join(known)}")
        base = _GALLERY + self.seed * _MOST
        train = base + np.arange(self.states)
        held_out = base + _MOST // 2 + np.arange(self.validation_states)

        def some(of: NDArray[np.int64], count: int, *who: int) -> NDArray[np.int64]:
            rng = np.random.default_rng([self.seed, 108, *who])
            return np.sort(rng.choice(of, min(count, len(of)), replace=False))

        out = []
        for name in names:
            persona = known[name]
            states = np.concatenate([some(train, self.states_per_persona, 0, persona.who.seed), held_out])
            out.append(Part(name, "persona", "train", persona.who, states, persona.style))
        for i in range(self.wearers):
            who = random_identity(base + i)
            out.append(Part(f"wearer-{i:05d}", "wearer", "train", who, some(train, self.states_per_wearer, 1, i)))
        for i in range(self.validation_wearers):
            who = random_identity(base + _MOST // 2 + i)
            states = some(held_out, self.validation_states_per_wearer, 2, i)
            out.append(Part(f"unseen-{i:05d}", "wearer", "val", who, states))
        return out

    def info(self) -> FaceSetInfo:
        """The set's description."""
        seeds = {name: value for name, value in asdict(self).items() if name not in ("personas", "size")}
        return FaceSetInfo(
            origin=f"people-renderer {RENDERER_VERSION}, half of the meshes as Face Mesh sees them;"
            f" gallery {' '.join(self.personas or gallery())}",
            consent=f"invented:{self.seed}",
            seeds=seeds,
            size=self.size,
            style="mixed",
            extras=GALLERY_EXTRAS,
            columns={name: columns for name, columns in extra_columns().items() if name in GALLERY_EXTRAS},
        )

    def options(self) -> CropOptions:
        """Clean pictures: training adds the camera's faults, others each time.

        Half of the meshes are what Face Mesh sees, as it will live: it misses the points' truth by 2 % of the crop on
        average in rendered faces, an encoder that learned from the truth alone read expressions out of it that nobody
        made. One that learned from Face Mesh alone distrusts it, also on real faces, which it reads well. Validation
        faces are all as Face Mesh sees them.
        """
        return CropOptions(self.size, clean=True, extras=GALLERY_EXTRAS, seen_share=0.5)
