"""What training loops share."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from engines.loop import blend, fraction_done, rate_at, seconds_left, sum_into, write_json

BY_STEPS = SimpleNamespace(steps=100, max_minutes=None, learning_rate=0.1, warmup_steps=10)
BY_TIME = SimpleNamespace(steps=100, max_minutes=1.0, learning_rate=0.1, warmup_steps=10)


def test_steps_or_time_whichever_is_further():
    assert fraction_done(BY_STEPS, 25, 1e9) == 0.25
    assert fraction_done(BY_TIME, 25, 30.0) == 0.5
    assert fraction_done(BY_TIME, 75, 30.0) == 0.75
    assert fraction_done(BY_TIME, 0, 90.0) == 1


def test_the_rate_rises_and_falls():
    rates = [rate_at(BY_STEPS, step, step / 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(rates[9], rel=0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == 0


def test_seconds_left():
    assert seconds_left(BY_STEPS, 90, 5.0, 2.0) == 20
    assert seconds_left(BY_TIME, 90, 55.0, 2.0) == 5
    assert seconds_left(BY_TIME, 90, 70.0, 2.0) == 0


def test_averages_keep_what_is_not_seen_now():
    assert blend({}, {"a": 1.0}) == {"a": 1.0}
    assert blend({"a": 1.0, "b": 3.0}, {"a": 2.0}) == {"a": pytest.approx(1.05), "b": 3.0}


def test_gradients_are_summed_in_the_weights_layout():
    weight = torch.nn.Parameter(torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last))
    parts = [torch.randn(2, 3, 4, 4) for _ in range(3)]
    sum_into(weight, parts)
    sum_into(weight, parts)  # replaces, does not add up
    assert torch.allclose(weight.grad, parts[0] + parts[1] + parts[2])
    assert weight.grad.is_contiguous(memory_format=torch.channels_last)


def test_json_takes_paths(tmp_path):
    write_json(tmp_path / "a.json", {"path": tmp_path})
    assert json.loads((tmp_path / "a.json").read_text()) == {"path": str(tmp_path)}
