"""Learned colours in the blender: fixed in a light that is known, as usual in any other, and no steps in between."""

import numpy as np
import pytest

from calibration.calibrate_colour import GAMMA, value_gains
from calibration.profile import Light
from engines.types import AlignedFace, Swap
from realtime.blend import BlendConfig, Blender
from realtime.light_blend import LightBlender

SIDE = 64
MASK = np.zeros((SIDE, SIDE), np.uint8)
MASK[8:56, 8:56] = 255


def swap(wearer, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    face = np.clip(np.full((SIDE, SIDE, 3), wearer, float) + rng.normal(0, noise, (SIDE, SIDE, 3)), 0, 255)
    own = np.clip(np.full((SIDE, SIDE, 3), (90, 120, 160), float) + rng.normal(0, 20, (SIDE, SIDE, 3)), 0, 255)
    return Swap(AlignedFace(0, face.astype(np.uint8), np.eye(2, 3)), own.astype(np.uint8), MASK)


def light(name, values, gain=(1.2, 1.0, 0.9)):
    face = tuple(float(v) for v in (np.array(values) / 255) ** GAMMA)
    return Light(name=name, persona="vera", face=face, gain=gain)


DAY, LAMP = (150, 150, 150), (60, 100, 140)


def levels(blender, swaps):
    """What becomes of the value 128, frame by frame."""
    out = []
    for one in swaps:
        gain, offset = blender.match_colour(one, MASK, 1 / 30)
        out.append(gain * 128 + offset)
    return np.array(out)


def test_a_known_light_has_a_fixed_match_whatever_passes():
    lit = light("day", DAY)
    # A hand of another colour is before the face for a third of a second each two seconds.
    swaps = [swap((70, 90, 200) if k % 60 > 50 else DAY, 6, k) for k in range(150)]
    fixed, usual = (
        levels(b, swaps) for b in (LightBlender(BlendConfig(), SIDE, lights=[lit]), Blender(BlendConfig(), SIDE))
    )
    assert np.allclose(fixed, 128 * value_gains(lit, 0.5))
    assert usual.std(axis=0).max() > 1.0, "the same frames move the per-frame match"


def test_another_light_is_faded_to_without_a_step():
    day, lamp = light("day", DAY), light("lamp", LAMP, (0.7, 0.9, 1.1))
    blender = LightBlender(BlendConfig(), SIDE, lights=[day, lamp])
    found = levels(blender, [swap(DAY)] * 40 + [swap(LAMP)] * 200)
    assert blender.light == lamp
    assert np.allclose(found[-1], 128 * value_gains(lamp, 0.5), atol=0.1)
    assert np.abs(np.diff(found, axis=0)).max() < 0.15 * np.abs(found[-1] - found[0]).max()


def test_a_light_that_is_not_known_is_matched_per_frame():
    blender, usual = (
        LightBlender(BlendConfig(), SIDE, lights=[light("day", (250, 60, 20))]),
        Blender(BlendConfig(), SIDE),
    )
    swaps = [swap(LAMP)] * 120
    assert np.allclose(levels(blender, swaps)[-1], levels(usual, swaps)[-1], atol=0.3)
    assert blender.light is None


@pytest.mark.parametrize("config", [BlendConfig(colour=False), BlendConfig(colour_strength=0.0)])
def test_no_colour_is_no_colour(config):
    blender = LightBlender(config, SIDE, lights=[light("day", DAY)])
    assert np.allclose(levels(blender, [swap(DAY)] * 3), 128)
