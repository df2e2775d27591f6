"""What the live path may cost: the budgets fit the benchmarks, and relations within one run hold on this machine.

Absolute times are for a quiet machine and benchmarks/report.py.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from realtime.config import Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
BUDGETS = tomllib.loads((ROOT / "benchmarks" / "budgets.toml").read_text(encoding="utf-8"))


def load(name):
    """A benchmark as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_budget_is_of_a_case_that_is_measured_and_the_other_way_round():
    report, bench = load("report"), load("bench_pipeline")
    for machine in BUDGETS["machines"].values():
        for budget in machine["pipeline"]:
            cases = [case for case in bench.GOALS if report.budget_of(case, [budget])]
            assert cases, budget
            assert set(budget) - {"case"} <= set(report._FIGURES)
    assert all({"tier", "size", "pace", "fps"} <= set(case) for cases in bench.CASES.values() for case in cases)


def line(fps, *, pace=False, p99=20.0, load=0.1):
    names = ("p50_ms", "loop_cpu_ms", "core_percent", "resident_mb", "dropped_percent")
    case = {"tier": "small", "size": "720p", "pace": pace, "fps": 30, "precision": "int8"}
    return {name: [1.0, 0.5, 2.0] for name in names} | {
        "benchmark": "pipeline", "case": case,
        "fps": [fps, fps, fps], "p99_ms": [p99] * 3, "stages_cpu_ms": {"detect": [1.0] * 3, "swap": [2.0] * 3},
        "load": [load] * 3, "weights": "random", "machine": "a <b> machine", "cores": 2,
    }  # fmt: skip


def test_the_report_shows_what_falls_short(tmp_path):
    report = load("report")
    startup = {"benchmark": "startup", "load": 0.1} | {
        kind: {"first_frame_s": [value, value, value], "cpu_s": [value] * 3}
        for kind, value in (("warm", 2.0), ("cold", 9.0))
    }
    lines = tmp_path / "some.jsonl"
    rows = [line(70.0), line(30.0, pace=True, p99=40.0), startup, line(50.0), {"benchmark": "latency", "p50_ms": 9.5}]
    lines.write_text("\n".join(map(json.dumps, rows)) + "\nno json\n")
    page = report.page(report.read_lines([lines]), BUDGETS["machines"]["two-cores-avx512"])
    assert '<span class="short">50</span> <span class="note">≥ 60</span>' in page
    assert '<span class="good">70' not in page, "of equal cases the newest counts"
    assert '<span class="short">40</span> <span class="note">≤ 28</span>' in page
    assert "a &lt;b&gt; machine" in page
    assert "9.5" in page
    assert page.count("<svg") == 3


@pytest.mark.slow
def test_ratios_within_one_run():
    """Processor time of one run: the parts that are not neural against the smallest network."""
    from realtime.session import run_session
    from realtime.trace import Trace

    settings = Settings(source="demo", sink=("null",), frames=240, precision="f32")
    cpu_ms = run_session(settings, say=lambda _: None, trace=Trace(cpu=True)).report["cpu_ms"]
    rest = sum(cpu_ms[name]["p50"] for name in ("align", "blend", "mark", "send"))
    assert rest < BUDGETS["ratios"]["rest_over_tiny_network"] * cpu_ms["swap"]["p50"]


@pytest.mark.slow
def test_int8_pays_where_the_processor_has_it(tmp_path):
    from engines.runtimes.openvino import openvino_core

    if "INT8" not in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("OpenVINO knows no int8 on this processor")
    info = Path("/proc/cpuinfo")
    if not info.exists() or "avx512_vnni" not in info.read_text():
        pytest.skip("no AVX-512 VNNI: int8 has no unit of its own")
    from engines.persona import read_persona
    from realtime.precision_worker import judge
    from realtime.session import persona_store, wearer_crops

    persona = read_persona(persona_store().find("vera"))
    verdict, _ = judge(persona, *wearer_crops(persona.manifest.crop_size))
    assert verdict["precision"] == "int8"
    assert verdict["ms"]["f32"] > BUDGETS["ratios"]["int8_speedup"] * verdict["ms"]["int8"]
