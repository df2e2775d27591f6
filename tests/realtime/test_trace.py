"""Stage timing against numpy, with a fake clock."""

import json
import time

import numpy as np
import pytest
from rich.console import Console

from realtime.trace import STAGES, Trace


class FakeClock:
    def __init__(self):
        self.now_ns = 1_000

    def __call__(self):
        return self.now_ns


def test_percentiles_are_numpys():
    trace = Trace()
    durations = np.random.default_rng(0).integers(10_000, 90_000_000, 501)
    for duration in durations:
        trace.add("swap", int(duration))
    got = trace.summary()["stages_ms"]["swap"]
    for key, q in (("p50", 50), ("p95", 95), ("p99", 99), ("max", 100)):
        assert got[key] == pytest.approx(np.percentile(durations, q) / 1e6, abs=1e-3)
    assert got["n"] == 501


def test_a_stage_is_timed_also_when_it_raises():
    clock = FakeClock()
    trace = Trace(clock=clock)
    with trace.stage("detect"):
        clock.now_ns += 3_000_000

    def fail():
        with trace.stage("detect"):
            clock.now_ns += 5_000_000
            raise ValueError("no")

    with pytest.raises(ValueError):
        fail()
    got = trace.summary()["stages_ms"]["detect"]
    assert (got["p50"], got["max"], got["n"]) == (4.0, 5.0, 2)


def test_stages_may_be_nested_in_one_another():
    clock = FakeClock()
    trace = Trace(clock=clock)
    with trace.stage("total"):
        clock.now_ns += 1_000_000
        with trace.stage("blend"):
            clock.now_ns += 2_000_000
    summary = trace.summary()
    assert summary["latency_ms"]["max"] == 3.0
    assert summary["stages_ms"]["blend"]["max"] == 2.0


def test_the_ring_forgets_but_count_and_maximum_do_not():
    trace = Trace(capacity=4)
    for ms in (90, 1, 2, 3, 4):
        trace.add("send", ms * 1_000_000)
    got = trace.summary()["stages_ms"]["send"]
    assert (got["p50"], got["max"], got["n"]) == (2.5, 90.0, 5)


def test_frames_per_second_come_from_the_totals():
    clock = FakeClock()
    trace = Trace(clock=clock)
    assert trace.summary()["fps"] == 0.0
    for _ in range(31):
        clock.now_ns += 40_000_000
        trace.add("total", 7_000_000)
    assert trace.summary()["fps"] == 25.0
    assert trace.summary()["latency_ms"]["p95"] == 7.0


def test_the_summary_is_plain_json_of_the_agreed_shape():
    summary = json.loads(json.dumps(Trace().summary()))
    assert set(summary) == {"fps", "latency_ms", "stages_ms", "cpu_ms"}
    assert summary["cpu_ms"] == {}
    assert list(summary["stages_ms"]) == ["detect", "align", "swap", "blend", "mark", "send", "settle"]
    for row in (summary["latency_ms"], *summary["stages_ms"].values()):
        assert row == {"p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0, "n": 0}


def test_the_table_has_a_row_per_stage():
    trace = Trace()
    trace.add("swap", 12_340_000)
    console = Console(width=100, force_terminal=False)
    with console.capture() as captured:
        console.print(trace.table())
    text = captured.get()
    assert all(stage in text for stage in STAGES if stage != "total")
    assert "capture to sink" in text
    assert "12.34" in text


def test_an_unknown_stage_or_no_room_is_an_error():
    with pytest.raises(KeyError):
        Trace().stage("lunch")
    with pytest.raises(ValueError):
        Trace(capacity=0)


def test_processor_time_is_of_the_stage_alone_and_not_of_waiting():
    trace = Trace(cpu=True)
    with trace.stage("swap"):
        time.sleep(0.03)
    with trace.stage("blend"):
        deadline = time.thread_time() + 0.02
        while time.thread_time() < deadline:
            pass
    summary = trace.summary()
    assert summary["stages_ms"]["swap"]["p50"] >= 30
    assert summary["cpu_ms"]["swap"]["p50"] < 15
    assert 20 <= summary["cpu_ms"]["blend"]["p50"] < 40
    assert "total" not in summary["cpu_ms"]


def test_what_was_recorded_before_a_restart_does_not_count() -> None:
    clock = FakeClock()
    trace = Trace(clock=clock, cpu=True)
    for ms in (100, 3):
        with trace.stage("swap"):
            clock.now_ns += ms * 1_000_000
        trace.add("total", ms * 1_000_000)
        if ms == 100:
            trace.restart()
            assert trace.summary()["latency_ms"]["n"] == 0
    summary = trace.summary()
    assert (summary["stages_ms"]["swap"]["max"], summary["latency_ms"]["max"]) == (3.0, 3.0)
    assert summary["cpu_ms"]["swap"]["n"] == 1
    assert summary["fps"] == 0.0, "one frame has no rate"
