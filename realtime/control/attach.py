"""Puts page, terminal view and keys to a run that is about to begin, and takes them away at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from realtime.capture import CaptureThread
from realtime.config import Settings
from realtime.control.bridge import Panel, Voice
from realtime.control.desk import Desk, Parts
from realtime.control.hotkeys import Situation, terminal_keys
from realtime.control.terminal import PlainLines, line_of
from realtime.control.watch import Watcher, recording_now
from realtime.governor import Governor
from realtime.live_settings import CurrentSettings
from realtime.pipeline import Pipeline
from realtime.quality import Quality, Worn
from realtime.recording import Recording
from realtime.store import LARGER_TIERS, SMALLEST_TIER, TieredStore
from realtime.wardrobe import Wardrobe


@dataclass(frozen=True, slots=True)
class Run:
    """What ``session`` gives: a run that is complete but not begun."""

    current: CurrentSettings
    pipeline: Pipeline
    quality: Quality
    wardrobe: Wardrobe
    capture: CaptureThread
    store: TieredStore
    governor: Callable[[Settings, Worn], Governor | None]
    stop: threading.Event
    token_file: Path
    recording: Recording | None = None


@contextmanager
def attached(run: Run, voice: Voice, *, terminal: bool) -> Iterator[Panel]:
    """Until the block ends. ``terminal``: standard error is one."""
    source, pipeline = run.capture.source, run.pipeline
    parts = Parts(
        run.current, pipeline, run.quality, run.wardrobe, source.size,
        lambda: [path.stem for path in run.store.list()],
        lambda: [str(path) for path in run.store.list()],
        lambda name: tiers_of(run.store, name), run.governor, run.stop, run.recording,
    )  # fmt: skip
    desk = Desk(parts)
    watcher = Watcher(
        parts, desk, voice.log, source=run.current.value.source, source_fps=source.fps,
        dropped=lambda: run.capture.dropped,
    )  # fmt: skip
    panel = Panel(parts, watcher, desk, voice, terminal=terminal)
    pipeline.before_each(desk.look)
    pipeline.tap(panel.tap)
    pipeline.after_each(panel.after)
    if not terminal:
        pipeline.after_each(PlainLines(lambda: line_of(watcher.state()), voice).after)
    with ExitStack() as stack:
        stack.callback(panel.close)
        if terminal:
            stack.enter_context(terminal_keys(desk.submit, lambda: _situation(desk, run.recording)))
        panel.start(run.token_file)
        yield panel


def tiers_of(store: TieredStore, name: str) -> Sequence[str]:
    """That a persona comes in by the folders of its files, unread; the smallest first."""
    folders = [path.parent.name for path in store.copies(name)]
    found = {folder if folder in LARGER_TIERS else SMALLEST_TIER for folder in folders}
    return [tier for tier in (SMALLEST_TIER, *LARGER_TIERS) if tier in found]


def _situation(desk: Desk, recording: Recording | None) -> Situation:
    return Situation(desk.veiled, recording_now(recording).phase == "recording", desk.question)
