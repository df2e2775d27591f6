"""Finding the mark in noise: where, how large, mirrored; and not finding it where it is not."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from engines import mark_detect
from engines.mark import tile
from engines.mark_detect import FOUND_P, Gathered, read

KEY, OTHER, NUMBER = bytes(range(32)), bytes(32), 0xDEADBEEF
HEIGHT, WIDTH = 240, 400


@pytest.fixture(autouse=True)
def few_sizes(monkeypatch):
    """The search over all sizes takes seconds."""
    monkeypatch.setattr(mark_detect, "SIZES", (0.98, 1.14))
    monkeypatch.setattr(mark_detect, "_SHAPES", 1)


def frames(strength, *, count=6, seed=0):
    """Smooth pictures that move, with grain, and the pattern on them."""
    rng = np.random.default_rng(seed)
    pattern = tile(KEY, NUMBER, HEIGHT)
    over = np.tile(pattern, (3, 5))[:HEIGHT, :WIDTH] * strength
    scene = cv2.resize(rng.uniform(40, 210, (14, 22)), (WIDTH + 100, HEIGHT + 60), interpolation=cv2.INTER_CUBIC)
    for k in range(count):
        part = scene[5 * k : 5 * k + HEIGHT, 9 * k : 9 * k + WIDTH]
        yield np.clip(np.rint(part + over + rng.normal(0, 2, part.shape)), 0, 255).astype(np.uint8)


def gathered(pictures, face=None):
    video = Gathered()
    for picture in pictures:
        video.add(np.ascontiguousarray(picture), face)
    return video


def test_the_number_is_read():
    reading, key = read(gathered(frames(2.0)), [OTHER, KEY])
    assert key == 1
    assert reading.found
    assert reading.number == NUMBER
    assert reading.bits_matched >= 60
    assert reading.p_value < 1e-12
    assert not reading.mirrored
    assert reading.size == pytest.approx(1.0, abs=0.01)


def test_it_is_read_mirrored_and_cut():
    def attacked():
        for picture in frames(2.5, count=8):
            part = picture[12 : HEIGHT - 12, 20 : WIDTH - 20]
            yield cv2.resize(part, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)[:, ::-1]

    reading, _ = read(gathered(attacked()), [KEY])
    assert reading.number == NUMBER
    assert reading.mirrored
    assert reading.size == pytest.approx(1 / 0.9, rel=0.01)


def test_the_face_alone_is_enough():
    """Smaller than two tiles, before a still background as rough as the picture can be."""
    still = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8)
    still = np.clip(6 * (cv2.GaussianBlur(still, (0, 0), 2).astype(int) - 127) + 127, 0, 255).astype(np.uint8)
    face = np.array([(150, 60), (250, 60), (250, 180), (150, 180)], np.float32)

    def replaced():
        for picture in frames(0.3, count=10):
            out = still.copy()
            out[60:181, 150:251] = picture[60:181, 150:251]
            yield out

    assert not read(gathered(replaced()), [KEY])[0].found
    reading, _ = read(gathered(replaced(), face), [KEY])
    assert reading.number == NUMBER
    assert reading.region == "face"


def test_waves_are_told_apart_in_a_window_smaller_than_a_tile():
    """Exact without noise: what the other waves leak into a sum is taken out again, also in a mirror."""
    plan = mark_detect.layout(KEY)
    side = len(tile(KEY, NUMBER, HEIGHT))
    pattern = np.tile(tile(KEY, NUMBER, HEIGHT), (3, 5))[:HEIGHT, :WIDTH]
    weight = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.ellipse(weight, (200, 120), (45, 55), 0, 0, 360, (1.0,), -1)
    truth = mark_detect.spectrum(plan, mark_detect.encode(NUMBER))

    def likeness(seen):
        return float((seen * np.conj(truth)).real.sum() / np.sqrt((np.abs(seen) ** 2).sum() * len(truth)))

    for flip in (False, True):
        picture = (pattern * weight)[:, ::-1] if flip else pattern * weight
        shape = weight[:, ::-1] if flip else weight
        waves = mark_detect._Waves(np.ascontiguousarray(picture, np.float32), np.ascontiguousarray(shape, np.float32))
        shift = np.exp(-2j * np.pi * plan.places[:, 1] * (WIDTH - 1) / side) if flip else 1.0
        mixed = waves.both(side, side, plan)[int(flip)] * shift
        apart = waves.apart(side, side, plan, mirrored=flip) * shift
        assert likeness(apart) > 0.98
        assert likeness(mixed) < 0.96


def test_a_known_number_is_found_in_less():
    """What is looked for among few is likelier to be meant than one of 2^32."""
    video = gathered(frames(0.035, count=4))
    alone, _ = read(video, [KEY])
    helped, _ = read(video, [KEY], [NUMBER, 1, 2, 3])
    assert helped.log_p < alone.log_p
    assert helped.number == NUMBER
    assert alone.number is None


def test_without_the_mark_nothing_is_found():
    plain = gathered(frames(0.0))
    other = gathered(frames(2.0, seed=4))
    for seed in range(2):
        secret = np.random.default_rng(seed).bytes(32)
        for video in (plain, other):
            reading, _ = read(video, [secret], range(100))
            assert not reading.found
            assert reading.number is None
            assert reading.log_p > math.log(FOUND_P) + 5


def test_the_bound_holds_for_pictures_made_to_fool_it():
    """A regular pattern of the mark's own wavelengths is no key's: strong waves, but with phases of their own."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    grating = 128 + 60 * np.sin(x / 1.1) * np.sin(y / 1.3) + 30 * np.sin((x + y) / 0.9)
    video = gathered([grating.astype(np.uint8)] * 3)
    for seed in range(2):
        assert not read(video, [np.random.default_rng(seed).bytes(32)])[0].found


def test_more_keys_and_more_pieces_cost_evidence():
    video = gathered(frames(2.0))
    one, many = read(video, [KEY])[0], read(video, [KEY, OTHER], pieces=50)[0]
    assert many.log_p == pytest.approx(one.log_p + math.log(100))


def test_pieces_add_up_and_other_shapes_are_left_out():
    first, second = gathered(frames(1.0, count=3)), gathered(frames(1.0, count=3))
    first.include(second)
    assert first.frames == 6
    first.include(gathered([np.zeros((60, 100), np.uint8)]))
    first.add(np.zeros((60, 100), np.uint8), None)
    assert first.frames == 6


def test_nothing_gives_nothing():
    assert read(Gathered(), [KEY]) is None
    assert read(gathered(frames(1.0, count=1)), []) is None
    blank, _ = read(gathered([np.zeros((HEIGHT, WIDTH), np.uint8)]), [KEY])
    assert not blank.found
