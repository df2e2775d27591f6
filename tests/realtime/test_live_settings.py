"""From options to what the stages are set to, and what each of the newer ones does to a picture."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from engines.errors import DataError
from realtime.blend import BlendConfig, Blender
from realtime.config import Settings
from realtime.live_settings import blend_config, label_for, tracker_config
from realtime.swap import _stretched
from realtime.trace import Trace
from realtime.track import TrackerConfig


def test_what_a_run_begins_with_is_what_it_always_was():
    assert blend_config(Settings()) == BlendConfig()
    assert tracker_config(Settings()) == TrackerConfig()


def test_smoothing_is_a_matter_of_degree():
    calm, lively = (tracker_config(Settings(smoothing=value)) for value in (1.0, 0.1))
    assert calm.min_cutoff_hz < TrackerConfig().min_cutoff_hz < lively.min_cutoff_hz
    assert calm.noise > TrackerConfig().noise > lively.noise
    assert calm.moved > TrackerConfig().moved > lively.moved
    assert not tracker_config(Settings(smoothing=0.0)).smooth
    assert not tracker_config(Settings(smooth=False)).smooth


def test_a_real_persons_label_is_there_whatever_the_settings_say():
    off = Settings(label=False, label_position="bottom-left")
    assert label_for(off, "invented") is None
    assert label_for(off, "person").position == "bottom-left"


def test_the_mask_shrinks_and_grows():
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    areas = [int((Blender(BlendConfig(erode, 0), 64).soften(mask) > 127).sum()) for erode in (4, 0, -4)]
    assert areas == [24 * 24, 32 * 32, 40 * 40]
    blender = Blender(BlendConfig(0, 0), 64)
    blender.configure(BlendConfig(-4, 0))
    assert int((blender.soften(mask) > 127).sum()) == 40 * 40


def test_sharpening_adds_detail_and_keeps_the_level():
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(60, 200, (16, 16, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    before = pixels.copy()
    sharp = Blender(BlendConfig(sharpen=0.6), 64)._sharpened(pixels)
    steps = [np.abs(np.diff(picture.astype(int), axis=1)).sum() for picture in (sharp, pixels)]
    assert steps[0] > 1.2 * steps[1]
    assert abs(sharp.mean() - pixels.mean()) < 2
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("strength", [0.7, 1.0, 1.3])
def test_strength_stretches_codes_around_the_neutral_one(strength):
    mean = np.array([1.0, -2.0, 0.5], np.float32)
    manifest = SimpleNamespace(name="x", code_reference=SimpleNamespace(mean=tuple(mean)))
    gain, shift = np.array([1.1, 0.9, 1.0], np.float32), np.array([0.2, 0.0, -0.1], np.float32)
    code = np.array([0.3, 4.0, -1.0], np.float32)
    with_gain, with_shift = _stretched(manifest, gain, shift, strength)
    expected = mean + strength * (code * gain + shift - mean)
    np.testing.assert_allclose(code * with_gain + with_shift, expected, rtol=1e-5)


def test_a_persona_without_a_neutral_code_keeps_its_expression():
    manifest = SimpleNamespace(name="x", code_reference=None)
    ones, zeros = np.ones(3, np.float32), np.zeros(3, np.float32)
    assert _stretched(manifest, ones, zeros, 1.0) == (ones, zeros)
    with pytest.raises(DataError, match="cannot be changed"):
        _stretched(manifest, ones, zeros, 1.2)


def test_recent_durations_are_those_of_the_newest_frames():
    trace = Trace(capacity=50)
    for at in range(120):
        trace.add("total", int(1e6 * (100 if at < 100 else 10)))
    assert trace.recent(20)["total"] == (10.0, 10.0)
    assert trace.recent(40)["total"][1] == 100.0
    assert "swap" not in trace.recent()
