"""The draw of hair and beards."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.people.hair.style import PRESETS, random_beard, random_hair
from calibration.people.traits import random_traits

COUNT = 600


@pytest.fixture(scope="module")
def people():
    out = []
    for seed in range(COUNT):
        rng = np.random.default_rng(seed)
        t = random_traits(rng)
        out.append((t, random_hair(rng, t, (0.05, 0.03, 0.02)), random_beard(rng, t, (0.05, 0.03, 0.02))))
    return out


def test_the_same_seed_draws_the_same_hair(people):
    rng = np.random.default_rng(5)
    t = random_traits(rng)
    assert people[5] == (t, random_hair(rng, t, (0.05, 0.03, 0.02)), random_beard(rng, t, (0.05, 0.03, 0.02)))


def test_every_style_is_worn_with_and_without_fringe(people):
    assert {hair.style for _, hair, _ in people} == set(PRESETS)
    assert {beard.style for _, _, beard in people} == {"none", "moustache", "goatee", "short", "full"}
    long = [hair.fringe > 0 for _, hair, _ in people if hair.style == "long"]
    assert 0.2 < np.mean(long) < 0.6


def test_one_man_in_three_and_no_woman_has_a_beard(people):
    men = [beard.style != "none" for t, _, beard in people if t.male]
    assert 0.28 < np.mean(men) < 0.42
    assert all(beard.style == "none" for t, _, beard in people if not t.male)
    assert max(beard.length for _, _, beard in people) <= 0.6


def test_old_men_lose_hair_and_young_women_do_not(people):
    thin = [hair.thin > 0.3 for t, hair, _ in people if t.male and t.age > 0.5]
    assert np.mean(thin) > 0.15
    assert all(hair.thin == 0 and hair.recede == 0 for t, hair, _ in people if not t.male)


def test_few_are_dyed(people):
    vivid = [max(hair.tips or hair.colour) > 0.3 and hair.tips != hair.colour and _saturated(hair.tips or hair.colour)
             for _, hair, _ in people]  # fmt: skip
    assert 0.005 < np.mean(vivid) < 0.12


def _saturated(colour):
    return min(colour) < 0.35 * max(colour) and colour[0] < 4 * colour[1] + 10 * (colour[2] > 0.1)
