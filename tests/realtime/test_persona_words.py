"""What people read of a persona."""

from __future__ import annotations

from calibration.consent_gates import shown_only
from engines.persona import read_persona
from realtime.persona_words import about
from realtime.session import persona_store


def test_a_persona_in_a_few_lines() -> None:
    lines = about(read_persona(persona_store().find("kofi"), admit=shown_only))
    assert lines[0].startswith("Kofi, an invented man")
    assert lines[1].startswith("kind invented, tier tiny: 128 x 128 pixels")
    assert lines[-1] == "wear it: personacam run --persona kofi"
    assert len(lines) < 10  # and not six hundred numbers
