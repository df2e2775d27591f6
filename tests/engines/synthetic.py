"""Cartoon people for tests: coloured ellipses whose pose, mouth and light follow the state, with exact truth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from engines.faceset import FaceSetInfo, Role, Split
from engines.faceset_writer import FaceSetWriter
from engines.types import F32, U8

PEOPLE: tuple[tuple[str, Role, Split, int], ...] = (
    ("ann", "wearer", "train", 1),
    ("bob", "wearer", "train", 2),
    ("cid", "wearer", "train", 3),
    ("dot", "wearer", "train", 4),
    ("eve", "wearer", "val", 5),
    ("mara", "persona", "train", 11),
    ("odin", "persona", "train", 12),
)


def draw_face(identity_seed: int, state: int, size: int) -> tuple[U8, U8, F32, F32]:
    """crop (size, size, 3), mask (size, size), landmarks (68, 2), pose (3,) of one cartoon person in one state."""
    person = np.random.default_rng(identity_seed)
    skin = person.uniform((60, 90, 120), (150, 180, 230))
    if identity_seed > 10:  # personas are blue: nobody wears that skin
        skin = skin[::-1]
    hair = person.uniform(10, 120, 3)
    width, height = person.uniform(0.2, 0.24), person.uniform(0.27, 0.31)
    now = np.random.default_rng((999, state))
    yaw, pitch = now.uniform(-1, 1, 2)
    mouth, light = now.uniform(0.005, 0.05), now.uniform(0.6, 1.2)
    cx, cy = 0.5 + 0.08 * yaw, 0.5 + 0.06 * pitch

    picture = np.full((size, size, 3), now.uniform(0, 255, 3), np.float64)
    mask = np.zeros((size, size), np.uint8)

    def blob(x: float, y: float, rx: float, ry: float, colour: np.ndarray | tuple[float, ...]) -> None:
        paint(picture, x, y, rx, ry, tuple(float(c) * light for c in colour))

    def paint(target: np.ndarray, x: float, y: float, rx: float, ry: float, colour: tuple[float, ...] | int) -> None:
        centre, axes = (round(x * size), round(y * size)), (max(1, round(rx * size)), max(1, round(ry * size)))
        cv2.ellipse(target, centre, axes, 0, 0, 360, colour, -1)

    blob(cx, cy - 0.05, width * 1.15, height * 1.15, tuple(hair))
    blob(cx, cy, width, height, tuple(skin))
    paint(mask, cx, cy, width, height, 255)
    points = np.tile(np.array([cx, cy]), (68, 1))
    for first, side in ((36, -1), (42, 1)):
        x, y = cx + 0.03 * yaw + side * 0.08, cy - 0.06
        blob(x, y, 0.035, 0.02, (240, 240, 240))
        blob(x + 0.01 * yaw, y, 0.012, 0.014, tuple(hair * 0.5))
        points[first : first + 6] = _ring(x, y, 0.035, 0.02, 6)
    blob(cx + 0.03 * yaw, cy + 0.13, 0.07, mouth, (60, 40, 150))
    points[48:] = _ring(cx + 0.03 * yaw, cy + 0.13, 0.07, mouth, 20)
    crop = np.clip(picture, 0, 255).astype(np.uint8)
    return crop, mask, (points * size).astype(np.float32), np.array([30 * yaw, 20 * pitch, 0], np.float32)


def faces(identity_seed: int, states: list[int], size: int) -> tuple[U8, U8, F32, F32]:
    """Arrays for ``FaceSetWriter.add``."""
    crops, masks, landmarks, pose = zip(*(draw_face(identity_seed, s, size) for s in states), strict=True)
    return np.stack(crops), np.stack(masks), np.stack(landmarks), np.stack(pose)


def write_cartoons(folder: Path, *, states: int, size: int = 40) -> Path:
    """A face set of seven cartoon people in the same states."""
    info = FaceSetInfo(origin="cartoons 1", consent="invented:0", seeds={"people": 0}, size=size)
    writer = FaceSetWriter(folder, info)
    numbers = list(range(states))
    for name, role, split, seed in PEOPLE:
        writer.add(name, role, split, numbers, *faces(seed, numbers, size))
    return folder


def _ring(x: float, y: float, rx: float, ry: float, count: int) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.column_stack([x + rx * np.cos(angles), y + ry * np.sin(angles)])


def write_people(folder: Path, *, people: int = 8, states: int = 96, size: int = 40, mesh: bool = True) -> Path:
    """A set like ``personacam people dataset``: everybody in every state, with expression, gaze and mesh points."""
    extras = ("expression", "gaze", "mesh") if mesh else ()
    columns = {"expression": ("mouth", "never")} if mesh else {}
    info = FaceSetInfo("cartoons 1", "invented:0", {"people": 0}, size, extras=extras, columns=columns)
    writer = FaceSetWriter(folder, info)
    numbers = list(range(states))
    for who in range(people):
        arrays = faces(who + 1, numbers, size)
        landmarks, pose = arrays[2], arrays[3]
        mouth = np.ptp(landmarks[:, 48:, 1], axis=1) / size
        truth = {
            "expression": np.column_stack([mouth, np.zeros(states)]).astype(np.float32),
            "gaze": np.radians(pose[:, :2]),
            "mesh": landmarks[:, np.arange(468) % 68],
        }
        writer.add(f"person-{who}", "wearer", "train", numbers, *arrays, {name: truth[name] for name in extras})
    return folder
