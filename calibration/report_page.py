"""The report as a page that holds all it shows, and as a contact sheet. HTML and SVG by hand: nothing to install."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from calibration.report import Example, Measured
from calibration.report_photos import PhotoExample
from engines.types import U8

_PAPER, _INK = 246, (40, 40, 40)
_PLOTS = (("psnr_masked_db", "dB"), ("mask_iou", "mask IoU"), ("nme_pct", "NME, %"))
_LEVEL: dict[str, float] = {"tiny": 23.0, "small": 25.0, "base": 27.0}


def targets(tier: str) -> tuple[tuple[str, str, float, bool], ...]:
    """(key, what it is, least or most, whether more is better) of a tier; "real." keys lie under "real"."""
    return (
        ("psnr_masked_db", "masked PSNR against the true swap, dB", _LEVEL.get(tier, 27.0), True),
        ("mask_iou", "mask IoU", 0.93, True),
        ("mask_iou_occluded", "mask IoU with something worn or held", 0.88, True),
        ("nme_pct", "landmark NME, % of inter-ocular", 3.0, False),
        ("pose_deg", "pose error, degrees", 2.5, False),
        ("retrieval_pct", "identity retrieval over the gallery, %", 95.0, True),
        ("leakage_pct", "leakage to the wearer, %", 1.0, False),
        ("flicker", "excess flicker on a still wearer, /255", 1.0, False),
        ("sharpness_ratio", "sharpness (Laplacian energy over the truth's)", 0.85, True),
        ("real.pose_deg", "real photographs: pose error, degrees", 5.0, False),
        ("real.mouth_r", "real photographs: correlation of mouth opening", 0.85, True),
        ("real.eyes_r", "real photographs: correlation of eye opening", 0.85, True),
    )


def verdicts(report: Mapping[str, Any]) -> list[tuple[str, str, float | None, bool | None]]:
    """(what, target in words, reached, passed) of every line of the table; None where nothing was measured."""
    rows: list[tuple[str, str, float | None, bool | None]] = []
    for key, what, limit, more in targets(str(report["tier"])):
        group: Mapping[str, Any] = (report.get("real") or {}) if key.startswith("real.") else report
        value = group.get(key.removeprefix("real."))
        words = f"{'at least' if more else 'at most'} {limit:g}"
        if key == "sharpness_ratio":  # within 15 %, so too sharp is as wrong as too soft
            words, good = "0.85 to 1.15", value is not None and 0.85 <= value <= 1.15
        else:
            good = value is not None and (value >= limit if more else value <= limit)
        rows.append((what, words, value, None if value is None else good))
    return rows


def contact_sheet(measured: Mapping[str, Measured], columns: int = 3) -> U8:
    """(H, W, 3) BGR: a row for each persona; wearer, truth, result, error x 4 of ``columns`` frames each."""
    rows = []
    for name, m in measured.items():
        some = m.examples[:: max(1, len(m.examples) // columns)][:columns]
        if some:
            rows.append(np.concatenate([_strip(e, f"{name}  yaw {e.yaw:.0f}") for e in some], axis=1))
    return stacked(rows)


def photo_sheet(photos: Sequence[PhotoExample], side: int = 200) -> U8:
    """(H, W, 3) BGR: a row for each face of a photograph, and what went out for each persona."""
    names = list(dict.fromkeys(name for p in photos for name in p.results))
    rows = []
    for p in photos:
        blank = np.full_like(p.photo, 200)
        cells = [(p.name, p.photo), *((n, p.results.get(n, blank)) for n in names)]
        small = [labelled(np.asarray(cv2.resize(c, (side, side), interpolation=cv2.INTER_AREA), np.uint8), n)
                 for n, c in cells]  # fmt: skip
        rows.append(np.concatenate(small, axis=1))
    return stacked(rows)


def page(
    report: Mapping[str, Any], measured: Mapping[str, Measured], photos: Sequence[PhotoExample], title: str
) -> str:
    """A complete HTML document with every picture inside."""
    parts = [HEAD.format(title=html.escape(title)), f"<h1>{html.escape(title)}</h1>", _intro(report), _table(report)]
    parts += ["<h2>Personas</h2>", _personas(report), "<div class=plots>"]
    parts += [_scatter(measured, key, label) for key, label in _PLOTS] + ["</div>"]
    for name, m in measured.items():
        parts.append(f"<h2>{html.escape(name)}</h2><p class=note>wearer, truth, result, error &times; 4</p>")
        parts += [f"<img alt='yaw {e.yaw:.0f}' src='{data_uri(_strip(e, _caption(e)))}'>" for e in m.examples]
    if photos:
        parts += [
            "<h2>Photographs of real people</h2>",
            _skipped(report),
            f"<img alt='photographs' src='{data_uri(photo_sheet(photos))}'>",
        ]
    return "\n".join([*parts, "</body></html>\n"])


HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px; padding: 0 1rem; color: #222;
  background: #f6f6f6 }}
h1 {{ font-size: 1.6rem }} h2 {{ font-size: 1.15rem; margin-top: 2.2rem }}
table {{ border-collapse: collapse; background: #fff }} th, td {{ padding: .3rem .7rem; border: 1px solid #ddd;
  text-align: right; font-variant-numeric: tabular-nums }} th:first-child, td:first-child {{ text-align: left }}
.pass {{ color: #176b2c; font-weight: 600 }} .fail {{ color: #a3231f; font-weight: 600 }} .note {{ color: #666 }}
img {{ max-width: 100%; display: block; margin: .3rem 0 }}
.plots {{ display: flex; flex-wrap: wrap; gap: 1rem; margin-top: 1rem }}
svg {{ background: #fff; border: 1px solid #ddd }}
</style></head><body>"""


def _intro(report: Mapping[str, Any]) -> str:
    counts = report["counts"]
    return (
        f"<p>{counts['personas']} personas of the tier {html.escape(str(report['tier']))},"
        f" {counts['wearers']} wearers and {counts['frames']} states that nobody trained on (seed {report['seed']}),"
        f" {counts['frames_with_props']} of them with something worn or held."
        f" Means over {html.escape(', '.join(report['measured_over']))}.</p>"
    )


def number(value: object) -> str:
    """A figure for a cell; a dash for what was not measured."""
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return "&ndash;"
    return f"{value:.3f}" if abs(value) < 2 else f"{value:.2f}"


def _table(report: Mapping[str, Any]) -> str:
    rows = ["<table><tr><th>measure</th><th>target</th><th>reached</th><th></th></tr>"]
    for what, target, value, passed in verdicts(report):
        word = "" if passed is None else ("<span class=pass>pass</span>" if passed else "<span class=fail>short</span>")
        rows.append(f"<tr><td>{what}</td><td>{target}</td><td>{number(value)}</td><td>{word}</td></tr>")
    ideal = report.get("ideal") or {}
    note = (
        f"<p class=note>A perfect swap (the true render on the same wearers) would score retrieval"
        f" {number(ideal.get('retrieval_pct'))} %, leakage {number(ideal.get('leakage_pct'))} %. Nearer to the wearer"
        f" than 0.6 at all: results {number(report.get('near_wearer_pct'))} %, perfect swaps"
        f" {number(ideal.get('near_wearer_pct'))} %, the personas alone {number(ideal.get('bare_near_wearer_pct'))}"
        " %.</p>"
    )
    return "\n".join([*rows, "</table>", note])


def _personas(report: Mapping[str, Any]) -> str:
    keys = [key for key, *_ in targets("small") if not key.startswith("real.")]
    rows = ["<table><tr><th>persona</th>" + "".join(f"<th>{key}</th>" for key in keys) + "</tr>"]
    for name, figures in report["per_persona"].items():
        cells = "".join(f"<td>{number(figures.get(key))}</td>" for key in keys)
        rows.append(f"<tr><td>{html.escape(name)}</td>{cells}</tr>")
    return "\n".join([*rows, "</table>"])


def _skipped(report: Mapping[str, Any]) -> str:
    real = report.get("real") or {}
    text = f"{real.get('faces', 0)} faces, {real.get('pictures', 0)} pictures with the turned, relit and blurred ones."
    missing = real.get("skipped") or {}
    if missing:
        text += " Missing: " + "; ".join(f"{name} ({why})" for name, why in missing.items()) + "."
    return f"<p class=note>{html.escape(text)}</p>"


def _scatter(measured: Mapping[str, Measured], key: str, label: str) -> str:
    """An SVG of one figure over yaw, a dot for each frame of each persona."""
    dots = [
        (float(r["yaw"] or 0), float(value), bool(r["props"]))
        for m in measured.values()
        for r in m.frames
        if (value := r.get(key)) is not None and math.isfinite(value)
    ]
    if not dots:
        return ""
    values = [y for _, y, _ in dots]
    low = min(values)
    high = max(*values, low + 1e-6)

    def at(yaw: float, y: float) -> str:
        return f"cx='{190 + 2 * yaw:.1f}' cy='{200 - 170 * (y - low) / (high - low):.1f}'"

    marks = [
        f"<circle {at(x, y)} r='2.5' fill='{'#c2571a' if props else '#23527c'}' fill-opacity='.55'/>"
        for x, y, props in dots
    ]
    ticks = [
        f"<text x='{190 + 2 * yaw}' y='226' text-anchor='middle'>{yaw}&deg;</text>" for yaw in (-60, -30, 0, 30, 60)
    ]
    sides = [f"<text x='4' y='{y}'>{number(v)}</text>" for v, y in ((high, 34), (low, 204))]
    return (
        "<svg width='350' height='240' font-size='11' font-family='sans-serif' fill='#444'>"
        f"<text x='175' y='15' text-anchor='middle'>{label} over yaw (orange: with props)</text>"
        f"<line x1='45' y1='205' x2='340' y2='205' stroke='#bbb'/>{''.join(ticks + sides + marks)}</svg>"
    )


def _caption(example: Example) -> str:
    return f"yaw {example.yaw:.0f}   {example.psnr_masked_db:.1f} dB"


def _strip(example: Example, text: str) -> U8:
    cells = [example.wearer, example.truth, example.result, example.error]
    return labelled(np.concatenate(cells, axis=1), text)


def labelled(picture: U8, text: str) -> U8:
    """The picture with a line of text below and a thin margin."""
    line = np.full((18, picture.shape[1], 3), _PAPER, np.uint8)
    cv2.putText(line, text, (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, _INK, 1, cv2.LINE_AA)
    both = np.concatenate([picture, line])
    return np.asarray(cv2.copyMakeBorder(both, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(_PAPER,) * 3), np.uint8)


def stacked(rows: Sequence[U8]) -> U8:
    """Rows below one another, the short ones filled up."""
    width = max((row.shape[1] for row in rows), default=64)
    full = [np.pad(r, ((0, 0), (0, width - r.shape[1]), (0, 0)), constant_values=_PAPER) for r in rows]
    return np.concatenate(full) if full else np.full((64, width, 3), _PAPER, np.uint8)


def data_uri(picture: U8) -> str:
    """A picture inside the page."""
    coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
    return "data:image/jpeg;base64," + base64.b64encode(coded.tobytes()).decode()
