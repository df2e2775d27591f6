"""Colours from camera to persona, per light: what takes the persona's face to the light that the wearer sits in.

One gain per channel in linear light (von Kries 1902), learned from some seconds and then fixed. What is matched per
frame follows everything that happens in the picture - an opening mouth, a hand, the sensor's own noise - and so the
persona's skin would change with what the wearer says. A light is known again by the colour of the wearer's own face,
which changes with the lamp and the camera's exposure and hardly with anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.profile import Light
from engines.errors import DataError
from engines.types import F64, U8

GAMMA = 2.2
"""Of the pictures' values, in about: sRGB's curve without its foot. A gain in linear light is then a gain of the
values, of its 1 / GAMMA-th power, which the paste gets for free."""
MOST_GAIN = 2.5
"""Linear. More of it would be another face and not another light."""
SAME_LIGHT = 0.35
"""Two faces in one light differ by less, in the root mean square of the channels' logarithms: a lamp that is switched
moves them by 0.5 and more, a turned head by 0.1 to 0.2."""
LEAST_FRAMES = 20
_DARK = 1e-4


@dataclass(frozen=True, slots=True)
class Colours:
    """Of one frame, linear B, G, R 0..1: means inside the mask."""

    wearer: F64
    persona: F64


def linear_mean(pixels: U8, mask: NDArray[np.bool_]) -> F64:
    """(3,) mean of (H, W, 3) uint8 where ``mask`` (H, W), in linear light 0..1."""
    return np.asarray((_LINEAR[pixels[mask]]).mean(axis=0), np.float64)


_LINEAR: F64 = (np.arange(256) / 255.0) ** GAMMA


def learn_light(frames: Iterable[Colours], *, name: str, persona: str, made: str = "") -> Light:
    """One light, from some seconds of a still and visible face.

    The gain is the median over frames of wearer over persona, channel by channel. Raises DataError for too few frames
    or a picture too dark to tell.
    """
    seen = [frame for frame in frames if min(frame.wearer.min(), frame.persona.min()) > _DARK]
    if len(seen) < LEAST_FRAMES:
        raise DataError(
            f"the face was seen in {len(seen)} frames, {LEAST_FRAMES} are needed",
            hint="sit before the camera in the light of your stream, and look at it",
        )
    ratios = np.array([np.log(frame.wearer / frame.persona) for frame in seen])
    gain = np.exp(np.clip(np.median(ratios, axis=0), -np.log(MOST_GAIN), np.log(MOST_GAIN)))
    face = np.clip(np.median([frame.wearer for frame in seen], axis=0), 1e-3, 1.0)
    return Light(name=name, persona=persona, made=made, face=_three(face), gain=_three(gain))


def _three(values: NDArray[np.floating]) -> tuple[float, float, float]:
    b, g, r = (round(float(value), 5) for value in values)
    return b, g, r


def distance(light: Light, face: NDArray[np.floating]) -> float:
    """Between a light and the mean (3,) of a face now, linear: RMS of the channels' natural logarithms."""
    ratio = np.log(np.maximum(face, _DARK) / np.array(light.face))
    return float(np.sqrt(np.mean(ratio**2)))


def light_of(lights: Sequence[Light], face: NDArray[np.floating]) -> Light | None:
    """The light in which the wearer's face (3,), linear, looks so; None when it is none of them."""
    nearest = min(lights, key=lambda light: distance(light, face), default=None)
    return nearest if nearest is not None and distance(nearest, face) <= SAME_LIGHT else None


def value_gains(light: Light, strength: float) -> F64:
    """(3,) for the values 0..255 of the persona's picture: ``strength`` 0 leaves them, 1 matches fully."""
    return np.array(light.gain, np.float64) ** (strength / GAMMA)
