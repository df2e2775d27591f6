"""Affines for the tests of crop and paste."""

from __future__ import annotations

import math

import numpy as np

IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def similarity(scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    """Crop -> frame affine; (x, y) is where crop pixel (0, 0) lands."""
    a = math.radians(degrees)
    return np.array([[scale * math.cos(a), -scale * math.sin(a), x], [scale * math.sin(a), scale * math.cos(a), y]])
