"""What training loops share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from engines.errors import DataError, TrainingError
from engines.loop import (
    blend,
    claim_run,
    fraction_done,
    mean_terms,
    rate_at,
    seconds_left,
    set_rate,
    sum_into,
    sum_shards,
    take_step,
    write_json,
)
from engines.run_state import digest, lasting_settings, new_run

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


def test_a_batch_is_the_sum_of_its_shards_and_its_terms_their_mean():
    weights = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(3))]
    sum_shards(weights, [(torch.ones(2), torch.ones(3)), (torch.ones(2), 2 * torch.ones(3))])
    assert [weight.grad.tolist() for weight in weights] == [[2, 2], [3, 3, 3]]
    with pytest.raises(ValueError, match="zip"):
        sum_shards(weights, [(torch.ones(2),)])
    assert mean_terms([{"a": 1.0, "b": torch.tensor(2.0)}, {"a": 2.0, "b": torch.tensor(4.0)}]) == {"a": 1.5, "b": 3.0}


def test_groups_may_have_a_pace():
    plain, fast = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = torch.optim.AdamW([{"params": [plain]}, {"params": [fast], "pace": 3.0}])
    set_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 1.5]


def test_a_step_moves_weights_counts_and_averages_or_does_nothing(tmp_path):
    network = torch.nn.Linear(2, 1, bias=False)
    run = new_run(network, torch.optim.SGD(network.parameters(), lr=1.0))
    weights = list(network.parameters())
    before = weights[0].detach().clone()
    assert torch.equal(run.average.weight, before)
    assert not run.average.weight.requires_grad
    descent = SimpleNamespace(clip_norm=1.0, ema=0.9)
    weights[0].grad = torch.tensor([[30.0, 40.0]])
    take_step(run, weights, 1.0, descent, tmp_path)
    assert run.step == 1
    moved = weights[0].detach().clone()
    assert torch.allclose(moved, before - torch.tensor([[0.6, 0.8]]))  # clipped to a norm of 1
    assert not torch.equal(run.average.weight, before)
    for total, gradient in ((float("nan"), 1.0), (1.0, float("inf"))):
        weights[0].grad = torch.full((1, 2), gradient)
        with pytest.raises(TrainingError, match="step 1") as caught:
            take_step(run, weights, total, descent, tmp_path)
        assert "learning_rate" in caught.value.hint
        assert torch.equal(weights[0], moved)
    assert run.step == 1


@dataclass(frozen=True)
class Settings:
    seed: int = 0
    threads: int = 1


def test_what_may_change_is_left_out():
    assert lasting_settings(Settings(), ("threads",)) == {"seed": 0}


def test_digests_are_of_numbers_not_of_their_layout():
    weight = torch.arange(24.0).reshape(1, 2, 3, 4)
    turned = weight.to(memory_format=torch.channels_last)
    assert digest([weight]) == digest([turned]) != digest([weight + 1])


def test_a_folder_becomes_a_runs(tmp_path):
    claim_run(tmp_path / "a", {"seed": 1})
    claim_run(tmp_path / "a", None)
    assert json.loads((tmp_path / "a" / "config.json").read_text()) == {"seed": 1}
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "file").write_text("")
    with pytest.raises(DataError, match="something else"):
        claim_run(tmp_path / "else", {})
