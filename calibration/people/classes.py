"""The numbers of the class map: what the nearest surface of a pixel is. 0 is the background."""

from __future__ import annotations

CLASSES = {
    "face": 1, "skin": 2, "eyes": 3, "mouth": 4, "hair": 5, "beard": 6, "cloth": 7, "glasses": 8, "headphones": 9,
    "microphone": 10, "hand": 11, "cap": 12,
}  # fmt: skip
FACE_CLASSES = tuple(CLASSES[name] for name in ("face", "eyes", "mouth", "beard"))
"""What a swap replaces."""
