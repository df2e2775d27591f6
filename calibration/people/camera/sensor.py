"""What a webcam does to the light that reaches it: blur, exposure, white balance, noise, sharpening, codec.

Faults act at the camera's own pixels. An aligned crop of a far face has fewer of them than it has pixels, so it is
degraded small and then enlarged, as in life; that of a near face has more, so its noise is finer and weaker.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.people.camera.lighting import Light, LightKind, towards_camera

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
Codec = tuple[Literal["jpeg", "mjpeg", "h264"], int]
"""JPEG quality 1..100 with full or with half colour resolution, or the crf 0..51 of one H.264 picture."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_LEAST_NATIVE_PX = 24


@dataclass(frozen=True)
class Sensor:
    """The camera's own faults. Lengths are pixels of the camera; gains work on linear light."""

    noise: float = 0.008
    """Standard deviation of the brightness at mid grey, 0..1 of the range; about twice that in the dark."""
    colour_noise: float = 0.5
    """Of red, green and blue, over 2x2 pixels, relative to ``noise``."""
    softness_px: float = 0.45
    codec: Codec | None = ("jpeg", 90)
    exposure: float = 1.0
    white_balance: tuple[float, float] = (1.0, 1.0)
    """Gains of red and blue."""
    saturation: float = 1.0
    contrast: float = 1.0
    gamma: float = 1.0
    """Above 1 lifts the mid tones."""
    blur_px: float = 0.0
    """Length of the motion blur."""
    blur_angle: float = 0.0
    """Degrees, counter-clockwise from the picture's right."""
    sharpening: float = 0.0
    """Height of the halo that the camera draws along edges, relative to the edge."""
    veil: float = 0.0
    """Share of the light that a dirty or cheap lens spreads over the whole picture, 0..1: haze before a window."""
    native: float = 1.0
    """The camera's pixels per pixel of the stream, along one side: below 1 for one that enlarges its picture."""

    def clean(self) -> Sensor:
        """The same exposure and colours without blur, noise, halo or codec: how a target of training is taken."""
        return replace(
            self,
            noise=0.0,
            softness_px=CLEAN.softness_px,
            codec=None,
            blur_px=0.0,
            sharpening=0.0,
            veil=0.0,
            native=1.0,
        )


CLEAN = Sensor(noise=0.0, softness_px=0.35, codec=None)
"""Neutral and without faults."""


def tone_curve(linear: F32, gamma: float = 1.0) -> F32:
    """A soft shoulder and the 1 / (2.2 gamma) power: linear light -> 0..1."""
    x = np.maximum(linear, 0)
    shouldered = np.minimum(x * (1 + x * 0.06) / (1 + x * 0.38) * np.float32(1.22), 1)
    return np.asarray(cv2.pow(shouldered, 1 / (2.2 * gamma)), np.float32)


def photograph(linear: F32, sensor: Sensor, noise_seed: int, scale: float = 1.0) -> U8:
    """(H, W, 3) BGR uint8 of (H, W, 3) linear RGB. ``scale``: pixels of this picture per pixel of the stream."""
    height, width = linear.shape[:2]
    px = scale / sensor.native  # of this picture per pixel of the camera
    if px > 1.08:
        least = _LEAST_NATIVE_PX
        small = (max(round(width / px), least), max(round(height / px), least))
        seen = np.asarray(cv2.resize(linear, small, interpolation=cv2.INTER_AREA), np.float32)
        taken = _take(seen, sensor, noise_seed, 1.0)
        return np.asarray(cv2.resize(taken, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    return _take(linear, sensor, noise_seed, px)


def _take(linear: F32, sensor: Sensor, noise_seed: int, px: float) -> U8:
    if sensor.veil > 0:
        linear = _veiled(linear, sensor.veil)
    if sensor.blur_px * px >= 1:
        kernel = _streak(sensor.blur_px * px, sensor.blur_angle)
        linear = cv2.filter2D(linear, -1, kernel, borderType=cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    if sensor.softness_px * px > 0.2:
        linear = cv2.GaussianBlur(linear, (0, 0), sensor.softness_px * px)  # type: ignore[assignment]
    red, blue = sensor.white_balance
    gains = np.array([red, 1.0, blue], np.float32) * np.float32(sensor.exposure)
    picture = tone_curve(linear * gains, sensor.gamma)
    if sensor.noise > 0:
        picture += _grain(picture, sensor, noise_seed, px)
    picture = _grade(picture, sensor)
    if sensor.sharpening > 0:
        blurred = cv2.GaussianBlur(picture, (0, 0), max(1.3 * px, 0.5))
        picture += np.float32(sensor.sharpening) * (picture - blurred)
    bgr = cv2.cvtColor(cv2.convertScaleAbs(np.maximum(picture, 0), alpha=255), cv2.COLOR_RGB2BGR)
    return _coded(np.asarray(bgr, np.uint8), sensor.codec, px)


def _veiled(linear: F32, share: float) -> F32:
    """Spread a share of the light, half of it evenly and half around where it is; nothing fine is left of it."""
    height, width = linear.shape[:2]
    small = cv2.resize(linear, (32, max(round(32 * height / width), 4)), interpolation=cv2.INTER_AREA)
    glow = 0.5 * (cv2.GaussianBlur(small, (0, 0), 5) + small.mean((0, 1)))
    glow = cv2.resize(glow, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.addWeighted(linear, 1 - share, glow, share, 0), np.float32)


def _grain(picture: F32, sensor: Sensor, seed: int, px: float) -> F32:
    """Noise of brightness per pixel and of colour over 2x2, more in the dark; less where pixels are averages."""
    rng = np.random.default_rng(seed)
    height, width = picture.shape[:2]
    sigma = np.float32(sensor.noise * px)
    fine = rng.standard_normal((height, width, 1), np.float32) * sigma
    half = rng.standard_normal(((height + 1) // 2, (width + 1) // 2, 3), np.float32)
    half *= sigma * np.float32(sensor.colour_noise)
    coarse = cv2.resize(half, (width, height), interpolation=cv2.INTER_LINEAR)
    dark = 1 - picture[..., 1:2]
    return np.asarray((fine + coarse) * (np.float32(0.5) + dark * dark * np.float32(1.2)), np.float32)


def _grade(picture: F32, sensor: Sensor) -> F32:
    """Saturation about the brightness, then contrast about a middle grey of 0.45."""
    if sensor.saturation == 1 and sensor.contrast == 1:
        return picture
    mix = sensor.contrast * (sensor.saturation * np.eye(3) + (1 - sensor.saturation) * np.outer(np.ones(3), _LUMA))
    offset = np.full((3, 1), 0.45 * (1 - sensor.contrast))
    return np.asarray(cv2.transform(picture, np.hstack([mix, offset])), np.float32)


def _streak(length: float, degrees: float) -> F32:
    """A line of ``length`` pixels as a kernel that sums to 1."""
    reach = int(np.ceil(length / 2))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    along, across = np.abs(x * cos - y * sin), np.abs(x * sin + y * cos)
    kernel = np.clip((length + 1) / 2 - along, 0, 1) * np.clip(1 - across, 0, 1)
    return np.asarray(kernel / kernel.sum(), np.float32)


def _coded(bgr: U8, codec: Codec | None, px: float) -> U8:
    """Through the codec and back. A picture with less than every camera pixel shows its faults less."""
    if codec is None:
        return np.ascontiguousarray(bgr)
    name, value = codec
    if name == "h264":
        return h264_picture(bgr, round(51 - (51 - value) * (0.5 + 0.5 / max(px, 0.5))) if px < 1 else value)
    quality = round(100 - (100 - value) * min(px, 1.0))
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if name == "mjpeg" else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    _, data = cv2.imencode(".jpg", bgr, options)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def h264_picture(bgr: U8, crf: int) -> U8:
    """One (H, W, 3) picture through libx264 at ``crf`` 0..51 and back, one thread, so always the same."""
    height, width = bgr.shape[:2]
    # 4:2:0 needs even sides.
    even = np.pad(bgr, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    encoder = av.CodecContext.create("libx264", "w")
    if not isinstance(encoder, av.VideoCodecContext):
        raise TypeError("libx264 is no video codec")
    encoder.height, encoder.width, encoder.pix_fmt = even.shape[0], even.shape[1], "yuv420p"
    encoder.framerate, encoder.thread_count = 30, 1  # type: ignore[assignment]
    encoder.options = {"crf": str(max(0, min(51, crf))), "preset": "superfast", "tune": "zerolatency"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="bgr24")
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    decoder = av.CodecContext.create("h264", "r")
    if not isinstance(decoder, av.VideoCodecContext):
        raise TypeError("h264 is no video codec")
    decoder.thread_count = 1
    frames = [f for packet in [*packets, None] for f in decoder.decode(packet)]
    return np.ascontiguousarray(frames[0].to_ndarray(format="bgr24")[:height, :width])


def random_sensor(rng: np.random.Generator, light: Light, kind: LightKind = "room") -> Sensor:
    """A webcam's automatic settings under ``light``, as good and as bad as they are.

    Exposure evens out most of the light's brightness and pays for it with noise; white balance takes out a part of its
    colour, sometimes the wrong one; a window behind makes the camera leave the face dark.
    """
    arriving, usual = towards_camera(light), towards_camera(Light())
    brightness = float(arriving @ _LUMA) / float(usual @ _LUMA)
    exposure = float(np.clip(brightness ** -rng.uniform(0.6, 1.0) * np.exp(rng.normal(-0.12, 0.17)), 0.3, 4.0))
    if kind == "backlit":
        exposure = min(exposure, 1.4) * float(rng.uniform(0.4, 0.9))
    elif kind == "coloured":  # a saturated colour clips before its brightness does
        exposure *= 0.75
    cast = arriving / arriving[1] * usual[1] / usual
    trust = rng.uniform(0.1, 0.4) if kind == "coloured" else rng.uniform(0.4, 0.9)
    error = 0.16 if rng.random() < 0.12 else 0.035
    red, blue = np.clip(cast[[0, 2]] ** -trust * np.exp(rng.normal(0, error, 2) * [1.0, 1.2]), 0.5, 1.9)
    grade = float(rng.random())  # of the camera: 0 a cheap one
    noise = (0.003 + 0.016 * (1 - grade) ** 1.5) * float(np.clip(exposure, 0.6, 4.0)) ** 0.8
    moving = rng.random() < 0.14
    return Sensor(
        noise=noise,
        colour_noise=float(rng.uniform(0.25, 0.9)),
        softness_px=float(rng.uniform(0.35, 0.6) + 0.7 * (1 - grade) * rng.random()),
        codec=_random_codec(rng),
        exposure=exposure,
        white_balance=(float(red), float(blue)),
        saturation=float(np.clip(rng.normal(1.0, 0.13), 0.6, 1.4)),
        contrast=float(np.clip(rng.normal(1.0, 0.07), 0.8, 1.2)),
        gamma=float(np.exp(rng.normal(0, 0.06))),
        blur_px=float(rng.uniform(2, 11)) if moving else 0.0,
        blur_angle=float(rng.choice([rng.normal(0, 15), rng.uniform(0, 180)])),
        veil=float(rng.uniform(0, 0.07) if kind == "backlit" else max(rng.normal(-0.01, 0.02), 0.0)),
        sharpening=float(rng.uniform(0.2, 1.0)) if rng.random() < 0.45 else 0.0,
        native=float(rng.uniform(0.6, 0.9)) if grade < 0.12 else 1.0,
    )


def _random_codec(rng: np.random.Generator) -> Codec | None:
    which = rng.random()
    quality, crf = int(rng.integers(45, 96)), int(rng.integers(19, 34))
    if which < 0.10:
        return None
    if which < 0.25:
        return "jpeg", quality
    return ("mjpeg", quality) if which < 0.60 else ("h264", crf)
