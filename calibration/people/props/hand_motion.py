"""A hand in a clip: it comes up, touches the face or passes before it, and leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calibration.people.props.worn import Hand, random_hand

_FAR = 3.6
"""From this far below the place no part of a hand is in a webcam's picture."""


def _eased(t: float) -> float:
    """0..1 with the speed of a reaching movement (minimum jerk, Flash and Hogan 1985)."""
    t = min(max(t, 0.0), 1.0)
    return t**3 * (10 - 15 * t + 6 * t * t)


def hand_at(hand: Hand, seconds: float, *, stays: float, reach: float = 0.55, wave: float = 0.0) -> Hand | None:
    """The moving ``hand`` at a time after it starts to rise; None when it is out of the picture.

    It needs ``reach`` seconds to come and again to leave, and is at its place for ``stays`` seconds between; ``wave``
    decimetres is how far it swings sideways while it stays.
    """
    if seconds <= 0 or seconds >= 2 * reach + stays:
        return None
    away = 1.0 - _eased(seconds / reach) if seconds < reach else _eased((seconds - reach - stays) / reach)
    staying = seconds - reach
    swing = wave * float(np.sin(2 * np.pi * 1.6 * staying)) * (1 - away)
    x, y, z = hand.offset
    return replace(hand, offset=(x + 0.9 * away + swing, y - _FAR * away, z + 0.5 * away),
                   tilt=(hand.tilt[0], hand.tilt[1], hand.tilt[2] - 25 * away + 14 * swing))  # fmt: skip


def moving_hand(rng: np.random.Generator, frames: int, fps: float) -> list[Hand | None]:
    """One entry per frame of a clip: every few seconds a hand rises, stays for a moment, and leaves."""
    out: list[Hand | None] = [None] * frames
    start = float(rng.uniform(0.3, 2.0))
    while start < frames / fps:
        hand = random_hand(rng)
        passes = hand.place == "air"
        stays = float(rng.uniform(0.1, 0.8) if passes else rng.uniform(0.6, 2.5))
        reach = float(rng.uniform(0.35, 0.7))
        wave = float(rng.uniform(0.2, 0.6)) if passes and rng.random() < 0.5 else 0.0
        for frame in range(frames):
            now = hand_at(hand, frame / fps - start, stays=stays, reach=reach, wave=wave)
            out[frame] = now if now is not None else out[frame]
        start += 2 * reach + stays + float(rng.uniform(1.0, 5.0))
    return out
