"""What one frame shows: pose, expression, gaze, light, props, camera. The same state fits every identity."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from calibration.people.camera import Camera
from calibration.people.picture import Sensor
from calibration.people.props import Props

Colour = tuple[float, float, float]
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """A key light, a fill, a rim and two ambient colours. Directions point towards the light; colours are linear."""

    key_direction: Vector = (0.3, 0.5, 0.8)
    key: Colour = (1.75, 1.65, 1.52)
    sky: Colour = (0.20, 0.22, 0.26)
    ground: Colour = (0.09, 0.075, 0.065)
    fill_direction: Vector = (-0.4, 0.1, 0.9)
    fill: Colour = (0.16, 0.18, 0.24)
    rim_direction: Vector = (-0.65, 0.5, -0.6)
    rim: Colour = (0.7, 0.66, 0.62)


@dataclass(frozen=True)
class State:
    """One moment. Angles are degrees: yaw towards the person's left, pitch up, roll to the person's left shoulder."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    shift: Vector = (0.0, 0.0, 0.0)
    """Of the head, in decimetres."""
    expression: dict[str, float] = field(default_factory=dict)
    """ARKit names, 0..1."""
    gaze: tuple[float, float] = (0.0, 0.0)
    """Of the eyes in the head, radians: to the person's left, up."""
    light: Light = field(default_factory=Light)
    props: Props = field(default_factory=Props)
    camera: Camera = field(default_factory=Camera)
    sensor: Sensor = field(default_factory=Sensor)
    background: int = 0
    noise_seed: int = 0

    def rotation(self) -> Rotation:
        """Head rotation in world axes."""
        return Rotation.from_euler("YXZ", [self.yaw, -self.pitch, self.roll], degrees=True)


def random_light(rng: np.random.Generator) -> Light:
    """Any room: warm or cold key from anywhere in front, dim to bright, sometimes a coloured rim."""
    azimuth, elevation = np.radians(rng.uniform(-65, 65)), np.radians(rng.uniform(5, 60))
    key_direction = (np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation))
    warmth = rng.normal(0, 0.10)
    key = rng.uniform(0.6, 1.5) * np.array([1.05 + warmth, 1.0, 0.93 - warmth])
    sky = rng.uniform(0.12, 0.34) * np.array([0.95, 1.0, 1.1]) * np.exp(rng.normal(0, 0.08, 3))
    rim = rng.uniform(0, 0.8) * np.exp(rng.normal(0, 0.35, 3))
    side = -np.sign(azimuth + 1e-6)
    fill = rng.uniform(0.5, 1.6) * np.array([0.16, 0.18, 0.22])

    def triple(values: NDArray[np.floating] | tuple[float, float, float]) -> Vector:
        return float(values[0]), float(values[1]), float(values[2])

    return Light(
        key_direction=triple(key_direction),
        key=triple(key),
        sky=triple(sky),
        ground=triple(sky * 0.42 * np.array([1.1, 0.95, 0.8])),
        fill_direction=triple(np.array([-np.sin(azimuth), 0.1, 0.6])),
        fill=triple(fill),
        rim_direction=triple(np.array([0.7 * side, 0.5, -0.6])),
        rim=triple(rim),
    )


def _symmetric(out: dict[str, float], name: str, value: float, right: float = 1.0) -> None:
    out[f"{name}Left"] = value
    out[f"{name}Right"] = value * right


def _speech(rng: np.random.Generator, mouth: float) -> dict[str, float]:
    """A mouth shape of somebody talking or making a face."""
    out: dict[str, float] = {"jawOpen": float(np.clip(rng.beta(1.2, 2.2), 0, 1)) * 0.75 * mouth}
    for name, most in (("mouthFunnel", 0.6), ("mouthPucker", 0.7), ("mouthRollLower", 0.35), ("mouthShrugUpper", 0.3)):
        if rng.random() < 0.3:
            out[name] = float(rng.uniform(0, most)) * mouth
    for name, most in (("mouthStretch", 0.4), ("mouthUpperUp", 0.4), ("mouthLowerDown", 0.5), ("mouthFrown", 0.5)):
        if rng.random() < 0.3:
            _symmetric(out, name, float(rng.uniform(0, most)) * mouth, float(rng.uniform(0.8, 1.0)))
    return out


def random_state(seed: int, *, turn: float = 1.0) -> State:
    """A seeded moment: any pose to about 40 degrees of yaw (times ``turn``), speech, smiles, blinks, any light."""
    rng = np.random.default_rng([seed, 101])
    yaw = float(np.clip(rng.normal(0, 19), -42, 42)) * turn
    pitch = float(np.clip(rng.normal(0, 9), -22, 22)) * turn
    roll = float(np.clip(rng.normal(0, 6), -16, 16)) * turn
    expression = _speech(rng, 1.0) if rng.random() < 0.75 else {}
    if rng.random() < 0.45:
        smile, right = float(rng.uniform(0.1, 0.95)), float(rng.uniform(0.85, 1.0))
        _symmetric(expression, "mouthSmile", smile, right)
        _symmetric(expression, "cheekSquint", smile * 0.6)
    blink = float(rng.choice([0.0, rng.uniform(0, 0.3), rng.uniform(0.5, 1.0)], p=[0.5, 0.32, 0.18]))
    _symmetric(expression, "eyeBlink", blink)
    brow = float(rng.normal(0, 0.45))
    if brow > 0.1:
        expression["browInnerUp"] = min(brow, 1) * 0.8
        _symmetric(expression, "browOuterUp", min(brow, 1), float(rng.uniform(0.6, 1.0)))
        _symmetric(expression, "eyeWide", min(brow, 1) * 0.35 * (1 - blink))
    elif brow < -0.1:
        _symmetric(expression, "browDown", min(-brow, 1))
        _symmetric(expression, "noseSneer", min(-brow, 1) * 0.25)
        _symmetric(expression, "eyeSquint", min(-brow, 1) * 0.3)
    if rng.random() < 0.06:
        expression["cheekPuff"] = float(rng.uniform(0.2, 0.9))
    gaze = (float(np.clip(rng.normal(0, 0.17) - np.radians(yaw) * 0.35, -0.55, 0.55)), float(rng.normal(0, 0.09)))
    _symmetric(expression, "eyeLookDown", max(-gaze[1], 0) * 2.2)
    _symmetric(expression, "eyeLookUp", max(gaze[1], 0) * 2.2)
    return State(
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        shift=(float(rng.normal(0, 0.25)), float(rng.normal(0, 0.1)), float(rng.normal(0, 0.5))),
        expression=expression,
        gaze=gaze,
        light=random_light(rng),
        background=int(rng.integers(1 << 30)),
        noise_seed=int(rng.integers(1 << 30)),
    )


def _curve(rng: np.random.Generator, n: int, sigma: float, amplitude: float = 1.0) -> NDArray[np.float64]:
    """Smooth noise of about +-amplitude."""
    pad = int(4 * sigma) + 1
    smooth = gaussian_filter1d(rng.standard_normal(n + 2 * pad), sigma)[pad : pad + n]
    return np.asarray(amplitude * smooth / (np.abs(smooth).max() + 1e-9))


def motion(seed: int, frames: int, fps: float = 30.0) -> list[State]:
    """A clip of somebody talking, smiling, blinking and looking around, ``frames`` at ``fps``; the light moves too."""
    rng = np.random.default_rng([seed, 102])
    n, t, k = frames, np.arange(frames) / fps, fps / 25.0
    phase = rng.random(12) * 2 * np.pi
    yaw = np.clip(24 * np.sin(2 * np.pi * t / 6.1 + phase[0]) + _curve(rng, n, 14 * k, 9), -38, 38)
    pitch = np.clip(7 * np.sin(2 * np.pi * t / 4.3 + phase[1]) + _curve(rng, n, 12 * k, 5), -18, 18)
    roll = np.clip(6 * np.sin(2 * np.pi * t / 7.7 + phase[2]) + _curve(rng, n, 14 * k, 4), -14, 14)
    talk = np.clip(_curve(rng, n, 14 * k, 1.6) + 0.4, 0, 1)
    syllable = (
        np.clip(0.5 + 0.5 * np.sin(2 * np.pi * (3.7 * t + 0.35 * np.sin(5.6 * t + phase[3])) + phase[4]), 0, 1) ** 1.3
    )
    jaw = talk * syllable * (0.30 + 0.3 * (_curve(rng, n, 4 * k) * 0.5 + 0.5))
    shapes = {
        name: np.clip(_curve(rng, n, 3 * k), 0, 1) * talk * most
        for name, most in (
            ("mouthFunnel", 0.5),
            ("mouthPucker", 0.5),
            ("mouthRollLower", 0.3),
            ("mouthShrugUpper", 0.25),
        )
    }
    pairs = {
        name: np.clip(_curve(rng, n, 3 * k), 0, 1) * talk * most
        for name, most in (("mouthStretch", 0.3), ("mouthUpperUp", 0.35), ("mouthLowerDown", 0.45))
    }
    smile = np.clip(_curve(rng, n, 16 * k, 1.5) - 0.1, 0, 1) * 0.85
    brow = _curve(rng, n, 10 * k, 1.3)
    blink = _blinks(rng, n, fps)
    steps = max(1, int(0.7 * fps))
    gaze_x = (
        gaussian_filter1d(np.repeat(rng.uniform(-0.25, 0.25, n // steps + 2), steps)[:n], 0.8) - np.radians(yaw) * 0.35
    )
    gaze_y = gaussian_filter1d(np.repeat(rng.uniform(-0.1, 0.1, n // steps + 2), steps)[:n], 0.8)
    shift = np.stack([_curve(rng, n, 20 * k, 0.3), _curve(rng, n, 16 * k, 0.1), _curve(rng, n, 18 * k, 0.3)], 1)
    states = []
    for i in range(n):
        e: dict[str, float] = {"jawOpen": float(jaw[i])} | {name: float(v[i]) for name, v in shapes.items()}
        for name, values in pairs.items():
            _symmetric(e, name, float(values[i]), 0.92)
        up, down = float(np.clip(brow[i] - 0.15, 0, 1)), float(np.clip(-brow[i] - 0.3, 0, 1))
        e["browInnerUp"] = up * 0.8
        _symmetric(e, "mouthSmile", float(smile[i]), 0.9)
        _symmetric(e, "cheekSquint", float(smile[i]) * 0.6)
        _symmetric(e, "browOuterUp", up, 0.9)
        _symmetric(e, "browDown", down)
        _symmetric(e, "eyeBlink", float(blink[i]))
        _symmetric(e, "eyeSquint", float(smile[i]) * 0.3 + down * 0.2)
        _symmetric(e, "eyeLookDown", max(-float(gaze_y[i]), 0) * 2.2)
        _symmetric(e, "eyeLookUp", max(float(gaze_y[i]), 0) * 2.2)
        states.append(
            State(
                float(yaw[i]),
                float(pitch[i]),
                float(roll[i]),
                (float(shift[i, 0]), float(shift[i, 1]), float(shift[i, 2])),
                e,
                (float(gaze_x[i]), float(gaze_y[i])),
                _moving_light(i / fps, phase),
                background=seed,
                noise_seed=seed * 100003 + i,
            )
        )
    return states


def _blinks(rng: np.random.Generator, n: int, fps: float) -> NDArray[np.float64]:
    """Lids closed for about 0.15 s every 2 to 4 s."""
    blink, at = np.zeros(n), rng.uniform(0.4, 1.4) * fps
    while at < n:
        blink += np.exp(-(((np.arange(n) - at) / (0.075 * fps)) ** 4))
        at += rng.uniform(1.6, 3.6) * fps
    return np.clip(blink, 0, 1)


def _moving_light(t: float, phase: NDArray[np.float64]) -> Light:
    """A key light that wanders slowly, as when somebody turns towards a window."""
    azimuth = np.radians(-15 + 40 * np.sin(2 * np.pi * t / 11.0 + phase[5]))
    elevation = np.radians(32 + 12 * np.sin(2 * np.pi * t / 7.0 + phase[6]))
    power = 1 + 0.18 * np.sin(2 * np.pi * t / 5.0 + phase[7])
    return Light(
        key_direction=(
            float(np.sin(azimuth) * np.cos(elevation)),
            float(np.sin(elevation)),
            float(np.cos(azimuth) * np.cos(elevation)),
        ),
        key=(float(1.6 * power), float(1.52 * power), float(1.42 * power)),
        fill_direction=(float(-np.sin(azimuth)), 0.1, 0.6),
        rim_direction=(float(0.7 * np.cos(t / 3 + phase[8])), 0.5, -0.6),
    )  # fmt: skip
