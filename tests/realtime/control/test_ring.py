"""Preview pictures through shared memory: only on demand, the newest, never half of one."""

from __future__ import annotations

import subprocess
import sys
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pytest

from realtime.control.ring import BUSY_RATE_HZ, RATE_HZ, PreviewReader, PreviewWriter, halved, preview_size

STEP = int(1e9 / RATE_HZ)


@pytest.fixture
def both():
    writer = PreviewWriter((320, 180))
    reader = PreviewReader(writer.name)
    yield writer, reader
    reader.close()
    writer.close()


def grey(value: int) -> np.ndarray:
    return np.full((180, 320, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1280, 720), (640, 360)), ((1920, 1080), (960, 540)), ((3840, 2160), (960, 540)), ((640, 480), (640, 480)),
     ((100, 2163), (25, 540)), ((3, 2), (3, 2))],
)  # fmt: skip
def test_previews_are_halved_until_they_fit(size, expected):
    assert preview_size(size) == expected
    writer = PreviewWriter(size)
    reader = PreviewReader(writer.name)
    try:
        reader.ask("after")
        picture = np.full((size[1], size[0], 3), 7, np.uint8)
        picture[:, : size[0] // 2] = 201
        writer.offer(picture, 1, 0, covered=False)
        after = reader.newest().after
        assert after.shape == (expected[1], expected[0], 3)
        assert (after[:, : expected[0] // 2] == 201).all()
        assert (after[:, -(expected[0] // 2) :] == 7).all()
    finally:
        reader.close()
        writer.close()


def test_halving_is_the_mean_of_two_by_two():
    pixels = np.random.default_rng(1).integers(0, 256, (9, 14, 3), np.uint8)
    blocks = pixels[:8].reshape(4, 2, 7, 2, 3).astype(float).mean((1, 3))
    assert np.abs(halved(pixels) - blocks).max() <= 0.5


def test_nothing_is_made_unless_somebody_looks(both):
    writer, reader = both
    assert not writer.wanted(0)
    assert reader.newest() is None
    reader.ask("after")
    assert writer.wanted(0)
    writer.offer(grey(90), 7, 0, covered=False)
    assert not writer.wanted(10 * STEP)
    picture = reader.newest()
    assert (picture.index, picture.covered, picture.before) == (7, False, None)
    assert (picture.after == 90).all()
    assert reader.newest() is None


def test_the_rate_is_bounded_however_often_somebody_asks(both):
    writer, reader = both
    assert previews_of_a_second(writer, reader, 0) == RATE_HZ


def previews_of_a_second(writer, reader, begin_s):
    """Of 30 frames, each a little early or late."""
    made = writer.made
    for index in range(30):
        reader.ask("after")
        now = int((begin_s + index / 30 + 0.002 * (-1) ** index) * 1e9)
        if writer.wanted(now):
            writer.offer(grey(1), index, now, covered=False)
    return writer.made - made


def test_frames_that_need_all_the_time_leave_half_the_previews(both):
    writer, reader = both
    writer.hurry(busy=True)
    assert previews_of_a_second(writer, reader, 0) == BUSY_RATE_HZ
    writer.hurry(busy=False)
    assert previews_of_a_second(writer, reader, 5) == RATE_HZ


def test_nobody_looks_before_a_picture_can_be_there(both):
    writer, reader = both
    assert reader.due_s() == 0.0
    reader.ask("after")
    writer.offer(grey(1), 1, 0, covered=False)
    reader.newest()
    assert 0.02 < reader.due_s() <= 1 / RATE_HZ
    writer.hurry(busy=True)
    assert 0.11 < reader.due_s() <= 1 / BUSY_RATE_HZ


def test_split_holds_what_the_camera_saw_of_the_same_frame(both):
    writer, reader = both
    reader.ask("split")
    writer.offer(grey(90), 1, 0, covered=True)  # asked for while frame 1 was worked on: its pixels are gone
    assert reader.newest() is None
    assert writer.wanted(0)
    writer.offer_before(grey(200), 2)
    writer.offer(grey(91), 2, 0, covered=True)
    picture = reader.newest()
    assert (picture.before == 200).all()
    assert (picture.after == 91).all()
    assert picture.covered


def test_without_split_the_wearers_picture_is_not_in_the_memory(both):
    writer, reader = both
    reader.ask("after")
    writer.offer_before(grey(200), 3)
    writer.offer(grey(90), 3, 0, covered=False)
    other = SharedMemory(writer.name)
    assert 200 not in bytes(other.buf[128:])
    reader.ask("split")
    writer.offer_before(grey(200), 4)
    writer.offer(grey(90), 4, STEP, covered=False)
    assert 200 in bytes(other.buf[128:])
    for index in range(5, 8):
        reader.ask("after")
        writer.offer(grey(90), index, index * STEP, covered=False)
    assert 200 not in bytes(other.buf[128:])
    other.close()


def test_a_reader_that_ends_leaves_the_memory_to_the_writer(both):
    """Python before 3.13 frees a shared memory at the end of any process that looked at it."""
    writer, _ = both
    code = f"from realtime.control.ring import PreviewReader; PreviewReader({writer.name!r}).ask('after')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "leaked" not in done.stderr
    assert writer.wanted(0)
    PreviewReader(writer.name).close()


def test_foreign_memory_is_refused():
    memory = SharedMemory(create=True, size=4096)
    try:
        with pytest.raises(ValueError, match="too small"):
            PreviewReader(memory.name)
    finally:
        memory.close()
        memory.unlink()
