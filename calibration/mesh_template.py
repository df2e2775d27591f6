"""Measure where Face Mesh puts the alignment points on rendered heads, for ``engines.geometry.MESH_TEMPLATE``.

    python -m calibration.mesh_template runs/first/data

The live path aligns by Face Mesh, training by exact truth; both must cut the same square. Face Mesh's points do not lie
exactly on the iBUG ones, so each layout has its own template.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engines import geometry
from engines.facemesh import FaceMesh, Roi, load_facemesh, roi_from_mesh
from engines.faceset import Faces, read_faceset
from engines.types import U8

_ENLARGE = 3
_MIRROR = [3, 2, 1, 0, 4, 5, 6, 7, 12, 11, 10, 9, 8]


def measure(facemesh: FaceMesh, faces: Faces, limit: int) -> list[NDArray[np.float64]]:
    """(13, 2) fractions of the crop for at most ``limit`` nearly frontal faces of one person."""
    out = []
    for row in np.flatnonzero((np.abs(faces.pose[:, 0]) < 15) & (np.abs(faces.pose[:, 1]) < 10))[:limit]:
        big: U8 = np.asarray(cv2.resize(faces.crops[row], None, fx=_ENLARGE, fy=_ENLARGE), np.uint8)
        truth = (faces.landmarks[row] + 0.5) * _ENLARGE - 0.5
        rough = Roi(
            (float(truth[:, 0].mean()), float(truth[:, 1].mean())), float(np.ptp(truth, axis=0).max()) * 1.6, 0.0
        )
        first, _, _ = facemesh.landmarks(big, rough)
        mesh, _, score = facemesh.landmarks(big, roi_from_mesh(first))
        if score < 0.5:
            continue
        to_crop = geometry.frame_to_crop(truth, "points68", 128)
        points = geometry.points_68(mesh, "mesh468")[geometry.ALIGN_POINTS_68]
        out.append((geometry.transform(to_crop, points) + 0.5) / 128)
    return out


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a rendered face set")
    parser.add_argument("--each", type=int, default=4, help="faces of each wearer")
    arguments = parser.parse_args()
    faceset = read_faceset(arguments.data)
    facemesh = load_facemesh()
    found = [p for name in faceset.named("wearer") for p in measure(facemesh, faceset.faces[name], arguments.each)]
    mean = np.mean(found, axis=0)
    symmetric = (mean + mean[_MIRROR] * [-1, 1] + [1, 0]) / 2
    table = (symmetric - 0.5) * geometry.CROP_SIDE_DM + np.array(geometry.CROP_CENTRE_DM)
    print(f"{len(found)} faces; decimetres on the average head:")
    for x, y in table:
        print(f"({x:.3f}, {y:.3f}),")


if __name__ == "__main__":
    main()
