"""Which output a text names, the black hole, and a preview without a display."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from engines.errors import SettingsError, SinkError, SinkUnavailableError
from realtime.sink import NullSink, PreviewSink, RecorderSink, Sink, display_problem, open_sink
from realtime.steady import SteadySink
from tests.realtime.footage import frame


def test_texts_name_outputs() -> None:
    expected: dict[str, type[object]] = {
        "virtualcam": SteadySink,
        "virtualcam:/dev/video10": SteadySink,
        "out.mp4": RecorderSink,
        "a folder/OUT.MKV": RecorderSink,
        "out.mov": RecorderSink,
        "preview": PreviewSink,
        "null": NullSink,
    }
    for spec, kind in expected.items():
        sink: Sink = open_sink(spec)
        assert type(sink) is kind
        sink.close()
    for spec in ("", "out.avi", "virtual", "null:1"):
        with pytest.raises(SettingsError) as caught:
            open_sink(spec)
        assert "virtualcam" in caught.value.hint


def test_null_counts() -> None:
    sink = NullSink()
    sink.open((4, 4), 30.0)
    for index in range(3):
        sink.send(np.zeros((4, 4, 3), np.uint8), frame(index, index))
    sink.close()
    assert sink.frames == 3
    assert "3 frames" in sink.report


@pytest.mark.skipif(sys.platform != "linux", reason="DISPLAY is X11's")
def test_a_preview_without_a_display_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    sink = PreviewSink()
    with pytest.raises(SinkUnavailableError, match="display") as caught:
        sink.open((64, 48), 30.0)
    assert "--sink" in caught.value.hint
    with pytest.raises(SinkError, match="not open"):
        sink.send(np.zeros((48, 64, 3), np.uint8), frame(0, 0))
    sink.close()
    sink.close()


def test_displays() -> None:
    assert display_problem("win32", {}) is None
    assert "XWayland" in (display_problem("linux", {"WAYLAND_DISPLAY": "wayland-0"}) or "")
    assert "nobody serves" in (display_problem("linux", {"DISPLAY": ":4321"}) or "")
    assert display_problem("linux", {"DISPLAY": "far.example:0"}) is None
    assert not Path("/tmp/.X11-unix/X4321").exists()
