"""One thing is asked at a time, until it is seen or does not come."""

from __future__ import annotations

from calibration.coverage import BINS, Coverage
from calibration.guide import HOLD_S, PATIENCE_S, Guide


def test_a_prompt_stays_until_it_is_answered():
    coverage = Coverage(100)
    guide = Guide(coverage)
    first = guide.next(0.0)
    assert first == BINS[1][1].prompt  # the first required bin
    assert guide.next(PATIENCE_S - 1) == first
    coverage.counts[1] = coverage.wanted[1]
    assert guide.next(PATIENCE_S - 0.9) != first


def test_an_answer_at_once_still_leaves_time_to_read():
    coverage = Coverage(100)
    guide = Guide(coverage)
    first = guide.next(0.0)
    coverage.counts[1] = coverage.wanted[1]
    assert guide.next(HOLD_S / 2) == first
    assert guide.next(HOLD_S + 0.1) != first


def test_progress_keeps_a_prompt_and_silence_ends_it():
    coverage = Coverage(300)
    guide = Guide(coverage)
    first = guide.next(0.0)
    coverage.counts[1] += 1
    assert guide.next(PATIENCE_S - 1) == first
    assert guide.next(2 * PATIENCE_S - 2) == first
    assert guide.next(2 * PATIENCE_S) != first


def test_it_ends_for_somebody_who_does_nothing():
    guide, now, said = Guide(Coverage(100)), 0.0, []
    while (line := guide.next(now)) and now < 10_000:
        said.append(line)
        now += 1.0
    assert now < 2 * PATIENCE_S * len(BINS) + 100
    required = [b.prompt for _, b in BINS if b.required]
    assert set(said) == {b.prompt for _, b in BINS}
    wish = next(b.prompt for _, b in BINS if not b.required)
    assert said.index(wish) > max(said.index(prompt) for prompt in required)
