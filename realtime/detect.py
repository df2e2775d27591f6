"""Where the face is: a full search when nothing is known, a cheap follow-up when the last frame's face is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from engines.blazeface import BlazeFace, Candidate, Region, load_blazeface, outset_region, tile_regions
from engines.errors import DetectorError, MissingDependencyError
from engines.facemesh import FaceMesh, Roi, load_facemesh, roi_from_candidate, roi_from_mesh
from engines.types import F32, U8, Detection, Frame
from realtime.crop import FaceCropper

MIN_SCORE = 0.5
"""Below this the networks themselves say: no face."""
MIN_FACE_PX = 16.0
"""Longer side of a face's box; smaller faces are not followed."""
SAME_FACE_IOU = 0.2
"""A candidate that overlaps the track so much is the tracked face, even if its centre lies outside of the track."""
LARGER_FACE = 2.0
"""A face of more than so many times the tracked one's area, and before it in ``wearer_first``, is the wearer's."""
_NO_FACE = "the frame is treated as one without a face"


class Detector(Protocol):
    """Finds one face: the wearer's."""

    name: str

    def search(self, frame: Frame) -> Detection | None:
        """Look at the whole frame. Raises DetectorError, RuntimeFailure."""
        ...

    def follow(self, frame: Frame, last: Detection) -> Detection | None:
        """Look only around ``last``, the face of the frame before. Raises DetectorError, RuntimeFailure."""
        ...

    def confirm(self, frame: Frame, detection: Detection) -> bool:
        """Whether a look at the whole frame agrees that ``detection``, followed to here, is the wearer's face.

        The rule is ``still_the_wearer``. Costs about a search. Raises DetectorError, RuntimeFailure.
        """
        ...

    def close(self) -> None:
        """Free the networks."""
        ...


def wearer_first(boxes: F32, width: int, height: int) -> list[int]:
    """Indices of ``boxes`` (N, 4), the most likely wearer first: large, and near the middle of the picture.

    The area counts fully in the middle and a third of it at the corners.
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    away = (centres / np.array([width, height], np.float32) - 0.5) * 2.0
    weight = 1.0 - np.clip(np.linalg.norm(away, axis=1) / np.sqrt(2.0), 0.0, 1.0) * (2.0 / 3.0)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return [int(i) for i in np.argsort(-areas * weight, kind="stable")]


def still_the_wearer(boxes: F32, track: F32, size: tuple[int, int]) -> bool:
    """Whether a track at ``track`` (4,) agrees with all faces ``boxes`` (N, 4) that a search of the frame found.

    No face found: yes, because searches miss turned heads that are still followed well. Faces, but none where the track
    is: no. A clearly larger face elsewhere (LARGER_FACE, by the search's own boxes, and preferred by ``wearer_first``):
    no.
    """
    if not len(boxes):
        return True
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((centres >= track[:2]) & (centres <= track[2:])).all(axis=1)
    low, high = np.maximum(track[:2], boxes[:, :2]), np.minimum(track[2:], boxes[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    union = np.prod(track[2:] - track[:2]) + areas - common
    tracked = inside | (common >= SAME_FACE_IOU * np.maximum(union, 1e-6))
    if not tracked.any():
        return False
    first = wearer_first(boxes, *size)[0]
    return bool(tracked[first] or areas[first] <= LARGER_FACE * areas[tracked].max())


def _box_of(points: F32) -> F32:
    return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)


def _boxes_of(candidates: list[Candidate]) -> F32:
    """(N, 4), also for none."""
    return np.array([c.box for c in candidates], np.float32).reshape(-1, 4)


class MeshDetector:
    """BlazeFace to search, Face Mesh to follow: 468 landmarks in every frame. The networks come with the package."""

    name = "mesh"

    def __init__(self, blazeface: BlazeFace, facemesh: FaceMesh, *, min_score: float = MIN_SCORE) -> None:
        self._blazeface, self._facemesh, self._min_score = blazeface, facemesh, min_score
        self._turn = 0

    @classmethod
    def load(cls, *, threads: int = 1) -> MeshDetector:
        """Both shipped networks in the fastest runtime there is. Raises RuntimeFailure."""
        return cls(load_blazeface(threads=threads), load_facemesh(threads=threads, cutter=FaceCropper()))

    def search(self, frame: Frame) -> Detection | None:
        """The whole frame, then, if it shows no face, one other view of it, in turn: shrunk, or one of its tiles.

        So faces too large or too small for the first pass are found within a few searches, and no search costs more
        than two passes.
        """
        candidates = self._blazeface.find(frame.pixels)
        if not candidates:
            views = [outset_region(*frame.size), *tile_regions(*frame.size)]
            candidates = self._blazeface.find_in(frame.pixels, views[self._turn % len(views)])
            self._turn += 1
        return self._best(frame, candidates)

    def _best(self, frame: Frame, candidates: list[Candidate]) -> Detection | None:
        """The mesh of the best candidate, or None when the mesh sees no face there.

        The other candidates are no substitute: the best one may be the wearer in profile or behind a hand, and with a
        poster or a colleague swapped instead, the wearer would go out uncovered. None lets the policy cover the frame.
        """
        if not candidates:
            return None
        best = wearer_first(_boxes_of(candidates), *frame.size)[0]
        rough = self._look(frame, roi_from_candidate(candidates[best]))
        # BlazeFace's square is a rough one: a second look from the first mesh gives what following would.
        return self._look(frame, roi_from_mesh(rough.landmarks)) if rough is not None else None

    def follow(self, frame: Frame, last: Detection) -> Detection | None:
        """Face Mesh in the square around the last mesh."""
        if last.layout != "mesh468":
            raise DetectorError(f"a {last.layout} face cannot be followed by Face Mesh", hint=_NO_FACE)
        return self._look(frame, roi_from_mesh(last.landmarks))

    def confirm(self, frame: Frame, detection: Detection) -> bool:
        """One BlazeFace pass over the whole frame."""
        return still_the_wearer(_boxes_of(self._blazeface.find(frame.pixels)), detection.box, frame.size)

    def _look(self, frame: Frame, roi: Roi) -> Detection | None:
        mesh, _, score = self._facemesh.landmarks(frame.pixels, roi)
        box = _box_of(mesh)
        if score < self._min_score or not plausible(box, frame.size):
            return None
        return Detection(frame.index, box, mesh, "mesh468", score)

    def close(self) -> None:
        """Free both networks."""
        self._blazeface.close()
        self._facemesh.close()


def plausible(box: F32, size: tuple[int, int]) -> bool:
    """Whether ``box`` can be a face to follow: not tiny, not larger than twice the frame, its centre in the frame.

    Raises DetectorError when it is not finite.
    """
    if not np.isfinite(box).all():
        raise DetectorError("the detector gave a box that is not finite", hint=_NO_FACE)
    x0, y0, x1, y1 = (float(v) for v in box)
    side = max(x1 - x0, y1 - y0)
    inside = 0 <= (x0 + x1) / 2 < size[0] and 0 <= (y0 + y1) / 2 < size[1]
    return inside and MIN_FACE_PX <= side <= 2.0 * max(size)


class InsightDetector:
    """SCRFD from a local InsightFace pack: five points. It never downloads anything."""

    name = "insightface"
    SEARCH_SIZE = (640, 640)
    FOLLOW_SIZE = (256, 256)
    FOLLOW_MARGIN = 2.0
    """Side of the square that is looked at while following, relative to the face's box."""

    def __init__(self, pack: Path | None, *, min_score: float = MIN_SCORE) -> None:
        """``pack`` is a folder with a detection network (det_*.onnx, scrfd*.onnx).

        Raises MissingDependencyError when there is none or the insightface package is missing, DetectorError when the
        file holds no SCRFD network with points.
        """
        path = detection_file(pack) if pack is not None else None
        if path is None:
            where = f" in {pack}" if pack is not None else ""
            raise MissingDependencyError(
                f"there is no InsightFace detection network{where}",
                hint="personacam models fetch shows its licence and gets it; or use --detector mesh",
            )
        self._network = _load_scrfd(path)
        self._min_score = min_score

    def search(self, frame: Frame) -> Detection | None:
        """The whole frame at 640 x 640."""
        return self._detect(frame, Region(0, 0, *frame.size), self.SEARCH_SIZE)

    def follow(self, frame: Frame, last: Detection) -> Detection | None:
        """A square around the last face at 256 x 256: a sixth of a search's cost."""
        width, height = frame.size
        x0, y0, x1, y1 = (float(v) for v in last.box)
        reach = self.FOLLOW_MARGIN * max(x1 - x0, y1 - y0) / 2
        cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
        edges = np.array([cx - reach, cy - reach, cx + reach + 1, cy + reach + 1])
        low_x, low_y, high_x, high_y = np.clip(edges, 0, [width, height, width, height]).astype(int)
        if high_x - low_x < MIN_FACE_PX or high_y - low_y < MIN_FACE_PX:
            return None
        return self._detect(frame, Region(int(low_x), int(low_y), int(high_x), int(high_y)), self.FOLLOW_SIZE)

    def confirm(self, frame: Frame, detection: Detection) -> bool:
        """The whole frame at 640 x 640, like a search."""
        boxes, _ = self._faces(frame, Region(0, 0, *frame.size), self.SEARCH_SIZE)
        return still_the_wearer(boxes[:, :4], detection.box, frame.size)

    def _detect(self, frame: Frame, region: Region, size: tuple[int, int]) -> Detection | None:
        """The most likely wearer among the faces in ``region``."""
        boxes, points = self._faces(frame, region, size)
        if not len(boxes):
            return None
        best = wearer_first(boxes[:, :4], *frame.size)[0]
        box = boxes[best, :4]
        if not plausible(box, frame.size):
            return None
        return Detection(frame.index, box, points[best], "points5", float(boxes[best, 4]))

    def _faces(self, frame: Frame, region: Region, size: tuple[int, int]) -> tuple[F32, F32]:
        """All faces in ``region``: (N, 5) x0, y0, x1, y1, score and (N, 5, 2) points, in frame pixels."""
        view: U8 = np.ascontiguousarray(frame.pixels[region.y0 : region.y1, region.x0 : region.x1])
        try:
            boxes, points = self._network.detect(view, input_size=size, det_thresh=self._min_score)
        except (ValueError, IndexError, TypeError, RuntimeError, AssertionError) as error:
            raise DetectorError(f"InsightFace's detector failed: {error}", hint="use --detector mesh") from error
        if points is None or not len(boxes):
            return np.zeros((0, 5), np.float32), np.zeros((0, 5, 2), np.float32)
        if not np.isfinite(boxes).all() or not np.isfinite(points).all():
            raise DetectorError("InsightFace's detector gave numbers that are not finite", hint="use --detector mesh")
        shift = np.array([region.x0, region.y0], np.float32)
        found = np.array(boxes[:, :5], np.float32)
        found[:, :4] += np.tile(shift, 2)
        return found, np.asarray(points, np.float32) + shift

    def close(self) -> None:
        """Free the network."""
        self._network = None


def detection_file(pack: Path) -> Path | None:
    """The detection network of a pack, or None: the pack's own ``det_*``, else an SCRFD file."""
    for pattern in ("det_*.onnx", "scrfd*.onnx"):
        found = sorted(pack.glob(pattern))
        if found:
            return found[0]
    return None


def _load_scrfd(path: Path) -> Any:
    from engines.runtimes.onnx import import_onnxruntime

    onnxruntime = import_onnxruntime()
    try:
        from insightface.model_zoo import get_model  # about one second, hence here
    except ImportError as error:
        raise MissingDependencyError(
            f"the insightface package cannot be imported: {error}", hint="pip install insightface, or --detector mesh"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    state = onnxruntime.capi.onnxruntime_pybind11_state
    broken = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented)
    try:
        network = get_model(str(path), providers=["CPUExecutionProvider"], sess_options=options)
    except (*broken, RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
        hint = "personacam models fetch gets one"
        raise DetectorError(f"{path.name} cannot be loaded: {error}", hint=hint) from error
    if network is None or not getattr(network, "use_kps", False):
        raise DetectorError(f"{path.name} is no SCRFD network with points", hint="personacam models fetch gets one")
    return network
