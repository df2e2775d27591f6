"""The mark in the outgoing picture: where, how strong, steady, and in every swapped frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engines.mark import tile
from engines.mark_detect import Gathered, read
from realtime import mark
from realtime.mark import BLOCK, STRENGTHS, Marker, number_of

KEY, SESSION = bytes(range(32)), 0x0123456789ABCDEF
SIZES = [(1280, 720), (640, 360), (333, 217), (64, 48), (20, 18)]


def scene(width, height, seed=0):
    """Flat on the left, hair on the right."""
    rng = np.random.default_rng(seed)
    picture = cv2.resize(rng.integers(60, 200, (5, 8, 3)).astype(np.uint8), (width, height))
    rough = rng.integers(0, 256, (height, width - width // 2, 3)).astype(np.uint8)
    picture[:, width // 2 :] = cv2.GaussianBlur(rough, (0, 0), 1.5)
    return np.ascontiguousarray(picture)


@pytest.mark.parametrize("size", SIZES)
def test_the_kernel_adds_what_plain_numpy_adds(size):
    width, height = size
    marker = Marker(KEY, SESSION, size)
    for turn in range(6):
        picture = scene(width, height, turn)
        out = picture.copy()
        marker.draw(out)
        pattern = tile(KEY, number_of(SESSION), height)
        side = len(pattern)
        pattern = np.tile(pattern, (height // side + 1, width // side + 1))[:height, :width]
        strength = np.kron(marker._strength, np.ones((BLOCK, BLOCK), int))[:height, :width]
        added = np.rint(pattern * np.array(STRENGTHS)[strength])
        np.testing.assert_array_equal(out, np.clip(picture + added[:, :, None], 0, 255))


def test_white_and_black_are_clipped():
    for level in (0, 255):
        out = np.full((64, 64, 3), level, np.uint8)
        Marker(KEY, SESSION, (64, 64)).draw(out)
        assert np.abs(out.astype(int) - level).max() < 8


def test_flat_places_get_less_than_rough_ones():
    marker, picture = Marker(KEY, SESSION, (640, 360)), scene(640, 360)
    for _ in range(20):
        out = picture.copy()
        marker.draw(out)
    change = out.astype(int) - picture
    assert change[:, :300].std() == pytest.approx(STRENGTHS[0], abs=0.15)
    assert change[:, 340:].std() > 1.25 * STRENGTHS[0]


def test_it_is_weak_enough():
    """46 dB, even where all of the picture is rough; flat pictures 49."""
    rough = cv2.GaussianBlur(np.random.default_rng(2).integers(0, 256, (360, 640, 3)).astype(np.uint8), (0, 0), 1.5)
    for picture, least in ((rough, 46.0), (scene(640, 360), 47.0), (np.full((360, 640, 3), 128, np.uint8), 49.0)):
        marker = Marker(KEY, SESSION, (640, 360))
        for _ in range(20):
            out = picture.copy()
            marker.draw(out)
        assert cv2.PSNR(picture, out) >= least


def test_a_still_picture_gets_the_same_every_time_and_noise_moves_little():
    marker, picture = Marker(KEY, SESSION, (640, 360)), scene(640, 360)
    rng, last, changes = np.random.default_rng(1), None, []
    for k in range(40):
        noisy = np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
        marker.draw(noisy)
        if k >= 20:
            if last is not None:
                changes.append((marker._strength != last).mean())
            last = marker._strength.copy()
    assert np.mean(changes) < 0.005
    first, second = picture.copy(), picture.copy()
    for _ in range(8):
        marker.draw(picture.copy())
    marker.draw(first)
    for _ in range(3):
        marker.draw(picture.copy())
    marker.draw(second)
    np.testing.assert_array_equal(first, second)


def test_nothing_large_is_made_per_frame():
    import tracemalloc

    marker, picture = Marker(KEY, SESSION, (640, 360)), scene(640, 360)
    marker.draw(picture)
    tracemalloc.start()
    for _ in range(20):
        marker.draw(picture)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000


def test_another_size_is_laid_out_anew():
    marker = Marker(KEY, SESSION, (64, 48))
    out = scene(200, 100)
    marker.draw(out)
    assert marker._tiles.shape[1] == max(2 * 18 + 2, round(100 * 256 / 720))


def test_what_was_put_in_is_read_back(monkeypatch):
    monkeypatch.setattr("engines.mark_detect.SIZES", (0.99, 1.01))
    marker, video = Marker(KEY, SESSION, (640, 360)), Gathered()
    for k in range(6):
        picture = np.ascontiguousarray(np.roll(scene(640, 360), 7 * k, axis=1))
        marker.draw(picture)
        video.add(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)), None)
    reading, _ = read(video, [KEY])
    assert reading.number == number_of(SESSION) == 0x01234567


def test_the_kernels_are_warmed_up():
    mark.warm_up_mark()
    assert mark.add_pattern.signatures
