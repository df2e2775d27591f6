"""What was measured of an enrolled persona, in plain words: for the end of its making and for ``personas show``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LINES = (
    ("own", "psnr_masked_db", "{:.1f} dB inside the face on the person's own held-out frames"),
    ("own", "nme_pct", "landmarks there within {:.1f} % of the eyes' distance"),
    ("worn", "pose_deg", "on other people the pose within {:.1f} degrees"),
    ("worn", "taken_for_person_pct", "taken for the person in {:.0f} % of them"),
)


def in_words(figures: Mapping[str, Any]) -> str:
    """Of "own" and "worn" in a report what there is; empty for a persona that was not enrolled."""
    said = []
    for group, key, text in _LINES:
        of = figures.get(group)
        value = of.get(key) if isinstance(of, Mapping) else None
        if isinstance(value, (int, float)):
            said.append(text.format(value))
    return "; ".join(said)


def made_of(report: Mapping[str, Any]) -> str:
    """How a persona came to be, from its file's report; empty for one that was not enrolled."""
    facts = report.get("enrolled")
    if not isinstance(facts, Mapping) or not {"frames", "seconds"} <= facts.keys():
        return ""
    return f"It was made of {facts['frames']} faces, in {float(facts['seconds']) / 60:.0f} minutes of training."
