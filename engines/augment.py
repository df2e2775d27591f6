"""What a live camera does to a face that a renderer does not, done to crops before they are trained on.

*Paired*, to input and truth alike: shift, turn and scale, brightness, gamma, white balance. The code has to carry them,
so the swap follows the wearer's small movements inside the crop and their light. *Input only*: a smaller shift of its
own, blur, low resolution, codec, noise, occluders. The truth does not have them, so the code learns to ignore them.

uint8 in OpenCV, picture by picture: one warp and one table look-up each were measured faster on CPU than batched tensor
operations in float. ``rng`` decides everything: equal generators give equal pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.errors import SettingsError
from engines.geometry import compose, invert, transform
from engines.pairs import Batch
from engines.types import F32, F64, U8


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """Strengths; a standard deviation unless it says chance. Pixels are of a 128-pixel crop."""

    shift_px: float = 2.5
    """Paired shift: the tracked alignment lags and differs between faces, and the swap must move along."""
    turn_deg: float = 3.0
    scale: float = 0.03
    input_shift_px: float = 0.7
    """Input-only shift: noise of the landmarks. Kept small: a swap that ignores larger shifts slides on the face."""
    input_turn_deg: float = 0.7
    input_scale: float = 0.01
    flip_chance: float = 0.0
    """Paired mirror image. Off: a mirrored persona has its parting on the wrong side."""
    gain: float = 0.15
    """Paired brightness, as exp(normal)."""
    offset: float = 0.02
    gamma: float = 0.15
    """Paired gamma, as exp(normal)."""
    white_balance: float = 0.05
    """Paired gain per channel, as exp(normal)."""
    input_colour: float = 0.03
    """Input-only gain per channel: skin tones differ between wearers, light must not be read from them alone."""
    input_gamma: float = 0.0
    """Input-only gamma, as exp(normal): darker and lighter skins in the same light."""
    input_warp_px: float = 0.0
    """Input-only smooth warp of the face and its mesh points: another face's proportions with the same expression.
    Displacement of the warp's 5 x 5 knots; what would shift, turn or scale the whole is taken out."""
    points_keep_chance: float = 0.0
    """Share of warps that leave the mesh points where they were, and the truth is theirs: pixels of real faces look
    foreign to a network of rendered ones, and Face Mesh then knows the expression better than they do."""
    texture_chance: float = 0.0
    """Share of inputs whose texture and colours a random filter changed, shapes unchanged (RandConv, Xu et al. 2021):
    renderers, cameras and skins differ in both."""
    blur_chance: float = 0.2
    low_resolution_chance: float = 0.2
    codec_chance: float = 0.25
    noise_chance: float = 0.6
    noise: float = 6.0
    """Largest standard deviation of sensor noise, of 255."""
    occluder_chance: float = 0.15


MILD = AugmentConfig(
    shift_px=1.5, turn_deg=2.0, scale=0.02, input_shift_px=0.4, input_turn_deg=0.4, input_scale=0.006, gain=0.08,
    offset=0.01, gamma=0.08, white_balance=0.03, input_colour=0.01, blur_chance=0.12, low_resolution_chance=0.12,
    codec_chance=0.2, noise_chance=0.5, noise=5.0,
)  # fmt: skip
"""For the end of a training. What the usual strengths hide (brows, lids, skin) is learned only here: from the same
weights, 11,000 pairs of one persona at the usual strengths left the loss on faces never seen at 2.60, these took it to
2.51 and made the pictures half as sharp again."""

MILD_ENCODER = replace(
    MILD, input_colour=0.03, input_gamma=0.12, input_warp_px=2.0, points_keep_chance=0.5, texture_chance=0.3
)
"""The same where the encoder learns too, and should not know its wearers by heart."""


@dataclass(frozen=True, slots=True)
class Tensors:
    """A batch ready for the networks: RGB float32 0..1, contiguous."""

    inputs: Tensor
    """(N, 3, S, S)"""
    truths: Tensor
    """(K, N, 3, T, T)"""
    masks: Tensor
    """(K, N, 1, T, T)"""
    landmarks: Tensor
    """(K, N, 68, 2) in pixels of the T x T picture."""
    second: Tensor | None = None
    """(N, 3, S, S): the inputs once more with other input-only disturbances."""
    points: Tensor | None = None
    """(N, P, 2) the batch's mesh points as they lie in ``inputs``, as fractions of the crop's side."""
    second_points: Tensor | None = None
    """(N, P, 2) the same in ``second``."""


_KNOTS = 5

NEUTRAL = AugmentConfig(
    shift_px=0, turn_deg=0, scale=0, input_shift_px=0, input_turn_deg=0, input_scale=0, gain=0, offset=0, gamma=0,
    white_balance=0, input_colour=0, blur_chance=0, low_resolution_chance=0, codec_chance=0, noise_chance=0, noise=0,
    occluder_chance=0,
)  # fmt: skip
"""No disturbance at all: only the cut from the stored crop to the network's sizes, for validation."""


def augment(
    batch: Batch,
    config: AugmentConfig,
    rng: np.random.Generator,
    *,
    margin: float,
    input_size: int,
    output_size: int,
    second: bool = False,
) -> Tensors:
    """Disturb and cut a batch to ``input_size`` (S) and ``output_size`` (T). ``margin`` is the face set's.

    With ``second`` the inputs come twice, disturbed independently: for the consistency of codes. Raises SettingsError
    for mirror images of a batch with mesh points.
    """
    if batch.points is not None and config.flip_chance:
        raise SettingsError("mesh points are not mirrored", hint="set flip_chance to 0")
    personas, count, stored = batch.truths.shape[:3]
    inputs = np.empty((count, input_size, input_size, 3), np.uint8)
    others = np.empty_like(inputs) if second else None
    truths = np.empty((personas, count, output_size, output_size, 4), np.uint8)
    landmarks = np.empty((personas, count, 68, 2), np.float32)
    points = None if batch.points is None else np.empty((1 + second, *batch.points.shape), np.float32)
    for i in range(count):
        move = _random_affine(rng, config.shift_px, config.turn_deg, config.scale)
        flip = bool(rng.random() < config.flip_chance)
        table = _light(rng, config)
        for which, views in enumerate((inputs, others)):
            if views is not None:
                shake = _random_affine(rng, config.input_shift_px, config.input_turn_deg, config.input_scale)
                cut = _cut(compose(move, shake), stored, margin, input_size, flip=flip)
                bend = _random_bend(rng, config.input_warp_px, input_size) if config.input_warp_px else None
                follow = bend is not None and rng.random() >= config.points_keep_chance
                view = _u8(cv2.LUT(_warp(batch.inputs[i], cut, input_size, bend), _table(_tinted(table, config, rng))))
                views[i] = _disturb(view, config, rng)
                if points is not None and batch.points is not None:
                    at = transform(invert(cut), batch.points[i])
                    shift = _bent_by(bend, at) if bend is not None and follow else 0.0
                    points[which, i] = (at + 0.5 - shift) / input_size
        cut = _cut(move, stored, margin, output_size, flip=flip)
        to_output = invert(cut)
        with_mask = _table(np.column_stack([table, np.linspace(0, 1, 256)]))
        for k in range(personas):
            truths[k, i] = cv2.LUT(_warp(batch.truths[k, i], cut, output_size), with_mask)
            marks = transform(to_output, batch.landmarks[k, i])
            landmarks[k, i] = marks[_MIRROR_68] if flip else marks
    return Tensors(
        inputs=to_tensor(inputs),
        truths=to_tensor(truths[..., :3].reshape(-1, *truths.shape[2:4], 3)).reshape(
            personas, count, 3, output_size, output_size
        ),
        masks=torch.from_numpy(truths[..., 3]).float().div_(255)[:, :, None],
        landmarks=torch.from_numpy(landmarks),
        second=None if others is None else to_tensor(others),
        points=None if points is None else torch.from_numpy(points[0]),
        second_points=None if points is None or not second else torch.from_numpy(points[1]),
    )


def to_tensor(pictures: U8) -> Tensor:
    """(N, S, S, 3) uint8 BGR -> (N, 3, S, S) float32 RGB 0..1. The one place where training changes colour order."""
    rgb = np.ascontiguousarray(pictures[..., ::-1].transpose(0, 3, 1, 2))
    return torch.from_numpy(rgb).float().div_(255)


def to_pictures(faces: Tensor) -> U8:
    """(N, 3, S, S) float RGB -> (N, S, S, 3) uint8 BGR, clamped and rounded. The inverse of ``to_tensor``."""
    rgb = faces.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return np.ascontiguousarray(rgb[..., ::-1])


def _random_affine(rng: np.random.Generator, shift_px: float, turn_deg: float, scale: float) -> F64:
    """A (2, 3) similarity around the centre of a unit square: moves by shift / 128 of its side, turns, scales."""
    angle = np.deg2rad(rng.normal(0, 1) * turn_deg)
    size = np.exp(rng.normal(0, 1) * scale)
    cos, sin = size * np.cos(angle), size * np.sin(angle)
    dx, dy = rng.normal(0, 1, 2) * shift_px / 128
    linear = np.array([[cos, -sin], [sin, cos]])
    shift = np.array([0.5 + dx, 0.5 + dy]) - linear @ np.array([0.5, 0.5])
    return np.column_stack([linear, shift])


def _cut(move: F64, stored: int, margin: float, size: int, *, flip: bool) -> F64:
    """(2, 3): pixel of the ``size`` crop -> pixel of the stored crop, with ``move`` applied in crop fractions."""
    mirror = -1.0 if flip else 1.0
    fraction = np.array([[mirror / size, 0, 0.5 / size if not flip else 1 - 0.5 / size], [0, 1 / size, 0.5 / size]])
    side = stored / margin
    edge = (stored - side) / 2 - 0.5
    to_stored = np.array([[side, 0.0, edge], [0.0, side, edge]])
    return compose(to_stored, compose(move, fraction))


def _warp(picture: U8, cut: F64, size: int, bend: F32 | None = None) -> U8:
    """The cut's pixels; with ``bend`` (size, size, 2) each is taken from that far beside it, in pixels of the cut."""
    if bend is None:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped = cv2.warpAffine(picture, cut, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return warped.astype(np.uint8, copy=False)
    rows, columns = np.indices((size, size), np.float32)
    x, y = bend[..., 0] + columns, bend[..., 1] + rows
    linear, (dx, dy) = cut[:, :2].astype(np.float32), cut[:, 2].astype(np.float32)
    to_x, to_y = linear[0, 0] * x + linear[0, 1] * y + dx, linear[1, 0] * x + linear[1, 1] * y + dy
    bent = cv2.remap(picture, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return bent.astype(np.uint8, copy=False)


def _random_bend(rng: np.random.Generator, warp_px: float, size: int) -> F32:
    """(size, size, 2) smooth displacement in pixels that is no affine map of the whole."""
    knots = rng.normal(0, warp_px * size / 128, (_KNOTS * _KNOTS, 2))
    knots -= _AFFINE_OF_KNOTS @ knots
    grid = knots.reshape(_KNOTS, _KNOTS, 2).astype(np.float32)
    return np.asarray(cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def _affine_of_knots() -> F64:
    """(K, K) projection of the knots' displacements onto affine maps."""
    y, x = np.indices((_KNOTS, _KNOTS), np.float64).reshape(2, -1) - (_KNOTS - 1) / 2
    basis, _ = np.linalg.qr(np.column_stack([np.ones_like(x), x, y]))
    return np.asarray(basis @ basis.T, np.float64)


def _bent_by(bend: F32, at: F64) -> F64:
    """(P, 2) how far the warp takes what lies at ``at`` (P, 2) pixels: x with x + bend(x) = at, in three steps."""
    side = bend.shape[0]
    shift = np.zeros_like(at)
    for _ in range(3):
        column, row = np.clip(np.rint(np.nan_to_num(at - shift)), 0, side - 1).astype(np.int64).T
        shift = bend[row, column].astype(np.float64)
    return shift


def _tinted(table: F64, config: AugmentConfig, rng: np.random.Generator) -> F64:
    """The curve (256, 3) of the paired light, seen on another skin."""
    curve = table * np.exp(rng.normal(0, config.input_colour, (1, 3)))
    if config.input_gamma:
        curve = np.clip(curve, 0, 1) ** np.exp(rng.normal(0, config.input_gamma))
    return np.asarray(curve, np.float64)


def _light(rng: np.random.Generator, config: AugmentConfig) -> F64:
    """(256, 3) look-up curve in 0..1 by channel: gamma, gain, white balance, offset."""
    gamma, gain = np.exp(rng.normal(0, 1, 2) * (config.gamma, config.gain))
    balance = np.exp(rng.normal(0, 1, 3) * config.white_balance)
    offset = rng.normal(0, 1) * config.offset
    curve = np.linspace(0, 1, 256) ** gamma
    return np.asarray(curve[:, None] * (gain * balance)[None] + offset, np.float64)


def _table(curve: F64) -> U8:
    """(256, C) curve in 0..1 -> (1, 256, C) uint8 table for OpenCV."""
    return np.ascontiguousarray(np.clip(np.rint(curve * 255), 0, 255).astype(np.uint8)[None])


def _disturb(view: U8, config: AugmentConfig, rng: np.random.Generator) -> U8:
    """Input-only damage in the order in which a camera does it: something in the way, optics, sensor, codec."""
    size = view.shape[0]
    if config.texture_chance and rng.random() < config.texture_chance:
        view = _foreign(view, rng)
    if rng.random() < config.occluder_chance:
        view = _occlude(view, rng)
    if rng.random() < config.blur_chance:
        view = _u8(cv2.GaussianBlur(view, (0, 0), float(rng.uniform(0.4, 1.6)) * size / 128))
    if rng.random() < config.low_resolution_chance:
        small = max(8, int(size * rng.uniform(0.35, 0.8)))
        view = _u8(cv2.resize(view, (small, small), interpolation=cv2.INTER_AREA))
        view = _u8(cv2.resize(view, (size, size), interpolation=cv2.INTER_LINEAR))
    if rng.random() < config.noise_chance:
        view = _add_noise(view, float(rng.uniform(0, config.noise)), rng)
    if rng.random() < config.codec_chance:
        encoded = cv2.imencode(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])[1]
        view = _u8(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    return view


def _foreign(view: U8, rng: np.random.Generator) -> U8:
    """The same shapes of another texture: mixed with what a random filter and random channels make of them.

    The filter's result has the picture's own mean and contrast, so that only texture and colours are foreign.
    """
    side = int(rng.choice((1, 3, 5)))
    kernel = rng.normal(0, 1 / side, (side, side)).astype(np.float32)
    kernel[side // 2, side // 2] += 1.0
    channels = (np.eye(3) + rng.normal(0, 0.3, (3, 3))).astype(np.float32)
    mean, spread = (np.asarray(v, np.float32).ravel() for v in cv2.meanStdDev(view))
    other = cv2.transform(cv2.filter2D(view.astype(np.float32), -1, kernel), channels)
    other_mean, other_spread = (np.asarray(v, np.float32).ravel() for v in cv2.meanStdDev(other))
    other = (other - other_mean) * (spread / np.maximum(other_spread, 1.0)) + mean
    share = np.float32(rng.uniform(0.2, 1.0))
    return np.clip(np.rint(view + share * (other - view)), 0, 255).astype(np.uint8)


def _occlude(view: U8, rng: np.random.Generator) -> U8:
    """One filled ellipse or bar of one colour that covers up to a quarter of the face from somewhere."""
    size = view.shape[0]
    covered = view.copy()
    colour = [float(c) for c in rng.integers(0, 256, 3)]
    x, y = (int(v) for v in rng.uniform(0, size, 2))
    if rng.random() < 0.5:
        axes = (int(rng.uniform(0.05, 0.25) * size), int(rng.uniform(0.05, 0.25) * size))
        cv2.ellipse(covered, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    else:
        end = (int(x + rng.normal(0, 0.5) * size), int(y + rng.normal(0, 0.5) * size))
        cv2.line(covered, (x, y), end, colour, max(1, int(rng.uniform(0.02, 0.15) * size)), cv2.LINE_AA)
    return covered


def _add_noise(view: U8, sigma: float, rng: np.random.Generator) -> U8:
    """Normal noise cut at a random place from a bank: drawing it anew would cost more than all else here."""
    bank = _noise_bank()
    rows, columns = view.shape[:2]
    top = int(rng.integers(bank.shape[0] - rows))
    left = int(rng.integers(bank.shape[1] - columns))
    noisy = view + bank[top : top + rows, left : left + columns] * np.float32(sigma)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def _noise_bank() -> F32:
    return np.random.default_rng(0).standard_normal((1024, 1024, 3), np.float32)


def _u8(picture: NDArray[np.generic] | None) -> U8:
    if picture is None:
        raise SettingsError("OpenCV cannot decode its own JPEG", hint="reinstall opencv-python")
    return picture.astype(np.uint8, copy=False)


def _mirror_rows() -> NDArray[np.int64]:
    """Rows of the iBUG 68 layout as they appear in a mirrored picture."""
    jaw, brows, nose = list(range(16, -1, -1)), list(range(26, 16, -1)), [27, 28, 29, 30, 35, 34, 33, 32, 31]
    eyes = [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    mouth = [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
    return np.array(jaw + brows + nose + eyes + mouth)


_MIRROR_68 = _mirror_rows()
_AFFINE_OF_KNOTS = _affine_of_knots()
