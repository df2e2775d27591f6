"""Microphones without a sound card: a library that behaves as sounddevice does."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from engines.errors import MissingDependencyError, SourceBusyError, SourceNotFoundError
from realtime.microphone import Microphone, find_microphone, list_microphones


class PortAudioError(Exception):
    pass


class Stream:
    def __init__(self, library, **options) -> None:
        self.library, self.options, self.running = library, options, False

    def start(self) -> None:
        if self.library.busy:
            raise PortAudioError("Device unavailable [PaErrorCode -9985]")
        self.running = True

    def close(self) -> None:
        self.running = False
        self.options["finished_callback"]()


class Library:
    PortAudioError = PortAudioError
    default = SimpleNamespace(device=[2, 0])

    def __init__(self, *names: tuple[str, int]) -> None:
        self.names = names or (("Speakers", 0), ("Blue Yeti", 2), ("Webcam C920", 1))
        self.busy = False
        self.streams: list[Stream] = []

    def query_hostapis(self):
        return [{"name": "ALSA"}]

    def query_devices(self):
        return [
            {"name": name, "hostapi": 0, "max_input_channels": inputs, "default_samplerate": 44100.0}
            for name, inputs in self.names
        ]

    def InputStream(self, **options):
        self.streams.append(Stream(self, **options))
        return self.streams[-1]


def test_inputs_are_listed_the_default_first() -> None:
    found = list_microphones(Library())
    assert [(m.name, m.channels, m.rate, m.default) for m in found] == [
        ("Webcam C920", 1, 44100, True),
        ("Blue Yeti", 2, 44100, False),
    ]


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("default", "Webcam C920"), ("yeti", "Blue Yeti"), ("1", "Blue Yeti"), ("webcam c920", "Webcam C920")],
)
def test_a_microphone_is_found_by_name_part_number_and_default(wanted: str, name: str) -> None:
    assert find_microphone(wanted, list_microphones(Library())).name == name


def test_one_that_is_not_there_is_told_with_the_nearest() -> None:
    found = list_microphones(Library())
    with pytest.raises(SourceNotFoundError, match="did you mean 'Blue Yeti'"):
        find_microphone("Blu Yetti", found)
    with pytest.raises(SourceNotFoundError, match="Webcam C920, Blue Yeti"):
        find_microphone("xyz", found)
    with pytest.raises(SourceNotFoundError, match="several"):
        find_microphone("mic", list_microphones(Library(("Mic A", 1), ("Mic B", 1))))
    with pytest.raises(SourceNotFoundError, match="none at all"):
        find_microphone("default", list_microphones(Library(("Speakers", 0))))


def test_blocks_carry_the_time_at_which_they_were_heard() -> None:
    library = Library()
    microphone = Microphone("yeti", library, clock=lambda: 10_000_000_000)
    microphone.start()
    options = library.streams[0].options
    assert (options["samplerate"], options["channels"], options["device"]) == (44100, 2, 1)
    data = np.full((882, 2), 0.25, np.float32)
    said = SimpleNamespace(currentTime=100.05, inputBufferAdcTime=100.0)
    silent = SimpleNamespace(currentTime=0.0, inputBufferAdcTime=0.0)  # drivers that do not say
    options["callback"](data, 882, said, SimpleNamespace(input_overflow=False))
    data[:] = 0.0  # PortAudio uses its buffer again
    options["callback"](data, 882, silent, SimpleNamespace(input_overflow=True))
    first, second = microphone.read()
    assert (first.captured_ns, second.captured_ns) == (9_950_000_000, 9_980_000_000)
    assert (first.lost, second.lost) == (False, True)
    assert first.samples.shape == (882, 2)
    assert np.all(first.samples == 0.25)
    assert microphone.read() == []
    microphone.close()
    microphone.close()
    assert not library.streams[0].running
    assert microphone.problem is None


def test_one_that_is_unplugged_says_so() -> None:
    library = Library()
    microphone = Microphone("default", library)
    microphone.start()
    library.streams[0].options["finished_callback"]()
    assert "gone" in (microphone.problem or "")
    microphone.start()
    assert microphone.problem is None
    microphone.close()


def test_one_that_another_program_holds_is_told() -> None:
    library = Library()
    library.busy = True
    with pytest.raises(SourceBusyError, match="Device unavailable"):
        Microphone("default", library).start()


def test_without_the_library_or_portaudio_the_repair_is_told(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingDependencyError, match=r"personacam\[audio\]"):
        list_microphones()


def test_this_computers_own_microphones() -> None:
    """Whatever there is: a list, or a reason."""
    pytest.importorskip("sounddevice", exc_type=OSError)
    assert all(microphone.channels > 0 for microphone in list_microphones())
