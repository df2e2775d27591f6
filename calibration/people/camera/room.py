"""Rooms out of focus behind the person, in linear light, lit as the person is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.people.camera.lighting import Colour, Light, LightKind, towards_camera, triple

F32 = NDArray[np.float32]
RoomKind = Literal["furnished", "shelves", "window", "gaming", "green", "plain", "blurred"]
ROOM_KINDS: tuple[RoomKind, ...] = get_args(RoomKind)
_WIDTH, _HEIGHT = 320, 180
"""Rooms are out of focus, so they are painted small."""
_GREEN = (0.045, 0.42, 0.07)


@dataclass(frozen=True)
class Room:
    """What is behind. ``light`` multiplies what lamps do not light themselves; ``accents`` are two coloured lamps."""

    seed: int = 0
    kind: RoomKind = "furnished"
    light: Colour = (1.0, 1.0, 1.0)
    accents: tuple[Colour, Colour] = ((1.0, 0.8, 0.6), (0.6, 0.7, 1.0))


def random_room(rng: np.random.Generator, light: Light, kind: LightKind) -> Room:
    """A room that may have this light: a window behind a dark face, LED strips in the lamps' colours."""
    seed = int(rng.integers(1 << 30))
    shares = {
        "furnished": 0.38,
        "shelves": 0.2,
        "window": 0.07,
        "gaming": 0.04,
        "green": 0.06,
        "plain": 0.1,
        "blurred": 0.15,
    }
    if kind == "backlit":
        shares = {"window": 0.85, "blurred": 0.15}
    elif kind in ("coloured", "screen"):
        shares = {"gaming": 0.6, "furnished": 0.15, "shelves": 0.15, "plain": 0.1}
    names = [name for name in ROOM_KINDS if name in shares]
    chosen = names[int(rng.choice(len(names), p=np.array([shares[n] for n in names])))]
    # The walls get what the person gets, less directly, and somewhat less or more of it.
    level = 0.5 * towards_camera(light) / towards_camera(Light())[1] + 1.1 * np.asarray(light.sky) + 0.05
    level = level * float(np.exp(rng.normal(0, 0.35)))
    accents = (triple(np.asarray(light.rim) + 0.02), triple(np.asarray(light.fill) * 1.4 + 0.02))
    return Room(seed, chosen, triple(level), accents)


def background(room: Room, frame_height: int, size: tuple[int, int], frame_to_picture: NDArray[np.float64]) -> F32:
    """The room (H, W, 3), linear RGB, as the camera sees it behind the crop or frame of ``size`` (width, height)."""
    scale = _HEIGHT / frame_height
    # Pixel centres are integers in both pictures.
    shift = 0.5 / scale - 0.5
    to_picture = frame_to_picture @ np.array([[1 / scale, 0, shift], [0, 1 / scale, shift], [0, 0, 1.0]])
    return np.asarray(
        cv2.warpAffine(_painted(room), to_picture, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT),
        np.float32,
    )


@lru_cache(maxsize=8)
def _painted(room: Room) -> F32:
    rng = np.random.default_rng([room.seed, 103])
    picture = _walls(rng, room)
    sigma = float(rng.uniform(1.2, 4.0))
    if room.kind == "furnished":
        _furnish(picture, rng, room)
        _lamps(picture, rng, int(rng.integers(0, 14)))
    elif room.kind == "shelves":
        _shelves(picture, rng, room)
    elif room.kind == "window":
        _window(picture, rng, room)
    elif room.kind == "gaming":
        _furnish(picture, rng, room)
        _strips(picture, rng, room)
        sigma *= 0.8
    elif room.kind == "blurred":
        _furnish(picture, rng, room)
        _lamps(picture, rng, int(rng.integers(0, 9)))
        sigma = float(rng.uniform(6, 12))
    return _blurred(picture, sigma)


def _blurred(picture: F32, sigma: float) -> F32:
    """Gaussian blur, at a smaller size where it is wide."""
    shrink = 1 if sigma < 3 else 2 if sigma < 6 else 4
    small = cv2.resize(picture, (_WIDTH // shrink, _HEIGHT // shrink), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / shrink)
    return np.asarray(cv2.resize(small, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_LINEAR), np.float32)


def _walls(rng: np.random.Generator, room: Room) -> F32:
    """A wall with light falling off to a side."""
    wall = rng.uniform(0.03, 0.45) * np.exp(rng.normal(0, 0.15, 3))
    if room.kind == "green":
        wall = np.array(_GREEN) * rng.uniform(0.7, 1.6)
    y, x = np.mgrid[0:_HEIGHT, 0:_WIDTH].astype(np.float32) / _HEIGHT
    shade = 1.1 - 0.4 * y + rng.uniform(0.05, 0.3) * (x - 0.9) * rng.choice([-1, 1])
    picture = (wall * np.asarray(room.light)).astype(np.float32) * shade[..., None]
    if room.kind == "gaming":  # LED light that washes over the wall from the sides
        for accent, reach in zip(room.accents, (x, 1.78 - x), strict=True):
            picture += np.asarray(accent, np.float32) * (0.25 * np.exp(-1.8 * reach))[..., None] * wall.mean()
    return np.asarray(picture, np.float32)


def _box(picture: F32, left: float, top: float, width: float, height: float, colour: NDArray[np.floating]) -> None:
    corner = (int(left + width), int(top + height))
    cv2.rectangle(picture, (int(left), int(top)), corner, tuple(float(c) for c in colour), -1)


def _furnish(picture: F32, rng: np.random.Generator, room: Room) -> None:
    """Cupboards, pictures, doors; some are bright."""
    for _ in range(int(rng.integers(2, 9))):
        colour = rng.uniform(0.02, 0.5) * np.exp(rng.normal(0, 0.24, 3)) * np.asarray(room.light)
        _box(picture, rng.uniform(0, _WIDTH), rng.uniform(-20, _HEIGHT), rng.uniform(8, 110), rng.uniform(8, 80),
             colour * (3 if rng.random() < 0.1 else 1))  # fmt: skip


def _lamps(picture: F32, rng: np.random.Generator, count: int) -> None:
    """Small lights out of focus."""
    for _ in range(count):
        centre = (int(rng.uniform(0, _WIDTH)), int(rng.uniform(0, _HEIGHT * 0.8)))
        glow = rng.uniform(0.1, 1.2) * np.exp(rng.normal(0, 0.4, 3))
        cv2.circle(picture, centre, int(rng.uniform(3, 10)), tuple(float(c) for c in glow), -1, cv2.LINE_AA)


def _shelves(picture: F32, rng: np.random.Generator, room: Room) -> None:
    """Rows of books between boards."""
    light = np.asarray(room.light)
    left, right = sorted(rng.uniform(-60, _WIDTH + 60, 2))
    right = max(right, left + 140)
    board = rng.uniform(0.05, 0.35) * np.array([1.2, 0.95, 0.7]) * light
    _box(picture, left, 0, right - left, _HEIGHT, board * 0.35)
    pitch = rng.uniform(36, 56)
    for shelf in np.arange(rng.uniform(10, pitch), _HEIGHT + pitch, pitch):
        x = left
        while x < right:
            width = rng.uniform(3, 10)
            tall = rng.uniform(0.5, 0.9) * pitch
            if rng.random() < 0.85:
                colour = 0.36 * rng.random() ** 1.6 * np.array([1.1, 1.0, 0.9]) * np.exp(rng.normal(0, 0.19, 3)) * light
                _box(picture, x, shelf - tall, min(width, right - x), tall, colour)
            x += width + 0.6
        _box(picture, left, shelf, right - left, 3, board)


def _window(picture: F32, rng: np.random.Generator, room: Room) -> None:
    """A bright window with a frame and often a curtain; outside it is day."""
    left, width = rng.uniform(-40, _WIDTH * 0.55), rng.uniform(110, 240)
    top, height = rng.uniform(-50, 25), rng.uniform(130, 260)
    outside = rng.uniform(1.6, 4.5) * np.array([0.92, 1.0, 1.1]) * np.exp(rng.normal(0, 0.05, 3))
    _box(picture, left, top, width, height, outside)
    horizon = top + height * rng.uniform(0.45, 0.9)
    for _ in range(int(rng.integers(3, 12))):  # trees and houses
        w, h = rng.uniform(10, 60), rng.uniform(5, 50)
        x = rng.uniform(left, left + width)
        colour = outside * rng.uniform(0.1, 0.6) * np.exp(rng.normal(0, 0.2, 3))
        _box(picture, x, horizon - h, min(w, left + width - x), h, colour)
    frame = rng.uniform(0.2, 0.8) * np.asarray(room.light)
    for post in np.linspace(left, left + width, int(rng.integers(2, 5))):
        _box(picture, post - 3, top, 6, height, frame)
    if rng.random() < 0.6:
        curtain = rng.uniform(0.2, 1.2) * np.array([1.0, 0.95, 0.85])
        for fold in np.arange(left - 20, left + rng.uniform(0, 60), 5):
            _box(picture, fold, 0, 4, _HEIGHT, curtain * rng.uniform(0.6, 1.3))


def _strips(picture: F32, rng: np.random.Generator, room: Room) -> None:
    """LED strips along edges, glowing panels, a second screen."""
    bright = [np.asarray(a) / (max(a) + 1e-6) * rng.uniform(0.8, 2.2) for a in room.accents]
    glow = np.zeros_like(picture)
    for i in range(int(rng.integers(2, 6))):
        colour = tuple(float(c) for c in bright[i % 2])
        start = (int(rng.uniform(-20, _WIDTH)), int(rng.uniform(0, _HEIGHT)))
        along = (int(rng.uniform(60, 260)), 0) if rng.random() < 0.6 else (0, int(rng.uniform(40, 160)))
        cv2.line(glow, start, (start[0] + along[0], start[1] + along[1]), colour, 2, cv2.LINE_AA)
    if rng.random() < 0.5:  # hexagonal panels
        x, y = rng.uniform(20, _WIDTH - 60), rng.uniform(20, 80)
        for k in range(int(rng.integers(3, 7))):
            angles = np.arange(6) * np.pi / 3
            centre = np.array([x + 17 * (k % 3) + 8 * (k // 3), y + 15 * (k // 3)])
            corners = centre + 9 * np.stack([np.cos(angles), np.sin(angles)], 1)
            cv2.fillConvexPoly(glow, corners.astype(np.int32), tuple(float(c) * 0.6 for c in bright[k % 2]))
    if rng.random() < 0.5:
        _box(glow, rng.uniform(0, _WIDTH - 80), rng.uniform(40, 110), rng.uniform(50, 90), rng.uniform(28, 50),
             rng.uniform(0.2, 0.9) * np.exp(rng.normal(0, 0.4, 3)))  # fmt: skip
    picture += glow + 1.5 * _blurred(glow, 14)
