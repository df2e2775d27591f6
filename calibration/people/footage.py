"""Aligned crops of one person in many states, with truth: the raw material of data sets.

The family's crop is stored with a margin, so that training can move and turn the picture without inventing pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.people.anime import Style
from calibration.people.identity import Identity
from calibration.people.props.worn import Props
from calibration.people.render import Renderer, Shot
from calibration.people.state import State
from calibration.people.truth import (
    CAMERA_COLUMNS,
    CROP_COLUMNS,
    camera_row,
    expression_columns,
    expression_row,
    light_columns,
    light_row,
)
from engines.faceset import DEFAULT_MARGIN, DEFAULT_SIZE

EXTRAS = (
    "landmarks_3d", "landmarks_visible", "mesh", "classes", "expression", "gaze", "light", "camera", "props",
)  # fmt: skip
"""The further truth that this renderer knows (see ``engines.faceset.EXTRAS``)."""


@dataclass(frozen=True)
class CropOptions:
    """How crops are taken."""

    size: int = DEFAULT_SIZE
    """Side in pixels."""
    margin: float = DEFAULT_MARGIN
    """Side of the crop over side of the family's crop."""
    style: Style = "photo"
    clean: bool = False
    """Without the camera's noise, blur and codec; personas are always clean."""
    extras: tuple[str, ...] = ()
    """Which of EXTRAS to keep."""
    seen_share: float = 0.0
    """Share of a rendered set's faces whose ``mesh`` is what Face Mesh sees, NaN where it sees no face; the others' is
    the points' truth."""


@dataclass(frozen=True)
class CropTruth:
    """One stored crop."""

    pixels: NDArray[np.uint8]
    """(S, S, 3) BGR."""
    mask: NDArray[np.uint8]
    """(S, S) 0..255: the swapped area."""
    landmarks: NDArray[np.float32]
    """(68, 2) in crop pixels."""
    pose: tuple[float, float, float]
    """Yaw, pitch, roll in degrees."""
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """One face's value of each of the options' extras."""


def extra_columns() -> dict[str, tuple[str, ...]]:
    """Names of the columns of those extras whose width is the renderer's choice."""
    return {
        "expression": expression_columns(),
        "light": light_columns(),
        "camera": (*CAMERA_COLUMNS, *CROP_COLUMNS),
    }


def shoot_crops(
    renderer: Renderer,
    who: Identity,
    states: Sequence[State],
    *,
    as_persona: bool,
    options: CropOptions = CropOptions(),
) -> Iterator[CropTruth]:
    """Crops of ``who`` in ``states``, seen by the states' cameras.

    As a wearer the picture is what a webcam gives: hair, whatever the state wears or holds, the sensor's faults; the
    mask is the visible face.

    As a persona it is the target that a decoder learns. The sensor keeps its exposure and colours, which the wearer's
    picture has too, and loses its faults. There is no hair, because the wearer keeps their own. And there are no props:
    the wearer's glasses or hand stay in the frame, so the decoder must never paint them, and the persona's face is
    needed clean and whole under them, since where they end is known only to within some pixels. But what they hide must
    not be replaced, and that is the mask's to say. So the mask is that of a second render in which the persona wears
    the same props, fitted to its own head: its own face less what hides it. The landmarks' visibility is that
    render's too. States without props, most of them, are rendered once.
    """
    return (_crop(renderer, who, state, options, as_persona=as_persona) for state in states)


def _crop(renderer: Renderer, who: Identity, state: State, options: CropOptions, *, as_persona: bool) -> CropTruth:
    clean = options.clean or as_persona
    shown = replace(state, sensor=state.sensor.clean()) if clean else state

    def shoot(what: State) -> Shot:
        return renderer.render(
            who, what, style=options.style, crop_size=options.size, margin=options.margin, hair=not as_persona
        )

    with_props = shoot(shown)
    shot = shoot(replace(shown, props=Props())) if as_persona and state.props != Props() else with_props
    known: dict[str, Any] = {
        "landmarks_3d": shot.landmarks_3d,
        "landmarks_visible": with_props.landmarks_visible,
        "mesh": shot.mesh,
        "classes": shot.classes,
        "expression": expression_row(state.expression),
        "gaze": state.gaze,
        "light": light_row(state.light),
        "camera": np.concatenate([camera_row(state.camera), shot.frame_to_picture.ravel()]),
        "props": state.props != Props(),
    }
    return CropTruth(
        pixels=shot.pixels,
        mask=np.minimum(shot.mask, with_props.mask),
        landmarks=shot.landmarks,
        pose=(state.yaw, state.pitch, state.roll),
        extras={name: np.asarray(known[name]) for name in options.extras},
    )
