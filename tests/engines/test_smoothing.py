from __future__ import annotations

import math

import numpy as np
import pytest

from engines.smoothing import OneEuro

FPS = 30.0


def reference(values: list[float], rate: float, min_cutoff: float, beta: float, d_cutoff: float) -> list[float]:
    """The paper's algorithm for one number, written out."""
    out: list[float] = []
    speed = 0.0
    for x in values:
        if not out:
            out.append(x)
            continue
        alpha_d = 1 / (1 + rate / (2 * math.pi * d_cutoff))
        speed = alpha_d * (x - out[-1]) * rate + (1 - alpha_d) * speed
        alpha = 1 / (1 + rate / (2 * math.pi * (min_cutoff + beta * abs(speed))))
        out.append(alpha * x + (1 - alpha) * out[-1])
    return out


def test_equals_the_paper_element_by_element() -> None:
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(0, 1, (50, 3)), axis=0)
    smooth = OneEuro(1.2, 0.5, 2.0)
    got = np.array([smooth(v, i / FPS) for i, v in enumerate(values)])
    for column in range(3):
        np.testing.assert_allclose(got[:, column], reference(list(values[:, column]), FPS, 1.2, 0.5, 2.0), rtol=1e-12)


def test_the_unit_scales_speed_only() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, (30, 2))
    small, large = OneEuro(1.0, 3.0), OneEuro(1.0, 3.0)
    for i, v in enumerate(values):
        np.testing.assert_allclose(large(v * [100, 7], i / FPS, unit=[100, 7]), small(v, i / FPS) * [100, 7])


def test_first_value_passes_and_constant_stays() -> None:
    smooth = OneEuro(1.0, 0.0)
    for i in range(5):
        assert smooth([3.0], i / FPS) == 3.0


def test_step_response_of_the_low_pass_does_not_depend_on_the_frame_rate() -> None:
    """After one time constant a first-order low-pass has covered 63 % of a step."""
    for fps in (240.0, 960.0):
        smooth = OneEuro(1.0, 0.0)
        smooth([0.0], 0.0)
        tau = 1 / (2 * math.pi)
        for i in range(1, round(tau * fps) + 1):
            value = smooth([1.0], i / fps)
        assert value[0] == pytest.approx(1 - math.exp(-1), abs=0.02)


def test_time_that_stands_still_or_runs_back_changes_nothing() -> None:
    smooth = OneEuro(1.0, 1.0)
    smooth([0.0], 0.0)
    at = smooth([1.0], 0.1)
    assert smooth([5.0], 0.1) == at
    assert smooth([5.0], 0.05) == at


def test_reset_and_ownership() -> None:
    smooth = OneEuro(1.0, 1.0)
    given = np.zeros(2)
    first = smooth(given, 0.0)
    given += 9
    first += 9
    np.testing.assert_array_less(smooth([0.5, 0.5], 0.1), 0.6)
    smooth.reset()
    np.testing.assert_array_equal(smooth([7.0, 7.0], 0.2), [7, 7])
