"""Who is in the gallery's data set, and in which states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.gallery import gallery
from calibration.people.identity import cast
from calibration.plan import WEARER, GalleryPlan, PeoplePlan, Plan
from engines.errors import SettingsError

SMALL = GalleryPlan(
    states=50, states_per_persona=20, wearers=6, states_per_wearer=10, validation_wearers=3, validation_states=8,
    validation_states_per_wearer=4,
)  # fmt: skip


def test_the_gallery_has_eight_filmed_and_two_drawn_people():
    people = gallery()
    assert [p.style for p in people.values()].count("photo") == 8
    assert [p.style for p in people.values()].count("anime") == 2
    assert all(name == p.name and p.title for name, p in people.items())
    assert len({p.who.seed for p in people.values()}) == 10
    assert cast()[WEARER].seed not in {p.who.seed for p in people.values()}


def test_validation_shares_neither_wearers_nor_states_with_training():
    parts = SMALL.parts()
    personas, train, val = (
        [p for p in parts if (p.role, p.split) == side]
        for side in (("persona", "train"), ("wearer", "train"), ("wearer", "val"))
    )
    assert (len(personas), len(train), len(val)) == (10, 6, 3)
    trained = {int(s) for p in train for s in p.state_seeds}
    held_out = {int(s) for p in val for s in p.state_seeds}
    assert not trained & held_out
    assert not {p.who.seed for p in train} & {p.who.seed for p in val}
    # Every validation pair has a truth in every persona; training pairs have one in some.
    assert all(held_out <= set(p.state_seeds.tolist()) for p in personas)
    assert all(len(set(p.state_seeds.tolist()) & trained) >= 5 for p in personas)
    assert all(len(np.unique(p.state_seeds)) == len(p.state_seeds) for p in parts)
    assert {p.name for p in personas if p.style == "anime"} == {"yuki", "ren"}


def test_plans_of_different_seeds_or_kinds_share_nobody():
    def seeds(plan, role):
        return {p.who.seed for p in plan.parts() if p.role == role}

    assert not seeds(SMALL, "wearer") & seeds(replace(SMALL, seed=1), "wearer")
    assert not seeds(SMALL, "wearer") & seeds(PeoplePlan(identities=50), "wearer")
    assert not seeds(SMALL, "wearer") & seeds(Plan(), "wearer")


def test_a_plan_is_the_same_each_time_and_its_description_tells_it():
    again = replace(SMALL)
    assert [p.state_seeds.tolist() for p in SMALL.parts()] == [p.state_seeds.tolist() for p in again.parts()]
    assert SMALL.info() == again.info()
    assert SMALL.info() != replace(SMALL, wearers=7).info()
    assert SMALL.info() != replace(SMALL, personas=("vera",)).info()


def test_what_makes_no_sense_is_refused():
    with pytest.raises(SettingsError, match="nobody"):
        replace(SMALL, personas=("nobody",)).parts()
    with pytest.raises(SettingsError, match="wearers"):
        replace(SMALL, wearers=0)
