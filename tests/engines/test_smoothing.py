from __future__ import annotations

import math

import numpy as np
import pytest

from engines.smoothing import StillOrMoving, low_pass_weight

FPS = 30.0


def still(noise: float = 1.0, moved: float = 3.0, hz: float = 1.0, *, rows: bool = False) -> StillOrMoving:
    return StillOrMoving(hz, noise, moved, rows=rows)


def test_first_value_passes_and_constant_stays() -> None:
    smooth = still()
    for i in range(5):
        assert smooth([3.0], i / FPS) == 3.0


def test_noise_is_averaged_and_its_mean_kept() -> None:
    values = 5.0 + np.random.default_rng(0).uniform(-0.3, 0.3, (600, 4))
    smooth = still()
    got = np.array([smooth(v, i / FPS) for i, v in enumerate(values)])[60:]
    assert np.abs(np.diff(got, axis=0)).mean() < 0.2 * np.abs(np.diff(values, axis=0)).mean()
    assert np.abs(got.mean(axis=0) - 5.0).max() < 0.05


def test_what_leaves_the_noise_is_taken_at_once() -> None:
    smooth = still()
    smooth([0.0, 0.0], 0.0)
    np.testing.assert_array_equal(smooth([3.0, 100.0], 1 / FPS), [3.0, 100.0])


@pytest.mark.parametrize("speed", [0.5, 5.0, 20.0, 89.0, 500.0])
def test_the_lag_is_bounded_by_the_noise_and_not_by_the_speed(speed: float) -> None:
    smooth = still()
    lags = [speed * i / FPS - smooth([speed * i / FPS], i / FPS)[0] for i in range(300)]
    assert max(lags) < 3.0


def test_half_way_between_noise_and_moved_the_weight_is_half_way() -> None:
    smooth = still(noise=1.0, moved=3.0)
    smooth([0.0], 0.0)
    weight = low_pass_weight(1.0, 1 / FPS)
    assert smooth([2.0], 1 / FPS)[0] == pytest.approx(2.0 * (weight + (1 - weight) * 0.5))


def test_the_unit_scales_everything() -> None:
    values = np.random.default_rng(1).normal(0, 2, (30, 2))
    small, large = still(), still()
    for i, v in enumerate(values):
        np.testing.assert_allclose(large(v * [100, 7], i / FPS, unit=[100, 7]), small(v, i / FPS) * [100, 7])


def test_a_row_moves_as_one() -> None:
    alone, together = still(), still(rows=True)
    for smooth in (alone, together):
        smooth(np.zeros((2, 2)), 0.0)
    value = np.array([[0.1, 5.0], [0.1, 0.1]])
    assert together(value, 1 / FPS)[0].tolist() == [0.1, 5.0]
    assert alone(value, 1 / FPS)[0, 0] < 0.05
    assert np.abs(together(value, 2 / FPS)[1]).max() < 0.1


def test_step_response_of_the_low_pass_does_not_depend_on_the_frame_rate() -> None:
    """After one time constant a first-order low-pass has covered 63 % of a step."""
    for fps in (240.0, 960.0):
        smooth = still(noise=10.0, moved=20.0)
        smooth([0.0], 0.0)
        tau = 1 / (2 * math.pi)
        for i in range(1, round(tau * fps) + 1):
            value = smooth([1.0], i / fps)
        assert value[0] == pytest.approx(1 - math.exp(-1), abs=0.02)


def test_a_filter_goes_on_with_other_constants() -> None:
    tuned, fixed = still(), still()
    for smooth in (tuned, fixed):
        smooth([0.0], 0.0)
    tuned.tune(0.05, 1.0, 3.0)
    assert 0 < tuned([0.5], 0.1)[0] < 0.2 * fixed([0.5], 0.1)[0]


def test_time_that_stands_still_or_runs_back_changes_nothing() -> None:
    smooth = still()
    smooth([0.0], 0.0)
    at = smooth([1.0], 0.1)
    assert smooth([5.0], 0.1) == at
    assert smooth([5.0], 0.05) == at


def test_reset_and_ownership() -> None:
    smooth = still()
    given = np.zeros(2)
    first = smooth(given, 0.0)
    given += 9
    first += 9
    np.testing.assert_array_less(smooth([0.5, 0.5], 0.1), 0.6)
    smooth.reset()
    np.testing.assert_array_equal(smooth([7.0, 7.0], 0.2), [7, 7])
