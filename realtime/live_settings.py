"""From the options of a run to what its stages are set to; also while it runs, for those that may be changed then."""

from __future__ import annotations

from dataclasses import replace

from realtime.blend import BlendConfig
from realtime.calm import Calm, CalmConfig
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
    followed from twice as far, towards 0 the other way round.
    """
    usual, more = TrackerConfig(), 2.0 * settings.smoothing - 1.0
    return replace(
        usual,
        smooth=settings.smooth and settings.smoothing > 0.0,
        min_cutoff_hz=usual.min_cutoff_hz * 4.0**-more,
        noise=usual.noise * 2.0**more,
        moved=usual.moved * 2.0**more,
    )


def calm_config(settings: Settings) -> CalmConfig:
    """How calm the network's inputs are; what is still slows down with ``smoothing`` as the alignment does."""
    usual, slower = CalmConfig(), 4.0 ** (1.0 - 2.0 * settings.smoothing)
    return replace(
        usual,
        on=settings.smooth and settings.smoothing > 0.0,
        crop_hz=usual.crop_hz * slower,
        points_hz=usual.points_hz * slower,
    )


def label_for(settings: Settings, kind: PersonaKind) -> Label | None:
    """The visible label. A persona of a real person has one whatever the settings say."""
    return Label(position=settings.label_position) if settings.label or kind == "person" else None


class CurrentSettings:
    """The options of a run as they are now: one immutable value, exchanged whole by whoever may change it."""

    def __init__(self, value: Settings) -> None:
        self.value = value

    def calm(self) -> Calm:
        """For ``Stages``: follows the options."""
        return Calm(lambda: calm_config(self.value))
