"""Aligned crops of one person in many states, with truth: the raw material of data sets.

The family's crop is stored with a margin, so that training can move and turn the picture without inventing pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.people.camera import Camera
from calibration.people.identity import Identity
from calibration.people.picture import Sensor
from calibration.people.render import Renderer
from calibration.people.state import State
from engines.faceset import DEFAULT_MARGIN, DEFAULT_SIZE


@dataclass(frozen=True)
class CropTruth:
    """One stored crop."""

    pixels: NDArray[np.uint8]
    """(S, S, 3) BGR."""
    mask: NDArray[np.uint8]
    """(S, S) 0..255: the swapped area."""
    landmarks: NDArray[np.float32]
    """(68, 2) in crop pixels."""
    pose: tuple[float, float, float]
    """Yaw, pitch, roll in degrees."""


def shoot_crops(renderer: Renderer, who: Identity, states: Sequence[State], *, as_persona: bool) -> Iterator[CropTruth]:
    """Crops of ``who`` in ``states``.

    As a persona the picture is clean and without hair strands: it is the target that a decoder learns, and the wearer
    keeps their own hair. As a wearer it has hair and sensor noise.
    """
    sensor = (
        Sensor(noise=0.0, softness_px=0.35, jpeg_quality=None) if as_persona else Sensor(noise=0.006, jpeg_quality=None)
    )
    actor = renderer.actor(who)
    try:
        for state in states:
            shot = renderer.shoot(
                actor,
                state,
                Camera(),
                crop_size=DEFAULT_SIZE,
                margin=DEFAULT_MARGIN,
                hair=not as_persona,
                sensor=sensor,
            )
            yield CropTruth(shot.pixels, shot.mask, shot.landmarks, (state.yaw, state.pitch, state.roll))
    finally:
        actor.close()
