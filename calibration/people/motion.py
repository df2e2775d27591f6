"""Somebody before a webcam, moment after moment: talking, smiling, blinking, looking around; the light moves too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from calibration.people.camera.lighting import Light
from calibration.people.camera.room import Room
from calibration.people.face.expression import Expression, both, look
from calibration.people.props.hand_motion import moving_hand
from calibration.people.props.worn import Props
from calibration.people.state import State


def _curve(rng: np.random.Generator, n: int, sigma: float, amplitude: float = 1.0) -> NDArray[np.float64]:
    """Smooth noise of about +-amplitude."""
    pad = int(4 * sigma) + 1
    smooth = gaussian_filter1d(rng.standard_normal(n + 2 * pad), sigma)[pad : pad + n]
    return np.asarray(amplitude * smooth / (np.abs(smooth).max() + 1e-9))


def motion(seed: int, frames: int, fps: float = 30.0, *, props: Props | None = None, hand: bool = False) -> list[State]:
    """A clip of somebody talking, smiling, blinking and looking around, ``frames`` at ``fps``; the light moves too.

    ``props`` are worn through the whole clip; with ``hand`` one rises to the face and leaves again every few seconds.
    Camera and sensor are the default ones.
    """
    rng = np.random.default_rng([seed, 102])
    n, t, k = frames, np.arange(frames) / fps, fps / 25.0
    phase = rng.random(12) * 2 * np.pi
    yaw = np.clip(24 * np.sin(2 * np.pi * t / 6.1 + phase[0]) + _curve(rng, n, 14 * k, 9), -38, 38)
    pitch = np.clip(7 * np.sin(2 * np.pi * t / 4.3 + phase[1]) + _curve(rng, n, 12 * k, 5), -18, 18)
    roll = np.clip(6 * np.sin(2 * np.pi * t / 7.7 + phase[2]) + _curve(rng, n, 14 * k, 4), -14, 14)
    faces = _faces(rng, n, t, k, phase)
    blink = _blinks(rng, n, fps)
    steps = max(1, int(0.7 * fps))
    gaze_x = (
        gaussian_filter1d(np.repeat(rng.uniform(-0.25, 0.25, n // steps + 2), steps)[:n], 0.8) - np.radians(yaw) * 0.35
    )
    gaze_y = gaussian_filter1d(np.repeat(rng.uniform(-0.1, 0.1, n // steps + 2), steps)[:n], 0.8)
    shift = np.stack([_curve(rng, n, 20 * k, 0.3), _curve(rng, n, 16 * k, 0.1), _curve(rng, n, 18 * k, 0.3)], 1)
    worn = props or Props()
    hands = moving_hand(np.random.default_rng([seed, 105]), n, fps) if hand else [None] * n
    states = []
    for i, (expression, held) in enumerate(zip(faces, hands, strict=True)):
        gaze = float(gaze_x[i]), float(gaze_y[i])
        both(expression, "eyeBlink", float(blink[i]))
        look(expression, gaze)
        states.append(
            State(
                float(yaw[i]),
                float(pitch[i]),
                float(roll[i]),
                (float(shift[i, 0]), float(shift[i, 1]), float(shift[i, 2])),
                expression,
                gaze,
                _moving_light(i / fps, phase),
                Room(seed),
                replace(worn, hands=(*worn.hands, held)) if held else worn,
                noise_seed=seed * 100003 + i,
            )
        )
    return states


def _faces(
    rng: np.random.Generator, n: int, t: NDArray[np.float64], k: float, phase: NDArray[np.float64]
) -> list[Expression]:
    """Speech in syllables of about a quarter second, smiles and brows of about one; no lids yet."""
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
    out = []
    for i in range(n):
        e: Expression = {"jawOpen": float(jaw[i])} | {name: float(v[i]) for name, v in shapes.items()}
        for name, values in pairs.items():
            both(e, name, float(values[i]), 0.92)
        up, down = float(np.clip(brow[i] - 0.15, 0, 1)), float(np.clip(-brow[i] - 0.3, 0, 1))
        e["browInnerUp"] = up * 0.8
        both(e, "mouthSmile", float(smile[i]), 0.9)
        both(e, "cheekSquint", float(smile[i]) * 0.6)
        both(e, "browOuterUp", up, 0.9)
        both(e, "browDown", down)
        both(e, "eyeSquint", float(smile[i]) * 0.3 + down * 0.2)
        out.append(e)
    return out


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
