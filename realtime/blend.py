"""The swap into the picture: soften the mask, follow the wearer's light, paste the face's region in place.

Colour: per channel, value * gain + offset takes the swap's mean and standard deviation inside the mask towards those of
the wearer's aligned face (the statistics of Reinhard et al. 2001, IEEE CG&A 21(5), here in BGR, where the result is one
multiplication and addition that the paste gets for free). A full match would also paint the wearer's skin onto the
persona, so ``colour_strength`` says how far to go; the persona's decoder already follows the light.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from engines.crop_square import STANDARD, CropSquare
from engines.errors import DetectorError, RuntimeFailure, SettingsError
from engines.types import F64, U8, Swap
from realtime import kernels
from realtime.cover import Cover

Triple = tuple[float, float, float]
"""B, G, R."""

GAIN_RANGE = (0.85, 1.2)
"""Contrast is hardly changed, whatever the statistics say: more of it turned a persona's shading into patches."""
MAX_SHIFT = 60.0
"""Levels by which the swap's mean may be moved."""
MIN_STATISTICS_PIXELS = 16
"""Fewer pixels inside the mask say nothing about colour: the last known match stays."""
MIN_STD = 1.0
"""Levels. A flatter face has no contrast to match: its gain is 1."""
MIN_CORE_SHARE = 0.5
"""Share of the face's core (geometry.CORE), of its eyes and of its mouth, that the softened mask must cover. A turned
head takes a part of it (0.57 of the mouth at the least in the demo); below this, the swap is no disguise."""
COVERING_ALPHA = 127
"""A pixel counts as covered above this: it shows more of the swap than of the wearer."""


@dataclass(frozen=True)
class BlendConfig:
    """How a swap is put into the picture. Lengths are pixels of the swap's own T x T grid."""

    erode_px: int = 1
    """The mask is shrunk by this much, so that the seam lies on the face and not on the background; negative: grown."""
    feather_px: int = 4
    """The mask then fades over this much to either side of its edge (two box blurs)."""
    colour: bool = True
    """Follow the wearer's colour at all."""
    colour_strength: float = 0.5
    """0 keeps the persona's colours, 1 matches mean and contrast of the wearer's face fully."""
    colour_time_constant_s: float = 0.5
    """Smoothing of the match in time; 0 takes every frame's own. Too small flickers, too large lags behind the lamp."""
    sharpen: float = 0.0
    """0..1: how much of its own fine detail is added to the swap (unsharp mask); the frame's pixels are not touched."""

    def __post_init__(self) -> None:
        """Raises SettingsError for values that make no sense."""
        if not -16 <= self.erode_px <= 64 or not 0 <= self.feather_px <= 64:
            raise SettingsError(
                f"erode_px {self.erode_px} and feather_px {self.feather_px} must lie in -16..64 and 0..64",
                hint="about 1 to 6 suits a 128 pixel swap",
            )
        if not 0.0 <= self.colour_strength <= 1.0:
            raise SettingsError(
                f"colour_strength {self.colour_strength} must lie in 0..1", hint="0.5 is a moderate match"
            )
        if not 0.0 <= self.sharpen <= 1.0:
            raise SettingsError(f"sharpen {self.sharpen} must lie in 0..1", hint="0.3 is a moderate value")
        if not (math.isfinite(self.colour_time_constant_s) and self.colour_time_constant_s >= 0.0):
            raise SettingsError(
                f"colour_time_constant_s {self.colour_time_constant_s} must be 0 or more seconds", hint="try 0.5"
            )


def match_statistics(sums: kernels.I64, count: int) -> tuple[Triple, Triple, Triple]:
    """What takes the second picture's colours to the first's, from the sums of :func:`kernels.masked_sums`.

    Returns (gain, shift, pivot) of the three channels: matched = (value - pivot) * gain + pivot + shift, with ``pivot``
    the second picture's mean. Gain and shift are clipped to GAIN_RANGE and +-MAX_SHIFT. What is clipped is the shift of
    the mean and not the offset, which also has to undo the gain: a bright face may need a large offset for no change at
    all.
    """
    (first, first_squares), (second, second_squares) = sums.tolist()
    # Plain numbers: twenty numpy calls on three elements each take longer than the paste of a small face.
    means = [value / count for value in first], [value / count for value in second]
    stds = [
        [math.sqrt(max(square / count - mean * mean, 0.0)) for square, mean in zip(squares, mean3, strict=True)]
        for squares, mean3 in zip((first_squares, second_squares), means, strict=True)
    ]
    flat = [a < MIN_STD or b < MIN_STD for a, b in zip(*stds, strict=True)]
    gain = [1.0 if plain else _clip(a / b, *GAIN_RANGE) for plain, a, b in zip(flat, *stds, strict=True)]
    shift = [_clip(a - b, -MAX_SHIFT, MAX_SHIFT) for a, b in zip(*means, strict=True)]
    return _triple(gain), _triple(shift), _triple(means[1])


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _triple(values: Sequence[float]) -> Triple:
    b, g, r = values
    return b, g, r


class Blender:
    """Puts swaps of one size into frames; owns its buffers and remembers the colour match between frames.

    One instance belongs to one persona and one thread.
    """

    def __init__(self, config: BlendConfig, swap_size: int, square: CropSquare = STANDARD) -> None:
        if swap_size < 1:
            raise SettingsError(f"swap size {swap_size} is not positive", hint="take it from the persona's manifest")
        self.swap_size = swap_size
        self.configure(config)
        self._sharp: U8 = np.zeros((swap_size, swap_size, 3), np.uint8)
        self._core = _core_pixels(swap_size, square)
        self._cover = Cover(swap_size)
        self._soft: U8 = np.zeros((swap_size, swap_size), np.uint8)
        self._wearer: U8 = np.zeros((swap_size, swap_size, 3), np.uint8)
        self._small: U8 = np.zeros((0, 0, 3), np.uint8)
        self._small_mask: U8 = np.zeros((0, 0), np.uint8)
        self._buffers = kernels.PasteBuffers(swap_size)
        self._sums = np.zeros((2, 2, 3), np.int64)
        self._frame_to_swap: F64 = np.zeros((2, 3))
        self._applied_gain: F64 = np.ones(3)
        self._applied_offset: F64 = np.zeros(3)
        self._gain: Triple = (1.0, 1.0, 1.0)
        self._shift: Triple = (0.0, 0.0, 0.0)
        self._pivot: Triple = (0.0, 0.0, 0.0)
        self._matched = False

    def configure(self, config: BlendConfig) -> None:
        """From the next swap on; the colour match stays. Raises SettingsError when nothing of a mask would be left."""
        if 2 * (max(config.erode_px, 0) + config.feather_px + 1) >= self.swap_size:
            raise SettingsError(
                f"erode_px {config.erode_px} + feather_px {config.feather_px} leave nothing of {self.swap_size} pixels",
                hint=f"keep their sum below {max((self.swap_size - 1) // 2 - 1, 0)}",
            )
        self.config = config
        side = 2 * abs(config.erode_px) + 1
        self._edge_kernel: U8 = np.ones((side, side), np.uint8)

    def reset(self) -> None:
        """Forget the colour match: the next swap is another face or another place."""
        self._gain, self._shift, self._pivot = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)
        self._matched = False

    def soften(self, mask: U8) -> U8:
        """Erode (or grow) and feather a (T, T) mask. The result belongs to the blender until the next call.

        The outermost ring comes out 0, and a mask that reaches the crop's edge fades out before it: otherwise the
        crop's square would show in the picture.
        """
        feather = self.config.feather_px
        soft = self._soft
        move = cv2.dilate if self.config.erode_px < 0 else cv2.erode
        move(mask, self._edge_kernel, dst=soft, borderType=cv2.BORDER_CONSTANT, borderValue=(0,))
        _clear_border(soft, feather + 1)
        # Two box blurs make a smooth ramp of feather_px to either side; an odd radius is split unevenly.
        for radius in (feather // 2, feather - feather // 2):
            if radius:
                size = 2 * radius + 1
                cv2.boxFilter(soft, -1, (size, size), dst=soft, borderType=cv2.BORDER_CONSTANT)
        return soft

    def core_share(self, soft_mask: U8) -> float:
        """Share 0..1 of the face's core that a contiguous (T, T) softened mask covers by more than half.

        Of its eyes or of its mouth, whichever is covered less.
        """
        return min(kernels.count_above(soft_mask, part, COVERING_ALPHA) / len(part) for part in self._core)

    def match_colour(self, swap: Swap, mask: U8, dt_s: float) -> tuple[F64, F64]:
        """Gain and offset, each (3,), for value * gain + offset on the swap; the blender's until the next call.

        ``mask`` (T, T) selects, above 127, the pixels that are compared. Smoothed in time: ``dt_s`` seconds went by
        since the last call.
        """
        if not self.config.colour:
            return self._applied_gain, self._applied_offset
        wearer, own = swap.face.pixels, swap.pixels
        # Compared on the smaller of the two grids.
        if wearer.shape[0] > self.swap_size:
            cv2.resize(wearer, own.shape[:2], dst=self._wearer, interpolation=cv2.INTER_AREA)
            wearer = self._wearer
        elif wearer.shape[0] < self.swap_size:
            own, mask = self._reduced(own, mask, wearer.shape[0])
        count = kernels.masked_sums(wearer, own, mask, self._sums)
        if count >= MIN_STATISTICS_PIXELS:
            gain, shift, self._pivot = match_statistics(self._sums, count)
            weight = self._weight(dt_s)
            self._gain = _towards(self._gain, gain, weight)
            self._shift = _towards(self._shift, shift, weight)
            self._matched = True
        strength = self.config.colour_strength
        for c, (gain_c, shift_c, pivot) in enumerate(zip(self._gain, self._shift, self._pivot, strict=True)):
            self._applied_gain[c] = 1.0 + strength * (gain_c - 1.0)
            self._applied_offset[c] = strength * (pivot * (1.0 - gain_c) + shift_c)
        return self._applied_gain, self._applied_offset

    def _reduced(self, pixels: U8, mask: U8, side: int) -> tuple[U8, U8]:
        """Both at ``side`` x ``side``, in buffers of this object."""
        if self._small_mask.shape[0] != side:
            self._small = np.zeros((side, side, 3), np.uint8)
            self._small_mask = np.zeros((side, side), np.uint8)
        # Whole factors are averaged quickly; for others bilinear samples miss no pixel up to a factor of two.
        method = cv2.INTER_AREA if len(mask) % side == 0 else cv2.INTER_LINEAR
        cv2.resize(pixels, (side, side), dst=self._small, interpolation=method)
        cv2.resize(mask, (side, side), dst=self._small_mask, interpolation=method)
        return self._small, self._small_mask

    def _weight(self, dt_s: float) -> float:
        """Share of the newest match in the smoothed one: first-order low pass of the configured time constant."""
        if not self._matched or self.config.colour_time_constant_s == 0.0:
            return 1.0
        return 1.0 - math.exp(-dt_s / self.config.colour_time_constant_s) if dt_s > 0.0 else 0.0

    def paste(self, out: U8, swap: Swap, dt_s: float) -> int:
        """Blend ``swap`` into ``out`` (H, W, 3), a copy of the frame, in place; only the face's square is touched.

        ``dt_s`` is the time since the last paste. Returns how many pixels took any of the swap; 0 means that the wearer
        is fully visible, and a caller that believed in this face must treat that as a fault. So it is, with nothing
        written, when the softened mask covers less than MIN_CORE_SHARE of the face's core: options like --feather 60,
        or a mask with a hole, would leave the wearer recognisable while the frame counts as swapped. Raises
        RuntimeFailure for arrays of another size or layout, DetectorError for an alignment that is not finite or has no
        area.
        """
        self._check(out, swap)
        swap_to_frame = _swap_to_frame(swap.face.to_frame, swap.face.pixels.shape[0], self.swap_size)
        _invert(swap_to_frame, self._frame_to_swap)
        soft = self.soften(swap.mask)
        if self.core_share(soft) < MIN_CORE_SHARE:
            return 0
        gain, offset = self.match_colour(swap, soft, dt_s)
        pixels = swap.pixels if self.config.sharpen == 0.0 else self._sharpened(swap.pixels)
        if swap.face.features is not None:
            area = self._cover.area(swap.face.features, self.swap_size / swap.face.pixels.shape[0], swap.mask)
            cv2.max(soft, area, dst=soft)
            _clear_border(soft, 1)
            pixels = self._cover.extend(pixels)
        region = _region(swap_to_frame, self.swap_size, out.shape[1], out.shape[0])
        return kernels.paste(out, pixels, soft, self._frame_to_swap, gain, offset, self._buffers, region)

    def _sharpened(self, pixels: U8) -> U8:
        """Unsharp mask over a hundredth of the side, at full strength 1.5 times the detail; in this object's buffer."""
        amount = 1.5 * self.config.sharpen
        cv2.GaussianBlur(pixels, (0, 0), max(0.8, self.swap_size / 100), dst=self._sharp)
        cv2.addWeighted(pixels, 1.0 + amount, self._sharp, -amount, 0.0, dst=self._sharp)
        return self._sharp

    def _check(self, out: U8, swap: Swap) -> None:
        """Numba would read past the end of an array that is smaller than said."""
        size = self.swap_size
        face = swap.face.pixels.shape
        arrays = (out, swap.pixels, swap.mask, swap.face.pixels)
        if (
            swap.pixels.shape != (size, size, 3)
            or swap.mask.shape != (size, size)
            or out.ndim != 3
            or out.shape[2] != 3
            or len(face) != 3
            or face[0] != face[1]
            or any(array.dtype != np.uint8 or not array.flags.c_contiguous for array in arrays)
        ):
            shapes = ", ".join(f"{array.shape} {array.dtype}" for array in arrays)
            raise RuntimeFailure(
                f"a blender for {size} pixel swaps got frame, swap, mask and face of {shapes}",
                hint="give contiguous uint8 arrays, and make a new blender when the persona changes",
            )


def _core_pixels(size: int, square: CropSquare) -> tuple[kernels.I64, kernels.I64]:
    """Flat indices of a ``size`` x ``size`` crop's pixels that geometry.CORE touches: eyes and nose, then mouth."""
    core: U8 = np.zeros((size, size), np.uint8)
    bits = 8  # of a pixel's fraction, in OpenCV's fixed point
    corners = np.rint((square.core * size - 0.5) * (1 << bits)).astype(np.int32)
    cv2.fillPoly(core, [corners], (255,), shift=bits)
    pixels = np.flatnonzero(core)
    mouth = pixels // size >= round(square.mouth_top * size)
    # Of a crop of a few pixels a part may be empty; it is then the whole.
    upper, lower = (part if len(part) else pixels for part in (pixels[~mouth], pixels[mouth]))
    return upper, lower


def _clear_border(mask: U8, width: int) -> None:
    """Set a frame of ``width`` >= 1 pixels along the edge to 0, in place."""
    mask[:width] = 0
    mask[-width:] = 0
    mask[:, :width] = 0
    mask[:, -width:] = 0


def _towards(value: Triple, goal: Triple, weight: float) -> Triple:
    """``weight`` of the way from ``value`` to ``goal``."""
    return _triple([v + weight * (g - v) for v, g in zip(value, goal, strict=True)])


Affine = tuple[Triple, Triple]
"""The rows of a (2, 3) affine: six numbers, which numpy would take twenty times as long for."""


def _swap_to_frame(to_frame: F64, face_size: int, swap_size: int) -> Affine:
    """``geometry.rescale_crop``: the same square in the swap's pixels."""
    scale = face_size / swap_size
    shift = 0.5 * scale - 0.5
    (a, b, x), (c, d, y) = to_frame.tolist()
    return (a * scale, b * scale, (a + b) * shift + x), (c * scale, d * scale, (c + d) * shift + y)


def _invert(swap_to_frame: Affine, dst: F64) -> None:
    """Fill ``dst`` (2, 3) with the inverse. Raises DetectorError when there is none."""
    (a, b, x), (c, d, y) = swap_to_frame
    area = a * d - b * c
    # Written so that NaN fails it too.
    if not (all(abs(value) < kernels.MAX_COEFFICIENT for row in swap_to_frame for value in row) and abs(area) >= 1e-6):
        raise DetectorError("the alignment is not finite or has no area", hint="the frame counts as one without a face")
    a, b, c, d = d / area, -b / area, -c / area, a / area
    inverse = (a, b, -(a * x + b * y), c, d, -(c * x + d * y))
    if not all(abs(value) < kernels.MAX_COEFFICIENT for value in inverse):
        raise DetectorError("the face is too small and too far outside", hint="the frame counts as one without a face")
    for k, value in enumerate(inverse):
        dst[k // 3, k % 3] = value


def _region(swap_to_frame: Affine, size: int, width: int, height: int) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of the frame's pixels that a swap can reach: one of its pixels beyond its square it fades out."""
    (a, b, x), (c, d, y) = swap_to_frame
    corners = [(-1, -1), (size, -1), (size, size), (-1, size)]
    across, down = [a * u + b * v + x for u, v in corners], [c * u + d * v + y for u, v in corners]
    x0, x1 = math.floor(min(across)), math.ceil(max(across)) + 1
    y0, y1 = math.floor(min(down)), math.ceil(max(down)) + 1
    return max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
