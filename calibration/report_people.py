"""Fresh people for the report: wearers with their cameras' faults, and the persona's true render of every state.

Each state is worn by one wearer and rendered on every persona. Seeds begin where no training plan's reach.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.gallery import GalleryPersona
from calibration.people.footage import CropOptions, shoot_crops
from calibration.people.identity import Identity, random_identity
from calibration.people.props.worn import Props
from calibration.people.render import Renderer
from calibration.people.state import State, random_state
from engines import geometry
from engines.errors import SettingsError
from engines.facemesh import FaceMesh, look
from engines.mesh_subset import crop_points
from engines.types import F32, F64, U8

WEARER_MARGIN, TRUTH_MARGIN = 2.0, 1.5
"""Sides of the rendered pictures over the family's crop, which is their middle to the pixel: Face Mesh wants a head."""
STILL_SIDE, STILL_MARGIN, STILL_FRAMES = 480, 2.5, 10
_STILL_MOST_YAW = 30.0
_REPORT = 1 << 61
"""Offset of the report's seeds; each seed of a report owns a million."""
_MOST = 1_000_000

Said = Callable[[str, int, int], None]
"""(what, done, in all)."""


@dataclass(frozen=True)
class ReportPlan:
    """Who is rendered. The same plan is the same pictures."""

    seed: int = 0
    wearers: int = 4
    frames: int = 40
    """States in all, shared out among the wearers."""

    def __post_init__(self) -> None:
        for name, least, most in (("seed", 0, 1 << 31), ("wearers", 1, 1000), ("frames", 1, 100_000)):
            if not least <= getattr(self, name) <= most:
                raise SettingsError(f"{name} is {getattr(self, name)}", hint=f"choose something from {least} to {most}")
        if self.frames < self.wearers:
            raise SettingsError(f"{self.wearers} wearers share {self.frames} frames", hint="ask for a frame each")

    def people(self) -> list[Identity]:
        """The wearers."""
        return [random_identity(self._base + i) for i in range(self.wearers)]

    def states(self) -> list[State]:
        """One a frame; frame i is wearer ``i % wearers``."""
        return [random_state(self._base + i) for i in range(self.frames)]

    @property
    def _base(self) -> int:
        return _REPORT + self.seed * _MOST


@dataclass(frozen=True)
class WornFrame:
    """One state as its wearer's webcam shows it."""

    wearer: int
    state: State
    picture: U8
    """(2S, 2S, 3) BGR: the crop is its middle."""
    crop: U8
    """(S, S, 3)"""
    landmarks: F32
    """(68, 2) the truth in the picture."""
    points: F32 | None
    """(127, 2) what Face Mesh sees, as fractions of the crop; None where it sees no face."""

    @property
    def props(self) -> bool:
        """Whether anything is worn or held."""
        return self.state.props != Props()


@dataclass(frozen=True)
class TrueFrame:
    """One state as the persona's decoder should paint it."""

    head: U8
    """(1.5 T, 1.5 T, 3) BGR: the crop is its middle."""
    mask: U8
    """(T, T) 0..255."""
    landmarks: F32
    """(68, 2) in the head's picture."""

    @property
    def crop(self) -> U8:
        """(T, T, 3)"""
        return middle(self.head, self.mask.shape[0])


def middle(picture: U8, size: int) -> U8:
    """The middle ``size`` x ``size`` pixels: a copy."""
    start = (picture.shape[0] - size) // 2
    return np.ascontiguousarray(picture[start : start + size, start : start + size])


def shoot_wearers(
    renderer: Renderer, facemesh: FaceMesh, plan: ReportPlan, crop_size: int, said: Said
) -> list[WornFrame]:
    """Every state on its wearer, for networks that take ``crop_size``; in the order of ``plan.states()``."""
    people, states = plan.people(), plan.states()
    options = CropOptions(round(crop_size * WEARER_MARGIN), WEARER_MARGIN)
    frames: dict[int, WornFrame] = {}
    for wearer, who in enumerate(people):
        own = range(wearer, len(states), len(people))
        shots = shoot_crops(renderer, who, [states[i] for i in own], as_persona=False, options=options)
        for i, shot in zip(own, shots, strict=True):
            mesh = look(facemesh, shot.pixels, shot.landmarks)
            points = None if mesh is None else _crop_points(mesh, shot.pixels.shape[0], crop_size)
            crop = middle(shot.pixels, crop_size)
            frames[i] = WornFrame(wearer, states[i], shot.pixels, crop, shot.landmarks, points)
            said("wearers", len(frames), len(states))
    return [frames[i] for i in range(len(states))]


def _crop_points(mesh: F64, side: int, crop_size: int) -> F32:
    shift = (side - crop_size) // 2
    return crop_points(mesh[:, :2], np.array([[1.0, 0, shift], [0, 1.0, shift]]), crop_size)


def shoot_truths(
    renderer: Renderer, persona: GalleryPersona, states: Sequence[State], swap_size: int, said: Said
) -> list[TrueFrame]:
    """``persona`` in every state, clean, without hair: what a perfect swap of side ``swap_size`` shows."""
    options = CropOptions(round(swap_size * TRUTH_MARGIN), TRUTH_MARGIN, persona.style)
    truths = []
    for shot in shoot_crops(renderer, persona.who, states, as_persona=True, options=options):
        truths.append(TrueFrame(shot.pixels, middle(shot.mask, swap_size), shot.landmarks))
        said(f"{persona.name}, truth", len(truths), len(states))
    return truths


def shoot_stills(renderer: Renderer, plan: ReportPlan, said: Said) -> list[list[U8]]:
    """For each wearer ten pictures of one state in which only the sensor's noise differs; a head in a small frame.

    The state is the wearer's first one within 30 degrees and without props, or their first.
    """
    states, people = plan.states(), plan.people()
    stills = []
    for wearer, who in enumerate(people):
        own = states[wearer :: len(people)]
        calm = [s for s in own if abs(s.yaw) <= _STILL_MOST_YAW and s.props == Props()]
        state = (calm or own)[0]
        noisy = [replace(state, noise_seed=state.noise_seed + k) for k in range(STILL_FRAMES)]
        options = CropOptions(STILL_SIDE, STILL_MARGIN)
        stills.append([s.pixels for s in shoot_crops(renderer, who, noisy, as_persona=False, options=options)])
        said("stills", len(stills), len(people))
    return stills


def landmarks_68(mesh: F64) -> F64:
    """(68, 2) iBUG points of what :func:`look` saw."""
    return np.asarray(geometry.points_68(mesh[:, :2], "mesh468"), np.float64)
