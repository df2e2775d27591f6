"""What a state and a picture were made of, as rows of numbers with named columns: the truth that is no picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from calibration.people.camera.lighting import Light
from calibration.people.camera.pinhole import Camera
from calibration.people.head.shape import head_model

F32 = NDArray[np.float32]


def expression_columns() -> tuple[str, ...]:
    """The 52 face units, ARKit's names, sorted."""
    return tuple(head_model().expressions)


def expression_row(expression: Mapping[str, float]) -> F32:
    """(52,) weights 0..1 in the order of ``expression_columns``."""
    return np.array([expression.get(name, 0.0) for name in expression_columns()], np.float32)


def light_columns() -> tuple[str, ...]:
    """Directions towards the lights in world axes, and linear RGB."""
    axes = {True: "xyz", False: "rgb"}
    return tuple(f"{f.name}.{c}" for f in fields(Light) for c in axes[f.name.endswith("direction")])


def light_row(light: Light) -> F32:
    """Values in the order of ``light_columns``."""
    return np.concatenate([np.asarray(getattr(light, f.name), np.float32) for f in fields(Light)])


CAMERA_COLUMNS = ("position.x", "position.y", "position.z", "width", "height", "focal_px")
"""World decimetres; pixels. The camera looks along -z, its principal point is the middle of the picture."""
CROP_COLUMNS = tuple(f"frame_to_crop.{row}{column}" for row in range(2) for column in range(3))
"""The (2, 3) affine from the camera's frame to a crop, centres of pixels at integers."""


def camera_row(camera: Camera) -> F32:
    """(6,) in the order of ``CAMERA_COLUMNS``."""
    return np.array([*camera.position, camera.width, camera.height, camera.focal_px], np.float32)
