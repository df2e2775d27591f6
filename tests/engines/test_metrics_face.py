from __future__ import annotations

import numpy as np
import pytest

from engines.errors import SettingsError
from engines.metrics_face import correlation, identity_score, mean_or_none, nme_pct


def test_nme_counts_inner_points_by_eye_distance():
    truth = np.zeros((68, 2))
    truth[36], truth[45] = (10, 0), (60, 0)
    assert nme_pct(truth, truth) == 0
    assert nme_pct(truth + np.array([3, 4]), truth) == pytest.approx(10)
    jaw = truth.copy()
    jaw[:17] += 99
    assert nme_pct(jaw, truth) == 0
    with pytest.raises(SettingsError):
        nme_pct(truth, truth * 0)


def test_correlation():
    x = np.array([0.0, 1, 2, 5])
    assert correlation(x, 3 * x + 1) == pytest.approx(1)
    assert correlation(x, -x) == pytest.approx(-1)
    assert correlation(x[:2], x[:2]) is None
    assert correlation(x, x * 0) is None


def test_identity():
    gallery = np.array([[0.0, 0], [10, 0]])
    wearers = np.array([[0.0, 0.5], [10, 0.9], [1, 0], [0, 0.5]])
    #                 the persona itself; the other one; the wearer; near both, nearer to the persona
    results = np.array([[0.0, 0], [10, 0], [0.9, 0], [0, 0.2]])
    score = identity_score(results, np.array([0, 0, 0, 0]), wearers, gallery)
    assert score.retrieval_pct == 75
    assert score.leakage_pct == 25  # the third: 0.1 from the wearer, 0.9 from the persona
    assert score.near_wearer_pct == 75
    assert score.to_persona == pytest.approx((0 + 10 + 0.9 + 0.2) / 4)
    assert score.to_wearer == pytest.approx((0.5 + 0.9 + 0.1 + 0.3) / 4)
    with pytest.raises(SettingsError):
        identity_score(results[:0], np.zeros(0, int), wearers[:0], gallery)


def test_mean_of_what_is_finite():
    assert mean_or_none([1.0, float("inf"), 3.0]) == 2
    assert mean_or_none([float("nan")]) is None
    assert mean_or_none([]) is None
