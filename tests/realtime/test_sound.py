"""Sound keeps its place in time: drifting clocks, jittering times, lost samples."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from realtime.sound import RATE, SmoothTimes, SoundBlock, SoundTrack
from tests.realtime.listening import FakeMicrophone


def test_twenty_minutes_of_a_drifting_card_stay_in_place() -> None:
    """200 millionths would be 0.24 s by then."""
    rng = np.random.default_rng(0)
    times, rate, count = SmoothTimes(48_000), 48_000 * (1 + 2e-4), 1920
    worst = 0.0
    for block in range(round(1200 * rate / count)):
        true = block * count / rate
        placed = times.place(true + rng.uniform(-0.003, 0.003), count)
        if true > 20:
            worst = max(worst, abs(placed - true))
    assert worst < 0.002


def test_single_late_times_do_not_move_it_and_lost_samples_do() -> None:
    times, count = SmoothTimes(48_000), 960
    for block in range(500):
        late = 0.3 if block == 400 else 0.0
        placed = times.place(block * 0.02 + late, count)
        assert placed == pytest.approx(block * 0.02, abs=0.002)
    assert times.place(500 * 0.02 + 1.0, count, lost=True) == pytest.approx(11.0)  # said by the driver: at once
    after = [times.place(11.0 + 5.0 + block * 0.02, count) for block in range(1, 60)]
    assert after[-1] == pytest.approx(11.0 + 5.0 + 59 * 0.02, abs=0.001)  # not said: after half a second


def record(path: Path, microphone: FakeMicrophone, seconds: float, fill: bool = False) -> np.ndarray:
    """What a track of ``microphone`` alone sounds like, mono, at RATE."""
    with av.open(str(path), "w", format="mp4") as container:
        track = SoundTrack(container, microphone.rate, microphone.channels)
        packets = []
        for step in range(round(seconds * 25)):
            microphone.now_s = step / 25
            for block in microphone.read():
                packets += track.push(block, (block.captured_ns - 987_654_321_000) / 1e9)
            if fill:
                packets += track.fill(step / 25)
        packets += track.finish()
        for packet in packets:
            container.mux(packet)
    with av.open(str(path)) as container:
        return np.concatenate([sound.to_ndarray()[0] for sound in container.decode(audio=0)])


def claps_in(sound: np.ndarray) -> list[float]:
    loud = np.flatnonzero(np.abs(sound) > 0.3)
    return [float(group.mean()) / RATE for group in np.split(loud, np.flatnonzero(np.diff(loud) > 4800) + 1)]


@pytest.mark.parametrize(("rate", "drift"), [(8_000, 8e-4), (44_100, -8e-4)])
def test_a_card_whose_rate_is_off_is_resampled(tmp_path: Path, rate: int, drift: float) -> None:
    """By the end 48 ms too many or too few would have been written."""
    claps = [1.0, 20.0, 40.0, 59.0]
    microphone = FakeMicrophone(claps, rate=rate, drift=drift, jitter_s=0.002, block_s=0.04)
    sound = record(tmp_path / "out.mp4", microphone, 60.0)
    assert claps_in(sound) == pytest.approx(claps, abs=0.005)
    assert len(sound) / RATE == pytest.approx(60.0, abs=0.1)


def test_a_microphone_that_falls_silent_is_silence_of_that_length(tmp_path: Path) -> None:
    microphone = FakeMicrophone([1.0, 6.0], rate=16_000, deaf=(2.0, 5.0))
    sound = record(tmp_path / "out.mp4", microphone, 7.0, fill=True)
    assert claps_in(sound) == pytest.approx([1.0, 6.0], abs=0.005)


def test_pictures_never_wait_for_a_microphone_that_gives_nothing(tmp_path: Path) -> None:
    microphone = FakeMicrophone([], rate=16_000, deaf=(-1.0, 99.0))
    sound = record(tmp_path / "out.mp4", microphone, 4.0, fill=True)
    assert len(sound) / RATE >= 2.9
    assert np.abs(sound).max() == 0.0


def test_stereo_stays_stereo(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "out.mp4"), "w") as container:
        track = SoundTrack(container, 48_000, 2)
        left = np.zeros((4800, 2), np.float32)
        left[:, 0] = 0.5 * np.sin(np.arange(4800) / 20)
        packets = [p for i in range(10) for p in track.push(SoundBlock(left, 0), i * 0.1)] + list(track.finish())
        for packet in packets:
            container.mux(packet)
    with av.open(str(tmp_path / "out.mp4")) as container:
        planes = np.concatenate([sound.to_ndarray() for sound in container.decode(audio=0)], axis=1)
    assert planes.shape[0] == 2
    assert np.abs(planes[0]).mean() > 20 * np.abs(planes[1]).mean()
