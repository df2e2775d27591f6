"""Calibration to the wearer: the formula, its limits, and files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engines.errors import DataError
from engines.wearer import (
    MAX_GAIN,
    MAX_SHIFT_SPREADS,
    TRUSTED_CODES,
    WearerCalibration,
    calibrate_codes,
    reference_codes,
)

C = 6


def spread_around(middle: np.ndarray, spread: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """(count, C) codes of which the RMS around ``middle`` is exactly ``spread``."""
    codes = np.random.default_rng(seed).normal(size=(count, len(middle)))
    return middle + codes / np.sqrt((codes**2).mean(0)) * spread


def wearer(offset: float = 0.0, spread: float = 1.0, count: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Neutral codes and all codes of somebody whose neutral code is at ``offset``."""
    middle = np.full(C, offset)
    return np.repeat(middle[None], 10, 0), spread_around(middle, np.full(C, spread), count)


MEAN, SPREAD = np.linspace(-1, 1, C), np.full(C, 1.0)


def test_the_neutral_code_goes_to_the_references_mean_and_deviations_are_stretched() -> None:
    neutral, codes = wearer(offset=0.5, spread=0.9)
    found = calibrate_codes(neutral, MEAN, SPREAD, codes)
    np.testing.assert_allclose(found.apply(neutral[0]), MEAN, atol=1e-6)
    expected = (1 / 0.9) ** (600 / (600 + TRUSTED_CODES))
    np.testing.assert_allclose(found.gain, expected, rtol=1e-5)
    before, after = codes[7] - neutral[0], found.apply(codes[7]) - found.apply(neutral[0])
    np.testing.assert_allclose(after, before * expected, atol=1e-5)


def test_a_wearer_like_the_reference_is_left_alone() -> None:
    middle = np.repeat(MEAN[None], 5, 0)
    found = calibrate_codes(middle, MEAN, SPREAD, spread_around(MEAN, SPREAD, 300))
    np.testing.assert_allclose(found.gain, 1, atol=1e-6)
    np.testing.assert_allclose(found.shift, 0, atol=1e-6)


@pytest.mark.parametrize(("spread", "gain"), [(0.01, MAX_GAIN), (50.0, 1 / MAX_GAIN)])
def test_gains_have_limits_and_neutral_still_fits(spread: float, gain: float) -> None:
    neutral, codes = wearer(offset=0.3, spread=spread)
    found = calibrate_codes(neutral, MEAN, SPREAD, codes)
    np.testing.assert_allclose(found.gain, gain, rtol=1e-6)
    np.testing.assert_allclose(found.apply(neutral[0]), MEAN, atol=1e-5)


def test_few_codes_change_the_range_less() -> None:
    gains = [float(calibrate_codes(*_given(wearer(spread=0.9, count=n))).gain[0]) for n in (1, 60, 5000)]
    assert 1 < gains[0] < 1.01
    assert gains[1] == pytest.approx((1 / 0.9) ** 0.5, rel=1e-5)
    assert gains[2] == pytest.approx(1 / 0.9, rel=2e-3)


def _given(codes: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, ...]:
    return codes[0], MEAN, SPREAD, codes[1]


def test_a_coordinate_that_never_moves_keeps_its_gain() -> None:
    neutral, codes = wearer(spread=0.9)
    codes[:, 2] = 0.0
    gain = calibrate_codes(neutral, MEAN, SPREAD, codes).gain
    assert gain[2] == 1
    assert gain[1] > 1.05


def test_a_neutral_code_far_away_is_moved_only_so_far() -> None:
    neutral, codes = wearer(offset=100.0)
    found = calibrate_codes(neutral, MEAN, SPREAD, codes)
    np.testing.assert_allclose(found.apply(neutral[0]), 100.0 - MAX_SHIFT_SPREADS, atol=1e-4)


def test_reference_codes_count_every_wearer_alike() -> None:
    long, short = wearer(offset=1.0, spread=3.0, count=500), wearer(offset=3.0, spread=4.0, count=5)
    mean, spread = reference_codes([long, short])
    np.testing.assert_allclose(mean, 2.0, rtol=1e-6)
    np.testing.assert_allclose(spread, np.sqrt((9 + 16) / 2), rtol=1e-6)
    assert mean.dtype == spread.dtype == np.float32
    assert calibrate_codes(wearer()[0], mean, spread, wearer()[1]).gain.shape == (C,)


def test_codes_that_make_no_sense_are_refused() -> None:
    neutral, codes = wearer()
    broken = codes.copy()
    broken[3, 1] = np.nan
    for given in (
        (neutral[:0], MEAN, SPREAD, codes),
        (neutral, MEAN, SPREAD, codes[:0]),
        (neutral[:, :3], MEAN, SPREAD, codes),
        (neutral, MEAN[:3], SPREAD, codes),
        (neutral, MEAN, SPREAD * 0, codes),
        (neutral, MEAN * np.nan, SPREAD, codes),
        (neutral, MEAN, SPREAD, broken),
    ):
        with pytest.raises(DataError):
            calibrate_codes(*given)
    with pytest.raises(DataError, match="no wearer"):
        reference_codes([])
    with pytest.raises(DataError, match="different sizes"):
        reference_codes([(neutral, codes), (neutral[:, :3], codes[:, :3])])


def calibration() -> WearerCalibration:
    rng = np.random.default_rng(0)
    return WearerCalibration(
        rng.uniform(0.8, 1.2, C).astype(np.float32), rng.normal(size=C).astype(np.float32), "a" * 64
    )


def test_round_trip(tmp_path: Path) -> None:
    path, written = tmp_path / "wearer.json", calibration()
    written.save(path)
    read = WearerCalibration.load(path)
    np.testing.assert_array_equal(read.gain, written.gain)
    np.testing.assert_array_equal(read.shift, written.shift)
    assert read.gain.dtype == read.shift.dtype == np.float32
    assert read.encoder_sha256 == "a" * 64
    assert [p.name for p in tmp_path.iterdir()] == ["wearer.json"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 2}, "format 2"),
        ({"gain": [1.0] * (C - 1)}, "no calibration"),
        ({"gain": [], "shift": []}, "no calibration"),
        ({"gain": [0.0] * C}, "zero or less"),
        ({"gain": [float("nan")] * C}, "not finite"),
        ({"shift": [1e300] * C}, "not finite"),
        ({"shift": [10**400] * C}, "damaged"),
        ({"shift": ["1"] * C}, "damaged"),
        ({"shift": [True] * C}, "damaged"),
        ({"shift": "1"}, "damaged"),
        ({"encoder_sha256": 5}, "damaged"),
        ({"further": 1}, "no calibration"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    path = tmp_path / "wearer.json"
    calibration().save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=reason):
        WearerCalibration.load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000])
def test_files_of_something_else_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wearer.json"
    path.write_bytes(content)
    with pytest.raises(DataError):
        WearerCalibration.load(path)
    with pytest.raises(DataError, match="cannot be read"):
        WearerCalibration.load(tmp_path / "missing.json")
