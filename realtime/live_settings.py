"""From the options of a run to what its stages are set to; also while it runs, for those that may be changed then."""

from __future__ import annotations

from dataclasses import replace

from realtime.blend import BlendConfig
from realtime.config import Settings
from realtime.provenance import Label, PersonaKind
from realtime.track import TrackerConfig


def blend_config(settings: Settings) -> BlendConfig:
    """How the swap is put into the picture."""
    return BlendConfig(
        settings.erode,
        settings.feather,
        colour_strength=settings.colour_strength,
        sharpen=settings.sharpen,
    )


def tracker_config(settings: Settings) -> TrackerConfig:
    """How the face is followed.

    ``smoothing`` 0.5 gives the filter's own constants; at 1 a still face trembles a quarter as fast and a moving one is
    followed half as quickly, towards 0 the other way round.
    """
    usual, more = TrackerConfig(), 2.0 * settings.smoothing - 1.0
    return replace(
        usual,
        smooth=settings.smooth and settings.smoothing > 0.0,
        min_cutoff_hz=usual.min_cutoff_hz * 4.0**-more,
        beta=usual.beta * 2.0**-more,
    )


def label_for(settings: Settings, kind: PersonaKind) -> Label | None:
    """The visible label. A persona of a real person has one whatever the settings say."""
    return Label(position=settings.label_position) if settings.label or kind == "person" else None


class CurrentSettings:
    """The options of a run as they are now: one immutable value, exchanged whole by whoever may change it."""

    def __init__(self, value: Settings) -> None:
        self.value = value
