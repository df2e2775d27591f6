"""The choice is the measured best, with times that are known."""

import itertools

import numpy as np
import pytest

from calibration.calibrate_machine import MARGIN, TIERS, WARM_UP, Candidate, Measured, choose, machine_name, measure
from engines.errors import RuntimeFailure

A, B, C = (
    Candidate("tiny", "openvino", "f32"),
    Candidate("tiny", "openvino", "int8"),
    Candidate("base", "openvino", "f32"),
)


def brute_force(measured, fps):
    """The rule, said another way: by size, then by time."""
    running = [m for m in measured if not m.error]
    fit = [m for m in running if m.frame_ms <= MARGIN * 1000 / fps] or None
    if fit is None:
        return min(running, key=lambda m: m.network_ms).candidate
    size = max(TIERS.index(m.candidate.tier) for m in fit)
    return min((m for m in fit if TIERS.index(m.candidate.tier) == size), key=lambda m: m.network_ms).candidate


def test_the_choice_equals_the_measured_best():
    rng = np.random.default_rng(5)
    kinds = [Candidate(*x) for x in itertools.product(TIERS, ("openvino", "onnxruntime"), ("f32", "int8"))]
    chosen = set()
    for _ in range(300):
        times = np.exp(rng.uniform(0, 5, len(kinds)))  # further apart than FASTER
        measured = [
            Measured(c, float(t), float(t * 1.1 + 5), error="no" if rng.random() < 0.2 else "")
            for c, t in zip(kinds, times, strict=True)
        ]
        ordered = sorted(m.network_ms for m in measured)
        if any(b / a < 1.04 for a, b in itertools.pairwise(ordered)):
            continue
        fps = float(rng.choice([30, 70, 110, 240]))
        choice = choose(measured, fps)
        assert choice.candidate == brute_force(measured, fps)
        assert choice.holds == (choice.frame_ms <= MARGIN * 1000 / fps)
        chosen.add((choice.candidate.tier, choice.holds))
    assert len(chosen) >= 4, "the draw covers several outcomes"


def test_candidates_take_turns_and_warm_up_does_not_count():
    order, counts = [], {A: 0, B: 0}

    def opener(candidate, ms):
        def run():
            order.append(candidate)
            counts[candidate] += 1
            return 1000.0 if counts[candidate] <= WARM_UP else ms

        return lambda: run

    found = measure({A: opener(A, 8.0), B: opener(B, 2.0)}, other_ms=6.0, rounds=10)
    assert order[2 * WARM_UP :] == [A, B] * 10
    assert [(m.network_ms, m.frame_ms) for m in found] == [(8.0, 14.0), (2.0, 8.0)]
    assert choose(found, 30).candidate == B


def test_what_fails_is_listed_and_the_others_go_on():
    def broken():
        raise RuntimeFailure("no such device", hint="h")

    turns = itertools.count()

    def breaks_later():
        if next(turns) > WARM_UP + 2:
            raise RuntimeFailure("lost", hint="h")
        return 0.1

    found = measure({A: broken, B: lambda: lambda: 3.0, C: lambda: breaks_later}, other_ms=1.0, rounds=8)
    assert [m.error for m in found] == ["no such device", "", "lost"]
    assert choose(found, 30).candidate == B
    with pytest.raises(RuntimeFailure, match="no such device"):
        choose([found[0]], 30)


def test_a_hair_faster_is_not_faster_and_the_reasons_are_said():
    close = [Measured(A, 5.0, 10.0), Measured(B, 4.9, 9.9), Measured(C, 60.0, 66.0)]
    choice = choose(close, 30)
    assert choice.candidate == A
    assert "10.0 ms of the 26.7 ms" in choice.why
    assert "base, openvino f32 would take 66.0" in choice.why
    slow = choose(close, 240)
    assert not slow.holds
    assert "nothing holds 240" in slow.why
    assert choose(close, 10).candidate == C


def test_the_machine_has_a_name():
    assert "cores" in machine_name()
    assert machine_name("Card 9") == f"{machine_name()}, Card 9"
