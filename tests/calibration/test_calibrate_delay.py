"""Delays that are known, through a simulated screen and camera: the code is shown, filmed and read."""

from functools import cache

import cv2
import numpy as np
import pytest

from calibration.calibrate_delay import (
    AUDIO_RATE,
    CLIP_FPS,
    CLIP_S,
    clicks_sound,
    delay_of,
    picture_late_by_s,
    schedule,
    sound_late_by_s,
    steps,
)
from calibration.time_code import COUNT, SIZE, CodeReader, draw_code
from engines.errors import DataError


@cache
def drawn(number):
    """As the camera sees it, in floats: the same for every exposure."""
    return cv2.warpPerspective(draw_code(number), ONTO, CAMERA, borderValue=(70, 60, 50))[..., 0].astype(np.float32)


CAMERA = (400, 300)
CORNERS = np.array([[0, 0], [SIZE[0], 0], [SIZE[0], SIZE[1]], [0, SIZE[1]]], np.float32)
PLACE = np.array([[30, 40], [370, 52], [360, 280], [42, 270]], np.float32)
ONTO = cv2.getPerspectiveTransform(CORNERS, PLACE)
NS = 1_000_000


def filmed(seen, rng):
    """As a poor camera gives it: blurred, dim, noisy, compressed."""
    seen = cv2.GaussianBlur(seen, (0, 0), 1.0) * 0.55 + 25 + rng.normal(0, 5, seen.shape)
    jpeg = cv2.imencode(".jpg", np.clip(seen, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    return cv2.imdecode(jpeg, cv2.IMREAD_COLOR)


def screen(seconds):
    """(number, ns) of what is shown when."""
    shown, at = [], 5 * NS
    for number, ms in enumerate(steps(), 8100):  # over the end of the counter
        shown.append((number, at))
        at += round(ms * NS)
        if at > seconds * 1e9:
            break
    return shown


def exposed(shown, begin_ns, exposure_ns, readout_ns):
    """The code during an exposure: each third of the rows a little later, each a blend of what was shown meanwhile."""
    starts = np.array([at for _, at in shown])
    out = np.zeros(CAMERA[::-1], np.float32)
    bounds = np.linspace(0, CAMERA[1], 4).astype(int)
    for k in range(3):
        for part in range(4):
            t = begin_ns + readout_ns * (k - 1) / 3 + exposure_ns * (part + 0.5) / 4
            number = shown[max(int(np.searchsorted(starts, t, "right")) - 1, 0)][0]
            out[bounds[k] : bounds[k + 1]] += drawn(number)[bounds[k] : bounds[k + 1]] / 4
    return out


@pytest.mark.parametrize(
    ("delay_ms", "exposure_ms", "fps"), [(37.0, 8.0, 30.0), (123.5, 20.0, 29.97), (250.0, 30.0, 25)]
)
def test_a_known_delay_is_found_within_5_ms(delay_ms, exposure_ms, fps):
    rng = np.random.default_rng(1)
    shown, reader, seen, unread = screen(3.2), CodeReader(), [], 0
    for k in range(64):
        begin = round((0.3 + k / fps) * 1e9)
        picture = exposed(shown, begin, exposure_ms * NS, 10 * NS)
        number = reader.read(filmed(picture, rng))
        unread += number is None
        # A frame's time is the middle of its exposure; USB makes single ones later.
        late = delay_ms + rng.exponential(1.0) - 1.0
        if number is not None:
            seen.append((number, begin + round((exposure_ms / 2 + late) * NS)))
    found = delay_of(shown, seen)
    assert abs(found.ms - delay_ms) < 5.0
    assert unread < 24
    assert found.error_ms < 2.5


def test_misread_numbers_and_held_up_frames_do_not_count():
    shown = screen(6)
    rng = np.random.default_rng(2)
    seen = [(n % COUNT, at + round(rng.uniform(0, 40) * NS) + 50 * NS) for n, at in shown[5:-5]]
    seen[3] = ((seen[3][0] + 1000) % COUNT, seen[3][1])
    seen[7] = (seen[7][0], seen[7][1] + 900 * NS)
    assert abs(delay_of(shown, seen).ms - (50 + 20 - 21)) < 5
    with pytest.raises(DataError, match="read in 9 frames"):
        delay_of(shown, seen[:10])


def test_every_number_is_read_and_two_blended_ones_give_one_of_both():
    reader = CodeReader()
    for number in (0, 1, 2, 4095, COUNT - 1, COUNT + 3):
        assert reader.read(draw_code(number)) == number % COUNT
    for number in range(3, COUNT - 1, 611):
        mixed = cv2.addWeighted(draw_code(number), 0.5, draw_code(number + 1), 0.5, 0)
        assert reader.read(mixed) in {number, number + 1, None}
    assert CodeReader().read(np.full((200, 300, 3), 90, np.uint8)) is None


def test_a_changed_cell_is_noticed():
    right = draw_code(1234)
    x, y = SIZE[0] // 2 - 20, SIZE[1] // 2
    wrong = right.copy()
    wrong[y - 80 : y, x - 20 : x + 20] = 255 - wrong[y - 80 : y, x - 20 : x + 20]  # a pair turned over
    reader = CodeReader()
    assert reader.read(right) == 1234
    assert reader.read(wrong) is None


@pytest.mark.parametrize("late_ms", [-20.0, 0.0, 83.0])
def test_picture_against_sound_of_a_recording(late_ms):
    plan = schedule()
    rng = np.random.default_rng(3)
    # A phone that began 4 s before a recording of 12 s, in a room with noise, steps and an echo.
    sound = clicks_sound(plan)[4 * AUDIO_RATE : 16 * AUDIO_RATE]
    echo = np.concatenate([np.zeros(2400, np.float32), sound[:-2400]])
    heard = (0.2 * sound + 0.08 * echo + rng.normal(0, 0.01, len(sound))).astype(np.float32)
    times = np.arange(0.02, 12, 1 / 29.97)  # a camera's rate, not quite half of the phone's
    at = np.floor((times + 4 - late_ms / 1000) * CLIP_FPS).astype(int)
    seen = [(int(plan.numbers[k]), float(t)) for k, t in zip(at, times, strict=True)]
    picture, found = picture_late_by_s(seen, plan)
    assert abs(1000 * (picture - sound_late_by_s(heard, AUDIO_RATE, plan)) - late_ms) < 5.0
    assert found.frames == len(seen)


def test_a_recording_without_clicks_is_refused():
    noise = np.random.default_rng(4).normal(0, 0.1, 8 * AUDIO_RATE).astype(np.float32)
    for sound in (noise, np.zeros(8 * AUDIO_RATE, np.float32), noise[:10]):
        with pytest.raises(DataError, match="clicks"):
            sound_late_by_s(sound, AUDIO_RATE, schedule())
    assert len(schedule().numbers) == CLIP_S * CLIP_FPS
