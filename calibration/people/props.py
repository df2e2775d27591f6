"""What hides parts of a streamer's face: glasses, headphones, microphones, caps, hands, loose hair.

Props belong to the state, not to the person: the same state on another identity wears the same things, fitted to that
head, so that the exact swap is known behind and beside them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Props:
    """What is worn or in front of the face in one state."""
