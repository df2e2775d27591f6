"""Recording while the pictures run: an encoder with a thread of its own, and what starts and stops it.

    pipeline thread -> queue of at most ``QUEUE`` pictures -> encoder thread -> file

The thread of the frames hands over a reference and goes on; a picture that finds the queue full is left out and
counted. Encoding, writing, sound and signing are the other thread's. A full disk ends the recording, not the stream.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

RecordingPhase = Literal["idle", "recording", "finishing"]
"""finishing: the file is copied into its final form and signed; a new recording may begin meanwhile."""


@dataclass(frozen=True, slots=True)
class RecordingState:
    """What the control page and the terminal show."""

    phase: RecordingPhase = "idle"
    path: Path | None = None
    """Of the recording that runs, or else the last one; where it is, or will be when ``phase`` is idle."""
    seconds: float = 0.0
    frames: int = 0
    """Written."""
    dropped: int = 0
    """Left out, because encoder or disk were too slow."""
    bytes: int = 0
    """Of the file so far."""
    microphone: str | None = None
    """Its name, or what is wrong with it; None: without sound."""
    message: str | None = None
    """How the last recording ended, in plain words."""
    failed: bool = False
    """Whether it ended by itself, for example on a full disk."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"path": None if self.path is None else str(self.path)}


class Recording(Protocol):
    """Starts and stops recordings of a running stream; from any thread."""

    @property
    def state(self) -> RecordingState:
        """Now; costs microseconds."""
        ...

    def start(self, path: Path | None = None) -> None:
        """Begin. ``None``: a new file in the user's folder of videos.

        May take seconds, because a real person's consent is asked for: not to be called in the thread of the frames.
        Raises SinkError (it runs already, the file cannot be made), ConsentError, SourceError (the microphone),
        MissingDependencyError.
        """
        ...

    def stop(self) -> Path:
        """End. Returns at once with the path at which the file will be; ``state`` says when it is finished.

        Raises SinkError when none runs.
        """
        ...
