"""BlazeFace, full range: where the faces of a picture are. numpy and OpenCV around one network.

The network (MediaPipe, Apache-2.0; Bazarevsky et al. 2019, arXiv 1907.05047) sees 192 x 192 pixels and answers for each
cell of a 48 x 48 grid: a box, six points (all relative to the cell's centre, in pixels of its input) and a score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import resources

import cv2
import numpy as np

from engines.errors import DetectorError
from engines.runtimes import Runtime, open_runtime
from engines.types import F32, U8

SIDE = 192
GRID = 48
STRIDE = SIDE // GRID
NUMBERS = 16
"""Per cell: box centre x, y, width, height, then six points x, y."""
MERGE_IOU = 0.3
INSIDE_SHARE = 0.7
"""A weaker box that lies so much inside a stronger one is part of the same face, cut by a tile's edge."""
TILE_SHARE = 0.5
"""Side of a tile relative to the longer side of the picture: faces appear twice as large as in the whole picture."""
TILE_STEP = 0.75
"""Neighbouring tiles overlap by a quarter, wider than the faces that need tiles."""

OUTSET = 2.0
"""How much a picture is shrunk for faces that fill it."""
_BROKEN = (
    "the frame is treated as one without a face; if it repeats: pip install --force-reinstall openvino, "
    "or --detector insightface"
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One face that was found."""

    box: F32
    """(4,) x0, y0, x1, y1 in frame pixels."""
    keypoints: F32
    """(6, 2) xy in frame pixels: subject's right eye, left eye, nose tip, mouth centre, right ear, left ear."""
    score: float
    """0..1"""


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of whole pixels: x0 <= x < x1, y0 <= y < y1. It may reach beyond the frame; there it is black."""

    x0: int
    y0: int
    x1: int
    y1: int


def tile_regions(width: int, height: int) -> list[Region]:
    """Overlapping squares that cover a picture, row by row; the last of each row and column end at the border."""
    side = max(1, round(max(width, height) * TILE_SHARE))

    def starts(length: int) -> list[int]:
        free = length - side
        if free <= 0:
            return [0]
        count = math.ceil(free / (TILE_STEP * side)) + 1
        return [round(i * free / (count - 1)) for i in range(count)]

    return [Region(x, y, min(x + side, width), min(y + side, height)) for y in starts(height) for x in starts(width)]


def outset_region(width: int, height: int) -> Region:
    """The picture with black around it, half as large: for faces that fill it."""
    side = OUTSET * max(width, height)
    x, y = round((width - side) / 2), round((height - side) / 2)
    return Region(x, y, x + round(side), y + round(side))


def _cell_centres() -> F32:
    """(2304, 2) centres of the grid's cells in pixels of the network's input, edges at 0 and 192."""
    y, x = np.divmod(np.arange(GRID * GRID), GRID)
    return ((np.stack([x, y], axis=1) + 0.5) * STRIDE).astype(np.float32)


class BlazeFace:
    """Finds faces. Owns its buffers and the runtime; one thread at a time."""

    def __init__(self, runtime: Runtime) -> None:
        """``runtime`` runs face_detection_full_range.onnx. Raises DetectorError for another network."""
        shapes = {shape: name for name, shape in runtime.outputs.items()}
        numbers, scores = (1, GRID * GRID, NUMBERS), (1, GRID * GRID, 1)
        if list(runtime.inputs.values()) != [(1, SIDE, SIDE, 3)] or not {numbers, scores} <= shapes.keys():
            raise DetectorError("this is not the full-range face detector", hint="reinstall personacam")
        self._runtime = runtime
        self._input_name = next(iter(runtime.inputs))
        self._numbers_name, self._scores_name = shapes[numbers], shapes[scores]
        self._letterbox = np.zeros((SIDE, SIDE, 3), np.uint8)
        self._input = np.zeros((1, SIDE, SIDE, 3), np.float32)
        self._centres = _cell_centres()
        self._half: U8 = np.zeros(0, np.uint8)

    def find(self, pixels: U8, *, tiles: bool = False, threshold: float = 0.5) -> list[Candidate]:
        """Faces in ``pixels`` (H, W, 3) BGR uint8, best first; ``tiles`` also looks at overlapping enlarged parts.

        One pass costs one run of the network, tiles add about six. Raises DetectorError when the network's numbers
        are not finite, RuntimeFailure when it cannot run.
        """
        height, width = pixels.shape[:2]
        regions = [Region(0, 0, width, height), *(tile_regions(width, height) if tiles else ())]
        return merge([c for region in regions for c in self._pass(pixels, region, threshold)])

    def find_in(self, pixels: U8, region: Region, *, threshold: float = 0.5) -> list[Candidate]:
        """The same in one part of the picture; positions are those of the whole picture."""
        return merge(self._pass(pixels, region, threshold))

    def _pass(self, pixels: U8, region: Region, threshold: float) -> list[Candidate]:
        x0, y0 = max(region.x0, 0), max(region.y0, 0)
        view = pixels[y0 : max(region.y1, 0), x0 : max(region.x1, 0)]
        view_h, view_w = view.shape[:2]
        if not view_h or not view_w:
            return []
        ratio = SIDE / max(region.y1 - region.y0, region.x1 - region.x0)
        inner_w, inner_h = max(1, round(view_w * ratio)), max(1, round(view_h * ratio))
        left, top = (SIDE - inner_w) // 2, (SIDE - inner_h) // 2
        self._letterbox.fill(0)
        cv2.resize(
            self._halved(view) if ratio < 0.5 else view,
            (inner_w, inner_h),
            dst=self._letterbox[top : top + inner_h, left : left + inner_w],
            interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR,
        )
        np.multiply(self._letterbox[..., ::-1], np.float32(2 / 255), out=self._input[0], dtype=np.float32)
        self._input -= 1.0
        outputs = self._runtime.run({self._input_name: self._input})
        scores = outputs[self._scores_name][0, :, 0]
        numbers = outputs[self._numbers_name][0]
        if not np.isfinite(scores).all() or not np.isfinite(numbers).all():
            raise DetectorError("the face detector gave numbers that are not finite", hint=_BROKEN)
        logit = math.log(threshold / (1.0 - threshold))
        scale = np.array([view_w / inner_w, view_h / inner_h], np.float32)
        # Network positions count from pixel edges, frame positions from pixel centres: half a pixel is taken off.
        shift = np.array([x0, y0], np.float32) - 0.5
        offset = np.array([left, top], np.float32)
        found = []
        for cell in np.flatnonzero(scores >= logit):
            row = numbers[cell]
            points = (np.vstack([row[:2], row[4:].reshape(6, 2)]) + self._centres[cell] - offset) * scale + shift
            half = np.abs(row[2:4]) * scale / 2
            box = np.concatenate([points[0] - half, points[0] + half])
            score = 1.0 / (1.0 + math.exp(-float(scores[cell])))
            found.append(Candidate(box.astype(np.float32), points[1:].astype(np.float32), score))
        return found

    def _halved(self, view: U8) -> U8:
        """Means of 2 x 2 pixels, in a buffer of this object; ``view`` itself where its sides are odd.

        OpenCV has a fast loop for just that, and averaging the rest then takes half the time: the same mean in the end.
        """
        height, width = view.shape[:2]
        if height % 2 or width % 2:
            return view
        size = height // 2 * (width // 2) * 3
        if size > len(self._half):
            self._half = np.zeros(size, np.uint8)
        half = self._half[:size].reshape(height // 2, width // 2, 3)
        cv2.resize(view, (width // 2, height // 2), dst=half, interpolation=cv2.INTER_AREA)
        return half

    def close(self) -> None:
        """Free the network."""
        self._runtime.close()


def merge(candidates: list[Candidate]) -> list[Candidate]:
    """One candidate per face, best first: overlapping ones are averaged with their scores as weights.

    The blending of Bazarevsky et al. 2019, which jitters less than keeping the best box.
    """
    rest = sorted(candidates, key=lambda c: -c.score)
    faces = []
    while rest:
        best = rest[0]
        boxes = np.stack([c.box for c in rest])
        iou, inside = _overlaps(best.box, boxes)
        same = iou > MERGE_IOU
        same[0] = True  # even a box without area is taken out of the list
        group = [c for c, take in zip(rest, same, strict=True) if take]
        weights = np.array([c.score for c in group], np.float32)
        weights /= weights.sum()
        box = np.tensordot(weights, np.stack([c.box for c in group]), 1)
        keypoints = np.tensordot(weights, np.stack([c.keypoints for c in group]), 1)
        faces.append(Candidate(box.astype(np.float32), keypoints.astype(np.float32), best.score))
        rest = [c for c, gone in zip(rest, same | (inside > INSIDE_SHARE), strict=True) if not gone]
    return faces


def _overlaps(box: F32, boxes: F32) -> tuple[F32, F32]:
    """Intersection over union of ``box`` (4,) with ``boxes`` (N, 4), and the share of each that lies inside ``box``."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    union = np.prod(box[2:] - box[:2]) + areas - common
    return common / np.maximum(union, 1e-6), common / np.maximum(areas, 1e-6)


def load_blazeface(*, threads: int = 1) -> BlazeFace:
    """The shipped network, in float32, in the fastest runtime there is. Raises RuntimeFailure."""
    model = resources.files("engines").joinpath("models", "face_detection_full_range.onnx").read_bytes()
    return BlazeFace(open_runtime(model, precision="f32", threads=threads))
