"""The drawn style: the same people in the same states, cel-shaded, with big eyes, small nose and mouth, ink lines.

It is a second domain, not a filter over the first: the geometry itself is redrawn, so that landmarks, mask and classes
stay exact. Blinks and smiles keep working because the face units are scaled by the same factor as the skin around them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.people.camera.picture import F32, Layers
from calibration.people.face.noise import smoothstep
from calibration.people.head.mesh import Points
from calibration.people.head.shape import HeadModel
from calibration.people.identity import Identity

Style = Literal["photo", "anime"]
_OLDEST = 0.22
_EYES = np.array([1.05, 1.60, 1.05])
_NOSE = np.array([-0.45, -0.30, -0.66])
_BRIDGE = np.array([-0.20, 0.0, -0.55])
_MOUTH = np.array([-0.22, -0.12, -0.10])
"""Growth of the parts, per axis."""
_JAW, _CHIN = 0.17, 0.10
_INK = 0.82
"""How much of the light a line takes away."""


def redrawn(who: Identity) -> Identity:
    """The person as drawn: young and clear-skinned, with brighter eyes; hair, skin tone and clothes stay their own."""
    skin = replace(
        who.skin, freckles=0.0, moles=0, stubble=0.35 * who.skin.stubble, under_eye=0.0, melanin=who.skin.melanin * 0.8
    )
    return replace(who, age=min(who.age, _OLDEST), skin=skin)


@dataclass(frozen=True)
class Redrawing:
    """How the neutral head changes, vertex by vertex."""

    neutral: Points
    """(V, 3) redrawn vertices."""
    scale: NDArray[np.float64]
    """(V, 3) factors for the face units' offsets."""


def redraw(head: HeadModel, neutral: Points) -> Redrawing:
    """Grow the eyes, shrink nose and mouth, narrow and shorten the jaw of (V, 3) neutral vertices."""
    points, scale = neutral.copy(), np.ones((len(neutral), 3))
    landmarks = neutral[head.index["landmarks"]]
    # The nose shrinks into the cheeks' plane, which lies about a sixth of a decimetre behind its tip.
    places = [
        (landmarks[30] - [0, -0.05, 0.16], _NOSE, 0.30),
        (landmarks[28] - [0, 0, 0.10], _BRIDGE, 0.20),
        (landmarks[48:68].mean(0), _MOUTH, 0.42),
    ]
    for side in ("left", "right"):
        ball = neutral[head.index[f"{side}_eye"]]
        centre = (ball.min(0) + ball.max(0)) / 2
        # Grown about its front, an eye sinks into the head instead of bulging out of it.
        front = np.array([0, 0, np.ptp(ball[:, 2]) / 2])
        places.append((centre + front, _EYES, 0.40))
    for centre, amount, reach in places:
        offset = neutral - centre
        # Along the face the reach counts, in depth everything near belongs to the part.
        near = np.exp(-((np.hypot(offset[:, 0], offset[:, 1]) / reach) ** 2)) * (offset[:, 2] > -0.9)
        points += near[:, None] * offset * amount
        scale *= 1 + near[:, None] * amount
    front = smoothstep(0.0, 0.7, neutral[:, 2])
    below = smoothstep(landmarks[30, 1], landmarks[8, 1], neutral[:, 1]) * smoothstep(5.3, 6.1, neutral[:, 1]) * front
    points[:, 0] *= 1 - _JAW * below
    points[:, 1] += _CHIN * (landmarks[51, 1] - landmarks[8, 1]) * below
    return Redrawing(points, scale)


def shrunk(mouth: Points, lips: Points) -> Points:
    """Teeth, gums and tongue (n, 3) drawn together behind the middle of the ``lips`` (3,): a drawn chin has no room."""
    return np.asarray(lips + [0.0, 0.02, -0.16] + (mouth - lips - [0.0, 0.0, -0.16]) * [0.62, 0.62, 0.5])


def ink(layers: Layers, classes: NDArray[np.uint8], depth: NDArray[np.float32], line_px: float) -> Layers:
    """Draw outlines ``line_px`` wide where one surface ends before another: at class borders and jumps of depth.

    ``classes`` and ``depth`` (0..1 as the depth buffer holds it) are (H, W) like the layers.
    """
    merged = np.where(classes == 2, 1, classes).astype(np.uint8)  # no line between face and neck of one skin
    merged[classes == 3] = 1  # the lashes draw the eyes
    kernel = np.ones((3, 3), np.uint8)
    border = cv2.dilate(merged, kernel) != cv2.erode(merged, kernel)
    span = (cv2.dilate(depth, kernel) - cv2.erode(depth, kernel)) / np.maximum(1 - depth, 1e-4)
    line = (border | (span > 0.035)).astype(np.float32)
    line = np.asarray(cv2.GaussianBlur(line, (0, 0), max(0.3, line_px / 2)), np.float32)
    keep = (1 - _INK * np.clip(line * 1.6, 0, 1))[..., None]
    albedo, gloss = layers.albedo.copy(), layers.gloss.copy()
    albedo[..., :3] *= keep
    gloss[..., :3] *= keep
    return replace(layers, albedo=_as_f32(albedo), gloss=_as_f32(gloss))


def _as_f32(values: NDArray[np.floating]) -> F32:
    return np.asarray(values, np.float32)
