"""Hands: the stored poses as smooth meshes, and where one of them rests on a posed head."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from scipy.spatial.transform import Rotation

from calibration.people.head.mesh import Points, vertex_normals
from calibration.people.head.shape import catmull_clark
from calibration.people.props.meshes import Mesh, grid_triangles, merged, mesh
from calibration.people.props.worn import Hand, HandPlace, HandPose

_SKIN, _SLEEVE = range(2)
BARE = 2.5
"""A sleeve from here on, decimetres behind the wrist, is not drawn."""
_ARM_END = 3.4
_CELL = 0.06
_MIRROR = np.diag([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class HandMesh:
    """A posed left hand. Its frame: origin at the wrist, y to the middle knuckle, z out of the palm, thumb at -x."""

    mesh: Mesh
    tips: Points
    """(5, 3) thumb to little finger."""
    probe: Points
    """(n, 3) some points of hand and wrist, to keep it out of the head."""


@dataclass(frozen=True)
class _Stored:
    poses: tuple[str, ...]
    positions: Points
    quads: NDArray[np.int64]
    nails: Points
    tips: Points


@lru_cache(maxsize=1)
def _stored() -> _Stored:
    with resources.files("calibration.people").joinpath("data/hand.npz").open("rb") as file:
        data = dict(np.load(file))
    return _Stored(
        tuple(str(p) for p in data["poses"]),
        data["positions"].astype(np.float64),
        data["quads"].astype(np.int64),
        data["nails"] / 255.0,
        data["tips"].astype(np.float64),
    )


@lru_cache(maxsize=1)
def _smooth() -> tuple[Points, NDArray[np.int64], Points, Points]:
    """(poses, n, 3) subdivided positions, (t, 3) triangles, (n,) nails and (n,) how much a vertex is of the palm."""
    stored = _stored()
    n = stored.positions.shape[1]
    matrix, quads, _ = catmull_clark(n, stored.quads, np.zeros((len(stored.quads), 4, 2), np.float32))
    positions = np.stack([matrix @ p for p in stored.positions])
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int64)
    flat = positions[stored.poses.index("flat")]
    normals = vertex_normals(flat, triangles)
    palm = np.clip((normals[:, 2] + 0.15) / 0.6, 0, 1) * np.clip((flat[:, 1] + 0.1) / 0.35, 0, 1)
    return positions, triangles, matrix @ stored.nails, palm


def _creases(points: Points, normals: Points, triangles: NDArray[np.int64]) -> Points:
    """(n,) 0..1: darker where the surface is hollow, as between fingers and in folds (from the mean curvature)."""
    total, count = np.zeros_like(points), np.zeros(len(points))
    for a, b in ((0, 1), (1, 2), (2, 0)):
        for i, j in ((a, b), (b, a)):
            np.add.at(total, triangles[:, i], points[triangles[:, j]])
            np.add.at(count, triangles[:, i], 1.0)
    hollow = ((total / np.maximum(count, 1)[:, None] - points) * normals).sum(1)
    shade = np.clip(1 - np.maximum(hollow, 0) / 0.006, 0.1, 1)
    near = np.zeros(len(points))
    for a, b in ((0, 1), (1, 2), (2, 0)):
        np.add.at(near, triangles[:, a], shade[triangles[:, b]])
        np.add.at(near, triangles[:, b], shade[triangles[:, a]])
    return np.asarray(0.4 * shade + 0.6 * near / np.maximum(count, 1))


def _sleeve(arm: Points, start: float) -> Mesh:
    """A loose tube about the forearm's points (n, 3) from ``start`` behind the wrist to the elbow."""
    far = arm[:, 1] < np.quantile(arm[:, 1], 0.25)
    axis = arm[far].mean(0)
    axis = axis / np.linalg.norm(axis)
    along = arm @ axis
    side = np.cross(axis, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side)
    other = np.cross(axis, side)
    at = np.concatenate([[start + 0.02], np.linspace(start, _ARM_END, 40)])
    angle = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    rings = []
    for k, s in enumerate(at):
        near = arm[np.abs(along - min(s, along.max() - 0.1)) < 0.15]
        centre = near.mean(0) + axis * (s - (near @ axis).mean())
        offset = near - near.mean(0)
        offset = offset - np.outer(offset @ axis, axis)
        radius = np.linalg.norm(offset, axis=1).max()
        folds = 0.018 * np.sin(s * 19 + 1.6 * np.cos(angle + s * 2.0)) * np.clip((s - start) * 4, 0, 1)
        cuff = 0.035 * np.exp(-(((s - start) / 0.10) ** 2)) if k else -0.05
        r = radius + 0.05 + 0.05 * (s - start) + folds - cuff
        rings.append(centre + np.outer(np.cos(angle) * r, side) + np.outer(np.sin(angle) * r, other))
    points = np.concatenate(rings)
    triangles = grid_triangles(len(at), 36, wrap_columns=True)
    tube = mesh(points, triangles, _SLEEVE)
    inward = ((points - np.repeat([r.mean(0) for r in rings], 36, 0)) * tube.normals).sum() < 0
    tube = mesh(points, triangles[:, ::-1] if inward else triangles, _SLEEVE)
    return replace(tube, detail=np.ones(len(points)))


def build_hand(pose: HandPose, sleeve_from: float) -> HandMesh:
    """One pose with its sleeve. Slots: skin, sleeve. ``detail`` of the skin is 1 on nails and -1 on the palm."""
    stored, (positions, triangles, nails, palm) = _stored(), _smooth()
    index = stored.poses.index(pose)
    points = positions[index]
    normals = vertex_normals(points, triangles)
    n = len(points)
    detail = np.where(nails > 0.1, nails, -palm)
    skin = Mesh(points, normals, triangles, np.zeros(n), _creases(points, normals, triangles), detail)
    whole = skin
    if sleeve_from < BARE:
        whole = merged(skin, _sleeve(points[points[:, 1] < -0.25], sleeve_from))
    return HandMesh(whole, stored.tips[index], points[points[:, 1] > -0.5][::5])


# ---- where


@dataclass(frozen=True)
class _Spot:
    """How a left hand lies at a place: Euler angles (degrees, YXZ: yaw, pitch, roll), what of the head it touches."""

    yaw: float
    pitch: float
    roll: float
    landmarks: tuple[int, ...]
    """iBUG points on the head's left, averaged."""
    offset: tuple[float, float, float]


# Yaw 180 turns the palm to the face; negative pitch brings the elbow forward; positive roll turns the fingers inwards.
_SPOTS: dict[HandPlace, _Spot] = {
    "air": _Spot(-15, -12, 8, (33,), (0.15, 0.0, 1.1)),
    "mouth": _Spot(172, 16, -38, (51, 57), (0.05, 0.0, 0.0)),
    "chin": _Spot(165, 14, -20, (8,), (0.05, -0.06, 0.0)),
    "glasses": _Spot(222, 10, -24, (45,), (0.22, 0.02, 0.10)),
    "cheek": _Spot(205, 12, -22, (13, 54), (0.10, 0.05, 0.0)),
    "brow": _Spot(175, 18, -46, (22, 24), (-0.05, 0.18, 0.0)),
}


def _contact(hand: HandMesh, pose: HandPose, place: HandPlace) -> Points:
    """The point of a left hand, in its frame, that goes to the place."""
    thumb, index, middle = hand.tips[0], hand.tips[1], hand.tips[2]
    if pose == "think":
        return np.asarray(0.45 * thumb + 0.55 * np.array([-0.25, 1.0, 0.15]))
    if pose == "fist":
        return np.array([0.0, 1.15 if place == "chin" else 0.85, 0.3])
    if pose == "pinch":
        return np.asarray((thumb + index) / 2)
    if pose == "point":
        return np.asarray(index if place != "air" else [0.0, 0.9, 0.0])
    if place == "air":
        return np.array([0.0, 0.95, 0.0])
    if place == "chin":
        return np.asarray(0.3 * middle + 0.7 * np.array([0.0, 1.0, 0.1]))
    return np.asarray(
        (index + middle) / 2 * 0.75 + np.array([0.0, 0.28, 0.0]) if place != "cheek" else (index + middle) / 2
    )


def _front_map(skin: Points) -> tuple[Points, Points]:
    """A coarse map of the greatest z of (m, 3) points over x and y, and the corner of its grid."""
    near = skin[(np.abs(skin[:, 0] - skin[:, 0].mean()) < 2.5) & (skin[:, 1] > 4.5)]
    corner = near[:, :2].min(0) - _CELL
    cells = np.floor((near[:, :2] - corner) / _CELL).astype(int)
    grid = np.full(cells.max(0) + 2, -9.0)
    np.maximum.at(grid, (cells[:, 0], cells[:, 1]), near[:, 2])
    return np.asarray(maximum_filter(grid, 3)), corner


def _depth_in_head(points: Points, skin: Points) -> float:
    """How far (n, 3) points must move towards the camera to leave the head: their 97th percentile."""
    grid, corner = _front_map(skin)
    cells = np.floor((points[:, :2] - corner) / _CELL).astype(int)
    inside = ((cells >= 0) & (cells < grid.shape)).all(1)
    if not inside.any():
        return -9.0
    cells = cells[inside]
    return float(np.percentile(grid[cells[:, 0], cells[:, 1]] - points[inside, 2], 97))


def place_hand(
    held: Hand, hand: HandMesh, skin: Points, landmarks: Points, rotation: Points, head_scale: float
) -> Points:
    """(4, 4) from the hand's frame into the world.

    ``skin`` (m, 3) and ``landmarks`` (68, 3) are posed, ``rotation`` (3, 3) is the head's, ``head_scale`` 1 is the
    average head. Hands touch the head that they are given: they stop at its surface, whoever's it is.
    """
    spot = _SPOTS[held.place]
    if held.place == "glasses" and held.pose == "point":  # pushing the bridge up
        spot = _Spot(180, 10, -34, (27,), (0.0, 0.0, 0.05))
    side = 1.0 if held.left else -1.0
    mirror = np.eye(3) if held.left else _MIRROR
    twin = {13: 3, 45: 36, 22: 21, 24: 19, 54: 48}
    rows = [i if held.left else twin.get(i, i) for i in spot.landmarks]
    base = rotation if held.place != "air" else np.eye(3)
    angles = np.array([spot.yaw, spot.pitch, spot.roll]) + np.array([held.tilt[1], held.tilt[0], held.tilt[2]])
    local = Rotation.from_euler("YXZ", angles, degrees=True).as_matrix()
    scale = held.size * head_scale
    linear = base @ mirror @ local * scale
    offset = np.array(spot.offset) + np.array(held.offset)
    target = landmarks[rows].mean(0) + base @ (offset * [side, 1.0, 1.0])
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = target - linear @ _contact(hand, held.pose, held.place)
    deep = _depth_in_head(hand.probe @ linear.T + matrix[:3, 3], skin)
    touching = 0.0 if held.place == "air" else float(np.exp(-np.sum(np.square(held.offset)) / 0.35**2))
    matrix[2, 3] += np.clip(deep if deep > 0 else deep * touching, -0.8, 2.5)
    return matrix
