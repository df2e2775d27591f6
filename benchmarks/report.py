"""One page of everything that was measured: tables against budgets.toml, and plots, from the benchmarks' JSON lines.

    python benchmarks/report.py                                     results/*.jsonl -> results/index.html
    python benchmarks/report.py --lines runs/mine.jsonl --out runs/mine.html --machine two-cores-avx512

The plots are SVG inside the page, which therefore needs nothing else and can be sent to somebody. A bar is the median,
its line the range over the rounds, the mark the budget. Of equal cases the newest line counts.
"""

from __future__ import annotations

import argparse
import html
import json
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).resolve().parent
BUDGETS = HERE / "budgets.toml"
Row = dict[str, Any]
MORE_IS_BETTER = frozenset({"fps"})
_FIGURES = {
    "fps": "frames a second",
    "p50_ms": "capture to sink, p50, ms",
    "p99_ms": "capture to sink, p99, ms",
    "loop_cpu_ms": "processor time of the frame loop, ms",
    "core_percent": "% of one core, decoding included",
    "resident_mb": "resident, MB",
    "dropped_percent": "dropped, %",
}
_COLOURS = ("#4062bb", "#59c3c3", "#f45b69", "#e0a458", "#7f7caf", "#6b8f71")
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .25rem .7rem; text-align: right; }
td:first-child, th:first-child { text-align: left; } tr:nth-child(even) { background: #f4f5f8; }
.good { color: #1b7f3b; } .short { color: #b3261e; font-weight: 600; } .note { color: #666; }
svg { display: block; margin: .5rem 0 1.5rem; } svg text { font: 12px system-ui, sans-serif; fill: #222; }
"""


def read_lines(paths: list[Path]) -> list[Row]:
    """All JSON lines, oldest first. Lines that are none are told on standard error and left out."""
    rows = []
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                print(f"{path}:{number}: {error}", file=sys.stderr)
    return rows


def newest(rows: list[Row]) -> list[Row]:
    """Of equal cases the last one, in the order of their first."""
    found: dict[str, Row] = {}
    for row in rows:
        key = {name: row.get(name) for name in ("benchmark", "case", "tier", "fps", "through")}
        found[json.dumps(key if row["benchmark"] == "latency" else {"case": row.get("case", row["benchmark"])})] = row
    return list(found.values())


def budget_of(case: Row, budgets: list[Row]) -> Row:
    """The budget whose case says nothing that ``case`` does not say; {} where there is none."""
    for budget in budgets:
        if all(case.get(name) == value for name, value in budget["case"].items()):
            return budget
    return {}


def verdict(name: str, value: float, budget: float | None) -> str:
    """HTML of a figure, coloured by its budget."""
    if budget is None:
        return f"{value:g}"
    good = value >= budget if name in MORE_IS_BETTER else value <= budget
    sign = "≥" if name in MORE_IS_BETTER else "≤"
    word = "good" if good else "short"
    return f'<span class="{word}">{value:g}</span> <span class="note">{sign} {budget:g}</span>'


def title(case: Row) -> str:
    """For people."""
    how = f"at {case['fps']} fps" if case.get("pace") else "unpaced"
    return f"{case['tier']} {case['size']} {how}, {case.get('precision', '')}, {case.get('threads', 1)} thread"


def bars(rows: list[tuple[str, list[float], float | None]], unit: str) -> str:
    """SVG: one bar each from (label, [median, least, most], budget)."""
    left, width, step = 300, 420, 26
    most = max([value for _, values, _ in rows for value in values] + [b for _, _, b in rows if b is not None] + [1e-9])
    parts = []
    for k, (label, (middle, low, high), budget) in enumerate(rows):
        y, scale = k * step + 4, width / most
        parts.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{html.escape(label)}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{middle * scale:.1f}" height="18" fill="{_COLOURS[0]}"/>')
        parts.append(
            f'<line x1="{left + low * scale:.1f}" x2="{left + high * scale:.1f}" y1="{y + 9}" y2="{y + 9}" '
            'stroke="#222"/>'
        )
        if budget is not None:
            x = left + budget * scale
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 3}" y2="{y + 21}" stroke="#b3261e" stroke-width="2"/>'
            )
        parts.append(
            f'<text x="{left + max(middle, high, budget or 0.0) * scale + 6:.1f}" y="{y + 14}">{middle:g} {unit}</text>'
        )
    return f'<svg width="{left + width + 110}" height="{len(rows) * step + 8}" role="img">{"".join(parts)}</svg>'


def stacks(rows: list[tuple[str, dict[str, list[float]]]]) -> str:
    """SVG: processor time of the stages of each case, side by side in one bar."""
    left, width, step = 300, 420, 26
    most = max(sum(values[0] for values in stages.values()) for _, stages in rows)
    parts, names = [], list(rows[0][1])
    for k, (label, stages) in enumerate(rows):
        y, x = k * step + 24, float(left)
        parts.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{html.escape(label)}</text>')
        for number, name in enumerate(names):
            length = stages[name][0] * width / most
            fill = _COLOURS[number % len(_COLOURS)]
            parts.append(f'<rect x="{x:.1f}" y="{y}" width="{length:.1f}" height="18" fill="{fill}"/>')
            x += length
        parts.append(f'<text x="{x + 6:.1f}" y="{y + 14}">{sum(v[0] for v in stages.values()):.1f} ms</text>')
    for number, name in enumerate(names):
        x = left + number * 75
        parts.append(f'<rect x="{x}" y="2" width="12" height="12" fill="{_COLOURS[number % len(_COLOURS)]}"/>')
        parts.append(f'<text x="{x + 17}" y="13">{html.escape(name)}</text>')
    return f'<svg width="{left + width + 110}" height="{len(rows) * step + 30}" role="img">{"".join(parts)}</svg>'


def pipeline_part(rows: list[Row], budgets: list[Row]) -> list[str]:
    """The table, a plot of the rates and one of the stages."""
    if not rows:
        return []
    parts = ["<h2>The live path</h2>", "<table><tr><th>case</th>"]
    parts += [f"<th>{text}</th>" for text in _FIGURES.values()]
    parts.append("<th>load</th></tr>")
    rates, stages = [], []
    for row in rows:
        case = row["case"]
        budget = budget_of(case, budgets)
        cells = "".join(f"<td>{verdict(name, row[name][0], budget.get(name))}</td>" for name in _FIGURES)
        parts.append(f"<tr><td>{html.escape(title(case))}</td>{cells}<td>{row['load'][0]:g}</td></tr>")
        stages.append((title(case), row["stages_cpu_ms"]))
        if not case.get("pace"):
            rates.append((title(case), row["fps"], budget.get("fps")))
    parts.append("</table>")
    if rates:
        parts += ["<h3>Frames a second</h3>", bars(rates, "fps")]
    parts += ["<h3>Processor time of a frame, median of each stage</h3>", stacks(stages)]
    weights = sorted({row["weights"] for row in rows})
    parts.append(f'<p class="note">{html.escape(rows[-1]["machine"])}, {rows[-1]["cores"]} cores; weights: ')
    parts.append(f"{html.escape(', '.join(weights))}.</p>")
    return parts


def startup_part(rows: list[Row], budget: Row) -> list[str]:
    if not rows:
        return []
    row = rows[-1]
    found = [(kind, row[kind]["first_frame_s"], budget.get(f"{kind}_s")) for kind in ("warm", "cold")]
    cpu = ", ".join(f"{kind} {row[kind]['cpu_s'][0]:g} s" for kind in ("warm", "cold"))
    note = f'<p class="note">processor time: {cpu}; load {row["load"]}</p>'
    return ["<h2>From the command to the first swapped frame</h2>", bars(found, "s"), note]


def other_part(rows: list[Row]) -> list[str]:
    """Whatever else was measured, as it is."""
    parts = []
    for row in rows:
        flat = {name: value for name, value in row.items() if not isinstance(value, (dict, list))}
        cells = "".join(
            f"<tr><td>{html.escape(str(k))}</td><td>{html.escape(str(v))}</td></tr>" for k, v in flat.items()
        )
        parts.append(f"<h2>{html.escape(str(row['benchmark']))}</h2><table>{cells}</table>")
    return parts


def page(rows: list[Row], machine: Row) -> str:
    """The whole page."""
    rows = newest([row for row in rows if isinstance(row, dict) and "benchmark" in row])
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(str(row["benchmark"]), []).append(row)
    parts = ["<h1>personacam: what was measured</h1>", f"<p>{html.escape(machine.get('what', ''))}</p>"]
    parts += pipeline_part(kinds.pop("pipeline", []), machine.get("pipeline", []))
    parts += startup_part(kinds.pop("startup", []), machine.get("startup", {}))
    for found in kinds.values():
        parts += other_part(found)
    head = f'<meta charset="utf-8"><title>personacam: benchmarks</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=Path, nargs="*", help="JSON lines; default: results/*.jsonl")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "index.html")
    parser.add_argument("--machine", default="two-cores-avx512", help="class of machine in budgets.toml")
    arguments = parser.parse_args()
    machines = tomllib.loads(BUDGETS.read_text(encoding="utf-8"))["machines"]
    if arguments.machine not in machines:
        sys.exit(f"budgets.toml knows {', '.join(machines)}")
    paths = sorted((HERE / "results").glob("*.jsonl")) if arguments.lines is None else arguments.lines
    rows = read_lines(paths)
    if not rows:
        sys.exit("nothing was measured yet: bench_pipeline.py --matrix --out benchmarks/results/pipeline.jsonl")
    arguments.out.write_text(page(rows, machines[arguments.machine]), encoding="utf-8")
    print(arguments.out)


if __name__ == "__main__":
    main()
