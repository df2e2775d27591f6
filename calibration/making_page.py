"""An enrolled persona's report: a page that holds all it shows, and a contact sheet."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from calibration.making_report import Looked, OwnExample, WornExample
from calibration.report_page import HEAD, data_uri, labelled, number, stacked
from engines.types import U8

_OWN = (
    ("psnr_masked_db", "the face itself, masked PSNR, dB (more is better; 25 is good)"),
    ("sharpness_ratio", "sharpness over the footage's (1 is as sharp)"),
    ("mask_iou", "mask IoU (1 is the same outline)"),
    ("nme_pct", "landmarks by Face Mesh, % of inter-ocular (less is better)"),
    ("pose_deg", "pose error, degrees"),
    ("mouth_r", "mouth opening, correlation (1 is perfect; a dash: it hardly moved)"),
    ("eyes_r", "eye opening, correlation"),
    ("brows_r", "brow height, correlation"),
    ("distance_to_person", "distance of dlib's embedding to the person (below 0.6: the same person)"),
)
_WORN = (
    ("pose_deg", "pose error against the wearer, degrees"),
    ("mouth_r", "mouth opening, correlation with the wearer's"),
    ("eyes_r", "eye opening, correlation with the wearer's"),
    ("brows_r", "brow height, correlation with the wearer's"),
    ("distance_to_person", "distance of dlib's embedding to the person"),
    ("distance_to_wearer", "distance to the wearer (should be larger)"),
    ("taken_for_person_pct", "taken for the person (within 0.6), %"),
)
_STRANGERS = (
    "<p class=note>Invented wearers that no training saw; there is no truth for them, so what the persona does is"
    " compared with what they do. wearer, persona</p>"
)


def sheet(looked: Looked) -> U8:
    """(H, W, 3) BGR: held-out frames (frame, result, error x 4), and the persona on sample wearers, side by side."""
    own = stacked([_own_strip(example) for example in looked.own])
    worn = stacked([_worn_strip(example) for example in looked.worn]) if looked.worn else own[:, :0]
    height = max(own.shape[0], worn.shape[0])
    sides = [np.pad(s, ((0, height - s.shape[0]), (0, 0), (0, 0)), constant_values=246) for s in (own, worn)]
    return np.ascontiguousarray(np.concatenate(sides, axis=1))


def page(name: str, looked: Looked, facts: Mapping[str, Any], *, coverage: Path | None, command: str) -> str:
    """A complete HTML document. ``facts`` are the run's: mode, frames, held_out, step, seconds."""
    title = f"{name}: the persona and how good it is"
    parts = [HEAD.format(title=html.escape(title)), f"<h1>{html.escape(title)}</h1>", _intro(facts)]
    parts += [f"<p>Wear it: <code>{html.escape(command)}</code></p>"]
    parts += ["<h2>On the person's own held-out frames</h2>", _table(_OWN, looked.figures["own"])]
    parts += [
        "<p class=note>frame, what the persona makes of it, error &times; 4</p>",
        _pictures(looked.own, _own_strip),
    ]
    if looked.worn:
        parts += [
            "<h2>On other people</h2>",
            _STRANGERS,
            _table(_WORN, looked.figures["worn"]),
            _pictures(looked.worn, _worn_strip),
        ]
    picture = None if coverage is None or not coverage.is_file() else cv2.imread(str(coverage))
    if picture is not None:
        parts += [
            "<h2>What the footage covered</h2>",
            f"<img alt='coverage' src='{data_uri(picture.astype(np.uint8))}'>",
        ]
    return "\n".join([*parts, "</body></html>\n"])


def _intro(facts: Mapping[str, Any]) -> str:
    how = {"film": "a vector", "lora": "a vector and a low-rank change", "full": "the whole decoder"}
    return (
        f"<p>Made from {facts['frames']} faces, of which {facts['held_out']} were held out and never trained on;"
        f" {how.get(str(facts['mode']), html.escape(str(facts['mode'])))} learned for {facts['step']} steps in"
        f" {facts['seconds'] / 60:.1f} minutes, and the best of step {facts['best_step']} was kept.</p>"
    )


def _table(rows: Sequence[tuple[str, str]], figures: Mapping[str, Any]) -> str:
    cells = [f"<tr><td>{what}</td><td>{number(figures.get(key))}</td></tr>" for key, what in rows]
    return "\n".join(["<table><tr><th>measure</th><th>reached</th></tr>", *cells, "</table>"])


def _pictures(examples: Sequence[Any], strip: Any) -> str:
    return "<div class=plots>" + "".join(f"<img alt='' src='{data_uri(strip(e))}'>" for e in examples) + "</div>"


def _own_strip(example: OwnExample) -> U8:
    cells = np.concatenate([example.frame, example.result, example.error], axis=1)
    return labelled(cells, f"yaw {example.yaw:.0f}   {example.psnr_masked_db:.1f} dB")


def _worn_strip(example: WornExample) -> U8:
    return labelled(np.concatenate([example.wearer, example.result], axis=1), "wearer, persona")
