"""Microphones, through PortAudio (package sounddevice): which there are, and one as a source of sound.

A microphone is open only while something is recorded.
"""

from __future__ import annotations

import difflib
import sys
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.errors import MissingDependencyError, SourceBusyError, SourceNotFoundError
from engines.types import F32
from realtime.pacing import Clock, now_ns
from realtime.sound import SoundBlock

NONE = "none"
DEFAULT = "default"
_BLOCK_S = 0.02
_KEPT = 500
"""Blocks that wait to be read: ten seconds."""


@dataclass(frozen=True, slots=True)
class MicrophoneInfo:
    """An input that can be recorded from."""

    index: int
    name: str
    host: str
    """The system's interface: ALSA, Core Audio, Windows WASAPI; one microphone may be listed under several."""
    channels: int
    rate: int
    """Samples a second that it prefers."""
    default: bool


def list_microphones(library: Any = None) -> list[MicrophoneInfo]:
    """The inputs of this computer, the default one first. Raises MissingDependencyError, SourceBusyError."""
    sd = library or _sounddevice()
    try:
        hosts = [str(host["name"]) for host in sd.query_hostapis()]
        default = int(sd.default.device[0])
        devices = list(sd.query_devices())
    except sd.PortAudioError as error:
        raise _unusable("the sound system", error) from error
    found = [
        MicrophoneInfo(
            index, str(device["name"]), hosts[int(device["hostapi"])], int(device["max_input_channels"]),
            round(float(device["default_samplerate"])), index == default,
        )
        for index, device in enumerate(devices)
        if int(device["max_input_channels"]) > 0
    ]  # fmt: skip
    return sorted(found, key=lambda microphone: (not microphone.default, microphone.index))


def find_microphone(wanted: str, found: list[MicrophoneInfo]) -> MicrophoneInfo:
    """By number, by name, or by a part of the name that only one has; "default" is the system's choice.

    Raises SourceNotFoundError with the names that there are.
    """
    names = list(dict.fromkeys(microphone.name for microphone in found))
    if not found:
        raise SourceNotFoundError(
            f"there is no microphone {wanted!r}: this computer shows none at all",
            hint="plug one in and see personacam microphones, or record with --microphone none",
        )
    if wanted == DEFAULT:
        return found[0]
    lower = wanted.lower()
    exact = [m for m in found if lower in {m.name.lower(), str(m.index)}]
    if exact:
        return exact[0]
    partly = [name for name in names if lower in name.lower()]
    if len(partly) == 1:
        return next(m for m in found if m.name == partly[0])
    if partly:
        raise SourceNotFoundError(
            f"several microphones are called {wanted!r}: {', '.join(partly)}", hint="give more of the name"
        )
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    raise SourceNotFoundError(
        f"there is no microphone {wanted!r}",
        hint=f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}",
    )


class Microphone:
    """One microphone as a ``SoundSource``. PortAudio's thread puts blocks into a box; ``read`` empties it."""

    def __init__(self, wanted: str, library: Any = None, clock: Clock = now_ns) -> None:
        """``wanted`` as in :func:`find_microphone`, which is asked when it is opened."""
        self.name = wanted
        self.rate, self.channels = 48_000, 1
        self._wanted, self._library, self._clock = wanted, library, clock
        self._blocks: deque[SoundBlock] = deque(maxlen=_KEPT)
        self._stream: Any = None
        self._ended = self._closing = False

    @property
    def problem(self) -> str | None:
        """As ``SoundSource.problem``."""
        return f"the microphone {self.name} is gone, the recording is silent from there on" if self._ended else None

    def start(self) -> None:
        """Listen. Raises SourceNotFoundError, SourceBusyError, MissingDependencyError."""
        self.close()
        sd = self._library or _sounddevice()
        found = find_microphone(self._wanted, list_microphones(sd))
        self.name, self.rate, self.channels = found.name, found.rate, min(2, found.channels)
        self._blocks.clear()
        self._ended = self._closing = False
        try:
            self._stream = sd.InputStream(
                samplerate=self.rate, blocksize=round(self.rate * _BLOCK_S), device=found.index,
                channels=self.channels, dtype="float32", callback=self._take, finished_callback=self._finished,
            )  # fmt: skip
            self._stream.start()
        except sd.PortAudioError as error:
            self.close()
            raise _unusable(f"the microphone {found.name}", error) from error

    def read(self) -> list[SoundBlock]:
        """As ``SoundSource.read``."""
        blocks = []
        while True:
            try:
                blocks.append(self._blocks.popleft())
            except IndexError:  # PortAudio's thread may add one meanwhile: ask, do not count
                return blocks

    def close(self) -> None:
        """Stop listening. May be called twice."""
        stream, self._stream = self._stream, None
        self._closing = True
        if stream is not None:
            stream.close()

    def _take(self, data: F32, frames: int, times: Any, status: Any) -> None:
        """In PortAudio's thread: when the first sample was heard, by how long ago PortAudio says that was."""
        age_s = float(times.currentTime - times.inputBufferAdcTime)
        if not 0.0 < age_s < 2.0:  # some drivers do not say
            age_s = frames / self.rate
        captured_ns = self._clock() - round(age_s * 1e9)
        lost = bool(status.input_overflow)
        self._blocks.append(SoundBlock(np.array(data[:, : self.channels], np.float32), captured_ns, lost))

    def _finished(self) -> None:
        """In PortAudio's thread: the stream ended; by itself, unless it is being closed."""
        self._ended = not self._closing


def _unusable(what: str, error: Exception) -> SourceBusyError:
    return SourceBusyError(
        f"{what} cannot be used: {error}",
        hint="close other programs that use it, and let personacam use the microphone in the system's privacy settings",
    )


def _sounddevice() -> Any:
    """The library, imported when it is needed: it starts PortAudio."""
    try:
        import sounddevice
    except ImportError as error:
        raise MissingDependencyError(
            "microphones need the package sounddevice", hint="pip install 'personacam[audio]'"
        ) from error
    except OSError as error:
        system = "sudo apt-get install libportaudio2" if sys.platform == "linux" else "pip install sounddevice"
        raise MissingDependencyError(f"microphones need PortAudio: {error}", hint=system) from error
    return sounddevice
