"""The README's pictures of invented people.

    python benchmarks/people_pictures.py

writes docs/people.jpg (twelve people), docs/people_states.jpg (one state on three people each) and
docs/people_anime.jpg (the drawn style), all by ``calibration.people.sheet``. docs/people_before_after.jpg was made
once: its upper row by the renderer of version 1 (commit 999cdb9).
"""

from __future__ import annotations

from pathlib import Path

import cv2

from calibration.people.anime import Style
from calibration.people.identity import random_identity
from calibration.people.portrait import FRIENDLY
from calibration.people.render import Renderer
from calibration.people.sheet import contact_sheet
from calibration.people.state import State, random_state

DOCS = Path(__file__).parents[1] / "docs"
FIRST = 200


def main() -> None:
    sheets: dict[str, tuple[int, list[State], Style]] = {
        "people": (12, [FRIENDLY], "photo"),
        "people_states": (3, [random_state(40 + k) for k in range(6)], "photo"),
        "people_anime": (6, [FRIENDLY], "anime"),
    }
    with Renderer() as renderer:
        for name, (count, states, style) in sheets.items():
            people = [random_identity(FIRST + k) for k in range(count)]
            sheet = contact_sheet(renderer, people, states, size=224, style=style)
            cv2.imwrite(str(DOCS / f"{name}.jpg"), sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
