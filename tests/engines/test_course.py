"""A run on its way: when it ends, what it tells, and what time counts."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import torch

from engines.course import Course
from engines.run_state import new_run

SETTINGS = SimpleNamespace(
    steps=10, max_minutes=None, learning_rate=0.1, warmup_steps=0, batch=4, checkpoint_minutes=1.0, report_seconds=5.0
)


class Clock:
    """Stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def run():
    network = torch.nn.Linear(1, 1)
    return new_run(network, torch.optim.AdamW(network.parameters()))


def step(course, run, clock, seconds, terms=None):
    run.step += 1
    clock.now += seconds
    course.stepped(terms or {"total": 1.0})


def test_the_time_of_earlier_parts_counts_and_the_rate_is_of_this_one(run, clock):
    run.step, run.seconds = 4, 50.0
    course = Course(SETTINGS, SETTINGS, run, clock, None)
    assert course.images_per_s == 0
    step(course, run, clock, 2.0)
    assert (run.step, run.seconds, course.fraction) == (5, 52.0, 0.5)
    assert course.images_per_s == pytest.approx(4 / 2.0)


def test_it_ends_with_the_schedule_or_when_asked(run, clock):
    asked = threading.Event()
    course = Course(SETTINGS, SETTINGS, run, clock, None, asked)
    assert course.ended() is None
    asked.set()
    assert course.ended() == "interrupted"
    run.step = SETTINGS.steps
    assert course.ended() == "finished"


def test_what_is_told_and_when(run, clock, tmp_path):
    told = []
    course = Course(SETTINGS, SETTINGS, run, clock, told.append)
    rate = course.next_rate()
    step(course, run, clock, 3.0, {"total": 2.0})
    course.report(None, None)
    assert told == []  # too soon
    step(course, run, clock, 3.0, {"total": 1.0})
    course.report(None, None)
    (first,) = told
    assert (first.step, first.fraction, first.images_per_s, first.eta_s) == (2, 0.2, pytest.approx(4 / 3), 24.0)
    assert first.learning_rate == rate == pytest.approx(0.1)
    assert first.loss == {"total": pytest.approx(1.95)}
    step(course, run, clock, 1.0)
    course.report(None, None)
    assert len(told) == 1
    course.report({}, None)  # scores and sheets are news
    course.report(None, tmp_path)
    assert (told[1].scores, told[2].sheet) == ({}, tmp_path)


def test_a_checkpoint_is_due_by_the_time_that_was_not_spent_on_checkpoints(run, clock):
    kept = []

    def keep():
        clock.now += 1000
        kept.append(run.step)
        return "kept"

    course = Course(SETTINGS, SETTINGS, run, clock, None)
    found = []
    for _ in range(4):
        step(course, run, clock, 40.0)
        found.append(course.checkpoint_if_due(keep))
    assert (found, kept) == ([None, "kept", None, "kept"], [2, 4])


def test_ctrl_c_while_it_tells(run, clock):
    def interrupt(_):
        raise KeyboardInterrupt

    asked = threading.Event()
    gentle, plain = (Course(SETTINGS, SETTINGS, run, clock, interrupt, event) for event in (asked, None))
    for course in (gentle, plain):
        step(course, run, clock, 6.0)
    gentle.report(None, None)
    assert asked.is_set()
    with pytest.raises(KeyboardInterrupt):
        plain.report(None, None)
