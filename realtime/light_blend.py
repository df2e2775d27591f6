"""The blender with learned colours: in a light that the wearer's profile knows, the match is fixed and fades to the
next one; in any other it follows the picture, as without a profile.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np

from calibration.calibrate_colour import light_of, linear_mean, value_gains
from calibration.profile import Light
from engines.crop_square import STANDARD, CropSquare
from engines.types import F64, U8, Swap
from realtime.blend import BlendConfig, Blender

LOOK_S = 0.4
"""Between two looks at the wearer's colours: a lamp is not switched more often."""
LOOKS = 5
"""The median of so many, two seconds, is the face's colour: a hand that passes is not a lamp."""
FADE_S = 0.4
"""Time constant of the change from one light's match to another's."""
_GRID = 32


class LightBlender(Blender):
    """As ``Blender``; ``lights`` are those of the persona that is worn."""

    def __init__(
        self, config: BlendConfig, swap_size: int, square: CropSquare = STANDARD, *, lights: Sequence[Light]
    ) -> None:
        super().__init__(config, swap_size, square)
        self._lights = tuple(lights)
        self._faces: deque[F64] = deque(maxlen=LOOKS)
        self._light: Light | None = None
        self._since_s = math.inf
        self._fixed_gain: F64 = np.ones(3)
        self._fixed_offset: F64 = np.zeros(3)
        self._begun = False

    @property
    def light(self) -> Light | None:
        """In which the wearer sits, as far as it is known."""
        return self._light

    def reset(self) -> None:
        """Another face or place: the lamp is looked at again, the match stays until then."""
        super().reset()
        self._faces.clear()
        self._since_s = math.inf

    def match_colour(self, swap: Swap, mask: U8, dt_s: float) -> tuple[F64, F64]:
        """See ``Blender``."""
        if not self.config.colour:
            return super().match_colour(swap, mask, dt_s)
        self._since_s += dt_s
        if self._since_s >= LOOK_S:
            self._look(swap, mask)
            self._since_s = 0.0
        if self._light is None:
            gain, offset = super().match_colour(swap, mask, dt_s)
        else:
            gain, offset = value_gains(self._light, self.config.colour_strength), np.zeros(3)
        weight = 1.0 if not self._begun else 1.0 - math.exp(-max(dt_s, 0.0) / FADE_S)
        self._begun = True
        self._fixed_gain += weight * (gain - self._fixed_gain)
        self._fixed_offset += weight * (offset - self._fixed_offset)
        return self._fixed_gain, self._fixed_offset

    def _look(self, swap: Swap, mask: U8) -> None:
        """How the wearer's face looks, and which light that is."""
        pixels = np.asarray(cv2.resize(swap.face.pixels, (_GRID, _GRID), interpolation=cv2.INTER_AREA), np.uint8)
        inside = np.asarray(cv2.resize(mask, (_GRID, _GRID), interpolation=cv2.INTER_AREA)) > 127
        if not inside.any():
            return
        self._faces.append(linear_mean(pixels, inside))
        self._light = light_of(self._lights, np.median(self._faces, axis=0))
