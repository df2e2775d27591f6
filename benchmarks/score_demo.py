"""How near the swap comes to the truth on the demo clip, for every persona that the clip has a truth of.

    python benchmarks/score_demo.py --json

The clip's wearer and states were never trained. Each swap is compared, before blending, with the true render of the
persona in the wearer's state, both placed in the frame (see realtime/demo.py). Writes
``benchmarks/results/demo_score.json`` unless ``--out`` says otherwise, and prints the same as the last line with
``--json``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from calibration.demo_truth import load_truth
from realtime.demo import run_demo
from realtime.session import demo_clip, persona_store

RESULTS = Path(__file__).with_name("results") / "demo_score.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persona", nargs="*", help="all that the clip has a truth of unless named")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    truths = demo_clip().with_suffix(".npz")
    names = arguments.persona or [p.stem for p in persona_store().list() if load_truth(truths, p.stem) is not None]
    table = Table("persona", "masked PSNR dB", "worst frame", "mask IoU", "frames swapped / sent", "runtime")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            report = run_demo(Path(folder) / "demo.mp4", name, score=True, say=lambda _: None).report
            quality, frames = report["quality"], report["frames"]
            rows.append({k: report[k] for k in ("persona", "quality", "frames", "runtime", "precision")})
            table.add_row(
                name,
                f"{quality['psnr_masked_db']:.2f}",
                f"{quality['psnr_masked_db_min']:.2f}",
                f"{quality['mask_iou']:.3f}",
                f"{frames['swapped']} / {frames['sent']}",
                f"{report['runtime']} {report['precision']}",
            )
    result = {"benchmark": {"name": "demo_score"}, "personas": rows}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    Console(stderr=True).print(table)
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
