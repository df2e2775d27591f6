"""The pattern: its waves, and that it is the same everywhere."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from engines.errors import DataError
from engines.mark import MAX_RADIUS, RADII, layout, spectrum, tile, tile_side
from engines.mark_code import BITS, encode

KEY = bytes(range(32))


def test_a_key_gives_the_same_waves_on_every_machine():
    plan = layout(KEY)
    rounded = np.rint(np.angle(plan.waves) * 1e6).astype("<i8").tobytes() + plan.bit.astype("<i8").tobytes()
    assert hashlib.sha256(rounded).hexdigest()[:16] == "fa6995ec00daddf0"


def test_every_bit_has_as_many_waves():
    plan = layout(KEY)
    assert set(np.bincount(plan.bit[plan.bit >= 0], minlength=BITS)) == {3}
    assert (plan.bit < 0).sum() > 100


def test_the_tile_is_made_of_those_waves_and_no_others():
    pattern = tile(KEY, 7, 720)
    assert pattern.shape == (256, 256) == (tile_side(720),) * 2
    assert abs(pattern.mean()) < 1e-9
    assert pattern.std() == pytest.approx(1.0)
    seen = np.fft.fft2(pattern)
    y, x = np.meshgrid(*(np.fft.fftfreq(256, 1 / 256),) * 2, indexing="ij")
    outside = (np.hypot(x, y) < RADII[0] - 0.01) | (np.hypot(x, y) > RADII[1] + 0.01)
    assert np.abs(seen[outside]).max() < 1e-6
    plan = layout(KEY)
    found = seen[plan.places[:, 0], plan.places[:, 1]]
    np.testing.assert_allclose(found / np.abs(found), spectrum(plan, encode(7)), atol=1e-6)


def test_other_keys_and_other_numbers_are_other_patterns():
    def alike(a, b):
        return abs(float((a * b).mean()))

    one = tile(KEY, 7, 360)
    assert alike(one, tile(bytes(32), 7, 360)) < 0.2
    assert alike(one, tile(KEY, 7 ^ 0xFFFF, 360)) < 0.9
    assert alike(one, tile(KEY, 7, 360)) == pytest.approx(1.0)


def test_tiny_pictures_still_hold_all_waves():
    assert tile_side(16) > 2 * MAX_RADIUS
    assert np.isfinite(tile(KEY, 1, 16)).all()


def test_a_short_key_is_refused():
    with pytest.raises(DataError, match="32 bytes"):
        layout(b"short")
