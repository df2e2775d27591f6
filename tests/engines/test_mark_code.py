"""The code's distance, and that the decoder uses soft values."""

from __future__ import annotations

import numpy as np
import pytest

from engines import mark_code
from engines.mark_code import BITS, NUMBER_BITS, decode, encode, signs


def test_the_generator_polynomial_is_the_published_one():
    assert mark_code._bch_polynomial() == 0o1033500423  # BCH (63, 36), Lin and Costello, appendix C


def test_no_two_words_are_nearer_than_twelve():
    generator = mark_code._generator()
    low = (mark_code._flips()[1:].astype(int) @ generator % 2).sum(axis=1)
    random = np.random.default_rng(0).integers(0, 2, (20_000, NUMBER_BITS))
    random = random[random.any(axis=1)]
    assert min(low.min(), (random @ generator % 2).sum(axis=1).min()) == 12


@pytest.mark.parametrize("number", [0, 1, 0x12345678, (1 << 32) - 1])
def test_a_number_comes_back(number):
    found, word, lead = decode(signs(encode(number)))
    assert found == number
    assert (word == encode(number)).all()
    assert lead == 2 * 12  # the nearest other word differs in twelve bits


def test_eight_weak_bits_may_be_wrong_wherever_they_are():
    """More than half the distance: what is weak counts less."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        number = int(rng.integers(0, 1 << 32))
        soft = signs(encode(number))
        soft[rng.choice(BITS, 8, replace=False)] *= -0.5
        assert decode(soft)[0] == number


def test_soft_values_correct_more_than_hard_ones():
    """With noise of 0.7 about five bits are wrong on average, often seven or more."""
    rng, soft_right, hard_right = np.random.default_rng(2), 0, 0
    for _ in range(40):
        number = int(rng.integers(0, 1 << 32))
        soft = signs(encode(number)) + 0.75 * rng.standard_normal(BITS)
        soft_right += decode(soft)[0] == number
        hard_right += decode(np.sign(soft))[0] == number
    assert soft_right >= 38
    assert hard_right < soft_right - 5


@pytest.mark.parametrize("number", [-1, 1 << 32])
def test_other_numbers_are_refused(number):
    with pytest.raises(ValueError, match="32 bits"):
        encode(number)
