"""The table of measures as Markdown, from the reports of one or more tiers.

python benchmarks/table.py runs/report/report.json
python benchmarks/table.py runs/report-tiny/report.json runs/report-small/report.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from calibration.report_page import verdicts


def cell(value: float | None, *, passed: bool | None) -> str:
    if value is None:
        return "not measured"
    number = f"{value:.3f}" if abs(value) < 2 else f"{value:.2f}"
    return number if passed else f"{number} (short)"


def table(reports: list[dict[str, Any]]) -> str:
    """A row for each measure, a column for each report."""
    names = [f"{r['tier']}, seed {r['seed']}" for r in reports]
    rows = [["measure", *(f"target {n}" if len(reports) > 1 else "target" for n in names), *names]]
    rows.append(["---"] * len(rows[0]))
    rows += [
        [lines[0][0], *(line[1] for line in lines), *(cell(line[2], passed=line[3]) for line in lines)]
        for lines in zip(*(verdicts(r) for r in reports), strict=True)
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, nargs="+", help="report.json that train report wrote")
    reports = [json.loads(path.read_text()) for path in parser.parse_args().report]
    print(table(reports))


if __name__ == "__main__":
    main()
