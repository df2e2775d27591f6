"""A persona file in a few lines for people: who it is, how large, how good, and how it is put on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calibration.making_words import in_words, made_of
from engines.persona import Persona


def about(persona: Persona) -> list[str]:
    """Lines in the order in which people ask; all numbers stand in ``personas show --json``."""
    m = persona.manifest
    pixels = f"{m.crop_size} x {m.crop_size} pixels of face in, {m.output_size} x {m.output_size} out"
    lines = [m.title, f"kind {m.kind}, tier {m.tier}: {pixels}"]
    if m.seed is not None:
        lines.append(f"drawn from the seed {m.seed}")
    lines.append(f"file: {persona.path}, {persona.path.stat().st_size / 1e6:.1f} MB, sha256 {persona.sha256[:16]}")
    how_good = in_words(persona.report) or _validated(persona.report)
    lines += [line for line in (made_of(persona.report), how_good) if line]
    return [*lines, f"wear it: personacam run --persona {m.name}"]


def _validated(report: Mapping[str, Any]) -> str:
    """What training measured at its end, of a persona that was not measured as a whole."""
    found = report.get("validation")
    if isinstance(found, Mapping) and isinstance(found.get("swap"), Mapping):
        found = found["swap"]
    value = found.get("psnr_masked_db") if isinstance(found, Mapping) else None
    if not isinstance(value, (int, float)):
        return ""
    return f"{value:.1f} dB inside the face on what was held out ({report.get('validation_note', 'swaps')})"
