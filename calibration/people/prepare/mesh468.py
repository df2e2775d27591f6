"""Find where Face Mesh's 468 points lie on the invented heads. Run once; its result is shipped.

    python -m calibration.people.prepare.mesh468
    python -m calibration.people.prepare.mesh468 --check

Face Mesh looks at people in mild, nearly frontal states; the surface point under each of its points is found, and the
median over all renders, made symmetric, is stored on the average head in ``data/mesh468.npz``. ``--check`` measures the
stored table on people that it was not made of.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from calibration.people.camera.lighting import Light
from calibration.people.camera.sensor import CLEAN
from calibration.people.hair.style import Beard
from calibration.people.head.correspond import attach, face_triangles, mesh_points
from calibration.people.head.mesh import Points
from calibration.people.head.shape import head_model
from calibration.people.identity import Identity, random_identity
from calibration.people.render import Renderer, Shot
from calibration.people.state import State
from engines import geometry
from engines.errors import RenderError
from engines.facemesh import FaceMesh, Roi, load_facemesh, roi_from_mesh

_SIDE, _MARGIN = 448, 1.7
_PEOPLE = range(9000, 9014)
_CHECKED = range(9100, 9106)
_PRESENT = 0.5
_SOFT = Light(key_direction=(0.2, 0.35, 1.0), key=(1.2, 1.15, 1.1), sky=(0.3, 0.3, 0.32), fill=(0.3, 0.3, 0.3))
STATES = (
    State(light=_SOFT),
    State(yaw=9, pitch=3, light=_SOFT, expression={"jawOpen": 0.12}),
    State(yaw=-9, pitch=-4, light=_SOFT, expression={"mouthSmileLeft": 0.3, "mouthSmileRight": 0.3}),
)


def hits(pixels: Points, projected: Points, depth: NDArray[np.float64], triangles: NDArray[np.int64],
         rest: Points) -> Points:  # fmt: skip
    """(n, 3) rest positions of the surface under (n, 2) picture points; NaN where they miss it.

    ``projected`` (m, 2) and ``depth`` (m,), larger is farther, are the posed vertices, ``rest`` (m, 3) the same ones on
    the average head. Of several triangles over one another the nearest counts.
    """
    flat = projected[triangles]
    order = np.argsort(depth[triangles].mean(1))
    low, high = flat.min(1), flat.max(1)
    out = np.full((len(pixels), 3), np.nan)
    for i, p in enumerate(pixels):
        for t in order[((low <= p) & (p <= high)).all(1)[order]]:
            a, b, c = flat[t]
            area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
            # Faces towards the camera are counter-clockwise in world axes, so clockwise with y down.
            if area >= -1e-9:
                continue
            second = ((p[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (p[1] - a[1])) / area
            third = ((b[0] - a[0]) * (p[1] - a[1]) - (p[0] - a[0]) * (b[1] - a[1])) / area
            if second >= 0 and third >= 0 and second + third <= 1:
                out[i] = np.array([1 - second - third, second, third]) @ rest[triangles[t]]
                break
    return out


def mirror_of(points: Points) -> NDArray[np.int64]:
    """(n,) for each of (n, 3) nearly symmetric points its counterpart on the other side of x = 0."""
    cost = np.linalg.norm(points[:, None] - points[None] * [-1, 1, 1], axis=2)
    _, partner = linear_sum_assignment(cost + cost.T)
    own = np.arange(len(points))
    if (partner[partner] != own).any():
        raise RenderError("the face mesh is not symmetric enough to pair its points", hint="measure more people")
    return np.asarray(partner, np.int64)


def look_at(shot: Shot, facemesh: FaceMesh) -> tuple[Points, float]:
    """(468, 3) what Face Mesh sees in a picture with a known face, looked at twice as in live use, and its score.

    x, y and depth are in pixels; smaller depth is nearer.
    """
    pixels, truth = shot.pixels, shot.landmarks
    middle = truth.mean(0)
    mesh, _, _ = facemesh.landmarks(
        pixels, Roi((float(middle[0]), float(middle[1])), float(np.ptp(truth, axis=0).max()) * 1.6, 0.0)
    )
    mesh, depth, score = facemesh.landmarks(pixels, roi_from_mesh(mesh))
    return np.column_stack([mesh, depth]).astype(np.float64), score


def _shaven(seed: int) -> Identity:
    """The person of a seed without a beard: Face Mesh only guesses where a chin under one is."""
    return replace(random_identity(seed), beard=Beard())


def _nearest(pixels: Points, projected: Points, rest: Points, among: NDArray[np.int64]) -> Points:
    """(n, 3) rest positions of the vertices whose projections lie nearest: for points beside the outline."""
    gap = np.linalg.norm(pixels[:, None] - projected[among][None], axis=2)
    return np.asarray(rest[among[gap.argmin(1)]], np.float64)


def measure(renderer: Renderer, facemesh: FaceMesh, seed: int) -> list[tuple[Points, Points]]:
    """For each state in which Face Mesh sees the person of ``seed``: (468, 3) rest positions, and the mesh it saw."""
    head, triangles = head_model(), face_triangles()
    actor = renderer.actor(_shaven(seed))
    found = []
    for state in STATES:
        shot = renderer.shoot(actor, state, crop_size=_SIDE, margin=_MARGIN, supersample=2.0, hair=False, sensor=CLEAN)
        seen, score = look_at(shot, facemesh)
        if score < _PRESENT:
            continue
        posed = actor.pose(state).skin
        projected = geometry.transform(shot.frame_to_picture, state.camera.project(posed))
        rest = hits(seen[:, :2], projected, -posed[:, 2], triangles, head.fine_average)
        missed = np.isnan(rest[:, 0])
        rest[missed] = _nearest(seen[missed, :2], projected, head.fine_average, np.unique(triangles))
        found.append((rest, seen))
    actor.close()
    return found


def table(found: list[tuple[Points, Points]]) -> Points:
    """(468, 3) median of the measurements, symmetric, on the surface of the average head."""
    median = np.median(np.stack([rest for rest, _ in found]), axis=0)
    # Which points are pairs shows best in Face Mesh's own average face: it is symmetric to within its noise.
    own = np.mean([(seen - seen.mean(0)) / np.ptp(seen[:, 1]) for _, seen in found], axis=0)
    mirrored = median[mirror_of(own)] * [-1, 1, 1]
    triangles, weights, _ = attach((median + mirrored) / 2, head_model().fine_average, face_triangles())
    return np.asarray(np.einsum("nk,nkd->nd", weights, head_model().fine_average[triangles]))


def check(renderer: Renderer, facemesh: FaceMesh, seeds: range) -> NDArray[np.float64]:
    """(renders, 468) distances from the true mesh to Face Mesh's, in inter-ocular distances."""
    out = []
    for seed in seeds:
        actor = renderer.actor(_shaven(seed))
        for state in STATES:
            shot = renderer.shoot(
                actor, state, crop_size=_SIDE, margin=_MARGIN, supersample=2.0, hair=False, sensor=CLEAN
            )
            seen, score = look_at(shot, facemesh)
            if score < _PRESENT:
                continue
            truth = mesh_points(actor.pose(state).skin)
            pixels = geometry.transform(shot.frame_to_picture, state.camera.project(truth))
            between = np.linalg.norm(shot.landmarks[36:42].mean(0) - shot.landmarks[42:48].mean(0))
            out.append(np.linalg.norm(pixels - seen[:, :2], axis=1) / between)
        actor.close()
    return np.stack(out)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "data" / "mesh468.npz")
    parser.add_argument("--check", action="store_true", help="only measure the stored table on other people")
    arguments = parser.parse_args()
    facemesh = load_facemesh()
    with Renderer() as renderer:
        if not arguments.check:
            found = [one for seed in _PEOPLE for one in measure(renderer, facemesh, seed)]
            np.savez_compressed(arguments.out, rest=table(found).astype(np.float32))
            rest = np.stack([position for position, _ in found])
            spread = np.linalg.norm(rest - np.median(rest, axis=0), axis=2)
            print(f"{len(found)} renders; median spread {np.median(spread):.4f} dm")
        distances = check(renderer, facemesh, _CHECKED)
    print(
        f"{len(distances)} renders of other people: median {np.median(distances):.4f}, mean {distances.mean():.4f}, "
        f"95 % {np.percentile(distances, 95):.4f} of the inter-ocular distance; "
        f"worst points {np.argsort(-np.median(distances, axis=0))[:8].tolist()}"
    )


if __name__ == "__main__":
    main()
